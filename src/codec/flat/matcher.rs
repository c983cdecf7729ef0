//! Aligns a target with a base: which stretches were copied, from where, mismatches allowed.
//!
//! Seeds of the base at regular steps go into a table of bounded size; the target is scanned
//! against it. An alignment is kept while it explains the bytes about as well as any other, so
//! single changed bytes do not end it. In native code the address fields of instructions are hidden
//! from seeds and comparisons: code that only moved looks unchanged.
//!
//! Nothing here is part of the format: any list of segments can be coded.

use std::convert::Infallible;

use super::address::Range;
use super::image::Machine;
use super::operand::{LOW, Scan, operand_rest};
use crate::codec::bytes::{common_prefix, u64_at};
use crate::codec::parallel;
use crate::codec::wanted::Wanted;

/// A stretch of the target that resembles a stretch of the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Position in the target.
    pub target: usize,
    /// Position in the base.
    pub base: usize,
    /// Bytes.
    pub len: usize,
}

impl Segment {
    /// One past the last byte in the target.
    pub fn target_end(&self) -> usize {
        self.target + self.len
    }
}

/// Bytes of a seed.
pub const SEED: usize = 16;
/// Finest step between seeds of the base.
const STEP_MIN: usize = 8;
/// Shorter segments cost more than coding their bytes anew.
pub const SEGMENT_MIN: usize = 32;
/// Bytes by which a new alignment must beat the current one.
const GAIN: usize = 8;
/// Equal bytes that confirm the current alignment.
const CONFIRM: usize = 8;
/// Behind a stretch of mismatches this long, confirmation needs a seed's length.
const GAP: usize = 64;
/// Bytes compared to rate a candidate: more would make long repeats quadratic.
const COMPARED: usize = 4096;
/// Bytes an extension may reach back into what an earlier alignment explains.
const OVERLAP: usize = 1024;
/// How far an extension's score may fall before it gives up.
const PATIENCE: i64 = 128;
/// Unmatched bytes after which the scan skips some.
const DRY: usize = 1 << 12;
/// Bytes that are hidden at a time.
const WINDOW: usize = 1 << 14;

/// The ranges of code whose operands are hidden.
#[derive(Clone, Debug, Default)]
pub struct Veil {
    /// Ranges of code with the addresses of their image, by position.
    pub ranges: Vec<(Range, (i64, i64))>,
}

impl Veil {
    /// The code range that holds `at`, if any.
    #[inline]
    fn range_at(&self, at: usize) -> Option<&Range> {
        let next = self.ranges.partition_point(|(range, _)| range.end <= at);
        self.ranges.get(next).map(|(range, _)| range).filter(|range| range.start <= at)
    }

    /// Fills `window` with `bytes` from `start` on, operands of code zeroed.
    fn fill(&self, window: &mut Vec<u8>, bytes: &[u8], start: usize, end: usize) {
        window.clear();
        window.extend_from_slice(&bytes[start..end]);
        let first = self.ranges.partition_point(|(range, _)| range.end <= start);
        for (range, bounds) in &self.ranges[first..] {
            if range.start >= end {
                break;
            }
            let (from, to) = (range.start.max(start), range.end.min(end));
            let scan = Scan::new(range.machine, &bytes[from..to], from as i64 + range.lift, *bounds);
            for found in scan.filter(|found| found.kind != LOW) {
                let at = from - start + found.at;
                let width = if range.machine == Machine::Arm { 3 } else { 4 };
                window[at..at + width].fill(0);
            }
        }
    }
}

/// Hashes the seed at `at`.
#[inline]
pub fn hash(bytes: &[u8], at: usize) -> u64 {
    let (low, high) = (u64_at(bytes, at), u64_at(bytes, at + 8));
    let mixed = low.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ high.rotate_left(29);
    let mixed = mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed ^ mixed >> 31).wrapping_mul(0xA24B_AED4_963E_E407)
}

/// A table of the base's seeds: two places per bucket, the first and the last seen.
///
/// An entry holds the seed's number and, in the bits above, a tag from its hash, so that most
/// misses cost no look at the base.
#[derive(Debug)]
pub struct Seeds {
    entries: Vec<u32>,
    bucket_bits: u32,
    number_bits: u32,
    step: usize,
}

const EMPTY: u32 = u32::MAX;

/// A bucket and the tag that a seed's entry would have.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    tag: u32,
    entries: [u32; 2],
}

/// Seeds of the base that a thread looks at, at a time.
const CHUNK: usize = 1 << 20;
/// Seeds looked up at a time: the table is far larger than any cache, and misses overlap.
const BATCH: usize = 8;

impl Seeds {
    /// Indexes `base` in a table of at most `table_bytes_max` bytes.
    pub fn new(base: &[u8], veil: &Veil, table_bytes_max: usize, step_min: usize) -> Self {
        let Ok(seeds) = Self::watched(base, veil, table_bytes_max, step_min, &|_| Ok::<_, Infallible>(()));
        seeds
    }

    /// The same; tells `watch` of the bytes of the base that were read.
    ///
    /// # Errors
    /// What the watch said.
    pub fn watched<E>(
        base: &[u8],
        veil: &Veil,
        table_bytes_max: usize,
        step_min: usize,
        watch: &dyn Fn(usize) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut seeds = Self::empty(base.len(), table_bytes_max, step_min, |count| count);
        seeds.index(base, veil, watch)?;
        Ok(seeds)
    }

    /// Indexes the seeds of `base` that are wanted, found by `threads` threads.
    ///
    /// # Errors
    /// What the watch said.
    pub fn of_wanted<E: Send>(
        base: &[u8],
        wanted: &Wanted,
        table_bytes_max: usize,
        step_min: usize,
        threads: usize,
        watch: &(dyn Fn(usize) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        let mut seeds = Self::empty(base.len(), table_bytes_max, step_min, |count| wanted.passing_max(count));
        let step = seeds.step;
        let count = (base.len() + 1).saturating_sub(SEED).div_ceil(step);
        let chunks: Vec<_> =
            (0..count).step_by(CHUNK).map(|first| first..(first + CHUNK).min(count)).collect();
        for batch in chunks.chunks(threads.max(1) * 2) {
            let found = parallel::map(threads, batch, |numbers| {
                let hashes = numbers.clone().map(|number| (hash(base, number * step), number as u32));
                let found: Vec<_> = hashes.filter(|(hash, _)| wanted.has(*hash)).collect();
                watch(numbers.len() * step)?;
                Ok(found)
            });
            for found in found {
                found?.into_iter().for_each(|(hash, number)| seeds.put(hash, number));
            }
        }
        Ok(seeds)
    }

    /// Makes a table for the seeds of so many bytes, of which `stored` says how many will be in it.
    fn empty(
        base_len: usize,
        table_bytes_max: usize,
        step_min: usize,
        stored: impl Fn(usize) -> usize,
    ) -> Self {
        let entries_max = (table_bytes_max / 4).next_power_of_two().clamp(1 << 12, 1 << 30);
        let entries_max = if entries_max * 4 > table_bytes_max { entries_max / 2 } else { entries_max };
        let step = base_len.div_ceil(entries_max).max(step_min.max(STEP_MIN / 2));
        let count = base_len / step + 1;
        let bits = |count: usize| (usize::BITS - count.leading_zeros()).clamp(8, 30);
        let (number_bits, entry_bits) = (bits(count), bits(stored(count)));
        Self { entries: vec![EMPTY; 1 << entry_bits], bucket_bits: entry_bits - 1, number_bits, step }
    }

    fn index<E>(
        &mut self,
        base: &[u8],
        veil: &Veil,
        watch: &dyn Fn(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut window = Vec::with_capacity(WINDOW + SEED);
        let mut at = 0;
        while at + SEED <= base.len() {
            let end = (at + WINDOW + SEED).min(base.len());
            if veil.ranges.is_empty() {
                self.index_window(&base[at..end], at);
            } else {
                veil.fill(&mut window, base, at, end);
                self.index_window(&window, at);
            }
            // The next window begins at the next multiple of the step that this one left out.
            let next = (end - SEED) / self.step * self.step + self.step;
            watch(next - at)?;
            at = next;
        }
        Ok(())
    }

    fn index_window(&mut self, window: &[u8], start: usize) {
        let first = start.next_multiple_of(self.step);
        let mut at = first - start;
        while at + SEED <= window.len() {
            self.put(hash(window, at), ((start + at) / self.step) as u32);
            at += self.step;
        }
    }

    #[inline]
    fn put(&mut self, hash: u64, number: u32) {
        let (bucket, tag) = self.place(hash);
        // No branch: whether the first place is taken can't be foreseen, and misses of the cache overlap.
        let is_taken = usize::from(self.entries[bucket] != EMPTY);
        self.entries[bucket + is_taken] = tag | number;
    }

    #[inline]
    fn place(&self, hash: u64) -> (usize, u32) {
        let bucket = (hash >> (64 - self.bucket_bits)) as usize * 2;
        (bucket, (hash as u32) << self.number_bits)
    }

    /// Looks up a seed.
    #[inline]
    fn look(&self, hash: u64) -> Looked {
        let (bucket, tag) = self.place(hash);
        Looked { tag, entries: [self.entries[bucket], self.entries[bucket + 1]] }
    }

    /// The places of the base whose seed may equal the one looked up.
    #[inline]
    fn places(&self, looked: Looked) -> [Option<usize>; 2] {
        let low = (1u32 << self.number_bits) - 1;
        looked.entries.map(|entry| {
            let fits = entry & !low == looked.tag && entry != EMPTY;
            fits.then_some((entry & low) as usize * self.step)
        })
    }
}

/// Seeds looked up at regular steps from a position on.
#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    at: usize,
    step: usize,
    count: usize,
    looked: [Looked; BATCH],
}

impl Ahead {
    #[inline]
    fn get(&self, at: usize) -> Option<Looked> {
        let away = at.wrapping_sub(self.at);
        let index = if self.step <= 1 { away } else { away / self.step };
        (index < self.count && index * self.step == away).then(|| self.looked[index])
    }
}

/// Both sides with what is hidden of them.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    pub base: &'a [u8],
    pub target: &'a [u8],
    pub base_veil: &'a Veil,
    pub target_veil: &'a Veil,
    /// What a mismatch costs an extension, in matches.
    pub mismatch: i64,
    /// Alignments, base minus target, that are tried wherever seeds are looked for.
    pub shifts: &'a [i64],
}

impl Pair<'_> {
    /// Bytes from both places on that agree, operands of code aside.
    #[inline]
    fn run(&self, base_at: usize, target_at: usize, limit: usize) -> usize {
        let limit = limit.min(self.base.len() - base_at);
        let mut len = common_prefix(&self.base[base_at..], &self.target[target_at..target_at + limit]);
        if self.base_veil.ranges.is_empty() {
            return len;
        }
        while len < limit {
            let skipped = self.hidden(base_at + len, target_at + len);
            if skipped == 0 {
                break;
            }
            len = (len + skipped).min(limit);
            len +=
                common_prefix(&self.base[base_at + len..], &self.target[target_at + len..target_at + limit]);
        }
        len
    }

    /// Bytes to the end of the operand that a mismatch lies in; 0 when it lies in none.
    #[inline]
    fn hidden(&self, base_at: usize, target_at: usize) -> usize {
        let Some(range) = self.base_veil.range_at(base_at) else { return 0 };
        let rest = operand_rest(range.machine, self.base, base_at, range.lift);
        if rest == 0 {
            return 0;
        }
        let Some(other) = self.target_veil.range_at(target_at) else { return 0 };
        let same = rest == operand_rest(other.machine, self.target, target_at, other.lift);
        if same { rest } else { 0 }
    }

    /// Length of the best-scoring prefix of an alignment: matches count for it, mismatches against.
    fn reach(&self, base_at: usize, target_at: usize, limit: usize) -> usize {
        let mismatch = self.mismatch;
        let limit = limit.min(self.base.len().saturating_sub(base_at));
        let (mut at, mut score, mut best, mut best_len) = (0, 0i64, 0i64, 0);
        while at < limit && score + PATIENCE > best {
            let run = self.run(base_at + at, target_at + at, limit - at);
            at += run;
            score += run as i64;
            if score > best {
                (best, best_len) = (score, at);
            }
            at += 1;
            score -= mismatch;
        }
        best_len
    }

    /// The same backwards.
    fn reach_back(&self, base_at: usize, target_at: usize, limit: usize) -> usize {
        let mismatch = self.mismatch;
        let (mut score, mut best, mut best_len) = (0i64, 0i64, 0);
        for back in 1..=limit.min(base_at) {
            let is_equal = self.base[base_at - back] == self.target[target_at - back];
            score += if is_equal { 1 } else { -mismatch };
            if score > best {
                (best, best_len) = (score, back);
            }
            if score + PATIENCE < best {
                break;
            }
        }
        best_len
    }

    /// The place of the base that `at` of the target is paired with.
    #[inline]
    fn place(&self, at: usize, shift: i64) -> Option<usize> {
        let base_at = usize::try_from(at as i64 + shift).ok()?;
        (base_at < self.base.len()).then_some(base_at)
    }

    fn is_equal(&self, base_at: usize, target_at: usize) -> bool {
        self.base.get(base_at) == self.target.get(target_at)
    }
}

/// A place of the base that continues like the target.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    base_at: usize,
    len: usize,
}

/// The part of the target's operands that is hidden around the scan.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    start: usize,
}

/// Scans a stretch of the target.
#[derive(Debug)]
struct Scanner<'a> {
    pair: Pair<'a>,
    seeds: &'a Seeds,
    window: Window,
    ahead: Ahead,
    out: Vec<Segment>,
    /// The current alignment: where it began, up to where it is certain, base minus target.
    start: usize,
    good: usize,
    shift: i64,
    at: usize,
    end: usize,
}

/// Finds the segments of `range` of the target.
pub fn find_segments(pair: Pair<'_>, seeds: &Seeds, range: std::ops::Range<usize>) -> Vec<Segment> {
    let mut scanner = Scanner {
        pair,
        seeds,
        window: Window::default(),
        ahead: Ahead::default(),
        out: Vec::new(),
        start: range.start,
        good: range.start,
        shift: 0,
        at: range.start,
        end: range.end,
    };
    scanner.scan();
    scanner.out
}

impl Scanner<'_> {
    fn scan(&mut self) {
        while self.at + SEED <= self.end {
            let run = self.current_run();
            if run >= CONFIRM && self.confirm(run) {
                continue;
            }
            match self.best_candidate() {
                Some(candidate) => self.weigh(candidate),
                None => self.at += stride(self.at - self.good.min(self.at)),
            }
        }
        let len = self.forward(self.end);
        self.push(self.start, self.good + len - self.start);
    }

    /// The place of the base that the current alignment pairs with `at`.
    #[inline]
    fn aligned(&self, at: usize) -> Option<usize> {
        self.pair.place(at, self.shift)
    }

    #[inline]
    fn current_run(&self) -> usize {
        let Some(base_at) = self.aligned(self.at) else { return 0 };
        self.pair.run(base_at, self.at, self.end - self.at)
    }

    /// Takes a run of the current alignment; false when it is too short to bridge the gap.
    fn confirm(&mut self, run: usize) -> bool {
        if self.at - self.good > GAP && run < SEED {
            return false;
        }
        self.proceed(run);
        true
    }

    /// Follows the current alignment over the next `len` bytes. If what lies between is not worth
    /// copying, one segment ends before and another begins behind it.
    fn proceed(&mut self, len: usize) {
        let gap = self.at - self.good;
        if gap > GAP {
            let base_at = (self.at as i64 + self.shift) as usize;
            let back = self.pair.reach_back(base_at, self.at, gap);
            let ahead = self.forward(self.at - back);
            if self.good + ahead < self.at - back {
                self.push(self.start, self.good + ahead - self.start);
                self.start = self.at - back;
            }
        }
        self.at += len;
        self.good = self.at;
    }

    fn best_candidate(&mut self) -> Option<Candidate> {
        let looked = match self.ahead.get(self.at) {
            Some(looked) => looked,
            None => self.look_ahead(),
        };
        let limit = (self.end - self.at).min(COMPARED);
        let rate = |base_at: usize| {
            let len = self.pair.run(base_at, self.at, limit);
            (len >= SEED).then_some(Candidate { base_at, len })
        };
        let usual = self.pair.shifts.iter().filter_map(|&shift| self.pair.place(self.at, shift));
        let found = self.seeds.places(looked).into_iter().flatten().chain(usual).filter_map(rate);
        found.max_by_key(|candidate| candidate.len)
    }

    /// Looks up the seeds at the positions the scan comes to next unless it finds something.
    fn look_ahead(&mut self) -> Looked {
        let (seeds, at) = (self.seeds, self.at);
        let step = stride(at - self.good.min(at));
        let count = BATCH.min((self.end - SEED - at) / step + 1);
        let (bytes, start) = self.visible(count * step + SEED);
        let mut ahead = Ahead { at, step, count, looked: [Looked::default(); BATCH] };
        for (index, looked) in ahead.looked[..count].iter_mut().enumerate() {
            *looked = seeds.look(hash(bytes, at - start + index * step));
        }
        self.ahead = ahead;
        ahead.looked[0]
    }

    /// The target with hidden operands from `at` on, at least `len` bytes or up to the end, and the
    /// position of its first byte.
    fn visible(&mut self, len: usize) -> (&[u8], usize) {
        let pair = &self.pair;
        if pair.target_veil.ranges.is_empty() {
            return (pair.target, 0);
        }
        let window = &mut self.window;
        let wanted = (self.at + len).min(pair.target.len());
        if self.at < window.start || wanted > window.start + window.bytes.len() {
            let end = (self.at + WINDOW).min(pair.target.len());
            pair.target_veil.fill(&mut window.bytes, pair.target, self.at, end);
            window.start = self.at;
        }
        (&window.bytes, window.start)
    }

    /// Changes to the candidate's alignment unless the current one is about as good.
    fn weigh(&mut self, candidate: Candidate) {
        if self.current_matches(candidate.len) + GAIN >= candidate.len {
            self.proceed(candidate.len);
            return;
        }
        let room = (self.at - self.good + OVERLAP).min(self.at - self.start);
        let mut back = self.pair.reach_back(candidate.base_at, self.at, room);
        let mut ahead = self.forward(self.at);
        let overlap = (self.good + ahead + back).saturating_sub(self.at);
        if overlap > 0 {
            let kept = self.split(candidate, self.at - back, overlap);
            back -= kept;
            let end = self.at - back;
            self.push(self.start, end.max(self.start) - self.start);
        } else {
            self.push(self.start, self.good + ahead - self.start);
        }
        ahead = candidate.len;
        self.shift = candidate.base_at as i64 - self.at as i64;
        self.start = self.at - back;
        self.at += ahead;
        self.good = self.at;
    }

    /// Bytes the current alignment explains of the next `len`.
    fn current_matches(&self, len: usize) -> usize {
        let Some(base_at) = self.aligned(self.at) else { return 0 };
        let len = len.min(self.pair.base.len() - base_at);
        let (mut at, mut matches) = (0, 0);
        while at < len {
            let run = self.pair.run(base_at + at, self.at + at, len - at);
            matches += run;
            at += run + 1;
        }
        matches
    }

    /// How far the current alignment is worth following beyond what is certain, up to `limit`.
    fn forward(&self, limit: usize) -> usize {
        let Some(base_at) = self.aligned(self.good) else { return 0 };
        self.pair.reach(base_at, self.good, limit.saturating_sub(self.good))
    }

    /// How many of the `overlap` bytes from `from` on the current alignment should keep.
    fn split(&self, candidate: Candidate, from: usize, overlap: usize) -> usize {
        let (mut lead, mut best, mut kept) = (0i32, 0i32, 0);
        for index in 0..overlap {
            let at = from + index;
            let current = self.aligned(at).is_some_and(|base_at| self.pair.is_equal(base_at, at));
            let rival = self.pair.is_equal(candidate.base_at - (self.at - at), at);
            lead += i32::from(current) - i32::from(rival);
            if lead > best {
                (best, kept) = (lead, index + 1);
            }
        }
        kept
    }

    fn push(&mut self, start: usize, len: usize) {
        let Some(base_at) = self.aligned(start) else { return };
        let len = len.min(self.pair.base.len() - base_at);
        if len >= SEGMENT_MIN {
            self.out.push(Segment { target: start, base: base_at, len });
        }
    }
}

/// How far to move after a miss: odd, so that every phase of the seeds' step is met.
#[inline]
fn stride(dry: usize) -> usize {
    1 + 2 * (dry / DRY).min(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target like the base but for 100 bytes, which are a copy from elsewhere.
    #[test]
    fn an_edit_is_found_by_wanted_seeds_and_all_around_it_by_the_usual_shifts() {
        let mut state = 7_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let base: Vec<u8> = (0..200_000).map(next).collect();
        let mut target = [b"front", &base[..]].concat();
        target.copy_within(150_000..150_100, 50_000);
        let mut wanted = Wanted::new(100, base.len()).expect("few");
        (50_000..50_100).for_each(|at| wanted.add(hash(&target, at)));
        let none = Wanted::new(0, base.len()).expect("few");
        let around = [(5, 0, 49_995), (50_100, 50_095, 149_905)];
        let all = [around[0], (50_000, 149_995, 100), around[1]];
        for (wanted, threads, expected) in [(&wanted, 1, &all[..]), (&wanted, 2, &all), (&none, 1, &around)] {
            let watch = |_| Ok::<_, Infallible>(());
            let Ok(seeds) = Seeds::of_wanted(&base, wanted, 1 << 20, STEP_MIN, threads, &watch);
            let veil = Veil::default();
            let pair = Pair {
                base: &base,
                target: &target,
                base_veil: &veil,
                target_veil: &veil,
                mismatch: 2,
                shifts: &[0, -5],
            };
            let found = find_segments(pair, &seeds, 0..target.len());
            let places: Vec<_> = found.iter().map(|it| (it.target, it.base, it.len)).collect();
            assert_eq!(places, expected, "by {threads}");
        }
    }
}
