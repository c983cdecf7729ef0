//! Bytes of any number in one piece that cannot change any more: in memory while few, else in an unlinked file.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use super::{Bytes, Workspace, copy};
use crate::model::limits::{BUFFER_BYTES, MEMORY_SPILL_MIN_BYTES};

/// Zeros that are left out of a file: a block of most file systems.
const HOLE_MIN_BYTES: usize = 4096;

/// Bytes that are being gathered to be read again as one piece: in memory while few, else in an unlinked file.
#[derive(Debug)]
pub struct Spill<'a> {
    workspace: &'a Workspace,
    memory: Vec<u8>,
    file: Option<File>,
    size: u64,
}

impl<'a> Spill<'a> {
    /// Starts empty.
    pub fn new(workspace: &'a Workspace) -> Self {
        Self { workspace, memory: Vec::new(), file: None, size: 0 }
    }

    /// Returns all bytes written, as one piece.
    ///
    /// # Errors
    /// What the file system says about mapping the file.
    pub fn finish(self) -> io::Result<Bytes> {
        match self.file {
            None => Ok(Bytes::from(self.memory)),
            Some(file) => {
                file.set_len(self.size)?;
                Bytes::map_private(file, self.size)
            }
        }
    }
}

impl Write for Spill<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && (self.memory.len() + bytes.len()) as u64 > MEMORY_SPILL_MIN_BYTES {
            let mut file = self.workspace.unnamed_file()?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            // What is not written reads as zeros, takes no disk, and is no work: disk images have gigabytes of them.
            Some(file) if bytes.len() >= HOLE_MIN_BYTES && bytes.iter().all(|&byte| byte == 0) => {
                file.seek_relative(bytes.len() as i64)?;
            }
            Some(file) => file.write_all(bytes)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Workspace {
    /// Copies a file of `size` bytes into one piece that cannot change any more, handing all that is in it to `watch`
    /// piece by piece; `None` where it has another size.
    ///
    /// Some file systems (btrfs, XFS) share the blocks of a large one instead of copying them.
    ///
    /// # Errors
    /// What the file system or `watch` says.
    pub fn copy_of(
        &self,
        file: &mut File,
        size: u64,
        watch: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<Bytes>> {
        if size > MEMORY_SPILL_MIN_BYTES
            && let Some(shared) = self.shared(file)
        {
            if shared.metadata()?.len() != size {
                return Ok(None);
            }
            return shown(Bytes::map_private(shared, size)?, watch).map(Some);
        }
        let mut copied = Spill::new(self);
        // A byte more than there should be shows that the file grew.
        let count = copy(&mut Read::take(file, size + 1), &mut copied, watch)?;
        if count == size { copied.finish().map(Some) } else { Ok(None) }
    }

    /// As [`Self::copy_of`], and may leave a large file where it is as long as nobody wants to write to it: whoever
    /// works on the bytes has to [check](Bytes::check) that.
    ///
    /// # Errors
    /// What the file system or `watch` says.
    pub fn hold(
        &self,
        file: &mut File,
        size: u64,
        watch: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<Bytes>> {
        if size > MEMORY_SPILL_MIN_BYTES
            && let Some(bytes) = Bytes::map_leased(file, size)
        {
            return shown(bytes, watch).map(Some);
        }
        self.copy_of(file, size, watch)
    }

    /// Makes a file without a name that has the blocks of another; `None` where the file system shares none.
    #[cfg(target_os = "linux")]
    fn shared(&self, file: &File) -> Option<File> {
        let shared = self.unnamed_file().ok()?;
        rustix::fs::ioctl_ficlone(&shared, file).ok().map(|()| shared)
    }

    #[cfg(not(target_os = "linux"))]
    fn shared(&self, _file: &File) -> Option<File> {
        None
    }
}

/// Hands mapped bytes to `watch` piece by piece.
fn shown(bytes: Bytes, watch: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Bytes> {
    bytes.chunks(BUFFER_BYTES).try_for_each(|part| bytes.check().and_then(|()| watch(part)))?;
    bytes.check()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_writes_to_a_file_that_is_held_waits_until_its_bytes_are_let_go_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = Workspace::create(folder.path(), Duration::MAX).expect("a workspace");
        let path = folder.path().join("file");
        let written = vec![7; MEMORY_SPILL_MIN_BYTES as usize + 1];
        std::fs::write(&path, &written).expect("a file");
        let mut file = File::open(&path).expect("a file");
        let held = workspace.hold(&mut file, written.len() as u64, &mut |_| Ok(()));
        let held = held.expect("read").expect("as long");
        #[cfg(target_os = "linux")]
        assert_eq!(matches!(held, Bytes::Leased(..)), super::super::map::lease::is_local(&file));
        drop(file);
        held.check().expect("nobody wants to write");
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(&path, b"short")
        });
        #[cfg(target_os = "linux")]
        if matches!(held, Bytes::Leased(..)) {
            let begun = std::time::Instant::now();
            while held.check().is_ok() {
                assert!(begun.elapsed() < Duration::from_secs(20), "nobody is told");
                std::thread::yield_now();
            }
            assert!(!writer.is_finished(), "who writes does not wait");
        }
        assert!(*held == *written);
        drop(held);
        writer.join().expect("no panic").expect("written");
        assert_eq!(std::fs::read(&path).expect("a file"), b"short");
        // Not while somebody has it open for writing.
        std::fs::write(&path, &written).expect("a file");
        let open = std::fs::OpenOptions::new().append(true).open(&path).expect("a file");
        let mut file = File::open(&path).expect("a file");
        let copied = workspace.hold(&mut file, written.len() as u64, &mut |_| Ok(()));
        let copied = copied.expect("read").expect("as long");
        open.set_len(5).expect("shorter");
        copied.check().expect("a copy");
        assert!(*copied == *written);
    }

    #[test]
    fn zeros_take_no_disk_and_are_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = Workspace::create(folder.path(), Duration::MAX).expect("a workspace");
        let (zeros, ones) = (vec![0; 1 << 20], vec![1; 1 << 20]);
        let mut spill = Spill::new(&workspace);
        for _ in 0..20 {
            [&ones, &zeros, &zeros].into_iter().for_each(|part| spill.write_all(part).expect("disk"));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let data = spill.file.as_ref().expect("many bytes").metadata().expect("a file");
            assert!(data.blocks() * 512 < 40 << 20, "{} blocks", data.blocks());
        }
        let bytes = spill.finish().expect("a piece");
        let expected = [&ones[..], &zeros, &zeros].concat();
        assert!(*bytes == *expected.repeat(20));
    }

    #[test]
    fn a_copy_has_all_bytes_and_shows_them_or_is_none_where_there_are_more_or_less() {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = Workspace::create(folder.path(), Duration::MAX).expect("a workspace");
        for size in [0, 1000, MEMORY_SPILL_MIN_BYTES + 1] {
            let bytes: Vec<u8> = (0..size).map(|at| (at / 1000) as u8).collect();
            let path = folder.path().join("file");
            std::fs::write(&path, &bytes).expect("a file");
            let copy_of = |size| {
                let mut seen = Vec::new();
                let mut file = File::open(&path).expect("a file");
                let copied = workspace.copy_of(&mut file, size, &mut |bytes| seen.write_all(bytes));
                (copied.expect("a copy"), seen)
            };
            let (copied, seen) = copy_of(size);
            assert!(*copied.expect("as long") == *bytes && seen == bytes, "{size}");
            assert!(copy_of(size + 1).0.is_none(), "{size}");
            assert!(size == 0 || copy_of(size - 1).0.is_none(), "{size}");
            let mut file = File::open(&path).expect("a file");
            let stopped = workspace.copy_of(&mut file, size, &mut |_| Err(io::ErrorKind::TimedOut.into()));
            assert_eq!(stopped.is_err(), size > 0);
        }
    }
}
