//! A set of seeds that are looked for: where little of a target is left to look for, only those of the base's seeds
//! need a place in a table that is larger than any cache.

/// The map of bits has at least as many bits for each seed that is looked for.
const BITS_A_SEED: usize = 8;
/// A map of so many bits costs nothing beside a base of some size.
const BITS_CHEAP: usize = 1 << 22;
/// The map pays where this many times fewer seeds are looked for than the base has bytes.
const FEWER: usize = 8;

/// Hashes of the seeds that are looked for: a map that has them all, and a few more.
#[derive(Debug)]
pub struct Wanted {
    bits: Vec<u64>,
    shift: u32,
    count: usize,
}

impl Wanted {
    /// Makes an empty map for `count` seeds in a base of `base_size` bytes; `None` where there are too many.
    pub fn new(count: usize, base_size: usize) -> Option<Self> {
        let bits = (count * BITS_A_SEED).max((base_size / 64).min(BITS_CHEAP)).next_power_of_two().max(64);
        (count <= base_size / FEWER).then(|| Self {
            bits: vec![0; bits / 64],
            shift: 64 - bits.trailing_zeros(),
            count,
        })
    }

    /// Puts a hash in.
    #[inline]
    pub fn add(&mut self, hash: u64) {
        let bit = self.bit(hash);
        self.bits[bit / 64] |= 1 << (bit % 64);
    }

    /// Whether a hash may have been put in.
    #[inline]
    pub fn has(&self, hash: u64) -> bool {
        let bit = self.bit(hash);
        self.bits[bit / 64] >> (bit % 64) & 1 != 0
    }

    /// Tables choose their buckets by the highest bits: chosen by the same, what passes would share a few buckets.
    #[inline]
    fn bit(&self, hash: u64) -> usize {
        (hash.rotate_left(28) >> self.shift) as usize
    }

    /// Returns how many of `count` other seeds are likely to pass, at most.
    pub fn passing_max(&self, count: usize) -> usize {
        let by_chance = count as u128 * self.count as u128 / (self.bits.len() as u128 * 64);
        count.min(2 * self.count + by_chance as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_share_a_bucket_with_a_wanted_one_do_not_pass_for_it() {
        let mix = |number: u64| {
            number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xD6E8_FEB8_6659_FD93)
        };
        let mut wanted = Wanted::new(1000, 1 << 20).expect("few");
        (0..1000).for_each(|number| wanted.add(mix(number)));
        assert!((0..1000).all(|number| wanted.has(mix(number))));
        let same_bucket = |number: u64| mix(number) ^ mix(number + 5000) >> 24;
        let passing = (0..1000).filter(|&number| wanted.has(same_bucket(number))).count();
        assert!(passing < 250, "{passing} of 1,000");
        assert!(Wanted::new(1000, 1000).is_none(), "too many");
    }
}
