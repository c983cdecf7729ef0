//! Bytes in one piece: in memory, or a private mapping of an unlinked file.
//!
//! The only mapping this program makes, and one of its few unsafe lines. A mapping is undefined behaviour as
//! soon as somebody truncates the file under it, so only files that nobody else can open are mapped: made by
//! this process without a name, written by it alone, never handed out.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

/// Bytes in one piece. Read only.
#[derive(Debug)]
pub enum Bytes {
    /// In memory.
    Memory(Vec<u8>),
    /// In an unlinked file of this process.
    Mapped(memmap2::Mmap),
}

impl Bytes {
    /// Maps an unlinked file of this process that holds `size` bytes.
    ///
    /// # Errors
    /// `InvalidData` when the file has another size; else what the system says.
    pub(super) fn map_private(file: File, size: u64) -> io::Result<Self> {
        if file.metadata()?.len() != size || size == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: the file has no name and its only handle is consumed here, so no other process can reach it
        // and this one cannot write to it any more: the mapped bytes never change or vanish.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self::Mapped(map))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}
