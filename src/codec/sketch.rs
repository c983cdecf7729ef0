//! What an object looks like, in 52 bytes: enough to choose among bases without encoding against each.
//!
//! A rolling hash over 64 bytes picks about one place in 128, by content alone, so that features survive whatever
//! is inserted before them. What surprises: they are those of the *expanded* form. Two archives of the same tree have
//! next to nothing in common as bytes.

use super::container::expand::Opener;
use super::container::pairing::Pairing;
use super::delta::Limits;
use super::{Result, Work};
use crate::model::limits::SKETCHED_MAX_BYTES;
use crate::model::sketch::{SKETCH_BUCKETS, Sketch};

/// Bits of the rolling hash that must be zero at a feature.
const SAMPLING_BITS: u32 = 7;

/// Bytes between two looks at the cancellation.
const STEP_BYTES: usize = 1 << 20;

/// A random number for each byte.
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[index] = mix(index as u64 + 1);
        index += 1;
    }
    table
}

/// The finalizer of splitmix64. Sketches are kept in names: it must never change.
const fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Sketches an object of `size` bytes by its first ones, deflate streams opened: 1 GB/s, and what inflating takes.
///
/// Only `SKETCHED_MAX_BYTES` of what is given count, and of what they expand to eight times as much: versions of an
/// object are alike there, too, and whoever stores gigabytes need not read them once more.
///
/// # Errors
/// `Io` with what the scratch memory or the watch said.
pub fn sketch(file: &[u8], size: u64, work: &Work<'_>) -> Result<Sketch> {
    let file = &file[..file.len().min(SKETCHED_MAX_BYTES as usize)];
    let pairing = Pairing::of(&[], file, 1);
    if pairing.is_empty() {
        return of_bytes(file, size, work);
    }
    let limits = Limits { plain_max_bytes: 8 * SKETCHED_MAX_BYTES, ..Limits::default() };
    let (expansion, _) = Opener::target(work.scratch, &limits, &pairing.of_target(), file, &pairing.target)?;
    of_bytes(expansion.plain.bytes(), size, work)
}

fn of_bytes(bytes: &[u8], size: u64, work: &Work<'_>) -> Result<Sketch> {
    let mut smallest: [Option<u32>; SKETCH_BUCKETS] = [None; SKETCH_BUCKETS];
    let mut rolling = 0_u64;
    for step in bytes.chunks(STEP_BYTES) {
        for &byte in step {
            rolling = (rolling << 1).wrapping_add(GEAR[usize::from(byte)]);
            if rolling >> (64 - SAMPLING_BITS) == 0 {
                add(&mut smallest, mix(rolling));
            }
        }
        (work.watch)(0)?;
    }
    Ok(Sketch::new(&smallest, size))
}

fn add(smallest: &mut [Option<u32>; SKETCH_BUCKETS], feature: u64) {
    let bucket = &mut smallest[(feature >> 32) as usize % SKETCH_BUCKETS];
    let hash = feature as u32;
    *bucket = Some(bucket.map_or(hash, |least| least.min(hash)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{gzip, text};
    use crate::codec::{Effort, Memory};

    fn of(bytes: &[u8]) -> Sketch {
        let work =
            Work { effort: Effort::Default, threads: 1, memory: 0, scratch: &Memory, watch: &|_| Ok(()) };
        sketch(bytes, bytes.len() as u64, &work).expect("a sketch")
    }

    fn noise(seed: u64, size: usize) -> Vec<u8> {
        (0..size as u64 / 8).flat_map(|index| mix(seed << 32 | index).to_le_bytes()).collect()
    }

    #[test]
    fn a_sketch_never_changes_because_stores_hold_it() {
        let print = crate::model::Oid::of(of(&noise(1, 100_000)).to_string().as_bytes());
        assert_eq!(print.to_string(), "961610c4bc18e40c12fa87372e511c4ad2416d5d876d13efe65a9bc63a053ddd");
    }

    #[test]
    fn what_lies_behind_the_first_64_mib_does_not_count() {
        let work =
            Work { effort: Effort::Default, threads: 1, memory: 0, scratch: &Memory, watch: &|_| Ok(()) };
        let (limit, noise) = (SKETCHED_MAX_BYTES as usize, noise(1, 100_000));
        let mut bytes = vec![0; limit + noise.len()];
        let size = bytes.len() as u64;
        let of_zeros = sketch(&bytes, size, &work).expect("a sketch");
        bytes[limit..].copy_from_slice(&noise);
        assert_eq!(sketch(&bytes, size, &work).expect("a sketch"), of_zeros);
        bytes[limit - noise.len()..limit].copy_from_slice(&noise);
        assert_ne!(sketch(&bytes, size, &work).expect("a sketch"), of_zeros);
    }

    #[test]
    fn an_insertion_in_front_and_a_few_edits_leave_a_likeness() {
        let first = noise(1, 200_000);
        let mut second = [&noise(2, 777)[..], &first].concat();
        for at in (0..second.len()).step_by(20_000) {
            second[at] ^= 1;
        }
        let likeness = of(&first).likeness(&of(&second));
        assert!(likeness > 70, "{likeness} %");
        assert_eq!(of(&first).likeness(&of(&noise(3, 180_000))), 0);
    }

    #[test]
    fn archives_are_compared_by_what_is_in_them() {
        let (old, new) = (text(1, 2000), [&b"something in front\n"[..], &text(1, 2000)].concat());
        let likeness = of(&gzip(&old)).likeness(&of(&gzip(&new)));
        assert!(likeness > 80, "{likeness} %");
        let stranger = of(&gzip(&old)).likeness(&of(&gzip(&text(2, 2000))));
        assert_eq!(stranger, 0);
    }
}
