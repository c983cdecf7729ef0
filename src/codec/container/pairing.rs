//! Finds members that both sides have with the same bytes.

use std::collections::{HashMap, HashSet};

use super::expand::Verdict;
use super::loose::shifted;
use super::scan::{self, Kind, Member};
use crate::codec::parallel;

/// Opaque members inside opaque members looked into.
const DEPTH_MAX: usize = 4;

/// Both sides' members, and which are equal.
pub struct Pairing {
    /// Members of the base, in order.
    pub base: Vec<Member>,
    /// Members of the target, in order.
    pub target: Vec<Member>,
    /// Starts of the base's members that stay closed, in order.
    closed_base: Vec<usize>,
    /// Starts of the target's members that stay closed, and the number of their equal.
    closed_target: HashMap<usize, usize>,
    /// Starts of the target's members that must not be opened.
    shut: HashSet<usize>,
}

impl Pairing {
    /// Looks for members in both files, in two threads if there are as many, and pairs those with equal bytes.
    pub fn of(base: &[u8], target: &[u8], threads: usize) -> Self {
        let (mut base_members, mut target_members) = parallel::both(threads, (base, target), scan::file);
        for _ in 0..DEPTH_MAX {
            let pairs = Equal::find((base, &base_members), (target, &target_members));
            let base_inner = look_inside(base, &mut base_members, |i| pairs.base[i]);
            let target_inner = look_inside(target, &mut target_members, |i| pairs.target[i].is_some());
            if !base_inner && !target_inner {
                break;
            }
        }
        let pairs = Equal::find((base, &base_members), (target, &target_members));
        pairs.into_pairing(base_members, target_members)
    }

    /// Returns whether there is nothing to look into.
    pub fn is_empty(&self) -> bool {
        self.target.is_empty()
    }

    /// Keeps the target's member at `start` closed although the base lacks it.
    pub fn shut(&mut self, start: usize) {
        self.shut.insert(start);
    }

    /// Returns what is to become of the base's members.
    pub fn of_base(&self) -> OfBase<'_> {
        OfBase(self)
    }

    /// Returns what is to become of the target's members.
    pub fn of_target(&self) -> OfTarget<'_> {
        OfTarget(self)
    }
}

/// Replaces members that are stored, and not closed, by what is inside them.
fn look_inside(file: &[u8], members: &mut Vec<Member>, closed: impl Fn(usize) -> bool) -> bool {
    let mut found = false;
    let mut all = Vec::with_capacity(members.len());
    for (index, member) in members.drain(..).enumerate() {
        let inner = match member.kind {
            Kind::Opaque if !closed(index) => scan::inner(&file[member.range.clone()]),
            _ => Vec::new(),
        };
        if inner.is_empty() {
            all.push(member);
        } else {
            found = true;
            let start = member.range.start;
            all.extend(inner.into_iter().map(|inner| shifted(inner, start)));
        }
    }
    *members = all;
    found
}

/// Which members have an equal.
struct Equal {
    base: Vec<bool>,
    target: Vec<Option<usize>>,
}

impl Equal {
    /// Pairs members of equal bytes, those in sequence with those in sequence.
    fn find((base, base_members): (&[u8], &[Member]), (target, members): (&[u8], &[Member])) -> Self {
        let mut by_hash: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
        for (index, member) in base_members.iter().enumerate() {
            let bytes = &base[member.range.clone()];
            by_hash.entry((bytes.len(), fingerprint(bytes))).or_default().push(index);
        }
        let mut equal = Self { base: vec![false; base_members.len()], target: Vec::new() };
        let mut expected = 0;
        for member in members {
            let bytes = &target[member.range.clone()];
            let candidates = by_hash.get(&(bytes.len(), fingerprint(bytes)));
            let candidates = candidates.map_or(&[][..], Vec::as_slice);
            let nearest = candidates.iter().find(|&&index| index >= expected).or(candidates.first());
            let found = nearest.copied().filter(|&i| base[base_members[i].range.clone()] == *bytes);
            if let Some(index) = found {
                equal.base[index] = true;
                expected = index + 1;
            }
            equal.target.push(found);
        }
        equal
    }

    fn into_pairing(self, base: Vec<Member>, target: Vec<Member>) -> Pairing {
        let closed: Vec<usize> = (0..base.len()).filter(|&index| self.base[index]).collect();
        let number: HashMap<usize, usize> =
            closed.iter().enumerate().map(|(number, &index)| (index, number)).collect();
        let paired = target.iter().zip(&self.target);
        let closed_target =
            paired.filter_map(|(member, equal)| Some((member.range.start, number[&(*equal)?]))).collect();
        let closed_base = closed.iter().map(|&index| base[index].range.start).collect();
        Pairing { base, target, closed_base, closed_target, shut: HashSet::new() }
    }
}

/// A hash to find candidates by; they are compared before they count.
fn fingerprint(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [1u64, 2, 3, 4];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = mix(*lane, u64::from_le_bytes(*word));
        }
    }
    let tail = rest.iter().fold(bytes.len() as u64, |hash, &byte| mix(hash, byte.into()));
    lanes.into_iter().fold(tail, mix)
}

/// See [`Pairing::of_base`].
pub struct OfBase<'a>(&'a Pairing);

impl Verdict for OfBase<'_> {
    fn closed(&self, start: usize) -> Option<usize> {
        self.0.closed_base.binary_search(&start).ok()
    }
    fn next_kept(&self, start: usize, end: usize) -> usize {
        // The target names closed members by number: all of them must be there.
        let next = self.0.closed_base.partition_point(|&closed| closed <= start);
        self.0.closed_base.get(next).copied().unwrap_or(end)
    }
    fn shut(&self, _: usize) -> bool {
        false
    }
}

/// See [`Pairing::of_target`].
pub struct OfTarget<'a>(&'a Pairing);

impl Verdict for OfTarget<'_> {
    fn closed(&self, start: usize) -> Option<usize> {
        self.0.closed_target.get(&start).copied()
    }
    fn next_kept(&self, _: usize, end: usize) -> usize {
        end
    }
    fn shut(&self, start: usize) -> bool {
        self.0.shut.contains(&start)
    }
}
