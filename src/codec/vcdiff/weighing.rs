//! Chooses the copies of a target that changed little: the cheapest of all ways through it.
//!
//! In a delta of a kilobyte every instruction shows. A step of a way is a literal byte, the longest match there is, or
//! going on at one of the last shifts; which steps are cheapest is known exactly once every position knows the
//! cheapest way to it.

use std::collections::BTreeMap;

use super::alternatives::{Alternatives, COPY_MIN, Match};
use super::instruction::copy_size;
use super::texts::{Copy, Runs, SHIFTS, Shifts, Texts};
use super::varint;

// What things cost once LZMA is done with them, in tenths of a bit: measured, not exact.

/// A literal byte.
const LITERAL: u64 = 50;
/// The instruction that literals need.
const ADD: u64 = 60;
/// A byte of a copy's instruction.
const INSTRUCTION_BYTE: u64 = 50;
/// A byte of an address.
const ADDRESS_BYTE: u64 = 80;
/// The address of a copy at one of the last shifts, by how long ago it was used.
const ADDRESS_SHIFTED: [u64; SHIFTS] = [30, 60, 80, 80];

/// The cheapest way to a position that is known so far.
#[derive(Debug, Clone, Copy)]
struct Way {
    cost: u64,
    /// The way that its last step goes on from, by its number.
    before: Option<usize>,
    /// Where the last step copied from; `None` for a literal.
    source: Option<usize>,
    shifts: Shifts,
}

/// Finds the cheapest copies, in order.
pub fn weigh(texts: Texts<'_>, alternatives: &Alternatives<'_>) -> Vec<Copy> {
    let start = Way { cost: 0, before: None, source: None, shifts: Shifts::default() };
    let mut weigher = Weigher { texts, open: BTreeMap::from([(0, start)]), done: Vec::new() };
    let mut runs = Runs::new(texts);
    while let Some((at, way)) = weigher.open.pop_first() {
        weigher.done.push((at, way));
        let (matches, is_near) = alternatives.at(at);
        for found in matches.into_iter().flatten().chain(shifted(&mut runs, at, way.shifts)) {
            weigher.copy(at, &way, found);
        }
        if is_near {
            weigher.literal(at, &way);
        }
    }
    weigher.copies()
}

/// What could be copied at the last shifts.
fn shifted(runs: &mut Runs<'_>, at: usize, shifts: Shifts) -> impl Iterator<Item = Match> {
    let sources = shifts.0.into_iter().filter_map(move |shift| at.checked_add_signed(shift));
    let matches = sources.map(move |source| Match { source, end: runs.end_of(source, at) });
    matches.filter(move |found| found.end >= at + COPY_MIN)
}

struct Weigher<'a> {
    texts: Texts<'a>,
    /// The ways that were not gone on from yet, by the position that they lead to.
    open: BTreeMap<usize, Way>,
    done: Vec<(usize, Way)>,
}

impl Weigher<'_> {
    fn literal(&mut self, at: usize, way: &Way) {
        let add = if way.source.is_some() || way.before.is_none() { ADD } else { 0 };
        self.offer(at + 1, Way { source: None, ..self.longer(way, LITERAL + add) });
    }

    fn copy(&mut self, at: usize, way: &Way, found: Match) {
        let copy = Copy { target: at, source: found.source, size: found.end - at };
        let address = match way.shifts.rank(copy.shift()) {
            Some(rank) => ADDRESS_SHIFTED[rank],
            None => ADDRESS_BYTE * varint::size(self.texts.distance(copy) as u64) as u64,
        };
        let cost = address + INSTRUCTION_BYTE * copy_size(copy.size as u64) as u64;
        let mut longer = Way { source: Some(found.source), ..self.longer(way, cost) };
        longer.shifts.use_shift(copy.shift());
        self.offer(found.end, longer);
    }

    /// A way that goes on from the one that was done last.
    fn longer(&self, way: &Way, cost: u64) -> Way {
        Way { cost: way.cost + cost, before: Some(self.done.len() - 1), ..*way }
    }

    fn offer(&mut self, to: usize, way: Way) {
        if self.open.get(&to).is_none_or(|known| way.cost < known.cost) {
            self.open.insert(to, way);
        }
    }

    /// The copies of the cheapest way to the end.
    fn copies(self) -> Vec<Copy> {
        let mut copies = Vec::new();
        let mut step = self.done.last();
        while let Some((end, way)) = step {
            step = way.before.map(|before| &self.done[before]);
            if let (Some((start, _)), Some(source)) = (step, way.source) {
                copies.push(Copy { target: *start, source, size: end - start });
            }
        }
        copies.reverse();
        copies
    }
}

#[cfg(test)]
mod tests {
    use super::super::matching::find_copies;
    use super::super::tests::noise;
    use super::*;

    /// Weighs, and looks whether every copy is one.
    fn weighed(base: &[u8], target: &[u8], window: usize) -> Vec<Copy> {
        let texts = Texts { base, target, window };
        let copies = find_copies(texts, 1, &|| Ok(())).expect("found");
        let both = [base, target].concat();
        let mut done = 0;
        for copy in &copies {
            assert!(copy.target >= done, "{copy:?} overlaps");
            done = copy.target + copy.size;
            let same = (0..copy.size).all(|at| both[copy.source + at] == target[copy.target + at]);
            assert!(same, "{copy:?} is no copy");
            if copy.source < base.len() {
                assert!(copy.source + copy.size <= base.len(), "{copy:?} leaves the base");
            } else {
                let start = texts.window_of(copy.target).start;
                assert!(copy.source >= base.len() + start, "{copy:?} is from before its window");
                assert!(done <= texts.window_of(copy.target).end, "{copy:?} leaves its window");
            }
        }
        copies
    }

    #[test]
    fn what_comes_twice_is_told_once() {
        let (base, new) = (noise(10_000, 1), noise(300, 2));
        let target = [&base[..4000], &new, &base[4000..], &new].concat();
        let copies = weighed(&base, &target, 1 << 20);
        let expected = [
            Copy { target: 0, source: 0, size: 4000 },
            Copy { target: 4300, source: 4000, size: 6000 },
            Copy { target: 10_300, source: 14_000, size: 300 },
        ];
        assert_eq!(copies, expected);
        assert_eq!(weighed(&base, &target, 10_000).len(), 2, "the second is in another window");
    }

    #[test]
    fn of_two_places_that_begin_alike_the_longer_one_is_taken() {
        let (same, rest) = (noise(200, 1), noise(3000, 2));
        let base = [&same[..], &noise(500, 3), &same, &rest].concat();
        let target = [&noise(100, 5)[..], &same, &rest].concat();
        assert_eq!(weighed(&base, &target, 1 << 20), [Copy { target: 100, source: 700, size: 3200 }]);
    }

    #[test]
    fn a_few_equal_bytes_far_away_are_no_copy() {
        let base = noise(100_000, 1);
        let target = [&noise(100, 2)[..], &base[70_000..70_008], &noise(100, 3)].concat();
        assert_eq!(weighed(&base, &target, 1 << 20), []);
    }

    #[test]
    fn copies_are_copies_whatever_the_texts_and_windows() {
        let words: Vec<Vec<u8>> = (0..40).map(|seed| noise(3 + seed as usize % 17, seed)).collect();
        for seed in 0..200 {
            let picks = noise(1200, 1000 + seed);
            let text = |picks: &[u8]| {
                picks.iter().flat_map(|&pick| &words[usize::from(pick) % 40]).copied().collect()
            };
            let (base, target): (Vec<u8>, Vec<u8>) = (text(&picks[..700]), text(&picks[600..]));
            let windows = [1, 7, 100, 1000, 1 << 20];
            weighed(&base, &target, windows[seed as usize % windows.len()]);
        }
    }
}
