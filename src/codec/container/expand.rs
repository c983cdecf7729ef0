//! The expanded form of a file: everything that is not closed, with streams as plain text.
//!
//! The bytes between members and the plain text of leaves follow each other in file order. Closed
//! members are left out and numbered. What is inside a stream that has streams itself appears
//! instead of that stream's plain text.
//!
//! A member is in one of two states, closed or open, and nothing in the expanded form depends on
//! the state of another: one expansion converts into another member by member, by inflating what
//! is to be opened and packing what is to be closed.

use std::io;
use std::ops::Range;

use super::png;
use super::recipe::{BasePart, BaseWriter, Columns, DEPTH_MAX, Member, Part, Source};
use super::scan::{self, Kind};
use crate::codec::deflate::inflate::Splitter;
use crate::codec::deflate::ledger::{Ledger, Stream};
use crate::codec::delta::Limits;
use crate::codec::scratch::{Scratch, Spool};

/// A stream of the target, in coding order: what is inside it comes first.
pub struct Placed {
    /// Its index in the ledger.
    pub stream: usize,
    /// Where its plain text is among the contents; `None` when it is part of the expanded form.
    content: Option<Range<usize>>,
    /// The top-level member it belongs to, counting those that are not closed.
    pub unit: usize,
}

/// One side, expanded.
pub struct Expansion {
    /// The expanded form.
    pub plain: Spool,
    /// What the opened streams were made of.
    pub ledger: Ledger,
    /// Streams to be coded; of the target only.
    pub streams: Vec<Placed>,
    /// Where the file's members are that were left out, by number; of the base only.
    pub closed: Vec<Range<usize>>,
    /// Plain texts of streams that have streams themselves, one behind the other; of the target only.
    contents: Spool,
    /// Where each unit starts in the file.
    pub units: Vec<usize>,
    /// Plain bytes that may still be added.
    pub(super) left: u64,
}

impl Expansion {
    pub(super) fn new(scratch: &dyn Scratch, limits: &Limits) -> io::Result<Self> {
        Ok(Self {
            plain: Spool::new(scratch)?,
            ledger: Ledger::new(scratch)?,
            streams: Vec::new(),
            closed: Vec::new(),
            contents: Spool::new(scratch)?,
            units: Vec::new(),
            left: limits.plain_max_bytes,
        })
    }

    /// Returns a stream's plain text, and where in the expanded form that is.
    pub fn text(&self, placed: &Placed) -> (&[u8], Option<usize>) {
        let stream = &self.ledger.streams[placed.stream];
        match &placed.content {
            None => {
                let text = &self.plain.bytes()[stream.start..stream.start + stream.len];
                (text, Some(stream.start))
            }
            Some(range) => (&self.contents.bytes()[range.clone()], None),
        }
    }

    /// Returns the streams whose plain text is part of the expanded form; of the base only.
    pub fn leaves(&self) -> Vec<&Stream> {
        self.ledger.streams.iter().collect()
    }

    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.plain.extend(bytes)
    }

    /// Moves what was just inflated out of the expanded form into `content`.
    pub(super) fn take_from(&mut self, start: usize, content: &mut Spool) -> io::Result<()> {
        content.truncate(0);
        content.extend(&self.plain.bytes()[start..])?;
        self.plain.truncate(start);
        Ok(())
    }

    /// Keeps a content that tokens are about.
    fn keep(&mut self, content: &[u8]) -> io::Result<Range<usize>> {
        let start = self.contents.len();
        self.contents.extend(content)?;
        Ok(start..self.contents.len())
    }
}

/// Buffers for contents that are not needed for long: a file may have thousands of them.
pub(super) struct Spares<'a> {
    scratch: &'a dyn Scratch,
    spools: Vec<Spool>,
}

impl<'a> Spares<'a> {
    pub(super) const fn new(scratch: &'a dyn Scratch) -> Self {
        Self { scratch, spools: Vec::new() }
    }

    /// Returns a buffer, of any content.
    pub(super) fn take(&mut self) -> io::Result<Spool> {
        self.spools.pop().map_or_else(|| Spool::new(self.scratch), Ok)
    }

    /// Takes a buffer back.
    pub(super) fn give(&mut self, spool: Spool) {
        self.spools.push(spool);
    }
}

/// What the encoder decided about the members of a file.
pub trait Verdict {
    /// Returns the number under which the member starting at `start` stays closed.
    fn closed(&self, start: usize) -> Option<usize>;
    /// Returns where the next member behind `start` is that no stream may run over; `end` without one.
    fn next_kept(&self, start: usize, end: usize) -> usize;
    /// Says whether the member starting at `start` must not be opened.
    fn shut(&self, start: usize) -> bool;
}

/// Expands a file for the encoder.
pub struct Opener<'a> {
    limits: &'a Limits,
    verdict: &'a dyn Verdict,
    splitter: Splitter,
    spares: Spares<'a>,
    expansion: Expansion,
    /// The base's recipe, when this is the base.
    writer: Option<BaseWriter>,
}

/// Where the opener is: in which bytes, how deep.
#[derive(Clone, Copy)]
pub(super) struct Inside<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) depth: usize,
}

impl<'a> Opener<'a> {
    fn new(
        scratch: &'a dyn Scratch,
        limits: &'a Limits,
        verdict: &'a dyn Verdict,
        writer: Option<BaseWriter>,
    ) -> io::Result<Self> {
        let expansion = Expansion::new(scratch, limits)?;
        let (splitter, spares) = (Splitter::default(), Spares::new(scratch));
        Ok(Self { limits, verdict, splitter, spares, expansion, writer })
    }

    /// Expands the base; the recipe says how to do it again.
    pub fn base(
        scratch: &dyn Scratch,
        limits: &Limits,
        verdict: &dyn Verdict,
        file: &[u8],
        members: &[scan::Member],
    ) -> io::Result<(Expansion, Columns)> {
        let mut opener = Opener::new(scratch, limits, verdict, Some(BaseWriter::default()))?;
        opener.source(Inside { bytes: file, depth: 0 }, members)?;
        let columns = opener.writer.map(|writer| writer.columns).unwrap_or_default();
        Ok((opener.expansion, columns))
    }

    /// Expands the target; the source says how to rebuild it.
    pub fn target(
        scratch: &dyn Scratch,
        limits: &Limits,
        verdict: &dyn Verdict,
        file: &[u8],
        members: &[scan::Member],
    ) -> io::Result<(Expansion, Source)> {
        let mut opener = Opener::new(scratch, limits, verdict, None)?;
        let source = opener.source(Inside { bytes: file, depth: 0 }, members)?;
        Ok((opener.expansion, source))
    }

    fn source(&mut self, inside: Inside, members: &[scan::Member]) -> io::Result<Source> {
        let mut source = Source::default();
        let mut at = 0;
        for member in members {
            let start = member.range.start;
            if start < at {
                continue;
            }
            let undo = self.expansion.plain.len();
            self.expansion.add(&inside.bytes[at..start])?;
            match self.member(inside, at, member)? {
                Some((part, end)) => {
                    source.members.push(Member { gap: start - at, part });
                    at = end;
                }
                None => self.expansion.plain.truncate(undo),
            }
        }
        self.expansion.add(&inside.bytes[at..])?;
        source.tail = inside.bytes.len() - at;
        if let Some(writer) = &mut self.writer {
            writer.end();
        }
        Ok(source)
    }

    /// Closes or opens a member; returns what became of it and where it ends.
    fn member(
        &mut self,
        inside: Inside,
        at: usize,
        member: &scan::Member,
    ) -> io::Result<Option<(Part, usize)>> {
        let start = member.range.start;
        if inside.depth == 0 {
            if let Some(number) = self.verdict.closed(start) {
                self.close(inside, at, member.range.clone());
                return Ok(Some((Part::Closed(number), member.range.end)));
            }
            if self.verdict.shut(start) {
                return Ok(None);
            }
        }
        let opened = match member.kind {
            Kind::Opaque => None,
            Kind::ImageData => self.open_chunks(inside, at, member)?,
            Kind::Deflate | Kind::Unbounded => self.open_stream(inside, at, member)?,
        };
        if opened.is_some() && inside.depth == 0 {
            self.expansion.units.push(start);
        }
        Ok(opened)
    }

    fn note(&mut self, inside: Inside, at: usize, start: usize, part: BasePart) {
        if let Some(writer) = &mut self.writer {
            writer.member(inside.bytes, at, start - at, part);
        }
    }

    fn close(&mut self, inside: Inside, at: usize, range: Range<usize>) {
        self.note(inside, at, range.start, BasePart::Closed(range.len()));
        self.expansion.closed.push(range);
    }

    fn open_chunks(
        &mut self,
        inside: Inside,
        at: usize,
        member: &scan::Member,
    ) -> io::Result<Option<(Part, usize)>> {
        let bytes = &inside.bytes[member.range.clone()];
        let Some((sizes, len)) = png::chunks(bytes) else {
            return Ok(None);
        };
        let Some(data) = png::unframe(bytes, &sizes) else {
            return Ok(None);
        };
        if inside.depth >= DEPTH_MAX || len != bytes.len() || data.len() < 8 {
            return Ok(None);
        }
        self.note(inside, at, member.range.start, BasePart::Chunked);
        let stream = scan::Member { range: 2..data.len() - 4, kind: Kind::Deflate };
        let source = self.source(Inside { bytes: &data, depth: inside.depth + 1 }, &[stream])?;
        if source.members.is_empty() && self.writer.is_none() {
            return Ok(None); // a unit without tokens is none
        }
        Ok(Some((Part::Chunked(sizes, source), member.range.end)))
    }

    fn open_stream(
        &mut self,
        inside: Inside,
        at: usize,
        member: &scan::Member,
    ) -> io::Result<Option<(Part, usize)>> {
        let range = &member.range;
        let mark = self.expansion.ledger.mark();
        let text_start = self.expansion.plain.len();
        let mut stream = self.split(&inside.bytes[range.clone()])?;
        if stream.is_none() && member.kind == Kind::Unbounded {
            let mut end_max = inside.bytes.len();
            if inside.depth == 0 {
                end_max = self.verdict.next_kept(range.start, end_max);
            }
            stream = self.split(&inside.bytes[range.start..end_max])?;
        }
        let Some(stream) = stream else {
            return Ok(None);
        };
        self.expansion.left -= stream.len as u64;
        let end = range.start + stream.packed;
        let index = self.expansion.ledger.streams.len() - 1;
        let inner = self.inner_members(text_start, inside.depth);
        let part = if inner.is_empty() {
            self.note(inside, at, range.start, BasePart::Leaf);
            self.place(index, None);
            Part::Leaf(stream.len)
        } else {
            self.note(inside, at, range.start, BasePart::Nested);
            let mut content = self.spares.take()?;
            self.expansion.take_from(text_start, &mut content)?;
            if self.writer.is_some() {
                self.expansion.ledger.rewind(mark); // the base predicts from leaves only
            }
            let within = Inside { bytes: content.bytes(), depth: inside.depth + 1 };
            let source = self.source(within, &inner)?;
            if self.writer.is_none() {
                let kept = self.expansion.keep(content.bytes())?;
                self.place(index, Some(kept));
            }
            self.spares.give(content);
            Part::Nested(source)
        };
        Ok(Some((part, end)))
    }

    fn inner_members(&self, text_start: usize, depth: usize) -> Vec<scan::Member> {
        if depth + 1 >= DEPTH_MAX {
            return Vec::new();
        }
        scan::inner(&self.expansion.plain.bytes()[text_start..])
    }

    fn split(&mut self, packed: &[u8]) -> io::Result<Option<Stream>> {
        let Expansion { plain, ledger, left, .. } = &mut self.expansion;
        let max = self.limits.stream_max_bytes(packed.len()).min(*left);
        self.splitter.split(packed, max, plain, ledger)
    }

    fn place(&mut self, stream: usize, content: Option<Range<usize>>) {
        if self.writer.is_none() {
            let unit = self.expansion.units.len();
            self.expansion.streams.push(Placed { stream, content, unit });
        }
    }
}
