//! LZMA without matches: for data in which nothing repeats, where looking for matches takes most of LZMA's time.
//!
//! What comes out is an .xz stream like any other, of LZMA2 chunks whose every symbol is a literal. Numbers in records
//! even get smaller: the short matches that LZMA would find there cost more than their literals.

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

/// The header of an .xz stream without checks and that of its block: LZMA2 with the smallest dictionary.
const STREAM_HEADER: [u8; 24] = [
    0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00, 0x00, 0x00, 0xFF, 0x12, 0xD9, 0x41, //
    0x02, 0x00, 0x21, 0x01, 0x00, 0x00, 0x00, 0x00, 0x37, 0x27, 0x97, 0xD6,
];

/// Takes bits with their probabilities of being 0.
pub trait BitSink {
    /// Takes a bit.
    fn put(&mut self, zero: u16, bit: bool);
}

/// Predicts literals.
#[derive(Debug)]
pub struct Literals {
    is_match: [u16; 1 << 4],
    literal: Vec<u16>,
    context_bits: u32,
    position_bits: u32,
    position: usize,
    before: u8,
}

impl Literals {
    /// Creates the state at the beginning of a stream: a literal hangs on the highest `context_bits` of the byte
    /// before it and the lowest `position_bits` of its position, four bits together at most.
    pub fn new(context_bits: u32, position_bits: u32) -> Self {
        Self {
            is_match: [EVEN; 1 << 4],
            literal: vec![EVEN; LITERAL << (context_bits + position_bits)],
            context_bits,
            position_bits,
            position: 0,
            before: 0,
        }
    }

    /// Forgets all probabilities.
    fn reset(&mut self) {
        self.is_match.fill(EVEN);
        self.literal.fill(EVEN);
    }

    /// Codes bytes.
    #[inline]
    pub fn code(&mut self, bytes: &[u8], sink: &mut impl BitSink) {
        let mask = (1 << self.position_bits) - 1;
        for &byte in bytes {
            let place = self.position & mask;
            code_bit(&mut self.is_match[place], false, sink);
            let context = place << self.context_bits | usize::from(self.before) >> (8 - self.context_bits);
            let Some(literal) = self.literal[context * LITERAL..].first_chunk_mut::<256>() else { return };
            let mut symbol = 1usize;
            for shift in (0..8).rev() {
                let bit = byte >> shift & 1;
                code_bit(&mut literal[symbol & 0xFF], bit != 0, sink);
                symbol = symbol << 1 | usize::from(bit);
            }
            self.before = byte;
            self.position += 1;
        }
    }

    /// Returns what bytes take among more of the kind, in bytes: learning them is not counted.
    pub fn price(mut self, bytes: &[u8]) -> usize {
        let [mut learning, mut price] = [Price(0), Price(0)];
        self.code(bytes, &mut learning);
        self.code(bytes, &mut price);
        (price.0 >> (PRICE_BITS + 3)) as usize
    }
}

#[inline]
fn code_bit(zero: &mut u16, bit: bool, sink: &mut impl BitSink) {
    sink.put(*zero, bit);
    *zero = if bit { *zero - (*zero >> MOVE_BITS) } else { *zero + (((1 << PROBABILITY_BITS) - *zero) >> MOVE_BITS) };
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
        let bound = (self.range >> PROBABILITY_BITS) * u32::from(zero);
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        if self.range < RANGE_MIN {
            self.range <<= 8;
            self.shift();
        }
    }
}

/// What the next chunk has to reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    All,
    State,
    Nothing,
}

/// Writes an .xz stream of literals.
#[derive(Debug)]
pub struct Writer {
    literals: Literals,
    properties: u8,
    reset: Reset,
}

impl Writer {
    /// Creates the state at the beginning of a stream; see `Literals::new`.
    pub fn new(context_bits: u32, position_bits: u32) -> Self {
        // The position counts for matches as for literals, as all whom `secondary` asks have it.
        let properties = ((position_bits * 5 + position_bits) * 9 + context_bits) as u8;
        Self { literals: Literals::new(context_bits, position_bits), properties, reset: Reset::All }
    }

    /// Appends bytes, up to a point where all of them can be decoded.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.reset == Reset::All {
            out.extend(STREAM_HEADER);
        }
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let mut coder = RangeCoder::new();
            self.literals.code(chunk, &mut coder);
            let coded = coder.finish();
            if coded.len() < chunk.len() { self.put_coded(chunk.len(), &coded, out) } else { self.put_plain(chunk, out) }
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
        self.literals.reset();
        self.reset = Reset::State;
    }
}
