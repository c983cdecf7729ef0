//! Seeds of a base at regular steps, by their hashes: where a stretch of the target may come from.
//!
//! Where little of the target is left to look for, only those seeds go in that occur there: a test in a small map of
//! bits is far cheaper than a place in a table that is larger than any cache.

use std::io;

use crate::codec::wanted::Wanted;

/// Bytes of a seed.
pub const SEED: usize = 8;
/// Entries of the table; it takes four times as many bytes.
const ENTRIES_MAX: usize = 1 << 26;
/// Base bytes between two calls of `check`, in seeds.
const CHECK_SEEDS: usize = 1 << 20;

/// Mixes a seed; the highest bits are the best.
#[inline]
pub const fn hash(seed: u64) -> u64 {
    (seed ^ seed >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A table of two places for each bucket: the first and the last seen.
///
/// An entry is the seed's number, from 1 on, and, above it, as many bits of its hash as there is room for: most misses
/// cost no look at the base.
pub struct Seeds {
    entries: Vec<u32>,
    bucket_bits: u32,
    number_bits: u32,
    step: usize,
}

const EMPTY: u32 = 0;

/// What the table has for a seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looked {
    tag: u32,
    entries: [u32; 2],
}

impl Seeds {
    /// Takes the seeds of `size` bytes at every `step_min` bytes or more; `hash_at` hashes the one at a position.
    /// With `wanted` only those whose hashes are in there.
    ///
    /// # Errors
    /// What `check` said.
    pub fn new(
        places: std::ops::Range<usize>,
        step_min: usize,
        wanted: Option<&Wanted>,
        hash_at: impl Fn(usize) -> u64,
        check: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<Self> {
        let step = places.len().div_ceil(ENTRIES_MAX - 2).max(step_min);
        let count = places.len() / step + 2;
        let stored = wanted.map_or(count, |wanted| wanted.passing_max(count));
        let bits = |count: usize| (usize::BITS - count.leading_zeros()).clamp(8, ENTRIES_MAX.ilog2());
        let (bucket_bits, number_bits) = (bits(stored), bits(count));
        let mut seeds = Self { entries: vec![EMPTY; 1 << bucket_bits], bucket_bits, number_bits, step };
        for first in (0..count).step_by(CHECK_SEEDS) {
            check()?;
            let numbers = first..(first + CHECK_SEEDS).min(places.len().div_ceil(step));
            for number in numbers {
                let hash = hash_at(number * step);
                if wanted.is_none_or(|wanted| wanted.has(hash)) {
                    seeds.put(hash, number as u32 + 1);
                }
            }
        }
        Ok(seeds)
    }

    #[inline]
    fn put(&mut self, hash: u64, number: u32) {
        let (bucket, tag) = self.place(hash);
        let first = self.entries[bucket] == EMPTY;
        self.entries[bucket + usize::from(!first)] = tag | number;
    }

    #[inline]
    fn place(&self, hash: u64) -> (usize, u32) {
        let bucket = (hash >> (65 - self.bucket_bits)) as usize * 2;
        (bucket, ((hash >> 8) as u32) << self.number_bits)
    }

    /// Returns what there is for a hash.
    #[inline]
    pub fn look(&self, hash: u64) -> Looked {
        let (bucket, tag) = self.place(hash);
        Looked { tag, entries: [self.entries[bucket], self.entries[bucket + 1]] }
    }

    /// The places of the base that may begin with the seed that was looked up.
    #[inline]
    pub fn places(&self, looked: Looked) -> impl Iterator<Item = usize> {
        let (low, step) = ((1u32 << self.number_bits) - 1, self.step);
        let fitting =
            looked.entries.into_iter().filter(move |&entry| entry & !low == looked.tag && entry != EMPTY);
        fitting.map(move |entry| ((entry & low) as usize - 1) * step)
    }
}
