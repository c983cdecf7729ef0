//! Verified objects on this machine, for all its processes and repositories. Disposable at any moment.
//!
//! An entry is named after its oid and was proven when it was offered; whoever uses one compares its hash
//! again, because disks lie. Where the file system allows it an entry shares its bytes with git-lfs' own
//! object (a hard link), and costs nothing. Beside objects it keeps stored copies, as they are in the store, that
//! more than one object is made of.
//!
//! What surprises: a full, unwritable or missing cache never fails a transfer.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::limits::LEFTOVER_AGE;
use crate::model::{CopyId, Oid};
use crate::{clock, disk};

mod evict;

use evict::Held;

/// Bytes that a process offers between two looks at the cache's size.
const OFFERS_BETWEEN_EVICTIONS: u64 = 256 * 1024 * 1024;

/// The objects kept on this machine.
#[derive(Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
    max_bytes: u64,
    /// Bytes offered since the size was last looked at; at first as many as make the first offer look.
    offered: AtomicU64,
}

impl Cache {
    /// Opens the cache in a private folder; `None` keeps nothing.
    pub const fn new(folder: Option<PathBuf>, max_bytes: u64) -> Self {
        Self { folder, max_bytes, offered: AtomicU64::new(OFFERS_BETWEEN_EVICTIONS) }
    }

    fn objects(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("objects"))
    }

    fn path(&self, oid: &Oid) -> Option<PathBuf> {
        Some(self.objects()?.join(oid.shard()).join(oid.to_string()))
    }

    /// Returns where an object of this size is, and notes that it was wanted.
    pub fn find(&self, oid: &Oid, size: u64) -> Option<PathBuf> {
        let path = self.path(oid)?;
        let data = fs::symlink_metadata(&path).ok()?;
        if !data.is_file() || data.len() != size {
            return None;
        }
        disk::touch(&path);
        Some(path)
    }

    /// Returns where an object is whose size is not known, and its size; notes that it was wanted.
    pub fn find_any(&self, oid: &Oid) -> Option<(PathBuf, u64)> {
        let size = fs::symlink_metadata(self.path(oid)?).ok()?.len();
        Some((self.find(oid, size)?, size))
    }

    /// Opens a stored copy that this machine has fetched before, header and all; its bytes are not proven.
    pub fn find_copy(&self, id: &CopyId) -> Option<File> {
        let path = self.copy_path(id)?;
        let file = File::open(&path).ok()?;
        disk::touch(&path);
        Some(file)
    }

    /// Returns whether this machine keeps a stored copy.
    pub fn has_copy(&self, id: &CopyId) -> bool {
        self.copy_path(id).is_some_and(|path| path.is_file())
    }

    /// Offers a stored copy in parts, because other objects are made of it, too. May decline.
    pub fn offer_copy(&self, id: &CopyId, parts: &[&[u8]]) {
        let Some(path) = self.copy_path(id) else { return };
        if let Err(error) = self.write(&path, parts) {
            tracing::debug!(%id, %error, "not cached");
        }
    }

    /// Removes a stored copy that did not yield what it should.
    pub fn drop_copy(&self, id: &CopyId) {
        if let Some(path) = self.copy_path(id) {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
    }

    /// Offers bytes that were just proven to be those of `oid`. May decline.
    pub fn offer_bytes(&self, oid: &Oid, bytes: &[u8]) {
        let Some(path) = self.path(oid) else { return };
        if let Err(error) = self.write(&path, &[bytes]) {
            tracing::debug!(%oid, %error, "not cached");
        }
    }

    fn copy_path(&self, id: &CopyId) -> Option<PathBuf> {
        let name = id.nonce.to_string();
        Some(self.folder.as_ref()?.join("copies").join(&name[..2]).join(name))
    }

    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let size = parts.iter().map(|part| part.len() as u64).sum();
        if size > self.max_bytes / 2 || path.exists() {
            return Ok(());
        }
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        let mut staged = tempfile::Builder::new().prefix(disk::STAGED_PREFIX).tempfile_in(folder)?;
        parts.iter().try_for_each(|part| staged.write_all(part))?;
        staged.persist(path).map_err(|failed| failed.error)?;
        self.evict_now_and_then(size);
        Ok(())
    }

    fn evict_now_and_then(&self, size: u64) {
        if self.offered.fetch_add(size, Ordering::Relaxed) >= OFFERS_BETWEEN_EVICTIONS {
            self.offered.store(0, Ordering::Relaxed);
            self.evict();
        }
    }

    /// Offers a file whose bytes were just proven to be those of `oid`. May decline.
    pub fn offer(&self, oid: &Oid, file: &Path) {
        if let Err(error) = self.keep(oid, file) {
            tracing::debug!(%oid, %error, "not cached");
        }
    }

    fn keep(&self, oid: &Oid, file: &Path) -> io::Result<()> {
        let Some(path) = self.path(oid) else { return Ok(()) };
        let size = fs::metadata(file)?.len();
        if size > self.max_bytes / 2 {
            return Ok(());
        }
        match disk::link(file, &path) {
            Ok(true) => disk::touch(&path),
            Ok(false) => return Ok(()),
            Err(_) if path.exists() => return Ok(()),
            Err(_) => Self::copy(file, &path)?,
        }
        self.evict_now_and_then(size);
        Ok(())
    }

    /// Keeps a file where links are not to be had.
    fn copy(file: &Path, path: &Path) -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let staged = tempfile::Builder::new()
            .prefix(disk::STAGED_PREFIX)
            .make_in(folder, |staged| fs::copy(file, staged).map(drop))?;
        disk::touch(staged.path());
        staged.persist(path).map_err(|failed| failed.error)?;
        Ok(())
    }

    /// Removes an entry whose bytes turned out to be wrong.
    pub fn drop_wrong(&self, oid: &Oid) {
        if let Some(path) = self.path(oid)
            && fs::remove_file(&path).is_ok()
        {
            tracing::warn!(%oid, "a cached object was damaged and is dropped");
        }
    }

    /// Removes what was not wanted for longest, until the cache fits.
    fn evict(&self) {
        let Some(folder) = &self.folder else { return };
        // Somebody else is at it: that will do.
        let Ok(Some(_lock)) = disk::Lock::attempt(&folder.join("evict.lock")) else { return };
        let kinds = ["objects", "copies"].map(|kind| disk::folders(&folder.join(kind)));
        let shards = kinds.concat();
        for shard in &shards {
            disk::sweep_files(shard, disk::STAGED_PREFIX, clock::ago(LEFTOVER_AGE));
        }
        let held: Vec<Held> = shards.iter().flat_map(|shard| evict::held_in(shard)).collect();
        for path in evict::choose(held, self.max_bytes) {
            let removed = fs::remove_file(&path);
            tracing::debug!(path = %path.display(), ?removed, "evicted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, bytes: &[u8]) -> PathBuf {
        let path = folder.join(Oid::of(bytes).to_string());
        fs::write(&path, bytes).expect("write");
        path
    }

    #[test]
    fn what_was_offered_is_found_with_its_bytes() {
        let folder = tempfile::tempdir().expect("tempdir");
        let cache = Cache::new(Some(folder.path().join("cache")), 1000);
        let oid = Oid::of(b"bytes");
        assert_eq!(cache.find(&oid, 5), None);
        cache.offer(&oid, &file(folder.path(), b"bytes"));
        let found = cache.find(&oid, 5).expect("cached");
        assert_eq!(fs::read(found).expect("read"), b"bytes");
        assert_eq!(cache.find(&oid, 6), None, "another size is another object");
    }

    /// Says when an entry was wanted last. Clocks of file systems are coarse: the order must not hang on them.
    fn want(entry: &Path, second: u8) {
        disk::set_time(entry, std::time::UNIX_EPOCH + std::time::Duration::from_secs(second.into()));
    }

    #[test]
    fn the_longest_unwanted_goes_when_the_cache_is_full() {
        let folder = tempfile::tempdir().expect("tempdir");
        let cache = Cache::new(Some(folder.path().join("cache")), 100);
        for byte in 0..4 {
            let bytes = [byte; 40];
            // Each offer looks at the size.
            cache.offered.store(OFFERS_BETWEEN_EVICTIONS, Ordering::Relaxed);
            cache.offer(&Oid::of(&bytes), &file(folder.path(), &bytes));
            want(&cache.path(&Oid::of(&bytes)).expect("a folder"), byte);
        }
        let kept: Vec<_> = (0..4).filter(|&byte| cache.find(&Oid::of(&[byte; 40]), 40).is_some()).collect();
        assert_eq!(kept, [2, 3]);
    }

    #[test]
    fn stored_copies_are_kept_beside_and_go_like_objects() {
        let folder = tempfile::tempdir().expect("tempdir");
        let cache = Cache::new(Some(folder.path().join("cache")), 100);
        let id = |seed| CopyId { oid: Oid::of(b"x"), nonce: crate::model::Nonce::from_bytes([seed; 16]) };
        cache.offer_copy(&id(0), &[&[1; 51]]);
        assert!(!cache.has_copy(&id(0)), "half of the cache at most");
        for seed in 1..5 {
            cache.offered.store(OFFERS_BETWEEN_EVICTIONS, Ordering::Relaxed);
            cache.offer_copy(&id(seed), &[&[seed; 10], &[seed; 30]]);
            want(&cache.copy_path(&id(seed)).expect("a folder"), seed);
        }
        let kept: Vec<u8> = (1..5).filter(|&seed| cache.has_copy(&id(seed))).collect();
        assert_eq!(kept, [3, 4]);
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut cache.find_copy(&id(4)).expect("kept"), &mut bytes).expect("read");
        assert_eq!(bytes, [4; 40]);
        cache.drop_copy(&id(4));
        assert!(!cache.has_copy(&id(4)));
    }

    #[test]
    fn without_a_folder_nothing_is_kept_and_nothing_fails() {
        let folder = tempfile::tempdir().expect("tempdir");
        let cache = Cache::new(None, 1000);
        cache.offer(&Oid::of(b"x"), &file(folder.path(), b"x"));
        assert_eq!(cache.find(&Oid::of(b"x"), 1), None);
    }

    #[test]
    fn a_link_in_place_of_an_entry_is_no_entry() {
        let folder = tempfile::tempdir().expect("tempdir");
        let cache = Cache::new(Some(folder.path().join("cache")), 1000);
        let oid = Oid::of(b"x");
        let path = cache.path(&oid).expect("path");
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        #[cfg(unix)]
        std::os::unix::fs::symlink(file(folder.path(), b"x"), &path).expect("symlink");
        assert_eq!(cache.find(&oid, 1), None);
    }
}
