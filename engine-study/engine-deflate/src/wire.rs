//! Numbers and sections of bytes.

use crate::error::{Error, Result, corrupt};

/// Appends a number, seven bits per byte, lowest first.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Folds the sign into the lowest bit.
pub fn fold(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Undoes [`fold`].
pub fn unfold(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends bytes with their length in front.
pub fn put_section(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a section compressed: its plain length, then zstd's frame or, when that is no smaller,
/// the bytes.
pub fn put_packed(out: &mut Vec<u8>, bytes: &[u8], level: i32) -> Result<()> {
    put_number(out, bytes.len() as u64);
    let packed = zstd::bulk::compress(bytes, level)?;
    put_section(out, if packed.len() < bytes.len() { &packed } else { bytes });
    Ok(())
}

/// Reads what the functions above wrote.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Says whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns what is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads a byte.
    pub fn byte(&mut self) -> Result<u8> {
        let (&first, rest) = self.rest.split_first().ok_or(corrupt("ends in a byte"))?;
        self.rest = rest;
        Ok(first)
    }

    /// Reads a number.
    #[inline]
    pub fn number(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt("a number without an end"))
    }

    /// Reads a number that must fit an index.
    pub fn size(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| corrupt("a size beyond this machine"))
    }

    /// Reads so many bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(corrupt("ends in bytes"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads bytes with their length in front.
    pub fn section(&mut self) -> Result<&'a [u8]> {
        let size = self.size()?;
        self.bytes(size)
    }

    /// Reads a compressed section of at most `max` plain bytes.
    pub fn packed(&mut self, max: usize) -> Result<Vec<u8>> {
        let size = self.size()?;
        let bytes = self.section()?;
        if size > max {
            return Err(Error::TooLarge("a section"));
        }
        if bytes.len() == size {
            return Ok(bytes.to_vec());
        }
        let plain = zstd::bulk::decompress(bytes, size).map_err(|_| corrupt("a section"))?;
        if plain.len() != size { Err(corrupt("a section's length")) } else { Ok(plain) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let values = [0, 1, 127, 128, 1 << 35, u64::MAX];
        let mut bytes = Vec::new();
        values.iter().for_each(|&value| put_number(&mut bytes, value));
        let mut reader = Reader::new(&bytes);
        assert!(values.iter().all(|&value| reader.number().is_ok_and(|read| read == value)));
        assert!(reader.is_empty() && reader.number().is_err());
        assert!([0, -1, i64::MIN, i64::MAX].iter().all(|&value| unfold(fold(value)) == value));
    }
}
