//! Finds the long copies, which most of a target that changed little consists of, at a fraction of the price of
//! a thorough search.
//!
//! Stretches of the base at wide steps go into a table; the target is compared at the shifts of the last copies
//! first and looked up only where they end. What lies between is left to `matching`.

use std::io;

use super::seeds::Seeds;
use super::texts::{CHECK_BYTES, Copy, common_suffix};
use crate::codec::bytes::{common_prefix, u64_at};

/// Bytes that are looked up as one.
const GRAIN: usize = 32;
/// Bytes of the base between two grains.
const STEP: usize = 32;
/// Bytes of a copy at one of the last shifts.
const NEAR_MIN: usize = 32;
/// Bytes of a copy from anywhere else.
const FAR_MIN: usize = 128;
/// Bytes at the end of a copy before anything is looked up: most often it goes on behind a few.
const WAIT: usize = 8;
/// Bytes that tell whether staying at a shift is as good.
const STAY_BYTES: usize = 256;
/// Unmatched bytes after which the scan skips two of three: what is as long as `FAR_MIN` is still found.
const DAMP: usize = 64;
/// Unmatched bytes after which the scan skips two more.
const DRY: usize = 1 << 12;
/// Farthest skip.
const STRIDE_MAX: usize = 15;

fn grain_hash(bytes: &[u8], at: usize) -> u64 {
    const FACTORS: [u64; 4] =
        [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0xD6E8_FEB8_6659_FD93];
    let words = (0..GRAIN).step_by(8).map(|part| u64_at(bytes, at + part));
    let mixed = words.zip(FACTORS).fold(0, |sum: u64, (word, factor)| {
        sum.wrapping_add((word ^ word >> 32).wrapping_mul(factor).rotate_left(23))
    });
    (mixed ^ mixed >> 31).wrapping_mul(FACTORS[0])
}

/// Finds long copies, in order; none overlap in the target.
///
/// # Errors
/// What `check` said.
pub fn find_anchors(base: &[u8], target: &[u8], check: &dyn Fn() -> io::Result<()>) -> io::Result<Vec<Copy>> {
    let places = 0..base.len().saturating_sub(GRAIN - 1);
    let grains = Seeds::new(places, STEP, None, |at| grain_hash(base, at), check)?;
    let mut finder = Finder { base, target, grains, shifts: [0; 2], anchors: Vec::new(), done: 0 };
    let (mut at, mut checked) = (0, 0);
    while at + GRAIN <= target.len() {
        if at - checked >= CHECK_BYTES {
            checked = at;
            check()?;
        }
        match finder.at_last_shifts(at).or_else(|| finder.anywhere(at)) {
            Some(copy) => {
                finder.take(copy);
                at = finder.done;
            }
            None => at += stride(at - finder.done),
        }
    }
    Ok(finder.anchors)
}

/// How far to move with so many bytes unmatched: odd, so that every phase of the grains is met.
const fn stride(unmatched: usize) -> usize {
    let stride = if unmatched < DAMP { 1 } else { 3 + 2 * (unmatched / DRY) };
    if stride < STRIDE_MAX { stride } else { STRIDE_MAX }
}

struct Finder<'a> {
    base: &'a [u8],
    target: &'a [u8],
    grains: Seeds,
    /// The shifts of the last copies, last first.
    shifts: [isize; 2],
    anchors: Vec<Copy>,
    /// Where the last copy ends.
    done: usize,
}

impl Finder<'_> {
    #[inline]
    fn at_last_shifts(&self, at: usize) -> Option<Copy> {
        let word = u64_at(self.target, at);
        self.shifts.into_iter().find_map(|shift| {
            let place = at.checked_add_signed(shift)?;
            if u64::from_le_bytes(*self.base.get(place..)?.first_chunk()?) != word {
                return None;
            }
            Some(self.extend(place, at)).filter(|copy| copy.size >= NEAR_MIN)
        })
    }

    #[inline]
    fn anywhere(&self, at: usize) -> Option<Copy> {
        if at < self.done + WAIT && self.done > 0 {
            return None;
        }
        let looked = self.grains.look(grain_hash(self.target, at));
        let copies = self.grains.places(looked).map(|place| self.extend(place, at));
        let best = copies.max_by_key(|copy| copy.size)?;
        (best.size >= FAR_MIN && !self.is_staying_better(best)).then_some(best)
    }

    fn extend(&self, place: usize, at: usize) -> Copy {
        let ahead = common_prefix(&self.base[place..], &self.target[at..]);
        let room = (at - self.done).min(place);
        let back = common_suffix(&self.base[place - room..place], &self.target[at - room..at]);
        Copy { target: at - back, source: place - back, size: ahead + back }
    }

    /// Returns whether most of the beginning of a copy is at the last shift, too.
    fn is_staying_better(&self, copy: Copy) -> bool {
        let size = copy.size.min(STAY_BYTES);
        let Some(place) = copy.target.checked_add_signed(self.shifts[0]) else { return false };
        let Some(here) = self.base.get(place..place + size) else { return false };
        let there = &self.base[copy.source..copy.source + size];
        here.iter().zip(there).filter(|(here, there)| here == there).count() * 4 > size * 3
    }

    fn take(&mut self, copy: Copy) {
        if copy.shift() != self.shifts[0] {
            self.shifts = [copy.shift(), self.shifts[0]];
        }
        self.done = copy.target + copy.size;
        self.anchors.push(copy);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    fn found(base: &[u8], target: &[u8]) -> Vec<Copy> {
        let anchors = find_anchors(base, target, &|| Ok(())).expect("found");
        let mut done = 0;
        for anchor in &anchors {
            assert!(anchor.target >= done, "anchors overlap");
            done = anchor.target + anchor.size;
            let there = &base[anchor.source..anchor.source + anchor.size];
            assert!(there == &target[anchor.target..done], "an anchor is no copy");
        }
        anchors
    }

    #[test]
    fn what_moved_is_found_whole() {
        let base = noise(100_000, 1);
        for (start, end, before) in
            [(0, 100_000, 0), (777, 60_001, 13), (50_000, 50_500, 9_000), (31, 163, 60)]
        {
            let target = [&noise(before, 2)[..], &base[start..end], &noise(50, 3)].concat();
            let expected = Copy { target: before, source: start, size: end - start };
            assert_eq!(found(&base, &target), [expected], "{start} to {end} behind {before}");
        }
    }

    #[test]
    fn changed_bytes_do_not_end_a_shift() {
        let base = noise(50_000, 1);
        let mut target = [&b"in front"[..], &base].concat();
        for at in (1000..50_000).step_by(100) {
            target[at] ^= 1;
        }
        let anchors = found(&base, &target);
        assert_eq!(anchors.len(), 491);
        assert!(anchors.iter().all(|anchor| anchor.target == anchor.source + 8));
    }

    #[test]
    fn small_and_strange_ones_have_none() {
        let base = noise(1000, 1);
        for (base, target) in [(&[][..], &[][..]), (&[], &base), (&base, &[]), (&base[..20], &base[..20])] {
            assert_eq!(found(base, target), []);
        }
        assert_eq!(found(&base, &noise(1000, 2)), []);
    }
}
