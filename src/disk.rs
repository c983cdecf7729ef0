//! Temporary files, publishing, locks and sweeping: the one place that changes the local disk.
//!
//! What surprises: publishing syncs the file, renames it, and then syncs *every folder above it*, from the deepest up,
//! because a file in a folder that a power cut took away is lost as well. Not only new ones: another process may have
//! made a folder and not synced it yet, or have died before it could.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::cancel::Cancel;
use crate::clock;
use crate::model::limits::BUFFER_BYTES;
use crate::model::{Hasher, Oid};

mod map;
mod notes;
mod slots;
mod spill;
pub use map::{Bytes, Room};
pub use notes::Notes;
pub use slots::{Slots, Taken};
pub use spill::Spill;

/// Copies all of `reader` to `writer`, handing each buffer to `watch` first. Returns the bytes copied.
///
/// # Errors
/// Whatever reading, writing or `watch` says; nothing is retried.
pub fn copy(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    watch: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    // A copy within a copy finds none here, and makes its own.
    let mut buffer = BUFFER.take();
    buffer.resize(BUFFER_BYTES, 0);
    let copied = copy_through(&mut buffer, reader, writer, watch);
    BUFFER.set(buffer);
    copied
}

thread_local! {
    /// What the last copy of this thread went through: clearing a new one takes longer than copying a small file.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn copy_through(
    buffer: &mut [u8],
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    watch: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let count = match reader.read(buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        watch(&buffer[..count])?;
        writer.write_all(&buffer[..count])?;
        total += count as u64;
    }
}

/// Makes a staged file durable under its final name, which must be free.
///
/// Returns only when file, name and all folders above it, up to those in `top`, would survive a power cut.
///
/// # Errors
/// `AlreadyExists` when the name is taken; else what the file system says. The staged file is removed.
pub fn publish(staged: tempfile::NamedTempFile, target: &Path, top: &Path) -> io::Result<()> {
    staged.as_file().sync_all()?;
    let parent = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    staged.persist_noclobber(target).map_err(|failed| failed.error)?;
    sync_folders(parent, top)
}

/// Hashes all that a reader yields; tells `step` now and then of the bytes since, which says whether to go on.
///
/// # Errors
/// What the reader or `step` says.
pub fn hash(reader: &mut dyn Read, step: &dyn Fn(u64) -> io::Result<()>) -> io::Result<Oid> {
    let mut hasher = Hasher::default();
    copy(reader, &mut io::sink(), &mut |bytes| {
        hasher.update(bytes);
        step(bytes.len() as u64)
    })?;
    Ok(hasher.finish())
}

/// Hashes what is written through it.
pub struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Hashing<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::default() }
    }

    /// Returns the writer, which may still hold bytes back, and the oid of all that was written.
    pub fn into_parts(self) -> (W, Oid) {
        (self.inner, self.hasher.finish())
    }

    /// Lets the writer pass on what it holds back, and returns as [`Self::into_parts`].
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self) -> io::Result<(W, Oid)> {
        self.inner.flush()?;
        Ok(self.into_parts())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Makes a staged file in a folder, with the rights that the user's umask gives.
///
/// # Errors
/// What the file system says.
pub fn stage(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(STAGED_PREFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Makes a staged file durable under its final name, in place of whatever has that name.
///
/// Readers see the old or the new file, also after a power cut.
///
/// # Errors
/// What the file system says. The staged file is removed.
pub fn publish_over(staged: tempfile::NamedTempFile, target: &Path, top: &Path) -> io::Result<()> {
    staged.as_file().sync_all()?;
    let parent = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    staged.persist(target).map_err(|failed| failed.error)?;
    sync_folders(parent, top)
}

/// Makes a folder with all above it so that it survives a power cut.
///
/// # Errors
/// What the file system says.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    let parents = || folder.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
    let lowest = parents().find(|parent| parent.is_dir()).ok_or(io::ErrorKind::NotFound)?.to_path_buf();
    fs::create_dir_all(folder)?;
    parents().take_while(|parent| parent.starts_with(&lowest)).try_for_each(|parent| {
        match sync_folder(parent) {
            // Who may enter a folder and not read it cannot sync it either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        }
    })
}

/// Makes the names in a folder durable, and those of it and all folders above it, up to `top`.
fn sync_folders(folder: &Path, top: &Path) -> io::Result<()> {
    folder.ancestors().take_while(|folder| folder.starts_with(top)).try_for_each(sync_folder)
}

/// Makes the names in a folder durable.
///
/// # Errors
/// What the file system says. Systems that cannot sync folders (Windows) do nothing here.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Writes a small file anew in one step: readers see the old or the new content, never a mixture.
///
/// Not durable: for the cache, which may vanish at any moment.
///
/// # Errors
/// What the file system says.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut staged = tempfile::Builder::new().prefix(STAGED_PREFIX).tempfile_in(folder)?;
    staged.write_all(content)?;
    staged.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

/// Adds bytes to the end of a file, which is made if need be; one that has `size_max` bytes begins anew.
///
/// Not durable. What several processes add does not mix; a process that is killed may leave a part.
///
/// # Errors
/// What the file system says.
pub fn append(path: &Path, bytes: &[u8], size_max: u64) -> io::Result<()> {
    let mut file = open_or_make(path, OpenOptions::new().append(true).create(true))?;
    if file.metadata()?.len() >= size_max {
        return replace(path, bytes);
    }
    file.write_all(bytes)
}

/// Moves a finished file to its place in one step, whatever file is there now.
///
/// # Errors
/// What the file system says. The place is as it was then.
pub fn deliver(file: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(file, target) {
        // Another file system: there the bytes have to go first.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        outcome => return outcome,
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let staged = tempfile::Builder::new()
        .prefix(STAGED_PREFIX)
        .make_in(folder.unwrap_or(Path::new(".")), |staged| fs::copy(file, staged).map(drop))?;
    staged.persist(target).map_err(|failed| failed.error)?;
    fs::remove_file(file)
}

/// What the names of staged files begin with.
pub const STAGED_PREFIX: &str = ".lfs-delta-";

/// A lock that the operating system frees when the process dies.
#[derive(Debug)]
#[must_use = "the lock is held only as long as this lives"]
pub struct Lock {
    // Held for its lock, which goes with the file.
    _file: File,
}

impl Lock {
    /// Waits for the lock of a file, which is made if need be and never removed.
    ///
    /// # Errors
    /// What the file system says; cancelled while waiting.
    pub fn wait(path: &Path, cancel: &Cancel) -> io::Result<Self> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = Self::attempt(path)? {
                return Ok(lock);
            }
            cancel.check()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// What the file system says.
    pub fn attempt(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let file = open_or_make(path, options.create(true).write(true).truncate(false))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Opens a file that is made if need be, and its folder with it.
fn open_or_make(path: &Path, options: &OpenOptions) -> io::Result<File> {
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Changes a small text under the lock of its file, which is made if need be; `false` where somebody else holds it.
///
/// Not durable, and readers without the lock may see a mixture.
///
/// # Errors
/// What the file system says.
pub fn attempt_update(path: &Path, change: &mut dyn FnMut(&str) -> String) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    let mut file = open_or_make(path, options.create(true).read(true).write(true).truncate(false))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(false),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    let mut content = Vec::new();
    Read::take(&mut file, BUFFER_BYTES as u64).read_to_end(&mut content)?;
    let changed = change(&String::from_utf8_lossy(&content));
    rewind(&mut file)?;
    file.write_all(changed.as_bytes())?;
    file.set_len(changed.len() as u64)?;
    Ok(true)
}

/// A private folder for the temporary files of this process; it goes when this value is dropped.
#[derive(Debug)]
pub struct Workspace {
    folder: tempfile::TempDir,
    refreshed: AtomicU64,
    /// Bytes that rooms hold in memory.
    rooms: Arc<AtomicUsize>,
    started: Instant,
    // Held locked, so that no other process sweeps the folder while this one lives.
    _alive: Lock,
}

const WORKSPACE_PREFIX: &str = "lfs-delta-";
const WORKSPACE_LOCK: &str = "in-use";

impl Workspace {
    /// Makes a workspace in `parent` and removes those that dead processes left there long ago.
    ///
    /// # Errors
    /// What the file system says about making it; a failed sweep is only logged.
    pub fn create(parent: &Path, leftover_age: Duration) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        sweep_workspaces(parent, leftover_age);
        let folder = tempfile::Builder::new().prefix(WORKSPACE_PREFIX).tempdir_in(parent)?;
        let alive = Lock::attempt(&folder.path().join(WORKSPACE_LOCK))?.ok_or(io::ErrorKind::WouldBlock)?;
        Ok(Self {
            folder,
            refreshed: AtomicU64::new(0),
            rooms: Arc::default(),
            started: Instant::now(),
            _alive: alive,
        })
    }

    /// Makes an empty file with a name, which goes with the value.
    ///
    /// # Errors
    /// What the file system says.
    pub fn file(&self) -> io::Result<tempfile::NamedTempFile> {
        self.refresh();
        let mut builder = tempfile::Builder::new();
        builder.prefix("part-");
        // git-lfs keeps the rights of the file it is handed: those that the user's umask gives.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(self.folder.path())
    }

    /// Makes an empty file without a name.
    ///
    /// # Errors
    /// What the file system says.
    pub fn unnamed_file(&self) -> io::Result<File> {
        self.refresh();
        tempfile::tempfile_in(self.folder.path())
    }

    /// Makes bytes that may grow beyond memory.
    pub fn room(&self) -> Room {
        self.refresh_now_and_then();
        Room::new(self.folder.path().to_path_buf(), Arc::clone(&self.rooms))
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Marks the folder as in use: git-lfs removes what lies in its folder for over an hour.
    pub fn refresh(&self) {
        touch(self.folder.path());
    }

    /// Does so once a minute, however often it is called.
    pub fn refresh_now_and_then(&self) {
        let minute = self.started.elapsed().as_secs() / 60;
        if self.refreshed.swap(minute, Ordering::Relaxed) != minute {
            self.refresh();
        }
    }
}

/// Sets a file's or folder's time to now.
pub fn touch(path: &Path) {
    set_time(path, clock::now());
}

/// Sets a file's or folder's time. A failure is not worth a word: the time is advice.
pub fn set_time(path: &Path, time: SystemTime) {
    let _ = File::open(path).and_then(|file| file.set_modified(time));
}

fn sweep_workspaces(parent: &Path, leftover_age: Duration) {
    for path in entries(parent) {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WORKSPACE_PREFIX));
        if !ours || !path.is_dir() || !is_older(&path, leftover_age) {
            continue;
        }
        // A lock that can be taken says that its owner is dead.
        if let Ok(Some(_lock)) = Lock::attempt(&path.join(WORKSPACE_LOCK)) {
            let removed = fs::remove_dir_all(&path);
            tracing::debug!(path = %path.display(), ?removed, "swept a leftover workspace");
        }
    }
}

/// Removes the files of a folder whose names begin with `prefix` and that were last changed before `limit`.
///
/// Failures are passed over: the next sweep comes.
pub fn sweep_files(folder: &Path, prefix: &str, limit: SystemTime) {
    for path in entries(folder) {
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        let modified = fs::symlink_metadata(&path).and_then(|data| data.modified());
        if ours && path.is_file() && modified.is_ok_and(|then| then < limit) {
            let removed = fs::remove_file(&path);
            tracing::debug!(path = %path.display(), ?removed, "swept a leftover file");
        }
    }
}

/// Removes a file; that it is gone already is no error.
///
/// # Errors
/// What the file system says.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives a file a second name, as a link where the file system allows it, else as a copy.
///
/// # Errors
/// What the file system says.
pub fn link_or_copy(file: &Path, name: &Path) -> io::Result<()> {
    fs::hard_link(file, name).or_else(|_| fs::copy(file, name).map(drop))
}

/// Gives a file a second name, by a link in one step; `false` where the name is taken. The name's folder is made if need be.
///
/// # Errors
/// What the file system says; it may know no links, or have the two on different disks.
pub fn link(file: &Path, name: &Path) -> io::Result<bool> {
    let linked = match fs::hard_link(file, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(name.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
            fs::hard_link(file, name)
        }
        linked => linked,
    };
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    }
}

/// Returns the files in a folder; none where it cannot be read.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_file()).collect()
}

/// Returns the folders in a folder; none where it cannot be read.
pub fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_dir()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Returns whether something was last changed longer ago than `age`; `false` where that is unknown.
pub fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|data| data.modified());
    modified.is_ok_and(|then| clock::age(then) > age)
}

/// Makes a folder that only this user may enter, and checks that an existing one is such.
///
/// # Errors
/// `PermissionDenied` when the folder belongs to somebody else or is a link; else what the file system says.
pub fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    check_private(path)
}

#[cfg(unix)]
fn check_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let data = fs::symlink_metadata(path)?;
    let mine = data.uid() == rustix::process::geteuid().as_raw();
    if !data.is_dir() || !mine {
        let why = format!("{} is a link or belongs to another user", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    if data.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Reads from the start of a file that was just written.
///
/// # Errors
/// What the file system says.
pub fn rewind(file: &mut File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0)).map(drop)
}

/// Empties a file that was perhaps written, and goes to its start.
///
/// An empty one is not cut: ext4 takes that for a file that is being replaced, and sends it to the disk when it is closed.
///
/// # Errors
/// What the file system says.
pub fn empty(file: &mut File) -> io::Result<()> {
    rewind(file)?;
    if file.metadata()?.len() > 0 { file.set_len(0) } else { Ok(()) }
}

/// What tells whether a file changed while it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    size: u64,
    modified: Option<SystemTime>,
}

impl Fingerprint {
    /// Takes the fingerprint of an open file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of(file: &File) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self { size: data.len(), modified: data.modified().ok() })
    }

    /// Returns how many bytes the file had.
    pub const fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_that_is_emptied_begins_anew() {
        let mut file = tempfile::tempfile().expect("a file");
        for text in ["longer than the next", "short"] {
            empty(&mut file).expect("an empty file");
            file.write_all(text.as_bytes()).expect("written");
            rewind(&mut file).expect("its start");
            let mut found = String::new();
            file.read_to_string(&mut found).expect("read");
            assert_eq!(found, text);
        }
    }
}
