//! Aligns the target with the base: long stretches that agree in most bytes.

use crate::plain::Segment;
use crate::tokens::base::common_prefix;

/// Bytes of a seed.
const SEED: usize = 16;
/// A new alignment must explain so many bytes more than the old one.
const GAIN: usize = 8;
/// An alignment that fits again after this many strange bytes starts a new segment.
const GAP_MAX: usize = 192;
/// Bytes over which two alignments are compared.
const CONTEST_MAX: usize = 4096;
/// How far below its best a score may fall before extending stops.
const PATIENCE_FORWARD: i64 = 4096;
const PATIENCE_BACKWARD: i64 = 256;
/// Most entries of the seed table.
const ENTRIES_MAX: usize = 1 << 25;

/// Seeds of the base at every so many bytes, two per bucket.
struct Seeds {
    table: Vec<u32>,
    shift: u32,
    step: usize,
}

const EMPTY: u32 = u32::MAX;

impl Seeds {
    fn of(base: &[u8]) -> Self {
        let step = (base.len() / ENTRIES_MAX).next_power_of_two().max(8);
        let bits = usize::BITS - (base.len() / step).max(1 << 10).leading_zeros();
        let mut seeds = Self { table: vec![EMPTY; 2 << bits], shift: 64 - bits, step };
        for (index, at) in (0..base.len().saturating_sub(SEED)).step_by(step).enumerate() {
            let bucket = seeds.bucket(&base[at..]);
            let slot = if seeds.table[bucket] == EMPTY { bucket } else { bucket + 1 };
            seeds.table[slot] = index as u32;
        }
        seeds
    }

    fn bucket(&self, bytes: &[u8]) -> usize {
        let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("a seed"));
        let mixed = word(0).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word(8).rotate_left(29);
        (mixed.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(31).wrapping_mul(0xa24b_aed4_963e_e407)
            >> self.shift) as usize
            * 2
    }

    /// Returns the longest match of a seed's bytes: where, how long.
    fn find(&self, base: &[u8], target: &[u8]) -> Option<(usize, usize)> {
        let bucket = self.bucket(target);
        let entries = self.table[bucket..bucket + 2].iter().filter(|&&entry| entry != EMPTY);
        let found = entries.map(|&entry| entry as usize * self.step);
        let lengths = found.map(|at| (at, common_prefix(&base[at..], target)));
        lengths.filter(|&(_, len)| len >= SEED).max_by_key(|&(_, len)| len)
    }
}

struct Aligner<'a> {
    base: &'a [u8],
    target: &'a [u8],
    segments: Vec<Segment>,
    /// Start of the segment being built, on both sides.
    start: usize,
    base_start: usize,
}

/// Returns the segments of the best alignment found.
pub fn segments(base: &[u8], target: &[u8]) -> Vec<Segment> {
    if base.len() < SEED || target.len() < SEED {
        return Vec::new();
    }
    let seeds = Seeds::of(base);
    let mut aligner = Aligner { base, target, segments: Vec::new(), start: 0, base_start: 0 };
    let (mut at, mut good) = (0, 0);
    while at + SEED <= target.len() {
        let continued = aligner.continued(at);
        if continued >= 8 {
            if continued >= SEED && at > good + GAP_MAX {
                aligner.skip_gap(good, at);
            }
            at += continued;
            good = at;
            continue;
        }
        let Some((base_at, len)) = seeds.find(base, &target[at..]) else {
            at += 1;
            continue;
        };
        if aligner.explains(at, base_at, len) {
            at += len.min(CONTEST_MAX);
        } else {
            aligner.turn(at, base_at);
            at += len;
        }
        good = at;
    }
    aligner.finish();
    aligner.segments
}

impl Aligner<'_> {
    /// Where the current alignment puts `at` in the base.
    fn aligned(&self, at: usize) -> usize {
        self.base_start + (at - self.start)
    }

    fn continued(&self, at: usize) -> usize {
        let there = self.base.get(self.aligned(at)..).unwrap_or(&[]);
        common_prefix(there, &self.target[at..])
    }

    /// Says whether the current alignment explains a match nearly as well.
    fn explains(&self, at: usize, base_at: usize, len: usize) -> bool {
        let there = self.aligned(at);
        if there == base_at {
            return true;
        }
        let len = len.min(CONTEST_MAX);
        let old = self.base.get(there..).unwrap_or(&[]);
        let same = old.iter().zip(&self.target[at..at + len]).filter(|(a, b)| a == b).count();
        same + GAIN >= len
    }

    fn push(&mut self, len: usize) {
        if len > 0 {
            self.segments.push(Segment { target: self.start, base: self.base_start, len });
        }
    }

    /// Leaves out bytes from `good` to about `at`, staying in the alignment.
    fn skip_gap(&mut self, good: usize, at: usize) {
        let base_at = self.aligned(at);
        let back = agreeing_back(&self.base[..base_at], &self.target[good..at]);
        self.push(good - self.start);
        (self.start, self.base_start) = (at - back, base_at - back);
    }

    /// Ends the segment somewhere before `at` and starts one aligned with `base_at`.
    fn turn(&mut self, at: usize, base_at: usize) {
        let forward = self.reach_forward(at);
        let backward = self.reach_backward(at, base_at);
        let overlap = (self.start + forward + backward).saturating_sub(at);
        let (forward, backward) = self.settle(forward, backward, overlap, (at, base_at));
        self.push(forward);
        (self.start, self.base_start) = (at - backward, base_at - backward);
    }

    /// How far the segment reaches while more than half of its bytes agree.
    fn reach_forward(&self, end: usize) -> usize {
        let base = &self.base[self.base_start..];
        let target = &self.target[self.start..end];
        let limit = target.len().min(base.len());
        let (mut same, mut best, mut reach, mut at) = (0i64, 0i64, 0, 0);
        while at < limit {
            let run = common_prefix(&base[at..limit], &target[at..limit]);
            same += run as i64;
            at += run;
            let score = 2 * same - at as i64;
            if score > best {
                (best, reach) = (score, at);
            }
            if score < best - PATIENCE_FORWARD {
                break;
            }
            at += 1;
        }
        reach
    }

    fn reach_backward(&self, at: usize, base_at: usize) -> usize {
        let target = self.target[self.start..at].iter().rev();
        let (mut score, mut best, mut reach) = (0i64, 0i64, 0);
        for (count, (a, b)) in target.zip(self.base[..base_at].iter().rev()).enumerate() {
            score += if a == b { 1 } else { -1 };
            if score > best {
                (best, reach) = (score, count + 1);
            }
            if score < best - PATIENCE_BACKWARD {
                break;
            }
        }
        reach
    }

    /// Divides bytes that both alignments claim where that makes most bytes agree.
    fn settle(
        &self,
        forward: usize,
        backward: usize,
        overlap: usize,
        (at, base_at): (usize, usize),
    ) -> (usize, usize) {
        let from = self.start + forward - overlap;
        let (mut score, mut best, mut kept) = (0i64, 0i64, 0);
        for i in 0..overlap {
            let byte = self.target[from + i];
            score += i64::from(byte == self.base[self.base_start + forward - overlap + i]);
            score -= i64::from(byte == self.base[base_at - (at - from) + i]);
            if score > best {
                (best, kept) = (score, i + 1);
            }
        }
        (forward - overlap + kept, backward - kept)
    }

    fn finish(&mut self) {
        let forward = self.reach_forward(self.target.len());
        self.push(forward);
    }
}

/// Returns how many trailing bytes agree.
fn agreeing_back(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count()
}
