//! Bytes to bytes: packing a whole object, or its difference from a base, and back.
//!
//! This is the seam of the delta engine: `encode_whole`, `encode_delta`, `decode` and `decode_chain` are all that
//! the rest of the program knows of it. A payload says nothing of its codec; the copy's name does.
//!
//! ```text
//! delta      d1 payloads: containers opened, the rest of the pipeline below
//! container  where deflate streams are; deflate: their tokens; tokens: those predicted
//! flat       aligned bytes, predicted addresses, residue, numbers; zstd with the base as prefix
//! zstandard  zst payloads, for whole copies
//! ```
//!
//! What surprises: a whole copy may be a delta on nothing, when opening its containers pays.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use crate::model::CodecName;
use crate::model::limits::{CODEC_MEMORY_BESIDE_TABLE_BYTES, CODEC_MEMORY_BYTES};

mod bytes;
mod container;
mod deflate;
mod delta;
mod flat;
mod format;
pub mod header;
mod parallel;
mod scratch;
mod seal;
mod sketch;
#[cfg(test)]
mod tests;
mod tokens;
pub mod vcdiff;
mod wanted;
mod zstandard;

pub use header::Header;
pub use scratch::{Buffer, Memory, Scratch};
pub use sketch::sketch;

use delta::Passing;
use scratch::Spool;

/// How much time a smaller result is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// As fast as possible.
    Fast,
    /// Faster than a network, as small as that allows.
    #[default]
    Default,
    /// As small as possible.
    Max,
}

impl Effort {
    /// The words that name an effort.
    pub const NAMES: [(&'static str, Self); 3] =
        [("fast", Self::Fast), ("default", Self::Default), ("max", Self::Max)];

    /// Parses one of `NAMES`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, effort)| *effort)
    }
}

/// A payload that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// What decodes it.
    pub codec: CodecName,
    /// Bytes that decoding it will write.
    pub written_size: u64,
}

/// Called with the bytes handled since the last call, from any thread; its error ends the work.
pub type Watch<'a> = &'a (dyn Fn(u64) -> io::Result<()> + Sync);

/// What encoding and decoding work with.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// How much time a smaller result is worth.
    pub effort: Effort,
    /// Threads to use, at least one.
    pub threads: usize,
    /// Bytes that encoding may take beyond mapped files; less than 512 MiB is taken for that.
    pub memory: u64,
    /// Where bytes go that do not fit into memory.
    pub scratch: &'a dyn Scratch,
    /// Who is told of progress, and may end the work.
    pub watch: Watch<'a>,
}

impl Work<'_> {
    /// Bytes of the table of a base's strings: a finer table finds shorter matches in a large base.
    fn table_bytes_max(&self) -> usize {
        (self.memory.max(CODEC_MEMORY_BYTES) - CODEC_MEMORY_BESIDE_TABLE_BYTES) as usize
    }
}

/// What decoding or encoding can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The payload was made by a later version of this program.
    #[error("codec {codec} is not known to this version")]
    Unknown {
        /// The codec's name.
        codec: CodecName,
    },
    /// The payload or the header is not what it should be.
    #[error("{reason}")]
    Corrupt {
        /// What is wrong.
        reason: Cow<'static, str>,
    },
    /// Reading, writing or cancelling.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The outcome of a codec's work.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what a payload, or its base, does not hold to.
pub(crate) const fn corrupt(reason: &'static str) -> Error {
    Error::Corrupt { reason: Cow::Borrowed(reason) }
}

/// Packs a whole object of `size` bytes into `sink`.
///
/// Reads the target once, in buffers. Memory stays below 16 MiB at any size.
///
/// # Errors
/// `Io` with what reading, writing or watching said.
pub fn encode_whole(
    target: &mut dyn Read,
    size: u64,
    work: &Work<'_>,
    sink: &mut dyn Write,
) -> Result<Encoded> {
    zstandard::encode_whole(target, size, work, sink)?;
    Ok(Encoded { codec: CodecName::ZSTD, written_size: size })
}

/// Packs a whole object into `sink`, its deflate streams opened; `None` where there are none to open.
///
/// Slower to restore than `encode_whole`: 6 to 13 MB/s of the object.
///
/// # Errors
/// `Io` with what writing or watching said.
pub fn encode_whole_opened(target: &[u8], work: &Work<'_>, sink: &mut dyn Write) -> Result<Option<Encoded>> {
    if !delta::has_members(target) {
        return Ok(None);
    }
    encode_sealed(Pair { base: &[], target }, work, sink).map(Some)
}

/// The two roles in one delta.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// What the delta is decoded against.
    pub base: &'a [u8],
    /// The object.
    pub target: &'a [u8],
}

/// Packs the difference of an object from a base into `sink`.
///
/// Memory beyond the two and the scratch is bounded by a table of `work.memory` less 256 MiB, and about 80 MiB a
/// thread.
///
/// # Errors
/// `Io` with what writing or watching said.
pub fn encode_delta(pair: Pair<'_>, work: &Work<'_>, sink: &mut dyn Write) -> Result<Encoded> {
    let (base_size, size) = (pair.base.len() as u64, pair.target.len() as u64);
    if work.effort == Effort::Fast && zstandard::takes(base_size, size) && !delta::has_members(pair.target) {
        zstandard::encode_delta(pair, work, sink)?;
        return Ok(Encoded { codec: CodecName::ZSTD, written_size: size });
    }
    encode_sealed(pair, work, sink)
}

fn encode_sealed(pair: Pair<'_>, work: &Work<'_>, sink: &mut dyn Write) -> Result<Encoded> {
    let mut sealing = seal::Sealing::new(sink);
    let written_size = delta::encode(pair, work, &mut sealing)?.written_size;
    sealing.finish()?;
    Ok(Encoded { codec: CodecName::DELTA, written_size })
}

/// Unpacks a payload of an object of `size` bytes into `sink`; `base` is that of a delta.
///
/// Whatever the payload says, at most `size` bytes are written and memory is bounded by base and size. The
/// bytes are not proven to be the object's: whoever hands them on compares their oid.
///
/// # Errors
/// `Unknown` and `Corrupt` as they say; `Io` with what reading, writing or watching said.
pub fn decode(
    codec: CodecName,
    base: Option<&[u8]>,
    payload: &mut dyn Read,
    size: u64,
    work: &Work<'_>,
    sink: &mut dyn Write,
) -> Result<()> {
    let base = base.unwrap_or_default();
    match codec {
        CodecName::ZSTD => zstandard::decode(base, payload, size, work, sink),
        CodecName::DELTA => {
            let mut gathered = Spool::new(work.scratch)?;
            crate::disk::copy(payload, &mut gathered, &mut |_| (work.watch)(0))?;
            delta::decode(base, seal::open(gathered.bytes())?, size, work, sink)
        }
        codec => Err(Error::Unknown { codec }),
    }
}

/// One delta of a chain, or the whole copy at its end.
#[derive(Clone, Copy)]
pub struct Link<'a> {
    /// What the payload was made by.
    pub codec: CodecName,
    /// The whole payload.
    pub payload: &'a [u8],
    /// The size of the object.
    pub size: u64,
}

/// Unpacks the last object of a chain into `sink`: `links` are decoded one against the other, the first against
/// `base`.
///
/// The outcome is that of decoding link by link, but what lies between is not packed where the next link looks
/// inside it anyway. As with [`decode`], only the caller can prove the result; nothing is known of the objects
/// between. Memory beyond the scratch is that of one link.
///
/// # Errors
/// As [`decode`]; `Corrupt` for a chain without links.
pub fn decode_chain(
    base: Option<&[u8]>,
    links: &[Link<'_>],
    work: &Work<'_>,
    sink: &mut dyn Write,
) -> Result<()> {
    let links = links.iter().map(Link::unsealed).collect::<Result<Vec<_>>>()?;
    let Some((last, between)) = links.split_last() else { return Err(corrupt("a chain without links")) };
    // Each link takes about as long: whoever watches sees all of them pass.
    let count = links.len() as u64;
    let share = |done| (work.watch)(done / count);
    let work = &Work { watch: &share, ..*work };
    let mut object = Passing::Given(base.unwrap_or_default());
    for (link, next) in between.iter().zip(&links[1..]) {
        object = link.pass(object, next.opens_containers(), work)?;
    }
    last.finish(object, work, sink)
}

impl Link<'_> {
    fn unsealed(&self) -> Result<Self> {
        let is_sealed = self.codec == CodecName::DELTA;
        Ok(Self { payload: if is_sealed { seal::open(self.payload)? } else { self.payload }, ..*self })
    }

    fn opens_containers(&self) -> bool {
        self.codec == CodecName::DELTA && delta::opens_containers(self.payload)
    }

    /// Decodes it against `base`, packed unless the next link looks inside.
    fn pass(&self, base: Passing<'_>, looks_inside: bool, work: &Work<'_>) -> Result<Passing<'static>> {
        if looks_inside && self.opens_containers() {
            return Ok(Passing::Form(delta::pass(base, self.payload, self.size, work)?));
        }
        let mut spool = Spool::new(work.scratch)?;
        self.finish(base, work, &mut spool)?;
        Ok(Passing::Packed(spool))
    }

    fn finish(&self, mut base: Passing<'_>, work: &Work<'_>, sink: &mut dyn Write) -> Result<()> {
        if self.opens_containers() {
            return delta::finish(base, self.payload, self.size, work, sink);
        }
        if self.codec == CodecName::DELTA {
            return delta::decode(base.packed()?, self.payload, self.size, work, sink);
        }
        decode(self.codec, Some(base.packed()?), &mut &*self.payload, self.size, work, sink)
    }
}
