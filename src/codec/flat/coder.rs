//! A range coder over adaptive models: single bits, nibbles, numbers.
//!
//! [`Coder`] has one method per kind of symbol. The encoder writes the symbol it is given; the
//! decoder ignores that argument and returns what it reads; both return the symbol. Callers are
//! generic over it, and `ENCODES` is a constant, so the branch costs nothing.
//!
//! A nibble is coded in one step from a table of 16 cumulative frequencies that moves towards each
//! coded symbol. That is what makes decoding fast: one division and two vector operations per four
//! bits, instead of four dependent binary decisions.

/// Bits of precision of a nibble's frequencies.
const TOTAL_BITS: u32 = 15;
/// The least frequency of any nibble, which also keeps blends of two models decodable.
const LEAST: i16 = 8;
/// Below this the range is refilled by a byte.
const RANGE_MIN: u32 = 1 << 24;

/// Writes or reads symbols.
pub trait Coder {
    /// Whether symbols are taken from the arguments.
    const ENCODES: bool;

    /// Codes a bit whose chance of being set is `chance` / 65536.
    fn split(&mut self, chance: u32, bit: bool) -> bool;

    /// Codes a nibble from cumulative frequencies.
    fn pick(&mut self, ladder: &Ladder, nibble: u8) -> u8;

    /// Codes up to 16 bits as they are.
    fn raw16(&mut self, count: u32, value: u32) -> u32;

    /// Codes a bit by an adaptive model.
    #[inline]
    fn bit(&mut self, model: &mut Bit, bit: bool) -> bool {
        let bit = self.split(model.chance(), bit);
        model.learn(bit);
        bit
    }

    /// Codes a nibble by an adaptive model.
    #[inline]
    fn nibble(&mut self, model: &mut Nibble, nibble: u8) -> u8 {
        let nibble = self.pick(&model.ladder, nibble);
        model.ladder.learn(nibble);
        nibble
    }

    /// Codes up to 64 bits as they are.
    #[inline]
    fn raw(&mut self, count: u32, value: u64) -> u64 {
        let (mut left, mut read) = (count, 0u64);
        while left > 0 {
            let step = left.min(16);
            left -= step;
            let part = (value >> left) as u32 & ((1 << step) - 1);
            read = read << step | u64::from(self.raw16(step, part));
        }
        read
    }
}

/// Cumulative frequencies of the 16 nibbles, out of 32768.
///
/// The first would always be zero. It holds `-1 - count` instead, how often the model learned up to
/// 63: no comparison can tell that from zero, and it needs no cache line of its own.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub struct Ladder([i16; 16]);

impl Default for Ladder {
    fn default() -> Self {
        let mut lanes = std::array::from_fn(|lane| (lane << (TOTAL_BITS - 4)) as i16);
        lanes[0] = -1;
        Self(lanes)
    }
}

impl Ladder {
    /// Where `nibble` begins, and how much of the range it has.
    #[inline]
    fn slot(&self, nibble: u8) -> (u32, u32) {
        // The lane behind the last is the first, whose negative number stands for both ends.
        let here = i32::from(self.0[usize::from(nibble & 15)]);
        let next = i32::from(self.0[usize::from(nibble.wrapping_add(1) & 15)]);
        let end = if next < 0 { 1 << TOTAL_BITS } else { next };
        let start = here.max(0);
        (start as u32, (end - start) as u32)
    }

    #[inline]
    fn find(&self, value: i16) -> u8 {
        let below: i16 = self.0.iter().map(|step| i16::from(*step <= value)).sum();
        (below - 1) as u8
    }

    /// Frequency of `nibble` out of 32768.
    #[inline]
    pub fn frequency(&self, nibble: u8) -> i32 {
        self.slot(nibble).1 as i32
    }

    /// Something that depends on the frequencies.
    #[inline]
    pub fn sample(&self) -> i16 {
        self.0[1]
    }

    /// How often the model learned, up to 63.
    #[inline]
    pub fn count(&self) -> usize {
        usize::from((-1 - self.0[0]) as u16)
    }

    /// Moves the frequencies towards `nibble`, the less the more was learned before.
    #[inline]
    pub fn learn(&mut self, nibble: u8) {
        let count = -1 - self.0[0];
        self.pull(&PULLS[usize::from(nibble & 15)], RATES[(count & COUNT_MAX) as usize]);
        self.0[0] = -1 - (count + 1).min(COUNT_MAX);
    }

    /// Not inlined: lanes stay in vector registers as long as nothing looks at one of them.
    #[inline(never)]
    fn pull(&mut self, goal: &[i16; 16], shift: u8) {
        for (lane, goal) in self.0.iter_mut().zip(goal) {
            *lane += goal.wrapping_sub(*lane) >> (shift & 15);
        }
    }
}

/// The mean of two ladders, moved by `weight` / 65536 of their difference towards the second.
///
/// Not inlined, like [`Ladder::pull`].
#[inline(never)]
pub fn blend(ladders: [&Ladder; 2], weight: i16) -> Ladder {
    let mut blended = Ladder([0; 16]);
    for lane in 0..16 {
        let [from, to] = ladders.map(|ladder| ladder.0[lane]);
        let mean = ((u32::from(from as u16) + u32::from(to as u16) + 1) >> 1) as i16;
        let away = i32::from(to.wrapping_sub(from));
        blended.0[lane] = mean.wrapping_add(((away * i32::from(weight)) >> 16) as i16);
    }
    blended
}

/// An adaptive model of one nibble.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nibble {
    ladder: Ladder,
}

/// How far a model moves towards a symbol, as a shift, by how often it learned before.
const RATES: [u8; 64] = {
    let mut rates = [6u8; 64];
    let mut count = 0;
    while count < 40 {
        rates[count] = match count {
            0 => 1,
            1..=2 => 2,
            3..=6 => 3,
            7..=14 => 4,
            _ => 5,
        };
        count += 1;
    }
    rates
};
const COUNT_MAX: i16 = 63;

/// Where each symbol pulls the frequencies.
const PULLS: [[i16; 16]; 16] = {
    let mut pulls = [[0i16; 16]; 16];
    let mut symbol = 0;
    while symbol < 16 {
        let mut lane = 1;
        while lane < 16 {
            let rest = lane as i16 * LEAST;
            let top = (1 << TOTAL_BITS) - 16 * LEAST as i32;
            pulls[symbol][lane] = if lane <= symbol { rest } else { top as i16 + rest };
            lane += 1;
        }
        symbol += 1;
    }
    pulls
};

/// An adaptive model of one bit: the mean of a fast and a slow estimate.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    fast: u16,
    slow: u16,
}

impl Default for Bit {
    fn default() -> Self {
        Self { fast: 1 << 15, slow: 1 << 15 }
    }
}

impl Bit {
    #[inline]
    fn chance(self) -> u32 {
        ((u32::from(self.fast) + u32::from(self.slow)) >> 1).clamp(24, 65536 - 24)
    }

    #[inline]
    fn learn(&mut self, bit: bool) {
        if bit {
            self.fast += (65535 - self.fast) >> 4;
            self.slow += (65535 - self.slow) >> 7;
        } else {
            self.fast -= self.fast >> 4;
            self.slow -= self.slow >> 7;
        }
    }
}

/// Bytes that a decoder may read behind the end of a sound stream.
const BEHIND_THE_END: usize = 5;

/// Writes symbols to a buffer.
#[derive(Debug)]
pub struct Encoder {
    low: u64,
    range: u32,
    held: u8,
    held_count: u64,
    out: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { low: 0, range: u32::MAX, held: 0, held_count: 1, out: Vec::new() }
    }
}

impl Encoder {
    /// Ends the stream. Trailing zeros are dropped, because the decoder reads zeros behind the end; but no more
    /// of them than it may read there.
    pub fn finish(mut self) -> Vec<u8> {
        for _ in 0..BEHIND_THE_END {
            self.shift();
        }
        for _ in 0..BEHIND_THE_END {
            if self.out.last() == Some(&0) {
                self.out.pop();
            }
        }
        self.out
    }

    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        if carry != 0 || (self.low as u32) < 0xFF00_0000 {
            self.out.push(self.held.wrapping_add(carry));
            for _ in 1..self.held_count {
                self.out.push(0xFFu8.wrapping_add(carry));
            }
            self.held_count = 0;
            self.held = (self.low >> 24) as u8;
        }
        self.held_count += 1;
        self.low = u64::from((self.low as u32) << 8);
    }

    #[inline]
    fn narrow(&mut self, start: u32, size: u32) {
        self.low += u64::from(start);
        self.range = size;
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.shift();
        }
    }
}

impl Coder for Encoder {
    const ENCODES: bool = true;

    #[inline]
    fn split(&mut self, chance: u32, bit: bool) -> bool {
        let set = (self.range >> 16) * chance;
        if bit {
            self.narrow(0, set)
        } else {
            self.narrow(set, self.range - set)
        }
        bit
    }

    #[inline(always)]
    fn pick(&mut self, ladder: &Ladder, nibble: u8) -> u8 {
        let (start, frequency) = ladder.slot(nibble);
        let unit = self.range >> TOTAL_BITS;
        self.narrow(start * unit, frequency * unit);
        nibble
    }

    #[inline]
    fn raw16(&mut self, count: u32, value: u32) -> u32 {
        let unit = self.range >> count;
        self.narrow(value * unit, unit);
        value
    }
}

/// Reads symbols from a slice; behind its end there are zeros.
#[derive(Debug)]
pub struct Decoder<'a> {
    code: u32,
    range: u32,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { code: 0, range: u32::MAX, bytes, at: 1 };
        for _ in 0..4 {
            decoder.code = decoder.code << 8 | decoder.next();
        }
        decoder
    }

    /// Whether more was read than any encoder wrote: the stream is damaged.
    pub fn is_overrun(&self) -> bool {
        self.at > self.bytes.len() + BEHIND_THE_END
    }

    #[inline]
    fn next(&mut self) -> u32 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        u32::from(byte)
    }

    #[inline]
    fn narrow(&mut self, start: u32, size: u32) {
        self.code = self.code.wrapping_sub(start);
        self.range = size;
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
    }
}

impl Coder for Decoder<'_> {
    const ENCODES: bool = false;

    #[inline]
    fn split(&mut self, chance: u32, _: bool) -> bool {
        let set = (self.range >> 16) * chance;
        let bit = self.code < set;
        if bit {
            self.narrow(0, set)
        } else {
            self.narrow(set, self.range - set)
        }
        bit
    }

    #[inline(always)]
    fn pick(&mut self, ladder: &Ladder, _: u8) -> u8 {
        let unit = self.range >> TOTAL_BITS;
        let value = (self.code / unit).min((1 << TOTAL_BITS) - 1);
        let nibble = ladder.find(value as i16);
        let (start, frequency) = ladder.slot(nibble);
        self.narrow(start * unit, frequency * unit);
        nibble
    }

    #[inline]
    fn raw16(&mut self, count: u32, _: u32) -> u32 {
        let unit = self.range >> count;
        let value = (self.code / unit).min((1 << count) - 1);
        self.narrow(value * unit, unit);
        value
    }
}

/// A model of numbers that are mostly small: bit length, leading digits, the rest as it is.
#[derive(Clone, Debug)]
pub struct Number {
    /// Small numbers and lengths; an escape for long ones.
    length: Nibble,
    long: [Nibble; 4],
    digits: Vec<Nibble>,
}

/// Numbers below this are one symbol.
const DIRECT: u64 = 6;
/// Bit lengths from 3 (6 and 7) up to this have a symbol of their own.
const SHORT_BITS: u32 = 11;

impl Default for Number {
    fn default() -> Self {
        Self { length: Nibble::default(), long: [Nibble::default(); 4], digits: vec![Nibble::default(); 33] }
    }
}

impl Number {
    /// Codes one number.
    #[inline]
    pub fn code<C: Coder>(&mut self, coder: &mut C, value: u64) -> u64 {
        let bits = crate::codec::bytes::bit_length(value);
        let symbol = match value {
            0..DIRECT => value as u8,
            _ if bits <= SHORT_BITS => (DIRECT as u32 + bits - 3) as u8,
            _ => 15,
        };
        let symbol = coder.nibble(&mut self.length, symbol);
        match u64::from(symbol) {
            small @ 0..DIRECT => small,
            15 => self.code_long(coder, bits, value),
            length => self.code_digits(coder, length as u32 - DIRECT as u32 + 3, value),
        }
    }

    fn code_long<C: Coder>(&mut self, coder: &mut C, bits: u32, value: u64) -> u64 {
        let extra = bits.saturating_sub(SHORT_BITS + 1);
        let high = coder.nibble(&mut self.long[0], (extra >> 4) as u8) & 3;
        let low = coder.nibble(&mut self.long[usize::from(high.min(2)) + 1], (extra & 15) as u8);
        let bits = (u32::from(high) << 4 | u32::from(low)) + SHORT_BITS + 1;
        self.code_digits(coder, bits.min(64), value)
    }

    /// Codes what follows the leading one of a number of `bits` bits.
    #[inline]
    fn code_digits<C: Coder>(&mut self, coder: &mut C, bits: u32, value: u64) -> u64 {
        let below = bits - 1;
        let modelled = below.min(4);
        let rest = below - modelled;
        let top = (value >> rest) as u8 & ((1 << modelled) - 1);
        let model = &mut self.digits[bits.min(32) as usize];
        let top = coder.nibble(model, top) & ((1 << modelled) - 1);
        let head = 1u64 << modelled | u64::from(top);
        if rest == 0 { head } else { head << rest | coder.raw(rest, value & ((1 << rest) - 1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> Vec<u64> {
        let mut state = 7u64;
        let mut step = |bits: u32| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> (64 - bits)
        };
        (0..20_000).map(|turn| step(1 + turn % 64)).chain([0, 5, 6, 7, u64::MAX]).collect()
    }

    fn run<C: Coder>(coder: &mut C, numbers: &[u64]) -> Vec<u64> {
        let (mut number, mut bit) = (Number::default(), Bit::default());
        let mut code = |value: u64| {
            let odd = coder.bit(&mut bit, value & 1 == 1);
            let number = number.code(coder, value);
            assert_eq!(odd, number & 1 == 1);
            coder.raw(3, number & 7);
            number
        };
        numbers.iter().map(|value| code(if C::ENCODES { *value } else { 0 })).collect()
    }

    #[test]
    fn numbers_of_every_length_come_back() {
        let numbers = numbers();
        let mut encoder = Encoder::default();
        run(&mut encoder, &numbers);
        let bytes = encoder.finish();
        assert_eq!(run(&mut Decoder::new(&bytes), &numbers), numbers);
    }

    #[test]
    fn a_sound_stream_that_ends_in_zeros_is_not_overrun() {
        // All zeros: the interval never leaves zero, so every byte that is written is one.
        for count in [0, 1, 100, 10_000, 1_000_000] {
            let mut encoder = Encoder::default();
            let mut bit = Bit::default();
            for _ in 0..count {
                encoder.bit(&mut bit, false);
            }
            for _ in 0..count / 100 {
                encoder.raw(7, 0);
            }
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            let mut bit = Bit::default();
            assert!((0..count).all(|_| !decoder.bit(&mut bit, false)));
            assert!((0..count / 100).all(|_| decoder.raw(7, 0) == 0));
            assert!(!decoder.is_overrun(), "{count}");
        }
    }

    #[test]
    fn a_stream_that_was_cut_is_overrun() {
        let mut encoder = Encoder::default();
        for value in 0..1000 {
            encoder.raw(16, value);
        }
        let bytes = encoder.finish();
        let mut decoder = Decoder::new(&bytes[..bytes.len() - 20]);
        for _ in 0..1000 {
            decoder.raw(16, 0);
        }
        assert!(decoder.is_overrun());
    }

    #[test]
    fn every_nibble_keeps_a_frequency_and_blends_stay_decodable() {
        let (mut one, mut other) = (Ladder::default(), Ladder::default());
        for turn in 0..5000u32 {
            one.learn((turn % 3) as u8);
            other.learn(15 - (turn * turn % 5) as u8);
            let blended = blend([&one, &other], (turn * 13) as i16);
            for nibble in 0..16 {
                assert!(one.frequency(nibble) >= i32::from(LEAST));
                assert!(blended.frequency(nibble) >= 1);
            }
        }
    }
}
