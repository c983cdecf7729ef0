//! What could be copied where no long copy is: at every position of a few stretches the longest match in the base, and
//! the longest in the target before it.
//!
//! `weighing` chooses among them.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::seeds::{SEED, Seeds, hash};
use super::texts::{Copy, Runs, Texts};
use crate::codec::bytes::u64_at;
use crate::codec::wanted::Wanted;

/// Positions up to which a target is looked at that closely.
const POSITIONS_MAX: usize = 64 << 10;
/// Bytes at the ends of the long copies that are looked at, too: something better may begin or end there.
const MARGIN: usize = 32;
/// Bytes of the shortest copy.
pub const COPY_MIN: usize = 4;
/// Earlier places of the target that are tried for a seed, the nearest first.
const EARLIER_MAX: usize = 8;

/// A stretch of the target that could be copied, from a position on that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Position in the base followed by the target.
    pub source: usize,
    /// Where it ends in the target.
    pub end: usize,
}

/// The longest matches at the positions of some stretches.
#[derive(Debug)]
pub struct Alternatives<'a> {
    texts: Texts<'a>,
    anchors: &'a [Copy],
    /// The positions, in order.
    positions: Vec<usize>,
    from_base: Vec<Option<Match>>,
    from_target: Vec<Option<Match>>,
}

impl<'a> Alternatives<'a> {
    /// Looks between the anchors; `None` where there is too much between them.
    ///
    /// # Errors
    /// What `check` said.
    pub fn find(
        texts: Texts<'a>,
        anchors: &'a [Copy],
        step: usize,
        check: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<Option<Self>> {
        let stretches = stretches(texts.target.len(), anchors);
        if stretches.iter().map(Range::len).sum::<usize>() > POSITIONS_MAX {
            return Ok(None);
        }
        let positions: Vec<usize> = stretches.into_iter().flatten().collect();
        let mut found = Self { texts, anchors, positions, from_base: Vec::new(), from_target: Vec::new() };
        let seeds = found.seeds(step, check)?;
        found.from_base = found.begun_early(found.look_into_base(&seeds));
        found.from_target = found.begun_early(found.look_into_target());
        Ok(Some(found))
    }

    /// The base's seeds that are at the positions, too.
    fn seeds(&self, step: usize, check: &dyn Fn() -> io::Result<()>) -> io::Result<Seeds> {
        let Texts { base, target, .. } = self.texts;
        let mut wanted = Wanted::new(self.positions.len(), base.len());
        if let Some(wanted) = &mut wanted {
            let whole = self.positions.iter().take_while(|&at| at + SEED <= target.len());
            whole.for_each(|&at| wanted.add(hash(u64_at(target, at))));
        }
        let places = 0..base.len().saturating_sub(SEED - 1);
        Seeds::new(places, step, wanted.as_ref(), |at| hash(u64_at(base, at)), check)
    }

    fn look_into_base(&self, seeds: &Seeds) -> Vec<Option<Match>> {
        let mut runs = Runs::new(self.texts);
        let mut longest_at = |&at: &usize| {
            let anchored = self.anchor_at(at).map(|anchor| anchor.source + at - anchor.target);
            let seed = self.texts.target.get(at..at + SEED).map(|seed| hash(u64_at(seed, 0)));
            let sought = seed.into_iter().flat_map(|seed| seeds.places(seeds.look(seed)));
            longest(&mut runs, at, anchored.into_iter().chain(sought))
        };
        self.positions.iter().map(&mut longest_at).collect()
    }

    fn look_into_target(&self) -> Vec<Option<Match>> {
        let mut runs = Runs::new(self.texts);
        let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
        let mut longest_at = |&at: &usize| {
            let earlier = places.entry(self.texts.target.get(at..at + COPY_MIN)?).or_default();
            let sources = earlier.iter().rev().take(EARLIER_MAX).map(|place| self.texts.base.len() + place);
            let found = longest(&mut runs, at, sources);
            earlier.push(at);
            found
        };
        self.positions.iter().map(&mut longest_at).collect()
    }

    /// Lets matches begin as early as they can, and takes them where they reach farther than what was found.
    fn begun_early(&self, mut matches: Vec<Option<Match>>) -> Vec<Option<Match>> {
        for index in (1..matches.len()).rev() {
            let Some(later) = matches[index] else { continue };
            if matches[index - 1].is_none_or(|own| own.end < later.end) {
                let (from, to) = (self.positions[index - 1], self.positions[index]);
                let earlier = self.begun_at(later, from..to).map(|source| Match { source, ..later });
                matches[index - 1] = earlier.or(matches[index - 1]);
            }
        }
        matches
    }

    /// Returns the source of a match that begins where a stretch ends, if it could begin with the stretch.
    fn begun_at(&self, later: Match, stretch: Range<usize>) -> Option<usize> {
        let Texts { base, target, .. } = self.texts;
        let source = later.source.checked_sub(stretch.len())?;
        let there = match source.checked_sub(base.len()) {
            None if later.source < base.len() => &base[source..later.source],
            None => return None,
            Some(earlier) => {
                let window = self.texts.window_of(stretch.start);
                (earlier >= window.start && later.end <= window.end).then_some(())?;
                &target[earlier..earlier + stretch.len()]
            }
        };
        (there == &target[stretch]).then_some(source)
    }

    fn anchor_at(&self, at: usize) -> Option<&Copy> {
        let index = self.anchors.partition_point(|anchor| anchor.target + anchor.size <= at);
        self.anchors.get(index).filter(|anchor| anchor.target <= at)
    }

    /// Returns what could be copied to a position, and whether that was looked at.
    pub fn at(&self, at: usize) -> ([Option<Match>; 2], bool) {
        match self.positions.binary_search(&at) {
            Ok(index) => ([self.from_base[index], self.from_target[index]], true),
            Err(_) => {
                let rest = |anchor: &Copy| Match {
                    source: anchor.source + at - anchor.target,
                    end: anchor.target + anchor.size,
                };
                ([self.anchor_at(at).map(rest), None], false)
            }
        }
    }
}

/// The longest match of these sources, the first of those that are as long.
fn longest(runs: &mut Runs<'_>, at: usize, sources: impl Iterator<Item = usize>) -> Option<Match> {
    let mut best = None;
    let mut end_max = at + COPY_MIN - 1;
    for source in sources {
        let end = runs.end_of(source, at);
        if end > end_max {
            end_max = end;
            best = Some(Match { source, end });
        }
    }
    best
}

/// What lies between the anchors, and the ends of these.
fn stretches(target_size: usize, anchors: &[Copy]) -> Vec<Range<usize>> {
    let starts = [0].into_iter().chain(anchors.iter().map(|anchor| anchor.target + anchor.size));
    let ends = anchors.iter().map(|anchor| anchor.target).chain([target_size]);
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for (start, end) in starts.zip(ends) {
        let wide = start.saturating_sub(MARGIN)..(end + MARGIN).min(target_size);
        match stretches.last_mut().filter(|last| last.end >= wide.start) {
            Some(last) => last.end = last.end.max(wide.end),
            None => stretches.push(wide),
        }
    }
    stretches
}
