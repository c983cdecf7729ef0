//! Long regions without a segment, cut into pieces that are each coded the way that suits them.
//!
//! Most are token pieces. Bytes that no model would shorten go to zstd or stay as they are, which
//! also keeps the slow coder away from them. Numbers that all moved a little become differences.

use super::coder::{Coder, Nibble, Number};
use super::matcher::{SEGMENT_MIN, Segment};
use super::numeric::{self, entropy};
use crate::codec::bytes::{Reader, put_section};
use crate::codec::{Result, corrupt};

/// Shorter regions are one token piece.
pub const PIECES_FROM: usize = 1024;
/// Bytes that are classified at a time.
const BLOCK: usize = 1 << 16;
const LEVEL: i32 = 3;

/// How a piece is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Literals and copies.
    Tokens,
    /// zstd, or as they are.
    Dense,
    /// Differences of words of this many bytes to the aligned base.
    Numbers(usize),
}

/// A stretch of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub kind: Kind,
    pub len: usize,
}

impl Kind {
    fn symbol(self) -> u8 {
        match self {
            Self::Tokens => 0,
            Self::Dense => 1,
            Self::Numbers(width) => 2 + width.trailing_zeros() as u8,
        }
    }

    fn from_symbol(symbol: u8) -> Result<Self> {
        match symbol {
            0 => Ok(Self::Tokens),
            1 => Ok(Self::Dense),
            3..=5 => Ok(Self::Numbers(1 << (symbol - 2))),
            _ => Err(corrupt("a piece of unknown kind")),
        }
    }
}

/// Cuts a region that begins at `at` of the target into pieces. `aligned` is the base behind the
/// preceding segment; blocks of more than `dense_bits` per byte are left to zstd.
pub fn classify(aligned: &[u8], region: &[u8], at: usize, dense_bits: f64) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    if region.len() < PIECES_FROM {
        return vec![Piece { kind: Kind::Tokens, len: region.len() }];
    }
    // Arrays begin at multiples of their words' size.
    let lead = at.wrapping_neg() % 8;
    if lead > 0 {
        pieces.push(Piece { kind: Kind::Tokens, len: lead });
    }
    for (index, block) in region[lead..].chunks(BLOCK).enumerate() {
        let from = lead + index * BLOCK;
        let kind = kind_of(aligned.get(from..from + block.len()), block, dense_bits);
        match pieces.last_mut() {
            Some(last) if last.kind == kind => last.len += block.len(),
            _ => pieces.push(Piece { kind, len: block.len() }),
        }
    }
    pieces
}

/// What a byte that differs is believed to cost in a segment.
const MISMATCH_BITS: f64 = 10.0;
/// Bytes of a sample that must differ: fewer follow a pattern that mismatches learn better.
const UNEQUAL_MIN: usize = SAMPLE * 3 / 10;
/// Differences must need less than this share of the mismatches' bits.
const ARRAY_GAIN: f64 = 0.8;
const SAMPLE: usize = 4096;

/// Takes arrays of nudged numbers out of the segments that copy them with many mismatches.
///
/// The begin of a segment stays, so that the alignment is known when the array comes.
pub fn carve(segments: &[Segment], base: &[u8], target: &[u8]) -> Vec<Segment> {
    let mut carved = Vec::with_capacity(segments.len());
    for segment in segments {
        if segment.len < 2 * BLOCK {
            carved.push(*segment);
            continue;
        }
        carve_segment(segment, base, target, &mut carved);
    }
    carved
}

fn carve_segment(segment: &Segment, base: &[u8], target: &[u8], carved: &mut Vec<Segment>) {
    let end = segment.target_end();
    let mut kept = segment.target;
    let mut keep = |from: usize, to: usize| {
        if from + SEGMENT_MIN <= to {
            let base = segment.base + (from - segment.target);
            carved.push(Segment { target: from, base, len: to - from });
        }
    };
    let mut at = (kept + SEGMENT_MIN).next_multiple_of(8);
    while at + SAMPLE <= end {
        let len = BLOCK.min(end - at);
        let base_at = segment.base + (at - segment.target);
        if is_array(&base[base_at..base_at + len], &target[at..at + len]) {
            keep(kept, at);
            kept = at + len;
        }
        at += len;
    }
    keep(kept, end);
}

fn is_array(base: &[u8], target: &[u8]) -> bool {
    let is_cheaper = |it: numeric::Estimate| {
        it.unequal > UNEQUAL_MIN && it.bits < ARRAY_GAIN * MISMATCH_BITS * it.unequal as f64
    };
    numeric::probe(base, target).is_some_and(is_cheaper)
}

fn kind_of(aligned: Option<&[u8]>, block: &[u8], dense_bits: f64) -> Kind {
    if let Some(estimate) = aligned.and_then(|base| numeric::probe(base, block)) {
        return Kind::Numbers(estimate.width);
    }
    if entropy(block) > dense_bits { Kind::Dense } else { Kind::Tokens }
}

/// The models of a region's pieces.
#[derive(Debug, Default)]
pub struct PieceModel {
    kind: Nibble,
    len: Number,
}

impl PieceModel {
    /// Codes one piece of a region of which `left` bytes are left.
    pub fn code<C: Coder>(&mut self, coder: &mut C, piece: Piece, left: usize) -> Result<Piece> {
        let symbol = coder.nibble(&mut self.kind, piece.kind.symbol());
        let kind = Kind::from_symbol(symbol)?;
        // Zero stands for the rest of the region, the most frequent length.
        let len = self.len.code(coder, if piece.len == left { 0 } else { piece.len as u64 });
        let len = if len == 0 { left as u64 } else { len };
        if len > left as u64 {
            return Err(corrupt("a piece exceeds its region"));
        }
        Ok(Piece { kind, len: len as usize })
    }
}

/// The bytes of pieces that are not coded symbol by symbol.
#[derive(Debug)]
pub enum Bulk<'a> {
    /// Written so far.
    Put(Vec<u8>),
    /// Still to be read.
    Get(Reader<'a>),
}

impl Bulk<'_> {
    /// Writes `bytes` and copies them to `out`, or reads what fills `out`.
    pub fn dense(&mut self, bytes: &[u8], out: &mut [u8]) -> Result<()> {
        match self {
            Self::Put(written) => {
                let compressed = zstd::bulk::compress(bytes, LEVEL)?;
                let smaller = if compressed.len() < bytes.len() { &compressed[..] } else { bytes };
                put_section(written, smaller);
                out.copy_from_slice(bytes);
            }
            Self::Get(reader) => {
                let section = reader.section()?;
                if section.len() == out.len() {
                    out.copy_from_slice(section);
                } else {
                    out.copy_from_slice(&numeric::expand(section, out.len())?);
                }
            }
        }
        Ok(())
    }

    /// Writes the differences of `target` to `base` and copies it to `out`, or reads what fills `out`; all have
    /// one length.
    pub fn numbers(&mut self, width: usize, base: &[u8], target: &[u8], out: &mut [u8]) -> Result<()> {
        match self {
            Self::Put(written) => {
                numeric::put(written, width, base, target)?;
                out.copy_from_slice(target);
                Ok(())
            }
            Self::Get(reader) => numeric::get(reader, width, base, out),
        }
    }
}
