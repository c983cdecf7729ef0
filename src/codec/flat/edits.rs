//! Expects mismatches where the base looks as it did at earlier ones.
//!
//! A new version writes the same change in many places: a version number in every name, a constant
//! in every caller. Where the next such place is follows from the base, so naming it takes a
//! fraction of a bit instead of a distance. The search is paid for by what it finds: data without
//! repeated changes is soon searched no more.

use std::cmp::Ordering;

use super::coder::{Bit, Coder};
use crate::codec::bytes::{scramble, u64_at};

const SLOT_BITS: u32 = 12;
/// Bytes before a place that belong to what it looks like; with it and those behind, eight.
const BEFORE: usize = 5;
const TRUST_MAX: u8 = 3;
/// Closer places are cheap to name by their distance.
const AWAY_MIN: usize = 12;
/// Classes of the last distance.
const CLASSES: usize = 3;
/// Bytes that may be searched at first and at most.
const CREDIT_START: usize = 1 << 18;
const CREDIT_MAX: usize = 1 << 20;
/// What a met expectation adds to that, and what another takes away.
const CREDIT_MET: usize = 1 << 15;
const CREDIT_FAILED: usize = 1 << 16;
/// What a mismatch adds that would have been expected.
const CREDIT_MISSED: usize = 1 << 9;

/// What is known of places that look alike.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The tag of the last change.
    seen: u16,
    /// How often expecting one was right.
    trust: u8,
}

/// See the module.
#[derive(Debug)]
pub struct Edits {
    /// What changed at least twice, as a tag; zero is nothing.
    expected: Vec<u16>,
    slots: Vec<Slot>,
    /// Bytes that may still be searched.
    credit: usize,
    /// Where the search stands, and whether it found the place there.
    at: usize,
    is_found: bool,
    is_off: bool,
    is_here: Vec<Bit>,
    is_beyond: Vec<Bit>,
    /// Which of the last expectations were met.
    history: usize,
}

impl Default for Edits {
    fn default() -> Self {
        Self {
            expected: vec![0; 1 << SLOT_BITS],
            slots: vec![Slot::default(); 1 << SLOT_BITS],
            credit: CREDIT_START,
            at: 0,
            is_found: false,
            is_off: false,
            is_here: vec![Bit::default(); (8 * CLASSES) << 2],
            is_beyond: vec![Bit::default(); (8 * CLASSES) << 2],
            history: 0,
        }
    }
}

/// Slot and tag of a place.
#[inline]
fn place(base: &[u8], at: usize) -> (usize, u16) {
    let hash = scramble(u64_at(base, at - BEFORE));
    ((hash >> (64 - SLOT_BITS)) as usize, (hash >> 32) as u16 | 1)
}

/// Whether all bytes that a place looks like are there.
#[inline]
fn has_place(base: &[u8], at: usize) -> bool {
    at >= BEFORE && at - BEFORE + 8 <= base.len()
}

impl Edits {
    /// Begins a segment copied from `from` on. Native code is not searched: its changes are near
    /// each other, and what repeats there are addresses.
    pub fn enter(&mut self, from: usize, is_native: bool) {
        (self.at, self.is_found, self.is_off) = (from, false, is_native);
    }

    /// Finds the next place in `from..end` of the base where a mismatch is expected.
    #[inline]
    pub fn next(&mut self, base: &[u8], from: usize, end: usize) -> Option<usize> {
        if self.is_off {
            return None;
        }
        let from = from + AWAY_MIN;
        if !self.is_found || self.at < from {
            self.search(base, from, end);
        }
        self.is_found.then_some(self.at)
    }

    fn search(&mut self, base: &[u8], from: usize, end: usize) {
        self.is_found = false;
        let start = self.at.max(from).max(BEFORE);
        let end = end.min(base.len().saturating_sub(8 - BEFORE)).min(start.saturating_add(self.credit));
        if start >= end {
            return;
        }
        let windows = base[start - BEFORE..end - BEFORE + 7].windows(8);
        let known = |window: &[u8]| {
            let (slot, tag) = place(window, BEFORE);
            self.expected[slot] == tag
        };
        let found = windows.into_iter().position(known);
        self.at = found.map_or(end, |found| start + found);
        self.is_found = found.is_some();
        self.credit -= self.at - start;
    }

    /// Codes where the next mismatch is, seen from an expected place.
    #[inline]
    pub fn code<C: Coder>(
        &mut self,
        coder: &mut C,
        base: &[u8],
        (at, class): (usize, usize),
        right: Ordering,
    ) -> Ordering {
        let (slot, tag) = place(base, at);
        let trust = &mut self.slots[slot].trust;
        let context = (self.history * CLASSES + class.min(CLASSES - 1)) * 4 + usize::from(*trust);
        let is_here = coder.bit(&mut self.is_here[context], right.is_eq());
        self.history = self.history << 1 & 7 | usize::from(is_here);
        if is_here {
            *trust = (*trust + 1).min(TRUST_MAX);
            self.credit = (self.credit + CREDIT_MET).min(CREDIT_MAX);
            return Ordering::Equal;
        }
        self.credit = self.credit.saturating_sub(CREDIT_FAILED);
        if !coder.bit(&mut self.is_beyond[context], right.is_gt()) {
            return Ordering::Less;
        }
        if *trust == 0 && self.expected[slot] == tag {
            self.expected[slot] = 0;
        }
        *trust = trust.saturating_sub(1);
        Ordering::Greater
    }

    /// Learns of a mismatch that was not expected.
    #[inline]
    pub fn learn(&mut self, base: &[u8], at: usize) {
        if self.is_off || !has_place(base, at) {
            return;
        }
        let (slot, tag) = place(base, at);
        if self.expected[slot] == tag {
            self.credit = (self.credit + CREDIT_MISSED).min(CREDIT_MAX);
        } else if self.slots[slot].seen == tag {
            self.expected[slot] = tag;
            self.slots[slot].trust = 0;
            self.credit = (self.credit + CREDIT_MISSED).min(CREDIT_MAX);
        }
        self.slots[slot].seen = tag;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flat::coder::Encoder;

    /// Names with a version in them at irregular distances, and where their version is.
    fn names() -> (Vec<u8>, Vec<usize>) {
        let (mut base, mut places) = (Vec::new(), Vec::new());
        for turn in 0..40usize {
            base.extend((0..20 + turn * turn % 97).map(|at| b'a' + (at * turn % 23) as u8));
            places.push(base.len() + 10);
            base.extend_from_slice(b"library_0_1_2_name");
        }
        (base, places)
    }

    #[test]
    fn a_change_seen_twice_is_expected_wherever_the_base_looks_alike() {
        let (base, places) = names();
        let mut edits = Edits::default();
        edits.enter(0, false);
        assert_eq!(edits.next(&base, 0, base.len()), None);
        edits.learn(&base, places[0]);
        edits.learn(&base, places[1]);
        edits.enter(0, false);
        let mut coder = Encoder::default();
        for place in &places {
            let from = place.saturating_sub(20);
            assert_eq!(edits.next(&base, from, base.len()), Some(*place));
            edits.code(&mut coder, &base, (*place, 2), Ordering::Equal);
        }
        assert!(coder.finish().len() < 8);
        edits.enter(0, true);
        assert_eq!(edits.next(&base, 0, base.len()), None);
    }

    #[test]
    fn expectations_that_fail_end_the_search() {
        let (base, places) = names();
        let mut edits = Edits::default();
        let mut coder = Encoder::default();
        for seen in &places[..=CREDIT_MAX / CREDIT_FAILED] {
            edits.learn(&base, *seen);
            edits.learn(&base, *seen);
            edits.enter(0, false);
            if edits.next(&base, places[20] - 20, base.len()).is_some() {
                edits.code(&mut coder, &base, (places[20], 2), Ordering::Greater);
            }
        }
        edits.enter(0, false);
        assert_eq!(edits.next(&base, places[20] - 20, base.len()), None);
        assert!(edits.credit < CREDIT_FAILED);
    }
}
