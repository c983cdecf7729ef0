//! What a delta is made between, and the copies that it is made of.

use std::collections::HashMap;
use std::ops::Range;

use crate::codec::bytes::common_prefix;

/// Target bytes between two calls of `check`.
pub const CHECK_BYTES: usize = 4 << 20;

/// A stretch of the target that is in the base, or in the target before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// Position in the target.
    pub target: usize,
    /// Position in the base followed by the target, RFC 3284's view of both.
    pub source: usize,
    /// Bytes.
    pub size: usize,
}

impl Copy {
    /// How far the source is from the target, whose positions count from 0; copies of what moved as one share it.
    pub const fn shift(self) -> isize {
        self.source.wrapping_sub(self.target) as isize
    }
}

/// A base and a target, which is cut into windows: what is copied from the target stays in its window.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    /// The base.
    pub base: &'a [u8],
    /// The target.
    pub target: &'a [u8],
    /// Bytes of a window.
    pub window: usize,
}

impl Texts<'_> {
    /// Returns the window that a position of the target is in.
    pub fn window_of(&self, at: usize) -> Range<usize> {
        let start = at / self.window * self.window;
        start..self.target.len().min(start + self.window)
    }

    /// Returns where, from `at` on, the target ends to be what is at `source`; `at` where it cannot be copied.
    pub fn end_of(&self, source: usize, at: usize) -> usize {
        let Some(earlier) = source.checked_sub(self.base.len()) else {
            return at + common_prefix(&self.base[source..], &self.target[at..]);
        };
        let window = self.window_of(at);
        if earlier < window.start || earlier >= at {
            return at;
        }
        at + common_prefix(&self.target[earlier..window.end], &self.target[at..window.end])
    }

    /// How far back a copy's source is when its window is made: the whole base and the window stand before it.
    pub fn distance(&self, copy: Copy) -> usize {
        if copy.source < self.base.len() {
            self.base.len() + copy.target - self.window_of(copy.target).start - copy.source
        } else {
            self.base.len() + copy.target - copy.source
        }
    }
}

/// Where what is the same at a shift ends, so that what is long is compared once.
#[derive(Debug)]
pub struct Runs<'a> {
    texts: Texts<'a>,
    ends: HashMap<usize, usize>,
}

impl<'a> Runs<'a> {
    /// Creates it; nothing is known yet.
    pub fn new(texts: Texts<'a>) -> Self {
        Self { texts, ends: HashMap::new() }
    }

    /// Does what `Texts::end_of` does, for positions that never go back.
    pub fn end_of(&mut self, source: usize, at: usize) -> usize {
        let end = self.ends.entry(source.wrapping_sub(at)).or_default();
        if *end <= at {
            *end = self.texts.end_of(source, at);
        }
        *end
    }
}

/// Shifts that are remembered.
pub const SHIFTS: usize = 4;

/// The shifts of the last copies, last first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shifts(pub [isize; SHIFTS]);

impl Shifts {
    /// Returns how long ago a shift was used.
    pub fn rank(&self, shift: isize) -> Option<usize> {
        self.0.iter().position(|&known| known == shift)
    }

    /// Makes a shift the last one.
    pub fn use_shift(&mut self, shift: isize) {
        let rank = self.rank(shift).unwrap_or(SHIFTS - 1);
        self.0[..=rank].rotate_right(1);
        self.0[0] = shift;
    }
}

/// Counts the trailing bytes that two slices share.
pub fn common_suffix(left: &[u8], right: &[u8]) -> usize {
    left.iter().rev().zip(right.iter().rev()).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: Texts<'_> = Texts { base: b"0123456789", target: b"abcabcab0123abc", window: 12 };

    #[test]
    fn what_is_copied_from_the_target_stays_in_its_window() {
        for (source, at, end) in [(0, 8, 12), (4, 8, 8), (10, 3, 8), (10, 12, 12), (22, 13, 13), (10, 0, 0)] {
            assert_eq!(TEXTS.end_of(source, at), end, "{source} to {at}");
        }
    }

    #[test]
    fn a_distance_reaches_over_the_window_and_the_base() {
        for (target, source, distance) in [(8, 0, 18), (3, 10, 3), (13, 9, 2), (13, 22, 1)] {
            assert_eq!(TEXTS.distance(Copy { target, source, size: 1 }), distance, "{source} to {target}");
        }
    }

    #[test]
    fn runs_end_where_the_texts_do() {
        let mut runs = Runs::new(TEXTS);
        for (source, at) in [(10, 3), (11, 4), (0, 8), (1, 9), (15, 8), (4, 12), (24, 13)] {
            assert_eq!(runs.end_of(source, at), TEXTS.end_of(source, at), "{source} to {at}");
        }
    }

    #[test]
    fn a_shift_that_was_used_is_the_last_one() {
        let mut shifts = Shifts::default();
        for shift in [1, 2, 3, 4, 2] {
            shifts.use_shift(shift);
        }
        assert_eq!(shifts.0, [2, 4, 3, 1]);
        assert_eq!((shifts.rank(3), shifts.rank(7)), (Some(2), None));
    }
}
