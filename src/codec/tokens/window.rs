//! Finds a few bytes in the window by looking at all of it.
//!
//! For a lookup now and then this is far cheaper than keeping tables: a window is compared in two
//! microseconds and entered into tables in two hundred.

use crate::codec::deflate::symbols::DISTANCE_MAX;

/// Positions compared at once.
const BLOCK: usize = 64;

/// Goes through the positions before `at` that continue with the same `PREFIX` (3 or 4) bytes,
/// newest first.
pub struct Window<'a> {
    plain: &'a [u8],
    prefix: [u8; 4],
    width: usize,
    /// Positions from here on are done.
    start: usize,
    oldest: usize,
    /// Hits of the current block that are still to come, by position behind `start`.
    hits: u64,
}

impl<'a> Window<'a> {
    /// Prepares to look for the `width` bytes at `at`, which must be there.
    pub fn new(plain: &'a [u8], at: usize, width: usize) -> Self {
        let mut prefix = [0; 4];
        prefix[..width].copy_from_slice(&plain[at..at + width]);
        Self { plain, prefix, width, start: at, oldest: at.saturating_sub(DISTANCE_MAX), hits: 0 }
    }

    fn step_back(&mut self) {
        let start = self.start.saturating_sub(BLOCK).max(self.oldest);
        let count = self.start - start;
        let block = &self.plain[start..start + count + self.width - 1];
        let whole = if count == BLOCK { block.first_chunk::<{ BLOCK + 2 }>() } else { None };
        self.hits = match whole {
            Some(block) => hits_of_three(block, self.prefix),
            None => self.slow_hits(block),
        };
        if self.width == 4 && whole.is_some() && self.hits != 0 {
            self.drop_short_hits(start);
        }
        self.start = start;
    }

    /// Drops the hits whose fourth byte differs.
    fn drop_short_hits(&mut self, start: usize) {
        let mut left = self.hits;
        while left != 0 {
            let hit = left.trailing_zeros();
            left &= left - 1;
            if self.plain[start + hit as usize + 3] != self.prefix[3] {
                self.hits ^= 1 << hit;
            }
        }
    }

    fn slow_hits(&self, block: &[u8]) -> u64 {
        let prefix = &self.prefix[..self.width];
        let windows = block.windows(self.width).enumerate();
        windows.filter(|(_, bytes)| *bytes == prefix).fold(0, |hits, (index, _)| hits | 1 << index)
    }
}

impl Iterator for Window<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.hits == 0 {
            if self.start <= self.oldest {
                return None;
            }
            self.step_back();
        }
        let last = 63 - self.hits.leading_zeros();
        self.hits ^= 1 << last;
        Some(self.start + last as usize)
    }
}

/// One bit per position of `block` that starts with the first three bytes of `prefix`.
#[inline]
fn hits_of_three(block: &[u8; BLOCK + 2], prefix: [u8; 4]) -> u64 {
    let [a, b, c, _] = prefix;
    let mut equal = [0u8; BLOCK];
    for (i, flag) in equal.iter_mut().enumerate() {
        *flag = u8::from(block[i] == a) & u8::from(block[i + 1] == b) & u8::from(block[i + 2] == c);
    }
    let words = equal.as_chunks::<8>().0;
    if words.iter().fold(0, |any, word| any | u64::from_le_bytes(*word)) == 0 {
        return 0;
    }
    // The product gathers the lowest bits of eight bytes in its highest byte.
    let gather = |word: &[u8; 8]| u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    words.iter().rev().fold(0, |hits, word| hits << 8 | gather(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_those_of_a_plain_search() {
        let plain: Vec<u8> = (0..40_000u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 30) as u8).collect();
        for (at, width) in [(39_000, 3), (39_000, 4), (100, 3), (64, 3), (3, 3), (0, 3)] {
            let expected = (at.max(DISTANCE_MAX) - DISTANCE_MAX..at)
                .rev()
                .filter(|&here| plain[here..here + width] == plain[at..at + width]);
            assert!(Window::new(&plain, at, width).eq(expected), "{at} {width}");
        }
    }
}
