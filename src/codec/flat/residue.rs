//! Codes one group of the target, given the alignment: addresses, mismatches, literal regions.
//!
//! One walk in file order serves both directions. The decoder's output and the encoder's copy of it
//! are the same buffer, so every context looks only at what both sides have.

use std::cmp::Ordering;
use std::ops::Range;

use super::address::{
    Addresses, FRAME_FIELDS, Field, FieldModel, NAME_FIELD, WORD_FIELDS, WORDS_FRAMES, WORDS_LOOSE,
    WORDS_NEAR, WORDS_NONE,
};
use super::coder::{Coder, Decoder, Encoder, Number};
use super::edits::Edits;
use super::frames::Table;
use super::lean::{ByteModel, CONTEXTS, Purpose};
use super::literal::{BaseIndex, Depth, Parser, Recent, Region, Source, Token, TokenModel};
use super::matcher::Segment;
use super::operand::{Form, LOW, Scan};
use super::piece::{self, Bulk, Kind, PIECES_FROM, Piece, PieceModel};
use super::words::{self, Stretch};
use super::written::Written;
use crate::codec::bytes::{bit_length, common_prefix, u32_at};
use crate::codec::{Result, corrupt};

/// A part of the target that is coded on its own.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    pub base: &'a [u8],
    pub addresses: Option<&'a Addresses>,
    /// Position in the target.
    pub start: usize,
    pub len: usize,
    /// Base minus target of the last segment before.
    pub shift: i64,
    /// The segments inside.
    pub segments: &'a [Segment],
}

/// The bytes of a coded group.
#[derive(Debug)]
pub struct Coded {
    pub symbols: Vec<u8>,
    pub bulk: Vec<u8>,
}

/// Codes a group of `target`; `room` becomes a copy of it.
pub fn encode<M: ByteModel>(
    group: Group<'_>,
    target: &[u8],
    index: &BaseIndex,
    depth: Depth,
    room: &mut Vec<u8>,
) -> Result<Coded> {
    let parser = Parser::new(group.base, target, index, depth);
    let bulk = Bulk::Put(Vec::new());
    room.resize(group.len, 0);
    let mut walk = Walk::<_, M>::new(Encoder::default(), group, target, Some(parser), bulk, room);
    walk.run()?;
    debug_assert!(*walk.out == target[group.start..group.start + group.len]);
    let Bulk::Put(bulk) = walk.bulk else { unreachable!("an encoder puts") };
    Ok(Coded { symbols: walk.coder.finish(), bulk })
}

/// Rebuilds a group where it is to be: `room` has its length.
pub fn decode<M: ByteModel>(group: Group<'_>, symbols: &[u8], bulk: &[u8], room: &mut [u8]) -> Result<()> {
    let bulk = Bulk::Get(crate::codec::bytes::Reader::new(bulk));
    let mut walk = Walk::<_, M>::new(Decoder::new(symbols), group, &[], None, bulk, room);
    walk.run()?;
    if walk.coder.is_overrun() {
        return Err(corrupt("a group ends early"));
    }
    Ok(())
}

/// Operands found at a time.
const OPERANDS_AHEAD: usize = 8;
const GAP_CLASSES: usize = 12;

/// The models of mismatches.
#[derive(Debug)]
struct MismatchModel<M> {
    gaps: Vec<Number>,
    values: M,
    /// Sizes of the last two gaps, as bit lengths.
    last: [usize; 2],
    /// The last difference.
    difference: u8,
}

impl<M: ByteModel> MismatchModel<M> {
    fn new(len: usize) -> Self {
        let gaps = vec![Number::default(); GAP_CLASSES * GAP_CLASSES];
        Self { gaps, values: M::new(Purpose::Mismatches, len), last: [0; 2], difference: 0 }
    }

    fn gap<C: Coder>(&mut self, coder: &mut C, gap: u64) -> u64 {
        let [near, far] = self.last.map(|size| size.min(GAP_CLASSES - 1));
        let gap = self.gaps[near * GAP_CLASSES + far].code(coder, gap);
        self.skip_gap(gap);
        gap
    }

    /// Takes note of a gap that followed otherwise.
    fn skip_gap(&mut self, gap: u64) {
        self.last = [bit_length(gap) as usize, self.last[0]];
    }
}

struct Walk<'a, C, M> {
    coder: C,
    group: Group<'a>,
    /// The whole target; empty for a decoder.
    known: &'a [u8],
    parser: Option<Parser<'a>>,
    bulk: Bulk<'a>,
    /// The group so far.
    out: Written<'a>,
    /// The bytes of token pieces so far.
    literals: Vec<u8>,
    recent: Recent,
    tokens: TokenModel,
    bytes: M,
    mismatches: MismatchModel<M>,
    edits: Edits,
    /// Made when the first address is predicted: most targets have none, and its tables are large.
    fields: Option<Box<FieldModel>>,
    pieces: PieceModel,
    /// Base minus target of the last segment.
    shift: i64,
}

impl<'a, C: Coder, M: ByteModel> Walk<'a, C, M> {
    fn new(
        coder: C,
        group: Group<'a>,
        known: &'a [u8],
        parser: Option<Parser<'a>>,
        bulk: Bulk<'a>,
        room: &'a mut [u8],
    ) -> Self {
        Self {
            coder,
            group,
            known,
            parser,
            bulk,
            out: Written::new(room),
            literals: Vec::new(),
            recent: Recent::default(),
            tokens: TokenModel::default(),
            bytes: M::new(Purpose::Literals, group.len),
            mismatches: MismatchModel::new(group.len),
            edits: Edits::default(),
            fields: None,
            pieces: PieceModel::default(),
            shift: group.shift,
        }
    }

    fn run(&mut self) -> Result<()> {
        for segment in self.group.segments {
            self.region(segment.target, Some(segment))?;
            self.copy(segment)?;
            self.shift = segment.base.wrapping_sub(segment.target) as i64;
        }
        self.region(self.group.start + self.group.len, None)?;
        self.build_tables();
        Ok(())
    }

    /// The tables that are built from what this group holds.
    fn tables(&self) -> impl Iterator<Item = &'a Table> + use<'a, C, M> {
        let (start, end) = (self.group.start, self.group.start + self.group.len);
        let tables = self.group.addresses.map_or(&[][..], |addresses| &addresses.tables);
        let is_inside = move |range: &Range<usize>| start <= range.start && range.end <= end;
        tables.iter().filter(move |table| is_inside(&table.rows) && is_inside(&table.records))
    }

    fn build_tables(&mut self) {
        let start = self.group.start;
        for table in self.tables() {
            let rows = table.build(&self.out[table.records.start - start..table.records.end - start]);
            self.out[table.rows.start - start..table.rows.end - start].copy_from_slice(&rows);
        }
    }

    /// Codes what lies before `end`, leaving out the tables that are built.
    fn region(&mut self, end: usize, behind: Option<&Segment>) -> Result<()> {
        let at = self.at();
        for table in self.tables().filter(|table| table.rows.start >= at && table.rows.end <= end) {
            let Some(left) = table.rows.start.checked_sub(self.at()) else { continue };
            self.coded_region(self.at() + left, None)?;
            self.out.grow(table.rows.len())?.fill(0);
        }
        self.coded_region(end, behind)
    }

    /// The next byte's position in the target.
    fn at(&self) -> usize {
        self.group.start + self.out.len()
    }

    /// Codes what lies before `end`.
    fn coded_region(&mut self, end: usize, behind: Option<&Segment>) -> Result<()> {
        let len = end.checked_sub(self.at()).ok_or(corrupt("segments overlap"))?;
        if len == 0 {
            return Ok(());
        }
        let behind = behind.map(|segment| segment.base.wrapping_sub(segment.target) as i64);
        self.recent.enter(self.shift, behind);
        self.tokens.enter();
        if len < PIECES_FROM {
            return self.token_piece(len);
        }
        let pieces = if C::ENCODES { self.classify(len) } else { Vec::new() };
        let mut planned = pieces.into_iter();
        while self.at() < end {
            let left = end - self.at();
            let planned = planned.next().unwrap_or(Piece { kind: Kind::Tokens, len: left });
            let piece = self.pieces.code(&mut self.coder, planned, left)?;
            self.piece(piece)?;
        }
        Ok(())
    }

    fn classify(&self, len: usize) -> Vec<Piece> {
        let (at, aligned) = (self.at(), self.aligned(len).unwrap_or(&[]));
        let dense_bits = self.parser.as_ref().map_or(8.0, |parser| parser.depth().dense_bits);
        piece::classify(aligned, &self.known[at..at + len], at, dense_bits)
    }

    /// The base behind the last segment; shorter than `len` at the base's end.
    fn aligned(&self, len: usize) -> Option<&'a [u8]> {
        let from = usize::try_from((self.at() as i64).wrapping_add(self.shift)).ok()?;
        let aligned = self.group.base.get(from..)?;
        Some(&aligned[..len.min(aligned.len())])
    }

    fn piece(&mut self, piece: Piece) -> Result<()> {
        let at = self.at();
        let known = if C::ENCODES { &self.known[at..at + piece.len] } else { &[][..] };
        match piece.kind {
            Kind::Tokens => self.token_piece(piece.len),
            Kind::Dense => self.bulk.dense(known, self.out.grow(piece.len)?),
            Kind::Numbers(width) => {
                let aligned = self.aligned(piece.len).filter(|base| base.len() == piece.len);
                let aligned = aligned.ok_or(corrupt("numbers without a base"))?;
                self.bulk.numbers(width, aligned, known, self.out.grow(piece.len)?)
            }
        }
    }

    fn token_piece(&mut self, len: usize) -> Result<()> {
        let (end, shift) = (self.at() + len, self.shift);
        let mut hits = 0usize;
        while self.at() < end {
            let region = Region { at: self.at(), end, shift };
            let token = match &mut self.parser {
                Some(parser) => parser.next(region, &self.recent, &self.literals),
                None => Token::Literal,
            };
            let predicted = self.predicted(region.at);
            let history = self.tokens.history();
            let contexts = self.literal_contexts(predicted, history, hits);
            self.bytes.warm(&contexts);
            match self.tokens.code(&mut self.coder, token, region, &mut self.recent) {
                None => {
                    let byte = self.literal(&contexts, hits);
                    hits = hits << 1 & 7 | usize::from(byte == predicted.0);
                }
                Some((source, len)) => {
                    self.copy_short(source, len)?;
                    hits = 0;
                }
            }
        }
        Ok(())
    }

    /// What the latest source would give next: two bytes.
    fn predicted(&self, at: usize) -> (u8, u8) {
        let (bytes, from) = match self.recent.0[0] {
            Source::Base(shift) => (self.group.base, (at as i64).wrapping_add(shift) as usize),
            Source::Own(back) => (&self.literals[..], self.literals.len().wrapping_sub(back as usize)),
        };
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        (byte(from), byte(from.wrapping_add(1)))
    }

    #[inline]
    fn literal_contexts(&self, (next, after): (u8, u8), history: usize, hits: usize) -> [u32; CONTEXTS] {
        let [one, two, three] = [1, 2, 3].map(|back| u32::from(last(&self.out, back)));
        let (next, after) = (u32::from(next), u32::from(after));
        let follows_copy = (history & 1) as u32;
        [
            one,
            next | (hits as u32) << 8 | follows_copy << 11,
            one | two << 8,
            next | one << 8 | after << 16,
            one | two << 8 | three << 16,
        ]
    }

    #[inline]
    fn literal(&mut self, contexts: &[u32; CONTEXTS], hits: usize) -> u8 {
        let byte = if C::ENCODES { self.known[self.at()] } else { 0 };
        let byte = self.bytes.code(&mut self.coder, contexts, hits, byte);
        self.out.push(byte);
        self.literals.push(byte);
        byte
    }

    fn copy_short(&mut self, source: Source, len: usize) -> Result<()> {
        let bad = || corrupt("a copy from outside");
        match source {
            Source::Base(shift) => {
                let from = usize::try_from((self.at() as i64).wrapping_add(shift));
                let from = from.map_err(|_| bad())?;
                let end = from.checked_add(len).ok_or_else(bad)?;
                let bytes = self.group.base.get(from..end).ok_or_else(bad)?;
                self.out.grow(len)?.copy_from_slice(bytes);
                self.literals.extend_from_slice(bytes);
            }
            Source::Own(back) => {
                let back = usize::try_from(back).map_err(|_| bad())?;
                let from = self.literals.len().checked_sub(back).ok_or_else(bad)?;
                if back == 0 {
                    return Err(bad());
                }
                for at in from..from + len {
                    let byte = self.literals[at];
                    self.out.push(byte);
                    self.literals.push(byte);
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, segment: &Segment) -> Result<()> {
        let (from, len) = (segment.base, segment.len);
        let start = self.out.len();
        self.out.grow(len)?.copy_from_slice(&self.group.base[from..from + len]);
        if let Some(addresses) = self.group.addresses {
            for stretch in words::stretches(addresses, segment) {
                self.addresses(addresses, &stretch);
            }
        }
        self.mismatches(start, from, len)
    }

    fn addresses(&mut self, addresses: &Addresses, stretch: &Stretch) {
        match (stretch.base_range.is_code, stretch.target_range.is_code) {
            (true, true) => self.operands(addresses, stretch),
            (_, false) => {
                self.symbol_rows(addresses, stretch);
                self.words(addresses, stretch);
            }
            (false, true) => {}
        }
    }

    fn operands(&mut self, addresses: &Addresses, stretch: &Stretch) {
        let (old, new) = (stretch.base_range, stretch.target_range);
        let code = &self.group.base[stretch.base..stretch.base + stretch.len];
        let bounds = addresses.bounds(old.image);
        let lift = stretch.target as i64 + new.lift;
        let mut scan = Scan::new(old.machine, code, stretch.base as i64 + old.lift, bounds);
        loop {
            // Found ahead of their use, so that what is known of their targets is loaded in time.
            let mut batch = [None; OPERANDS_AHEAD];
            for (slot, found) in batch.iter_mut().zip(&mut scan) {
                self.fields.get_or_insert_default().warm(old.image, found.target);
                *slot = Some(found);
            }
            for found in batch.iter().flatten() {
                let at = stretch.target + found.at;
                let origin = lift + (found.at + found.reach) as i64;
                let form = found.form.moved_to(if found.kind == LOW {
                    self.page(stretch.target + found.page_at, lift + found.page_at as i64)
                } else {
                    origin
                });
                let old_value = u64::from(u32_at(code, found.at));
                let (kind, target) = (found.kind, found.target);
                let field = Field { kind, image: old.image, target, form, old: old_value };
                self.field(addresses, &field, at);
            }
            if batch[OPERANDS_AHEAD - 1].is_none() {
                break;
            }
        }
    }

    /// The page that the ARM instruction at `at` of the target, of address `origin`, names.
    fn page(&self, at: usize, origin: i64) -> i64 {
        Form::Page { origin }.target(u64::from(u32_at(&self.out, at - self.group.start)))
    }

    /// Codes a field at `at` of the target; true when it was written.
    #[inline]
    fn field(&mut self, addresses: &Addresses, field: &Field, at: usize) -> bool {
        let (form, known) = (field.form, self.known);
        let new = || form.read(known, at);
        let Some(value) = self.fields.get_or_insert_default().code(&mut self.coder, addresses, field, new)
        else {
            return false;
        };
        let (at, width) = (at - self.group.start, form.width());
        self.out[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        true
    }

    fn words(&mut self, addresses: &Addresses, stretch: &Stretch) {
        let block_bits = super::address::BLOCK_BITS;
        let mut offset = 0;
        while offset < stretch.len {
            let block = (stretch.target + offset) >> block_bits;
            let kind = addresses.layout.kinds.get(block).copied().unwrap_or(WORDS_NONE);
            let end = (((block + 1) << block_bits) - stretch.target).min(stretch.len);
            offset = match kind {
                WORDS_NONE => end,
                WORDS_FRAMES => self.frames(addresses, stretch, offset..end),
                kind => self.block_words(addresses, stretch, kind, offset, end).max(end),
            };
        }
    }

    /// Codes the fields of unwind frames that begin in a range of a stretch; returns the range's end.
    fn frames(&mut self, addresses: &Addresses, stretch: &Stretch, range: Range<usize>) -> usize {
        let (base, image, end) = (self.group.base, stretch.base_range.image, range.end);
        let (low, high) = addresses.bounds(image);
        let lift = stretch.target as i64 + stretch.target_range.lift;
        for (offset, which, old_form) in words::frame_fields(addresses, base, stretch, range) {
            if offset + old_form.width() > stretch.len {
                break;
            }
            let old = old_form.read(base, stretch.base + offset);
            let target = old_form.target(old);
            if target >= low && target < high {
                let form = old_form.moved_to(lift + offset as i64);
                let field = Field { kind: FRAME_FIELDS + which, image, target, form, old };
                self.field(addresses, &field, stretch.target + offset);
            }
        }
        end
    }

    /// Codes the words that begin in `offset..end` of a stretch; returns where the last one ends.
    fn block_words(
        &mut self,
        addresses: &Addresses,
        stretch: &Stretch,
        kind: u8,
        offset: usize,
        end: usize,
    ) -> usize {
        let mut offset = words::aligned_offset(stretch, kind, offset);
        let image = stretch.base_range.image;
        while offset < end {
            let Some((old_form, form)) = words::forms(addresses, stretch, kind, offset) else {
                return end;
            };
            let width = form.width();
            if offset + width > stretch.len {
                return stretch.len;
            }
            let old = old_form.read(self.group.base, stretch.base + offset);
            let target = words::old_target(addresses, stretch, kind, offset, old, old_form);
            let kind_of_field = WORD_FIELDS + usize::from(kind);
            let is_written = target.is_some_and(|target| {
                let field = Field { kind: kind_of_field, image, target, form, old };
                self.field(addresses, &field, stretch.target + offset)
            });
            let step = match kind {
                WORDS_NEAR if !is_written => 1,
                WORDS_LOOSE if target.is_none() => 1,
                _ => width,
            };
            offset += step;
        }
        offset
    }

    /// Codes names and values in the rows of symbol tables.
    fn symbol_rows(&mut self, addresses: &Addresses, stretch: &Stretch) {
        const ROW: usize = 24;
        let image = stretch.base_range.image;
        let (low, high) = addresses.bounds(image);
        for pair in &addresses.layout.symbols {
            let (table, end) = (pair.target as usize, (pair.target + pair.len) as usize);
            let (from, end) = (stretch.target.max(table), end.min(stretch.target + stretch.len));
            let old_from = stretch.base + (from - stretch.target);
            let is_in_phase = old_from >= pair.base as usize
                && from < end
                && (old_from - pair.base as usize) % ROW == (from - table) % ROW;
            if !is_in_phase {
                continue;
            }
            let mut at = from + (ROW - (from - table) % ROW) % ROW;
            while at + ROW <= end {
                let old_at = stretch.base + (at - stretch.target);
                let old = Form::Near { origin: pair.base_names as i64 };
                let form = Form::Near { origin: pair.target_names as i64 };
                let value = old.read(self.group.base, old_at);
                let target = old.target(value);
                self.field(addresses, &Field { kind: NAME_FIELD, image, target, form, old: value }, at);
                let value = Form::Whole.read(self.group.base, old_at + 8);
                let target = value as i64;
                if target >= low && target < high {
                    let kind = WORD_FIELDS + usize::from(super::address::WORDS_WHOLE);
                    let field = Field { kind, image, target, form: Form::Whole, old: value };
                    self.field(addresses, &field, at + 8);
                }
                at += ROW;
            }
        }
    }

    /// Codes where a copied segment differs, and how.
    fn mismatches(&mut self, start: usize, from: usize, len: usize) -> Result<()> {
        let is_native = self.group.addresses.is_some_and(|known| known.base_range(from).is_some());
        self.edits.enter(from, is_native);
        let mut done = 0;
        while done < len {
            let next = done + if C::ENCODES { self.next_mismatch(start + done, len - done) } else { 0 };
            let Some(place) = self.mismatch_place(from, done..len, next)? else { break };
            self.mismatch(start + place, from + place);
            done = place + 1;
        }
        Ok(())
    }

    /// Codes where in `range` of a segment copied from `from` the next mismatch is, if there is one.
    fn mismatch_place(&mut self, from: usize, range: Range<usize>, next: usize) -> Result<Option<usize>> {
        let (base, mut done, len) = (self.group.base, range.start, range.end);
        while let Some(expected) = self.edits.next(base, from + done, from + len) {
            let side = next.cmp(&(expected - from));
            let class = self.mismatches.last[0] / 3;
            match self.edits.code(&mut self.coder, base, (expected, class), side) {
                Ordering::Less => break,
                Ordering::Equal => {
                    self.mismatches.skip_gap((expected - from - range.start) as u64 + 1);
                    return Ok(Some(expected - from));
                }
                Ordering::Greater => done = expected - from + 1,
            }
        }
        let left = (len - done) as u64;
        // Zero says that the rest is equal; the common case is one symbol.
        let gap = if next >= len { 0 } else { next.saturating_sub(done) as u64 + 1 };
        if left == 0 {
            return Ok(None);
        }
        let gap = self.mismatches.gap(&mut self.coder, gap);
        if gap > left {
            return Err(corrupt("a mismatch outside its segment"));
        }
        if gap == 0 {
            return Ok(None);
        }
        let place = done + gap as usize - 1;
        self.edits.learn(base, from + place);
        Ok(Some(place))
    }

    fn next_mismatch(&self, at: usize, len: usize) -> usize {
        let known = &self.known[self.group.start + at..];
        common_prefix(&self.out[at..at + len], &known[..len])
    }

    /// Codes the byte at `at` of the group, copied from `from`.
    #[inline]
    fn mismatch(&mut self, at: usize, from: usize) {
        let base = self.group.base;
        let byte = if C::ENCODES { self.known[self.group.start + at] } else { 0 };
        let old = self.out[at];
        let before = at.checked_sub(1).map_or(0, |before| self.out[before]);
        let base_before = from.checked_sub(1).map_or(0, |before| base[before]);
        let base_after = base.get(from + 1).copied().unwrap_or(0);
        let model = &mut self.mismatches;
        let gap = model.last[0];
        let is_adjacent = u32::from(gap == 1);
        let difference = u32::from(model.difference);
        let moved = u32::from(before.wrapping_sub(base_before));
        let (old_word, before) = (u32::from(old), u32::from(before));
        let contexts: [u32; CONTEXTS] = [
            old_word | is_adjacent << 8,
            old_word | difference << 8 | is_adjacent << 16,
            old_word | before << 8,
            old_word | moved << 8 | u32::from(base_after) << 16,
            ((old_word + difference) & 0xFF) | is_adjacent << 8 | (gap.min(7) as u32) << 9,
        ];
        let byte = model.values.code(&mut self.coder, &contexts, gap.min(3), byte);
        model.difference = byte.wrapping_sub(old);
        self.out[at] = byte;
    }
}

#[inline]
fn last(bytes: &[u8], back: usize) -> u8 {
    bytes.len().checked_sub(back).map_or(0, |at| bytes[at])
}
