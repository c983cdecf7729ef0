//! Encodes a file against another, looking inside both, and decodes.
//!
//! The payload of codec `d1` (varints and sections as in `bytes`):
//!
//! ```text
//! version            1 byte: 1
//! shape              1 byte: 0 flat, 1 containers
//! flat               the flat stage's own format, to the end
//! containers
//!   target length      varint
//!   expanded lengths   varint (base), varint (target)
//!   base recipe        packed operations, packed numbers
//!   plain delta        section: the flat stage's own format
//!   target recipe      packed operations, packed numbers
//!   groups             varint; per group: number of units, section of coded tokens
//! ```
//!
//! Behind all of it stands the seal (`seal`). A unit is a member of the target that is not closed, with everything inside it.
//!
//! What surprises: a whole copy is a delta on nothing. Its streams are opened all the same, which
//! makes deflate containers 10 to 45 % smaller.

use std::io::Write;
use std::ops::Range;

use super::bytes::{Reader, put_packed, put_section, put_varint};
use super::container::expand::{Expansion, Opener, Placed};
use super::container::follow::Follower;
use super::container::form::{Content, Form, Packing, Piece, Texts};
use super::container::pairing::Pairing;
use super::container::rebuild::{Material, Recording};
use super::container::recipe::{Columns, Part, Source, TargetReader, TargetWriter};
use super::container::scan;
use super::deflate::ledger::Ledger;
use super::flat::{self, Alignment, Segment};
use super::format::VERSION;
use super::scratch::Spool;
use super::tokens::base::Reference;
use super::tokens::group::{Encoded, GroupDecoder, Job, encode as encode_group};
use super::tokens::plan::Care;
use super::tokens::stream::Text;
use super::{Effort, Error, Pair, Result, Work, corrupt, parallel};

const FLAT: u8 = 0;
const CONTAINERS: u8 = 1;
/// Version and shape.
const HEAD_BYTES: usize = 2;

/// What expanding may take. The decoder's limits must not be below the encoder's.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Plain bytes of all opened streams of one side.
    pub plain_max_bytes: u64,
    /// Plain bytes a stream may have per packed byte.
    pub ratio_max: u64,
    /// Bytes of a recipe.
    pub recipe_max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { plain_max_bytes: 8 << 30, ratio_max: 1040, recipe_max_bytes: 64 << 20 }
    }
}

impl Limits {
    /// Most plain bytes of a stream of at most `packed` bytes.
    pub fn stream_max_bytes(&self, packed: usize) -> u64 {
        (packed as u64).saturating_mul(self.ratio_max).saturating_add(1 << 16)
    }

    /// Most bytes of anything inside a stream of at most `packed` bytes.
    pub fn content_max_bytes(&self, packed: usize) -> usize {
        self.stream_max_bytes(packed).min(self.plain_max_bytes) as usize
    }
}

/// What an encoding wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes that decoding writes: the target, and the expanded forms of both sides. Within a chain they are
    /// no more: a target that is not packed still takes its place.
    pub written_size: u64,
}

/// A group of about so many plain bytes per file keeps eight threads busy without relearning much.
const GROUPS_WANTED: usize = 8;
const GROUP_BYTES_MIN: usize = 1 << 20;
const GROUP_BYTES_MAX: usize = 64 << 20;
/// How often streams are left closed and everything is done again before opening none.
const ATTEMPTS_MAX: usize = 3;
const RECIPE_LEVEL: i32 = 19;
/// How many times its size a file is believed to expand to, before it did.
const LIKELY_RATIO: usize = 8;

/// Writes a payload that rebuilds the target of `pair` from its base.
///
/// Streams whose tokens would take more than the stream itself stay closed. Nothing is proven here: whoever
/// stores the payload decodes it before.
///
/// # Errors
/// `Io` from the scratch memory, the sink or the watch.
pub fn encode(pair: Pair<'_>, work: &Work<'_>, out: &mut dyn Write) -> Result<Summary> {
    let mut pairing = Pairing::of(pair.base, pair.target, work.threads);
    if pairing.is_empty() {
        return encode_flat(pair, work, out);
    }
    let limits = Limits::default();
    let (base_side, base_recipe) =
        Opener::base(work.scratch, &limits, &pairing.of_base(), pair.base, &pairing.base)?;
    for attempt in 0..=ATTEMPTS_MAX {
        let members = if attempt < ATTEMPTS_MAX { &pairing.target[..] } else { &[] };
        let (target_side, source) =
            Opener::target(work.scratch, &limits, &pairing.of_target(), pair.target, members)?;
        let sides = Sides { base: &base_side, target: &target_side, file: pair.target };
        let mut plain_delta = Vec::new();
        let (base_plain, target_plain) = (base_side.plain.bytes(), target_side.plain.bytes());
        let segments = flat::encode(base_plain, target_plain, Alignment::Needed, work, &mut plain_delta)?;
        match sides.tokens(&segments, work)? {
            Ok(groups) => return sides.write((&base_recipe, &source), &plain_delta, &groups, out),
            Err(refused) => refused.iter().for_each(|&unit| pairing.shut(target_side.units[unit])),
        }
    }
    // Without members nothing is refused; were it so, the file is encoded as it is.
    encode_flat(pair, work, out)
}

/// Returns whether there is anything in a file to look into.
pub fn has_members(file: &[u8]) -> bool {
    !scan::file(file).is_empty()
}

fn encode_flat(pair: Pair<'_>, work: &Work<'_>, out: &mut dyn Write) -> Result<Summary> {
    out.write_all(&[VERSION, FLAT])?;
    flat::encode(pair.base, pair.target, Alignment::Unused, work, out)?;
    Ok(Summary { written_size: pair.target.len() as u64 })
}

/// Measured on ten corpora: of the time that a restore takes, trusting the base sooner saves a twentieth, and costs a
/// fiftieth of the delta.
fn care(effort: Effort) -> Care {
    match effort {
        Effort::Fast => Care { depth: 0, trust: 0 },
        Effort::Default => Care { depth: 2, trust: 1 },
        Effort::Max => Care { depth: 2, trust: 2 },
    }
}

/// A group's units and bytes.
struct Group {
    units: usize,
    bytes: Vec<u8>,
}

/// Both sides, expanded.
struct Sides<'a> {
    base: &'a Expansion,
    target: &'a Expansion,
    /// The target.
    file: &'a [u8],
}

impl Sides<'_> {
    /// Codes all tokens, or returns the units that should not have been opened.
    fn tokens(&self, segments: &[Segment], work: &Work<'_>) -> Result<Result<Vec<Group>, Vec<usize>>> {
        let leaves = self.base.leaves();
        let reference = Reference::new(self.base.plain.bytes(), &self.base.ledger, &leaves, segments);
        let ranges = self.groups();
        let encoded = parallel::map(work.threads, &ranges, |range| {
            let streams = &self.target.streams[range.clone()];
            let jobs: Vec<Job> = streams.iter().map(|placed| self.job(placed)).collect();
            encode_group(&reference, &jobs, care(work.effort), work.watch)
        });
        let mut groups = Vec::new();
        let mut refused = Vec::new();
        for (range, encoded) in ranges.iter().zip(encoded) {
            let streams = &self.target.streams[range.clone()];
            match encoded? {
                Encoded::Bytes(bytes) => groups.push(Group { units: units(streams), bytes }),
                Encoded::Refused(jobs) => refused.extend(jobs.iter().map(|&job| streams[job].unit)),
            }
        }
        Ok(if refused.is_empty() { Ok(groups) } else { Err(refused) })
    }

    fn job<'s>(&'s self, placed: &'s Placed) -> Job<'s> {
        let (plain, origin) = self.target.text(placed);
        let ledger = &self.target.ledger;
        Job { text: Text { plain, origin }, ledger, stream: &ledger.streams[placed.stream] }
    }

    /// Cuts the streams into groups of whole units.
    fn groups(&self) -> Vec<Range<usize>> {
        let streams = &self.target.streams;
        let len = |placed: &Placed| self.target.ledger.streams[placed.stream].len;
        let all: usize = streams.iter().map(len).sum();
        let wanted = (all / GROUPS_WANTED).clamp(GROUP_BYTES_MIN, GROUP_BYTES_MAX);
        let mut ranges = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (index, placed) in streams.iter().enumerate() {
            bytes += len(placed);
            let unit_ends = streams.get(index + 1).is_none_or(|next| next.unit != placed.unit);
            if unit_ends && (bytes >= wanted || index + 1 == streams.len()) {
                ranges.push(start..index + 1);
                (start, bytes) = (index + 1, 0);
            }
        }
        ranges
    }

    fn write(
        &self,
        (base_recipe, source): (&Columns, &Source),
        plain_delta: &[u8],
        groups: &[Group],
        out: &mut dyn Write,
    ) -> Result<Summary> {
        let mut writer = TargetWriter::new(self.target.plain.bytes());
        writer.source(source);
        let mut head = vec![VERSION, CONTAINERS];
        put_varint(&mut head, self.file.len() as u64);
        put_varint(&mut head, self.base.plain.len() as u64);
        put_varint(&mut head, self.target.plain.len() as u64);
        put_recipe(&mut head, base_recipe)?;
        put_section(&mut head, plain_delta);
        put_recipe(&mut head, &writer.columns)?;
        put_varint(&mut head, groups.len() as u64);
        for group in groups {
            put_varint(&mut head, group.units as u64);
            put_section(&mut head, &group.bytes);
        }
        out.write_all(&head)?;
        let written = self.file.len() + self.base.plain.len() + self.target.plain.len();
        Ok(Summary { written_size: written as u64 })
    }
}

/// Counts the units of a group, including those without a stream of their own before the first.
fn units(streams: &[Placed]) -> usize {
    let mut count = 0;
    let mut last = None;
    for placed in streams {
        count += usize::from(last != Some(placed.unit));
        last = Some(placed.unit);
    }
    count
}

fn put_recipe(out: &mut Vec<u8>, columns: &Columns) -> Result<()> {
    put_packed(out, &columns.operations, RECIPE_LEVEL)?;
    put_packed(out, &columns.numbers, RECIPE_LEVEL)
}

/// A delta, taken apart but not yet believed.
struct Parts<'a> {
    target_len: usize,
    base_plain_len: usize,
    plain_len: usize,
    base_recipe: Columns,
    plain_delta: &'a [u8],
    target_recipe: Columns,
    groups: Vec<(usize, &'a [u8])>,
}

fn read_recipe(reader: &mut Reader, limits: &Limits) -> Result<Columns> {
    let operations = reader.packed(limits.recipe_max_bytes)?;
    let numbers = reader.packed(limits.recipe_max_bytes)?;
    Ok(Columns { operations, numbers })
}

fn parse<'a>(mut reader: Reader<'a>, limits: &Limits) -> Result<Parts<'a>> {
    let (target_len, base_plain_len, plain_len) = (reader.size()?, reader.size()?, reader.size()?);
    let base_recipe = read_recipe(&mut reader, limits)?;
    let plain_delta = reader.section()?;
    let target_recipe = read_recipe(&mut reader, limits)?;
    let count = reader.size()?;
    let mut groups = Vec::new();
    for _ in 0..count {
        groups.push((reader.size()?, reader.section()?));
    }
    Ok(Parts { target_len, base_plain_len, plain_len, base_recipe, plain_delta, target_recipe, groups })
}

/// Decodes a payload of a target of `size` bytes against `base` into `out`.
///
/// Nothing beyond `size` bytes is written. That the result is the object that was encoded is
/// for the caller to check by its hash.
///
/// # Errors
/// `Corrupt` when the payload is not one of this base and size; `Io` from the scratch memory, the sink or the
/// watch.
pub fn decode(base: &[u8], payload: &[u8], size: u64, work: &Work<'_>, out: &mut dyn Write) -> Result<()> {
    let mut reader = Reader::new(payload);
    if reader.byte()? != VERSION {
        return Err(corrupt("the payload is of a later version of this program"));
    }
    match reader.byte()? {
        FLAT => flat::decode(base, reader.rest(), size, work, flat::Place::Writer(out)).map(drop),
        CONTAINERS => finish(Passing::Given(base), payload, size, work, out),
        _ => Err(corrupt("a payload of unknown shape")),
    }
}

/// Returns whether a payload is of the shape that a chain goes through without packing.
pub fn opens_containers(payload: &[u8]) -> bool {
    payload.starts_with(&[VERSION, CONTAINERS])
}

/// An object on its way through a chain.
pub enum Passing<'a> {
    /// All its bytes, somebody else's.
    Given(&'a [u8]),
    /// All its bytes.
    Packed(Spool),
    /// What it is made of.
    Form(Box<Form>),
}

impl Passing<'_> {
    /// Returns its bytes, zeros where they are not packed.
    fn at_hand(&self) -> &[u8] {
        match self {
            Self::Given(bytes) => bytes,
            Self::Packed(spool) => spool.bytes(),
            Self::Form(form) => form.content.bytes(),
        }
    }

    /// Returns its bytes.
    ///
    /// # Errors
    /// `Corrupt` when it has none.
    pub fn packed(&mut self) -> Result<&[u8]> {
        if let Self::Form(form) = self {
            let Form { content, texts } = &mut **form;
            content.pack_from(0, &Packing::of(texts))?;
        }
        Ok(self.at_hand())
    }
}

/// Decodes a payload that opens containers against an object on its way, without packing the target.
///
/// # Errors
/// As [`decode`].
pub fn pass(base: Passing<'_>, payload: &[u8], size: u64, work: &Work<'_>) -> Result<Box<Form>> {
    let (decoded, base) = Decoded::of(base, payload, size, work)?;
    let (content, ledgers) = decoded.rebuild(base.at_hand(), |target| target.form(&decoded.parts, work))?;
    Ok(Box::new(Form { content, texts: Texts { plain: decoded.text, ledgers } }))
}

/// Decodes a payload that opens containers against an object on its way into `out`.
///
/// # Errors
/// As [`decode`].
pub fn finish(
    base: Passing<'_>,
    payload: &[u8],
    size: u64,
    work: &Work<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let (decoded, base) = Decoded::of(base, payload, size, work)?;
    decoded.rebuild(base.at_hand(), |target| target.write(&decoded.parts, work, out))
}

/// A delta, decoded up to the target's expanded form.
struct Decoded<'a> {
    limits: Limits,
    parts: Parts<'a>,
    base_side: Expansion,
    text: Spool,
    segments: Vec<Segment>,
    source: Source,
}

impl<'a> Decoded<'a> {
    fn new(base_side: Expansion, parts: Parts<'a>, size: u64, work: &Work<'_>) -> Result<Self> {
        let limits = Limits::default();
        let plain_max = limits.plain_max_bytes.saturating_add(size);
        if parts.target_len as u64 != size || parts.plain_len as u64 > plain_max {
            return Err(corrupt("it is for other sizes"));
        }
        let base_plain = base_side.plain.bytes();
        if base_plain.len() != parts.base_plain_len {
            return Err(corrupt("a base that expands to another length"));
        }
        let mut text = Spool::new(work.scratch)?;
        // A length is only a claim: room for more than is likely comes with the bytes.
        text.reserve(parts.plain_len.min(base_plain.len().saturating_add(parts.target_len)))?;
        let place = flat::Place::Spool(&mut text);
        let segments = flat::decode(base_plain, parts.plain_delta, parts.plain_len as u64, work, place)?;
        let recipe = &parts.target_recipe;
        let source = TargetReader::new(text.bytes(), &recipe.operations, &recipe.numbers).source(0)?;
        if source.span() != parts.plain_len {
            return Err(corrupt("a recipe of another length"));
        }
        Ok(Self { limits, parts, base_side, text, segments, source })
    }

    /// Decodes against an object on its way; returns what of its bytes is still needed.
    fn of<'b>(
        base: Passing<'b>,
        payload: &'a [u8],
        size: u64,
        work: &Work<'_>,
    ) -> Result<(Self, Passing<'b>)> {
        let (limits, scratch) = (&Limits::default(), work.scratch);
        let parts = parse(Reader::new(payload.get(HEAD_BYTES..).unwrap_or(&[])), limits)?;
        let (base_side, base) = match base {
            Passing::Form(mut form) => {
                let side = Follower::form(scratch, limits, &mut form, &parts.base_recipe)?;
                (side, Passing::Packed(form.content.into_bytes()))
            }
            base => {
                // A length is only a claim: more than is likely is not taken at once.
                let file = base.at_hand();
                let hint = parts.base_plain_len.min(file.len().saturating_mul(LIKELY_RATIO));
                (Follower::base(scratch, limits, file, &parts.base_recipe, hint)?, base)
            }
        };
        Ok((Self::new(base_side, parts, size, work)?, base))
    }

    /// Hands what is needed to rebuild the target to `work`; `base` are the base's bytes, the closed ones at
    /// least.
    fn rebuild<T>(&self, base: &[u8], work: impl FnOnce(&Rebuilder<'_>) -> Result<T>) -> Result<T> {
        let base_side = &self.base_side;
        let leaves = base_side.leaves();
        let reference = Reference::new(base_side.plain.bytes(), &base_side.ledger, &leaves, &self.segments);
        let material = Material {
            plain: self.text.bytes(),
            closed: base_side.closed.iter().map(|range| base.get(range.clone()).unwrap_or(&[])).collect(),
            limits: &self.limits,
        };
        let target_len = self.parts.target_len;
        work(&Rebuilder { reference: &reference, material, source: &self.source, target_len })
    }
}

/// Writes the target.
struct Rebuilder<'a> {
    reference: &'a Reference<'a>,
    material: Material<'a>,
    source: &'a Source,
    target_len: usize,
}

/// A unit: its index among the source's members and where its text starts.
#[derive(Clone, Copy)]
struct Unit {
    member: usize,
    at: usize,
}

/// The units of a group, and their coded tokens.
struct Share<'a> {
    index: usize,
    units: &'a [Unit],
    bytes: &'a [u8],
}

/// A group's members up to the first that failed, and its streams where they are not packed.
struct Rebuilt {
    pieces: Vec<Result<Piece>>,
    ledger: Option<Ledger>,
}

impl Rebuilder<'_> {
    /// Writes the target's bytes.
    fn write(&self, parts: &Parts<'_>, work: &Work<'_>, out: &mut dyn Write) -> Result<()> {
        self.assemble(parts, work, Place::Bytes(out)).map(drop)
    }

    /// Puts the target together without packing its streams.
    fn form(&self, parts: &Parts<'_>, work: &Work<'_>) -> Result<(Content, Vec<Ledger>)> {
        let mut content = Content::new(work.scratch)?;
        content.reserve(parts.target_len)?;
        let ledgers = self.assemble(parts, work, Place::Form(&mut content))?;
        Ok((content, ledgers))
    }

    /// Puts the target together; returns the streams that are not packed.
    fn assemble(&self, parts: &Parts<'_>, work: &Work<'_>, place: Place<'_>) -> Result<Vec<Ledger>> {
        let units = self.units();
        let shares = assign(&units, &parts.groups)?;
        let packs = matches!(place, Place::Bytes(_));
        let mut sink = Sink { place, left: parts.target_len };
        let mut ledgers = Vec::new();
        let (mut next_member, mut at) = (0, 0);
        for batch in shares.chunks(work.threads.max(1)) {
            let rebuilt = parallel::map(work.threads, batch, |share| match packs {
                true => self.packed(share, work),
                false => self.recorded(share, work),
            });
            (work.watch)(0)?;
            for (share, rebuilt) in batch.iter().zip(rebuilt) {
                ledgers.extend(rebuilt.ledger);
                for (unit, piece) in share.units.iter().zip(rebuilt.pieces) {
                    self.until(&mut next_member, &mut at, unit.member, &mut sink)?;
                    at = self.gap(next_member, at, &mut sink)?;
                    sink.push(piece?)?;
                    at += self.source.members[next_member].part.span();
                    next_member += 1;
                }
            }
        }
        self.until(&mut next_member, &mut at, self.source.members.len(), &mut sink)?;
        sink.put(&self.material.plain[at..at + self.source.tail])?;
        if sink.left > 0 {
            return Err(corrupt("a target that ends early"));
        }
        Ok(ledgers)
    }

    fn units(&self) -> Vec<Unit> {
        let mut at = 0;
        let mut units = Vec::new();
        for (member, described) in self.source.members.iter().enumerate() {
            at += described.gap;
            if !matches!(described.part, Part::Closed(_)) {
                units.push(Unit { member, at });
            }
            at += described.part.span();
        }
        units
    }

    fn packed(&self, share: &Share<'_>, work: &Work<'_>) -> Rebuilt {
        let mut tokens = GroupDecoder::new(self.reference, share.bytes, work.watch);
        let member =
            |at, part: &Part| self.material.member(&mut tokens, at, part, self.target_len).map(Piece::Bytes);
        Rebuilt { pieces: self.pieces(share.units, member), ledger: None }
    }

    fn recorded(&self, share: &Share<'_>, work: &Work<'_>) -> Rebuilt {
        let scratch = work.scratch;
        let ledger = match Ledger::new(scratch) {
            Ok(ledger) => ledger,
            Err(error) => return Rebuilt { pieces: vec![Err(error.into())], ledger: None },
        };
        let tokens = GroupDecoder::new(self.reference, share.bytes, work.watch);
        let material = &self.material;
        let mut recording = Recording { material, tokens, index: share.index, ledger, scratch };
        let pieces = self.pieces(share.units, |at, part| recording.member(at, part, self.target_len));
        Rebuilt { pieces, ledger: Some(recording.ledger) }
    }

    fn pieces(
        &self,
        units: &[Unit],
        mut member: impl FnMut(usize, &Part) -> Result<Piece>,
    ) -> Vec<Result<Piece>> {
        let mut pieces = Vec::with_capacity(units.len());
        for unit in units {
            let piece = member(unit.at, &self.source.members[unit.member].part);
            let failed = piece.is_err();
            pieces.push(piece);
            if failed {
                break;
            }
        }
        pieces
    }

    /// Writes closed members and the bytes before them, up to member `end`.
    fn until(&self, next: &mut usize, at: &mut usize, end: usize, sink: &mut Sink) -> Result<()> {
        while *next < end {
            let Part::Closed(index) = self.source.members[*next].part else {
                return Err(corrupt("units without tokens"));
            };
            *at = self.gap(*next, *at, sink)?;
            sink.put(self.material.closed(index)?)?;
            *next += 1;
        }
        Ok(())
    }

    /// Writes the bytes before a member.
    fn gap(&self, member: usize, at: usize, sink: &mut Sink) -> Result<usize> {
        let end = at + self.source.members[member].gap;
        sink.put(&self.material.plain[at..end])?;
        Ok(end)
    }
}

/// Hands the units out to the groups in order.
fn assign<'a>(units: &'a [Unit], groups: &[(usize, &'a [u8])]) -> Result<Vec<Share<'a>>> {
    let mut rest = units;
    let mut shares = Vec::with_capacity(groups.len());
    for (index, &(count, bytes)) in groups.iter().enumerate() {
        let (units, later) = rest.split_at_checked(count).ok_or(corrupt("a group without units"))?;
        shares.push(Share { index, units, bytes });
        rest = later;
    }
    if rest.is_empty() { Ok(shares) } else { Err(corrupt("units without a group")) }
}

/// Where a target goes.
enum Place<'a> {
    Bytes(&'a mut dyn Write),
    Form(&'a mut Content),
}

/// A place that accepts no more than was declared.
struct Sink<'a> {
    place: Place<'a>,
    left: usize,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.take(bytes.len())?;
        match &mut self.place {
            Place::Bytes(out) => out.write_all(bytes),
            Place::Form(content) => content.add(bytes),
        }
        .map_err(Error::Io)
    }

    fn push(&mut self, piece: Piece) -> Result<()> {
        match (&mut self.place, piece) {
            (_, Piece::Bytes(bytes)) => self.put(&bytes),
            (Place::Bytes(_), Piece::Known(..)) => Err(corrupt("a stream that is not packed")),
            (Place::Form(_), Piece::Known(len, _)) if len > self.left => self.take(len),
            (Place::Form(content), Piece::Known(len, known)) => {
                content.push(Piece::Known(len, known))?;
                self.take(len)
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<()> {
        self.left = self.left.checked_sub(len).ok_or(corrupt("a target that is too long"))?;
        Ok(())
    }
}
