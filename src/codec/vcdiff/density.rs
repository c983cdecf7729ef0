//! How densely bytes are packed: what LZMA could still gain on them, without asking it.

/// Bytes that are looked at of each `STRIDE`.
const SAMPLE: usize = 4 << 10;
const STRIDE: usize = 16 << 10;
/// Bytes from which on not all are looked at.
const WHOLE_MAX: usize = 256 << 10;
/// Bits of a seed's hash that are zero in the seeds that are compared: one of 64.
const CHOSEN: u32 = 6;
/// Bits of the table of seeds.
const TABLE_BITS: u32 = 16;

/// Thousandths of a bit that a byte takes when each is coded by how often it occurs; 8000 at most.
///
/// Integers only, so that what hangs on it is the same on every machine.
pub fn millibits(bytes: &[u8]) -> u64 {
    let mut counts = [0u32; 256];
    let stride = if bytes.len() > WHOLE_MAX { STRIDE } else { SAMPLE };
    for sample in bytes.chunks(stride) {
        for &byte in &sample[..sample.len().min(SAMPLE)] {
            counts[usize::from(byte)] += 1;
        }
    }
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let spread = |count: u32| u64::from(count) * (millilog(total) - millilog(count.into()));
    counts.into_iter().filter(|&count| count > 0).map(spread).sum::<u64>() / total.max(1)
}

/// The binary logarithm in thousandths.
fn millilog(value: u64) -> u64 {
    const FRACTION_BITS: u32 = 10;
    let whole = value.max(1).ilog2();
    // A number from 1 to 2, with 31 bits behind the point; squaring it doubles its logarithm.
    let mut rest = (value.max(1) << (63 - whole)) >> 32;
    let mut log = u64::from(whole);
    for _ in 0..FRACTION_BITS {
        let square = (rest * rest) >> 31;
        let is_over_two = square >> 32;
        log = (log << 1) | is_over_two;
        rest = square >> is_over_two;
    }
    (log * 1000) >> FRACTION_BITS
}

/// How many of a thousand stretches of eight bytes occur twice.
pub fn repeated_permille(bytes: &[u8]) -> u32 {
    let mut table = vec![0u64; 1 << TABLE_BITS];
    let (mut chosen, mut repeated) = (0u64, 0u64);
    for seed in bytes.windows(8) {
        let seed = u64::from_le_bytes(*seed.first_chunk().expect("a window of eight bytes"));
        let hash = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if hash >> (64 - CHOSEN) == 0 {
            let slot = &mut table[(hash >> (64 - CHOSEN - TABLE_BITS)) as usize];
            repeated += u64::from(*slot == seed);
            chosen += 1;
            *slot = seed;
        }
    }
    (repeated * 1000 / chosen.max(1)) as u32
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    #[test]
    fn logarithms_are_close() {
        for (value, expected) in [(1, 0), (2, 1000), (3, 1584), (10, 3321), (1 << 40, 40_000)] {
            assert!(millilog(value).abs_diff(expected) <= 2, "{value}: {}", millilog(value));
        }
    }

    #[test]
    fn noise_is_dense_and_text_is_not() {
        assert!(millibits(&noise(1 << 20, 1)) > 7990);
        assert_eq!(millibits(&[7; 1000]), 0);
        assert!(millibits(&b"ab".repeat(1000)).abs_diff(1000) <= 2);
        assert_eq!(millibits(&[]), 0);
    }

    #[test]
    fn noise_that_comes_twice_is_partly_repeated() {
        let once = noise(1 << 20, 1);
        assert_eq!(repeated_permille(&once), 0);
        let twice = repeated_permille(&[&once[..], &once[..]].concat());
        assert!((350..=500).contains(&twice), "{twice}");
        assert_eq!(repeated_permille(&[]), 0);
    }
}
