//! How a file, or something inside it, is made of plain text, closed members and streams.
//!
//! A recipe is a list of operations and a list of numbers. Most numbers follow from the bytes they
//! are about (see [`super::rules`]): then the operation says so, and a container of thousands of
//! members takes a few dozen bytes.

use super::gzip::TRAILER_BYTES;
use super::rules::{Preface, described_len, is_settled, preface, trailed_len};
use crate::codec::bytes::{Reader, put_varint};
use crate::codec::{Result, corrupt};

/// A file or the content of something in it: members with bytes between them, and bytes at the end.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Source {
    /// Members, in order.
    pub members: Vec<Member>,
    /// Bytes behind the last member.
    pub tail: usize,
}

/// A member and the bytes before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Bytes between the member before and this one.
    pub gap: usize,
    /// What became of it.
    pub part: Part,
}

/// What became of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// It is not in the expanded form. In the base: its length; in the target: which of the base's
    /// closed members it is.
    Closed(usize),
    /// A stream; the expanded form has its plain text of this length.
    Leaf(usize),
    /// A stream of something that has streams itself.
    Nested(Source),
    /// A zlib stream cut into PNG chunks of these sizes; the source is the zlib stream.
    Chunked(Vec<u32>, Source),
}

impl Part {
    /// Bytes of the expanded form it takes.
    pub fn span(&self) -> usize {
        match self {
            Self::Closed(_) => 0,
            Self::Leaf(len) => *len,
            Self::Nested(source) | Self::Chunked(_, source) => source.span(),
        }
    }
}

impl Source {
    /// Bytes of the expanded form it takes.
    pub fn span(&self) -> usize {
        let members = self.members.iter().map(|member| member.gap.saturating_add(member.part.span()));
        members.fold(self.tail, usize::saturating_add)
    }
}

/// Members of all depths a recipe may have.
const MEMBERS_MAX: usize = 1 << 22;
/// Streams inside streams a recipe may have.
pub const DEPTH_MAX: usize = 8;

const END: u8 = 0;
const CLOSED: u8 = 1;
const LEAF: u8 = 2;
const NESTED: u8 = 3;
const CHUNKED: u8 = 4;
const KIND: u8 = 7;
/// The gap is what the bytes say.
const GAP_KNOWN: u8 = 8;
/// The length is what the bytes say; a closed member of the target follows the one before.
const LENGTH_KNOWN: u8 = 16;
/// The length is what a gzip trailer says.
const LENGTH_TRAILED: u8 = 32;
/// The length is all that is left but a gzip trailer.
const LENGTH_REST: u8 = 48;
const LENGTH: u8 = 48;
/// A tail of no surprise.
const TAIL_KNOWN: u8 = 8;

/// A recipe on its way.
#[derive(Default)]
pub struct Columns {
    /// What to do, a byte each.
    pub operations: Vec<u8>,
    /// The numbers that do not follow from the bytes.
    pub numbers: Vec<u8>,
}

/// Writes the target's recipe; `plain` is its expanded form.
pub struct TargetWriter<'a> {
    plain: &'a [u8],
    at: usize,
    next_closed: usize,
    /// The recipe so far.
    pub columns: Columns,
}

impl<'a> TargetWriter<'a> {
    /// Starts at the front of the expanded form.
    pub fn new(plain: &'a [u8]) -> Self {
        Self { plain, at: 0, next_closed: 0, columns: Columns::default() }
    }

    /// Appends a source.
    pub fn source(&mut self, source: &Source) {
        for member in &source.members {
            self.member(member);
        }
        let known = source.tail == usual_tail(&source.members);
        self.columns.operations.push(if known { END | TAIL_KNOWN } else { END });
        if !known {
            self.number(source.tail);
        }
        self.at += source.tail;
    }

    fn number(&mut self, number: usize) {
        put_varint(&mut self.columns.numbers, number as u64);
    }

    fn member(&mut self, member: &Member) {
        let said = preface(&self.plain[self.at..]).filter(|said| said.gap == member.gap);
        let (flag, length) = match &member.part {
            Part::Closed(index) => (self.closed(*index), Some(*index)),
            Part::Leaf(len) => {
                let from = self.at + member.gap;
                (leaf_flag(said, &self.plain[from..], *len), Some(*len))
            }
            Part::Nested(_) => (NESTED, None),
            Part::Chunked(..) => (CHUNKED, None),
        };
        let gap_flag = if said.is_some() { GAP_KNOWN } else { 0 };
        self.columns.operations.push(flag | gap_flag);
        if gap_flag == 0 {
            self.number(member.gap);
        }
        if let Some(length) = length.filter(|_| flag & LENGTH == 0) {
            self.number(length);
        }
        self.at += member.gap;
        match &member.part {
            Part::Closed(_) => {}
            Part::Leaf(len) => self.at += len,
            Part::Nested(source) => self.source(source),
            Part::Chunked(sizes, source) => {
                self.sizes(sizes);
                self.source(source);
            }
        }
    }

    fn closed(&mut self, index: usize) -> u8 {
        let known = index == self.next_closed;
        self.next_closed = index + 1;
        if known { CLOSED | LENGTH_KNOWN } else { CLOSED }
    }

    /// Chunk sizes: how often the first one repeats, then the others.
    fn sizes(&mut self, sizes: &[u32]) {
        let first = sizes[0];
        let same = sizes.iter().take_while(|&&size| size == first).count();
        for number in [first as usize, same, sizes.len() - same] {
            self.number(number);
        }
        for &size in &sizes[same..] {
            self.number(size as usize);
        }
    }
}

fn leaf_flag(said: Option<Preface>, plain: &[u8], len: usize) -> u8 {
    if said.and_then(|said| said.plain) == Some(len) {
        return LEAF | LENGTH_KNOWN;
    }
    if len + TRAILER_BYTES == plain.len() {
        return LEAF | LENGTH_REST;
    }
    let until_trailer = &plain[..plain.len().min(len + TRAILER_BYTES)];
    if said.is_some_and(|said| said.plain.is_none()) && trailed_len(until_trailer) == Some(len) {
        return LEAF | LENGTH_TRAILED;
    }
    LEAF
}

/// The tail of gzip and of zlib.
fn usual_tail(members: &[Member]) -> usize {
    match members {
        [Member { gap: 2, .. }] => 4,
        _ => 8,
    }
}

/// Reads the target's recipe; `plain` is its expanded form.
pub struct TargetReader<'a> {
    plain: &'a [u8],
    at: usize,
    next_closed: usize,
    members: usize,
    operations: Reader<'a>,
    numbers: Reader<'a>,
}

impl<'a> TargetReader<'a> {
    /// Starts at the front of the expanded form.
    pub fn new(plain: &'a [u8], operations: &'a [u8], numbers: &'a [u8]) -> Self {
        let (operations, numbers) = (Reader::new(operations), Reader::new(numbers));
        Self { plain, at: 0, next_closed: 0, members: 0, operations, numbers }
    }

    /// Reads a source.
    ///
    /// # Errors
    /// `Corrupt` when it does not fit the expanded form, `TooLarge` when it is too deep.
    pub fn source(&mut self, depth: usize) -> Result<Source> {
        if depth > DEPTH_MAX {
            return Err(corrupt("streams inside streams"));
        }
        let mut source = Source::default();
        loop {
            let operation = self.operations.byte()?;
            if operation & KIND == END {
                let known = operation & TAIL_KNOWN != 0;
                source.tail = if known { usual_tail(&source.members) } else { self.numbers.size()? };
                self.step(source.tail)?;
                return Ok(source);
            }
            self.members += 1;
            if self.members > MEMBERS_MAX {
                return Err(corrupt("members"));
            }
            source.members.push(self.member(operation, depth)?);
        }
    }

    fn step(&mut self, count: usize) -> Result<()> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.plain.len());
        self.at = end.ok_or(corrupt("a recipe beyond its text"))?;
        Ok(())
    }

    fn member(&mut self, operation: u8, depth: usize) -> Result<Member> {
        let known = operation & GAP_KNOWN != 0;
        let said = if known { preface(&self.plain[self.at..]) } else { None };
        let gap = match said {
            Some(said) => said.gap,
            None if known => return Err(corrupt("a recipe without a header")),
            None => self.numbers.size()?,
        };
        self.step(gap)?;
        let part = match operation & KIND {
            CLOSED => Part::Closed(self.closed(operation)?),
            LEAF => Part::Leaf(self.leaf(operation, said)?),
            NESTED => Part::Nested(self.source(depth + 1)?),
            CHUNKED => Part::Chunked(self.sizes()?, self.source(depth + 1)?),
            _ => return Err(corrupt("an unknown operation")),
        };
        Ok(Member { gap, part })
    }

    fn closed(&mut self, operation: u8) -> Result<usize> {
        let known = operation & LENGTH_KNOWN != 0;
        let index = if known { self.next_closed } else { self.numbers.size()? };
        self.next_closed = index.checked_add(1).ok_or(corrupt("a member's number"))?;
        Ok(index)
    }

    fn leaf(&mut self, operation: u8, said: Option<Preface>) -> Result<usize> {
        let len = match operation & LENGTH {
            0 => Some(self.numbers.size()?),
            LENGTH_KNOWN => said.and_then(|said| said.plain),
            LENGTH_REST => (self.plain.len() - self.at).checked_sub(TRAILER_BYTES),
            _ => trailed_len(&self.plain[self.at..]),
        };
        let len = len.ok_or(corrupt("a recipe without a length"))?;
        self.step(len)?;
        Ok(len)
    }

    fn sizes(&mut self) -> Result<Vec<u32>> {
        let mut size = || u32::try_from(self.numbers.varint()?).map_err(|_| corrupt("a chunk's size"));
        let (first, same, others) = (size()?, size()? as usize, size()? as usize);
        let chunks = same.checked_add(others).filter(|&chunks| chunks <= MEMBERS_MAX);
        chunks.ok_or(corrupt("chunks"))?;
        let mut sizes = vec![first; same];
        for _ in 0..others {
            sizes.push(size()?);
        }
        Ok(sizes)
    }
}

/// Writes the base's recipe, member by member while it is expanded.
#[derive(Default)]
pub struct BaseWriter {
    /// The recipe so far.
    pub columns: Columns,
}

impl BaseWriter {
    /// Notes a member `gap` bytes behind `at`; nested members follow, then [`Self::end`].
    pub fn member(&mut self, bytes: &[u8], at: usize, gap: usize, part: BasePart) {
        let said = preface(&bytes[at..]).filter(|said| said.gap == gap);
        let mut operation = match part {
            BasePart::Closed(_) => CLOSED,
            BasePart::Leaf => LEAF,
            BasePart::Nested => NESTED,
            BasePart::Chunked => CHUNKED,
        };
        if said.is_some() {
            operation |= GAP_KNOWN;
        } else {
            put_varint(&mut self.columns.numbers, gap as u64);
        }
        if let BasePart::Closed(len) = part {
            if closed_len(said, &bytes[at + gap..]) == Some(len) {
                operation |= LENGTH_KNOWN;
            } else {
                put_varint(&mut self.columns.numbers, len as u64);
            }
        }
        self.columns.operations.push(operation);
    }

    /// Ends a source.
    pub fn end(&mut self) {
        self.columns.operations.push(END);
    }
}

/// What becomes of a member of the base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BasePart {
    /// Left out; its length.
    Closed(usize),
    /// A stream whose plain text is part of the expanded form.
    Leaf,
    /// A stream of something that has members itself.
    Nested,
    /// A zlib stream cut into PNG chunks.
    Chunked,
}

fn closed_len(said: Option<Preface>, member: &[u8]) -> Option<usize> {
    let said = said?;
    said.packed.or_else(|| described_len(member).filter(|_| said.described))
}

/// Reads the base's recipe, member by member while it is expanded.
#[derive(Clone)]
pub struct BaseReader<'a> {
    operations: Reader<'a>,
    numbers: Reader<'a>,
    members: usize,
}

impl<'a> BaseReader<'a> {
    /// Starts at the base's first member.
    pub fn new(operations: &'a [u8], numbers: &'a [u8]) -> Self {
        Self { operations: Reader::new(operations), numbers: Reader::new(numbers), members: 0 }
    }

    /// Says whether the next member's gap is the same whatever follows `bytes`, of which less may be known
    /// than there is.
    pub fn is_settled(&self, bytes: &[u8], at: usize) -> bool {
        let known = self.operations.clone().byte().is_ok_and(|operation| operation & GAP_KNOWN != 0);
        !known || bytes.get(at..).is_some_and(is_settled)
    }

    /// Reads the next member of the source `bytes`, the one before having ended at `at`; `None` at
    /// the end of the source.
    ///
    /// # Errors
    /// `Corrupt` when there is no such member.
    pub fn member(&mut self, bytes: &[u8], at: usize) -> Result<Option<(usize, BasePart)>> {
        let operation = self.operations.byte()?;
        let kind = operation & KIND;
        if kind == END {
            return Ok(None);
        }
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(corrupt("members"));
        }
        let known = operation & GAP_KNOWN != 0;
        let said = if known { bytes.get(at..).and_then(preface) } else { None };
        let gap = match said {
            Some(said) => said.gap,
            None if known => return Err(corrupt("a base without the header")),
            None => self.numbers.size()?,
        };
        let start = at.checked_add(gap).ok_or(corrupt("a member beyond the base"))?;
        let member = bytes.get(start..).ok_or(corrupt("a member beyond the base"))?;
        let part = match kind {
            CLOSED if operation & LENGTH_KNOWN == 0 => BasePart::Closed(self.numbers.size()?),
            CLOSED => {
                let len = closed_len(said, member);
                BasePart::Closed(len.ok_or(corrupt("a base without the length"))?)
            }
            LEAF => BasePart::Leaf,
            NESTED => BasePart::Nested,
            CHUNKED => BasePart::Chunked,
            _ => return Err(corrupt("an unknown operation")),
        };
        Ok(Some((gap, part)))
    }
}
