//! The flat engine as plain stage.

use engine_flat::{Effort, Options};

use crate::error::{Error, Result, corrupt};
use crate::plain::{Plain, Segment};

/// See the module.
pub struct Flat {
    options: Options,
}

impl Flat {
    /// Works as hard as `effort` says: fast, default or max.
    pub fn of(effort: &str) -> Self {
        let effort = match effort {
            "fast" => Effort::Fast,
            "max" => Effort::Max,
            _ => Effort::Default,
        };
        Self { options: Options { effort, ..Options::default() } }
    }
}

fn converted(segments: Vec<engine_flat::Segment>) -> Result<Vec<Segment>> {
    let size = |value| usize::try_from(value).map_err(|_| corrupt("a segment beyond this machine"));
    segments
        .into_iter()
        .map(|s| Ok(Segment { target: size(s.target)?, base: size(s.base)?, len: size(s.len)? }))
        .collect()
}

impl Plain for Flat {
    fn encode(&self, base: &[u8], target: &[u8], out: &mut Vec<u8>) -> Result<Vec<Segment>> {
        let summary = engine_flat::encode(base, target, &self.options, out);
        converted(summary.map_err(|_| Error::Corrupt("the flat engine failed"))?.segments)
    }

    fn decode(&self, base: &[u8], delta: &[u8], target: &mut [u8]) -> Result<Vec<Segment>> {
        let len = target.len() as u64;
        let mut rest = target;
        let segments = engine_flat::decode_into(base, delta, len, 1, &mut rest);
        let segments = segments.map_err(|_| corrupt("the plain delta"))?;
        if rest.is_empty() { converted(segments) } else { Err(corrupt("a plain text cut short")) }
    }
}
