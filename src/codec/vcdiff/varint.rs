//! The integers of RFC 3284: seven bits a byte, the highest first.

use std::io::{self, Read};

use crate::codec::{Error, Result, corrupt};

/// Appends `value` to `out`.
pub fn put(out: &mut Vec<u8>, value: u64) {
    for digit in (1..size(value)).rev() {
        out.push((value >> (7 * digit)) as u8 | 0x80);
    }
    out.push(value as u8 & 0x7F);
}

/// Returns how many bytes `value` takes.
pub const fn size(value: u64) -> usize {
    let bits = 64 - value.leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

/// Takes an integer off the front of `bytes`.
///
/// # Errors
/// `Corrupt` when it is cut or does not fit 64 bits.
pub fn take(bytes: &mut &[u8]) -> Result<u64> {
    decode(|| match bytes.split_first() {
        Some((&byte, rest)) => {
            *bytes = rest;
            Ok(byte)
        }
        None => Err(corrupt("a section of the delta ends within a number")),
    })
}

/// Reads an integer.
///
/// # Errors
/// `Corrupt` when it is cut or does not fit 64 bits; `Io` from the reader.
pub fn read(reader: &mut dyn Read) -> Result<u64> {
    decode(|| read_byte(reader))
}

/// Reads a byte that must be there.
///
/// # Errors
/// `Corrupt` when it is not; `Io` from the reader.
pub fn read_byte(reader: &mut dyn Read) -> Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte).map_err(cut)?;
    Ok(byte[0])
}

/// Tells a cut delta from a failing reader.
pub fn cut(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => corrupt("the delta is cut"),
        _ => Error::Io(error),
    }
}

fn decode(mut next: impl FnMut() -> Result<u8>) -> Result<u64> {
    let mut value = 0u64;
    loop {
        let byte = next()?;
        if value >> 57 != 0 {
            return Err(corrupt("a number in the delta is too large"));
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_they_were_written() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put(&mut bytes, value);
                assert_eq!(bytes.len(), size(value));
                assert_eq!(read(&mut &bytes[..]).expect("whole"), value);
                let mut rest = &bytes[..];
                assert_eq!(take(&mut rest).expect("whole"), value);
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn the_example_of_the_specification_holds() {
        let mut bytes = Vec::new();
        put(&mut bytes, 123_456_789);
        assert_eq!(bytes, [0xBA, 0xEF, 0x9A, 0x15]);
    }

    #[test]
    fn cut_and_too_large_numbers_are_refused() {
        assert!(take(&mut &[0x80, 0x80][..]).is_err());
        assert!(take(&mut &[][..]).is_err());
        assert!(take(&mut &[0xFF; 11][..]).is_err());
        assert!(read(&mut &[0xFF; 11][..]).is_err());
    }
}
