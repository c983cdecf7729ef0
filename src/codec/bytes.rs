//! Small readers over byte slices: little-endian words, varints, sections, common prefixes.
//!
//! A varint is 7 bits per byte, lowest first; a section is a varint length and that many bytes; a packed section
//! is a varint plain length and a section that holds a zstd frame, or the bytes themselves when it is as long.

use super::{Result, corrupt};

/// Reads a little-endian `u16`; the caller has checked the bounds.
#[inline]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Reads a little-endian `u32`; the caller has checked the bounds.
#[inline]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Reads a little-endian `u64`; the caller has checked the bounds.
#[inline]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Counts the leading bytes that two slices share.
#[inline]
pub fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    let len = left.len().min(right.len());
    let (left, right) = (&left[..len], &right[..len]);
    let mut at = 0;
    while at + 8 <= len {
        let differing = u64_at(left, at) ^ u64_at(right, at);
        if differing != 0 {
            return at + (differing.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < len && left[at] == right[at] {
        at += 1;
    }
    at
}

/// Counts the bits needed to write `value`; 0 for 0.
#[inline]
pub fn bit_length(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Spreads a key over the upper bits of the result.
#[inline]
pub fn scramble(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Folds the sign into the lowest bit, so that small differences are small numbers.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends `value` in 7-bit digits, lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A cursor over untrusted bytes: every read checks its bounds.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Takes the next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.rest.len() {
            return Err(corrupt("it ends early"));
        }
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let digit = self.byte()?;
            value |= u64::from(digit & 0x7F) << shift;
            if digit < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt("a number is too long"))
    }

    pub fn signed(&mut self) -> Result<i64> {
        Ok(unzigzag(self.varint()?))
    }

    /// Reads a number that must fit an index.
    pub fn size(&mut self) -> Result<usize> {
        usize::try_from(self.varint()?).map_err(|_| corrupt("a size beyond this machine"))
    }

    /// Reads a packed section of at most `max` plain bytes.
    pub fn packed(&mut self, max: usize) -> Result<Vec<u8>> {
        let size = self.size()?;
        let section = self.section()?;
        if size > max {
            return Err(corrupt("a section over its bound"));
        }
        if section.len() == size {
            return Ok(section.to_vec());
        }
        let plain = zstd::bulk::decompress(section, size).map_err(|_| corrupt("a packed section"))?;
        if plain.len() == size { Ok(plain) } else { Err(corrupt("a packed section's length")) }
    }

    /// Reads a length and takes that many bytes.
    pub fn section(&mut self) -> Result<&'a [u8]> {
        let len = self.size()?;
        self.take(len)
    }
}

/// Appends `section` behind its length.
pub fn put_section(out: &mut Vec<u8>, section: &[u8]) {
    put_varint(out, section.len() as u64);
    out.extend_from_slice(section);
}

/// Appends `bytes` as a packed section.
pub fn put_packed(out: &mut Vec<u8>, bytes: &[u8], level: i32) -> Result<()> {
    put_varint(out, bytes.len() as u64);
    let packed = zstd::bulk::compress(bytes, level)?;
    put_section(out, if packed.len() < bytes.len() { &packed } else { bytes });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_an_endless_one_is_refused() {
        let values = [0, 1, 127, 128, 1 << 35, u64::MAX];
        let mut bytes = Vec::new();
        values.iter().for_each(|&value| put_varint(&mut bytes, value));
        let mut reader = Reader::new(&bytes);
        assert!(values.iter().all(|&value| reader.varint().is_ok_and(|read| read == value)));
        assert!(reader.is_empty() && reader.varint().is_err());
        assert!(Reader::new(&[0x80; 11]).varint().is_err());
        assert!([0, -1, i64::MIN, i64::MAX].iter().all(|&value| unzigzag(zigzag(value)) == value));
    }

    #[test]
    fn a_packed_section_comes_back_and_a_lying_one_is_refused() {
        for plain in [&b"abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc"[..], b"xyz", b""] {
            let mut bytes = Vec::new();
            put_packed(&mut bytes, plain, 3).expect("packed");
            assert_eq!(Reader::new(&bytes).packed(plain.len()).expect("unpacked"), plain);
            assert!(plain.is_empty() || Reader::new(&bytes).packed(plain.len() - 1).is_err());
            bytes[0] = bytes[0].wrapping_add(1);
            assert!(Reader::new(&bytes).packed(100).is_err());
        }
    }
}
