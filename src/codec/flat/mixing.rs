//! The slow byte model: every bit is mixed from five contexts in the logistic domain.
//!
//! A context selects a counter per bit. Counters become log-odds, a small network weighs them, and
//! both learn from the bit. All arithmetic is on integers: two machines must never disagree.

use super::coder::Coder;
use super::lean::{ByteModel, CONTEXTS, Purpose, SETS};
use crate::codec::bytes::{bit_length, scramble};

const TABLE_BITS_MIN: u32 = 14;
/// Counters of one nibble: as many as its bits have prefixes, rounded up.
const NODE: usize = 16;
/// A counter is a probability of 22 bits above a count of 10.
const COUNT_BITS: u32 = 10;
const COUNT_MASK: u32 = (1 << COUNT_BITS) - 1;
const COUNT_MAX: u32 = 250;
const CERTAIN: i32 = (1 << 22) - 1;
/// Log-odds are in units of 1/256 and stay below 8.
const ODDS_MAX: i32 = 2047;
/// A weight of one.
const ONE: i32 = 1 << 16;
const WEIGHT_START: i32 = ONE / CONTEXTS as i32 + 6000;
const LEARNING: i32 = 20;

/// Probability out of 65536 by log-odds from -8 to 8 in steps of a half.
const LOGISTIC: [i32; 33] = [
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793,
    47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
];

/// Probability of a one, out of 65536, from log-odds.
fn squash(odds: i32) -> i32 {
    let odds = odds.clamp(-ODDS_MAX, ODDS_MAX) + 2048;
    let (index, rest) = ((odds >> 7) as usize, odds & 127);
    let chance = (LOGISTIC[index] * (128 - rest) + LOGISTIC[index + 1] * rest) >> 7;
    chance.clamp(32, 65536 - 32)
}

/// Log-odds by the upper 12 bits of a probability: the inverse of [`squash`].
fn stretches() -> Vec<i16> {
    let mut odds = -ODDS_MAX;
    let mut table = Vec::with_capacity(4096);
    for chance in 0..4096 {
        while odds < ODDS_MAX && squash(odds) < chance * 16 + 8 {
            odds += 1;
        }
        table.push(odds as i16);
    }
    table
}

/// See the module.
#[derive(Debug)]
pub struct Mixing {
    counters: Vec<u32>,
    mask: usize,
    weights: Vec<[i32; CONTEXTS]>,
    stretch: Vec<i16>,
    squash: Vec<u16>,
    /// How far a counter moves, out of 65536, by its count.
    steps: Vec<i32>,
}

impl ByteModel for Mixing {
    fn new(purpose: Purpose, len: usize) -> Self {
        let bits_max = match purpose {
            Purpose::Literals => 22,
            Purpose::Mismatches => 21,
        };
        let bits = bit_length(len as u64).clamp(TABLE_BITS_MIN, bits_max);
        Self {
            counters: vec![1 << 31; 1 << bits],
            mask: ((1 << bits) - 1) & !(NODE - 1),
            weights: vec![[WEIGHT_START; CONTEXTS]; SETS * 2 * NODE],
            stretch: stretches(),
            squash: (-2048..2048).map(|odds| squash(odds) as u16).collect(),
            steps: (0..1 << COUNT_BITS).map(|count| 655_360 / (10 * count + 16)).collect(),
        }
    }

    #[inline]
    fn code<C: Coder>(&mut self, coder: &mut C, contexts: &[u32; CONTEXTS], set: usize, byte: u8) -> u8 {
        let high = self.nibble(coder, self.nodes(contexts, 0), set * 2 * NODE, byte >> 4);
        let nodes = self.nodes(contexts, u64::from(high) + 1);
        high << 4 | self.nibble(coder, nodes, (set * 2 + 1) * NODE, byte & 15)
    }
}

impl Mixing {
    /// Where each context's counters for a nibble begin; `prefix` is 0 for the first nibble.
    #[inline]
    fn nodes(&self, contexts: &[u32; CONTEXTS], prefix: u64) -> [usize; CONTEXTS] {
        std::array::from_fn(|which| {
            let key = u64::from(contexts[which]) << 8 | (which as u64) << 5 | prefix;
            (scramble(key) >> 32) as usize & self.mask
        })
    }

    #[inline]
    fn nibble<C: Coder>(&mut self, coder: &mut C, nodes: [usize; CONTEXTS], set: usize, nibble: u8) -> u8 {
        let mut prefix = 1usize;
        for place in 0..4 {
            let slots = nodes.map(|node| node + prefix);
            let bit = nibble >> (3 - place) & 1 == 1;
            let bit = self.bit(coder, slots, set + prefix, bit);
            prefix = prefix << 1 | usize::from(bit);
        }
        prefix as u8 & 15
    }

    #[inline]
    fn bit<C: Coder>(&mut self, coder: &mut C, slots: [usize; CONTEXTS], set: usize, bit: bool) -> bool {
        let odds = slots.map(|slot| self.odds(self.counters[slot]));
        let weights = &mut self.weights[set];
        let parts = odds.iter().zip(weights.iter());
        let sum: i64 = parts.map(|(odds, weight)| i64::from(*odds) * i64::from(*weight)).sum();
        let mixed = (sum >> 16).clamp(-i64::from(ODDS_MAX), i64::from(ODDS_MAX)) as i32;
        let chance = u32::from(self.squash[(mixed + 2048) as usize]);
        let bit = coder.split(chance, bit);
        let error = ((i32::from(bit) << 16) - chance as i32) >> 4;
        for (odds, weight) in odds.iter().zip(weights) {
            *weight = weight.wrapping_add((odds * error * LEARNING + 0x2000) >> 14);
        }
        for slot in slots {
            self.learn(slot, bit);
        }
        bit
    }

    /// Log-odds of a counter, pulled towards even while it knows little.
    #[inline]
    fn odds(&self, counter: u32) -> i32 {
        let odds = i32::from(self.stretch[(counter >> 20) as usize]);
        match (counter & COUNT_MASK) as i32 {
            count @ 0..6 => (odds * (count * 2 + 4)) >> 4,
            _ => odds,
        }
    }

    #[inline]
    fn learn(&mut self, slot: usize, bit: bool) {
        let counter = &mut self.counters[slot];
        let (chance, count) = ((*counter >> COUNT_BITS) as i32, *counter & COUNT_MASK);
        let goal = if bit { CERTAIN } else { 0 };
        let step = i64::from(goal - chance) * i64::from(self.steps[count as usize]);
        let chance = chance + (step >> 16) as i32;
        *counter = (chance as u32) << COUNT_BITS | (count + 1).min(COUNT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_and_chances_are_inverse_and_monotone() {
        let table = stretches();
        assert!(table.windows(2).all(|pair| pair[0] <= pair[1]));
        for chance in (16..4080).step_by(7) {
            let back = squash(i32::from(table[chance as usize]));
            assert!((back - chance * 16).abs() <= 128, "{chance}: {back}");
        }
    }
}
