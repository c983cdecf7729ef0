//! The other way to code a target: one zstd frame with the base as its prefix.
//!
//! It wins on text with many small edits, where matches are short, regular and dense. Whether a
//! target is of that kind is guessed from samples, so that nothing else pays for the attempt.

use std::io::{self, Read, Write};

use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

use crate::codec::bytes::bit_length;
use crate::codec::{Effort, Result, Work, corrupt};

/// Both sides together must fit zstd's largest window.
const BYTES_MAX: usize = 1 << 31;
/// The whole delta is held while the frame is tried.
const TARGET_MAX: usize = 1 << 29;
const LEVEL: i32 = 9;
/// A whole copy at most effort; without a prefix the highest levels behave.
const ALONE_LEVEL_MAX: i32 = 19;
const ALONE_WINDOW_LOG_MAX: u32 = 27;
/// Bytes between two looks at the watch.
const WATCHED: usize = 1 << 20;
const SAMPLES: usize = 64;
const SAMPLE: usize = 256;

/// Whether a target is worth trying: text, and small enough.
pub fn suits(base: &[u8], target: &[u8], effort: Effort) -> bool {
    let fits = base.len() + target.len() < BYTES_MAX && target.len() < TARGET_MAX;
    fits && effort != Effort::Fast && target.len() >= SAMPLES * SAMPLE && is_text(target)
}

fn is_text(bytes: &[u8]) -> bool {
    let mut samples = bytes.chunks(SAMPLE).step_by(bytes.len() / (SAMPLES * SAMPLE));
    let is_printable = |byte: &u8| matches!(byte, 9 | 10 | 13 | 32..=126 | 128..);
    samples.all(|sample| sample.iter().all(is_printable))
}

/// Whether a delta is large enough for another way to save something worth its time.
pub fn may_beat(delta_len: usize, target_len: usize) -> bool {
    delta_len > target_len / 400
}

/// Compresses `target` if that takes less than `len_max` bytes.
///
/// # Errors
/// `Io` of the watch.
pub fn compress(base: &[u8], target: &[u8], work: &Work<'_>, len_max: usize) -> Result<Option<Vec<u8>>> {
    let level = if work.effort == Effort::Fast { 3 } else { LEVEL };
    let Ok(mut encoder) = encoder(base, target.len(), level) else { return Ok(None) };
    for piece in target.chunks(WATCHED) {
        (work.watch)(0)?;
        if encoder.write_all(piece).is_err() || encoder.get_ref().len() >= len_max {
            return Ok(None);
        }
    }
    Ok(encoder.finish().ok().filter(|frame| frame.len() < len_max))
}

fn encoder(base: &[u8], target_len: usize, level: i32) -> io::Result<Encoder<'_, Vec<u8>>> {
    let mut encoder = Encoder::with_ref_prefix(Vec::new(), level, base)?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    encoder.set_parameter(CParameter::WindowLog(window_log(base.len(), target_len)))?;
    Ok(encoder)
}

/// Compresses `target` without a base.
pub fn compress_alone(target: &[u8], work: &Work<'_>, out: &mut dyn Write) -> Result<()> {
    let level = if work.effort == Effort::Max { ALONE_LEVEL_MAX } else { LEVEL };
    let mut encoder = Encoder::new(out, level)?;
    encoder.set_parameter(CParameter::WindowLog(window_log(0, target.len()).min(ALONE_WINDOW_LOG_MAX)))?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    for piece in target.chunks(WATCHED) {
        (work.watch)(piece.len() as u64)?;
        encoder.write_all(piece)?;
    }
    encoder.finish()?;
    Ok(())
}

/// The least window that reaches from the target's end to the base's begin.
fn window_log(base_len: usize, target_len: usize) -> u32 {
    bit_length((base_len + target_len) as u64).clamp(10, 31)
}

/// Writes the `target_len` bytes that a frame holds.
pub fn expand(
    base: &[u8],
    frame: &[u8],
    target_len: u64,
    work: &Work<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let damaged = || corrupt("its zstd frame");
    let decoder = zstd::stream::read::Decoder::with_ref_prefix(frame, base);
    let mut decoder = decoder.map_err(|_| damaged())?;
    let log = window_log(base.len(), usize::try_from(target_len).map_err(|_| damaged())?);
    decoder.window_log_max(log).map_err(|_| damaged())?;
    let mut buffer = vec![0; 1 << 17];
    let mut left = target_len;
    loop {
        let len = decoder.read(&mut buffer).map_err(|_| damaged())?;
        left = left.checked_sub(len as u64).ok_or_else(damaged)?;
        if len == 0 {
            return if left == 0 { Ok(()) } else { Err(damaged()) };
        }
        (work.watch)(len as u64)?;
        out.write_all(&buffer[..len])?;
    }
}
