//! Codes the alignment: per segment the bytes before it, where it comes from, its length.
//!
//! A source is named by one of the recent shifts, as a continuation at the place where the last
//! segment ended (bytes were inserted), or as a jump from there.

use super::coder::{Bit, Coder, Number};
use super::matcher::{SEGMENT_MIN, Segment};
use crate::codec::bytes::bit_length;
use crate::codec::{Result, corrupt};

/// Shifts that a segment can name by their rank.
const RECENT: usize = 16;
const LENGTHS: usize = 8;

/// How the last segment named its source: a context for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Jump,
    Insertion,
    Last,
    Recent,
}

#[derive(Debug)]
struct Model {
    before: Vec<Number>,
    is_recent: Vec<Bit>,
    is_insertion: Vec<Bit>,
    ranks: Vec<Bit>,
    is_back: [Bit; 4],
    jumps: Vec<Number>,
    lens: Vec<Number>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            before: vec![Number::default(); 4 * LENGTHS],
            is_recent: vec![Bit::default(); 4 * LENGTHS * LENGTHS],
            is_insertion: vec![Bit::default(); 4 * LENGTHS * LENGTHS],
            ranks: vec![Bit::default(); 4 * LENGTHS * RECENT],
            is_back: [Bit::default(); 4],
            jumps: vec![Number::default(); 8],
            lens: vec![Number::default(); 4 * LENGTHS],
        }
    }
}

/// What has been coded so far.
#[derive(Debug, Default)]
struct State {
    model: Model,
    recent: [i64; RECENT],
    way: Way,
    before_class: usize,
    len_class: usize,
    target_at: u64,
    base_at: u64,
}

/// Codes `count` segments of a target of `target_len` bytes; a decoder is given none and returns
/// them, checked against both lengths.
pub fn code<C: Coder>(
    coder: &mut C,
    segments: &[Segment],
    count: usize,
    base_len: usize,
    target_len: usize,
) -> Result<Vec<Segment>> {
    let mut state = State::default();
    let mut coded = Vec::new();
    for index in 0..count {
        let segment = segments.get(index).copied().unwrap_or_default();
        let segment = state.segment(coder, segment);
        let fits = segment.len >= SEGMENT_MIN
            && segment.target.checked_add(segment.len).is_some_and(|end| end <= target_len)
            && segment.base.checked_add(segment.len).is_some_and(|end| end <= base_len);
        if !fits {
            return Err(corrupt("a segment does not fit"));
        }
        state.target_at = segment.target_end() as u64;
        state.base_at = (segment.base + segment.len) as u64;
        coded.push(segment);
    }
    Ok(coded)
}

impl State {
    fn segment<C: Coder>(&mut self, coder: &mut C, segment: Segment) -> Segment {
        let way = self.way as usize;
        let before = (segment.target as u64).wrapping_sub(self.target_at);
        let model = &mut self.model.before[way * LENGTHS + self.len_class];
        let before = model.code(coder, before);
        let class = (bit_length(before) as usize).min(LENGTHS - 1);
        let target = self.target_at.saturating_add(before);
        let shift = segment.base.wrapping_sub(segment.target) as i64;
        let shift = self.shift(coder, target, shift, class);
        let model = &mut self.model.lens[self.way as usize * LENGTHS + class];
        let len = model.code(coder, segment.len as u64);
        self.before_class = class;
        self.len_class = (bit_length(len) as usize / 2).min(LENGTHS - 1);
        Segment {
            target: target as usize,
            base: target.wrapping_add(shift as u64) as usize,
            len: len as usize,
        }
    }

    fn shift<C: Coder>(&mut self, coder: &mut C, target: u64, shift: i64, class: usize) -> i64 {
        let context = (self.way as usize * LENGTHS + self.before_class) * LENGTHS + class;
        let here = self.base_at.wrapping_sub(target) as i64;
        let known = self.recent.iter().position(|recent| *recent == shift);
        let shift = if coder.bit(&mut self.model.is_recent[context], known.is_some()) {
            self.recent_shift(coder, known.unwrap_or(0), class)
        } else if coder.bit(&mut self.model.is_insertion[context], shift == here) {
            self.way = Way::Insertion;
            here
        } else {
            self.jump(coder, here, shift)
        };
        let known = self.recent.iter().position(|recent| *recent == shift).unwrap_or(RECENT - 1);
        self.recent[..=known].rotate_right(1);
        self.recent[0] = shift;
        shift
    }

    fn recent_shift<C: Coder>(&mut self, coder: &mut C, right: usize, class: usize) -> i64 {
        let context = (self.way as usize * LENGTHS + class) * RECENT;
        let mut rank = 0;
        while rank < RECENT - 1 && coder.bit(&mut self.model.ranks[context + rank], rank != right) {
            rank += 1;
        }
        self.way = if rank == 0 { Way::Last } else { Way::Recent };
        self.recent[rank]
    }

    fn jump<C: Coder>(&mut self, coder: &mut C, here: i64, shift: i64) -> i64 {
        let way = self.way as usize;
        let away = shift.wrapping_sub(here);
        let is_back = coder.bit(&mut self.model.is_back[way], away < 0);
        let model = &mut self.model.jumps[way * 2 + usize::from(is_back)];
        let away = model.code(coder, away.unsigned_abs()) as i64;
        self.way = Way::Jump;
        here.wrapping_add(if is_back { away.wrapping_neg() } else { away })
    }
}
