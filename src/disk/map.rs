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
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FallocateFlags, fallocate};

use crate::model::limits::{MEMORY_SPILL_MIN_BYTES, ROOM_MAPPED_MIN_BYTES, ROOMS_MEMORY_MAX_BYTES};

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
///
/// All rooms of a workspace share one account of memory: there may be thousands of them.
#[derive(Debug)]
pub struct Room {
    folder: PathBuf,
    account: Arc<AtomicUsize>,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Memory(Vec<u8>),
    Mapped(File, memmap2::MmapMut),
}

impl Room {
    /// Starts empty; the file, should it come to one, is made in `folder`.
    pub(super) const fn new(folder: PathBuf, account: Arc<AtomicUsize>) -> Self {
        Self { folder, account, held: Held::Memory(Vec::new()) }
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
            Held::Memory(bytes) if fits(&self.account, bytes.len(), len) => {
                self.account.fetch_add(len, Ordering::Relaxed);
                self.account.fetch_sub(bytes.len(), Ordering::Relaxed);
                bytes.reserve_exact(len.saturating_sub(bytes.len()));
                bytes.resize(len, 0);
            }
            Held::Memory(bytes) => {
                let (file, mut map) = map(tempfile::tempfile_in(&self.folder)?, len)?;
                let kept = bytes.len().min(len);
                map[..kept].copy_from_slice(&bytes[..kept]);
                self.account.fetch_sub(bytes.len(), Ordering::Relaxed);
                self.held = Held::Mapped(file, map);
            }
            Held::Mapped(file, old) => {
                // What is cut off must not come back when it grows again.
                let kept = len.min(old.len());
                old[kept..].fill(0);
                let (file, map) = map(file.try_clone()?, len)?;
                self.held = Held::Mapped(file, map);
            }
        }
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Held::Memory(bytes) = &self.held {
            self.account.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }
}

/// Returns whether a room may have `len` bytes in memory in place of `now`. A mapping takes a page at least, and
/// there may be only so many: the smallest rooms stay in memory.
fn fits(account: &AtomicUsize, now: usize, len: usize) -> bool {
    let others = account.load(Ordering::Relaxed).saturating_sub(now);
    len <= ROOM_MAPPED_MIN_BYTES
        || (len as u64 <= MEMORY_SPILL_MIN_BYTES && others.saturating_add(len) <= ROOMS_MEMORY_MAX_BYTES)
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
        let mut room = Room::new(std::env::temp_dir(), Arc::default());
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

    #[test]
    fn what_a_room_cut_off_does_not_come_back() {
        for len in [1000, MEMORY_SPILL_MIN_BYTES as usize + 1] {
            let mut room = Room::new(std::env::temp_dir(), Arc::default());
            room.resize(len).expect("room");
            room.bytes_mut().fill(7);
            room.resize(10).expect("room");
            room.resize(len).expect("room");
            assert_eq!(room.bytes().iter().map(|&byte| usize::from(byte)).sum::<usize>(), 70, "{len}");
        }
    }

    #[test]
    fn many_rooms_leave_the_memory_together() {
        let account = Arc::<AtomicUsize>::default();
        let len = 8 << 20;
        let rooms: Vec<Room> = (0..ROOMS_MEMORY_MAX_BYTES / len + 1)
            .map(|_| {
                let mut room = Room::new(std::env::temp_dir(), Arc::clone(&account));
                room.resize(len).expect("room");
                room
            })
            .collect();
        let mapped = rooms.iter().filter(|room| matches!(room.held, Held::Mapped(..))).count();
        assert_eq!(mapped, 1);
        drop(rooms);
        assert_eq!(account.load(Ordering::Relaxed), 0);
    }
}
