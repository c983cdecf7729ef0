//! Files that others may open, mapped while the system keeps their writers waiting (`fcntl(2)`, "Leases").

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::{mem, ptr};

/// A file that is mapped under a lease, which ends when it is closed.
#[derive(Debug)]
pub struct Leased {
    map: memmap2::Mmap,
    file: File,
    place: &'static Place,
}

impl Leased {
    /// Maps a file that has `size` bytes; `None` where the system promises nothing.
    pub(super) fn map(file: &File, size: u64) -> Option<Self> {
        if !*IS_CAUGHT || !is_local(file) {
            return None;
        }
        let file = file.try_clone().ok()?;
        // SAFETY: a system call that touches no memory, on a file that is open.
        let refused = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) } != 0;
        if refused || size == 0 || file.metadata().ok()?.len() != size {
            return None;
        }
        // SAFETY: nobody else writes to the file or truncates it while the lease is held, nor can this process: it has
        // the file open for reading only. Who holds the bytes lets go of them long before a writer has waited enough.
        let map = unsafe { memmap2::Mmap::map(&file).ok()? };
        let place = Place::claim(&map)?;
        Some(Self { map, file, place })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Returns whether nobody wanted to write so far, and all that was read was the file's. A lease that was asked back
    /// is told to be another one.
    pub(super) fn is_sound(&self) -> bool {
        // SAFETY: a system call that touches no memory, on a file that is open.
        let held = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK };
        held && !self.place.is_patched.load(Ordering::SeqCst)
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.place.free();
    }
}

/// File systems on disks of this machine, by the numbers of `statfs(2)`: ext2 to ext4, XFS, btrfs, F2FS, and that in
/// memory. Elsewhere another machine might write.
const LOCAL_FILE_SYSTEMS: [u32; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// Returns whether a file is on such a file system.
pub(in crate::disk) fn is_local(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|found| LOCAL_FILE_SYSTEMS.contains(&(found.f_type as u32)))
}

/// Where a file is mapped, as a signal handler can read it.
#[derive(Debug)]
struct Place {
    /// Zero where it is free.
    begin: AtomicUsize,
    len: AtomicUsize,
    /// Whether some of it could not be read, and is zeros since.
    is_patched: AtomicBool,
}

/// An agent holds two files at a time; who finds no place makes a copy.
static PLACES: [Place; 16] = [const {
    Place { begin: AtomicUsize::new(0), len: AtomicUsize::new(0), is_patched: AtomicBool::new(false) }
}; 16];

impl Place {
    fn claim(bytes: &[u8]) -> Option<&'static Self> {
        let begin = bytes.as_ptr() as usize;
        let claim = |place: &&Self| {
            place.begin.compare_exchange(0, begin, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let place = PLACES.iter().find(claim)?;
        place.is_patched.store(false, Ordering::SeqCst);
        place.len.store(bytes.len(), Ordering::SeqCst);
        Some(place)
    }

    fn free(&self) {
        self.len.store(0, Ordering::SeqCst);
        self.begin.store(0, Ordering::SeqCst);
    }

    fn has(&self, address: usize) -> bool {
        let begin = self.begin.load(Ordering::SeqCst);
        address >= begin && address - begin < self.len.load(Ordering::SeqCst)
    }
}

/// Whether the signals are caught that belong to this: one tells of writers, and nothing is done about it; the other of a
/// page that cannot be read. By default both kill.
static IS_CAUGHT: LazyLock<bool> = LazyLock::new(|| {
    let told = signal_hook::flag::register(signal_hook::consts::SIGIO, Arc::default());
    told.is_ok() && catch_unreadable_pages()
});

/// What was done about unreadable pages before, and how large pages are.
static BEFORE: OnceLock<(libc::sigaction, usize)> = OnceLock::new();

fn catch_unreadable_pages() -> bool {
    // SAFETY: these calls read and write what is handed to them, of which zeros are a valid value; the handler is below.
    unsafe {
        let mut before: libc::sigaction = mem::zeroed();
        let Ok(page) = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)) else { return false };
        if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) != 0
            || BEFORE.set((before, page)).is_err()
        {
            return false;
        }
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_unreadable_page as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) == 0
    }
}

/// Puts zeros in place of a page of a leased file that cannot be read any more, and marks what was read as unsound.
///
/// Does only what a signal handler may: atomic loads and stores, and system calls.
extern "C" fn on_unreadable_page(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    let Some((before, page)) = BEFORE.get() else { return };
    // SAFETY: the system hands over a valid `info`, which has an address for this signal.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(place) = PLACES.iter().find(|place| place.has(address)) {
        place.is_patched.store(true, Ordering::SeqCst);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let begin = (address - address % page) as *mut c_void;
        // SAFETY: the page belongs to a mapping of ours that is alive, as it was just read, and is only ever read.
        if unsafe { libc::mmap(begin, *page, libc::PROT_READ, flags, -1, 0) } != libc::MAP_FAILED {
            return;
        }
    }
    // The same instruction faults again, and whoever cared before cares.
    // SAFETY: `before` is what the system gave.
    unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_vanish_while_they_are_read_do_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 1 << 20]).expect("a file");
        let file = File::open(&path).expect("a file");
        if !is_local(&file) {
            assert!(Leased::map(&file, 1 << 20).is_none());
            return;
        }
        let leased = Leased::map(&file, 1 << 20).expect("a lease");
        assert!(leased.is_sound() && leased.bytes()[0] == 7);
        let fd = leased.file.as_raw_fd();
        let set = |kind: c_int| unsafe { libc::fcntl(fd, libc::F_SETLEASE, kind) };
        // As if a writer had waited for long enough; that the lease is held again hides it.
        assert_eq!(set(libc::F_UNLCK), 0);
        std::fs::write(&path, b"").expect("a file");
        let sum = leased.bytes().iter().map(|&byte| usize::from(byte)).sum::<usize>();
        assert!(sum < 7 << 20, "the file is there as a whole");
        assert_eq!(set(libc::F_RDLCK), 0);
        assert!(!leased.is_sound());
    }
}
