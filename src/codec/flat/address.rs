//! Predicts addresses in copied native code from where the alignment moved their targets.
//!
//! A call copied from the base refers to an old address. Where that address's bytes went is known
//! twice over: from the alignment, and from earlier operands with the same target. [`Addresses`] is
//! the knowledge that a whole delta shares; [`Learned`] grows within one group.

use super::GROUP;
use super::coder::{Bit, Coder, Number};
use super::frames::{self, Table};
use super::image::{IMAGES_MAX, Image, Machine};
use super::matcher::Segment;
use super::operand::{self, Form};
use crate::codec::bytes::{Reader, put_varint, scramble, zigzag};
use crate::codec::{Result, corrupt, parallel};

/// A block of the target has one kind of words, as a power of two.
pub const BLOCK_BITS: u32 = 12;
/// Block kinds: none, absolute, relative to itself, relative to an anchor.
pub const WORDS_NONE: u8 = 0;
pub const WORDS_WHOLE: u8 = 1;
pub const WORDS_NEAR: u8 = 2;
pub const WORDS_ANCHORED: u8 = 3;
/// Absolute at any position.
pub const WORDS_LOOSE: u8 = 14;
/// Records of unwind frames: what they hold follows from where they begin.
pub const WORDS_FRAMES: u8 = 15;
/// Anchors of one image: what is left of four bits.
pub const ANCHORS_MAX: usize = (WORDS_LOOSE - WORDS_ANCHORED) as usize;
const SYMBOL_PAIRS_MAX: usize = 256;
/// Words that refer to themselves within this distance are numbers, not addresses.
pub const SELF_DISTANCE: i64 = 4096;

/// A stretch of a byte string with addresses: one part of one image.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub start: usize,
    pub end: usize,
    /// Address minus position.
    pub lift: i64,
    pub is_code: bool,
    pub image: usize,
    pub machine: Machine,
}

fn ranges_of(images: &[Image]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for (image, found) in images.iter().enumerate() {
        for part in &found.parts {
            let start = (found.at + part.offset) as usize;
            let lift = part.address as i64 - start as i64;
            let (is_code, machine) = (part.is_code, found.machine);
            let end = start + part.len as usize;
            if start >= ranges.last().map_or(0, |last| last.end) {
                ranges.push(Range { start, end, lift, is_code, image, machine });
            }
        }
    }
    ranges
}

/// Finds the range that holds `at`.
fn range_at(ranges: &[Range], at: usize) -> Option<&Range> {
    let next = ranges.partition_point(|range| range.start <= at);
    ranges[..next].last().filter(|range| at < range.end)
}

/// Symbol tables of both sides whose rows correspond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SymbolPair {
    /// Position of the table in the target, and its length.
    pub target: u64,
    pub len: u64,
    /// Position of the table in the base.
    pub base: u64,
    /// Addresses of the names.
    pub target_names: u64,
    pub base_names: u64,
}

/// What the delta says about images; the encoder fills it by parsing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub base: Vec<Image>,
    pub target: Vec<Image>,
    /// Per base image: addresses that correspond, in the base and in the target.
    pub anchors: Vec<Vec<(u64, u64)>>,
    pub symbols: Vec<SymbolPair>,
    /// Per block of the target.
    pub kinds: Vec<u8>,
}

impl Layout {
    /// Parses both sides; `None` when one has no native code.
    pub fn find(base: &[u8], target_bytes: &[u8], threads: usize) -> Option<Self> {
        let (base, mut target) = parallel::both(threads, (base, target_bytes), super::image::find_images);
        if base.is_empty() || target.is_empty() {
            return None;
        }
        let paired = |index: usize| target.get(index.min(target.len() - 1));
        let pairs = base.iter().enumerate().filter_map(|(at, image)| Some((image, paired(at)?)));
        let anchors = pairs.map(|(base, target)| pair_anchors(base, target)).collect();
        let symbols = pair_symbols(&base, &target);
        target.iter_mut().for_each(|image| forget_other_table(image, target_bytes));
        Some(Self { base, target, anchors, symbols, kinds: Vec::new() })
    }

    /// The tables of the target that follow from what else is in their group.
    pub fn tables(&self) -> Vec<Table> {
        let of_image = |image: &Image| Table::of(&image.frames, image.at, &image.parts);
        let group = |at: usize| at / GROUP;
        let is_whole = |table: &Table| {
            let (first, end) =
                (table.rows.start.min(table.records.start), table.rows.end.max(table.records.end));
            group(first) == group(end.saturating_sub(1))
        };
        let mut tables: Vec<_> = self.target.iter().filter_map(of_image).filter(is_whole).collect();
        tables.sort_by_key(|table| table.rows.start);
        tables
    }

    /// Appends the layout.
    pub fn put(&self, out: &mut Vec<u8>) {
        for images in [&self.base, &self.target] {
            put_varint(out, images.len() as u64);
            images.iter().for_each(|image| image.put(out));
        }
        for anchors in &self.anchors {
            put_varint(out, anchors.len() as u64);
            for (base, target) in anchors {
                put_varint(out, *base);
                put_varint(out, zigzag(target.wrapping_sub(*base) as i64));
            }
        }
        put_varint(out, self.symbols.len() as u64);
        for pair in &self.symbols {
            let fields = [pair.target, pair.len, pair.base, pair.target_names, pair.base_names];
            fields.into_iter().for_each(|field| put_varint(out, field));
        }
        put_varint(out, self.kinds.len() as u64);
        out.extend_from_slice(&self.kinds);
    }

    /// Reads a layout of byte strings of the given lengths.
    pub fn get(reader: &mut Reader<'_>, base_len: u64, target_len: u64) -> Result<Self> {
        let base = get_images(reader, base_len)?;
        let target = get_images(reader, target_len)?;
        let anchors = base.iter().map(|_| get_anchors(reader)).collect::<Result<_>>()?;
        let symbols = get_symbols(reader, base_len, target_len)?;
        let count = reader.varint()?;
        if count > (target_len >> BLOCK_BITS) + 1 {
            return Err(corrupt("too many blocks of words"));
        }
        let kinds = reader.take(count as usize)?.to_vec();
        Ok(Self { base, target, anchors, symbols, kinds })
    }
}

/// Drops a table that is not what building it gives.
fn forget_other_table(image: &mut Image, bytes: &[u8]) {
    let is_built = |table: &Table| bytes[table.rows.clone()] == table.build(&bytes[table.records.clone()]);
    let fits = image.frames.table + image.frames.rows * 8 <= image.end - image.at;
    let table = if fits { Table::of(&image.frames, image.at, &image.parts) } else { None };
    if !table.is_some_and(|table| is_built(&table)) {
        image.frames.rows = 0;
    }
}

fn get_images(reader: &mut Reader<'_>, total: u64) -> Result<Vec<Image>> {
    let count = reader.varint()?;
    if count > IMAGES_MAX as u64 {
        return Err(corrupt("too many images"));
    }
    let images = (0..count).map(|_| Image::get(reader, total)).collect::<Result<Vec<_>>>()?;
    // What is walked and built stays linear in the byte string.
    let walked: u64 = images.iter().map(|image| image.frames.len.saturating_add(image.frames.rows * 8)).sum();
    if walked > total { Err(corrupt("frames of images overlap")) } else { Ok(images) }
}

fn get_anchors(reader: &mut Reader<'_>) -> Result<Vec<(u64, u64)>> {
    let count = reader.varint()?;
    if count > ANCHORS_MAX as u64 {
        return Err(corrupt("too many anchors"));
    }
    let get = |_| {
        let base = reader.varint()?;
        let target = base.wrapping_add(reader.signed()? as u64);
        let fits = base >> 48 == 0 && target >> 48 == 0;
        if fits { Ok((base, target)) } else { Err(corrupt("an anchor is no address")) }
    };
    (0..count).map(get).collect()
}

fn get_symbols(reader: &mut Reader<'_>, base_len: u64, target_len: u64) -> Result<Vec<SymbolPair>> {
    let bad = || corrupt("a symbol table does not fit");
    let count = reader.varint()?;
    if count > SYMBOL_PAIRS_MAX as u64 {
        return Err(bad());
    }
    let get = |_| {
        let (target, len, base) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let (target_names, base_names) = (reader.varint()?, reader.varint()?);
        let fits = target.checked_add(len).is_some_and(|end| end <= target_len)
            && base <= base_len
            && target_names >> 48 == 0
            && base_names >> 48 == 0;
        let pair = SymbolPair { target, len, base, target_names, base_names };
        if fits { Ok(pair) } else { Err(bad()) }
    };
    (0..count).map(get).collect()
}

fn pair_anchors(base: &Image, target: &Image) -> Vec<(u64, u64)> {
    let mut anchors: Vec<(u64, u64)> = Vec::new();
    for pair in base.anchors.iter().copied().zip(target.anchors.iter().copied()) {
        let fits = pair.0 >> 48 == 0 && pair.1 >> 48 == 0;
        if fits && !anchors.contains(&pair) && anchors.len() < ANCHORS_MAX {
            anchors.push(pair);
        }
    }
    anchors
}

fn pair_symbols(base: &[Image], target: &[Image]) -> Vec<SymbolPair> {
    let mut pairs = Vec::new();
    for (base, target) in base.iter().zip(target) {
        if base.symbols.len() != target.symbols.len() {
            continue;
        }
        for (old, new) in base.symbols.iter().zip(&target.symbols) {
            pairs.push(SymbolPair {
                target: target.at + new.offset,
                len: new.len,
                base: base.at + old.offset,
                target_names: new.names,
                base_names: old.names,
            });
        }
    }
    pairs.sort_by_key(|pair| pair.target);
    pairs.truncate(SYMBOL_PAIRS_MAX);
    pairs
}

/// A stretch of the base and how far its addresses moved.
#[derive(Clone, Copy, Debug)]
struct Moved {
    start: usize,
    end: usize,
    shift: i64,
}

/// Where each stretch of the base's images went.
#[derive(Debug, Default)]
struct Cover {
    moved: Vec<Moved>,
    /// Per block of the base: the first stretch that ends behind the block's begin.
    index: Vec<u32>,
}

impl Cover {
    fn new(segments: &[Segment], base: &[Range], target: &[Range], base_len: usize) -> Self {
        let mut pieces = Vec::new();
        for segment in segments {
            push_pieces(&mut pieces, segment, base, target);
        }
        pieces.sort_by_key(|piece| (piece.start, piece.end));
        let moved = longest_wins(pieces);
        let mut index = Vec::with_capacity((base_len >> BLOCK_BITS) + 2);
        let mut next = 0;
        for block in 0..=base_len >> BLOCK_BITS {
            while next < moved.len() && moved[next].end <= block << BLOCK_BITS {
                next += 1;
            }
            index.push(next as u32);
        }
        Self { moved, index }
    }

    /// Shifts of what covers `at`, or else of what follows and precedes it.
    #[inline]
    fn shifts(&self, at: usize) -> [Option<i64>; 3] {
        let Some(first) = self.index.get(at >> BLOCK_BITS) else { return [None; 3] };
        let mut next = *first as usize;
        while next < self.moved.len() && self.moved[next].end <= at {
            next += 1;
        }
        match self.moved.get(next) {
            Some(moved) if moved.start <= at => [Some(moved.shift), None, None],
            following => {
                let before = next.checked_sub(1).map(|before| self.moved[before].shift);
                [None, following.map(|moved| moved.shift), before]
            }
        }
    }
}

/// Cuts a segment where either side leaves a range.
fn push_pieces(pieces: &mut Vec<Moved>, segment: &Segment, base: &[Range], target: &[Range]) {
    let (from, len) = (segment.base, segment.len);
    let first = base.partition_point(|range| range.end <= from);
    for old in base[first..].iter().take_while(|old| old.start < from + len) {
        let (mut start, end) = (from.max(old.start), (from + len).min(old.end));
        while start < end {
            let there = segment.target + (start - from);
            let next = target.partition_point(|range| range.end <= there);
            let Some(new) = target.get(next) else { break };
            let skip = new.start.saturating_sub(there);
            let stop = end.min(start + (new.end - there));
            start += skip;
            if start < stop {
                let shift = (there + skip) as i64 + new.lift - (start as i64 + old.lift);
                pieces.push(Moved { start, end: stop, shift });
            }
            start = stop.max(start);
        }
    }
}

/// Makes sorted stretches disjoint: of two that overlap the longer keeps what they share.
fn longest_wins(pieces: Vec<Moved>) -> Vec<Moved> {
    let mut moved: Vec<Moved> = Vec::with_capacity(pieces.len());
    let mut last_len = 0;
    for mut piece in pieces {
        let len = piece.end - piece.start;
        if let Some(last) = moved.last_mut().filter(|last| last.end > piece.start) {
            if len > last_len {
                last.end = piece.start;
            } else {
                piece.start = last.end;
            }
        }
        if moved.last().is_some_and(|last| last.start == last.end) {
            moved.pop();
        }
        if piece.start < piece.end {
            moved.push(piece);
            last_len = len;
        }
    }
    moved
}

/// What all groups know about addresses.
#[derive(Debug)]
pub struct Addresses {
    pub layout: Layout,
    pub base_ranges: Vec<Range>,
    pub target_ranges: Vec<Range>,
    bounds: Vec<(i64, i64)>,
    /// Per base image: positions of its records of functions.
    frames: Vec<Vec<u32>>,
    pub tables: Vec<Table>,
    cover: Cover,
}

impl Addresses {
    pub fn new(layout: Layout, segments: &[Segment], base: &[u8]) -> Self {
        let (base_ranges, target_ranges) = (ranges_of(&layout.base), ranges_of(&layout.target));
        let bounds = |image: &Image| (image.bounds().0 as i64, image.bounds().1 as i64);
        let bounds = layout.base.iter().map(bounds).collect();
        let cover = Cover::new(segments, &base_ranges, &target_ranges, base.len());
        let frames = layout.base.iter().map(|image| functions(image, base)).collect();
        let tables = layout.tables();
        Self { layout, base_ranges, target_ranges, bounds, frames, tables, cover }
    }

    /// The range of the base that holds `at`.
    pub fn base_range(&self, at: usize) -> Option<&Range> {
        range_at(&self.base_ranges, at)
    }

    /// Positions of the records of functions of a base image that may have a field at or behind `from`.
    pub fn records(&self, image: usize, from: usize) -> impl Iterator<Item = usize> + '_ {
        let start = self.layout.base[image].frames.place(self.layout.base[image].at).start;
        let frames = &self.frames[image];
        let first = frames.partition_point(|at| start + *at as usize + frames::HANDLER + 4 <= from);
        frames[first..].iter().map(move |at| start + *at as usize)
    }

    /// Addresses of a base image: first, and one behind the last.
    #[inline]
    pub fn bounds(&self, image: usize) -> (i64, i64) {
        self.bounds[image]
    }

    /// How far an old address moved: itself, or what follows and precedes it.
    #[inline]
    pub fn shifts(&self, image: usize, address: i64) -> [Option<i64>; 3] {
        let image = &self.layout.base[image];
        for part in &image.parts {
            let inside = (address as u64).wrapping_sub(part.address);
            if inside < part.len {
                return self.cover.shifts((image.at + part.offset + inside) as usize);
            }
        }
        [None; 3]
    }

    /// The form of words of `kind` in base image `image`; `is_new` selects the anchors' side.
    #[inline]
    pub fn word_form(&self, kind: u8, image: usize, here: i64, is_new: bool) -> Option<Form> {
        match kind {
            WORDS_NONE => None,
            WORDS_WHOLE | WORDS_LOOSE => Some(Form::Whole),
            WORDS_NEAR => Some(Form::Near { origin: here }),
            _ => {
                let anchors = self.layout.anchors.get(image)?;
                let (base, target) = anchors.get(usize::from(kind - WORDS_ANCHORED))?;
                Some(Form::Near { origin: (if is_new { *target } else { *base }) as i64 })
            }
        }
    }
}

/// Where the records of functions begin, relative to the first record.
fn functions(image: &Image, base: &[u8]) -> Vec<u32> {
    let bytes = base.get(image.frames.place(image.at)).unwrap_or(&[]);
    let functions = frames::records(bytes).filter(|record| record.is_function);
    functions.map_while(|record| u32::try_from(record.at).ok()).collect()
}

const EXACT_BITS: u32 = 17;
const NEARBY_BITS: u32 = 13;
/// Targets closer than this power of two are expected to move alike.
const NEARBY: u32 = 6;

/// Where the targets of earlier operands went.
#[derive(Debug)]
pub struct Learned {
    exact: Vec<(u32, i32)>,
    nearby: Vec<(u32, i32)>,
}

impl Default for Learned {
    fn default() -> Self {
        Self { exact: vec![(0, 0); 1 << EXACT_BITS], nearby: vec![(0, 0); 1 << NEARBY_BITS] }
    }
}

/// Slot and tag of an address in a table.
#[inline]
fn slot(address: u64, image: usize, bits: u32) -> (usize, u32) {
    let hash = scramble(address ^ (image as u64) << 52);
    ((hash >> (64 - bits)) as usize, (hash >> 8) as u32 | 1)
}

#[inline]
fn look(table: &[(u32, i32)], (slot, tag): (usize, u32)) -> Option<i64> {
    let (found, shift) = table[slot];
    (found == tag).then_some(i64::from(shift))
}

impl Learned {
    #[inline]
    fn exact(&self, image: usize, address: i64) -> Option<i64> {
        look(&self.exact, slot(address as u64, image, EXACT_BITS))
    }

    #[inline]
    fn nearby(&self, image: usize, address: i64) -> Option<i64> {
        look(&self.nearby, slot(address as u64 >> NEARBY, image, NEARBY_BITS))
    }

    #[inline]
    fn learn(&mut self, image: usize, address: i64, shift: i64) {
        let Ok(shift) = i32::try_from(shift) else { return };
        let (at, tag) = slot(address as u64, image, EXACT_BITS);
        self.exact[at] = (tag, shift);
        let (at, tag) = slot(address as u64 >> NEARBY, image, NEARBY_BITS);
        self.nearby[at] = (tag, shift);
    }
}

const CANDIDATES: usize = 6;
/// Kinds of fields: operands, words, symbol names.
pub const FIELD_KINDS: usize = 32;
/// First kind of words outside code.
pub const WORD_FIELDS: usize = operand::KINDS;
/// Fields of unwind frames: common part, begin, handler.
pub const FRAME_FIELDS: usize = FIELD_KINDS - 4;
/// Names of symbols.
pub const NAME_FIELD: usize = FIELD_KINDS - 1;
const SOURCES: usize = 16;
const HISTORY: usize = 16;

/// A field to predict.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub kind: usize,
    pub image: usize,
    /// The address it referred to in the base.
    pub target: i64,
    /// Its form in the target.
    pub form: Form,
    /// What it held in the base.
    pub old: u64,
}

/// The values a field may have, most likely first.
#[derive(Debug, Default)]
struct Candidates {
    values: [u64; CANDIDATES],
    len: usize,
    /// Which predictors had something of their own to say.
    sources: usize,
}

impl Candidates {
    #[inline]
    fn add(&mut self, value: u64) -> bool {
        let is_new = !self.values[..self.len].contains(&value);
        if is_new && self.len < CANDIDATES {
            self.values[self.len] = value;
            self.len += 1;
        }
        is_new
    }
}

/// The models of predicted fields.
#[derive(Debug)]
pub struct FieldModel {
    learned: Learned,
    choices: Vec<Bit>,
    /// Nothing: a sum that makes the processor load tables before they are needed.
    warmth: i32,
    signs: [Bit; 2],
    misses: [Number; 4],
    histories: [u8; FIELD_KINDS],
}

impl Default for FieldModel {
    fn default() -> Self {
        Self {
            learned: Learned::default(),
            choices: vec![Bit::default(); FIELD_KINDS * SOURCES * HISTORY * 8],
            warmth: 0,
            signs: [Bit::default(); 2],
            misses: std::array::from_fn(|_| Number::default()),
            histories: [0; FIELD_KINDS],
        }
    }
}

impl FieldModel {
    /// Makes the processor load what is known of a target.
    #[inline]
    pub fn warm(&mut self, image: usize, target: i64) {
        let (at, _) = slot(target as u64, image, EXACT_BITS);
        self.warmth = self.warmth.wrapping_add(self.learned.exact[at].1);
    }

    /// Codes a field, or returns `None` when no predictor expects it to differ from the base.
    #[inline]
    pub fn code<C: Coder>(
        &mut self,
        coder: &mut C,
        addresses: &Addresses,
        field: &Field,
        new: impl FnOnce() -> u64,
    ) -> Option<u64> {
        let mut candidates = self.candidates(addresses, field);
        if candidates.len == 0 || (candidates.len == 1 && candidates.values[0] == field.old) {
            return None;
        }
        candidates.add(field.old);
        let value = if C::ENCODES { new() } else { 0 };
        let value = self.choose(coder, field, &candidates, value);
        // A page is too little to know where the address went; the rest of it follows.
        if !matches!(field.form, Form::Page { .. }) {
            let moved = field.form.target(value).wrapping_sub(field.target);
            self.learned.learn(field.image, field.target, moved);
        }
        Some(value)
    }

    #[inline]
    fn candidates(&self, addresses: &Addresses, field: &Field) -> Candidates {
        let value = |shift: i64| field.form.value(field.target.wrapping_add(shift), field.old);
        let mut found = Candidates::default();
        if let Some(shift) = self.learned.exact(field.image, field.target) {
            found.add(value(shift));
            found.sources = 1;
        }
        let [covering, following, preceding] = addresses.shifts(field.image, field.target);
        if let Some(shift) = covering {
            found.sources |= if found.add(value(shift)) { 2 } else { 4 };
        }
        if let Some(shift) = self.learned.nearby(field.image, field.target)
            && found.add(value(shift))
        {
            found.sources |= 8;
        }
        for shift in [following, preceding].into_iter().flatten() {
            found.add(value(shift));
        }
        found
    }

    fn choose<C: Coder>(&mut self, coder: &mut C, field: &Field, candidates: &Candidates, value: u64) -> u64 {
        let values = &candidates.values[..candidates.len];
        let right = values.iter().position(|known| *known == value).unwrap_or(values.len());
        let history = &mut self.histories[field.kind];
        let context = (field.kind * SOURCES + candidates.sources) * HISTORY;
        let models = &mut self.choices[(context + usize::from(*history & 15)) * 8..][..8];
        let mut chosen = 0;
        while chosen < values.len() && coder.bit(&mut models[chosen], chosen != right) {
            chosen += 1;
        }
        *history = *history << 1 | u8::from(chosen > 0);
        match values.get(chosen) {
            Some(known) => *known,
            None => self.miss(coder, field, values[0], value),
        }
    }

    /// Codes how far the first candidate was off.
    fn miss<C: Coder>(&mut self, coder: &mut C, field: &Field, near: u64, value: u64) -> u64 {
        let is_whole = field.form.width() == 8;
        let off = value.wrapping_sub(near) as i64;
        let off = if is_whole { off } else { i64::from(off as i32) };
        let is_below = coder.bit(&mut self.signs[usize::from(is_whole)], off < 0);
        let model = &mut self.misses[usize::from(is_whole) * 2 + usize::from(is_below)];
        let off = model.code(coder, off.unsigned_abs());
        let value = if is_below { near.wrapping_sub(off) } else { near.wrapping_add(off) };
        if is_whole { value } else { u64::from(value as u32) }
    }
}
