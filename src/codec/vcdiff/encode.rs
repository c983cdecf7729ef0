//! Writes a delta: copies from the matcher, cut into windows, each kind of section compressed with LZMA.
//!
//! Addresses are always written as the distance back (`MODE_HERE`). In a window that distance is the same for
//! all copies at one shift: where xdelta3 looks for the shortest address, the same four bytes again are what
//! LZMA compresses to nothing.

use std::io::{self, Write};

use super::density::{millibits, repeated_permille};
use super::header::Header;
use super::instruction::{put_add, put_copy};
use super::matching::find_copies;
use super::secondary::{Context, Model, Search, Secondary, Squeezer};
use super::texts::{Copy, Texts};
use super::{WINDOW_ADLER, WINDOW_SOURCE, checksum, varint};
use crate::codec::{Effort, Result};

/// Bytes of a window: the most that stock xdelta3 reads. It writes 8 MiB, but every window costs a header, the ends of
/// three streams, and what it could have copied from the one before.
const WINDOW_BYTES: usize = 16 << 20;

/// Bytes of the base that copies come from: xdelta3 counts in 32 bits.
const BASE_MAX_BYTES: usize = 1 << 31;

/// The kinds of section, in their order.
const DATA: usize = 0;
const INSTRUCTIONS: usize = 1;
const ADDRESSES: usize = 2;
/// Bytes that take more than this may be compressed already.
const DENSE_MILLIBITS: u64 = 7900;
/// Data of which a sample stays larger than this is not compressed: LZMA takes most of the time.
const DENSE_PERMILLE: usize = 992;
/// Data of which more than this occurs twice is compressed all the same.
const DENSE_REPEATED_PERMILLE: u32 = 20;
/// Bytes of a section that are compressed to see what comes of it.
const SAMPLE_BYTES: usize = 128 << 10;
/// Bytes that are compressed to find out what predicts a kind of section.
const MODEL_SAMPLE_BYTES: usize = 256 << 10;
/// Below this the best compression takes no time.
const SMALL_BYTES: usize = 256 << 10;
/// Above this, weighing what LZMA finds takes longer than it gains.
const LARGE_BYTES: usize = 512 << 10;
/// Above this LZMA finds little, however hard it looks, unless more than a little occurs twice.
const LIGHT_MILLIBITS: u64 = 7000;
const LIGHT_REPEATED_PERMILLE: u32 = 30;
/// Below this, looking far finds less than the longer distances cost.
const NEAR_REPEATED_PERMILLE: u32 = 3;

/// Writes a delta; see `super::encode`.
pub fn encode(
    base: &[u8],
    target: &[u8],
    effort: Effort,
    sink: &mut dyn Write,
    check: &dyn Fn() -> io::Result<()>,
) -> Result<()> {
    let base = &base[..base.len().min(BASE_MAX_BYTES)];
    let step = match effort {
        Effort::Fast => 8,
        Effort::Default => 4,
        Effort::Max => 2,
    };
    let texts = Texts { base, target, window: WINDOW_BYTES };
    let mut windows = split(texts, &find_copies(texts, step, check)?);
    let is_packed = pack(&mut windows, effort, check)?;
    let secondary = is_packed.then_some(Secondary::Lzma);
    sink.write_all(&Header { secondary, app_header: None }.to_bytes())?;
    for window in &windows {
        check()?;
        window.write(base.len(), sink)?;
    }
    Ok(())
}

/// A window on its way into the delta.
struct Window<'a> {
    target: &'a [u8],
    sections: [Vec<u8>; 3],
    /// A bit for each kind of section that is compressed.
    packed: u8,
}

/// Cuts target and copies into windows.
fn split<'a>(texts: Texts<'a>, copies: &[Copy]) -> Vec<Window<'a>> {
    let target = texts.target;
    let mut copies = copies.iter().copied().peekable();
    let mut windows = Vec::new();
    let mut at = 0;
    // Stock xdelta3 makes no file of a delta without windows, so there is one for an empty target too.
    while at < target.len() || windows.is_empty() {
        let end = texts.window_of(at).end;
        let mut window = Window { target: &target[at..end], sections: Default::default(), packed: 0 };
        while let Some(copy) = copies.peek_mut().filter(|copy| copy.target < end) {
            let size = copy.size.min(end - copy.target);
            window.add(&target[at..copy.target]);
            window.copy(texts.distance(*copy), size);
            at = copy.target + size;
            if size < copy.size {
                *copy = Copy { target: at, source: copy.source + size, size: copy.size - size };
                break;
            }
            copies.next();
        }
        window.add(&target[at..end]);
        at = end;
        windows.push(window);
    }
    windows
}

impl Window<'_> {
    fn add(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sections[0].extend_from_slice(bytes);
            put_add(&mut self.sections[1], bytes.len() as u64);
        }
    }

    fn copy(&mut self, distance: usize, size: usize) {
        put_copy(&mut self.sections[1], size as u64);
        varint::put(&mut self.sections[2], distance as u64);
    }

    fn replace(&mut self, kind: usize, packed: Option<Vec<u8>>) {
        if let Some(packed) = packed {
            self.sections[kind] = packed;
            self.packed |= 1 << kind;
        }
    }

    fn write(&self, base_size: usize, sink: &mut dyn Write) -> Result<()> {
        let mut head = Vec::new();
        varint::put(&mut head, self.target.len() as u64);
        head.push(self.packed);
        for section in &self.sections {
            varint::put(&mut head, section.len() as u64);
        }
        head.extend(checksum(self.target).to_be_bytes());
        let mut start = vec![WINDOW_ADLER | if base_size > 0 { WINDOW_SOURCE } else { 0 }];
        if base_size > 0 {
            varint::put(&mut start, base_size as u64);
            varint::put(&mut start, 0);
        }
        let size = head.len() + self.sections.iter().map(Vec::len).sum::<usize>();
        varint::put(&mut start, size as u64);
        for bytes in [&start, &head].into_iter().chain(&self.sections) {
            sink.write_all(bytes)?;
        }
        Ok(())
    }
}

/// Compresses sections, each kind by itself, and returns for which that paid.
fn pack(windows: &mut [Window<'_>], effort: Effort, check: &dyn Fn() -> io::Result<()>) -> Result<bool> {
    let mut any = false;
    for kind in [DATA, INSTRUCTIONS, ADDRESSES] {
        let plain: Vec<&[u8]> = windows.iter().map(|window| &window.sections[kind][..]).collect();
        let packed = pack_kind(&plain, model(kind, &plain, effort)?, check)?;
        let size = |section: &Option<Vec<u8>>, plain: &&[u8]| section.as_ref().map_or(plain.len(), Vec::len);
        let packed_size: usize = packed.iter().zip(&plain).map(|(section, plain)| size(section, plain)).sum();
        if packed_size < plain.iter().map(|plain| plain.len()).sum() {
            any = true;
            for (window, packed) in windows.iter_mut().zip(packed) {
                window.replace(kind, packed);
            }
        }
    }
    Ok(any)
}

/// Compresses sections of one kind; `None` for those that are left as they are.
fn pack_kind(
    plain: &[&[u8]],
    model: Model,
    check: &dyn Fn() -> io::Result<()>,
) -> Result<Vec<Option<Vec<u8>>>> {
    let mut squeezer = Squeezer::new(model)?;
    let mut packed = Vec::new();
    for section in plain {
        check()?;
        let is_left = section.is_empty() || is_dense(section, model)?;
        packed.push(if is_left { None } else { Some(squeezer.squeeze(section)?) });
    }
    Ok(packed)
}

/// Returns whether compressing a section would hardly make it smaller.
fn is_dense(section: &[u8], model: Model) -> Result<bool> {
    if millibits(section) < DENSE_MILLIBITS || repeated_permille(section) > DENSE_REPEATED_PERMILLE {
        return Ok(false);
    }
    let sample = sample(section, SAMPLE_BYTES);
    Ok(trial(&sample, model.context)? * 1000 > sample.len() * DENSE_PERMILLE)
}

/// Chooses how the sections of a kind are compressed.
fn model(kind: usize, plain: &[&[u8]], effort: Effort) -> Result<Model> {
    let size: usize = plain.iter().map(|section| section.len()).sum();
    let repeated = if kind == DATA { repeated_if_dense(plain, size) } else { None };
    let size_max = MODEL_SAMPLE_BYTES / plain.len().max(1);
    let samples: Vec<u8> = plain.iter().flat_map(|section| sample(section, size_max)).collect();
    let context = match kind {
        DATA => data_context(&samples)?,
        INSTRUCTIONS => Context::Before,
        _ => Context::Four,
    };
    let search = match effort {
        Effort::Max => Search::Thorough,
        _ if repeated.is_some_and(|repeated| repeated < NEAR_REPEATED_PERMILLE) => Search::Near,
        _ if repeated.is_some_and(|repeated| repeated < LIGHT_REPEATED_PERMILLE) => Search::Light,
        Effort::Fast => Search::Quick,
        Effort::Default if size < SMALL_BYTES => Search::Thorough,
        Effort::Default if kind == DATA && size > LARGE_BYTES => Search::Quick,
        Effort::Default => Search::Fair,
    };
    Ok(Model { size, context, search })
}

/// How many of a thousand stretches occur twice, of data so dense that LZMA finds little else.
fn repeated_if_dense(plain: &[&[u8]], size: usize) -> Option<u32> {
    let bits: u64 = plain.iter().map(|section| millibits(section) * section.len() as u64).sum();
    let is_dense = bits > LIGHT_MILLIBITS * size as u64;
    if is_dense { plain.iter().map(|section| repeated_permille(section)).max() } else { None }
}

/// Finds out whether the data has records of four bytes, such as numbers.
fn data_context(samples: &[u8]) -> Result<Context> {
    let is_four = trial(samples, Context::FourAndBefore)? < trial(samples, Context::Before)?;
    Ok(if is_four { Context::FourAndBefore } else { Context::Before })
}

/// Returns what a sample would be compressed to.
fn trial(sample: &[u8], context: Context) -> Result<usize> {
    let mut squeezer = Squeezer::new(Model { size: sample.len(), context, search: Search::Near })?;
    Ok(squeezer.squeeze(sample)?.len())
}

/// Takes four pieces of a section, or all of it where it is small; places and sizes are multiples of four, so that records
/// of four bytes stay in step.
fn sample(section: &[u8], size_max: usize) -> Vec<u8> {
    if section.len() <= size_max {
        return section.to_vec();
    }
    let stride = (section.len() / 4).next_multiple_of(4);
    let size = size_max / 16 * 4;
    section.chunks(stride).flat_map(|piece| &piece[..piece.len().min(size)]).copied().collect()
}
