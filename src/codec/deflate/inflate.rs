//! Takes a deflate stream apart: plain text, matches, blocks.
//!
//! Everything needed to write the same bits again is kept, so any encoder's stream qualifies.
//! What no encoder writes (a length 258 spelled as 227+31, a distance into nothing) is refused:
//! such a stream stays closed.

use std::io;

use super::bits::{BitReader, copy_bits};
use super::huffman::{CodeLengths, DISTANCE_ROOT_BITS, DecodeTable, LITERAL_ROOT_BITS};
use super::ledger::{Block, BlockKind, Header, Ledger, Match, PLAIN_MAX, Stream};
use super::symbols::LENGTH_MAX;
use crate::codec::scratch::Spool;

/// Room the inner loop wants before it decodes the next symbols: three literals, the longest
/// match and the overshoot of its copy.
const ROOM: usize = LENGTH_MAX + 64;

/// Room reserved for a stream of unknown length.
const RESERVED_MAX: usize = 1 << 18;

/// Inflates streams, keeping its tables from one to the next.
#[derive(Default)]
pub struct Splitter {
    literals: DecodeTable,
    distances: DecodeTable,
    matches: Vec<Match>,
}

enum Pause {
    EndOfBlock,
    OutOfRoom,
}

/// Where the plain text goes: `out[start..at]` is the stream so far.
struct Target<'a> {
    out: &'a mut [u8],
    start: usize,
    at: usize,
}

impl Splitter {
    /// Inflates the stream at the front of `packed` to the end of `plain` and notes it in `ledger`.
    ///
    /// Returns `None` and leaves both as they were when there is no valid stream, or one of more
    /// than `plain_max` bytes.
    ///
    /// # Errors
    /// Those of the scratch memory.
    pub fn split(
        &mut self,
        packed: &[u8],
        plain_max: u64,
        plain: &mut Spool,
        ledger: &mut Ledger,
    ) -> io::Result<Option<Stream>> {
        let (start, mark) = (plain.len(), ledger.mark());
        plain.reserve(packed.len().saturating_mul(3).min(RESERVED_MAX) + ROOM)?;
        let end_max = start.saturating_add(plain_max.min(PLAIN_MAX - 1) as usize);
        let stream = self.stream(packed, end_max, plain, ledger)?;
        match &stream {
            Some(stream) => ledger.streams.push(stream.clone()),
            None => {
                plain.truncate(start);
                ledger.rewind(mark);
            }
        }
        Ok(stream)
    }

    fn stream(
        &mut self,
        packed: &[u8],
        end_max: usize,
        plain: &mut Spool,
        ledger: &mut Ledger,
    ) -> io::Result<Option<Stream>> {
        let (start, first_match, first_block) = (plain.len(), ledger.match_count(), ledger.blocks.len());
        let mut reader = BitReader::at(packed, 0);
        loop {
            let last = reader.read(1) == 1;
            let Some(kind) = BlockKind::from_code(reader.read(2)) else {
                return Ok(None);
            };
            let block = Block { kind, last, ..Block::default() };
            let body = match kind {
                BlockKind::Stored => stored(packed, &mut reader, plain, end_max, block)?,
                _ => self.coded(packed, &mut reader, (start, end_max), plain, ledger, block)?,
            };
            let Some(mut block) = body else {
                return Ok(None);
            };
            block.end = plain.len() - start;
            block.matches_end = ledger.match_count() - first_match;
            ledger.blocks.push(block);
            if last {
                break;
            }
        }
        let packed_len = reader.position().div_ceil(8);
        let padding = reader.read((packed_len * 8 - reader.position()) as u32) as u8;
        Ok(Some(Stream {
            start,
            len: plain.len() - start,
            matches: first_match..ledger.match_count(),
            blocks: first_block..ledger.blocks.len(),
            packed: packed_len,
            padding,
        }))
    }

    fn coded(
        &mut self,
        packed: &[u8],
        reader: &mut BitReader,
        (start, end_max): (usize, usize),
        plain: &mut Spool,
        ledger: &mut Ledger,
        mut block: Block,
    ) -> io::Result<Option<Block>> {
        let header_at = reader.position();
        let lengths = match block.kind {
            BlockKind::Dynamic => CodeLengths::read(reader),
            _ => Some(CodeLengths::fixed()),
        };
        let Some(lengths) = lengths else {
            return Ok(None);
        };
        if reader.overrun() || self.tables(&lengths).is_none() {
            return Ok(None);
        }
        if block.kind == BlockKind::Dynamic {
            let bits = reader.position() - header_at;
            block.header = Header { at: ledger.headers_mut().len(), bits };
            copy_bits(packed, header_at, bits, ledger.headers_mut());
        }
        let before = plain.len();
        self.matches.clear();
        loop {
            let mut target = Target { start, at: plain.len(), out: plain.room() };
            let pause = self.symbols(reader, &mut target);
            let at = target.at;
            plain.advance(at);
            if pause.is_none() || reader.overrun() || at > end_max {
                return Ok(None);
            }
            if let Some(Pause::EndOfBlock) = pause {
                break;
            }
            plain.reserve((at - start).clamp(1 << 16, 1 << 26) + ROOM)?;
        }
        let covered: usize = self.matches.iter().map(|found| found.length()).sum();
        block.tokens = (plain.len() - before - covered + self.matches.len()) as u32;
        ledger.add_matches(&self.matches)?;
        Ok(Some(block))
    }

    fn tables(&mut self, lengths: &CodeLengths) -> Option<()> {
        self.literals.literals(lengths.literals())?;
        self.distances.distances(lengths.distances())
    }

    /// Decodes symbols until the block or the room ends; `None` means that the bits are invalid.
    fn symbols(&mut self, shared: &mut BitReader, target: &mut Target) -> Option<Pause> {
        let mut reader = shared.clone(); // a local copy stays in registers
        let (literals, distances) = (&self.literals, &self.distances);
        let (out, start, mut at) = (&mut *target.out, target.start, target.at);
        let pause = loop {
            let Some(limit) = out.len().checked_sub(ROOM).filter(|&limit| at <= limit) else {
                break Some(Pause::OutOfRoom);
            };
            debug_assert!(at <= limit);
            reader.refill();
            let mut entry = literals.root::<LITERAL_ROOT_BITS>(reader.peek());
            if entry.is_literal() {
                reader.drop_bits(entry.bits());
                out[at] = entry.literal();
                at += 1;
                entry = literals.root::<LITERAL_ROOT_BITS>(reader.peek());
                if entry.is_literal() {
                    reader.drop_bits(entry.bits());
                    out[at] = entry.literal();
                    at += 1;
                    entry = literals.root::<LITERAL_ROOT_BITS>(reader.peek());
                    if entry.is_literal() {
                        reader.drop_bits(entry.bits());
                        out[at] = entry.literal();
                        at += 1;
                        continue;
                    }
                }
                reader.refill();
            }
            entry = literals.resolve::<LITERAL_ROOT_BITS>(entry, reader.peek());
            if entry.is_literal() {
                reader.drop_bits(entry.bits());
                out[at] = entry.literal();
                at += 1;
                continue;
            }
            if entry.is_invalid() {
                break None;
            }
            let bits = reader.peek();
            reader.drop_bits(entry.bits());
            if entry.is_end() {
                break Some(Pause::EndOfBlock);
            }
            let length = entry.value(bits);
            let root = distances.root::<DISTANCE_ROOT_BITS>(reader.peek());
            let far = distances.resolve::<DISTANCE_ROOT_BITS>(root, reader.peek());
            let distance = far.value(reader.peek());
            let respelled = length == LENGTH_MAX && !entry.is_longest();
            if far.is_invalid() || distance > at - start || respelled {
                break None;
            }
            reader.drop_bits(far.bits());
            self.matches.push(Match::new(at - start, length, distance));
            copy(out, at, length, distance);
            at += length;
        };
        *shared = reader;
        target.at = at;
        pause
    }
}

/// Copies a match; may write up to 15 bytes too many.
#[inline(always)]
fn copy(out: &mut [u8], at: usize, length: usize, distance: usize) {
    let from = at - distance;
    if distance >= 16 {
        let mut done = 0;
        while done < length {
            let chunk: [u8; 16] = *out[from + done..].first_chunk().expect("ROOM covers it");
            out[at + done..at + done + 16].copy_from_slice(&chunk);
            done += 16;
        }
    } else if distance == 1 {
        let byte = out[from];
        out[at..at + length].fill(byte);
    } else {
        for i in 0..length {
            out[at + i] = out[from + i];
        }
    }
}

fn stored<'p>(
    packed: &'p [u8],
    reader: &mut BitReader<'p>,
    plain: &mut Spool,
    end_max: usize,
    mut block: Block,
) -> io::Result<Option<Block>> {
    block.padding = reader.read((reader.position().wrapping_neg() % 8) as u32) as u8;
    let len = reader.read(16);
    let check = reader.read(16);
    let at = reader.position() / 8;
    let Some(bytes) = packed.get(at..at + len as usize) else {
        return Ok(None);
    };
    if len != check ^ 0xffff || plain.len() + bytes.len() > end_max {
        return Ok(None);
    }
    plain.extend(bytes)?;
    plain.reserve(ROOM)?;
    *reader = BitReader::at(packed, (at + bytes.len()) * 8);
    block.tokens = len;
    Ok(Some(block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::scratch::Memory;

    #[test]
    fn a_fixed_block_inflates() {
        let packed = [203, 72, 205, 201, 201, 87, 200, 64, 39, 1];
        let (mut plain, mut ledger) =
            (Spool::new(&Memory).expect("memory"), Ledger::new(&Memory).expect("memory"));
        let stream = Splitter::default().split(&packed, 100, &mut plain, &mut ledger).expect("memory");
        assert_eq!(stream.map(|stream| stream.packed), Some(packed.len()));
        assert_eq!(plain.bytes(), b"hello hello hello hello");
    }
}
