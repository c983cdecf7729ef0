//! An encoder of LZMA for data that hardly compresses: where little repeats, liblzma spends most of its time
//! looking for it.
//!
//! What comes out is an .xz stream like any other, of LZMA2 chunks. A symbol is a literal, or a match that was
//! found at the first look in a small table and is certain to pay. Numbers in records even get smaller than by
//! liblzma: the short matches that it takes there cost more than their literals.

use super::matching::common_prefix;

/// Bits of a probability.
const PROBABILITY_BITS: u32 = 11;
const EVEN: u16 = 1 << (PROBABILITY_BITS - 1);
/// How fast probabilities follow what they see.
const MOVE_BITS: u32 = 5;
/// Probabilities of a literal with one context.
const LITERAL: usize = 0x300;
/// A range below this is widened.
const RANGE_MIN: u32 = 1 << 24;
/// Plain bytes of a chunk; what is stored may have no more.
const CHUNK_BYTES: usize = 1 << 16;
/// States: what the last few symbols were.
const STATES: usize = 12;
/// The first state after a match.
const AFTER_MATCH: usize = 7;
/// Places in a record that are told apart, at most.
const PLACES: usize = 1 << 4;
const LENGTH_MIN: usize = 2;
const LENGTH_MAX: usize = 273;
/// The first slot of distances whose low bits are not predicted, but for four of them.
const SLOT_DIRECT: u32 = 14;
const ALIGN_BITS: u32 = 4;
/// Bits of the table of places: it stays in the processor's cache.
const TABLE_BITS: u32 = 15;
/// Bytes that a match has at least, and is found by.
const FOUND_BY: usize = 3;
/// Distances up to which matches of so many bytes pay, from `FOUND_BY` bytes on; longer ones always do.
const PAYING: [usize; 3] = [1 << 10, 1 << 13, 1 << 17];
/// Farthest match, the dictionary in the header below.
const DISTANCE_MAX: usize = 1 << 20;

/// The header of an .xz stream without checks and that of its block: LZMA2 with a dictionary of 1 MiB.
const STREAM_HEADER: [u8; 24] = [
    0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00, 0x00, 0x00, 0xFF, 0x12, 0xD9, 0x41, //
    0x02, 0x00, 0x21, 0x01, 0x10, 0x00, 0x00, 0x00, 0xA8, 0x70, 0x8E, 0x86,
];

/// Takes bits.
pub trait BitSink {
    /// Takes a bit with its probability of being 0.
    fn put(&mut self, zero: u16, bit: bool);
    /// Takes a bit that is as likely as not.
    fn put_even(&mut self, bit: bool);
}

/// Lengths of matches.
#[derive(Debug)]
struct Lengths {
    choice: [u16; 2],
    low: [[u16; 8]; PLACES],
    middle: [[u16; 8]; PLACES],
    high: [u16; 256],
}

impl Lengths {
    const EVEN: Self =
        Self { choice: [EVEN; 2], low: [[EVEN; 8]; PLACES], middle: [[EVEN; 8]; PLACES], high: [EVEN; 256] };

    fn code(&mut self, length: usize, place: usize, sink: &mut impl BitSink) {
        let rest = length - LENGTH_MIN;
        code_bit(&mut self.choice[0], rest >= 8, sink);
        if rest < 8 {
            return code_tree(&mut self.low[place], rest, sink);
        }
        code_bit(&mut self.choice[1], rest >= 16, sink);
        match rest {
            ..16 => code_tree(&mut self.middle[place], rest - 8, sink),
            _ => code_tree(&mut self.high, rest - 16, sink),
        }
    }
}

/// Distances of matches.
#[derive(Debug)]
struct Distances {
    slots: [[u16; 64]; 4],
    special: [u16; 128],
    align: [u16; 1 << ALIGN_BITS],
}

impl Distances {
    const EVEN: Self = Self { slots: [[EVEN; 64]; 4], special: [EVEN; 128], align: [EVEN; 1 << ALIGN_BITS] };

    fn code(&mut self, distance: usize, length: usize, sink: &mut impl BitSink) {
        let before = (distance - 1) as u32;
        let top = before.max(1).ilog2();
        let slot = if before < 4 { before } else { 2 * top + (before >> (top - 1) & 1) };
        code_tree(&mut self.slots[(length - LENGTH_MIN).min(3)], slot as usize, sink);
        if slot < 4 {
            return;
        }
        let bits = (slot >> 1) - 1;
        let first = (2 | slot & 1) << bits;
        let rest = before - first;
        if slot < SLOT_DIRECT {
            return code_reversed(&mut self.special[(first - slot) as usize..], bits, rest, sink);
        }
        for bit in (ALIGN_BITS..bits).rev() {
            sink.put_even(rest >> bit & 1 != 0);
        }
        code_reversed(&mut self.align[1..], ALIGN_BITS, rest, sink);
    }
}

/// Codes a symbol with as many bits as the tree is deep, the highest first.
#[inline]
fn code_tree(tree: &mut [u16], symbol: usize, sink: &mut impl BitSink) {
    let mut node = 1;
    for shift in (0..tree.len().ilog2()).rev() {
        let bit = symbol >> shift & 1;
        code_bit(&mut tree[node], bit != 0, sink);
        node = node << 1 | bit;
    }
}

/// Codes a number the lowest bit first; the tree has its root at 0.
fn code_reversed(tree: &mut [u16], bits: u32, number: u32, sink: &mut impl BitSink) {
    let mut node = 1;
    for shift in 0..bits {
        let bit = (number >> shift & 1) as usize;
        code_bit(&mut tree[node - 1], bit != 0, sink);
        node = node << 1 | bit;
    }
}

/// Predicts symbols.
#[derive(Debug)]
pub struct Predictor {
    is_match: [[u16; PLACES]; STATES],
    is_repeated: [u16; STATES],
    literal: Vec<u16>,
    lengths: Lengths,
    distances: Distances,
    context_bits: u32,
    position_bits: u32,
    /// Bytes so far.
    position: usize,
    state: usize,
    /// The distance of the last match.
    distance: usize,
    before: u8,
}

impl Predictor {
    /// Creates the state at the beginning of a stream: a literal hangs on the highest `context_bits` of the byte
    /// before it and the lowest `position_bits` of its position, four bits together at most.
    pub fn new(context_bits: u32, position_bits: u32) -> Self {
        Self {
            is_match: [[EVEN; PLACES]; STATES],
            is_repeated: [EVEN; STATES],
            literal: vec![EVEN; LITERAL << (context_bits + position_bits)],
            lengths: Lengths::EVEN,
            distances: Distances::EVEN,
            context_bits,
            position_bits,
            position: 0,
            state: 0,
            distance: 1,
            before: 0,
        }
    }

    /// Forgets all but where it is.
    fn reset(&mut self, before: u8) {
        let position = self.position;
        *self = Self { position, before, ..Self::new(self.context_bits, self.position_bits) };
    }

    /// Codes the bytes of `chunk`, of which `finder` has seen those before.
    pub fn code(
        &mut self,
        bytes: &[u8],
        chunk: std::ops::Range<usize>,
        finder: &mut Finder,
        sink: &mut impl BitSink,
    ) {
        let mut at = chunk.start;
        while at < chunk.end {
            let place = self.position & ((1 << self.position_bits) - 1);
            let found = finder.find(bytes, at, chunk.end);
            code_bit(&mut self.is_match[self.state][place], found.is_some(), sink);
            let size = match found {
                Some(found) => self.code_match(found, place, sink),
                None => self.code_literal(bytes, at, place, sink),
            };
            at += size;
            self.position += size;
            self.before = bytes[at - 1];
        }
    }

    fn code_match(&mut self, found: Match, place: usize, sink: &mut impl BitSink) -> usize {
        code_bit(&mut self.is_repeated[self.state], false, sink);
        self.lengths.code(found.length, place, sink);
        self.distances.code(found.distance, found.length, sink);
        self.distance = found.distance;
        self.state = if self.state < AFTER_MATCH { AFTER_MATCH } else { AFTER_MATCH + 3 };
        found.length
    }

    #[inline]
    fn code_literal(&mut self, bytes: &[u8], at: usize, place: usize, sink: &mut impl BitSink) -> usize {
        let byte = bytes[at];
        let context = place << self.context_bits | usize::from(self.before) >> (8 - self.context_bits);
        let literal = &mut self.literal[context * LITERAL..][..LITERAL];
        if self.state < AFTER_MATCH {
            code_tree(&mut literal[..256], byte.into(), sink);
        } else {
            code_differing(literal, byte, bytes[at - self.distance], sink);
        }
        self.state = match self.state {
            0..4 => 0,
            4..10 => self.state - 3,
            _ => self.state - 6,
        };
        1
    }

    /// Returns what bytes take among more of the kind, in bytes: learning them is not counted.
    pub fn price(mut self, bytes: &[u8]) -> usize {
        let [mut learning, mut price] = [Price(0), Price(0)];
        self.code(bytes, 0..bytes.len(), &mut Finder::new(), &mut learning);
        self.code(bytes, 0..bytes.len(), &mut Finder::new(), &mut price);
        (price.0 >> (PRICE_BITS + 3)) as usize
    }
}

/// Codes a literal behind a match: it is not the byte that would have continued the match.
fn code_differing(literal: &mut [u16], byte: u8, continued: u8, sink: &mut impl BitSink) {
    let (mut node, mut offset, mut continued) = (1usize, 0x100usize, usize::from(continued));
    for shift in (0..8).rev() {
        continued <<= 1;
        let expected = continued & offset;
        let bit = usize::from(byte >> shift & 1);
        code_bit(&mut literal[offset + expected + node], bit != 0, sink);
        node = node << 1 | bit;
        offset &= if bit == 0 { !continued } else { continued };
    }
}

#[inline]
fn code_bit(zero: &mut u16, bit: bool, sink: &mut impl BitSink) {
    sink.put(*zero, bit);
    let [less, more] =
        [*zero - (*zero >> MOVE_BITS), *zero + (((1 << PROBABILITY_BITS) - *zero) >> MOVE_BITS)];
    *zero = more ^ ((more ^ less) & u16::from(bit).wrapping_neg());
}

/// Bytes that came before.
#[derive(Debug, Clone, Copy)]
struct Match {
    distance: usize,
    length: usize,
}

/// Finds matches: the last place of each hash.
#[derive(Debug)]
pub struct Finder {
    places: Vec<u32>,
    /// Up to where places are in the table.
    known: usize,
}

impl Finder {
    /// Creates one that has seen nothing.
    pub fn new() -> Self {
        Self { places: vec![u32::MAX; 1 << TABLE_BITS], known: 0 }
    }

    #[inline]
    fn find(&mut self, bytes: &[u8], at: usize, end: usize) -> Option<Match> {
        let word = |at: usize| {
            let word: &[u8; 4] = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*word) & 0x00FF_FFFF)
        };
        let here = word(at)?;
        for skipped in self.known..at {
            if let Some(word) = word(skipped) {
                self.places[hash(word)] = skipped as u32;
            }
        }
        self.known = at + 1;
        let before = std::mem::replace(&mut self.places[hash(here)], at as u32) as usize;
        let distance = at.checked_sub(before).filter(|&distance| distance <= DISTANCE_MAX)?;
        if word(before) != Some(here) {
            return None;
        }
        // The last symbol is a literal: one behind a match needs what is before it, and the next call has not.
        let end = end.min(at + LENGTH_MAX).min(bytes.len() - 1);
        let length = common_prefix(&bytes[before..], &bytes[at..end]);
        let pays = PAYING.get(length.checked_sub(FOUND_BY)?).is_none_or(|&farthest| distance <= farthest);
        pays.then_some(Match { distance, length })
    }
}

#[inline]
const fn hash(word: u32) -> usize {
    (word.wrapping_mul(0x9E37_79B1) >> (32 - TABLE_BITS)) as usize
}

/// Binary digits of a price behind the point.
const PRICE_BITS: u32 = 8;
/// Prices of a bit, by the highest seven bits of its probability.
const PRICES: [u16; 128] = prices();

const fn prices() -> [u16; 128] {
    let mut prices = [0; 128];
    let mut at = 0;
    while at < prices.len() {
        // Squaring doubles the logarithm: one more digit of it each time.
        let (mut square, mut log, mut digit) = (16 * at as u32 + 8, 0, 0);
        while digit < PRICE_BITS {
            square *= square;
            log <<= 1;
            while square >= 1 << 16 {
                square >>= 1;
                log += 1;
            }
            digit += 1;
        }
        prices[at] = ((PROBABILITY_BITS << PRICE_BITS) - 15 - log) as u16;
        at += 1;
    }
    prices
}

/// Adds up what bits take.
struct Price(u64);

impl BitSink for Price {
    #[inline]
    fn put(&mut self, zero: u16, bit: bool) {
        let probability = if bit { (1 << PROBABILITY_BITS) - zero } else { zero };
        self.0 += u64::from(PRICES[usize::from(probability >> 4) & 0x7F]);
    }

    fn put_even(&mut self, _bit: bool) {
        self.0 += 1 << PRICE_BITS;
    }
}

/// The range coder of LZMA.
struct RangeCoder {
    out: Vec<u8>,
    low: u64,
    range: u32,
    /// The last byte that a carry may still change, and how many 0xFF stand behind it.
    held: u8,
    pending: usize,
}

impl RangeCoder {
    fn new() -> Self {
        Self { out: Vec::with_capacity(CHUNK_BYTES), low: 0, range: u32::MAX, held: 0, pending: 0 }
    }

    #[inline]
    fn widen(&mut self) {
        if self.range < RANGE_MIN {
            self.range <<= 8;
            self.shift();
        }
    }

    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        if self.low as u32 >= 0xFF00_0000 && carry == 0 {
            self.pending += 1;
        } else {
            self.out.push(self.held.wrapping_add(carry));
            for _ in 0..std::mem::take(&mut self.pending) {
                self.out.push(0xFFu8.wrapping_add(carry));
            }
            self.held = (self.low >> 24) as u8;
        }
        self.low = (self.low & 0x00FF_FFFF) << 8;
    }

    fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift();
        }
        self.out
    }
}

impl BitSink for RangeCoder {
    #[inline]
    fn put(&mut self, zero: u16, bit: bool) {
        // Without a branch: bits of dense data cannot be foreseen.
        let bound = (self.range >> PROBABILITY_BITS) * u32::from(zero);
        let chosen = u32::from(bit).wrapping_neg();
        self.low += u64::from(bound & chosen);
        self.range = bound ^ ((bound ^ (self.range - bound)) & chosen);
        self.widen();
    }

    fn put_even(&mut self, bit: bool) {
        self.range >>= 1;
        if bit {
            self.low += u64::from(self.range);
        }
        self.widen();
    }
}

/// What the next chunk has to reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    All,
    State,
    Nothing,
}

/// Writes an .xz stream.
#[derive(Debug)]
pub struct Writer {
    predictor: Predictor,
    properties: u8,
    reset: Reset,
}

impl Writer {
    /// Creates the state at the beginning of a stream; see `Predictor::new`.
    pub fn new(context_bits: u32, position_bits: u32) -> Self {
        // The position counts for matches as for literals, as all whom `secondary` asks have it.
        let properties = ((position_bits * 5 + position_bits) * 9 + context_bits) as u8;
        Self { predictor: Predictor::new(context_bits, position_bits), properties, reset: Reset::All }
    }

    /// Appends bytes, up to a point where all of them can be decoded.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.reset == Reset::All {
            out.extend(STREAM_HEADER);
        }
        let mut finder = Finder::new();
        for start in (0..bytes.len()).step_by(CHUNK_BYTES) {
            let end = bytes.len().min(start + CHUNK_BYTES);
            let mut coder = RangeCoder::new();
            self.predictor.code(bytes, start..end, &mut finder, &mut coder);
            let coded = coder.finish();
            if coded.len() < end - start {
                self.put_coded(end - start, &coded, out)
            } else {
                self.put_plain(&bytes[start..end], out)
            }
        }
    }

    fn put_coded(&mut self, size: usize, coded: &[u8], out: &mut Vec<u8>) {
        out.push(match self.reset {
            Reset::All => 0xE0,
            Reset::State => 0xC0,
            Reset::Nothing => 0x80,
        });
        out.extend(((size - 1) as u16).to_be_bytes());
        out.extend(((coded.len() - 1) as u16).to_be_bytes());
        if self.reset != Reset::Nothing {
            out.push(self.properties);
        }
        out.extend(coded);
        self.reset = Reset::Nothing;
    }

    fn put_plain(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        out.push(if self.reset == Reset::All { 1 } else { 2 });
        out.extend(((chunk.len() - 1) as u16).to_be_bytes());
        out.extend(chunk);
        self.predictor.reset(chunk[chunk.len() - 1]);
        self.reset = Reset::State;
    }
}

#[cfg(test)]
mod tests {
    use liblzma::stream::{Action, Status, Stream};

    use super::*;

    /// Random numbers below `alphabet`; the seed is fixed.
    fn noise(size: usize, alphabet: u64) -> Vec<u8> {
        let mut state = 1u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % alphabet) as u8
        };
        (0..size).map(next).collect()
    }

    /// What liblzma makes of a stream up to now: it must have taken all of it.
    fn expanded(lzma: &mut Stream, stream: &[u8], size: usize) -> Vec<u8> {
        let mut out = vec![0; size];
        let (taken, made) = (lzma.total_in(), lzma.total_out());
        loop {
            let (read, written) = ((lzma.total_in() - taken) as usize, (lzma.total_out() - made) as usize);
            if read == stream.len() && written == size {
                return out;
            }
            let status = lzma.process(&stream[read..], &mut out[written..], Action::Run).expect("decodes");
            let progress =
                (lzma.total_in() - taken) as usize > read || (lzma.total_out() - made) as usize > written;
            assert!(status == Status::Ok && progress, "{read} of {}, {written} of {size}", stream.len());
        }
    }

    /// Sections that need every kind of symbol and chunk.
    fn sections() -> Vec<Vec<u8>> {
        let dense = noise(150_000, 200);
        let far = [&dense[..1000], &noise(1 << 20, 256), &dense[..1000]].concat();
        let steps: Vec<u8> = (0..200_000u32).flat_map(|number| (number * 7).to_le_bytes()).collect();
        let ends_in_a_match = b"a match at the end: at the end:".to_vec();
        vec![
            ends_in_a_match,
            b"x".to_vec(),
            dense,
            noise(100_000, 256),
            vec![7; 300_000],
            noise(5_000, 3),
            far,
            steps,
            b"ab".to_vec(),
            noise(70_000, 250),
        ]
    }

    #[test]
    fn liblzma_reads_every_section_at_once() {
        for (context_bits, position_bits) in [(3, 0), (2, 2), (0, 2)] {
            let mut writer = Writer::new(context_bits, position_bits);
            let mut lzma = Stream::new_stream_decoder(8 << 20, 0).expect("a decoder");
            for (number, section) in sections().into_iter().enumerate() {
                let mut stream = Vec::new();
                writer.write(&section, &mut stream);
                let made = expanded(&mut lzma, &stream, section.len());
                assert!(made == section, "section {number} at {context_bits} and {position_bits}");
            }
        }
    }

    #[test]
    fn dense_data_gets_smaller_and_noise_hardly_larger() {
        let size = |section: &[u8]| {
            let mut stream = Vec::new();
            Writer::new(3, 0).write(section, &mut stream);
            stream.len()
        };
        // 7.64 bits a byte, and 7.32.
        assert!(size(&noise(500_000, 200)) < 500_000 * 98 / 100);
        assert!(size(&noise(500_000, 160)) < 500_000 * 95 / 100);
        assert!(size(&noise(500_000, 256)) < 500_000 + 500);
        let once = noise(30_000, 256);
        assert!(size(&[&once[..], &once[..]].concat()) < 31_000, "a repetition close by is found");
    }

    #[test]
    fn the_price_is_what_it_takes() {
        for section in [noise(100_000, 200), noise(100_000, 20), b"some words ".repeat(5000)] {
            let mut stream = Vec::new();
            let mut writer = Writer::new(3, 0);
            writer.write(&section, &mut stream);
            let first = stream.len();
            writer.write(&section, &mut stream);
            let (price, size) = (Predictor::new(3, 0).price(&section), stream.len() - first);
            assert!(price.abs_diff(size) <= size / 50 + 40, "{price} for {size}");
        }
    }
}
