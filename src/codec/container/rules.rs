//! What a recipe need not say, because the bytes in front of a member say it.
//!
//! Part of the format: a recipe refers to these answers, so they may never change. Wrong answers
//! are harmless, the recipe then tells the number.

use super::gzip;
use super::scan::le;

/// What the bytes in front of a member say about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Preface {
    /// Bytes between the end of the member before and this one.
    pub gap: usize,
    /// Packed bytes, unless that follows behind the member.
    pub packed: Option<usize>,
    /// Plain bytes, likewise.
    pub plain: Option<usize>,
    /// A data descriptor with both follows behind.
    pub described: bool,
}

const LOCAL: &[u8] = b"PK\x03\x04";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";
const DESCRIPTOR_BYTES: usize = 16;
const HAS_DESCRIPTOR: u64 = 8;

/// Members shorter than this have no entry in a recipe.
pub const MEMBER_BYTES_MIN: usize = 48;
/// Short members that are passed on the way to the next one.
const SHORT_MEMBERS_MAX: usize = 1000;

/// Reads what is at the end of the member before: a data descriptor, local headers with short
/// members, the local header of the next; or a gzip or zlib header.
pub fn preface(bytes: &[u8]) -> Option<Preface> {
    let mut skipped = 0;
    for _ in 0..SHORT_MEMBERS_MAX {
        if bytes.get(skipped..)?.starts_with(DESCRIPTOR) {
            skipped += DESCRIPTOR_BYTES;
        }
        if !bytes.get(skipped..)?.starts_with(LOCAL) {
            break;
        }
        let preface = local_header(bytes, skipped)?;
        match short_len(bytes, &preface) {
            Some(len) => skipped = preface.gap + len,
            None => return Some(preface),
        }
    }
    stream_header(bytes)
}

/// Says whether [`preface`] says the same of `bytes` whatever follows them.
pub fn is_settled(bytes: &[u8]) -> bool {
    match preface(bytes) {
        // A local header: everything in front of the member was there to be read.
        Some(Preface { gap, packed: Some(_), .. }) => gap <= bytes.len(),
        // And as much of the member as tells that it is not a short one.
        Some(Preface { gap, described: true, .. }) => {
            bytes.len() >= gap + MEMBER_BYTES_MIN + DESCRIPTOR_BYTES
        }
        // The header of a stream, which starts like no header of a ZIP that is cut off here.
        Some(_) => true,
        None => false,
    }
}

fn stream_header(bytes: &[u8]) -> Option<Preface> {
    if let Some(gap) = gzip::header_len(bytes) {
        return Some(Preface { gap, ..Preface::default() });
    }
    match bytes {
        [0x78, check, ..] if (0x7800 | u32::from(*check)) % 31 == 0 => {
            Some(Preface { gap: 2, ..Preface::default() })
        }
        _ => None,
    }
}

fn local_header(bytes: &[u8], at: usize) -> Option<Preface> {
    let names = le::<2>(bytes, at + 26)? + le::<2>(bytes, at + 28)?;
    let gap = at + 30 + names as usize;
    let described = le::<2>(bytes, at + 6)? & HAS_DESCRIPTOR != 0;
    let size = |field| le::<4>(bytes, at + field).map(|size| size as usize).filter(|_| !described);
    Some(Preface { gap, packed: size(18), plain: size(22), described })
}

/// Returns the length of the member behind a header if it has no entry in the recipe.
fn short_len(bytes: &[u8], preface: &Preface) -> Option<usize> {
    let near = bytes.get(preface.gap..)?;
    let near = &near[..near.len().min(MEMBER_BYTES_MIN + DESCRIPTOR_BYTES)];
    let described = || described_len(near).filter(|_| preface.described);
    preface.packed.or_else(described).filter(|&len| len < MEMBER_BYTES_MIN)
}

/// Returns how long the member at the front of `bytes` is, if a data descriptor behind it says so.
pub fn described_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == b'P')?;
        let is_descriptor = bytes[at..].starts_with(DESCRIPTOR);
        if is_descriptor && le::<4>(bytes, at + 8) == Some(at as u64) {
            return Some(at);
        }
        at += 1;
    }
}

/// Returns the plain length that a gzip trailer in the expanded form claims: the first length that
/// is followed by itself.
pub fn trailed_len(bytes: &[u8]) -> Option<usize> {
    let fields = bytes.get(4..)?;
    let block_start = (0..fields.len()).step_by(TRAILED_BLOCK).find(|&start| {
        let end = (start + TRAILED_BLOCK + 3).min(fields.len());
        any_trailed(&fields[start..end], start as u32)
    })?;
    let near = fields[block_start..].windows(4).enumerate();
    near.map(|(index, field)| (block_start + index, field))
        .find(|&(len, field)| field == (len as u32).to_le_bytes())
        .map(|(len, _)| len)
}

/// Positions compared at once.
const TRAILED_BLOCK: usize = 256;

/// Says whether a field at `start` or later holds its own position; field by field, but in four
/// passes over separate words, which compilers turn into wide comparisons.
fn any_trailed(fields: &[u8], start: u32) -> bool {
    (0..4u32).any(|phase| {
        let words = fields.get(phase as usize..).unwrap_or(&[]).as_chunks::<4>().0;
        let first = start.wrapping_add(phase);
        let equal = |(index, word): (u32, &[u8; 4])| {
            u32::from(u32::from_le_bytes(*word) == first.wrapping_add(index * 4))
        };
        (0u32..).zip(words).map(equal).fold(0, |any, equal| any | equal) != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{Method, text, zip};

    #[test]
    fn what_is_settled_does_not_change_with_what_follows() {
        let members = [1, 40, 1, 1, 40].map(|lines| text(lines as u64, lines));
        for method in [Method::Stored, Method::Deflated, Method::Described] {
            let file = zip(&members.clone().map(|plain| (method, plain)));
            let mut settled = 0;
            for end in 0..file.len() {
                if is_settled(&file[..end]) {
                    settled += 1;
                    assert_eq!(preface(&file[..end]), preface(&file), "{end} bytes");
                }
            }
            assert!(settled > 0, "nothing was ever settled");
        }
    }
}
