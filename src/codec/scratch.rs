//! Where expanded bytes live: in memory, or wherever the caller prefers.
//!
//! A container's plain text may be a thousand times its size: a workspace keeps large expansions in mapped,
//! unlinked files.

use std::io::{self, Write};

use crate::disk::{Room, Workspace};

/// Hands out buffers.
///
/// A new buffer is empty. Buffers are independent, and dropping one frees what it occupied.
pub trait Scratch: Sync {
    /// Creates an empty buffer.
    fn buffer(&self) -> io::Result<Box<dyn Buffer>>;
}

/// Bytes that can be resized; new bytes are zero.
pub trait Buffer: Send + Sync {
    /// Returns the bytes.
    fn bytes(&self) -> &[u8];
    /// Returns the bytes to be changed.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Changes the length, keeping what fits.
    fn resize(&mut self, len: usize) -> io::Result<()>;
}

/// Buffers in memory.
pub struct Memory;

impl Scratch for Memory {
    fn buffer(&self) -> io::Result<Box<dyn Buffer>> {
        Ok(Box::new(Vec::new()))
    }
}

impl Buffer for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
    fn resize(&mut self, len: usize) -> io::Result<()> {
        if len > self.capacity() {
            // Doubling would hold the old and the new copy of a large buffer at once for longer.
            self.reserve_exact(len - self.len());
        }
        Vec::resize(self, len, 0);
        Ok(())
    }
}

impl Scratch for Workspace {
    fn buffer(&self) -> io::Result<Box<dyn Buffer>> {
        Ok(Box::new(self.room()))
    }
}

impl Buffer for Room {
    fn bytes(&self) -> &[u8] {
        Room::bytes(self)
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        Room::bytes_mut(self)
    }
    fn resize(&mut self, len: usize) -> io::Result<()> {
        Room::resize(self, len)
    }
}

/// Bytes that only grow at the end, on a scratch buffer.
pub struct Spool {
    buffer: Box<dyn Buffer>,
    len: usize,
}

/// Least room a spool grows by.
const GROWTH_MIN: usize = 1 << 16;

impl Spool {
    /// Starts empty.
    pub fn new(scratch: &dyn Scratch) -> io::Result<Self> {
        Ok(Self { buffer: scratch.buffer()?, len: 0 })
    }

    /// Returns what was written.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer.bytes()[..self.len]
    }

    /// Returns how much was written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reserve(bytes.len())?;
        let end = self.len + bytes.len();
        self.buffer.bytes_mut()[self.len..end].copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Forgets everything from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes room for `more` bytes.
    pub fn reserve(&mut self, more: usize) -> io::Result<()> {
        let wanted = self.len.checked_add(more).ok_or(io::ErrorKind::OutOfMemory)?;
        let held = self.buffer.bytes().len();
        if wanted > held {
            self.buffer.resize(wanted + held / 4 + GROWTH_MIN)?;
        }
        Ok(())
    }

    /// Returns the whole buffer, written and not yet written; see [`Self::advance`].
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.bytes_mut()
    }

    /// Declares that bytes up to `len` of [`Self::room`] are written.
    pub fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.buffer.bytes().len());
        self.len = len;
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
