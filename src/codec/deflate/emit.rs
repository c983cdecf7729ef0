//! Writes blocks: the inverse of taking them apart.

use super::bits::BitWriter;
use super::huffman::{CodeLengths, codes};
use super::ledger::Match;
use super::symbols::{
    DISTANCE_BASE, DISTANCE_EXTRA, DISTANCES, END_OF_BLOCK, LENGTH_BASE, LENGTH_EXTRA, LENGTH_MAX,
    LENGTH_MIN, LENGTH_SYMBOL, distance_symbol,
};

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
