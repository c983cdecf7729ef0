//! Finds the copies that a delta is made of: the anchors, and what is between them, by one of two ways.
//!
//! Where little is between them, `weighing` finds the best. Else seeds of the base at regular steps go into a table; the
//! target is scanned against it, and against the *shifts* (base position minus target position) of the last copies.
//! LZMA comes after us: literals cost less than their eight bits, and a copy at a shift that was just used costs next
//! to nothing. So many short copies at one shift are worth more than one that is a little longer elsewhere.
//!
//! The scan leaves repetition within the target to LZMA, which sees what no copy covers as one piece.

use std::io;

use super::alternatives::{Alternatives, COPY_MIN};
use super::anchors::find_anchors;
use super::density::millibits;
use super::seeds::{Looked, SEED, Seeds, hash};
use super::texts::{CHECK_BYTES, Copy, SHIFTS, Shifts, Texts, common_suffix};
use super::weighing::weigh;
use crate::codec::bytes::{common_prefix, u64_at};
use crate::codec::wanted::Wanted;

/// Bytes from which on a copy is taken without looking further.
const ENOUGH: usize = 64;
/// Bytes from which on a copy is taken although the next position may have a longer one.
const LAZY: usize = 24;
/// Unmatched bytes after which the scan skips some.
const DRY: usize = 1 << 12;
/// Farthest skip.
const STRIDE_MAX: usize = 8;
/// Positions looked up at a time: the table is larger than any cache, and misses overlap.
const BATCH: usize = 8;
/// Bytes that no anchor covers from which on every other seed of the base is left out.
const MUCH: usize = 4 << 20;
/// Bytes of the target in which a literal byte has one price.
const BLOCK: usize = 16 << 10;

// What things cost once LZMA is done with them, in tenths of a bit: measured, not exact.

/// A copy at one of the last shifts, by how long ago it was used.
const PRICE_SHIFTED: [i64; SHIFTS] = [140, 200, 220, 240];
/// A copy from anywhere else.
const PRICE_ANYWHERE: i64 = 400;

/// A literal byte, where bytes are packed as densely as in `block`.
fn literal_price(block: &[u8]) -> i64 {
    match millibits(block) {
        0..6300 => 20,
        6300..7000 => 30,
        7000..7600 => 40,
        _ => 70,
    }
}

/// Finds the copies of `target`, in order.
///
/// # Errors
/// What `check` said.
pub fn find_copies(
    texts: Texts<'_>,
    step: usize,
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<Vec<Copy>> {
    let Texts { base, target, .. } = texts;
    let anchors = find_anchors(base, target, check)?;
    if let Some(alternatives) = Alternatives::find(texts, &anchors, step, check)? {
        return Ok(weigh(texts, &alternatives));
    }
    let covered: usize = anchors.iter().map(|anchor| anchor.size).sum();
    let step = if target.len() - covered > MUCH { 2 * step } else { step };
    let wanted = wanted(base, target, &anchors, target.len() - covered);
    let places = 0..base.len().saturating_sub(SEED - 1);
    let seeds = Seeds::new(places, step, wanted.as_ref(), |at| hash(u64_at(base, at)), check)?;
    let mut scanner = Scanner {
        base,
        target,
        seeds,
        shifts: Shifts::default(),
        ahead: Ahead::default(),
        copies: Vec::new(),
        literals: 0,
        at: 0,
        end: 0,
        block: usize::MAX,
        literal: 0,
    };
    for anchor in anchors {
        scanner.scan(anchor.target, check)?;
        scanner.take(anchor);
    }
    scanner.scan(target.len(), check)?;
    Ok(scanner.copies)
}

/// The seeds of what no anchor covers.
fn wanted(base: &[u8], target: &[u8], anchors: &[Copy], count: usize) -> Option<Wanted> {
    let mut wanted = Wanted::new(count, base.len())?;
    let ends = anchors.iter().map(|anchor| anchor.target).chain([target.len()]);
    let starts = [0].into_iter().chain(anchors.iter().map(|anchor| anchor.target + anchor.size));
    for (start, end) in starts.zip(ends) {
        for at in start..end.min(target.len().saturating_sub(SEED - 1)) {
            wanted.add(hash(u64_at(target, at)));
        }
    }
    Some(wanted)
}

/// Seeds of the target looked up in advance, at steps of `stride`.
#[derive(Debug, Default)]
struct Ahead {
    at: usize,
    stride: usize,
    looked: [Looked; BATCH],
    count: usize,
}

impl Ahead {
    #[inline]
    fn get(&self, at: usize) -> Option<Looked> {
        let away = at.wrapping_sub(self.at);
        let index = if self.stride <= 1 { away } else { away / self.stride };
        (index < self.count && index * self.stride.max(1) == away).then(|| self.looked[index])
    }
}

/// A copy that could be made, and what it saves.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    copy: Copy,
    gain: i64,
}

struct Scanner<'a> {
    base: &'a [u8],
    target: &'a [u8],
    seeds: Seeds,
    shifts: Shifts,
    ahead: Ahead,
    copies: Vec<Copy>,
    /// Where the bytes begin that no copy covers yet.
    literals: usize,
    at: usize,
    /// Where the stretch ends that is scanned.
    end: usize,
    /// The block that `literal` is the price of a literal byte in.
    block: usize,
    literal: i64,
}

impl Scanner<'_> {
    /// Scans what is left before `end`.
    fn scan(&mut self, end: usize, check: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        self.end = end;
        let mut checked = self.at;
        while self.has_room(self.at) {
            if self.at - checked >= CHECK_BYTES {
                checked = self.at;
                check()?;
            }
            self.know_price();
            match self.best_at(self.at) {
                Some(best) => {
                    let best = self.improve(best);
                    self.take(best.copy);
                }
                None => self.at += self.stride(),
            }
        }
        Ok(())
    }

    #[inline]
    const fn has_room(&self, at: usize) -> bool {
        at + COPY_MIN <= self.end && at + SEED <= self.target.len()
    }

    #[inline]
    fn know_price(&mut self) {
        if self.block != self.at / BLOCK {
            self.block = self.at / BLOCK;
            let block = &self.target[self.block * BLOCK..];
            self.literal = literal_price(&block[..block.len().min(BLOCK)]);
        }
    }

    /// How far to move after a miss: odd at first, so that every phase of the seeds' step is met.
    #[inline]
    fn stride(&self) -> usize {
        (1 + 2 * ((self.at - self.literals) / DRY)).min(STRIDE_MAX - 1)
    }

    /// Looks whether waiting a byte or two is better.
    fn improve(&mut self, mut best: Candidate) -> Candidate {
        for _ in 0..2 {
            if best.copy.size >= LAZY || !self.has_room(self.at + 1) {
                break;
            }
            match self.best_at(self.at + 1) {
                Some(next) if next.gain > best.gain + self.literal / 2 => best = next,
                _ => break,
            }
            self.at += 1;
        }
        best
    }

    fn best_at(&mut self, at: usize) -> Option<Candidate> {
        let mut best = self.best_shifted(at);
        if best.is_none_or(|best| best.copy.size < ENOUGH) {
            let looked = self.ahead.get(at).unwrap_or_else(|| self.look_ahead(at));
            for place in self.seeds.places(looked) {
                let candidate = self.extend(place, at, PRICE_ANYWHERE);
                if best.is_none_or(|best| candidate.gain > best.gain)
                    && candidate.copy.size >= SEED
                    && candidate.gain > self.gain_of_staying(candidate.copy)
                {
                    best = Some(candidate);
                }
            }
        }
        best.filter(|best| best.gain > 0)
    }

    fn best_shifted(&self, at: usize) -> Option<Candidate> {
        let word = u64_at(self.target, at) as u32;
        let mut best: Option<Candidate> = None;
        for (shift, price) in self.shifts.0.iter().zip(PRICE_SHIFTED) {
            let Some(place) = at.checked_add_signed(*shift) else { continue };
            let Some(bytes) = self.base.get(place..).and_then(<[u8]>::first_chunk) else { continue };
            if u32::from_le_bytes(*bytes) == word {
                let candidate = self.extend(place, at, price);
                if best.is_none_or(|best| candidate.gain > best.gain) {
                    best = Some(candidate);
                }
            }
        }
        best
    }

    #[inline]
    fn extend(&self, place: usize, at: usize, price: i64) -> Candidate {
        let ahead = common_prefix(&self.base[place..], &self.target[at..self.end]);
        let room = (at - self.literals).min(place);
        let back = common_suffix(&self.base[place - room..place], &self.target[at - room..at]);
        let copy = Copy { target: at - back, source: place - back, size: ahead + back };
        Candidate { copy, gain: copy.size as i64 * self.literal - price }
    }

    /// What copies at the last shift save over the stretch that `rival` covers.
    fn gain_of_staying(&self, rival: Copy) -> i64 {
        let mut gain = 0;
        let mut at = rival.target;
        let end = rival.target + rival.size.min(4 * ENOUGH);
        while at < end {
            let Some(place) = at.checked_add_signed(self.shifts.0[0]).filter(|&it| it < self.base.len())
            else {
                break;
            };
            let run = common_prefix(&self.base[place..], &self.target[at..end]);
            gain += (run as i64 * self.literal - PRICE_SHIFTED[0]).max(0);
            at += run + 1;
        }
        gain
    }

    fn look_ahead(&mut self, at: usize) -> Looked {
        let stride = if at == self.at { self.stride() } else { 1 };
        let count = BATCH.min((self.target.len() - SEED - at) / stride + 1);
        let mut looked = [Looked::default(); BATCH];
        for (index, looked) in looked[..count].iter_mut().enumerate() {
            *looked = self.seeds.look(hash(u64_at(self.target, at + index * stride)));
        }
        self.ahead = Ahead { at, stride, looked, count };
        looked[0]
    }

    fn take(&mut self, copy: Copy) {
        self.shifts.use_shift(copy.shift());
        self.copies.push(copy);
        self.at = copy.target + copy.size;
        self.literals = self.at;
    }
}
