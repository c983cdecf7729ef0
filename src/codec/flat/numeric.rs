//! Arrays of numbers that all moved a little: differences of words, in byte planes.
//!
//! Retrained weights share nearly no byte string with the old ones, but the difference of two words
//! is small: its high bytes are zeros. Each plane (all first bytes, all second bytes, ...) is
//! compressed on its own.

use crate::codec::bytes::{Reader, put_section};
use crate::codec::{Result, corrupt};

/// Bytes that decide whether a block is worth it.
const SAMPLE: usize = 4096;
/// Words of these many bytes are tried.
const WIDTHS: [usize; 3] = [2, 4, 8];
/// Compression level of a plane: higher ones were not smaller.
const LEVEL: i32 = 3;
/// Equal bytes out of a sample that make a difference likely to pay.
const EQUAL_MIN: usize = SAMPLE / 8;
/// Differences must need less than this share of the plain bytes' bits.
const GAIN: f64 = 0.8;
/// What a wider word must bring over a narrower one.
const WIDER_GAIN: f64 = 0.95;

/// What coding a sample as differences would take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Bytes of a word.
    pub width: usize,
    /// Bits of the sample's differences.
    pub bits: f64,
    /// Bytes of the sample that differ.
    pub unequal: usize,
}

/// The word width whose differences are cheapest for a block, if any pays.
///
/// The slices have equal lengths; a sample from their middle decides.
pub fn probe(base: &[u8], target: &[u8]) -> Option<Estimate> {
    if target.len() < SAMPLE {
        return None;
    }
    let from = (target.len() - SAMPLE) / 2 / 8 * 8;
    let (base, target) = (&base[from..from + SAMPLE], &target[from..from + SAMPLE]);
    let equal = base.iter().zip(target).filter(|(old, new)| old == new).count();
    if equal < EQUAL_MIN {
        return None;
    }
    let cost = |width: &usize| -> f64 {
        planes(*width, base, target).iter().map(|plane| entropy(plane) * plane.len() as f64).sum()
    };
    let costs = WIDTHS.iter().map(|width| (*width, cost(width)));
    // Planes of wide words have few bytes each, which makes them look cheaper than they are.
    let narrower = |best: (usize, f64), other: (usize, f64)| {
        if other.1 < best.1 * WIDER_GAIN { other } else { best }
    };
    let (width, bits) = costs.reduce(narrower)?;
    let pays = bits < GAIN * entropy(target) * SAMPLE as f64;
    pays.then_some(Estimate { width, bits, unequal: SAMPLE - equal })
}

/// Bits per byte of an ideal code that knows only how often each byte occurs.
pub fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let total = bytes.len() as f64;
    let bits = |count: &u32| -f64::from(*count) * (f64::from(*count) / total).log2();
    counts.iter().filter(|count| **count > 0).map(bits).sum::<f64>() / total
}

/// Splits folded differences of `width`-byte words into planes; the rest of a word goes unchanged
/// into the first plane.
fn planes(width: usize, base: &[u8], target: &[u8]) -> Vec<Vec<u8>> {
    match width {
        2 => split::<2>(base, target),
        4 => split::<4>(base, target),
        _ => split::<8>(base, target),
    }
}

fn split<const WIDTH: usize>(base: &[u8], target: &[u8]) -> Vec<Vec<u8>> {
    let count = target.len() / WIDTH;
    let mut planes = vec![Vec::with_capacity(count + WIDTH); WIDTH];
    let pairs = base.as_chunks::<WIDTH>().0.iter().zip(target.as_chunks::<WIDTH>().0);
    for (old, new) in pairs {
        let folded = fold::<WIDTH>(word(new).wrapping_sub(word(old)));
        for (plane, byte) in planes.iter_mut().zip(folded.to_le_bytes()) {
            plane.push(byte);
        }
    }
    planes[0].extend_from_slice(&target[count * WIDTH..]);
    planes
}

#[inline]
fn word<const WIDTH: usize>(bytes: &[u8; WIDTH]) -> u64 {
    let mut whole = [0; 8];
    whole[..WIDTH].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

/// Folds the sign of a `WIDTH`-byte difference into its lowest bit.
#[inline]
fn fold<const WIDTH: usize>(difference: u64) -> u64 {
    let unused = 64 - 8 * WIDTH as u32;
    let signed = (difference << unused) as i64 >> unused;
    ((signed << 1) ^ (signed >> 63)) as u64
}

/// Appends the planes of a stretch.
pub fn put(out: &mut Vec<u8>, width: usize, base: &[u8], target: &[u8]) -> Result<()> {
    for plane in planes(width, base, target) {
        put_section(out, &zstd::bulk::compress(&plane, LEVEL)?);
    }
    Ok(())
}

/// Appends the target of `base.len()` bytes that planes of `width`-byte words describe.
pub fn get(reader: &mut Reader<'_>, width: usize, base: &[u8], out: &mut [u8]) -> Result<()> {
    match width {
        2 => join::<2>(reader, base, out),
        4 => join::<4>(reader, base, out),
        8 => join::<8>(reader, base, out),
        _ => Err(corrupt("words of unknown width")),
    }
}

fn join<const WIDTH: usize>(reader: &mut Reader<'_>, base: &[u8], out: &mut [u8]) -> Result<()> {
    let (count, rest) = (base.len() / WIDTH, base.len() % WIDTH);
    let mut planes = Vec::with_capacity(WIDTH);
    for plane in 0..WIDTH {
        let len = if plane == 0 { count + rest } else { count };
        planes.push(expand(reader.section()?, len)?);
    }
    let (words, tail) = out.as_chunks_mut::<WIDTH>();
    for (index, (old, new)) in base.as_chunks::<WIDTH>().0.iter().zip(words).enumerate() {
        let mut folded = [0u8; 8];
        for (byte, plane) in folded.iter_mut().zip(&planes) {
            *byte = plane[index];
        }
        let folded = u64::from_le_bytes(folded);
        let difference = (folded >> 1) ^ (folded & 1).wrapping_neg();
        new.copy_from_slice(&word(old).wrapping_add(difference).to_le_bytes()[..WIDTH]);
    }
    tail.copy_from_slice(&planes[0][count..]);
    Ok(())
}

/// Decompresses exactly `len` bytes.
pub fn expand(compressed: &[u8], len: usize) -> Result<Vec<u8>> {
    let bytes = zstd::bulk::decompress(compressed, len).unwrap_or_default();
    if bytes.len() == len { Ok(bytes) } else { Err(corrupt("a compressed part")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_of_every_width_and_length_come_back() {
        let base: Vec<u8> = (0..5003u32).map(|at| (at.wrapping_mul(2654435761) >> 13) as u8).collect();
        let target: Vec<u8> = base.iter().enumerate().map(|(at, byte)| byte ^ (at % 7) as u8).collect();
        for width in WIDTHS {
            for len in [0, 1, 7, 8, 9, 5003] {
                let (mut out, mut read) = (Vec::new(), vec![0; len]);
                put(&mut out, width, &base[..len], &target[..len]).expect("a sink in memory");
                get(&mut Reader::new(&out), width, &base[..len], &mut read).expect("undamaged");
                assert_eq!(read, target[..len]);
            }
        }
    }

    #[test]
    fn nudged_floats_are_recognised_and_text_is_not() {
        let floats = |nudge: f32| -> Vec<u8> {
            (0..4096).flat_map(|at| ((at as f32).sin() * (1.0 + nudge)).to_le_bytes()).collect()
        };
        let width = probe(&floats(0.0), &floats(1e-5)).map(|estimate| estimate.width);
        assert_eq!(width, Some(4));
        let text = b"the quick brown fox jumps over the lazy dog. ".repeat(200);
        assert_eq!(probe(&text[3..5000], &text[..4997]), None);
    }
}
