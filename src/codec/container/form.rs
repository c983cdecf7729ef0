//! A file on its way through a chain: rebuilt, but its streams are only packed when somebody asks.
//!
//! Every byte has its place from the start, because a stream's tokens say how long it will be. Until a member
//! is packed its place holds zeros: [`Content`] tells up to where the bytes may be read.

use std::io;
use std::ops::Range;

use super::png;
use super::recipe::BasePart;
use crate::codec::deflate::emit;
use crate::codec::deflate::ledger::{Ledger, Stream};
use crate::codec::scratch::{Scratch, Spool};
use crate::codec::{Result, corrupt};

/// A rebuilt file.
pub struct Form {
    /// Its bytes, as far as they are packed.
    pub content: Content,
    /// What its streams are packed from.
    pub texts: Texts,
}

/// What a form's streams are packed from.
pub struct Texts {
    /// The expanded form.
    pub plain: Spool,
    /// The streams, group by group.
    pub ledgers: Vec<Ledger>,
}

/// A stream in one of a form's ledgers.
#[derive(Clone, Copy)]
pub struct StreamId {
    /// Which ledger.
    pub ledger: usize,
    /// Its index there.
    pub stream: usize,
}

/// A file, or the content of something in it.
pub struct Content {
    bytes: Spool,
    members: Vec<Member>,
    /// Members before it are packed or passed.
    next: usize,
}

/// A member whose streams are known.
struct Member {
    range: Range<usize>,
    packed: bool,
    known: Known,
}

/// What is known of a member.
pub enum Known {
    /// A stream whose plain text is part of the expanded form.
    Leaf(StreamId),
    /// A stream of something that has members itself.
    Nested(StreamId, Content),
    /// A zlib stream cut into PNG chunks of these sizes.
    Chunked(Vec<u32>, Content),
}

/// A rebuilt member.
pub enum Piece {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// How many bytes it will have.
    Known(usize, Known),
}

impl Known {
    fn is(&self, part: BasePart) -> bool {
        matches!(
            (self, part),
            (Self::Leaf(_), BasePart::Leaf)
                | (Self::Nested(..), BasePart::Nested)
                | (Self::Chunked(..), BasePart::Chunked)
        )
    }

    fn pack(&mut self, from: &Packing) -> Result<Vec<u8>> {
        match self {
            Self::Leaf(id) => {
                let (stream, ledger) = from.stream(*id);
                emit::pack(from.text(stream), ledger, stream)
            }
            Self::Nested(id, content) => {
                content.pack_from(0, from)?;
                let (stream, ledger) = from.stream(*id);
                emit::pack(content.bytes(), ledger, stream)
            }
            Self::Chunked(sizes, content) => {
                content.pack_from(0, from)?;
                png::frame(content.bytes(), sizes).ok_or(corrupt("chunks of another length"))
            }
        }
    }
}

/// What streams are packed from: a view of [`Texts`], or of a group that is not finished.
pub struct Packing<'a> {
    plain: &'a [u8],
    ledgers: &'a [Ledger],
    /// The number of the first of `ledgers`.
    first: usize,
}

impl<'a> Packing<'a> {
    /// Packs from the one ledger number `index`.
    pub fn of_group(plain: &'a [u8], ledger: &'a Ledger, index: usize) -> Self {
        Self { plain, ledgers: std::slice::from_ref(ledger), first: index }
    }

    /// Packs from all of a form's ledgers.
    pub fn of(texts: &'a Texts) -> Self {
        Self { plain: texts.plain.bytes(), ledgers: &texts.ledgers, first: 0 }
    }

    /// Returns a stream, and the ledger it is in.
    pub fn stream(&self, id: StreamId) -> (&Stream, &Ledger) {
        let ledger = &self.ledgers[id.ledger - self.first];
        (&ledger.streams[id.stream], ledger)
    }

    /// Returns the plain text of a stream that is a leaf.
    pub fn text(&self, stream: &Stream) -> &[u8] {
        &self.plain[stream.start..stream.start + stream.len]
    }
}

impl Content {
    /// Starts empty.
    pub fn new(scratch: &dyn Scratch) -> io::Result<Self> {
        Ok(Self { bytes: Spool::new(scratch)?, members: Vec::new(), next: 0 })
    }

    /// Makes room for `len` bytes.
    pub fn reserve(&mut self, len: usize) -> io::Result<()> {
        self.bytes.reserve(len)
    }

    /// Appends bytes between members.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend(bytes)
    }

    /// Appends a member.
    pub fn push(&mut self, piece: Piece) -> io::Result<()> {
        match piece {
            Piece::Bytes(bytes) => self.bytes.extend(&bytes),
            Piece::Known(0, _) => Ok(()),
            Piece::Known(len, known) => {
                let start = self.bytes.len();
                self.bytes.reserve(len)?;
                self.bytes.advance(start + len);
                self.members.push(Member { range: start..start + len, packed: false, known });
                Ok(())
            }
        }
    }

    /// Returns the bytes, zeros where they are not packed.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }

    /// Returns the bytes alone.
    pub fn into_bytes(self) -> Spool {
        self.bytes
    }

    /// Returns up to where the bytes from `at` on are packed. `at` may not become smaller from call to call.
    pub fn packed_until(&mut self, at: usize) -> usize {
        let done = |member: &Member| member.packed || member.range.end <= at;
        while self.members.get(self.next).is_some_and(done) {
            self.next += 1;
        }
        self.members.get(self.next).map_or(self.bytes.len(), |member| member.range.start.max(at))
    }

    /// Packs the next member that is not.
    pub fn pack_next(&mut self, from: &Packing) -> Result<()> {
        self.pack_member(self.next, from)
    }

    /// Packs all members that reach into `range`.
    pub fn pack(&mut self, range: Range<usize>, from: &Packing) -> Result<()> {
        let mut index = self.next;
        while self.members.get(index).is_some_and(|member| member.range.start < range.end) {
            if self.members[index].range.end > range.start {
                self.pack_member(index, from)?;
            }
            index += 1;
        }
        Ok(())
    }

    /// Packs all members from `start` on.
    pub fn pack_from(&mut self, start: usize, from: &Packing) -> Result<()> {
        self.pack(start..usize::MAX, from)
    }

    fn pack_member(&mut self, index: usize, from: &Packing) -> Result<()> {
        let Some(member) = self.members.get_mut(index).filter(|member| !member.packed) else { return Ok(()) };
        let bytes = member.known.pack(from)?;
        let place =
            self.bytes.room().get_mut(member.range.clone()).filter(|place| place.len() == bytes.len());
        place.ok_or(corrupt("a stream of another length"))?.copy_from_slice(&bytes);
        member.packed = true;
        Ok(())
    }

    /// Returns where the member that starts at `start` ends, if it is of the kind a recipe says.
    pub fn end_of_known(&self, start: usize, part: BasePart) -> Option<usize> {
        let member = &self.members[self.index_of(start)?];
        member.known.is(part).then_some(member.range.end)
    }

    /// Returns what is known of the member that starts at `start`.
    pub fn known(&mut self, start: usize) -> Option<&mut Known> {
        let index = self.index_of(start)?;
        Some(&mut self.members[index].known)
    }

    fn index_of(&self, start: usize) -> Option<usize> {
        self.members.binary_search_by_key(&start, |member| member.range.start).ok()
    }
}
