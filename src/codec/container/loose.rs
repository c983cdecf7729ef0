//! Streams in files of no known structure: PDF, .blend, FBX, EXR, PSD, TIFF, tar and the like.
//!
//! A zlib stream says little about itself: its first byte is mostly 0x78, two bytes are a multiple
//! of 31, and an Adler-32 follows. Candidates are inflated to see; what inflates to the end and has
//! the right checksum is one.

use super::scan::{Kind, Member, be32, container};
use crate::codec::deflate::checksum::adler32;
use crate::codec::deflate::inflate::Splitter;
use crate::codec::deflate::ledger::Ledger;
use crate::codec::scratch::{Memory, Spool};

/// Failed candidates per found stream after which the search ends.
const FAILURES_MAX: usize = 20_000;
/// Failed candidates allowed before the first stream is found.
const FAILURES_FREE: usize = 20_000;
/// Plain bytes of the largest stream looked for.
const PLAIN_MAX: u64 = 256 << 20;
/// Plain bytes below which a stream is not worth opening.
const PLAIN_MIN: usize = 64;
const TAR_BLOCK: usize = 512;
/// In a native image, streams of less than one part in so many stay closed.
const NATIVE_PARTS: usize = 4;

/// Returns the members of the files in a tar, or the loose streams of anything else.
///
/// Opening a stream moves everything behind it. In a native image that hides the addresses which the
/// flat stage predicts, so streams must be a good part of it.
pub fn members(bytes: &[u8]) -> Vec<Member> {
    let mut found = tar_members(bytes);
    if found.is_empty() {
        found = streams(bytes);
    }
    let packed: usize = found.iter().map(|member| member.range.len()).sum();
    if is_native(bytes) && packed < bytes.len() / NATIVE_PARTS {
        found.clear();
    }
    found
}

/// Whether a file begins like an ELF, PE or Mach-O image.
fn is_native(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x7F, b'E', b'L', b'F', ..]
            | [b'M', b'Z', ..]
            | [0xCF, 0xFA, 0xED, 0xFE, ..]
            | [0xCA, 0xFE, 0xBA, 0xBE, ..]
    )
}

/// Returns the members of the containers stored in a tar; none when it is no tar.
pub fn tar_members(bytes: &[u8]) -> Vec<Member> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + TAR_BLOCK) {
        let Some(size) = tar_size(header) else { break };
        let start = at + TAR_BLOCK;
        let Some(body) = bytes.get(start..start + size) else {
            break;
        };
        found.extend(container(body).into_iter().map(|member| shifted(member, start)));
        at = start + size.next_multiple_of(TAR_BLOCK);
    }
    found
}

/// Reads the size field of a tar header; `None` when it is no header.
fn tar_size(header: &[u8]) -> Option<usize> {
    (&header[257..262] == b"ustar").then_some(())?;
    let digits = header[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(byte));
    Some(digits.fold(0, |size, &digit| size * 8 + usize::from(digit - b'0')))
}

/// Moves a member found in a part of a file to where it is in the whole.
pub fn shifted(member: Member, by: usize) -> Member {
    Member { range: member.range.start + by..member.range.end + by, kind: member.kind }
}

fn streams(bytes: &[u8]) -> Vec<Member> {
    let Ok(mut probe) = Probe::new() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (mut at, mut failures) = (0, 0);
    while let Some(start) = next_candidate(bytes, at) {
        match probe.zlib_len(&bytes[start..]) {
            Some(len) => {
                found.push(Member { range: start + 2..start + 2 + len, kind: Kind::Deflate });
                at = start + 2 + len;
            }
            None => {
                failures += 1;
                at = start + 1;
            }
        }
        if failures > FAILURES_FREE + FAILURES_MAX * found.len() {
            break;
        }
    }
    found
}

fn next_candidate(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr::memchr_iter(0x78, rest).find(|&at| is_candidate(&rest[at..])).map(|at| from + at)
}

/// A zlib header as encoders write it, and a block of type 1 or 2 or a consistent stored one.
fn is_candidate(bytes: &[u8]) -> bool {
    let [0x78, 0x01 | 0x5e | 0x9c | 0xda, first, ..] = *bytes else {
        return false;
    };
    match first >> 1 & 3 {
        0 => matches!(bytes[2..], [0 | 1, a, b, c, d, ..] if a == !c && b == !d),
        1 | 2 => true,
        _ => false,
    }
}

/// Inflates candidates to see whether they are streams.
struct Probe {
    splitter: Splitter,
    plain: Spool,
    ledger: Ledger,
}

impl Probe {
    fn new() -> std::io::Result<Self> {
        let (plain, ledger) = (Spool::new(&Memory)?, Ledger::new(&Memory)?);
        Ok(Self { splitter: Splitter::default(), plain, ledger })
    }

    /// Returns the length of the deflate stream behind the zlib header at the front of `bytes`.
    fn zlib_len(&mut self, bytes: &[u8]) -> Option<usize> {
        let mark = self.ledger.mark();
        let split = self.splitter.split(&bytes[2..], PLAIN_MAX, &mut self.plain, &mut self.ledger);
        let stream = split.ok().flatten()?;
        let plain = self.plain.bytes();
        let sound = plain.len() >= PLAIN_MIN
            && be32(bytes, 2 + stream.packed).is_some_and(|check| check == adler32(plain));
        self.plain.truncate(0);
        self.ledger.rewind(mark);
        sound.then_some(stream.packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zlib stream of one stored block.
    fn stream(plain: &[u8]) -> Vec<u8> {
        let len = (plain.len() as u16).to_le_bytes();
        let mut stream = vec![0x78, 0x01, 1, len[0], len[1], !len[0], !len[1]];
        stream.extend_from_slice(plain);
        stream.extend_from_slice(&adler32(plain).to_be_bytes());
        stream
    }

    fn file(magic: &[u8], rest: usize) -> Vec<u8> {
        [magic, &[0; 60], &stream(&[b'p'; 500])[..], &vec![0; rest]].concat()
    }

    #[test]
    fn native_images_keep_streams_that_are_a_small_part_of_them_closed() {
        assert_eq!(members(&file(b"\x7fELF", 10_000)), []);
        assert_eq!(members(&file(b"MZ\x90\0", 10_000)), []);
        assert_eq!(members(&file(b"\xcf\xfa\xed\xfe", 10_000)), []);
        assert_eq!(members(&file(b"\x7fELF", 100)).len(), 1);
        assert_eq!(members(&file(b"%PDF", 10_000)).len(), 1);
    }
}
