//! How an object is to be stored: a delta on the last version, on its reference, or whole. Pure.
//!
//! A chain is bounded by what a reader with an empty disk pays for it. What surprises: the size of the whole
//! compressed object is not measured but estimated, from how well the chain's reference was compressed; only
//! a delta that is not clearly smaller makes the caller measure it.

use crate::git::Kinship;
use crate::model::Chain;
use crate::model::limits::{
    CANDIDATE_SIZE_MAX_RATIO, CHAIN_DEPTH_MAX, COLD_READ_MAX_PERCENT, DECODE_WORK_MAX_RATIO,
    DELTA_MAX_PERCENT, DELTA_SAVING_MIN_BYTES, LOWER_DELTA_PERCENT, WHOLE_SAVING_MIN_PERCENT,
};

/// What a chain may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What reading all of it may take, in percent of the whole compressed object.
    pub cold_read_max_percent: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { cold_read_max_percent: COLD_READ_MAX_PERCENT }
    }
}

/// What a delta turned out to cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaCost {
    /// Bytes of the copy in the store.
    pub stored_size: u64,
    /// Bytes that decoding it writes.
    pub written_size: u64,
}

/// What to do with a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Store it.
    Keep,
    /// It is clearly smaller than an estimate, but not by so much: measure the whole object and ask again.
    Measure,
    /// The chain would cost a cold reader too much: try lower down, or store the object whole.
    TooDeep,
    /// It saves too little.
    TooLarge,
}

/// Returns whether an object of this size is worth a delta at all.
pub const fn is_worth_a_delta(object_size: u64) -> bool {
    object_size > DELTA_SAVING_MIN_BYTES
}

/// Returns what a whole compressed copy would take, judged by the chain's reference.
pub fn estimate_whole(chain: &Chain, object_size: u64) -> u64 {
    let Some(reference) = chain.reference() else { return object_size };
    let scaled = u128::from(reference.stored_size) * u128::from(object_size);
    let estimate = scaled / u128::from(reference.object_size.max(1));
    u64::try_from(estimate).unwrap_or(u64::MAX).min(object_size)
}

impl Bounds {
    /// Returns whether a delta on `chain` can stay within the bounds at all, before it is encoded.
    pub fn may_extend(&self, chain: &Chain, object_size: u64) -> bool {
        let cost = DeltaCost { stored_size: 0, written_size: object_size };
        chain.depth() > 0 && self.within_bounds(chain, object_size, cost, estimate_whole(chain, object_size))
    }

    /// Returns which link of a chain to try first: the nearest, unless that is known to be too deep.
    pub fn first_base(&self, chain: &Chain, object_size: u64) -> Option<usize> {
        if self.may_extend(chain, object_size) {
            return Some(0);
        }
        // What the next delta takes is not known yet: as little as the smallest of the chain.
        self.lower_base(chain, object_size, 0, smallest_delta(chain)?)
    }

    /// Returns which link to try after a delta on link `tried` came out too deep with `stored_size` bytes: one lower
    /// down, or the reference; `None` after that.
    ///
    /// A delta over several versions is at most about as large as the deltas between. Each link that is passed over makes
    /// room for one more version on top. So the link is chosen with which a version costs the least on average, until
    /// the chain is as deep again; of equals the lowest. `docs/chains.md` compares that with the optimum.
    pub fn lower_base(
        &self,
        chain: &Chain,
        object_size: u64,
        tried: usize,
        stored_size: u64,
    ) -> Option<usize> {
        let last = chain.depth().checked_sub(1)?;
        let step = smallest_delta(chain).unwrap_or(stored_size).min(stored_size);
        let whole = estimate_whole(chain, object_size);
        let written_size = object_size.max(chain.links[0].written_size);
        let (mut best, mut sum) = (None, stored_size);
        for at in tried + 1..=last {
            sum = sum.saturating_add(chain.links[at - 1].stored_size);
            let cost = DeltaCost { stored_size: percent(sum, LOWER_DELTA_PERCENT), written_size };
            let versions = (at - tried) as u64;
            let average = sum.saturating_add((versions - 1).saturating_mul(step)) / versions;
            let is_better = best.is_none_or(|(least, _)| average <= least);
            if is_better && self.within_bounds(&chain.below(at), object_size, cost, whole) {
                best = Some((average, at));
            }
        }
        best.map(|(_, at)| at).or((tried < last).then_some(last))
    }

    /// Judges a delta on `chain`; `whole_size` is the measured size of a whole copy, once there is one.
    pub fn judge(
        &self,
        chain: &Chain,
        object_size: u64,
        delta: DeltaCost,
        whole_size: Option<u64>,
    ) -> Verdict {
        let whole = whole_size.unwrap_or_else(|| estimate_whole(chain, object_size));
        let saving = whole.saturating_sub(delta.stored_size);
        if delta.stored_size > percent(whole, DELTA_MAX_PERCENT) || saving < DELTA_SAVING_MIN_BYTES {
            return if whole_size.is_none() { Verdict::Measure } else { Verdict::TooLarge };
        }
        if self.within_bounds(chain, object_size, delta, whole) {
            return Verdict::Keep;
        }
        // An estimate must not end a chain that a measurement would have let grow.
        if whole_size.is_none() && self.within_bounds(chain, object_size, delta, object_size) {
            return Verdict::Measure;
        }
        Verdict::TooDeep
    }

    fn within_bounds(&self, chain: &Chain, object_size: u64, delta: DeltaCost, whole_size: u64) -> bool {
        let stored = chain.stored_size().saturating_add(delta.stored_size);
        let written = chain.written_size().saturating_add(delta.written_size);
        chain.depth() < CHAIN_DEPTH_MAX
            && stored <= percent(whole_size, self.cold_read_max_percent)
            && written <= object_size.saturating_mul(DECODE_WORK_MAX_RATIO)
    }
}

/// Returns the stored size of a chain's smallest delta.
fn smallest_delta(chain: &Chain) -> Option<u64> {
    let (_, deltas) = chain.links.split_last()?;
    deltas.iter().map(|link| link.stored_size).min()
}

/// Returns whether packing a whole object pays.
pub const fn is_worth_packing(object_size: u64, packed_size: u64) -> bool {
    packed_size <= percent(object_size, 100 - WHOLE_SAVING_MIN_PERCENT)
}

/// What is known of an object that might serve as base, where there is no version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// How alike the two seem, in percent; `None` where they were not compared.
    pub likeness: Option<u32>,
    /// Why it was thought of; `None` where only a hint names it.
    pub kinship: Option<Kinship>,
    /// Whether its bytes are on this machine.
    pub is_at_hand: bool,
}

/// Returns whether a base of this size could save much of an object, before anything else is known.
pub const fn is_worth_comparing(base_size: u64, object_size: u64) -> bool {
    is_worth_a_delta(base_size) && base_size >= object_size / CANDIDATE_SIZE_MAX_RATIO
}

/// Returns whether a candidate may be tried though it was not compared.
pub const fn speaks_for_itself(kinship: Kinship) -> bool {
    matches!(kinship, Kinship::Renamed | Kinship::Sibling)
}

/// Chooses the candidate to try: the one that seems most alike, of equals the first.
///
/// What was compared and has nothing in common is never tried. What was not compared is tried only where its name
/// speaks for it: reading it may cost as much as it saves.
pub fn choose(candidates: &[Candidate]) -> Option<usize> {
    let likeness = |candidate: &Candidate| match (candidate.likeness, candidate.kinship) {
        (Some(likeness), _) => likeness,
        (None, Some(kinship)) if speaks_for_itself(kinship) => 1,
        (None, _) => 0,
    };
    let rated =
        candidates.iter().enumerate().map(|(index, candidate)| (likeness(candidate), candidate, index));
    let possible = rated.filter(|(likeness, ..)| *likeness > 0);
    let best = possible.max_by_key(|(likeness, candidate, index)| {
        (*likeness, candidate.is_at_hand, std::cmp::Reverse(*index))
    });
    best.map(|(.., index)| index)
}

/// Returns a share of a size.
pub const fn percent(size: u64, share: u64) -> u64 {
    (size as u128 * share as u128 / 100) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CodecName, CopyId, Link, Nonce, Oid};

    const MB: u64 = 1_000_000;
    const BOUNDS: Bounds = Bounds { cold_read_max_percent: COLD_READ_MAX_PERCENT };

    /// A chain over objects of 10 MB whose copies take `stored`, nearest first.
    fn chain(stored: &[u64]) -> Chain {
        let link = |(seed, &stored_size): (usize, &u64)| Link {
            id: CopyId { oid: Oid::of(&[seed as u8]), nonce: Nonce::from_bytes([0; 16]) },
            codec: Some(CodecName::ZSTD),
            object_size: 10 * MB,
            stored_size,
            written_size: 10 * MB,
        };
        Chain { links: stored.iter().enumerate().map(link).collect() }
    }

    fn delta(stored_size: u64) -> DeltaCost {
        DeltaCost { stored_size, written_size: 10 * MB }
    }

    #[test]
    fn a_whole_copy_is_estimated_by_the_reference() {
        assert_eq!(estimate_whole(&chain(&[MB, 4 * MB]), 20 * MB), 8 * MB);
        assert_eq!(estimate_whole(&chain(&[11 * MB]), 10 * MB), 10 * MB);
        assert_eq!(estimate_whole(&Chain::default(), MB), MB);
    }

    #[test]
    fn a_small_delta_is_kept() {
        assert_eq!(BOUNDS.judge(&chain(&[4 * MB]), 10 * MB, delta(MB / 2), None), Verdict::Keep);
    }

    #[test]
    fn a_cold_reader_never_fetches_more_than_the_bound() {
        let grown = chain(&[MB / 2, 4 * MB]);
        assert_eq!(BOUNDS.judge(&grown, 10 * MB, delta(MB / 2), None), Verdict::Keep);
        assert_eq!(BOUNDS.judge(&grown, 10 * MB, delta(MB / 2 + 1), Some(4 * MB)), Verdict::TooDeep);
        assert!(!BOUNDS.may_extend(&chain(&[MB + 1, 4 * MB]), 10 * MB));
    }

    #[test]
    fn who_clones_seldom_may_allow_more_and_who_clones_often_less() {
        let grown = chain(&[MB / 2, 4 * MB]);
        let judged = |cold_read_max_percent| {
            let bounds = Bounds { cold_read_max_percent };
            bounds.judge(&grown, 10 * MB, delta(MB), Some(4 * MB))
        };
        assert_eq!(
            [judged(110), judged(137), judged(138)],
            [Verdict::TooDeep, Verdict::TooDeep, Verdict::Keep]
        );
    }

    #[test]
    fn a_delta_beyond_the_estimate_is_measured_before_it_is_dropped() {
        assert_eq!(BOUNDS.judge(&chain(&[4 * MB]), 10 * MB, delta(4 * MB), None), Verdict::Measure);
        assert_eq!(BOUNDS.judge(&chain(&[4 * MB]), 10 * MB, delta(4 * MB), Some(5 * MB)), Verdict::TooLarge);
        assert_eq!(BOUNDS.judge(&chain(&[4 * MB]), 10 * MB, delta(4 * MB), Some(9 * MB)), Verdict::Keep);
    }

    #[test]
    fn decoding_work_and_depth_are_bounded() {
        let long = chain(&[1; 16]);
        assert_eq!(BOUNDS.judge(&long, 10 * MB, delta(1), Some(10 * MB)), Verdict::TooDeep);
        let busy = DeltaCost { stored_size: 1, written_size: 1271 * MB };
        assert_eq!(BOUNDS.judge(&chain(&[4 * MB]), 10 * MB, busy, Some(4 * MB)), Verdict::TooDeep);
    }

    #[test]
    fn a_sheet_that_expands_tenfold_still_gets_a_chain() {
        let sheet = DeltaCost { stored_size: MB / 10, written_size: 210 * MB };
        let mut links = chain(&[9 * MB]);
        for _ in 0..5 {
            assert_eq!(BOUNDS.judge(&links, 10 * MB, sheet, Some(9 * MB)), Verdict::Keep);
            let mut own = chain(&[MB / 10]).links.remove(0);
            own.written_size = sheet.written_size;
            links.links.insert(0, own);
        }
    }

    #[test]
    fn a_delta_that_saves_less_than_a_request_costs_is_not_kept() {
        let small = Link { object_size: 6000, stored_size: 6000, written_size: 6000, ..chain(&[1]).links[0] };
        let on_small = Chain { links: vec![small] };
        let delta = |stored_size| DeltaCost { stored_size, written_size: 6000 };
        assert_eq!(BOUNDS.judge(&on_small, 6000, delta(1500), Some(6000)), Verdict::Keep);
        assert_eq!(BOUNDS.judge(&on_small, 6000, delta(2000), Some(6000)), Verdict::TooLarge);
        assert!(is_worth_a_delta(4097) && !is_worth_a_delta(4096));
    }

    #[test]
    fn a_full_chain_of_equal_steps_goes_back_to_its_reference() {
        let full = chain(&[&[MB / 100; 15][..], &[4 * MB]].concat());
        assert_eq!(BOUNDS.first_base(&full, 10 * MB), Some(15));
        assert_eq!(BOUNDS.lower_base(&full, 10 * MB, 15, MB), None);
    }

    #[test]
    fn a_full_chain_keeps_its_long_steps() {
        // Nearest first: thirteen small steps on two that span many versions.
        let full = chain(&[&[MB / 100; 13][..], &[MB / 10, MB / 8, 4 * MB]].concat());
        assert_eq!(BOUNDS.first_base(&full, 10 * MB), Some(13));
        // Where that fails after all, the reference is left.
        assert_eq!(BOUNDS.lower_base(&full, 10 * MB, 13, MB), Some(15));
    }

    #[test]
    fn where_nothing_lower_seems_to_fit_the_reference_is_tried() {
        let heavy = chain(&[MB / 4, MB / 4, MB / 2, 4 * MB]);
        assert_eq!(BOUNDS.first_base(&heavy, 10 * MB), Some(0));
        assert_eq!(BOUNDS.lower_base(&heavy, 10 * MB, 0, 2 * MB), Some(3));
        assert_eq!(BOUNDS.lower_base(&chain(&[4 * MB]), 10 * MB, 0, 2 * MB), None);
        assert_eq!(BOUNDS.first_base(&Chain::default(), 10 * MB), None);
    }

    #[test]
    fn sizes_at_the_edge_of_the_type_do_not_overflow() {
        let huge = chain(&[u64::MAX, u64::MAX]);
        assert_eq!(BOUNDS.judge(&huge, u64::MAX, delta(u64::MAX), Some(u64::MAX)), Verdict::TooLarge);
        assert!(!BOUNDS.may_extend(&huge, u64::MAX));
    }

    #[test]
    fn packing_must_save_something() {
        assert!(is_worth_packing(100, 97));
        assert!(!is_worth_packing(100, 98));
        assert!(!is_worth_packing(0, 10));
    }

    fn candidate(likeness: Option<u32>, kinship: Option<Kinship>) -> Candidate {
        Candidate { likeness, kinship, is_at_hand: false }
    }

    #[test]
    fn the_most_alike_is_tried_and_of_equals_the_first_at_hand() {
        let [low, high] = [candidate(Some(20), Some(Kinship::Renamed)), candidate(Some(60), None)];
        assert_eq!(choose(&[low, high, high]), Some(1));
        assert_eq!(choose(&[high, Candidate { is_at_hand: true, ..high }]), Some(1));
    }

    #[test]
    fn strangers_are_not_tried_and_the_unknown_only_by_their_names() {
        let stranger = candidate(Some(0), Some(Kinship::Sibling));
        assert_eq!(
            choose(&[stranger, candidate(None, None), candidate(None, Some(Kinship::Neighbour))]),
            None
        );
        assert_eq!(choose(&[stranger, candidate(None, Some(Kinship::Sibling))]), Some(1));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn a_base_much_smaller_than_the_object_is_not_looked_at() {
        assert!(is_worth_comparing(MB, 8 * MB) && is_worth_comparing(80 * MB, MB));
        assert!(!is_worth_comparing(MB, 17 * MB));
        assert!(!is_worth_comparing(4000, 5000));
    }
}
