//! Bytes to bytes: packing a whole object, or its difference from a base, and back.
//!
//! This is the seam of the delta engine: `encode_whole`, `encode_delta` and `decode` are all that the rest of
//! the program knows of it. A payload says nothing of its codec; the copy's name does.
//!
//! What surprises: a codec may decline a pair (`None`). Then the object is stored some other way; the push
//! goes on.

use std::io::{self, Read, Write};

use crate::model::CodecName;

pub mod header;
mod zstandard;

pub use header::Header;

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

/// A payload that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// What decodes it.
    pub codec: CodecName,
    /// Bytes that decoding it will write.
    pub written_size: u64,
}

/// Called with the bytes handled since the last call; its error ends the work.
pub type Watch<'a> = &'a mut dyn FnMut(u64) -> io::Result<()>;

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
        reason: String,
    },
    /// Reading, writing or cancelling.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The outcome of a codec's work.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Packs a whole object of `size` bytes into `sink`.
///
/// Reads the target once, in buffers. Memory stays below 16 MiB at any size.
///
/// # Errors
/// `Io` with what reading, writing or watching said.
pub fn encode_whole(
    target: &mut dyn Read,
    size: u64,
    effort: Effort,
    sink: &mut dyn Write,
    watch: Watch<'_>,
) -> Result<Encoded> {
    zstandard::encode_whole(target, size, effort, sink, watch)?;
    Ok(Encoded { codec: CodecName::ZSTD, written_size: size })
}

/// The two roles in one delta.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// What the delta is decoded against.
    pub base: &'a [u8],
    /// The object.
    pub target: &'a [u8],
}

/// Returns whether a codec makes deltas of such sizes: base and target together below 2 GiB.
pub const fn takes_pair(base_size: u64, target_size: u64) -> bool {
    zstandard::takes(base_size, target_size)
}

/// Packs the difference of an object from a base into `sink`.
///
/// `None` when no codec takes the pair (`takes_pair`). Memory stays below 6 × the larger of both.
///
/// # Errors
/// `Io` with what writing or watching said.
pub fn encode_delta(
    pair: Pair<'_>,
    effort: Effort,
    sink: &mut dyn Write,
    watch: Watch<'_>,
) -> Result<Option<Encoded>> {
    if !takes_pair(pair.base.len() as u64, pair.target.len() as u64) {
        return Ok(None);
    }
    zstandard::encode_delta(pair, effort, sink, watch)?;
    Ok(Some(Encoded { codec: CodecName::ZSTD, written_size: pair.target.len() as u64 }))
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
    sink: &mut dyn Write,
    watch: Watch<'_>,
) -> Result<()> {
    match codec {
        CodecName::ZSTD => zstandard::decode(base.unwrap_or_default(), payload, size, sink, watch),
        codec => Err(Error::Unknown { codec }),
    }
}
