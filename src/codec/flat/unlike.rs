//! What a small edit of a large file leaves alone: nearly all bytes are where they were, counted from the
//! beginning or from the end. Then only the rest is looked for in the base, and few seeds of the base matter.

use std::ops::Range;

use super::matcher::{SEED, hash};
use crate::codec::wanted::Wanted;

/// A base below this is indexed in no time.
const BASE_BYTES_MIN: usize = 16 << 20;
/// Bytes compared at a time.
const BLOCK: usize = 4096;
/// Most that may be unlike: one part of the target in so many, and so many bytes.
const PARTS: usize = 32;
const BYTES_MAX: usize = 16 << 20;

/// The stretches of a target that are unlike the base at the same distance from either end.
#[derive(Debug)]
pub struct Unlike {
    /// Base minus target of both alignments.
    pub shifts: [i64; 2],
    stretches: Vec<Range<usize>>,
}

impl Unlike {
    /// Compares both sides; `None` when the base is small or more than a little is unlike.
    pub fn find(base: &[u8], target: &[u8]) -> Option<Self> {
        if base.len() < BASE_BYTES_MIN {
            return None;
        }
        let bytes_max = (target.len() / PARTS).min(BYTES_MAX);
        let mut shifts = [0, base.len() as i64 - target.len() as i64];
        let (mut stretches, mut bytes) = (Vec::<Range<usize>>::new(), 0);
        for (number, block) in target.chunks(BLOCK).enumerate() {
            let at = number * BLOCK;
            let is_like = |shift: i64| {
                let from = usize::try_from(at as i64 + shift).ok();
                from.and_then(|from| base.get(from..)?.get(..block.len())) == Some(block)
            };
            if is_like(shifts[0]) {
                continue;
            }
            if is_like(shifts[1]) {
                shifts.swap(0, 1); // the next block is likely to lie as this one does
                continue;
            }
            bytes += block.len();
            if bytes > bytes_max {
                return None;
            }
            match stretches.last_mut() {
                Some(last) if last.end == at => last.end = at + block.len(),
                _ => stretches.push(at..at + block.len()),
            }
        }
        Some(Self { shifts, stretches })
    }

    /// Returns the seeds of the stretches of `target`.
    pub fn seeds(&self, target: &[u8], base_size: usize) -> Option<Wanted> {
        // A seed may begin before a stretch, or end behind it.
        let last = target.len().saturating_sub(SEED - 1);
        let seeds = |stretch: &Range<usize>| stretch.start.saturating_sub(SEED - 1)..stretch.end.min(last);
        let mut wanted = Wanted::new(self.stretches.iter().map(|it| seeds(it).len()).sum(), base_size)?;
        self.stretches.iter().flat_map(seeds).for_each(|at| wanted.add(hash(target, at)));
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(next).collect()
    }

    #[test]
    fn an_edit_in_place_and_one_that_moves_all_leave_a_block_each() {
        let base = noise(BASE_BYTES_MIN + 12_345);
        let mut target = base.clone();
        target[5_000_000] ^= 1;
        target.splice(8_000_000..8_000_000, [1, 2, 3]);
        let unlike = Unlike::find(&base, &target).expect("little is unlike");
        assert_eq!(unlike.stretches.len(), 2);
        assert!(unlike.stretches.iter().all(|stretch| stretch.len() == BLOCK));
        assert!(unlike.shifts.contains(&0) && unlike.shifts.contains(&-3));
        let wanted = unlike.seeds(&target, base.len()).expect("few");
        let edited = 5_000_000 - SEED + 1..=5_000_000;
        assert!(edited.into_iter().all(|at| wanted.has(hash(&target, at))));
        let other = (0..100_000).filter(|&at| wanted.has(hash(&target, at))).count();
        assert!(other < 100_000 / 8, "{other} of 100,000 that are elsewhere");
    }

    #[test]
    fn files_of_which_more_changed_are_looked_at_whole() {
        let base = noise(BASE_BYTES_MIN);
        let mut target = base.clone();
        for at in (0..target.len()).step_by(target.len() / PARTS / 4) {
            target[at..at + BLOCK].fill(1);
        }
        assert!(Unlike::find(&base, &target).is_some());
        target[..base.len() / PARTS].fill(1);
        assert!(Unlike::find(&base, &target).is_none());
        assert!(Unlike::find(&base[1..], &base).is_none(), "a small base");
    }
}
