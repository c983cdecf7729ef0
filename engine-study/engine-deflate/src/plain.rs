//! The seam to the stage that deltas plain text: what it must tell the token stage.

use crate::error::Result;

/// A stretch of the target that resembles a stretch of the base byte for byte, mostly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Position in the target.
    pub target: usize,
    /// Position in the base.
    pub base: usize,
    /// Bytes.
    pub len: usize,
}

impl Segment {
    /// Where it ends in the target.
    #[inline(always)]
    pub fn target_end(&self) -> usize {
        self.target + self.len
    }
}

/// Encodes flat bytes against flat bytes.
///
/// Promises: `decode` gives back the target and the very segments `encode` returned; segments are
/// in the order of the target, do not overlap there and lie inside both sides. `decode` survives
/// any input: it fails, or fills the target with something.
pub trait Plain: Sync {
    /// Appends a delta to `out` and returns the alignment it is made of.
    fn encode(&self, base: &[u8], target: &[u8], out: &mut Vec<u8>) -> Result<Vec<Segment>>;

    /// Fills `target`, whose length is that of the encoded one, and returns the same alignment.
    fn decode(&self, base: &[u8], delta: &[u8], target: &mut [u8]) -> Result<Vec<Segment>>;
}

/// Says whether `segments` keep the promises of [`Plain`].
pub fn are_sound(segments: &[Segment], base_len: usize, target_len: usize) -> bool {
    let mut from = 0;
    segments.iter().all(|segment| {
        let ordered = segment.target >= from && segment.len > 0;
        from = segment.target.saturating_add(segment.len);
        let base_end = segment.base.checked_add(segment.len);
        ordered && from <= target_len && base_end.is_some_and(|end| end <= base_len)
    })
}
