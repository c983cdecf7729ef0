//! What is left of a deflate stream when its plain text is taken away.
//!
//! Matches are eight bytes each and live in scratch memory, since a large container has hundreds
//! of millions; literals are implied by the gaps between them.

use std::io;
use std::ops::Range;

use super::symbols::LENGTH_MIN;
use crate::codec::scratch::{Scratch, Spool};

/// The longest plain text a match's position can express (1 TiB).
pub const PLAIN_MAX: u64 = 1 << 40;

/// One match: where it starts in its stream's plain text, how long, how far back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match(u64);

impl Match {
    /// Packs a match; `length` is 3 to 258, `distance` 1 to 32768.
    #[inline(always)]
    pub fn new(position: usize, length: usize, distance: usize) -> Self {
        Self((position as u64) << 24 | ((length - LENGTH_MIN) as u64) << 16 | (distance - 1) as u64)
    }
    /// Returns where it starts.
    #[inline(always)]
    pub fn position(self) -> usize {
        (self.0 >> 24) as usize
    }
    /// Returns its length.
    #[inline(always)]
    pub fn length(self) -> usize {
        ((self.0 >> 16) & 0xff) as usize + LENGTH_MIN
    }
    /// Returns how far back it reaches.
    #[inline(always)]
    pub fn distance(self) -> usize {
        (self.0 & 0xffff) as usize + 1
    }
    /// Returns where it ends.
    #[inline(always)]
    pub fn end(self) -> usize {
        self.position() + self.length()
    }
}

/// A list of matches in scratch memory.
#[derive(Clone, Copy, Default)]
pub struct Matches<'a> {
    records: &'a [[u8; 8]],
}

impl<'a> Matches<'a> {
    /// Returns one match.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Match {
        Match(u64::from_le_bytes(self.records[index]))
    }
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }
    /// Returns those of `range`.
    pub fn slice(&self, range: Range<usize>) -> Matches<'a> {
        Matches { records: &self.records[range] }
    }
    /// Returns the index of the first match that starts at `position` or later.
    pub fn first_from(&self, position: usize) -> usize {
        self.records.partition_point(|record| Match(u64::from_le_bytes(*record)).position() < position)
    }
}

/// How a block stores its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BlockKind {
    /// As they are.
    #[default]
    Stored = 0,
    /// With the code every decoder knows.
    Fixed = 1,
    /// With a code of its own.
    Dynamic = 2,
}

impl BlockKind {
    /// Returns the kind with deflate's number `code`.
    pub fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Stored),
            1 => Some(Self::Fixed),
            2 => Some(Self::Dynamic),
            _ => None,
        }
    }
}

/// One block of a stream.
#[derive(Clone, Default, Debug)]
pub struct Block {
    /// How it stores its bytes.
    pub kind: BlockKind,
    /// Whether it ends the stream.
    pub last: bool,
    /// Bits between a stored block's header and its length.
    pub padding: u8,
    /// Where it ends in the stream's plain text.
    pub end: usize,
    /// Literals and matches, or a stored block's bytes.
    pub tokens: u32,
    /// Matches of the stream up to its end.
    pub matches_end: usize,
    /// Where its dynamic header is, in [`Ledger::header`].
    pub header: Header,
}

/// A dynamic header's bits, kept as they were.
#[derive(Clone, Copy, Default, Debug)]
pub struct Header {
    /// First byte in the ledger.
    pub at: usize,
    /// Length.
    pub bits: usize,
}

/// One stream.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Where its plain text starts in the buffer it was inflated into.
    pub start: usize,
    /// Its plain bytes.
    pub len: usize,
    /// Its matches in the ledger.
    pub matches: Range<usize>,
    /// Its blocks in the ledger.
    pub blocks: Range<usize>,
    /// Its packed bytes.
    pub packed: usize,
    /// The bits behind its last block.
    pub padding: u8,
}

/// All streams of one side.
pub struct Ledger {
    matches: Spool,
    /// Blocks of all streams.
    pub blocks: Vec<Block>,
    headers: Vec<u8>,
    /// The streams, in the order in which they were opened.
    pub streams: Vec<Stream>,
}

/// A position to return to when a stream turns out to be none.
#[derive(Clone, Copy)]
pub struct Mark {
    matches: usize,
    blocks: usize,
    headers: usize,
    streams: usize,
}

impl Ledger {
    /// Starts empty.
    pub fn new(scratch: &dyn Scratch) -> io::Result<Self> {
        let matches = Spool::new(scratch)?;
        Ok(Self { matches, blocks: Vec::new(), headers: Vec::new(), streams: Vec::new() })
    }

    /// Returns all matches of all streams.
    pub fn matches(&self) -> Matches<'_> {
        Matches { records: self.matches.bytes().as_chunks().0 }
    }

    /// Returns how many matches there are.
    pub fn match_count(&self) -> usize {
        self.matches.len() / 8
    }

    /// Appends matches.
    pub fn add_matches(&mut self, matches: &[Match]) -> io::Result<()> {
        self.matches.reserve(matches.len() * 8)?;
        let mut at = self.matches.len();
        let room = self.matches.room();
        for (place, record) in room[at..].as_chunks_mut().0.iter_mut().zip(matches) {
            *place = record.0.to_le_bytes();
        }
        at += matches.len() * 8;
        self.matches.advance(at);
        Ok(())
    }

    /// Takes over a stream of another ledger; its text starts at `start` here.
    pub fn take(&mut self, other: &Self, stream: &Stream, start: usize) -> io::Result<()> {
        let (first_match, first_block) = (self.match_count(), self.blocks.len());
        self.matches.extend(&other.matches.bytes()[stream.matches.start * 8..stream.matches.end * 8])?;
        for block in &other.blocks[stream.blocks.clone()] {
            let header = match block.header.bits {
                0 => Header::default(),
                bits => Header { at: self.headers.len(), bits },
            };
            self.headers.extend_from_slice(other.header(block.header));
            self.blocks.push(Block { header, ..block.clone() });
        }
        let (matches, blocks) = (first_match..self.match_count(), first_block..self.blocks.len());
        self.streams.push(Stream { start, matches, blocks, ..stream.clone() });
        Ok(())
    }

    /// Returns a block header's bytes.
    pub fn header(&self, header: Header) -> &[u8] {
        &self.headers[header.at..header.at + header.bits.div_ceil(8)]
    }

    /// Gives access to where headers are appended.
    pub fn headers_mut(&mut self) -> &mut Vec<u8> {
        &mut self.headers
    }

    /// Returns the current end.
    pub fn mark(&self) -> Mark {
        Mark {
            matches: self.matches.len(),
            blocks: self.blocks.len(),
            headers: self.headers.len(),
            streams: self.streams.len(),
        }
    }

    /// Forgets what was added since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.matches.truncate(mark.matches);
        self.blocks.truncate(mark.blocks);
        self.headers.truncate(mark.headers);
        self.streams.truncate(mark.streams);
    }
}
