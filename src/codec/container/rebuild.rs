//! Puts members together again from the expanded form and the coded tokens.

use super::form::{Content, Known, Packing, Piece, StreamId};
use super::png;
use super::recipe::{Part, Source};
use crate::codec::deflate::emit;
use crate::codec::deflate::ledger::Ledger;
use crate::codec::delta::Limits;
use crate::codec::scratch::Scratch;
use crate::codec::tokens::group::GroupDecoder;
use crate::codec::tokens::stream::Text;
use crate::codec::{Result, corrupt};

/// What rebuilding reads from, besides the tokens.
pub struct Material<'a> {
    /// The target's expanded form.
    pub plain: &'a [u8],
    /// The base's closed members.
    pub closed: Vec<&'a [u8]>,
    /// Bounds what members of members may be.
    pub limits: &'a Limits,
}

impl Material<'_> {
    /// Returns the base's closed member `index`.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub fn closed(&self, index: usize) -> Result<&[u8]> {
        self.closed.get(index).copied().ok_or(corrupt("a closed member the base does not have"))
    }

    /// Rebuilds the member of at most `max` bytes whose text starts at `at` of the expanded form.
    ///
    /// # Errors
    /// `Corrupt` when recipe and tokens do not fit together.
    pub fn member(&self, tokens: &mut GroupDecoder, at: usize, part: &Part, max: usize) -> Result<Vec<u8>> {
        match part {
            Part::Closed(index) => Ok(self.closed(*index)?.to_vec()),
            Part::Leaf(len) => {
                let text = Text { plain: &self.plain[at..at + len], origin: Some(at) };
                tokens.stream(text, max)
            }
            Part::Nested(source) => {
                // What compresses well holds members that are longer than it is.
                let content = self.content(tokens, at, source, self.limits.content_max_bytes(max))?;
                tokens.stream(Text { plain: &content, origin: None }, max)
            }
            Part::Chunked(sizes, source) => {
                let content = self.content(tokens, at, source, max)?;
                png::frame(&content, sizes).ok_or(corrupt("chunks of another length"))
            }
        }
    }

    fn content(
        &self,
        tokens: &mut GroupDecoder,
        start: usize,
        source: &Source,
        max: usize,
    ) -> Result<Vec<u8>> {
        let mut at = start;
        let mut out = Vec::new();
        for member in &source.members {
            out.extend_from_slice(&self.plain[at..at + member.gap]);
            at += member.gap;
            out.extend(self.member(tokens, at, &member.part, max)?);
            at += member.part.span();
        }
        out.extend_from_slice(&self.plain[at..at + source.tail]);
        Ok(out)
    }
}

/// Rebuilds members of one group without packing what need not be packed.
pub struct Recording<'a, 'r> {
    /// What it reads from.
    pub material: &'a Material<'a>,
    /// The group's tokens.
    pub tokens: GroupDecoder<'r>,
    /// The group's number.
    pub index: usize,
    /// The group's streams so far.
    pub ledger: Ledger,
    /// Where contents go.
    pub scratch: &'a dyn Scratch,
}

impl Recording<'_, '_> {
    /// Rebuilds the member of at most `max` bytes whose text starts at `at` of the expanded form.
    ///
    /// # Errors
    /// `Corrupt` when recipe and tokens do not fit together; `Io` from the scratch memory.
    pub fn member(&mut self, at: usize, part: &Part, max: usize) -> Result<Piece> {
        match part {
            Part::Closed(index) => Ok(Piece::Bytes(self.material.closed(*index)?.to_vec())),
            Part::Leaf(len) => {
                let plain = &self.material.plain[at..at + len];
                Ok(self.stream(Text { plain, origin: Some(at) }, max)?.piece(Known::Leaf))
            }
            Part::Nested(source) => {
                let inner_max = self.material.limits.content_max_bytes(max);
                let mut content = self.content(at, source, inner_max)?;
                let from = Packing::of_group(self.material.plain, &self.ledger, self.index);
                content.pack_from(0, &from)?;
                let noted = self.stream(Text { plain: content.bytes(), origin: None }, max)?;
                Ok(noted.piece(|id| Known::Nested(id, content)))
            }
            Part::Chunked(sizes, source) => {
                let content = self.content(at, source, max)?;
                let len = png::framed_len(content.bytes().len(), sizes);
                let len = len.ok_or(corrupt("chunks of another length"))?;
                Ok(Piece::Known(len, Known::Chunked(sizes.clone(), content)))
            }
        }
    }

    fn content(&mut self, start: usize, source: &Source, max: usize) -> Result<Content> {
        let plain = self.material.plain;
        let mut at = start;
        let mut content = Content::new(self.scratch)?;
        for member in &source.members {
            content.add(&plain[at..at + member.gap])?;
            at += member.gap;
            content.push(self.member(at, &member.part, max)?)?;
            at += member.part.span();
        }
        content.add(&plain[at..at + source.tail])?;
        Ok(content)
    }

    fn stream(&mut self, text: Text, max: usize) -> Result<Noted> {
        let recorded = self.tokens.record(text, max, &mut self.ledger)?;
        if recorded.sound {
            return Ok(Noted::Known(
                recorded.packed,
                StreamId { ledger: self.index, stream: recorded.stream },
            ));
        }
        Ok(Noted::Bytes(emit::pack(text.plain, &self.ledger, &self.ledger.streams[recorded.stream])?))
    }
}

/// A stream that was noted, or packed where that would not do.
enum Noted {
    Known(usize, StreamId),
    Bytes(Vec<u8>),
}

impl Noted {
    fn piece(self, known: impl FnOnce(StreamId) -> Known) -> Piece {
        match self {
            Self::Known(len, id) => Piece::Known(len, known(id)),
            Self::Bytes(bytes) => Piece::Bytes(bytes),
        }
    }
}
