//! Addresses outside code: tables of pointers and offsets, and the rows of symbol tables.
//!
//! Each block of the target has one kind of words, chosen by the encoder: the kind whose words the
//! alignment predicts best.

use std::ops::Range as Span;

use super::address::{
    Addresses, BLOCK_BITS, Range, SELF_DISTANCE, WORDS_ANCHORED, WORDS_FRAMES, WORDS_LOOSE, WORDS_NEAR,
    WORDS_NONE, WORDS_WHOLE,
};
use super::frames;
use super::image::ADDRESS_MAX;
use super::matcher::Segment;
use super::operand::Form;
use crate::codec::bytes::u64_at;

/// A stretch of the target and the stretch of the base it was copied from, both in one range.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub target: usize,
    pub base: usize,
    pub len: usize,
    pub target_range: Range,
    pub base_range: Range,
}

/// Shorter stretches hold no address worth predicting.
const STRETCH_MIN: usize = 8;

/// Cuts a segment into stretches.
pub fn stretches<'a>(addresses: &'a Addresses, segment: &Segment) -> impl Iterator<Item = Stretch> + 'a {
    let segment = *segment;
    let (start, end) = (segment.target, segment.target_end());
    let first = addresses.target_ranges.partition_point(|range| range.end <= start);
    let overlapping = addresses.target_ranges[first..].iter().take_while(move |r| r.start < end);
    overlapping.filter_map(move |target_range| {
        let target = start.max(target_range.start);
        let base = segment.base + (target - start);
        let base_range = addresses.base_range(base)?;
        let len = (end.min(target_range.end) - target).min(base_range.end - base);
        let (target_range, base_range) = (*target_range, *base_range);
        (len >= STRETCH_MIN).then_some(Stretch { target, base, len, target_range, base_range })
    })
}

/// Old and new forms of the word at `offset` of a stretch.
#[inline]
pub fn forms(addresses: &Addresses, stretch: &Stretch, kind: u8, offset: usize) -> Option<(Form, Form)> {
    let old_here = (stretch.base + offset) as i64 + stretch.base_range.lift;
    let new_here = (stretch.target + offset) as i64 + stretch.target_range.lift;
    let image = stretch.base_range.image;
    let old = addresses.word_form(kind, image, old_here, false)?;
    Some((old, addresses.word_form(kind, image, new_here, true)?))
}

/// The old target of a word, if it looks like an address.
#[inline]
pub fn old_target(
    addresses: &Addresses,
    stretch: &Stretch,
    kind: u8,
    offset: usize,
    value: u64,
    form: Form,
) -> Option<i64> {
    let target = form.target(value);
    let (low, high) = addresses.bounds(stretch.base_range.image);
    let here = (stretch.base + offset) as i64 + stretch.base_range.lift;
    let is_near_itself = kind == WORDS_NEAR && (target - here).abs() < SELF_DISTANCE;
    (target >= low && target < high && !is_near_itself).then_some(target)
}

/// The fields of unwind frames that a stretch has in `range`: offset, which one, and its old form.
pub fn frame_fields<'a>(
    addresses: &'a Addresses,
    base: &'a [u8],
    stretch: &Stretch,
    range: Span<usize>,
) -> impl Iterator<Item = (usize, usize, Form)> + 'a {
    let (start, lift) = (stretch.base, stretch.base_range.lift);
    let end = start + range.end;
    let records = addresses.records(stretch.base_range.image, start + range.start);
    let fields = records.take_while(move |at| *at < end).flat_map(move |at| {
        let handler = frames::has_handler(base, at).then_some(at + frames::HANDLER);
        [Some(at + frames::COMMON), Some(at + frames::BEGIN), handler].into_iter().enumerate()
    });
    fields.filter_map(move |(which, at)| {
        let at = at?;
        let origin = at as i64 + lift;
        let form = if which == 0 { Form::Back { origin } } else { Form::Near { origin } };
        let offset = at.checked_sub(start)?;
        (range.contains(&offset)).then_some((offset, which, form))
    })
}

/// The first offset at or behind `offset` where words of `kind` may lie.
#[inline]
pub fn aligned_offset(stretch: &Stretch, kind: u8, offset: usize) -> usize {
    let step = match kind {
        WORDS_NEAR | WORDS_LOOSE => return offset,
        WORDS_WHOLE => 8,
        _ => 4,
    };
    let here = (stretch.target + offset) as i64 + stretch.target_range.lift;
    offset + here.wrapping_neg().rem_euclid(step) as usize
}

const KINDS: usize = 16;
const RIGHT: i32 = 3;
const WRONG: i32 = -2;
/// A block's best kind must score more than this.
const SCORE_MIN: i32 = 6;

/// Chooses the kind of every block of the target.
pub fn choose_kinds(addresses: &Addresses, base: &[u8], target: &[u8], segments: &[Segment]) -> Vec<u8> {
    let mut scores = vec![[0i32; KINDS]; (target.len() >> BLOCK_BITS) + 1];
    for segment in segments {
        for stretch in stretches(addresses, segment).filter(|it| !it.target_range.is_code) {
            score_stretch(addresses, base, target, &stretch, &mut scores);
        }
    }
    for pair in &addresses.layout.symbols {
        let (first, end) = (pair.target as usize, (pair.target + pair.len) as usize);
        scores[first >> BLOCK_BITS..=end >> BLOCK_BITS].fill([0; KINDS]);
    }
    let mut kinds: Vec<u8> = scores.iter().map(best_kind).collect();
    if addresses.layout.base.iter().any(|image| image.frames.len > 0) {
        for image in &addresses.layout.target {
            let records = image.frames.place(image.at);
            if !records.is_empty() {
                kinds[records.start >> BLOCK_BITS..=(records.end - 1) >> BLOCK_BITS].fill(WORDS_FRAMES);
            }
        }
    }
    kinds
}

fn best_kind(scores: &[i32; KINDS]) -> u8 {
    let best = (1..KINDS).rev().max_by_key(|kind| scores[*kind]).unwrap_or(0);
    if scores[best] > SCORE_MIN { best as u8 } else { WORDS_NONE }
}

fn score_stretch(
    addresses: &Addresses,
    base: &[u8],
    target: &[u8],
    stretch: &Stretch,
    scores: &mut [[i32; KINDS]],
) {
    if stretch.base_range.lift + stretch.base as i64 >= ADDRESS_MAX as i64 {
        return score_unloaded(addresses, base, target, stretch, scores);
    }
    let anchors = addresses.layout.anchors.get(stretch.base_range.image).map_or(0, Vec::len);
    let kinds = WORDS_ANCHORED + anchors as u8;
    let mut offset = aligned_offset(stretch, WORDS_ANCHORED, 0);
    while offset + 8 <= stretch.len {
        for kind in WORDS_WHOLE..kinds {
            if kind != WORDS_WHOLE || aligned_offset(stretch, kind, offset) == offset {
                let block = (stretch.target + offset) >> BLOCK_BITS;
                scores[block][usize::from(kind)] +=
                    score_word(addresses, base, target, stretch, kind, offset).unwrap_or(0);
            }
        }
        offset += 4;
    }
}

/// Bytes that are never loaded have no addresses relative to something: only absolute ones are looked for.
fn score_unloaded(
    addresses: &Addresses,
    base: &[u8],
    target: &[u8],
    stretch: &Stretch,
    scores: &mut [[i32; KINDS]],
) {
    let (low, high) = addresses.bounds(stretch.base_range.image);
    let mut offset = 0;
    while offset + 8 <= stretch.len {
        let value = u64_at(base, stretch.base + offset) as i64;
        if value < low || value >= high {
            offset += 1;
            continue;
        }
        let score = score_word(addresses, base, target, stretch, WORDS_WHOLE, offset).unwrap_or(0);
        let of_block = &mut scores[(stretch.target + offset) >> BLOCK_BITS];
        of_block[usize::from(WORDS_LOOSE)] += score;
        if aligned_offset(stretch, WORDS_WHOLE, offset) == offset {
            of_block[usize::from(WORDS_WHOLE)] += score;
        }
        offset += 8;
    }
}

/// What predicting one word would be worth.
#[inline]
fn score_word(
    addresses: &Addresses,
    base: &[u8],
    target: &[u8],
    stretch: &Stretch,
    kind: u8,
    offset: usize,
) -> Option<i32> {
    let (old_form, new_form) = forms(addresses, stretch, kind, offset)?;
    let old = old_form.read(base, stretch.base + offset);
    let old_target = old_target(addresses, stretch, kind, offset, old, old_form)?;
    let [covering, following, _] = addresses.shifts(stretch.base_range.image, old_target);
    let shift = covering.or(following)?;
    let expected = new_form.value(old_target.wrapping_add(shift), old);
    let new = new_form.read(target, stretch.target + offset);
    Some(match (expected == old, expected == new, new == old) {
        (true, _, _) => 0,
        (_, true, _) => RIGHT,
        (_, _, true) => WRONG,
        _ => 0,
    })
}
