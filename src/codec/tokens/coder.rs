//! An adaptive binary range coder.
//!
//! One trait for both directions, so that the model is written once.

/// The probability of a zero bit: the mean of a fast and a slow estimate.
///
/// Both start by averaging what they have seen so far and settle at 1/16 and 1/128, so that a new
/// context costs little before it has learnt.
#[derive(Clone, Copy)]
pub struct Bit {
    fast: u16,
    slow: u16,
    seen: u8,
}

const FAST_SHIFT: u8 = 4;
const SLOW_SHIFT: u8 = 7;
/// How slowly an estimate moves after so many bits.
const WARM_UP: [u8; 8] = [1, 2, 2, 3, 3, 4, 4, 5];

impl Bit {
    /// Knows nothing.
    pub const NEW: Self = Self { fast: 1 << 15, slow: 1 << 15, seen: 0 };

    /// The chance of a zero, in 65536ths, never certain.
    #[inline(always)]
    fn zero(self) -> u32 {
        ((u32::from(self.fast) + u32::from(self.slow)) >> 1).clamp(48, 65536 - 48)
    }

    #[inline(always)]
    fn learn(&mut self, one: bool) {
        let (fast, slow) = match WARM_UP.get(usize::from(self.seen >> 1)) {
            Some(&warm) => {
                self.seen += 1;
                (warm.min(FAST_SHIFT), warm)
            }
            None => (FAST_SHIFT, SLOW_SHIFT),
        };
        if one {
            self.fast -= self.fast >> fast;
            self.slow -= self.slow >> slow;
        } else {
            self.fast += (65535 - self.fast) >> fast;
            self.slow += (65535 - self.slow) >> slow;
        }
    }
}

/// Either direction of the range coder. When decoding, the value handed in is ignored.
pub trait Coder {
    /// Whether symbols are told rather than learnt.
    const ENCODES: bool;
    /// Codes one bit in a context.
    fn bit(&mut self, context: &mut Bit, one: bool) -> bool;
    /// Codes `count` bits, at most 32, that nothing is known about.
    fn raw(&mut self, value: u32, count: u32) -> u32;
    /// Bytes written or read so far.
    fn position(&self) -> usize;
}

/// Codes a number of `width` bits, highest first; `contexts` holds `1 << width`.
#[inline]
pub fn tree<C: Coder>(coder: &mut C, contexts: &mut [Bit], width: u32, value: u32) -> u32 {
    let mut node = 1usize;
    for shift in (0..width).rev() {
        let bit = coder.bit(&mut contexts[node], value >> shift & 1 == 1);
        node = node << 1 | usize::from(bit);
    }
    node as u32 & ((1 << width) - 1)
}

/// Codes numbers of unknown size: the magnitude and the two highest bits adapt, the rest is raw.
#[derive(Clone)]
pub struct Number {
    magnitude: [Bit; 32],
    top: [Bit; 4 * 32],
}

impl Number {
    /// Knows nothing.
    pub const NEW: Self = Self { magnitude: [Bit::NEW; 32], top: [Bit::NEW; 128] };

    /// Codes `value`, which must be below `u32::MAX`.
    pub fn code<C: Coder>(&mut self, coder: &mut C, value: u32) -> u32 {
        let value = value.wrapping_add(1).max(1);
        let magnitude = tree(coder, &mut self.magnitude, 5, 31 - value.leading_zeros());
        let adaptive = magnitude.min(2);
        let raw = magnitude - adaptive;
        let mask = |bits: u32| (1u32 << bits) - 1;
        let contexts = &mut self.top[magnitude as usize * 4..][..4];
        let top = tree(coder, contexts, adaptive, value >> raw & mask(adaptive));
        let low = coder.raw(value & mask(raw), raw);
        (1 << magnitude | top << raw | low).wrapping_sub(1)
    }
}

const RENORMALISE: u32 = 1 << 24;

/// Writes symbols.
pub struct Encoder {
    bytes: Vec<u8>,
    low: u64,
    range: u32,
    held: u8,
    pending: u64,
}

impl Encoder {
    /// Starts an empty stream.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), low: 0, range: u32::MAX, held: 0, pending: 0 }
    }

    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        if carry != 0 || (self.low as u32) < 0xff00_0000 {
            if self.pending > 0 {
                self.bytes.push(self.held.wrapping_add(carry));
                let filler = 0xffu8.wrapping_add(carry);
                self.bytes.extend(std::iter::repeat_n(filler, self.pending as usize - 1));
            }
            self.held = (self.low >> 24) as u8;
            self.pending = 0;
        }
        self.pending += 1;
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    /// Returns the bytes; the decoder supplies the zeros that are cut off.
    pub fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift();
        }
        while self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
        self.bytes
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Coder for Encoder {
    const ENCODES: bool = true;

    #[inline]
    fn bit(&mut self, context: &mut Bit, one: bool) -> bool {
        let bound = (self.range >> 16) * context.zero();
        if one {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        context.learn(one);
        while self.range < RENORMALISE {
            self.range <<= 8;
            self.shift();
        }
        one
    }

    fn raw(&mut self, value: u32, count: u32) -> u32 {
        for shift in (0..count).rev() {
            self.range >>= 1;
            if value >> shift & 1 == 1 {
                self.low += u64::from(self.range);
            }
            while self.range < RENORMALISE {
                self.range <<= 8;
                self.shift();
            }
        }
        value
    }

    fn position(&self) -> usize {
        self.bytes.len() + self.pending as usize
    }
}

/// Reads symbols; behind the end it reads zeros.
pub struct Decoder<'a> {
    bytes: &'a [u8],
    next: usize,
    range: u32,
    code: u32,
}

impl<'a> Decoder<'a> {
    /// Starts reading what an [`Encoder`] wrote.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { bytes, next: 0, range: u32::MAX, code: 0 };
        for _ in 0..4 {
            decoder.code = decoder.code << 8 | decoder.byte();
        }
        decoder
    }

    #[inline]
    fn byte(&mut self) -> u32 {
        let byte = self.bytes.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        byte.into()
    }
}

impl Coder for Decoder<'_> {
    const ENCODES: bool = false;

    #[inline(always)]
    fn bit(&mut self, context: &mut Bit, _: bool) -> bool {
        let bound = (self.range >> 16) * context.zero();
        let one = self.code >= bound;
        if one {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        context.learn(one);
        while self.range < RENORMALISE {
            self.range <<= 8;
            self.code = self.code << 8 | self.byte();
        }
        one
    }

    fn raw(&mut self, _: u32, count: u32) -> u32 {
        let mut value = 0;
        for _ in 0..count {
            self.range >>= 1;
            let one = self.code >= self.range;
            if one {
                self.code -= self.range;
            }
            value = value << 1 | u32::from(one);
            while self.range < RENORMALISE {
                self.range <<= 8;
                self.code = self.code << 8 | self.byte();
            }
        }
        value
    }

    fn position(&self) -> usize {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> Vec<u32> {
        (0..5000u32).map(|i| i.wrapping_mul(0x9e37_79b1) >> (i % 32)).map(|n| n & (u32::MAX >> 1)).collect()
    }

    #[test]
    fn numbers_told_are_the_numbers_learnt() {
        let mut encoder = Encoder::new();
        let mut contexts = Number::NEW;
        for number in numbers() {
            contexts.code(&mut encoder, number);
            encoder.raw(number, 31);
        }
        let bytes = encoder.finish();
        let (mut decoder, mut contexts) = (Decoder::new(&bytes), Number::NEW);
        for number in numbers() {
            assert_eq!(contexts.code(&mut decoder, 0), number);
            assert_eq!(decoder.raw(0, 31), number);
        }
    }

    #[test]
    fn a_predictable_bit_costs_next_to_nothing() {
        let mut encoder = Encoder::new();
        let mut context = Bit::NEW;
        for _ in 0..80_000 {
            encoder.bit(&mut context, true);
        }
        assert!(encoder.finish().len() < 30);
    }
}
