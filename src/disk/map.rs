//! Bytes in one piece: in memory, or a mapping of a file that nobody else can change.
//!
//! The only mappings this program makes, and its only unsafe lines. A mapping is undefined behaviour as
//! soon as somebody truncates the file under it. So most files that are mapped can be opened by nobody else: made by
//! this process without a name, written by it alone, never handed out. The others are leased: Linux keeps whoever
//! wants to write to such a file waiting, for 45 s unless the machine is set otherwise, and tells who holds the lease.
//! A process that was frozen for longer reads zeros where the file was cut, and finds that the bytes do not count.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FallocateFlags, fallocate};

use crate::model::limits::{ROOM_MAPPED_MIN_BYTES, ROOMS_MEMORY_MAX_BYTES};

#[cfg(target_os = "linux")]
pub(super) mod lease;

/// Bytes in one piece. Read only.
#[derive(Debug)]
pub enum Bytes {
    /// In memory.
    Memory(Vec<u8>),
    /// In an unlinked file of this process.
    Mapped(memmap2::Mmap),
    /// In a file that others may open.
    #[cfg(target_os = "linux")]
    Leased(lease::Leased),
}

impl Bytes {
    /// Maps a file that others may open, if the system promises to keep writers waiting; `None` where it does not.
    ///
    /// Whoever works on the bytes calls [`Self::check`] all the time, and lets go of them when it fails.
    #[cfg(target_os = "linux")]
    pub(super) fn map_leased(file: &File, size: u64) -> Option<Self> {
        lease::Leased::map(file, size).map(Self::Leased)
    }

    /// Other systems promise nothing of files that others may open.
    #[cfg(not(target_os = "linux"))]
    pub(super) const fn map_leased(_file: &File, _size: u64) -> Option<Self> {
        None
    }

    /// Fails once somebody wants to write to the file that the bytes are in.
    ///
    /// # Errors
    /// `ResourceBusy`. The bytes are those that were mapped up to here.
    pub fn check(&self) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Leased(leased) if !leased.is_sound() => {
                let why = "another program opened a file for writing that was being read";
                Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
            }
            _ => Ok(()),
        }
    }

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
            #[cfg(target_os = "linux")]
            Self::Leased(leased) => leased.bytes(),
        }
    }
}

/// Bytes that can be changed and resized: in memory while few, else in an unlinked file.
///
/// All rooms of a workspace share one account of memory: there may be thousands of them. Memory of some size is
/// mapped, because such pages cost nothing before they are touched, and large mappings ask for huge pages: taking
/// a page at a time was a quarter of the time in which a spreadsheet is restored, and is a tenth so.
#[derive(Debug)]
pub struct Room {
    folder: PathBuf,
    account: Arc<AtomicUsize>,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Memory(Vec<u8>),
    /// A mapping, and how much of it is in use.
    Anonymous(memmap2::MmapMut, usize),
    Mapped(File, memmap2::MmapMut),
}

impl Room {
    /// Starts empty; the file, should it come to one, is made in `folder`.
    pub(super) const fn new(folder: PathBuf, account: Arc<AtomicUsize>) -> Self {
        Self { folder, account, held: Held::Memory(Vec::new()) }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        self.held.bytes()
    }

    /// Returns the bytes to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.held.bytes_mut()
    }

    /// Changes the length, keeping what fits; new bytes are zero.
    ///
    /// # Errors
    /// `StorageFull` and what else the file system says: the place on the disk is taken here, because a write
    /// into a mapping could not fail but kill.
    pub fn resize(&mut self, len: usize) -> io::Result<()> {
        let held = match &mut self.held {
            Held::Mapped(file, old) => {
                // What is cut off must not come back when it grows again.
                let kept = len.min(old.len());
                old[kept..].fill(0);
                let (file, map) = map(file.try_clone()?, len)?;
                Held::Mapped(file, map)
            }
            Held::Memory(bytes) if len <= ROOM_MAPPED_MIN_BYTES => {
                let before = bytes.len();
                bytes.reserve_exact(len.saturating_sub(before));
                bytes.resize(len, 0);
                self.account.fetch_add(len, Ordering::Relaxed);
                self.account.fetch_sub(before, Ordering::Relaxed);
                return Ok(());
            }
            #[cfg(target_os = "linux")]
            Held::Anonymous(map, used) if len > *used && fits(&self.account, map.len(), mapped_len(len)) => {
                let (before, wanted) = (map.len(), mapped_len(len));
                if wanted > before {
                    grow(map, wanted)?;
                    self.account.fetch_add(wanted - before, Ordering::Relaxed);
                }
                *used = len;
                return Ok(());
            }
            Held::Memory(_) | Held::Anonymous(..) => self.moved(len)?,
        };
        self.hold(held);
        Ok(())
    }

    /// Copies memory to where `len` bytes fit.
    fn moved(&self, len: usize) -> io::Result<Held> {
        let old = self.bytes();
        let fits = fits(&self.account, self.held.memory(), mapped_len(len));
        let mut held = match fits {
            true if len <= ROOM_MAPPED_MIN_BYTES => Held::Memory(vec![0; len]),
            true => Held::Anonymous(anonymous(mapped_len(len))?, len),
            false => {
                let (file, map) = map(tempfile::tempfile_in(&self.folder)?, len)?;
                Held::Mapped(file, map)
            }
        };
        let kept = old.len().min(len);
        held.bytes_mut()[..kept].copy_from_slice(&old[..kept]);
        Ok(held)
    }

    fn hold(&mut self, held: Held) {
        self.account.fetch_add(held.memory(), Ordering::Relaxed);
        self.account.fetch_sub(self.held.memory(), Ordering::Relaxed);
        self.held = held;
    }
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Anonymous(map, used) => &map[..*used],
            Self::Mapped(_, map) => map,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Anonymous(map, used) => &mut map[..*used],
            Self::Mapped(_, map) => map,
        }
    }

    /// Bytes that count as memory.
    fn memory(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Anonymous(map, _) => map.len(),
            Self::Mapped(..) => 0,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.account.fetch_sub(self.held.memory(), Ordering::Relaxed);
    }
}

/// Returns whether a room may have `len` bytes in memory in place of `now`. A mapping takes a page at least, and
/// there may be only so many: the smallest rooms stay in memory.
fn fits(account: &AtomicUsize, now: usize, len: usize) -> bool {
    let others = account.load(Ordering::Relaxed).saturating_sub(now);
    len <= ROOM_MAPPED_MIN_BYTES || others.saturating_add(len) <= ROOMS_MEMORY_MAX_BYTES
}

/// What a huge page takes on most machines.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Returns how much is mapped for `len` bytes: only whole huge pages are laid where huge pages can be.
const fn mapped_len(len: usize) -> usize {
    if len < HUGE_PAGE_BYTES { len } else { len.next_multiple_of(HUGE_PAGE_BYTES) }
}

fn anonymous(len: usize) -> io::Result<memmap2::MmapMut> {
    let map = memmap2::MmapMut::map_anon(len)?;
    ask_for_huge_pages(&map);
    Ok(map)
}

fn ask_for_huge_pages(map: &memmap2::MmapMut) {
    #[cfg(target_os = "linux")]
    if map.len() >= HUGE_PAGE_BYTES {
        // A kernel built without them refuses, and all is as before.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
}

/// Makes mapped memory larger without touching it.
#[cfg(target_os = "linux")]
fn grow(map: &mut memmap2::MmapMut, len: usize) -> io::Result<()> {
    // SAFETY: there is no file that could end before the mapping does.
    unsafe { map.remap(len, memmap2::RemapOptions::new().may_move(true))? }
    ask_for_huge_pages(map);
    Ok(())
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
        let large = ROOMS_MEMORY_MAX_BYTES + 1;
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
        for len in [1000, ROOMS_MEMORY_MAX_BYTES + 1] {
            let mut room = Room::new(std::env::temp_dir(), Arc::default());
            room.resize(len).expect("room");
            room.bytes_mut().fill(7);
            room.resize(10).expect("room");
            room.resize(len).expect("room");
            assert_eq!(room.bytes().iter().map(|&byte| usize::from(byte)).sum::<usize>(), 70, "{len}");
        }
    }

    #[test]
    fn a_room_counts_as_much_memory_as_it_maps_and_grows_into_zeros() {
        let account = Arc::<AtomicUsize>::default();
        let mut room = Room::new(std::env::temp_dir(), Arc::clone(&account));
        for len in [ROOM_MAPPED_MIN_BYTES + 1, HUGE_PAGE_BYTES + 1, HUGE_PAGE_BYTES + 2, 3 * HUGE_PAGE_BYTES]
        {
            let before = room.bytes().len();
            room.resize(len).expect("room");
            assert_eq!(room.bytes().len(), len);
            assert!(room.bytes()[before..].iter().all(|&byte| byte == 0), "{before} to {len}");
            assert_eq!(account.load(Ordering::Relaxed), mapped_len(len));
            room.bytes_mut().fill(7);
        }
        room.resize(10).expect("room");
        assert_eq!(account.load(Ordering::Relaxed), 10);
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
