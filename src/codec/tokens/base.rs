//! The base's tokens, seen from the new plain text.
//!
//! The plain delta aligns stretches of the new plain text with the base's. Where a stretch lies in
//! one of the base's streams, that stream's tokens say what an encoder did with this text before,
//! and it will mostly do the same again.

use super::finder::{Token, agreement};
use crate::codec::deflate::ledger::{Header, Ledger, Matches, Stream};
use crate::codec::deflate::symbols::{DISTANCE_MAX, LENGTH_MAX, LENGTH_MIN};
use crate::codec::flat::Segment;
use crate::codec::format::{BLOCK_SEGMENTS_MAX, SOURCE_SEGMENTS_MAX};

/// One stream of the base whose plain text is part of the base's expanded form.
struct BaseStream {
    start: usize,
    end: usize,
    first: usize,
    last: usize,
}

/// A block's end in the base's expanded form, and how the block began.
struct BlockEnd {
    at: usize,
    header: Header,
}

/// Everything predictions may depend on.
pub struct Reference<'a> {
    plain: &'a [u8],
    matches: Matches<'a>,
    streams: Vec<BaseStream>,
    ends: Vec<BlockEnd>,
    ledger: &'a Ledger,
    segments: &'a [Segment],
}

impl<'a> Reference<'a> {
    /// Prepares the base's `streams` (by their start) for lookups along `segments` (by target).
    pub fn new(plain: &'a [u8], ledger: &'a Ledger, streams: &[&Stream], segments: &'a [Segment]) -> Self {
        let mut ends = Vec::new();
        for stream in streams {
            for block in &ledger.blocks[stream.blocks.clone()] {
                if block.end > 0 {
                    ends.push(BlockEnd { at: stream.start + block.end, header: block.header });
                }
            }
        }
        let streams = streams.iter().map(|stream| BaseStream {
            start: stream.start,
            end: stream.start + stream.len,
            first: stream.matches.start,
            last: stream.matches.end,
        });
        Self { plain, matches: ledger.matches(), streams: streams.collect(), ends, ledger, segments }
    }

    /// Finds where the base's next block end falls, seen from `position` of the new plain text, and
    /// the header of the block the base is in there.
    pub fn next_block_end(&self, position: usize) -> (Option<usize>, Option<Header>) {
        let first = self.segments.partition_point(|segment| segment.target_end() <= position);
        let mut header = None;
        for segment in self.segments[first..].iter().take(BLOCK_SEGMENTS_MAX) {
            let from = segment.base + position.saturating_sub(segment.target);
            let next = self.ends.partition_point(|end| end.at <= from);
            let Some(end) = self.ends.get(next) else {
                continue;
            };
            header = header.or(Some(end.header));
            if end.at <= segment.base + segment.len {
                return (Some(segment.target + (end.at - segment.base)), header);
            }
        }
        (None, header)
    }

    /// Returns the bits of a block header of the base.
    pub fn header(&self, header: Header) -> &[u8] {
        self.ledger.header(header)
    }

    /// Says whether there is anything to predict from.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() || self.streams.is_empty()
    }
}

/// What the base did where the new stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BaseToken {
    /// No stretch of the base is aligned here, or a match of the base covers the place.
    Unknown,
    /// This many literals in a row.
    Literals(usize),
    /// This match, fitted to the new text.
    Match(Token),
}

/// The stretch of the new plain text around a position that has one answer.
#[derive(Clone, Copy, Default)]
struct Zone {
    start: usize,
    end: usize,
    /// The base's stream covers it.
    mapped: bool,
    segment: usize,
    /// Base position less target position.
    shift: isize,
    /// Base position less position in the base's stream.
    stream_start: usize,
    first: usize,
    last: usize,
}

/// Follows one stream through the base.
pub struct Cursor<'r> {
    reference: &'r Reference<'r>,
    /// Where the stream starts in the new plain text; `None` when it is not part of it.
    origin: Option<usize>,
    zone: Zone,
    /// Next match of the base.
    next: usize,
    /// Where the base's and the new plain text are known to be equal.
    equal_start: usize,
    equal_end: usize,
}

impl<'r> Cursor<'r> {
    /// Stands at the start of a stream.
    pub fn new(reference: &'r Reference<'r>, origin: Option<usize>) -> Self {
        let origin = origin.filter(|_| !reference.is_empty());
        Self { reference, origin, zone: Zone::default(), next: 0, equal_start: 0, equal_end: 0 }
    }

    /// Returns the end of the stretch last asked about, in the stream, and whether the base knows it.
    pub fn zone(&self) -> (usize, bool) {
        let Some(origin) = self.origin else {
            return (usize::MAX, false);
        };
        (self.zone.end.saturating_sub(origin), self.zone.mapped)
    }

    /// Returns where the base's next block end falls in the stream, and its block's header.
    pub fn next_block_end(&self, at: usize) -> (Option<usize>, Option<Header>) {
        let Some(origin) = self.origin else {
            return (None, None);
        };
        let (end, header) = self.reference.next_block_end(origin + at);
        (end.map(|end| end.saturating_sub(origin)), header)
    }

    #[cold]
    fn enter_zone(&mut self, position: usize) {
        let segments = self.reference.segments;
        let mut index = self.zone.segment;
        if segments.get(index).is_none_or(|segment| segment.target > position) {
            index = segments.partition_point(|segment| segment.target_end() <= position);
        }
        while segments.get(index).is_some_and(|segment| segment.target_end() <= position) {
            index += 1;
        }
        self.equal_end = 0;
        self.zone = Zone { start: position, segment: index, ..Zone::default() };
        let Some(segment) = segments.get(index) else {
            self.zone.end = usize::MAX;
            return;
        };
        if segment.target > position {
            self.zone.end = segment.target;
            return;
        }
        self.map_zone(*segment, position);
    }

    fn map_zone(&mut self, segment: Segment, position: usize) {
        let reference = self.reference;
        let base = segment.base + (position - segment.target);
        self.zone.end = segment.target_end();
        let index = reference.streams.partition_point(|stream| stream.end <= base);
        let Some(stream) = reference.streams.get(index) else {
            return;
        };
        if stream.start > base {
            self.zone.end = self.zone.end.min(position + (stream.start - base));
            return;
        }
        self.zone.mapped = true;
        self.zone.end = self.zone.end.min(position + (stream.end - base));
        self.zone.shift = segment.base as isize - segment.target as isize;
        self.zone.stream_start = stream.start;
        (self.zone.first, self.zone.last) = (stream.first, stream.last);
        let matches = reference.matches.slice(stream.first..stream.last);
        self.next = stream.first + matches.first_from(base - stream.start);
    }

    /// Predicts the token at `at` of the stream whose plain text is `plain`.
    #[inline]
    pub fn token(&mut self, plain: &[u8], at: usize) -> BaseToken {
        let Some(origin) = self.origin else {
            return BaseToken::Unknown;
        };
        let position = origin + at;
        if position >= self.zone.end || position < self.zone.start {
            self.enter_zone(position);
        }
        if !self.zone.mapped {
            return BaseToken::Unknown;
        }
        let matches = self.reference.matches;
        let there = (position as isize + self.zone.shift) as usize - self.zone.stream_start;
        while self.next < self.zone.last && matches.get(self.next).position() < there {
            self.next += 1;
        }
        if self.next > self.zone.first && matches.get(self.next - 1).end() > there {
            return BaseToken::Unknown;
        }
        let left = (self.zone.end - position).min(plain.len() - at);
        if self.next == self.zone.last {
            return BaseToken::Literals(left);
        }
        let found = matches.get(self.next);
        if found.position() != there {
            return BaseToken::Literals(left.min(found.position() - there));
        }
        self.compare(plain, at, position);
        let (length, distance) = (found.length(), found.distance());
        if position + length < self.equal_end && position >= self.equal_start + distance {
            return BaseToken::Match(Token::copy(length, distance));
        }
        self.adjusted(plain, at, Token::copy(length, distance))
    }

    /// Extends the stretch known to be equal, if it ends here.
    #[inline(always)]
    fn compare(&mut self, plain: &[u8], at: usize, position: usize) {
        if position >= self.equal_end {
            let span = (self.zone.end - position).min(plain.len() - at);
            let base = (position as isize + self.zone.shift) as usize;
            let there = &self.reference.plain[base..base + span];
            self.equal_start = position;
            self.equal_end = position + common_prefix(&plain[at..at + span], there);
        }
    }

    /// Fits a match of the base to a text that differs from the base's nearby.
    fn adjusted(&self, plain: &[u8], at: usize, old: Token) -> BaseToken {
        let distance = self.moved_distance(at, old.distance as usize);
        if distance > at || distance > DISTANCE_MAX {
            return BaseToken::Unknown;
        }
        let max = (plain.len() - at).min(LENGTH_MAX);
        let length = old.length as usize;
        let agreed = agreement(plain, at - distance, at, length.min(max));
        if agreed < length {
            if agreed < LENGTH_MIN {
                return BaseToken::Unknown;
            }
            return BaseToken::Match(Token::copy(agreed, distance));
        }
        let grown = self.base_match_ended_by_its_text(at, old)
            && length < max
            && plain[at + length] == plain[at + length - distance];
        let length = if grown { agreement(plain, at - distance, at, max) } else { length };
        BaseToken::Match(Token::copy(length, distance))
    }

    /// Says whether the base's match stopped where its text stopped repeating.
    fn base_match_ended_by_its_text(&self, at: usize, old: Token) -> bool {
        let base = &self.reference.plain;
        let end = (self.origin.unwrap_or(0) + at) as isize + self.zone.shift + old.length as isize;
        let end = end as usize;
        end < base.len() && base[end] != base[end - old.distance as usize]
    }

    /// Returns the distance to where the match's source is in the new text: an edit between the two
    /// moves it.
    fn moved_distance(&self, at: usize, distance: usize) -> usize {
        let position = self.origin.unwrap_or(0) + at;
        let segments = self.reference.segments;
        if distance <= position - segments[self.zone.segment].target {
            return distance;
        }
        let base = (position as isize + self.zone.shift) as usize;
        let source = base - distance.min(base);
        let earlier = segments[..self.zone.segment].iter().rev().take(SOURCE_SEGMENTS_MAX);
        for segment in earlier.take_while(|segment| segment.target_end() + DISTANCE_MAX >= position) {
            if (segment.base..segment.base + segment.len).contains(&source) {
                return position - (segment.target + (source - segment.base));
            }
        }
        distance
    }

    /// Returns the stretch ahead, in the stream, in which the base's matches can be taken over
    /// without looking at the text: `(first position a match's source may have, end)`.
    #[inline(always)]
    pub fn equal_stretch(&self) -> (usize, usize) {
        let origin = self.origin.unwrap_or(0);
        (self.equal_start.saturating_sub(origin), self.equal_end.saturating_sub(origin))
    }

    /// Returns the base's next match as it would lie in the stream, and steps over it.
    #[inline(always)]
    pub fn peek_match(&self) -> Option<(usize, usize, usize)> {
        if self.next >= self.zone.last {
            return None;
        }
        let found = self.reference.matches.get(self.next);
        let base = (self.zone.stream_start + found.position()) as isize;
        let position = (base - self.zone.shift) as usize;
        Some((position - self.origin.unwrap_or(0), found.length(), found.distance()))
    }

    /// Steps over the match last peeked.
    #[inline(always)]
    pub fn advance(&mut self) {
        self.next += 1;
    }
}

/// Returns how many leading bytes agree.
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 64;
    let equal = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(x, y)| x == y).count();
    let start = equal * STEP;
    start + a[start..].iter().zip(&b[start..]).take_while(|(x, y)| x == y).count()
}
