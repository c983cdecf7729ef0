//! Expands the base by its recipe: from its bytes, or from what is known of a file that was just rebuilt.
//!
//! A form is read like bytes, except that a stream which is open in it and wanted open is taken over, text and
//! tokens. Whatever else the recipe asks for is packed first, so that the outcome is that of the bytes.

use std::io;

use super::expand::{Expansion, Inside, Spares};
use super::form::{Content, Form, Known, Packing, StreamId};
use super::png;
use super::recipe::{BasePart, BaseReader, Columns, DEPTH_MAX};
use crate::codec::deflate::inflate::Splitter;
use crate::codec::deflate::ledger::{self, Stream};
use crate::codec::delta::Limits;
use crate::codec::scratch::Scratch;
use crate::codec::{Error, Result, corrupt};

/// Expands the base by its recipe.
pub struct Follower<'a> {
    limits: &'a Limits,
    splitter: Splitter,
    spares: Spares<'a>,
    expansion: Expansion,
    reader: BaseReader<'a>,
}

impl<'a> Follower<'a> {
    /// Expands `file` as the encoder did, to about `len_hint` bytes.
    ///
    /// # Errors
    /// `Corrupt` when the recipe does not fit the file, `TooLarge` when a limit is too small.
    pub fn base(
        scratch: &'a dyn Scratch,
        limits: &'a Limits,
        file: &[u8],
        recipe: &'a Columns,
        len_hint: usize,
    ) -> Result<Expansion> {
        let mut follower = Self::new(scratch, limits, recipe)?;
        follower.expansion.plain.reserve(len_hint)?;
        follower.source(Inside { bytes: file, depth: 0 })?;
        Ok(follower.expansion)
    }

    /// Expands a rebuilt file, without inflating what is open in it.
    ///
    /// Packs what the recipe wants to see packed; the bytes of closed members are packed then.
    ///
    /// # Errors
    /// As [`Self::base`].
    pub fn form(
        scratch: &'a dyn Scratch,
        limits: &'a Limits,
        form: &mut Form,
        recipe: &'a Columns,
    ) -> Result<Expansion> {
        let mut follower = Self::new(scratch, limits, recipe)?;
        let Form { content, texts } = form;
        follower.known_source(content, &Packing::of(texts), 0)?;
        Ok(follower.expansion)
    }

    fn new(scratch: &'a dyn Scratch, limits: &'a Limits, recipe: &'a Columns) -> io::Result<Self> {
        let expansion = Expansion::new(scratch, limits)?;
        let reader = BaseReader::new(&recipe.operations, &recipe.numbers);
        let (splitter, spares) = (Splitter::default(), Spares::new(scratch));
        Ok(Self { limits, splitter, spares, expansion, reader })
    }

    fn source(&mut self, inside: Inside) -> Result<()> {
        if inside.depth > DEPTH_MAX {
            return Err(corrupt("streams inside streams"));
        }
        let mut at = 0;
        while let Some((gap, part)) = self.reader.member(inside.bytes, at)? {
            let start = at + gap;
            self.expansion.add(&inside.bytes[at..start])?;
            at = self.member(inside, start, part)?;
        }
        self.expansion.add(&inside.bytes[at..])?;
        Ok(())
    }

    /// Expands a member and returns where it ends.
    fn member(&mut self, inside: Inside, start: usize, part: BasePart) -> Result<usize> {
        let here = &inside.bytes[start..];
        match part {
            BasePart::Closed(_) if inside.depth > 0 => Err(corrupt("a closed member inside a stream")),
            BasePart::Closed(len) => {
                let end = start.checked_add(len).filter(|&end| end <= inside.bytes.len());
                let end = end.ok_or(corrupt("a closed member beyond the base"))?;
                self.expansion.closed.push(start..end);
                Ok(end)
            }
            BasePart::Leaf => Ok(start + self.split(here)?.packed),
            BasePart::Nested => {
                let (text_start, mark) = (self.expansion.plain.len(), self.expansion.ledger.mark());
                let stream = self.split(here)?;
                self.expansion.ledger.rewind(mark);
                let mut content = self.spares.take()?;
                self.expansion.take_from(text_start, &mut content)?;
                self.source(Inside { bytes: content.bytes(), depth: inside.depth + 1 })?;
                self.spares.give(content);
                Ok(start + stream.packed)
            }
            BasePart::Chunked => {
                let chunks = png::chunks(here).ok_or(corrupt("a base without chunks"))?;
                let data = png::unframe(here, &chunks.0).ok_or(corrupt("a base without chunks"))?;
                self.source(Inside { bytes: &data, depth: inside.depth + 1 })?;
                Ok(start + chunks.1)
            }
        }
    }

    fn split(&mut self, packed: &[u8]) -> Result<Stream> {
        let Expansion { plain, ledger, left, .. } = &mut self.expansion;
        let max = self.limits.stream_max_bytes(packed.len()).min(*left);
        let stream = self.splitter.split(packed, max, plain, ledger)?;
        let stream = stream.ok_or(corrupt(NO_STREAM))?;
        *left -= stream.len as u64;
        Ok(stream)
    }
}

const NO_STREAM: &str = "a base without the stream, or one beyond the limits";

/// Members packed for a recipe to read on before all others are.
const GLIMPSES_MAX: usize = 3;

impl<'r> Follower<'r> {
    fn known_source(&mut self, content: &mut Content, from: &Packing, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(corrupt("streams inside streams"));
        }
        let mut at = 0;
        while let Some((gap, part)) = self.next_member(content, at, from)? {
            let start = at + gap;
            // All of it was there to be seen, or there would be no member.
            self.expansion.add(&content.bytes()[at..start])?;
            at = match self.take_over(content, start, part, from, depth)? {
                Some(end) => end,
                None => self.take_apart(content, start, part, from, depth)?,
            };
        }
        content.pack_from(at, from)?;
        self.expansion.add(&content.bytes()[at..])?;
        Ok(())
    }

    /// Reads the next member of the recipe; packs until what it is about is there to be seen.
    fn next_member(
        &mut self,
        content: &mut Content,
        at: usize,
        from: &Packing,
    ) -> Result<Option<(usize, BasePart)>> {
        for glimpse in 0.. {
            let end = content.packed_until(at);
            let bytes = &content.bytes()[..end];
            let all = end == content.bytes().len();
            let mut reader = self.reader.clone();
            if all || reader.is_settled(bytes, at) {
                let member = reader.member(bytes, at);
                if all || member.is_ok() {
                    self.reader = reader;
                    return member;
                }
            }
            match glimpse {
                0..GLIMPSES_MAX => content.pack_next(from)?,
                _ => content.pack_from(at, from)?,
            }
        }
        Ok(None)
    }

    /// Takes over what is open in the form and wanted open; `None` when it is not so.
    fn take_over(
        &mut self,
        content: &mut Content,
        start: usize,
        part: BasePart,
        from: &Packing,
        depth: usize,
    ) -> Result<Option<usize>> {
        let packed_max = content.bytes().len() - start;
        let Some(end) = content.end_of_known(start, part) else { return Ok(None) };
        if part == BasePart::Chunked && !ends_its_run(content, end, from)? {
            return Ok(None);
        }
        let Some(known) = content.known(start) else { return Ok(None) };
        match known {
            Known::Leaf(id) => self.take_stream(*id, packed_max, from)?,
            Known::Nested(id, inner) => {
                self.charge(from.stream(*id).0.len, packed_max)?;
                self.known_source(inner, from, depth + 1)?;
            }
            Known::Chunked(_, inner) => self.known_source(inner, from, depth + 1)?,
        }
        Ok(Some(end))
    }

    fn take_stream(&mut self, id: StreamId, packed_max: usize, from: &Packing) -> Result<()> {
        let (stream, ledger) = from.stream(id);
        self.charge(stream.len, packed_max)?;
        let start = self.expansion.plain.len();
        self.expansion.add(from.text(stream))?;
        self.expansion.ledger.take(ledger, stream, start)?;
        Ok(())
    }

    /// Counts a stream of `len` plain bytes as inflating it would have.
    fn charge(&mut self, len: usize, packed_max: usize) -> Result<()> {
        let max = self.limits.stream_max_bytes(packed_max).min(self.expansion.left);
        if len as u64 > max {
            return Err(corrupt(NO_STREAM));
        }
        self.expansion.left -= len as u64;
        Ok(())
    }

    /// Expands a member from its bytes and returns where it ends.
    fn take_apart(
        &mut self,
        content: &mut Content,
        start: usize,
        part: BasePart,
        from: &Packing,
        depth: usize,
    ) -> Result<usize> {
        match part {
            BasePart::Closed(size) => content.pack(start..start.saturating_add(size), from)?,
            BasePart::Chunked => content.pack_from(start, from)?,
            BasePart::Leaf | BasePart::Nested => {
                content.pack(start..start + 1, from)?;
                let end = content.packed_until(start);
                let mark = self.mark();
                match self.member(Inside { bytes: &content.bytes()[..end], depth }, start, part) {
                    Err(Error::Corrupt { .. }) => {}
                    done => return done,
                }
                // It may reach into what was not packed.
                self.rewind(mark);
                content.pack_from(start, from)?;
            }
        }
        self.member(Inside { bytes: content.bytes(), depth }, start, part)
    }

    fn mark(&self) -> Mark<'r> {
        let Expansion { plain, ledger, closed, left, .. } = &self.expansion;
        Mark {
            plain: plain.len(),
            ledger: ledger.mark(),
            closed: closed.len(),
            left: *left,
            reader: self.reader.clone(),
        }
    }

    fn rewind(&mut self, mark: Mark<'r>) {
        self.expansion.plain.truncate(mark.plain);
        self.expansion.ledger.rewind(mark.ledger);
        self.expansion.closed.truncate(mark.closed);
        self.expansion.left = mark.left;
        self.reader = mark.reader;
    }
}

/// Where a follower was.
struct Mark<'r> {
    plain: usize,
    ledger: ledger::Mark,
    closed: usize,
    left: u64,
    reader: BaseReader<'r>,
}

/// Says whether no further chunk of image data follows at `end`, which would belong to the same member.
fn ends_its_run(content: &mut Content, end: usize, from: &Packing) -> Result<bool> {
    content.pack(end..end.saturating_add(png::NAMED_BYTES), from)?;
    Ok(!png::is_image_data(&content.bytes()[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::container::form::{Piece, Texts};
    use crate::codec::container::recipe::BaseWriter;
    use crate::codec::deflate::ledger::Ledger;
    use crate::codec::scratch::{Memory, Spool};
    use crate::codec::tests::{deflated, text};

    const GAP: &[u8] = b"some bytes";

    /// A file with one stream between other bytes: packed, and as a form.
    fn file() -> (Vec<u8>, Form) {
        let packed = deflated(&text(7, 200), 3000);
        let (mut plain, mut ledger) =
            (Spool::new(&Memory).expect("memory"), Ledger::new(&Memory).expect("memory"));
        let split = Splitter::default().split(&packed, 1 << 20, &mut plain, &mut ledger).expect("memory");
        assert!(split.is_some());
        let mut content = Content::new(&Memory).expect("memory");
        content.add(GAP).expect("memory");
        let known = Known::Leaf(StreamId { ledger: 0, stream: 0 });
        content.push(Piece::Known(packed.len(), known)).expect("memory");
        content.add(GAP).expect("memory");
        let form = Form { content, texts: Texts { plain, ledgers: vec![ledger] } };
        ([GAP, &packed, GAP].concat(), form)
    }

    fn recipe(file: &[u8], part: BasePart) -> Columns {
        let mut writer = BaseWriter::default();
        writer.member(file, 0, GAP.len(), part);
        writer.end();
        writer.columns
    }

    #[test]
    fn a_stream_that_stays_open_is_taken_over_and_not_packed() {
        let (bytes, mut form) = file();
        let recipe = recipe(&bytes, BasePart::Leaf);
        let limits = Limits::default();
        let found = Follower::form(&Memory, &limits, &mut form, &recipe).expect("it lines up");
        let wanted = Follower::base(&Memory, &limits, &bytes, &recipe, 0).expect("it lines up");
        assert_eq!(found.plain.bytes(), wanted.plain.bytes());
        assert_eq!(format!("{:?}", found.ledger.streams), format!("{:?}", wanted.ledger.streams));
        assert_eq!(format!("{:?}", found.ledger.blocks), format!("{:?}", wanted.ledger.blocks));
        assert!(form.content.bytes()[GAP.len()..bytes.len() - GAP.len()].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_stream_that_is_to_be_closed_is_packed() {
        let (bytes, mut form) = file();
        let recipe = recipe(&bytes, BasePart::Closed(bytes.len() - 2 * GAP.len()));
        let found = Follower::form(&Memory, &Limits::default(), &mut form, &recipe).expect("it lines up");
        assert_eq!(form.content.bytes(), bytes);
        assert_eq!((found.plain.bytes(), found.closed.len()), (&[GAP, GAP].concat()[..], 1));
    }

    #[test]
    fn a_stream_that_is_no_member_for_the_next_link_is_packed() {
        let (bytes, mut form) = file();
        let mut writer = BaseWriter::default();
        writer.member(&bytes, 0, bytes.len() - 4, BasePart::Closed(4));
        writer.end();
        let found =
            Follower::form(&Memory, &Limits::default(), &mut form, &writer.columns).expect("it lines up");
        assert_eq!(found.plain.bytes(), &bytes[..bytes.len() - 4]);
    }

    #[test]
    fn a_stream_around_another_is_inflated_from_what_is_packed() {
        let (bytes, form) = file();
        let inner = &bytes[GAP.len()..bytes.len() - GAP.len()];
        let size = inner.len() as u16;
        let outer = [&[1][..], &size.to_le_bytes(), &(!size).to_le_bytes()].concat();
        let mut content = Content::new(&Memory).expect("memory");
        content.add(&outer).expect("memory");
        let known = Known::Leaf(StreamId { ledger: 0, stream: 0 });
        content.push(Piece::Known(inner.len(), known)).expect("memory");
        let mut form = Form { content, ..form };
        let mut writer = BaseWriter::default();
        writer.member(&[&outer, inner].concat(), 0, 0, BasePart::Leaf);
        writer.end();
        let found =
            Follower::form(&Memory, &Limits::default(), &mut form, &writer.columns).expect("a stream");
        assert_eq!(found.plain.bytes(), inner);
    }
}
