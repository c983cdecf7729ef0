//! Puts members together again from the expanded form and the coded tokens.

use super::png;
use super::recipe::{Part, Source};
use crate::codec::delta::Limits;
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
