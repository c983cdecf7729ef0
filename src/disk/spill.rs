//! Bytes of any number in one piece that cannot change any more: in memory while few, else in an unlinked file.

use std::fs::File;
use std::io::{self, Read, Write};

use super::{Bytes, Workspace, copy};
use crate::model::limits::{BUFFER_BYTES, MEMORY_SPILL_MIN_BYTES};

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
            Some(file) => Bytes::map_private(file, self.size),
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
            let bytes = Bytes::map_private(shared, size)?;
            bytes.chunks(BUFFER_BYTES).try_for_each(watch)?;
            return Ok(Some(bytes));
        }
        let mut copied = Spill::new(self);
        // A byte more than there should be shows that the file grew.
        let count = copy(&mut Read::take(file, size + 1), &mut copied, watch)?;
        if count == size { copied.finish().map(Some) } else { Ok(None) }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
