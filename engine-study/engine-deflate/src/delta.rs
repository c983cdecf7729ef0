//! Encodes a file against another, looking inside both, and decodes.
//!
//! The delta, version 1 (numbers and sections as in [`crate::wire`]):
//!
//! ```text
//! version            1 byte
//! target length      number
//! expanded lengths   number (base), number (target)
//! base recipe        packed operations, packed numbers
//! plain delta        section: the plain stage's own format
//! target recipe      packed operations, packed numbers
//! groups             number; per group: number of units, section of coded tokens
//! ```
//!
//! A unit is a member of the target that is not closed, with everything inside it.

use std::io::{self, Write};
use std::ops::Range;

use crate::container::expand::{Expansion, Follower, Opener, Placed};
use crate::container::pairing::Pairing;
use crate::container::rebuild::Material;
use crate::container::recipe::{Columns, Part, Source, TargetReader, TargetWriter};
use crate::error::{Error, Result, corrupt};
use crate::format::VERSION;
use crate::plain::{Plain, Segment, are_sound};
use crate::scratch::{Scratch, Spool};
use crate::tokens::base::Reference;
use crate::tokens::group::{Encoded, GroupDecoder, Job, encode as encode_group};
use crate::tokens::plan::Care;
use crate::tokens::stream::Text;
use crate::wire::{Reader, put_number, put_packed, put_section};

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
}

/// How to encode.
#[derive(Clone, Debug)]
pub struct Options {
    /// What expanding may take.
    pub limits: Limits,
    /// How much work predicting may be.
    pub care: Care,
    /// Threads that code tokens; more than one need memory for a group each.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), care: Care { depth: 2, trust: 2 }, threads: 1 }
    }
}

/// What became of an encode.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Streams opened on the target's side.
    pub opened: usize,
    /// Members left closed on the target's side.
    pub closed: usize,
    /// Bytes of the expanded forms.
    pub plain_base_bytes: usize,
    /// See [`Self::plain_base_bytes`].
    pub plain_target_bytes: usize,
    /// Bytes of the delta's parts.
    pub recipe_bytes: usize,
    /// See [`Self::recipe_bytes`].
    pub plain_delta_bytes: usize,
    /// See [`Self::recipe_bytes`].
    pub token_bytes: usize,
}

/// A group of about so many plain bytes per file keeps eight threads busy without relearning much.
const GROUPS_WANTED: usize = 8;
const GROUP_BYTES_MIN: usize = 1 << 20;
const GROUP_BYTES_MAX: usize = 64 << 20;
/// How often streams are left closed and everything is done again before opening none.
const ATTEMPTS_MAX: usize = 3;
const RECIPE_LEVEL: i32 = 19;

/// Encodes `target` against `base`, appending to `out`.
///
/// Every opened stream was decoded again and compared. Streams that do not come back, or whose
/// tokens would take more than the stream itself, stay closed.
///
/// # Errors
/// `Io` from the scratch memory; errors of the plain stage.
pub fn encode(
    base: &[u8],
    target: &[u8],
    options: &Options,
    plain: &dyn Plain,
    scratch: &dyn Scratch,
    out: &mut Vec<u8>,
) -> Result<Summary> {
    let mut pairing = Pairing::of(base, target);
    let limits = &options.limits;
    let (base_side, base_recipe) = Opener::base(scratch, limits, &pairing.of_base(), base, &pairing.base)?;
    for attempt in 0.. {
        let members = if attempt < ATTEMPTS_MAX { &pairing.target[..] } else { &[] };
        let (target_side, source) = Opener::target(scratch, limits, &pairing.of_target(), target, members)?;
        let sides = Sides { base: &base_side, target: &target_side, file: target };
        let mut plain_delta = Vec::new();
        let segments = plain.encode(base_side.plain.bytes(), target_side.plain.bytes(), &mut plain_delta)?;
        match sides.tokens(&segments, options) {
            Ok(groups) => {
                return sides.write((&base_recipe, &source), &plain_delta, &groups, out);
            }
            Err(refused) => {
                refused.iter().for_each(|&unit| pairing.shut(target_side.units[unit]));
            }
        }
    }
    unreachable!("without members nothing is refused")
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
    fn tokens(&self, segments: &[Segment], options: &Options) -> std::result::Result<Vec<Group>, Vec<usize>> {
        let leaves = self.base.leaves();
        let reference = Reference::new(self.base.plain.bytes(), &self.base.ledger, &leaves, segments);
        let ranges = self.groups();
        let encoded = in_parallel(options.threads, &ranges, |range| {
            let streams = &self.target.streams[range.clone()];
            let jobs: Vec<Job> = streams.iter().map(|placed| self.job(placed)).collect();
            encode_group(&reference, &jobs, options.care)
        });
        let mut groups = Vec::new();
        let mut refused = Vec::new();
        for (range, encoded) in ranges.iter().zip(encoded) {
            let streams = &self.target.streams[range.clone()];
            match encoded {
                Encoded::Bytes(bytes) => groups.push(Group { units: units(streams), bytes }),
                Encoded::Refused(jobs) => refused.extend(jobs.iter().map(|&job| streams[job].unit)),
            }
        }
        if refused.is_empty() { Ok(groups) } else { Err(refused) }
    }

    fn job<'s>(&'s self, placed: &'s Placed) -> Job<'s> {
        let (plain, origin) = self.target.text(placed);
        Job {
            text: Text { plain, origin },
            ledger: &self.target.ledger,
            stream: &self.target.ledger.streams[placed.stream],
            packed: self.target.packed(placed, self.file),
        }
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
        out: &mut Vec<u8>,
    ) -> Result<Summary> {
        let mut writer = TargetWriter::new(self.target.plain.bytes());
        writer.source(source);
        let start = out.len();
        out.push(VERSION);
        put_number(out, self.file.len() as u64);
        put_number(out, self.base.plain.len() as u64);
        put_number(out, self.target.plain.len() as u64);
        put_recipe(out, base_recipe)?;
        put_section(out, plain_delta);
        put_recipe(out, &writer.columns)?;
        let recipe_bytes = out.len() - start - plain_delta.len();
        put_number(out, groups.len() as u64);
        for group in groups {
            put_number(out, group.units as u64);
            put_section(out, &group.bytes);
        }
        Ok(Summary {
            opened: self.target.streams.len(),
            closed: source.members.iter().filter(|m| matches!(m.part, Part::Closed(_))).count(),
            plain_base_bytes: self.base.plain.len(),
            plain_target_bytes: self.target.plain.len(),
            recipe_bytes,
            plain_delta_bytes: plain_delta.len(),
            token_bytes: out.len() - start - plain_delta.len() - recipe_bytes,
        })
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

/// Runs `work` over `items` on so many threads and returns the results in order.
fn in_parallel<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((index, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, items.get(index)?)))
        {
            done.push((index, work(item)));
        }
        done
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(items.len())).map(|_| scope.spawn(take)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("workers do not panic")).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
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

fn parse<'a>(delta: &'a [u8], limits: &Limits) -> Result<Parts<'a>> {
    let mut reader = Reader::new(delta);
    match reader.byte()? {
        VERSION => {}
        other => return Err(Error::Version(other)),
    }
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

/// Decodes `delta` against `base` into `out` and returns the target's length.
///
/// Nothing beyond `target_max` bytes is written. That the result is the object that was encoded is
/// for the caller to check by its hash.
///
/// # Errors
/// `Corrupt`, `Version`, `TooLarge`; `Io` from the scratch memory or the sink.
pub fn decode(
    base: &[u8],
    delta: &[u8],
    target_max: u64,
    options: &Options,
    plain: &dyn Plain,
    scratch: &dyn Scratch,
    out: &mut dyn Write,
) -> Result<u64> {
    let limits = &options.limits;
    let parts = parse(delta, limits)?;
    let plain_max = limits.plain_max_bytes.saturating_add(target_max);
    if parts.target_len as u64 > target_max || parts.plain_len as u64 > plain_max {
        return Err(Error::TooLarge("the target"));
    }
    let base_side = Follower::base(scratch, limits, base, &parts.base_recipe)?;
    let base_plain = base_side.plain.bytes();
    if base_plain.len() != parts.base_plain_len {
        return Err(corrupt("a base that expands to another length"));
    }
    let mut text = Spool::new(scratch)?;
    text.reserve(parts.plain_len)?;
    text.advance(parts.plain_len);
    let room = &mut text.room()[..parts.plain_len];
    let segments = plain.decode(base_plain, parts.plain_delta, room)?;
    if !are_sound(&segments, base_plain.len(), parts.plain_len) {
        return Err(corrupt("an alignment beyond its sides"));
    }
    let recipe = &parts.target_recipe;
    let source = TargetReader::new(text.bytes(), &recipe.operations, &recipe.numbers).source(0)?;
    if source.span() != parts.plain_len {
        return Err(corrupt("a recipe of another length"));
    }
    let leaves = base_side.leaves();
    let reference = Reference::new(base_plain, &base_side.ledger, &leaves, &segments);
    let material = Material {
        plain: text.bytes(),
        closed: base_side.closed.iter().map(|place| base_side.at(place, base)).collect(),
        member_max: parts.target_len,
    };
    let rebuilder = Rebuilder { reference: &reference, material, source: &source };
    rebuilder.write(&parts, options.threads, out)
}

/// Writes the target.
struct Rebuilder<'a> {
    reference: &'a Reference<'a>,
    material: Material<'a>,
    source: &'a Source,
}

/// A unit: its index among the source's members and where its text starts.
#[derive(Clone, Copy)]
struct Unit {
    member: usize,
    at: usize,
}

impl Rebuilder<'_> {
    fn write(&self, parts: &Parts, threads: usize, out: &mut dyn Write) -> Result<u64> {
        let units = self.units();
        let groups = assign(&units, &parts.groups)?;
        let mut sink = Sink { out, left: parts.target_len };
        let (mut next_member, mut at) = (0, 0);
        for batch in groups.chunks(threads.max(1)) {
            let rebuilt = in_parallel(threads, batch, |(units, bytes)| self.group(units, bytes));
            for (unit, packed) in batch.iter().flat_map(|(units, _)| *units).zip(flat(rebuilt)) {
                self.until(&mut next_member, &mut at, unit.member, &mut sink)?;
                at = self.gap(next_member, at, &mut sink)?;
                sink.put(&packed?)?;
                at += self.source.members[next_member].part.span();
                next_member += 1;
            }
        }
        self.until(&mut next_member, &mut at, self.source.members.len(), &mut sink)?;
        sink.put(&self.material.plain[at..at + self.source.tail])?;
        if sink.left > 0 {
            return Err(corrupt("a target that ends early"));
        }
        Ok(parts.target_len as u64)
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

    fn group(&self, units: &[Unit], bytes: &[u8]) -> Vec<Result<Vec<u8>>> {
        let mut tokens = GroupDecoder::new(self.reference, bytes);
        let mut rebuilt = Vec::with_capacity(units.len());
        for unit in units {
            let part = &self.source.members[unit.member].part;
            let packed = self.material.member(&mut tokens, unit.at, part);
            let failed = packed.is_err();
            rebuilt.push(packed);
            if failed {
                break;
            }
        }
        rebuilt
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

fn flat(groups: Vec<Vec<Result<Vec<u8>>>>) -> impl Iterator<Item = Result<Vec<u8>>> {
    groups.into_iter().flatten()
}

/// Hands the units out to the groups in order.
fn assign<'u, 'd>(units: &'u [Unit], groups: &[(usize, &'d [u8])]) -> Result<Vec<(&'u [Unit], &'d [u8])>> {
    let mut rest = units;
    let mut assigned = Vec::with_capacity(groups.len());
    for &(count, bytes) in groups {
        let (now, later) = rest.split_at_checked(count).ok_or(corrupt("a group without units"))?;
        assigned.push((now, bytes));
        rest = later;
    }
    if rest.is_empty() { Ok(assigned) } else { Err(corrupt("units without a group")) }
}

/// A writer that accepts no more than was declared.
struct Sink<'a> {
    out: &'a mut dyn Write,
    left: usize,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(corrupt("a target that is too long"))?;
        self.out.write_all(bytes).map_err(|error: io::Error| Error::Io(error))
    }
}
