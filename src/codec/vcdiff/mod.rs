//! VCDIFF (RFC 3284) as xdelta3 speaks it: for stores that deltaglider and stock `xdelta3` share with us.
//!
//! The writer has a matcher of its own; its deltas are the same bytes every time, name nothing local, and stock
//! `xdelta3 -d` reads them. The reader takes all that xdelta3 3.0.11 writes by itself: LZMA, DJW or no secondary
//! compression, application headers, Adler-32.
//!
//! ```text
//! base, target ─► anchors ─┬─ much is left ───► matching ──────────────┬─► encode ─► secondary ─► delta
//!                          └─ little is left ─► alternatives, weighing ┘   windows     LZMA
//! ```
//!
//! `texts` has what all of these share, `seeds` where a stretch of the base is, `density` what LZMA could gain.
//! `header`, `instruction` and `varint` are the format itself, for the writer and for `decode`.
//!
//! What surprises: a delta of xdelta3 may be between *decompressed* bytes, and says so only in its application
//! header (`Info::external`). Decoding one against the compressed base fails at best.
//!
//! # Limitations
//! The writer copies from the first 2 GiB of a base only. Custom code tables, FGK compression and copies from
//! earlier target windows are refused: xdelta3 writes none of them by itself.

use std::io::{self, BufReader, Read, Write};

use super::{Effort, Result};

mod alternatives;
mod anchors;
mod decode;
mod density;
mod djw;
mod encode;
mod header;
mod instruction;
mod matching;
mod secondary;
mod seeds;
#[cfg(test)]
mod tests;
mod texts;
mod varint;
mod weighing;

pub use secondary::Secondary;

/// Window bit: copies come from the base.
const WINDOW_SOURCE: u8 = 1;
/// Window bit: copies come from the target before this window.
const WINDOW_TARGET: u8 = 2;
/// Window bit of xdelta3: an Adler-32 of the window stands behind the sections' sizes.
const WINDOW_ADLER: u8 = 4;

/// Writes a delta from `base` to `target` into `sink`.
///
/// The same bytes for the same input; no application header. Memory beside the inputs: a table of at most
/// 256 MiB, 24 bytes for each copy, what is not copied, and 12 bytes for each byte of the larger kind of section, up to 64 MiB of them.
/// `check` is called every few MiB; its error ends the work.
///
/// # Errors
/// `Io` with what writing or `check` said.
pub fn encode(
    base: &[u8],
    target: &[u8],
    effort: Effort,
    sink: &mut dyn Write,
    check: &dyn Fn() -> io::Result<()>,
) -> Result<()> {
    encode::encode(base, target, effort, sink, check)
}

/// Writes the target that `delta` makes of `base` into `sink` and returns its size in bytes.
///
/// At most `target_max` bytes are written, whatever the delta says. Memory stays below 500 MiB, half of it
/// only if the delta's LZMA asks for it. Checksums are verified where there are any; what is written before a
/// damaged window is found stays written.
///
/// # Errors
/// `Corrupt` when the delta is damaged, belongs to another base, makes more than `target_max` bytes, or needs
/// what is not supported; `Io` with what reading, writing or `check` said.
pub fn decode(
    base: &[u8],
    delta: &mut dyn Read,
    target_max: u64,
    sink: &mut dyn Write,
    check: &dyn Fn() -> io::Result<()>,
) -> Result<u64> {
    decode::Decoder::open(base, &mut BufReader::new(delta))?.run(target_max, sink, check)
}

/// Does the same, and refuses a window without a checksum: for deltas whose target's hash nobody knows.
///
/// # Errors
/// As `decode`.
pub fn decode_checked(
    base: &[u8],
    delta: &mut dyn Read,
    target_max: u64,
    sink: &mut dyn Write,
    check: &dyn Fn() -> io::Result<()>,
) -> Result<u64> {
    decode::Decoder::open(base, &mut BufReader::new(delta))?.checked().run(target_max, sink, check)
}

/// Returns whether bytes begin as VCDIFF does.
pub fn is_vcdiff(start: &[u8]) -> bool {
    start.starts_with(&header::MAGIC[..3])
}

/// A compression that xdelta3 undid by itself before it compared (without `-D`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum External {
    /// gzip, `G`.
    Gzip,
    /// bzip2, `B`.
    Bzip2,
    /// compress, `Z`.
    Compress,
    /// xz, `Y`.
    Xz,
}

/// What a delta says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// How its sections are compressed once more.
    pub secondary: Option<Secondary>,
    /// The application header as it stands there.
    pub app_header: Option<Vec<u8>>,
    /// What the delta makes is to be compressed with this to become the target.
    pub target_external: Option<External>,
    /// What is to be decompressed from the base before the delta applies.
    pub base_external: Option<External>,
}

impl Info {
    /// Returns whether the delta is between decompressed bytes on either side.
    pub const fn is_external(&self) -> bool {
        self.target_external.is_some() || self.base_external.is_some()
    }
}

/// Reads what a delta says of itself, up to the first window.
///
/// # Errors
/// `Corrupt` when it is no VCDIFF delta, or needs what is not supported; `Io` from the reader.
pub fn inspect(delta: &mut dyn Read) -> Result<Info> {
    let header = header::Header::read(delta)?;
    let [target_external, base_external] = externals(header.app_header.as_deref().unwrap_or_default());
    Ok(Info { secondary: header.secondary, app_header: header.app_header, target_external, base_external })
}

/// The compressions in an application header of xdelta3, `target/letter/source/letter`.
///
/// Names in it have lost their folders, but not always their slashes: what xdelta3 writes are two or four
/// fields, and an unlikely name yields no letter.
fn externals(app_header: &[u8]) -> [Option<External>; 2] {
    let fields: Vec<&[u8]> = app_header.split(|&byte| byte == b'/').collect();
    let letter = |at: usize| match *fields.get(at)? {
        b"G" => Some(External::Gzip),
        b"B" => Some(External::Bzip2),
        b"Z" => Some(External::Compress),
        b"Y" => Some(External::Xz),
        _ => None,
    };
    [letter(1), letter(3)]
}

/// An Adler-32.
type Checksum = u32;

/// Returns the Adler-32 of `bytes` (RFC 1950).
fn checksum(bytes: &[u8]) -> Checksum {
    const MODULUS: u32 = 65521;
    /// As many bytes as cannot overflow the sums.
    const CHUNK: usize = 5552;
    let (mut low, mut high) = (1u32, 0u32);
    for chunk in bytes.chunks(CHUNK) {
        for &byte in chunk {
            low += u32::from(byte);
            high += low;
        }
        low %= MODULUS;
        high %= MODULUS;
    }
    high << 16 | low
}
