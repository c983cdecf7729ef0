//! Notes a stream in a ledger from its tokens, as inflating its bits would, without writing them.
//!
//! What surprises: hostile tokens can be such that their bits would inflate to something else. They are
//! noticed, so that the stream can be packed and taken apart like any other.

use super::bits::BitReader;
use super::emit::{Coded, Output, Stored};
use super::huffman::{CodeLengths, oversubscribed};
use super::ledger::{Block, BlockKind, Header, Ledger, Match, Stream};
use super::symbols::{DISTANCE_EXTRA, LENGTH_EXTRA};
use super::trees::Histogram;
use crate::codec::Result;

/// A stream that was noted.
pub struct Recorded {
    /// Its index in the ledger.
    pub stream: usize,
    /// Bytes its bits would take.
    pub packed: usize,
    /// Whether inflating its bits would give the same text and the same tokens.
    pub sound: bool,
}

/// Appends one stream to a ledger.
pub struct Recorder<'l> {
    ledger: &'l mut Ledger,
    start: usize,
    first_match: usize,
    first_block: usize,
    at: usize,
    bits: usize,
    sound: bool,
}

impl<'l> Recorder<'l> {
    /// Starts a stream whose text is at `start` of the expanded form.
    pub fn new(ledger: &'l mut Ledger, start: usize) -> Self {
        let (first_match, first_block) = (ledger.match_count(), ledger.blocks.len());
        Self { ledger, start, first_match, first_block, at: 0, bits: 0, sound: true }
    }

    fn block(&mut self, block: Block) {
        self.at = block.end;
        let matches_end = self.ledger.match_count() - self.first_match;
        self.ledger.blocks.push(Block { matches_end, ..block });
    }
}

impl Output for Recorder<'_> {
    type Done = Recorded;

    fn position(&self) -> usize {
        self.bits
    }

    fn coded(&mut self, plain: &[u8], block: Coded<'_>, histogram: &Histogram) -> Result<()> {
        let lengths = block.lengths()?;
        let symbols = bits_of(&lengths, histogram);
        self.sound &= symbols.is_some() && is_exact(&block) && agrees(plain, block.matches);
        self.bits += 3 + block.header.bits + symbols.unwrap_or(0);
        let headers = self.ledger.headers_mut();
        let header = match block.kind {
            BlockKind::Dynamic => Header { at: headers.len(), bits: block.header.bits },
            _ => Header::default(),
        };
        headers.extend_from_slice(&block.header.bytes);
        self.ledger.add_matches(block.matches)?;
        let covered: usize = block.matches.iter().map(|found| found.length()).sum();
        let tokens = (block.span.len() - covered + block.matches.len()) as u32;
        self.block(Block {
            kind: block.kind,
            last: block.last,
            end: block.span.end,
            tokens,
            header,
            ..Block::default()
        });
        Ok(())
    }

    fn stored(&mut self, _: &[u8], block: Stored) -> Result<()> {
        self.bits += 3;
        let gap = self.bits.wrapping_neg() % 8;
        let padding = block.padding & ((1u32 << gap) - 1) as u8;
        self.bits += gap + 32 + block.span.len() * 8;
        let tokens = block.span.len() as u32;
        self.block(Block { last: block.last, padding, end: block.span.end, tokens, ..Block::default() });
        Ok(())
    }

    fn finish(self, padding: u8) -> Recorded {
        let gap = self.bits.wrapping_neg() % 8;
        let packed = self.bits.div_ceil(8);
        let stream = Stream {
            start: self.start,
            len: self.at,
            matches: self.first_match..self.ledger.match_count(),
            blocks: self.first_block..self.ledger.blocks.len(),
            packed,
            padding: padding & ((1u32 << gap) - 1) as u8,
        };
        self.ledger.streams.push(stream);
        Recorded { stream: self.ledger.streams.len() - 1, packed, sound: self.sound }
    }
}

/// Returns the bits of all symbols; `None` when one has no code or there are more codes than fit.
fn bits_of(lengths: &CodeLengths, histogram: &Histogram) -> Option<usize> {
    let (literals, distances) = (lengths.literals(), lengths.distances());
    let extra = |symbol: usize| symbol.checked_sub(257).map_or(0, |index| LENGTH_EXTRA[index]);
    let literal_bits = sum_of(literals, &histogram.literals, extra)?;
    let distance_bits = sum_of(distances, &histogram.distances, |symbol| DISTANCE_EXTRA[symbol])?;
    let fits = !oversubscribed(literals) && !oversubscribed(distances);
    fits.then_some(literal_bits + distance_bits)
}

fn sum_of(lengths: &[u8], counts: &[u32], extra: impl Fn(usize) -> u8) -> Option<usize> {
    let mut bits = 0;
    for (symbol, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
        let length = lengths.get(symbol).copied().filter(|&length| length > 0)?;
        bits += count as usize * usize::from(length + extra(symbol));
    }
    Some(bits)
}

/// Says whether a dynamic header ends where its last length does.
fn is_exact(block: &Coded<'_>) -> bool {
    let mut reader = BitReader::at(&block.header.bytes, 0);
    block.header.bits == 0
        || (CodeLengths::read(&mut reader).is_some() && reader.position() == block.header.bits)
}

/// Says whether all matches repeat what is at their distance.
fn agrees(plain: &[u8], matches: &[Match]) -> bool {
    matches.iter().all(|found| {
        let (from, to, length) = (found.position() - found.distance(), found.position(), found.length());
        plain[from..from + length] == plain[to..to + length]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::deflate::bits::BitWriter;
    use crate::codec::deflate::symbols::{LENGTH_SYMBOL, distance_symbol};
    use crate::codec::deflate::trees::HeaderBits;
    use crate::codec::scratch::Memory;

    /// Puts one fixed block with one match in it.
    fn put(plain: &[u8], found: Match, out: &mut impl Output) {
        let mut histogram = Histogram::new();
        histogram.literals[257 + usize::from(LENGTH_SYMBOL[found.length()])] += 1;
        histogram.distances[distance_symbol(found.distance() as u32)] += 1;
        for &byte in plain[..found.position()].iter().chain(&plain[found.end()..]) {
            histogram.literals[usize::from(byte)] += 1;
        }
        let (span, header) = (0..plain.len(), HeaderBits::default());
        let block = Coded { kind: BlockKind::Fixed, last: true, span, matches: &[found], header };
        out.coded(plain, block, &histogram).expect("a block");
    }

    fn recorded(plain: &[u8], found: Match) -> Recorded {
        let mut ledger = Ledger::new(&Memory).expect("memory");
        let mut recorder = Recorder::new(&mut ledger, 0);
        put(plain, found, &mut recorder);
        recorder.finish(0)
    }

    #[test]
    fn a_match_of_other_bytes_is_noticed() {
        assert!(recorded(b"abcdabcd", Match::new(4, 4, 4)).sound);
        assert!(!recorded(b"abcdabce", Match::new(4, 4, 4)).sound);
    }

    #[test]
    fn the_length_is_that_of_the_packed_stream() {
        let (plain, found) = ([b'h'; 300], Match::new(40, 258, 39));
        let mut out = BitWriter::default();
        put(&plain, found, &mut out);
        assert_eq!(recorded(&plain, found).packed, Output::finish(out, 0).len());
    }
}
