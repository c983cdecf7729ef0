//! A sketch: 52 bytes by which two objects are compared without looking at them.
//!
//! An object's features (short strings that its content picks) fall into buckets, and of the smallest hash of each
//! bucket eight bits are kept. Two objects that share a part of their features agree in about the same part of the
//! buckets; strangers agree in one of 255. The low bits of the object's size tell arrays of the same shape, in which
//! every number moved.

use std::fmt;

use super::hex;

/// Buckets of a sketch.
pub const SKETCH_BUCKETS: usize = 48;

/// Bytes of a sketch.
pub const SKETCH_BYTES: usize = SKETCH_BUCKETS + 4;

/// Fewer buckets that agree may be chance: strangers have two in one of sixty pairs.
const AGREEING_MIN: usize = 2;

/// What an object looks like.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sketch {
    /// Eight bits of each bucket; 0 where nothing fell.
    buckets: [u8; SKETCH_BUCKETS],
    /// The size of the object, its low 32 bits.
    size: u32,
}

impl Sketch {
    /// Makes a sketch of the smallest hash of each bucket; `None` where nothing fell.
    pub fn new(smallest: &[Option<u32>; SKETCH_BUCKETS], size: u64) -> Self {
        // Zero is kept for empty buckets.
        let buckets = smallest.map(|hash| hash.map_or(0, |hash| (hash % 255) as u8 + 1));
        Self { buckets, size: size as u32 }
    }

    /// Parses the form that stands in the names of hints.
    pub fn parse(text: &str) -> Option<Self> {
        let (buckets, size) = text.split_at_checked(2 * SKETCH_BUCKETS)?;
        let size: [u8; 4] = hex::decode(size)?;
        Some(Self { buckets: hex::decode(buckets)?, size: u32::from_be_bytes(size) })
    }

    /// Returns the form in which a machine remembers it.
    pub fn to_bytes(&self) -> [u8; SKETCH_BYTES] {
        let mut bytes = [0; SKETCH_BYTES];
        let (buckets, size) = bytes.split_at_mut(SKETCH_BUCKETS);
        buckets.copy_from_slice(&self.buckets);
        size.copy_from_slice(&self.size.to_be_bytes());
        bytes
    }

    /// Takes it back from that form.
    pub fn from_bytes(bytes: &[u8; SKETCH_BYTES]) -> Self {
        let (mut buckets, mut size) = ([0; SKETCH_BUCKETS], [0; 4]);
        buckets.copy_from_slice(&bytes[..SKETCH_BUCKETS]);
        size.copy_from_slice(&bytes[SKETCH_BUCKETS..]);
        Self { buckets, size: u32::from_be_bytes(size) }
    }

    /// Returns how alike two objects seem, in percent; 0 where they seem to have nothing in common.
    ///
    /// Objects of one size are alike by 1 at least, because arrays keep it when all numbers in them move.
    pub fn likeness(&self, other: &Self) -> u32 {
        let pairs = || self.buckets.iter().zip(&other.buckets);
        let used = pairs().filter(|pair| *pair != (&0, &0)).count();
        let agreeing = pairs().filter(|(one, other)| one == other && **one != 0).count();
        let floor = u32::from(self.size == other.size);
        if agreeing < AGREEING_MIN {
            return floor;
        }
        // Both are at most the number of buckets.
        (100 * agreeing as u32 / used as u32).max(floor)
    }
}

impl fmt::Display for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.buckets))?;
        f.write_str(&hex::encode(&self.size.to_be_bytes()))
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sketch({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(seeds: impl Fn(usize) -> Option<u32>, size: u64) -> Sketch {
        let mut smallest = [None; SKETCH_BUCKETS];
        smallest.iter_mut().enumerate().for_each(|(index, hash)| *hash = seeds(index));
        Sketch::new(&smallest, size)
    }

    #[test]
    fn a_sketch_parses_as_it_prints() {
        let one = sketch(|index| (index % 3 > 0).then_some(index as u32 * 7919), 5 << 32 | 77);
        let text = one.to_string();
        assert_eq!((text.len(), Sketch::parse(&text)), (104, Some(one)));
        for text in [&text[1..], &text.to_uppercase(), &format!("{text}00"), "", "é"] {
            assert_eq!(Sketch::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_part_of_equal_buckets_is_the_likeness() {
        let one = sketch(|index| Some(index as u32), 1);
        let half = sketch(|index| Some(index as u32 + u32::from(index % 2 == 0) * 100), 2);
        assert_eq!(one.likeness(&one), 100);
        assert_eq!(one.likeness(&half), 50);
    }

    #[test]
    fn chance_is_no_likeness_and_one_size_is_a_little() {
        let one = sketch(|index| Some(index as u32), 1);
        let stranger = |size| sketch(|index| Some(if index == 0 { 0 } else { index as u32 + 100 }), size);
        assert_eq!(one.likeness(&stranger(2)), 0);
        assert_eq!(one.likeness(&stranger(1)), 1);
    }

    #[test]
    fn empty_buckets_agree_about_nothing() {
        let (one, other) = (sketch(|_| None, 1), sketch(|_| None, 2));
        assert_eq!(one.likeness(&other), 0);
    }
}
