//! Notes: a small file of lines that one process at a time may add to, and that outlives it.
//!
//! What surprises: a process that is killed in the middle of a line leaves half of one. The next one that opens the
//! notes does not get it, and ends it: whoever comes after that finds a line that means nothing, and passes it over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Longest notes that are read: 10,000 lines of 200 bytes.
const NOTES_MAX_BYTES: u64 = 2 << 20;

/// A file of lines, locked for as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is held only as long as this lives"]
pub struct Notes {
    file: File,
    path: PathBuf,
}

impl Notes {
    /// Makes the file, which must not exist.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).read(true).append(true).open(path)?;
        file.try_lock()?;
        Ok(Self { file, path: path.to_path_buf() })
    }

    /// Opens the file and returns its whole lines; `None` where another process holds it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<Option<(Self, Vec<String>)>> {
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut text = Vec::new();
        Read::take(&mut file, NOTES_MAX_BYTES).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.split_inclusive('\n').filter_map(|line| Some(line.strip_suffix('\n')?.to_owned()));
        let lines = lines.collect();
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        Ok(Some((Self { file, path: path.to_path_buf() }, lines)))
    }

    /// Adds a line. Not durable: for what costs only time when it is lost.
    ///
    /// # Errors
    /// What the file system says.
    pub fn add(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }

    /// Returns where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file.
    ///
    /// # Errors
    /// What the file system says; that it is gone already is none.
    pub fn remove(self) -> io::Result<()> {
        super::remove(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_outlive_who_made_them_and_half_a_line_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notes");
        let mut notes = Notes::create(&path).expect("new");
        notes.add("one").expect("added");
        assert!(Notes::open(&path).expect("a file").is_none(), "two hold it");
        notes.file.write_all(b"tw").expect("added");
        drop(notes);
        let (mut notes, lines) = Notes::open(&path).expect("a file").expect("nobody holds it");
        assert_eq!(lines, ["one"]);
        notes.add("three").expect("added");
        drop(notes);
        let (notes, lines) = Notes::open(&path).expect("a file").expect("nobody holds it");
        assert_eq!(lines, ["one", "tw", "three"]);
        notes.remove().expect("removed");
        assert!(!path.exists());
    }
}
