//! Writes blocks: the inverse of taking them apart.

use std::ops::Range;

use super::bits::{BitReader, BitWriter};
use super::huffman::{CodeLengths, codes};
use super::ledger::{BlockKind, Ledger, Match, Stream};
use super::symbols::{
    DISTANCE_BASE, DISTANCE_EXTRA, DISTANCES, END_OF_BLOCK, LENGTH_BASE, LENGTH_EXTRA, LENGTH_MAX,
    LENGTH_MIN, LENGTH_SYMBOL, distance_symbol,
};
use super::trees::{HeaderBits, Histogram};
use crate::codec::{Result, corrupt};

/// A block that is not stored.
pub struct Coded<'a> {
    /// Fixed or dynamic.
    pub kind: BlockKind,
    /// Whether it ends the stream.
    pub last: bool,
    /// The plain text it covers, in its stream.
    pub span: Range<usize>,
    /// Its matches.
    pub matches: &'a [Match],
    /// Its dynamic header; empty for a fixed block.
    pub header: HeaderBits,
}

impl Coded<'_> {
    /// Returns the lengths of its codes.
    ///
    /// # Errors
    /// `Corrupt` when the header describes none.
    pub fn lengths(&self) -> Result<CodeLengths> {
        match self.header.bits {
            0 => Ok(CodeLengths::fixed()),
            _ => CodeLengths::read(&mut BitReader::at(&self.header.bytes, 0))
                .ok_or(corrupt("an invalid block header")),
        }
    }
}

/// A block whose bytes are stored as they are.
pub struct Stored {
    /// Whether it ends the stream.
    pub last: bool,
    /// Bits between its header and its length.
    pub padding: u8,
    /// The plain text it covers, in its stream.
    pub span: Range<usize>,
}

/// What takes a stream's blocks as they become known.
pub trait Output {
    /// What the stream becomes.
    type Done;
    /// Returns how many bits the blocks so far take.
    fn position(&self) -> usize;
    /// Takes a block of the stream whose text is `plain`; `histogram` counts its symbols.
    ///
    /// # Errors
    /// `Corrupt` when there is no such block.
    fn coded(&mut self, plain: &[u8], block: Coded<'_>, histogram: &Histogram) -> Result<()>;
    /// Takes a stored block.
    ///
    /// # Errors
    /// `Io` from the scratch memory.
    fn stored(&mut self, plain: &[u8], block: Stored) -> Result<()>;
    /// Ends the stream with `padding` behind its last bit.
    fn finish(self, padding: u8) -> Self::Done;
}

/// Writes the bits.
impl Output for BitWriter {
    type Done = Vec<u8>;

    fn position(&self) -> usize {
        Self::position(self)
    }

    fn coded(&mut self, plain: &[u8], block: Coded<'_>, _: &Histogram) -> Result<()> {
        self.put(u64::from(block.last) | (block.kind as u64) << 1, 3);
        self.put_slice(&block.header.bytes, block.header.bits);
        Codebook::new(&block.lengths()?).write(plain, block.span.start, block.span.end, block.matches, self);
        Ok(())
    }

    fn stored(&mut self, plain: &[u8], block: Stored) -> Result<()> {
        let count = block.span.len() as u64;
        self.put(u64::from(block.last), 3);
        let gap = self.padding();
        self.put(u64::from(block.padding) & ((1 << gap) - 1), gap);
        self.put(count | (count ^ 0xffff) << 16, 32);
        self.put_bytes(&plain[block.span]);
        Ok(())
    }

    fn finish(mut self, padding: u8) -> Vec<u8> {
        let count = Self::padding(&self);
        self.put(u64::from(padding) & ((1 << count) - 1), count);
        Self::finish(self).0
    }
}

/// Writes a stream of a ledger again; `plain` is its text.
///
/// # Errors
/// `Corrupt` when the ledger has no such stream.
pub fn pack(plain: &[u8], ledger: &Ledger, stream: &Stream) -> Result<Vec<u8>> {
    let mut out = BitWriter::with_capacity(stream.packed);
    let matches = ledger.matches().slice(stream.matches.clone());
    let (mut at, mut next) = (0, 0);
    for block in &ledger.blocks[stream.blocks.clone()] {
        let (last, span) = (block.last, at..block.end);
        if block.kind == BlockKind::Stored {
            out.stored(plain, Stored { last, padding: block.padding, span })?;
        } else {
            let bytes = ledger.header(block.header).to_vec();
            let header = HeaderBits { bytes, bits: block.header.bits };
            let matches: Vec<Match> = (next..block.matches_end).map(|index| matches.get(index)).collect();
            let coded = Coded { kind: block.kind, last, span, matches: &matches, header };
            out.coded(plain, coded, &Histogram::new())?;
        }
        (at, next) = (block.end, block.matches_end);
    }
    Ok(Output::finish(out, stream.padding))
}

/// A code word and its length in bits.
#[derive(Clone, Copy, Default)]
struct Word {
    bits: u32,
    count: u32,
}

/// The words of one block.
pub struct Codebook {
    literals: [Word; 256],
    lengths: [Word; LENGTH_MAX + 1],
    distances: [Word; DISTANCES],
    end: Word,
}

impl Codebook {
    /// Prepares to write with the codes `lengths` describes.
    pub fn new(lengths: &CodeLengths) -> Self {
        let all = words(lengths.literals());
        let get = |symbol: usize| all.get(symbol).copied().unwrap_or_default();
        let mut book = Self {
            literals: std::array::from_fn(get),
            lengths: [Word::default(); LENGTH_MAX + 1],
            distances: [Word::default(); DISTANCES],
            end: get(END_OF_BLOCK),
        };
        for (length, &symbol) in LENGTH_SYMBOL.iter().enumerate().skip(LENGTH_MIN) {
            let symbol = usize::from(symbol);
            let word = get(257 + symbol);
            let extra = length as u32 - u32::from(LENGTH_BASE[symbol]);
            book.lengths[length] = Word {
                bits: word.bits | extra << word.count,
                count: word.count + u32::from(LENGTH_EXTRA[symbol]),
            };
        }
        for (place, word) in book.distances.iter_mut().zip(words(lengths.distances())) {
            *place = word;
        }
        book
    }

    /// Writes the block that covers `plain[from..to]` with `matches`, and its end.
    pub fn write(&self, plain: &[u8], from: usize, to: usize, matches: &[Match], out: &mut BitWriter) {
        let mut at = from;
        for &found in matches {
            self.write_literals(&plain[at..found.position()], out);
            self.write_match(found, out);
            at = found.end();
        }
        self.write_literals(&plain[at..to], out);
        out.put(self.end.bits.into(), self.end.count);
    }

    #[inline(always)]
    fn write_literals(&self, bytes: &[u8], out: &mut BitWriter) {
        let (triples, rest) = bytes.as_chunks::<3>();
        for [a, b, c] in triples {
            let [a, b, c] = [a, b, c].map(|&byte| self.literals[usize::from(byte)]);
            let bits =
                u64::from(a.bits) | u64::from(b.bits) << a.count | u64::from(c.bits) << (a.count + b.count);
            out.put(bits, a.count + b.count + c.count);
        }
        for &byte in rest {
            let word = self.literals[usize::from(byte)];
            out.put(word.bits.into(), word.count);
        }
    }

    #[inline(always)]
    fn write_match(&self, found: Match, out: &mut BitWriter) {
        let length = self.lengths[found.length()];
        let symbol = distance_symbol(found.distance() as u32);
        let distance = self.distances[symbol];
        let extra = found.distance() as u64 - u64::from(DISTANCE_BASE[symbol]);
        let words = length.count + distance.count;
        let bits = u64::from(length.bits) | u64::from(distance.bits) << length.count | extra << words;
        out.put(bits, words + u32::from(DISTANCE_EXTRA[symbol]));
    }
}

fn words(lengths: &[u8]) -> Vec<Word> {
    codes(lengths).zip(lengths).map(|(bits, &count)| Word { bits, count: count.into() }).collect()
}
