//! Canonical Huffman codes: the codes of a set of lengths, and tables that decode them.
//!
//! A decoding table has a root of 9 or 11 bits; longer codes continue in a subtable behind it.
//! An entry says at once how many bits code and extra bits take together, so that the inflater
//! shifts once per symbol.

use super::bits::BitReader;
use super::symbols::{
    CODE_LENGTH_ORDER, DISTANCE_BASE, DISTANCE_EXTRA, END_OF_BLOCK, LENGTH_BASE, LENGTH_EXTRA,
};

/// The longest code deflate allows.
pub const CODE_BITS_MAX: u32 = 15;
/// Root bits of the literal/length table.
pub const LITERAL_ROOT_BITS: u32 = 11;
/// Root bits of the distance table.
pub const DISTANCE_ROOT_BITS: u32 = 9;

/// A decoded symbol: bits 0-7 all bits it takes, 8-11 those of its code, 16-30 its value.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry(u32);

const LITERAL: u32 = 1 << 31;
const SUBTABLE: u32 = 1 << 15;
const END: u32 = 1 << 14;

impl Entry {
    /// Says whether it is a literal.
    #[inline(always)]
    pub fn is_literal(self) -> bool {
        self.0 & LITERAL != 0
    }
    /// Says whether it ends the block.
    #[inline(always)]
    pub fn is_end(self) -> bool {
        self.0 & END != 0
    }
    /// No code leads here.
    #[inline(always)]
    pub fn is_invalid(self) -> bool {
        self.0 == 0
    }
    /// Bits of code and extra bits together.
    #[inline(always)]
    pub fn bits(self) -> u32 {
        self.0 & 0xff
    }
    /// Returns the literal's byte.
    #[inline(always)]
    pub fn literal(self) -> u8 {
        (self.0 >> 16) as u8
    }
    /// The length or distance, given the bits from the code's first on.
    #[inline(always)]
    pub fn value(self, bits: u64) -> usize {
        let extra = (bits & ((1u64 << self.bits()) - 1)) >> ((self.0 >> 8) & 15);
        ((self.0 >> 16) & 0x7fff) as usize + extra as usize
    }
    /// A length that takes no extra bits: the proper spelling of the longest match.
    #[inline(always)]
    pub fn is_longest(self) -> bool {
        (self.0 >> 8) & 15 == self.bits()
    }
    /// The symbol alone, for alphabets without extra bits.
    pub fn symbol(self) -> usize {
        ((self.0 >> 16) & 0x7fff) as usize
    }

    fn plain(value: u32, code_bits: u32, extra: u32) -> Self {
        Self(value << 16 | code_bits << 8 | (code_bits + extra))
    }
}

/// Decodes one code.
#[derive(Clone, Default)]
pub struct DecodeTable {
    entries: Vec<Entry>,
    root_bits: u32,
}

impl DecodeTable {
    /// Builds the literal/length table of a block.
    pub fn literals(&mut self, lengths: &[u8]) -> Option<()> {
        self.build(lengths, LITERAL_ROOT_BITS, |symbol, bits| match symbol {
            0..END_OF_BLOCK => Some(Entry(LITERAL | (symbol as u32) << 16 | bits << 8 | bits)),
            END_OF_BLOCK => Some(Entry(END | bits)),
            _ => {
                let base = u32::from(*LENGTH_BASE.get(symbol - 257)?);
                Some(Entry::plain(base, bits, u32::from(LENGTH_EXTRA[symbol - 257])))
            }
        })
    }

    /// Builds the distance table of a block.
    pub fn distances(&mut self, lengths: &[u8]) -> Option<()> {
        self.build(lengths, DISTANCE_ROOT_BITS, |symbol, bits| {
            let base = u32::from(*DISTANCE_BASE.get(symbol)?);
            Some(Entry::plain(base, bits, u32::from(DISTANCE_EXTRA[symbol])))
        })
    }

    /// Builds the table of a header's code-length code.
    pub fn code_lengths(&mut self, lengths: &[u8; 19]) -> Option<()> {
        self.build(lengths, 7, |symbol, bits| Some(Entry::plain(symbol as u32, bits, 0)))
    }

    /// Fails when the lengths claim more codes than there are.
    fn build(
        &mut self,
        lengths: &[u8],
        root_bits: u32,
        entry: impl Fn(usize, u32) -> Option<Entry>,
    ) -> Option<()> {
        if oversubscribed(lengths) {
            return None;
        }
        let root = 1usize << root_bits;
        self.root_bits = root_bits;
        self.entries.clear();
        self.entries.resize(root, Entry::default());
        let mut codes = Codes::of(lengths);
        for (symbol, &bits) in lengths.iter().enumerate() {
            if bits == 0 {
                continue;
            }
            let code = codes.next(bits);
            let Some(entry) = entry(symbol, u32::from(bits)) else {
                continue;
            };
            if u32::from(bits) <= root_bits {
                fill(&mut self.entries[..root], code, bits.into(), entry);
            } else {
                let start = self.subtable(code & (root - 1));
                let rest = u32::from(bits) - root_bits;
                let size = 1 << (CODE_BITS_MAX - root_bits);
                fill(&mut self.entries[start..start + size], code >> root_bits, rest, entry);
            }
        }
        Some(())
    }

    fn subtable(&mut self, slot: usize) -> usize {
        if self.entries[slot].0 & SUBTABLE == 0 {
            let start = self.entries.len();
            self.entries[slot] = Entry(SUBTABLE | (start as u32) << 16);
            self.entries.resize(start + (1 << (CODE_BITS_MAX - self.root_bits)), Entry::default());
        }
        self.entries[slot].symbol()
    }

    /// Looks up the code at the low end of `bits` in the root; it may need [`Self::resolve`].
    #[inline(always)]
    pub fn root<const BITS: u32>(&self, bits: u64) -> Entry {
        let root = &self.entries[..1 << BITS];
        root[(bits & ((1 << BITS) - 1)) as usize]
    }

    /// Follows `entry` into its subtable, if it has one.
    #[inline(always)]
    pub fn resolve<const BITS: u32>(&self, entry: Entry, bits: u64) -> Entry {
        if entry.0 & SUBTABLE == 0 {
            return entry;
        }
        let index = (bits >> BITS) as usize & ((1 << (CODE_BITS_MAX - BITS)) - 1);
        self.entries[entry.symbol() + index]
    }
}

fn fill(table: &mut [Entry], code: usize, bits: u32, entry: Entry) {
    for slot in table.iter_mut().skip(code).step_by(1 << bits) {
        *slot = entry;
    }
}

/// Says whether the lengths claim more codes than there are.
pub fn oversubscribed(lengths: &[u8]) -> bool {
    let used: u32 = lengths.iter().filter(|&&bits| bits > 0).map(|&bits| 1 << (15 - bits)).sum();
    used > 1 << 15
}

/// Hands out the codes of an alphabet, symbol by symbol, first bit lowest.
struct Codes {
    next: [u16; 16],
}

impl Codes {
    fn of(lengths: &[u8]) -> Self {
        let mut count = [0u16; 16];
        for &bits in lengths {
            count[usize::from(bits & 15)] += 1;
        }
        count[0] = 0;
        let mut next = [0u16; 16];
        let mut code = 0u16;
        for bits in 1..16 {
            code = code.wrapping_add(count[bits - 1]) << 1;
            next[bits] = code;
        }
        Self { next }
    }

    fn next(&mut self, bits: u8) -> usize {
        let code = self.next[usize::from(bits & 15)];
        self.next[usize::from(bits & 15)] = code.wrapping_add(1);
        usize::from(code.reverse_bits() >> (16 - u32::from(bits)))
    }
}

/// Returns each symbol's code, ready to be written lowest bit first; 0 where it has none.
pub fn codes(lengths: &[u8]) -> impl Iterator<Item = u32> {
    let mut codes = Codes::of(lengths);
    lengths.iter().map(move |&bits| if bits == 0 { 0 } else { codes.next(bits) as u32 })
}

/// The code lengths of a block: literals and lengths first, distances behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeLengths {
    all: Vec<u8>,
    literals: usize,
}

impl CodeLengths {
    /// Joins both halves.
    pub fn new(literals: &[u8], distances: &[u8]) -> Self {
        Self { all: [literals, distances].concat(), literals: literals.len() }
    }

    /// The code every block of type 1 uses.
    pub fn fixed() -> Self {
        let mut literals = [8u8; 288];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        Self::new(&literals, &[5; 30])
    }

    /// Reads a dynamic header.
    pub fn read(reader: &mut BitReader) -> Option<Self> {
        let literals = reader.read(5) as usize + 257;
        let distances = reader.read(5) as usize + 1;
        let listed = reader.read(4) as usize + 4;
        if literals > 286 || distances > 30 {
            return None;
        }
        let mut code = [0u8; 19];
        for &symbol in &CODE_LENGTH_ORDER[..listed] {
            code[symbol] = reader.read(3) as u8;
        }
        let mut table = DecodeTable::default();
        table.code_lengths(&code)?;
        let mut all = vec![0u8; literals + distances];
        read_lengths(reader, &table, &mut all)?;
        Some(Self { all, literals })
    }

    /// Lengths of the literal/length codes.
    pub fn literals(&self) -> &[u8] {
        &self.all[..self.literals]
    }

    /// Lengths of the distance codes.
    pub fn distances(&self) -> &[u8] {
        &self.all[self.literals..]
    }
}

fn read_lengths(reader: &mut BitReader, table: &DecodeTable, all: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at < all.len() {
        reader.refill();
        let entry = table.root::<7>(reader.peek());
        if entry.is_invalid() {
            return None;
        }
        reader.drop_bits(entry.bits());
        let (value, times) = match entry.symbol() {
            literal @ 0..=15 => (literal as u8, 1),
            16 => (*all.get(at.checked_sub(1)?)?, 3 + reader.take(2) as usize),
            17 => (0, 3 + reader.take(3) as usize),
            _ => (0, 11 + reader.take(7) as usize),
        };
        all.get_mut(at..at + times)?.fill(value);
        at += times;
    }
    Some(())
}
