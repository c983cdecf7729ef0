//! zstd, alone for whole objects and with the base as prefix for deltas (the `--patch-from` of its own tool).
//!
//! # Limitations
//! Base and target must fit into one window of 2 GiB. Compressed content (ZIP, PNG) yields next to nothing.

use std::cell::Cell;
use std::io::{self, BufReader, Read, Write};

use zstd::bulk::Compressor;
use zstd::stream::{read, write};

use super::{Effort, Error, Pair, Result, Work};
use crate::model::limits::{BUFFER_BYTES, SMALL_OBJECT_MAX_BYTES, ZSTD_WINDOW_MAX_BYTES};

/// The largest window that decoding a whole copy may ask for: 128 MiB, the bound of zstd's own tool.
const WHOLE_WINDOW_LOG_MAX: u32 = 27;
const WINDOW_LOG_MIN: u32 = 17;
const WINDOW_LOG_MAX: u32 = 31;

/// Returns whether base and target fit into one window.
pub(super) const fn takes(base_size: u64, target_size: u64) -> bool {
    base_size.saturating_add(target_size) < ZSTD_WINDOW_MAX_BYTES
}

/// Levels above 9 were measured to be pathological with a large prefix: slower *and* larger.
const fn delta_level(effort: Effort) -> i32 {
    match effort {
        Effort::Fast => 3,
        Effort::Default => 6,
        Effort::Max => 9,
    }
}

const fn whole_level(effort: Effort) -> i32 {
    match effort {
        Effort::Fast => 1,
        Effort::Default => 3,
        Effort::Max => 12,
    }
}

/// Returns the smallest window that holds `size` bytes.
fn window_log(size: u64) -> u32 {
    (u64::BITS - size.saturating_sub(1).leading_zeros()).clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX)
}

pub(super) fn encode_whole(
    target: &mut dyn Read,
    size: u64,
    work: &Work<'_>,
    sink: &mut dyn Write,
) -> Result<()> {
    if size <= SMALL_OBJECT_MAX_BYTES {
        return encode_small(target, size, work, sink);
    }
    let encoder = write::Encoder::new(sink, whole_level(work.effort))?;
    run(encoder, target, size, work)
}

thread_local! {
    /// The encoder of the last small object of this thread, and its level: to make one takes longer than to use it.
    static SMALL: Cell<Option<(i32, Compressor<'static>)>> = const { Cell::new(None) };
}

fn encode_small(target: &mut dyn Read, size: u64, work: &Work<'_>, sink: &mut dyn Write) -> Result<()> {
    let mut bytes = Vec::with_capacity(size as usize + 1);
    target.take(size + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        let reason = "the object is shorter or longer than it was said to be";
        return Err(Error::Io(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    let level = whole_level(work.effort);
    let mut compressor = match SMALL.take() {
        Some((same, compressor)) if same == level => compressor,
        _ => Compressor::new(level)?,
    };
    compressor.include_checksum(true)?;
    sink.write_all(&compressor.compress(&bytes)?)?;
    SMALL.set(Some((level, compressor)));
    (work.watch)(size)?;
    Ok(())
}

pub(super) fn encode_delta(pair: Pair<'_>, work: &Work<'_>, sink: &mut dyn Write) -> Result<()> {
    let Pair { base, mut target } = pair;
    let size = target.len() as u64;
    let mut encoder = write::Encoder::with_ref_prefix(sink, delta_level(work.effort), base)?;
    encoder.window_log(window_log(base.len() as u64 + size))?;
    encoder.long_distance_matching(true)?;
    run(encoder, &mut target, size, work)
}

fn run(
    mut encoder: write::Encoder<'_, &mut dyn Write>,
    target: &mut dyn Read,
    size: u64,
    work: &Work<'_>,
) -> Result<()> {
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(size))?;
    crate::disk::copy(target, &mut encoder, &mut |bytes| (work.watch)(bytes.len() as u64))?;
    // Fails when the target is shorter or longer than it was said to be.
    encoder.finish()?;
    Ok(())
}

pub(super) fn decode(
    base: &[u8],
    payload: &mut dyn Read,
    size: u64,
    work: &Work<'_>,
    sink: &mut dyn Write,
) -> Result<()> {
    let largest = match base.len() as u64 {
        0 => WHOLE_WINDOW_LOG_MAX,
        base_size => window_log(base_size.saturating_add(size)).max(WHOLE_WINDOW_LOG_MAX),
    };
    let payload = BufReader::with_capacity(BUFFER_BYTES, Payload(payload));
    let mut decoder = read::Decoder::with_ref_prefix(payload, base)?.single_frame();
    decoder.window_log_max(largest)?;
    let written = copy_at_most(&mut decoder, size, work, sink)?;
    if written != size {
        return Err(corrupt(format!("the payload holds {written} bytes instead of {size}")));
    }
    let mut rest = [0];
    if decoder.finish().read(&mut rest).map_err(sort)? != 0 {
        return Err(corrupt("something follows the payload's only frame".into()));
    }
    Ok(())
}

/// Copies up to `size` bytes and fails where one more would come.
fn copy_at_most(reader: &mut dyn Read, size: u64, work: &Work<'_>, sink: &mut dyn Write) -> Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut written = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(written),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(sort(error)),
        };
        written += count as u64;
        if written > size {
            return Err(corrupt(format!("the payload holds more than {size} bytes")));
        }
        sink.write_all(&buffer[..count])?;
        (work.watch)(count as u64)?;
    }
}

/// A payload whose failures can be told from what zstd finds wrong with its bytes.
struct Payload<'a>(&'a mut dyn Read);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(io::Error);

impl Read for Payload<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| io::Error::new(error.kind(), Unreadable(error)))
    }
}

fn sort(error: io::Error) -> Error {
    match error.downcast::<Unreadable>() {
        Ok(Unreadable(below)) => Error::Io(below),
        Err(error) => corrupt(format!("zstd: {error}")),
    }
}

fn corrupt(reason: String) -> Error {
    Error::Corrupt { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that compress badly, the same for the same seed.
    fn noise(seed: u64, size: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..size).map(|_| next()).collect()
    }

    fn work() -> Work<'static> {
        Work {
            effort: Effort::Default,
            threads: 1,
            memory: 0,
            scratch: &crate::codec::Memory,
            watch: &|_| Ok(()),
        }
    }

    fn delta(base: &[u8], target: &[u8]) -> Vec<u8> {
        let mut sink = Vec::new();
        encode_delta(Pair { base, target }, &work(), &mut sink).expect("encode");
        sink
    }

    fn restore(base: &[u8], payload: &[u8], size: usize) -> Result<Vec<u8>> {
        let mut sink = Vec::new();
        decode(base, &mut &payload[..], size as u64, &work(), &mut sink)?;
        Ok(sink)
    }

    #[test]
    fn a_shifted_target_costs_little_and_comes_back_exactly() {
        let base = noise(1, 300_000);
        let target = [b"inserted".as_slice(), &base[..200_000], &base[201_000..]].concat();
        let payload = delta(&base, &target);
        assert!(payload.len() < 200, "{} bytes", payload.len());
        assert_eq!(restore(&base, &payload, target.len()).expect("decode"), target);
    }

    #[test]
    fn empty_and_tiny_objects_come_back() {
        for target in [b"".as_slice(), b"x"] {
            assert_eq!(restore(b"base", &delta(b"base", target), target.len()).expect("decode"), target);
            assert_eq!(restore(b"", &delta(b"", target), target.len()).expect("decode"), target);
        }
    }

    #[test]
    fn a_payload_that_lies_about_its_size_is_refused() {
        let target = noise(2, 10_000);
        let payload = delta(b"base", &target);
        for size in [9_999, 10_001, 0] {
            assert!(matches!(restore(b"base", &payload, size), Err(Error::Corrupt { .. })), "{size}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_announced_size() {
        let zeros = vec![0; 64 << 20];
        let bomb = delta(b"", &zeros);
        assert!(bomb.len() < 10_000);
        let mut written = 0;
        let mut sink = Counter(&mut written);
        let outcome = decode(b"", &mut &bomb[..], 1_000_000, &work(), &mut sink);
        assert!(matches!(outcome, Err(Error::Corrupt { .. })));
        assert!(written <= 1_000_000, "{written} bytes were written");
    }

    #[test]
    fn damage_is_an_error_and_never_other_bytes() {
        let base = noise(3, 50_000);
        let target = [&base[10_000..], &noise(4, 5_000)].concat();
        let payload = delta(&base, &target);
        for at in (0..payload.len()).step_by(7) {
            let mut damaged = payload.clone();
            damaged[at] ^= 0x10;
            if let Ok(bytes) = restore(&base, &damaged, target.len()) {
                assert_eq!(bytes, target, "byte {at}");
            }
            assert!(restore(&base, &payload[..at], target.len()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn bytes_after_the_frame_are_refused() {
        let mut payload = delta(b"base", b"target");
        payload.push(0);
        assert!(matches!(restore(b"base", &payload, 6), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn a_target_of_another_size_than_announced_fails_to_encode() {
        let mut reader = b"abc".as_slice();
        let mut sink = Vec::new();
        let outcome = encode_whole(&mut reader, 4, &work(), &mut sink);
        assert!(outcome.is_err());
    }

    #[test]
    fn pairs_over_the_window_are_declined() {
        assert!(takes(1 << 30, (1 << 30) - 1));
        assert!(!takes(1 << 30, 1 << 30));
        assert!(!takes(u64::MAX, 1));
    }

    struct Counter<'a>(&'a mut usize);

    impl Write for Counter<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            *self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
