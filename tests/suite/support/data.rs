//! Test data: bytes that look random and are the same in every run, edits of them, oids, pointers.

use sha2::{Digest as _, Sha256};

/// A small deterministic generator (splitmix64). Not for cryptography.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Incompressible bytes.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    Random::new(seed).bytes(length)
}

/// Compressible lines of text.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["object", "delta", "base", "copy", "store", "pointer", "chain", "space"];
    let mut random = Random::new(seed);
    let mut text = Vec::with_capacity(length + 32);
    while text.len() < length {
        let line = format!("{} {} {}\n", WORDS[random.below(8)], WORDS[random.below(8)], random.below(100));
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(length);
    text
}

/// A later version of `base`: `edits` places replaced, shortened or lengthened by up to 64 bytes.
pub fn edited(base: &[u8], seed: u64, edits: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut version = base.to_vec();
    for _ in 0..edits {
        let at = random.below(version.len() + 1);
        let end = (at + random.below(65)).min(version.len());
        let inserted = random.below(64) + 1;
        version.splice(at..end, random.bytes(inserted));
    }
    version
}

/// `count` versions of one file, each an edit of the one before.
pub fn versions(seed: u64, length: usize, count: usize) -> Vec<Vec<u8>> {
    let first = noise(seed, length);
    let next = |before: &Vec<u8>| Some(edited(before, seed ^ before.len() as u64, 4));
    std::iter::successors(Some(first), next).take(count).collect()
}

/// The SHA-256 as 64 lower-case hexadecimal digits.
pub fn oid(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The pointer git keeps in the object's place.
pub fn pointer(bytes: &[u8]) -> String {
    let (oid, size) = (oid(bytes), bytes.len());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}
