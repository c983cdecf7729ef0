//! Bytes in one piece: in memory, or a private mapping of an unlinked file.
//!
//! The only mappings this program makes, and its only unsafe lines. A mapping is undefined behaviour as
//! soon as somebody truncates the file under it, so only files that nobody else can open are mapped: made by
//! this process without a name, written by it alone, never handed out.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

use crate::model::limits::MEMORY_SPILL_MIN_BYTES;

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

/// Bytes that can be changed and resized: in memory while few, else in an unlinked file.
#[derive(Debug)]
pub struct Room {
    folder: PathBuf,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Memory(Vec<u8>),
    Mapped(File, memmap2::MmapMut),
}

impl Room {
    /// Starts empty; the file, should it come to one, is made in `folder`.
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, held: Held::Memory(Vec::new()) }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Memory(bytes) => bytes,
            Held::Mapped(_, map) => map,
        }
    }

    /// Returns the bytes to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.held {
            Held::Memory(bytes) => bytes,
            Held::Mapped(_, map) => map,
        }
    }

    /// Changes the length, keeping what fits; new bytes are zero.
    ///
    /// # Errors
    /// `StorageFull` and what else the file system says: the place on the disk is taken here, because a write
    /// into a mapping could not fail but kill.
    pub fn resize(&mut self, len: usize) -> io::Result<()> {
        match &mut self.held {
            Held::Memory(bytes) if len as u64 <= MEMORY_SPILL_MIN_BYTES => {
                bytes.reserve_exact(len.saturating_sub(bytes.len()));
                bytes.resize(len, 0);
            }
            Held::Memory(bytes) => {
                let mut map = self::map(tempfile::tempfile_in(&self.folder)?, len)?;
                let kept = bytes.len().min(len);
                map.1[..kept].copy_from_slice(&bytes[..kept]);
                self.held = Held::Mapped(map.0, map.1);
            }
            Held::Mapped(file, _) => {
                let (file, map) = map(file.try_clone()?, len)?;
                self.held = Held::Mapped(file, map);
            }
        }
        Ok(())
    }
}

/// Gives an unlinked file of this process `len` bytes of disk and maps it.
fn map(file: File, len: usize) -> io::Result<(File, memmap2::MmapMut)> {
    let len = len.max(1);
    fallocate(&file, FallocateFlags::empty(), 0, len as u64)?;
    // SAFETY: the file has no name and its handles never leave this module, so no other process can reach it;
    // it is never made shorter while it is mapped, and its blocks are allocated.
    let map = unsafe { memmap2::MmapOptions::new().len(len).map_mut(&file)? };
    Ok((file, map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_keeps_its_bytes_when_it_moves_to_a_file_and_grows() {
        let mut room = Room::new(std::env::temp_dir());
        room.resize(3).expect("memory");
        room.bytes_mut().copy_from_slice(b"abc");
        let large = MEMORY_SPILL_MIN_BYTES as usize + 1;
        for len in [large, large * 2] {
            room.resize(len).expect("a file");
            assert!(matches!(room.held, Held::Mapped(..)));
            assert_eq!(room.bytes().len(), len);
            assert_eq!(&room.bytes()[..4], b"abc\0");
            assert_eq!(room.bytes()[len - 1], 0);
        }
    }
}
