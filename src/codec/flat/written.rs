//! A byte string in the making, in the place where it is to stay.

use std::ops::{Deref, DerefMut};

use crate::codec::{Result, corrupt};

/// The bytes so far, at the front of a room that all of them will fill.
pub struct Written<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl<'a> Written<'a> {
    /// Starts empty.
    pub fn new(room: &'a mut [u8]) -> Self {
        Self { room, len: 0 }
    }

    /// Appends a byte; the caller knows that there is room.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.room[self.len] = byte;
        self.len += 1;
    }

    /// Appends `count` bytes, of any value, and returns them to be written.
    ///
    /// # Errors
    /// `Corrupt` when there is no room.
    #[inline]
    pub fn grow(&mut self, count: usize) -> Result<&mut [u8]> {
        let room = self.room.get_mut(self.len..).and_then(|left| left.get_mut(..count));
        let grown = room.ok_or(corrupt("more bytes than a group has"))?;
        self.len += count;
        Ok(grown)
    }
}

impl Deref for Written<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

impl DerefMut for Written<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room[..self.len]
    }
}
