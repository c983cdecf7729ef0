//! gzip, with any number of members.

use super::scan::{Kind, Member};

const FLAG_HEADER_CRC: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;
const FLAGS_RESERVED: u8 = 0xe0;
const FIXED_BYTES: usize = 10;
/// CRC-32 and length behind a stream.
pub const TRAILER_BYTES: usize = 8;

/// Returns the length of the gzip header at the front of `bytes`.
pub fn header_len(bytes: &[u8]) -> Option<usize> {
    let [0x1f, 0x8b, 8, flags, ..] = *bytes else {
        return None;
    };
    if flags & FLAGS_RESERVED != 0 {
        return None;
    }
    let mut at = FIXED_BYTES;
    if flags & FLAG_EXTRA != 0 {
        at += 2 + usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            at += bytes.get(at..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some(at)
}

/// Returns the streams of a gzip file.
///
/// Where one member ends shows only when it is inflated; what looks like the next member's header
/// is taken for it. A wrong guess is noticed when the stream is opened.
pub fn members(bytes: &[u8]) -> Vec<Member> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..).and_then(header_len) {
        let start = at + header;
        let next = next_header(bytes, start + TRAILER_BYTES);
        let end = next.unwrap_or(bytes.len()).saturating_sub(TRAILER_BYTES);
        if end > start {
            found.push(Member { range: start..end, kind: Kind::Unbounded });
        }
        let Some(next) = next else { break };
        at = next;
    }
    found
}

fn next_header(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(step) = bytes.get(at..)?.iter().position(|&byte| byte == 0x1f) {
        at += step;
        if is_plausible(&bytes[at..]) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Says whether a header starts here that some program would write.
fn is_plausible(bytes: &[u8]) -> bool {
    matches!(bytes, [0x1f, 0x8b, 8, _, _, _, _, _, 0 | 2 | 4, 0..=13 | 255, ..])
        && header_len(bytes).is_some()
}
