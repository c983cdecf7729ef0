//! The delta format: a header, the alignment, the layout of images, and groups.
//!
//! ```text
//! version, method, |base|, |target|
//! method groups: segment count, alignment, |layout|, layout, per group: symbols, bulk bytes
//! method prefix: one zstd frame with the base as prefix
//! ```
//!
//! Numbers are varints; alignment, layout, symbols and bulk bytes stand behind their lengths. The
//! alignment comes first because predicted addresses need all of it; groups are independent after
//! that, and are coded and decoded by as many threads as the caller allows.

use std::io::Write;
use std::thread;

use crate::address::{Addresses, Layout};
use crate::bytes::{Reader, put_section, put_varint};
use crate::coder::{Decoder, Encoder};
use crate::control;
use crate::error::{Error, Result};
use crate::lean::Lean;
use crate::literal::{BaseIndex, Depth};
use crate::matcher::{self, Pair, SEGMENT_MIN, Seeds, Segment, Veil};
use crate::mixing::Mixing;
use crate::numeric;
use crate::piece::{self, Kind};
use crate::prefix;
use crate::residue::{self, Coded, Group};

/// The format that this engine writes, and the only one it reads.
const VERSION: u8 = 1;
/// Target bytes of a group: large enough for models to learn, small enough for many threads.
const GROUP: usize = 32 << 20;
/// Layouts larger than this are not compressed any better by anything here.
const LAYOUT_LEVEL: i32 = 9;

/// How much work an encoding is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Coarser search, the lean model.
    Fast,
    /// The lean model.
    #[default]
    Default,
    /// The mixing model: smallest, and slow in both directions.
    Max,
}

/// What an encoding may use.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much work it is worth.
    pub effort: Effort,
    /// Bytes of the table of seeds, at most; a finer table finds shorter matches in large bases.
    pub seed_table_bytes_max: usize,
    /// Threads to use, at least one.
    pub threads: usize,
    /// Whether both sides need the alignment: some targets are smaller without one.
    pub needs_alignment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            effort: Effort::default(),
            seed_table_bytes_max: 256 << 20,
            threads: 1,
            needs_alignment: false,
        }
    }
}

/// What an encoding found.
#[derive(Debug, Default)]
pub struct Summary {
    /// The alignment of the target with the base; none when it was coded without.
    pub segments: Vec<Segment>,
    /// Bytes written.
    pub delta_len: u64,
    /// Bytes of the alignment in the delta.
    pub alignment_len: u64,
}

/// How a target is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Lean = 0,
    Mixing = 1,
    Prefix = 2,
}

impl Method {
    fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            0 => Ok(Self::Lean),
            1 => Ok(Self::Mixing),
            2 => Ok(Self::Prefix),
            _ => Err(Error::damaged("a method of no meaning")),
        }
    }
}

/// Writes a delta that rebuilds `target` from `base`.
///
/// Reads both several times, at random: map files rather than reading them. Memory beyond them is
/// the seed table, or other tables and about 80 MiB per thread, whichever is more, and 24 bytes per
/// segment. The delta may exceed the target; whether it is kept is the caller's choice.
///
/// # Errors
/// `Write` when `out` fails.
pub fn encode(
    base: &[u8],
    target: &[u8],
    options: &Options,
    out: &mut dyn Write,
) -> Result<Summary> {
    if options.needs_alignment || !prefix::suits(base, target, options.effort) {
        return encode_groups(base, target, options, out);
    }
    let mut delta = Vec::new();
    let mut summary = encode_groups(base, target, options, &mut delta)?;
    if prefix::may_beat(delta.len(), target.len())
        && let Some(frame) = prefix::compress(base, target, delta.len())
    {
        delta = header(Method::Prefix, base, target);
        delta.extend_from_slice(&frame);
        summary = Summary { delta_len: delta.len() as u64, ..Summary::default() };
    }
    out.write_all(&delta)?;
    Ok(summary)
}

fn header(method: Method, base: &[u8], target: &[u8]) -> Vec<u8> {
    let mut head = vec![VERSION, method as u8];
    put_varint(&mut head, base.len() as u64);
    put_varint(&mut head, target.len() as u64);
    head
}

fn encode_groups(
    base: &[u8],
    target: &[u8],
    options: &Options,
    out: &mut dyn Write,
) -> Result<Summary> {
    let layout = Layout::find(base, target);
    let segments = align(base, target, layout.as_ref(), options);
    let method = if options.effort == Effort::Max { Method::Mixing } else { Method::Lean };
    let mut head = header(method, base, target);
    put_varint(&mut head, segments.len() as u64);
    let mut encoder = Encoder::default();
    let (base_len, target_len) = (base.len() as u64, target.len() as u64);
    control::code(&mut encoder, &segments, segments.len(), base_len, target_len)?;
    let alignment = encoder.finish();
    put_section(&mut head, &alignment);
    let addresses = layout.map(|layout| place(layout, base, target, &segments));
    put_layout(&mut head, addresses.as_ref())?;
    out.write_all(&head)?;
    let plan = Plan { base, target, segments: &segments, addresses: addresses.as_ref() };
    let written = plan.put_groups(method, options, out)?;
    let alignment_len = alignment.len() as u64;
    Ok(Summary { segments, delta_len: head.len() as u64 + written, alignment_len })
}

/// Finds all segments, group by group.
fn align(base: &[u8], target: &[u8], layout: Option<&Layout>, options: &Options) -> Vec<Segment> {
    let (base_veil, target_veil) = layout.map(veils).unwrap_or_default();
    let step = if options.effort == Effort::Fast { 16 } else { 8 };
    let seeds = Seeds::new(base, &base_veil, options.seed_table_bytes_max, step);
    // As a literal, with the aligned byte for context, a mismatch costs the lean model less. Near code
    // many mismatches are predicted addresses.
    let mismatch = if options.effort == Effort::Max || layout.is_some() { 1 } else { 2 };
    let (base_veil, target_veil) = (&base_veil, &target_veil);
    let pair = Pair { base, target, base_veil, target_veil, mismatch };
    let ranges: Vec<_> = group_ranges(target.len()).collect();
    let found = in_parallel(&ranges, options.threads, |range| {
        matcher::find_segments(pair, &seeds, range.clone())
    });
    let found: Vec<_> = found.into_iter().flatten().collect();
    // Tables in images are better predicted as addresses.
    if layout.is_some() { found } else { piece::carve(&found, base, target) }
}

/// What is hidden of both sides.
fn veils(layout: &Layout) -> (Veil, Veil) {
    let addresses = Addresses::new(layout.clone(), &[], 0);
    let code = |ranges: &[crate::address::Range], images: &[crate::image::Image]| {
        let of = |range: &crate::address::Range| {
            let (low, high) = images[range.image].bounds();
            (*range, (low as i64, high as i64))
        };
        Veil { ranges: ranges.iter().filter(|range| range.is_code).map(of).collect() }
    };
    (code(&addresses.base_ranges, &layout.base), code(&addresses.target_ranges, &layout.target))
}

/// Joins the layout with the alignment and chooses the kinds of words.
fn place(layout: Layout, base: &[u8], target: &[u8], segments: &[Segment]) -> Addresses {
    let mut addresses = Addresses::new(layout, segments, base.len());
    addresses.layout.kinds = crate::words::choose_kinds(&addresses, base, target, segments);
    addresses
}

fn put_layout(head: &mut Vec<u8>, addresses: Option<&Addresses>) -> Result<()> {
    let mut plain = Vec::new();
    if let Some(addresses) = addresses {
        addresses.layout.put(&mut plain);
    }
    put_varint(head, plain.len() as u64);
    if !plain.is_empty() {
        put_section(head, &zstd::bulk::compress(&plain, LAYOUT_LEVEL)?);
    }
    Ok(())
}

fn group_ranges(target_len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..target_len).step_by(GROUP).map(move |start| start..(start + GROUP).min(target_len))
}

/// Applies `work` to every item, `threads` at a time, and returns the results in order.
fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    threads: usize,
    work: impl Fn(&I) -> T + Sync,
) -> Vec<T> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let mut results = Vec::with_capacity(items.len());
    for batch in items.chunks(threads) {
        thread::scope(|scope| {
            let work = &work;
            let spawn = |item| scope.spawn(move || work(item));
            let running: Vec<_> = batch.iter().map(spawn).collect();
            results.extend(running.into_iter().map(|it| it.join().expect("work does not panic")));
        });
    }
    results
}

/// What the groups of an encoding share.
#[derive(Clone, Copy)]
struct Plan<'a> {
    base: &'a [u8],
    target: &'a [u8],
    segments: &'a [Segment],
    addresses: Option<&'a Addresses>,
}

/// Entries of the index of short strings per byte that may use it, and the most of all.
const INDEXED_PER_LITERAL: usize = 8;
const INDEXED_MAX: usize = (4 << 20) - 1;

impl<'a> Plan<'a> {
    fn put_groups(&self, method: Method, options: &Options, out: &mut dyn Write) -> Result<u64> {
        let literal_price = if self.addresses.is_some() { 5 } else { 4 };
        let (is_lazy, dense_bits, indexed_max) = match options.effort {
            Effort::Fast => (false, 6.5, INDEXED_MAX / 4),
            Effort::Default => (self.addresses.is_none(), 6.8, INDEXED_MAX),
            Effort::Max => (true, 7.2, INDEXED_MAX * 4),
        };
        let depth = Depth { is_lazy, literal_price, dense_bits };
        let wanted = self.token_bytes(depth).saturating_mul(INDEXED_PER_LITERAL);
        let index = BaseIndex::new(self.base, self.segments, wanted.clamp(1 << 10, indexed_max));
        let ranges: Vec<_> = group_ranges(self.target.len()).collect();
        let mut written = 0;
        for batch in ranges.chunks(options.threads.max(1)) {
            let coded = in_parallel(batch, options.threads, |range| {
                let group = self.group(range);
                match method {
                    Method::Mixing => residue::encode::<Mixing>(group, self.target, &index, depth),
                    _ => residue::encode::<Lean>(group, self.target, &index, depth),
                }
            });
            for coded in coded {
                written += put_group(&coded?, out)?;
            }
        }
        Ok(written)
    }

    fn group(&self, range: &std::ops::Range<usize>) -> Group<'a> {
        group_of(self.base, self.addresses, self.segments, range)
    }

    /// Bytes that will be coded as literals and short copies.
    fn token_bytes(&self, depth: Depth) -> usize {
        let (mut at, mut shift, mut tokens) = (0, 0i64, 0);
        let end = Segment { target: self.target.len() as u64, base: 0, len: 0 };
        for segment in self.segments.iter().chain([&end]) {
            let region = &self.target[at..(segment.target as usize).max(at)];
            let aligned = usize::try_from(at as i64 + shift).unwrap_or(usize::MAX);
            let aligned = self.base.get(aligned..).unwrap_or(&[]);
            let pieces = piece::classify(aligned, region, at, depth.dense_bits);
            let of_tokens = pieces.iter().filter(|piece| piece.kind == Kind::Tokens);
            tokens += of_tokens.map(|piece| piece.len).sum::<usize>();
            at = segment.target_end() as usize;
            shift = segment.base as i64 - segment.target as i64;
        }
        tokens
    }
}

fn put_group(coded: &Coded, out: &mut dyn Write) -> Result<u64> {
    let mut lengths = Vec::new();
    put_varint(&mut lengths, coded.symbols.len() as u64);
    put_varint(&mut lengths, coded.bulk.len() as u64);
    out.write_all(&lengths)?;
    out.write_all(&coded.symbols)?;
    out.write_all(&coded.bulk)?;
    Ok((lengths.len() + coded.symbols.len() + coded.bulk.len()) as u64)
}

fn group_of<'a>(
    base: &'a [u8],
    addresses: Option<&'a Addresses>,
    segments: &'a [Segment],
    range: &std::ops::Range<usize>,
) -> Group<'a> {
    let first = segments.partition_point(|segment| segment.target < range.start as u64);
    let end = segments.partition_point(|segment| segment.target < range.end as u64);
    let shift = segments[..first].last().map_or(0, |last| last.base as i64 - last.target as i64);
    let (start, len, segments) = (range.start, range.len(), &segments[first..end]);
    Group { base, addresses, start, len, shift, segments }
}

/// Rebuilds a target of `target_len` bytes.
///
/// # Errors
/// `Damaged`, `Version` when the delta is not one of `base` and this size.
pub fn decode(base: &[u8], delta: &[u8], target_len: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    decode_into(base, delta, target_len, 1, &mut out)?;
    Ok(out)
}

/// Rebuilds a target of `target_len` bytes into `out` and returns the alignment.
///
/// Writes at most `target_len` bytes, whatever the delta says, and needs about 50 MiB per thread
/// beside the alignment. A delta that was changed is refused or gives other bytes: the caller
/// compares a checksum.
///
/// # Errors
/// `Damaged`, `Version` when the delta is not one of `base` and this size; `Write` when `out` fails.
pub fn decode_into(
    base: &[u8],
    delta: &[u8],
    target_len: u64,
    threads: usize,
    out: &mut dyn Write,
) -> Result<Vec<Segment>> {
    let mut reader = Reader::new(delta);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(Error::Version { found: version });
    }
    let method = Method::from_byte(reader.byte()?)?;
    if reader.varint()? != base.len() as u64 || reader.varint()? != target_len {
        return Err(Error::damaged("it is for other sizes"));
    }
    if method == Method::Prefix {
        prefix::expand(base, reader.rest(), target_len, out)?;
        return Ok(Vec::new());
    }
    let segments = get_segments(&mut reader, base.len() as u64, target_len)?;
    let layout = get_layout(&mut reader, base.len() as u64, target_len)?;
    let addresses = layout.map(|layout| Addresses::new(layout, &segments, base.len()));
    let addresses = addresses.as_ref();
    let ranges: Vec<_> = group_ranges(target_len as usize).collect();
    for batch in ranges.chunks(threads.max(1)) {
        let mut groups = Vec::new();
        for range in batch {
            let group = group_of(base, addresses, &segments, range);
            if group.segments.last().is_some_and(|last| last.target_end() > range.end as u64) {
                return Err(Error::damaged("a segment crosses groups"));
            }
            let (symbols, bulk) = (reader.varint()?, reader.varint()?);
            groups.push((group, take(&mut reader, symbols)?, take(&mut reader, bulk)?));
        }
        let decoded = in_parallel(&groups, threads, |(group, symbols, bulk)| match method {
            Method::Mixing => residue::decode::<Mixing>(*group, symbols, bulk),
            _ => residue::decode::<Lean>(*group, symbols, bulk),
        });
        for bytes in decoded {
            out.write_all(&bytes?)?;
        }
    }
    if !reader.is_empty() {
        return Err(Error::damaged("bytes behind its end"));
    }
    Ok(segments)
}

fn take<'a>(reader: &mut Reader<'a>, len: u64) -> Result<&'a [u8]> {
    reader.take(usize::try_from(len).map_err(|_| Error::damaged("a length is too large"))?)
}

fn get_segments(reader: &mut Reader<'_>, base_len: u64, target_len: u64) -> Result<Vec<Segment>> {
    let count = reader.varint()?;
    if count > target_len / SEGMENT_MIN as u64 {
        return Err(Error::damaged("too many segments"));
    }
    let mut decoder = Decoder::new(reader.section()?);
    let segments = control::code(&mut decoder, &[], count as usize, base_len, target_len)?;
    if decoder.is_overrun() {
        return Err(Error::damaged("the alignment ends early"));
    }
    Ok(segments)
}

/// A layout takes at most this much, plus a byte per block of the target.
const LAYOUT_BYTES_MAX: u64 = 1 << 20;

fn get_layout(reader: &mut Reader<'_>, base_len: u64, target_len: u64) -> Result<Option<Layout>> {
    let len = reader.varint()?;
    if len == 0 {
        return Ok(None);
    }
    if len > LAYOUT_BYTES_MAX + (target_len >> crate::address::BLOCK_BITS) {
        return Err(Error::damaged("a layout is too large"));
    }
    let plain = numeric::expand(reader.section()?, len as usize)?;
    Layout::get(&mut Reader::new(&plain), base_len, target_len).map(Some)
}
