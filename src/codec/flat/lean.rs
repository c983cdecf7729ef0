//! The fast byte model: two nibbles, each blended from two contexts.
//!
//! A context selects a nibble model from one hashed table. The blend is linear, with a weight per
//! caller's set and per confidence of the second context, moved after each nibble towards the side
//! that gave it more room.

use super::coder::{Coder, Ladder, blend};
use crate::codec::bytes::{bit_length, scramble};

/// Contexts a caller passes: the lean model blends the first two, the mixing model all.
pub const CONTEXTS: usize = 5;
/// Sets of weights a caller may tell apart.
pub const SETS: usize = 8;

/// What bytes a model is for: it decides how much memory they are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Bytes of literals.
    Literals,
    /// Bytes that differ from the base.
    Mismatches,
}

/// Predicts bytes from contexts.
pub trait ByteModel {
    /// Creates a model whose tables suit `len` bytes of target.
    fn new(purpose: Purpose, len: usize) -> Self;

    /// Makes the processor load what coding a byte in these contexts will need.
    fn warm(&mut self, _contexts: &[u32; CONTEXTS]) {}

    /// Codes one byte. Contexts come in order of usefulness.
    fn code<C: Coder>(&mut self, coder: &mut C, contexts: &[u32; CONTEXTS], set: usize, byte: u8) -> u8;
}

const BLENDED: usize = 2;
const CONFIDENCES: usize = 8;
const TABLE_BITS_MIN: u32 = 10;
/// Towards the first context: the second knows little at first.
const WEIGHT_START: i16 = -8_000;
const WEIGHT_MAX: i32 = 32767 - 512;

/// See the module.
#[derive(Debug)]
pub struct Lean {
    table: Vec<Ladder>,
    mask: usize,
    weights: Vec<i16>,
    /// Nothing: a sum that makes the processor load models before they are needed.
    warmth: i16,
}

impl ByteModel for Lean {
    fn new(purpose: Purpose, len: usize) -> Self {
        let bits_max = match purpose {
            Purpose::Literals => 15,
            Purpose::Mismatches => 14,
        };
        let bits = bit_length(len as u64 / 8).clamp(TABLE_BITS_MIN, bits_max);
        let weights = vec![WEIGHT_START; SETS * 2 * CONFIDENCES];
        Self { table: vec![Ladder::default(); 1 << bits], mask: (1 << bits) - 1, weights, warmth: 0 }
    }

    #[inline]
    fn code<C: Coder>(&mut self, coder: &mut C, contexts: &[u32; CONTEXTS], set: usize, byte: u8) -> u8 {
        let slots = self.slots(contexts);
        let high = self.nibble(coder, slots, set * 2, byte >> 4);
        let slots = slots.map(|slot| below(slot, high));
        let low = self.nibble(coder, slots, set * 2 + 1, byte & 15);
        high << 4 | low
    }

    #[inline]
    fn warm(&mut self, contexts: &[u32; CONTEXTS]) {
        for slot in self.slots(contexts) {
            self.warmth = self.warmth.wrapping_add(self.table[slot].sample());
        }
    }
}

/// Models of one page of memory, as a power of two.
const PAGE_BITS: u32 = 7;

/// Where the model of a low nibble is, given its high nibble's: on the same page of memory, because
/// the processor's page table is slower than its cache.
#[inline]
fn below(slot: usize, high: u8) -> usize {
    let page = (1 << PAGE_BITS) - 1;
    slot & !page | (slot + (usize::from(high) + 1) * 37) & page
}

impl Lean {
    #[inline]
    fn slots(&self, contexts: &[u32; CONTEXTS]) -> [usize; BLENDED] {
        std::array::from_fn(|which| {
            let key = u64::from(contexts[which]) << 2 | which as u64;
            (scramble(key) >> 40) as usize & self.mask
        })
    }

    #[inline]
    fn nibble<C: Coder>(&mut self, coder: &mut C, slots: [usize; BLENDED], set: usize, nibble: u8) -> u8 {
        let ladders = slots.map(|slot| &self.table[slot]);
        let weight = &mut self.weights[set * CONFIDENCES + confidence(ladders[1])];
        let both = blend(ladders, *weight);
        let nibble = coder.pick(&both, nibble);
        let [first, second] = ladders.map(|ladder| ladder.frequency(nibble));
        *weight = shifted(*weight, second - first, both.frequency(nibble));
        for slot in slots {
            self.table[slot].learn(nibble);
        }
        nibble
    }
}

#[inline]
fn confidence(ladder: &Ladder) -> usize {
    bit_length(ladder.count() as u64) as usize
}

/// 2^18 divided by a frequency, by its upper nine bits.
const INVERSE: [i32; 512] = {
    let mut inverse = [0; 512];
    let mut upper = 0;
    while upper < 512 {
        inverse[upper] = (1 << 18) / ((upper as i32) << 6 | 32);
        upper += 1;
    }
    inverse
};

/// The weight after the blend gave `blended` to what came, and one side `lead` more than the other.
#[inline]
fn shifted(weight: i16, lead: i32, blended: i32) -> i16 {
    let step = (lead * INVERSE[(blended >> 6) as usize & 511]) >> 9;
    (i32::from(weight) + step).clamp(-WEIGHT_MAX, WEIGHT_MAX) as i16
}
