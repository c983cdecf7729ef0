//! The delta format: a header, the alignment, the layout of images, and groups.
//!
//! ```text
//! method, |base|, |target|
//! method groups: segment count, alignment, |layout|, layout, per group: symbols, bulk bytes
//! method prefix: segment count, alignment (none where nobody needs it), one zstd frame with the base as prefix
//! ```
//!
//! Numbers are varints; alignment, layout, symbols and bulk bytes stand behind their lengths. The
//! alignment comes first because predicted addresses need all of it; groups are independent after
//! that, and are coded and decoded by as many threads as the caller allows.

use std::io::Write;

use super::GROUP;
use super::address::{Addresses, Layout};
use super::coder::{Decoder, Encoder};
use super::control;
use super::frames;
use super::lean::Lean;
use super::literal::{BaseIndex, Depth};
use super::matcher::{self, Pair, SEGMENT_MIN, Seeds, Segment, Veil};
use super::mixing::Mixing;
use super::numeric;
use super::piece::{self, Kind};
use super::prefix;
use super::residue::{self, Coded, Group};
use super::tables;
use super::unlike::Unlike;
use crate::codec::bytes::{Reader, put_section, put_varint};
use crate::codec::scratch::Spool;
use crate::codec::{Effort, Result, Work, corrupt, parallel};

/// Segments of an alignment: 200 MB of them, so that few bytes of a payload cannot ask for more.
const SEGMENTS_MAX: usize = 1 << 23;
/// Layouts larger than this are not compressed any better by anything here.
const LAYOUT_LEVEL: i32 = 9;

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
            _ => Err(corrupt("a method of no meaning")),
        }
    }
}

/// Whether both sides need the alignment, or only the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// The caller predicts along it.
    Needed,
    /// Some targets are smaller without one.
    Unused,
}

/// Writes a delta that rebuilds `target` from `base` and returns the alignment it is made of.
///
/// Reads both several times, at random: map files rather than reading them. Memory beyond them is
/// the seed table, or other tables and about 80 MiB per thread, whichever is more, and 24 bytes per
/// segment. The delta may exceed the target; whether it is kept is the caller's choice.
///
/// # Errors
/// `Io` when `out` fails or the work is cancelled.
pub fn encode(
    base: &[u8],
    target: &[u8],
    need: Alignment,
    work: &Work<'_>,
    out: &mut dyn Write,
) -> Result<Vec<Segment>> {
    if base.is_empty() {
        return encode_alone(target, work, out);
    }
    if !prefix::suits(base, target, work.effort) {
        return encode_groups(base, target, work, out);
    }
    let mut delta = Vec::new();
    let mut segments = encode_groups(base, target, work, &mut delta)?;
    if prefix::may_beat(delta.len(), target.len())
        && let Some(frame) = prefix::compress(base, target, work, delta.len())?
    {
        if need == Alignment::Unused {
            segments.clear();
        }
        let mut other = header(Method::Prefix, base, target);
        put_alignment(&mut other, &segments, base.len(), target.len())?;
        if other.len() + frame.len() < delta.len() {
            other.extend_from_slice(&frame);
            delta = other;
        }
    }
    out.write_all(&delta)?;
    Ok(segments)
}

/// Without a base there is nothing to align.
fn encode_alone(target: &[u8], work: &Work<'_>, out: &mut dyn Write) -> Result<Vec<Segment>> {
    let mut head = header(Method::Prefix, &[], target);
    put_alignment(&mut head, &[], 0, target.len())?;
    out.write_all(&head)?;
    prefix::compress_alone(target, work, out)?;
    Ok(Vec::new())
}

fn header(method: Method, base: &[u8], target: &[u8]) -> Vec<u8> {
    let mut head = vec![method as u8];
    put_varint(&mut head, base.len() as u64);
    put_varint(&mut head, target.len() as u64);
    head
}

fn put_alignment(head: &mut Vec<u8>, segments: &[Segment], base_len: usize, target_len: usize) -> Result<()> {
    put_varint(head, segments.len() as u64);
    let mut encoder = Encoder::default();
    control::code(&mut encoder, segments, segments.len(), base_len, target_len)?;
    put_section(head, &encoder.finish());
    Ok(())
}

fn encode_groups(base: &[u8], target: &[u8], work: &Work<'_>, out: &mut dyn Write) -> Result<Vec<Segment>> {
    let layout = Layout::find(base, target, work.threads);
    let mut segments = align(base, target, layout.as_ref(), work)?;
    if let Some(layout) = &layout {
        let addresses = Addresses::new(layout.clone(), &segments, base);
        segments = tables::realign(segments, &addresses, base, target, work.table_bytes_max());
        let built: Vec<_> = addresses.tables.iter().map(|table| table.rows.clone()).collect();
        segments = frames::leave_out(&segments, &built);
    }
    // What lies behind the last one is coded without an alignment.
    segments.truncate(SEGMENTS_MAX);
    let method = if work.effort == Effort::Max { Method::Mixing } else { Method::Lean };
    let mut head = header(method, base, target);
    put_alignment(&mut head, &segments, base.len(), target.len())?;
    let addresses = layout.map(|layout| place(layout, base, target, &segments));
    put_layout(&mut head, addresses.as_ref())?;
    out.write_all(&head)?;
    let plan = Plan { base, target, segments: &segments, addresses: addresses.as_ref() };
    plan.put_groups(method, work, out)?;
    Ok(segments)
}

/// Finds all segments, group by group.
fn align(base: &[u8], target: &[u8], layout: Option<&Layout>, work: &Work<'_>) -> Result<Vec<Segment>> {
    let (base_veil, target_veil) = layout.map(veils).unwrap_or_default();
    let step = if work.effort == Effort::Fast { 16 } else { 8 };
    // Half of the work is to find the segments, and half of that to index the base.
    let share = |bytes: usize| (bytes as u128 * target.len() as u128 / 4 / base.len().max(1) as u128) as u64;
    let watch = |bytes| (work.watch)(share(bytes));
    // Of native code, what is alike is not equal.
    let unlike = if layout.is_some() { None } else { Unlike::find(base, target) };
    let wanted = unlike.as_ref().and_then(|unlike| unlike.seeds(target, base.len()));
    let shifts = unlike.as_ref().map_or(&[][..], |unlike| &unlike.shifts);
    let table_bytes_max = work.table_bytes_max();
    let seeds = match &wanted {
        Some(wanted) => Seeds::of_wanted(base, wanted, table_bytes_max, step, work.threads, &watch)?,
        None => Seeds::watched(base, &base_veil, table_bytes_max, step, &watch)?,
    };
    // As a literal, with the aligned byte for context, a mismatch costs the lean model less. Near code
    // many mismatches are predicted addresses.
    let mismatch = if work.effort == Effort::Max || layout.is_some() { 1 } else { 2 };
    let (base_veil, target_veil) = (&base_veil, &target_veil);
    let pair = Pair { base, target, base_veil, target_veil, mismatch, shifts };
    let ranges: Vec<_> = group_ranges(target.len()).collect();
    let found = parallel::map(work.threads, &ranges, |range| {
        (work.watch)(range.len() as u64 / 4)?;
        let found = matcher::find_segments(pair, &seeds, range.clone());
        // Tables in images are better predicted as addresses.
        Ok(if layout.is_some() { found } else { piece::carve(&found, base, target) })
    });
    Ok(found.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// What is hidden of both sides.
fn veils(layout: &Layout) -> (Veil, Veil) {
    let addresses = Addresses::new(layout.clone(), &[], &[]);
    let code = |ranges: &[super::address::Range], images: &[super::image::Image]| {
        let of = |range: &super::address::Range| {
            let (low, high) = images[range.image].bounds();
            (*range, (low as i64, high as i64))
        };
        Veil { ranges: ranges.iter().filter(|range| range.is_code).map(of).collect() }
    };
    (code(&addresses.base_ranges, &layout.base), code(&addresses.target_ranges, &layout.target))
}

/// Joins the layout with the alignment and chooses the kinds of words.
fn place(layout: Layout, base: &[u8], target: &[u8], segments: &[Segment]) -> Addresses {
    let mut addresses = Addresses::new(layout, segments, base);
    addresses.layout.kinds = super::words::choose_kinds(&addresses, base, target, segments);
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
    fn put_groups(&self, method: Method, work: &Work<'_>, out: &mut dyn Write) -> Result<()> {
        let literal_price = if self.addresses.is_some() { 5 } else { 4 };
        let (is_lazy, dense_bits, indexed_max) = match work.effort {
            Effort::Fast => (false, 6.5, INDEXED_MAX / 4),
            Effort::Default => (self.addresses.is_none(), 6.8, INDEXED_MAX),
            // Random bytes of a block have 7.997: even snappy's (7.9) are a few percent shorter as tokens.
            Effort::Max => (true, 7.95, INDEXED_MAX * 4),
        };
        let depth = Depth { is_lazy, literal_price, dense_bits };
        let wanted = self.token_bytes(depth).saturating_mul(INDEXED_PER_LITERAL);
        let index = BaseIndex::new(self.base, self.segments, wanted.clamp(1 << 10, indexed_max));
        let ranges: Vec<_> = group_ranges(self.target.len()).collect();
        // What a group is rebuilt in meanwhile is used again for the next.
        let mut rooms = vec![Vec::new(); work.threads.max(1).min(ranges.len())];
        for batch in ranges.chunks(work.threads.max(1)) {
            let coded = parallel::map(work.threads, batch.iter().zip(&mut rooms), |(range, room)| {
                (work.watch)(range.len() as u64 / 2)?;
                let group = self.group(range);
                match method {
                    Method::Mixing => residue::encode::<Mixing>(group, self.target, &index, depth, room),
                    _ => residue::encode::<Lean>(group, self.target, &index, depth, room),
                }
            });
            for coded in coded {
                put_group(&coded?, out)?;
            }
        }
        Ok(())
    }

    fn group(&self, range: &std::ops::Range<usize>) -> Group<'a> {
        group_of(self.base, self.addresses, self.segments, range)
    }

    /// Bytes that will be coded as literals and short copies.
    fn token_bytes(&self, depth: Depth) -> usize {
        let (mut at, mut shift, mut tokens) = (0, 0i64, 0);
        let end = Segment { target: self.target.len(), base: 0, len: 0 };
        for segment in self.segments.iter().chain([&end]) {
            let region = &self.target[at..segment.target.max(at)];
            let aligned = usize::try_from(at as i64 + shift).unwrap_or(usize::MAX);
            let aligned = self.base.get(aligned..).unwrap_or(&[]);
            let pieces = piece::classify(aligned, region, at, depth.dense_bits);
            let of_tokens = pieces.iter().filter(|piece| piece.kind == Kind::Tokens);
            tokens += of_tokens.map(|piece| piece.len).sum::<usize>();
            at = segment.target_end();
            shift = segment.base as i64 - segment.target as i64;
        }
        tokens
    }
}

fn put_group(coded: &Coded, out: &mut dyn Write) -> Result<()> {
    let mut lengths = Vec::new();
    put_varint(&mut lengths, coded.symbols.len() as u64);
    put_varint(&mut lengths, coded.bulk.len() as u64);
    out.write_all(&lengths)?;
    out.write_all(&coded.symbols)?;
    out.write_all(&coded.bulk)?;
    Ok(())
}

fn group_of<'a>(
    base: &'a [u8],
    addresses: Option<&'a Addresses>,
    segments: &'a [Segment],
    range: &std::ops::Range<usize>,
) -> Group<'a> {
    let first = segments.partition_point(|segment| segment.target < range.start);
    let end = segments.partition_point(|segment| segment.target < range.end);
    let shift = segments[..first].last().map_or(0, |last| last.base as i64 - last.target as i64);
    let (start, len, segments) = (range.start, range.len(), &segments[first..end]);
    Group { base, addresses, start, len, shift, segments }
}

/// Where a target goes: to the end of a spool, where its groups are rebuilt in place, or through a buffer.
pub enum Place<'a> {
    /// A spool.
    Spool(&'a mut Spool),
    /// Anything else.
    Writer(&'a mut dyn Write),
}

impl Place<'_> {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Spool(spool) => *spool,
            Self::Writer(writer) => *writer,
        }
    }

    /// Returns room for the next `len` bytes, of which `buffer` may be a part.
    fn room<'b>(&'b mut self, len: usize, buffer: &'b mut Vec<u8>) -> Result<&'b mut [u8]> {
        let Self::Spool(spool) = self else {
            buffer.resize(len, 0);
            return Ok(buffer);
        };
        spool.reserve(len)?;
        let end = spool.len();
        Ok(&mut spool.room()[end..end + len])
    }

    /// Takes the bytes that the room was filled with.
    fn take(&mut self, len: usize, buffer: &[u8]) -> Result<()> {
        match self {
            Self::Spool(spool) => spool.advance(spool.len() + len),
            Self::Writer(writer) => writer.write_all(&buffer[..len])?,
        }
        Ok(())
    }
}

/// Rebuilds a target of `target_len` bytes in `place` and returns the alignment.
///
/// Writes at most `target_len` bytes, whatever the delta says, and needs about 20 MiB per thread
/// beside the alignment, and another 32 without a spool. A delta that was changed is refused or gives other
/// bytes: the caller compares a checksum.
///
/// # Errors
/// `Corrupt` when the delta is not one of `base` and this size; `Io` when `place` fails or the work is cancelled.
pub fn decode(
    base: &[u8],
    delta: &[u8],
    target_len: u64,
    work: &Work<'_>,
    mut place: Place<'_>,
) -> Result<Vec<Segment>> {
    let mut reader = Reader::new(delta);
    let method = Method::from_byte(reader.byte()?)?;
    if reader.varint()? != base.len() as u64 || reader.varint()? != target_len {
        return Err(corrupt("it is for other sizes"));
    }
    let segments = get_segments(&mut reader, base.len(), target_len as usize)?;
    if method == Method::Prefix {
        prefix::expand(base, reader.rest(), target_len, work, place.writer())?;
        return Ok(segments);
    }
    let layout = get_layout(&mut reader, base.len() as u64, target_len)?;
    let addresses = layout.map(|layout| Addresses::new(layout, &segments, base));
    let addresses = addresses.as_ref();
    let ranges: Vec<_> = group_ranges(target_len as usize).collect();
    let mut buffer = Vec::new();
    for batch in ranges.chunks(work.threads.max(1)) {
        let mut groups = Vec::new();
        for range in batch {
            let group = group_of(base, addresses, &segments, range);
            if group.segments.last().is_some_and(|last| last.target_end() > range.end) {
                return Err(corrupt("a segment crosses groups"));
            }
            let (symbols, bulk) = (reader.varint()?, reader.varint()?);
            groups.push((group, take(&mut reader, symbols)?, take(&mut reader, bulk)?));
        }
        let len = groups.iter().map(|(group, ..)| group.len).sum();
        let rooms = place.room(len, &mut buffer)?.chunks_mut(GROUP);
        let decoded =
            parallel::map(work.threads, groups.into_iter().zip(rooms), |((group, symbols, bulk), room)| {
                match method {
                    Method::Mixing => residue::decode::<Mixing>(group, symbols, bulk, room),
                    _ => residue::decode::<Lean>(group, symbols, bulk, room),
                }?;
                (work.watch)(group.len as u64)?;
                Ok(())
            });
        decoded.into_iter().collect::<Result<()>>()?;
        place.take(len, &buffer)?;
    }
    if !reader.is_empty() {
        return Err(corrupt("bytes behind its end"));
    }
    Ok(segments)
}

fn take<'a>(reader: &mut Reader<'a>, len: u64) -> Result<&'a [u8]> {
    reader.take(usize::try_from(len).map_err(|_| corrupt("a length is too large"))?)
}

fn get_segments(reader: &mut Reader<'_>, base_len: usize, target_len: usize) -> Result<Vec<Segment>> {
    let count = reader.varint()?;
    if count > (target_len / SEGMENT_MIN).min(SEGMENTS_MAX) as u64 {
        return Err(corrupt("too many segments"));
    }
    let mut decoder = Decoder::new(reader.section()?);
    let segments = control::code(&mut decoder, &[], count as usize, base_len, target_len)?;
    if decoder.is_overrun() {
        return Err(corrupt("the alignment ends early"));
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
    if len > LAYOUT_BYTES_MAX + (target_len >> super::address::BLOCK_BITS) {
        return Err(corrupt("a layout is too large"));
    }
    let plain = numeric::expand(reader.section()?, len as usize)?;
    Layout::get(&mut Reader::new(&plain), base_len, target_len).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::Random;

    #[test]
    fn few_bytes_cannot_ask_for_more_segments_than_the_bound() {
        let target_len = usize::MAX >> 1;
        for (count, is_over) in [(SEGMENTS_MAX, false), (SEGMENTS_MAX + 1, true)] {
            let mut claim = Vec::new();
            put_varint(&mut claim, count as u64);
            put_section(&mut claim, &[]);
            let outcome = get_segments(&mut Reader::new(&claim), 0, target_len);
            let reason = outcome.expect_err("refused").to_string();
            assert_eq!(reason.contains("too many"), is_over, "{count}: {reason}");
        }
    }

    /// A snappy page has 7.9 bits per byte: a hundredth shorter for its frequencies, more for what repeats. zstd leaves it.
    #[test]
    fn at_max_only_what_is_random_is_left_to_zstd() {
        let noise = |values: usize, seed: u64| -> Vec<u8> {
            let mut random = Random(seed);
            (0..1_000_000).map(|_| random.below(values) as u8).collect()
        };
        let percent = |values: usize, effort: Effort| {
            let work =
                Work { effort, threads: 1, memory: 0, scratch: &crate::codec::Memory, watch: &|_| Ok(()) };
            let (base, target) = (noise(values, 1), noise(values, 2));
            let mut delta = Vec::new();
            encode_groups(&base, &target, &work, &mut delta).expect("memory");
            let mut back = Vec::new();
            decode(&base, &delta, 1_000_000, &work, Place::Writer(&mut back)).expect("the delta");
            assert!(back == target);
            delta.len() as f64 / 10_000.0
        };
        let (known, random) = (percent(236, Effort::Max), percent(256, Effort::Max));
        assert!(known < 99.2, "{known} %: by frequencies alone 98.53 %");
        assert!(random < 100.01, "{random} %");
        assert!(percent(236, Effort::Default) > 99.9, "not worth the time where time counts");
    }

    /// Indexing a large base takes as long as all that follows: nobody is to wait for the end of it.
    #[test]
    fn the_watch_is_told_while_the_base_is_indexed_and_may_end_it() {
        let base: Vec<u8> = (0..4_000_000_u32).map(|at| (at.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
        let told = std::sync::Mutex::new(Vec::new());
        let note = |bytes| {
            told.lock().expect("the list").push(bytes);
            Ok(())
        };
        let work = Work {
            effort: crate::codec::Effort::Default,
            threads: 1,
            memory: 0,
            scratch: &crate::codec::Memory,
            watch: &note,
        };
        encode(&base, &base, Alignment::Unused, &work, &mut Vec::new()).expect("memory");
        let told = told.lock().expect("the list").clone();
        let sum: u64 = told.iter().sum();
        assert!(sum.abs_diff(4_000_000) < 40_000, "{sum} of 4,000,000");
        let index: u64 = told.iter().take_while(|&&bytes| bytes < 100_000).sum();
        assert!(index.abs_diff(1_000_000) < 20_000, "{index} of a quarter");
        let refuse = |_| Err(std::io::Error::other("enough"));
        let work = Work { watch: &refuse, ..work };
        assert!(encode(&base, &base, Alignment::Unused, &work, &mut Vec::new()).is_err());
    }
}
