//! The seal of a payload: a checksum behind it, so that damage is called damage before anything is decoded.
//!
//! It proves nothing about the object, whose hash does. But some bits of a coded payload matter to nobody, and a
//! store that changed one of them has changed others as well.

use std::io::{self, Write};

use super::deflate::checksum::Crc32;
use super::{Result, corrupt};

/// Bytes of a seal: the CRC-32 of what stands before, lowest byte first.
const SEAL_BYTES: usize = 4;

/// Passes bytes on and adds them up.
pub struct Sealing<'a> {
    out: &'a mut dyn Write,
    sum: Crc32,
}

impl<'a> Sealing<'a> {
    /// Starts a payload.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, sum: Crc32::default() }
    }

    /// Ends it.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(self) -> io::Result<()> {
        self.out.write_all(&self.sum.finish().to_le_bytes())
    }
}

impl Write for Sealing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.sum.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Returns what stands before the seal.
///
/// # Errors
/// `Corrupt` when it is broken.
pub fn open(sealed: &[u8]) -> Result<&[u8]> {
    let (payload, seal) = sealed.split_last_chunk::<SEAL_BYTES>().ok_or(corrupt("the payload is cut"))?;
    let mut sum = Crc32::default();
    sum.update(payload);
    if sum.finish().to_le_bytes() == *seal { Ok(payload) } else { Err(corrupt("the payload is damaged")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_and_any_changed_bit_breaks_it() {
        let mut sealed = Vec::new();
        let mut sealing = Sealing::new(&mut sealed);
        sealing.write_all(b"some ").expect("memory");
        sealing.write_all(b"payload").expect("memory");
        sealing.finish().expect("memory");
        assert_eq!(open(&sealed).expect("sound"), b"some payload");
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&damaged).is_err(), "bit {bit}");
        }
        assert!((0..sealed.len()).all(|len| open(&sealed[..len]).is_err()));
    }
}
