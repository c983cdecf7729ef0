//! Finds what may be opened, by the bytes alone.

use std::ops::Range;

use super::rules::MEMBER_BYTES_MIN;
use super::{gzip, loose, png, zip};

/// How a member's bytes are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A deflate stream, possibly with something behind it.
    Deflate,
    /// The same, but where it ends is a guess.
    Unbounded,
    /// A PNG's run of IDAT chunks, which share one zlib stream.
    ImageData,
    /// Anything else that is worth recognising when it is unchanged: stored or encrypted members.
    Opaque,
}

/// A part of a file that may be opened or left closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Where its bytes are.
    pub range: Range<usize>,
    /// How they are stored.
    pub kind: Kind,
}

/// Finds the members of a whole file, in order and without overlap.
pub fn file(bytes: &[u8]) -> Vec<Member> {
    let mut found = container(bytes);
    if found.is_empty() {
        found = zip::members(bytes); // something may be in front of it
    }
    if found.is_empty() {
        found = loose::members(bytes);
    }
    in_order(found)
}

/// Finds the members of something found inside a file; loose streams are not looked for.
pub fn inner(bytes: &[u8]) -> Vec<Member> {
    let found = container(bytes);
    let found = if found.is_empty() { loose::tar_members(bytes) } else { found };
    in_order(found)
}

/// Finds the members of a container that starts at the first byte.
pub fn container(bytes: &[u8]) -> Vec<Member> {
    match bytes {
        [0x1f, 0x8b, 8, ..] => gzip::members(bytes),
        [0x89, b'P', b'N', b'G', ..] => png::members(bytes),
        [b'P', b'K', 3, 4, ..] => zip::members(bytes),
        _ => Vec::new(),
    }
}

fn in_order(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by_key(|member| member.range.start);
    let mut end = 0;
    members.retain(|member| {
        let keep = member.range.start >= end && member.range.len() >= MEMBER_BYTES_MIN;
        if keep {
            end = member.range.end;
        }
        keep
    });
    members
}

/// Reads a little-endian number of `N` bytes at `at`, if it is there.
pub fn le<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field: &[u8; N] = bytes.get(at..)?.first_chunk()?;
    Some(field.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// Reads a big-endian number of 4 bytes at `at`, if it is there.
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
