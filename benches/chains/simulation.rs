//! Replays histories of versions through the real policy (`plan.rs`), beside the best that was possible.
//!
//! What a delta takes is a model, fitted to two measures of each corpus: the delta from the version before, and that
//! over three versions. A part of it is new in each version and comes with every delta alike (a rebuilt program
//! differs from each other build), another adds up from version to version (a table grows).
//!
//! The optimum is that of a dynamic program which knows the whole history, over all trees of bases in which the versions
//! on top of each other are consecutive. `tests/suite/chains.rs` compares it with all trees of short histories.
#![allow(dead_code)] // the bench prints more than the test asserts

use lfs_delta::model::limits::{
    CHAIN_DEPTH_MAX, COLD_READ_MAX_PERCENT, DECODE_WORK_MAX_RATIO, DELTA_MAX_PERCENT,
};
use lfs_delta::model::{Chain, CodecName, CopyId, Link, Nonce, Oid};
use lfs_delta::plan::{Bounds, DeltaCost, Verdict};

/// What was measured of one corpus.
#[derive(Clone, Copy)]
pub struct Measured {
    pub name: &'static str,
    /// Bytes of an object.
    pub size: u64,
    /// Bytes of a whole copy.
    pub whole: u64,
    /// Bytes of a delta from the version before, and from three before.
    pub step: u64,
    pub three: u64,
    /// What decoding the delta writes, in multiples of the object.
    pub work: u64,
}

/// Version 4 of each corpus: a whole copy by zstd level 3, deltas at effort `default`; the work as the header of the
/// delta from version 3 says. `heldout_rust` is stored whole there: its 1 is assumed.
pub const MEASURED: &[Measured] = &[
    Measured { name: "csv", size: 29_042_842, whole: 6_978_224, step: 285_884, three: 837_146, work: 1 },
    Measured {
        name: "debtar_kernel",
        size: 108_247_040,
        whole: 35_413_726,
        step: 3_515_714,
        three: 10_876_205,
        work: 3,
    },
    Measured {
        name: "exe_esbuild",
        size: 11_120_788,
        whole: 4_647_243,
        step: 64_898,
        three: 161_566,
        work: 1,
    },
    Measured {
        name: "exe_node",
        size: 126_458_664,
        whole: 42_292_672,
        step: 3_714_108,
        three: 4_299_146,
        work: 1,
    },
    Measured {
        name: "exe_ruff",
        size: 24_549_376,
        whole: 10_128_282,
        step: 2_039_703,
        three: 2_720_607,
        work: 1,
    },
    Measured {
        name: "heldout_go",
        size: 13_803_680,
        whole: 5_419_168,
        step: 123_878,
        three: 2_412_548,
        work: 1,
    },
    Measured { name: "heldout_pdf", size: 361_502, whole: 307_104, step: 4_085, three: 13_171, work: 2 },
    Measured {
        name: "heldout_rust",
        size: 33_655_896,
        whole: 7_225_572,
        step: 3_221_833,
        three: 4_689_613,
        work: 1,
    },
    Measured {
        name: "jar_closure",
        size: 14_588_944,
        whole: 13_464_669,
        step: 26_125,
        three: 83_580,
        work: 1,
    },
    Measured { name: "psd", size: 42_711_990, whole: 30_462_273, step: 22_674, three: 44_021, work: 1 },
    Measured {
        name: "sqlite",
        size: 36_003_840,
        whole: 10_807_593,
        step: 1_068_618,
        three: 1_915_610,
        work: 1,
    },
    Measured {
        name: "st_layer",
        size: 90_868_376,
        whole: 83_065_727,
        step: 4_838_746,
        three: 14_504_657,
        work: 1,
    },
    Measured {
        name: "tgz_typescript",
        size: 4_377_468,
        whole: 4_377_468,
        step: 1_175,
        three: 228_007,
        work: 12,
    },
    Measured {
        name: "whl_botocore",
        size: 16_462_628,
        whole: 16_462_628,
        step: 164_988,
        three: 302_315,
        work: 16,
    },
    Measured {
        name: "whl_cryptography",
        size: 4_459_985,
        whole: 4_459_985,
        step: 628_302,
        three: 896_672,
        work: 7,
    },
    Measured {
        name: "whl_numpy",
        size: 16_897_903,
        whole: 16_897_903,
        step: 577_069,
        three: 614_633,
        work: 6,
    },
    Measured { name: "xlsx", size: 3_714_635, whole: 3_714_635, step: 108_864, three: 350_694, work: 18 },
];

/// How many copies a chain may have of objects whose links write so much.
pub fn depth_max(work: u64) -> usize {
    CHAIN_DEPTH_MAX.min(1 + ((DECODE_WORK_MAX_RATIO - 1) / work) as usize)
}

/// How versions follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// Each step is like the one that was measured.
    Steady,
    /// A tenth of that at each step.
    Slow,
    /// Steps of very different sizes, the same on average.
    Uneven,
    /// Steady, but every 25 versions nothing is like before.
    Jumps,
    /// Steady; from a third on two branches in turn.
    Branches,
}

pub const COURSES: [Course; 5] =
    [Course::Steady, Course::Slow, Course::Uneven, Course::Jumps, Course::Branches];

/// A history: sizes, and what each delta would take.
pub struct History {
    pub size: u64,
    pub whole: u64,
    /// What every delta takes, whatever is between.
    fresh: f64,
    /// What has been added until each version.
    added: Vec<f64>,
    /// In which stretch between jumps a version is.
    stretch: Vec<usize>,
    /// The version before, in its branch.
    pub before: Vec<Option<usize>>,
    /// The branch: 0 is the trunk.
    branch: Vec<usize>,
    /// What decoding one link writes, in multiples of the object.
    pub work: u64,
}

impl History {
    pub fn new(measured: &Measured, course: Course, count: usize) -> History {
        let (step, three) = (measured.step as f64, measured.three as f64);
        let drift = ((three - step) / 2.0).max(0.0);
        let (fresh, drift) = if drift > step { (0.0, three / 3.0) } else { (step - drift, drift) };
        let scale = if course == Course::Slow { 0.1 } else { 1.0 };
        let mut seed = 1_u64;
        let mut history = History {
            size: measured.size,
            whole: measured.whole,
            fresh: fresh * scale,
            added: Vec::new(),
            stretch: Vec::new(),
            before: Vec::new(),
            branch: Vec::new(),
            work: measured.work,
        };
        let trunk = if course == Course::Branches { count / 3 } else { count };
        for number in 0..count {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Of ten steps nine are small and one is large.
            let uneven = if seed >> 33 & 7 == 0 { 5.5 } else { 0.35 };
            let step = drift * scale * if course == Course::Uneven { uneven } else { 1.0 };
            let branch = if number < trunk { 0 } else { 1 + (number - trunk) % 2 };
            let before = match number {
                0 => None,
                _ if number < trunk + 2 => Some(number.min(trunk) - 1),
                _ if number >= trunk => Some(number - 2),
                _ => Some(number - 1),
            };
            let added = before.map_or(0.0, |before| history.added[before]) + step;
            history.added.push(added);
            history.before.push(before);
            history.branch.push(branch);
            history.stretch.push(if course == Course::Jumps { number / 25 } else { 0 });
        }
        history
    }

    pub fn len(&self) -> usize {
        self.added.len()
    }

    /// What a delta takes, never more than nine tenths of the whole.
    pub fn delta(&self, base: usize, target: usize) -> u64 {
        let most = self.whole as f64 * 0.9;
        if self.stretch[base] != self.stretch[target] {
            return most as u64;
        }
        ((self.fresh + self.between(base, target)).min(most) as u64).max(300)
    }

    /// What has been added between two versions: from one branch to the other on both of them.
    fn between(&self, one: usize, other: usize) -> f64 {
        let (from, to) = (self.branch[one], self.branch[other]);
        if from == to || from == 0 || to == 0 {
            return (self.added[other] - self.added[one]).abs();
        }
        let fork = self.branch.iter().rposition(|&branch| branch == 0).unwrap_or(0);
        self.added[other] + self.added[one] - 2.0 * self.added[fork]
    }
}

/// What a policy may do when the version before will not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// Store it whole.
    Whole,
    /// A delta on the reference, else whole.
    Reference,
    /// What `Bounds::lower_base` says.
    Lower,
}

/// What came of it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Outcome {
    pub stored: u64,
    pub whole_copies: usize,
    pub encodes: usize,
    /// Sums over all versions, read by themselves.
    pub cold: u64,
    pub warm: u64,
    pub links: usize,
    /// The largest share of a whole copy that a cold reader fetched, in percent.
    pub cold_max_percent: u64,
}

struct Replay<'a> {
    history: &'a History,
    policy: Policy,
    /// Each version's chain, and which version each link is.
    chains: Vec<(Chain, Vec<usize>)>,
    outcome: Outcome,
}

/// Stores a history version by version.
pub fn replay(history: &History, policy: Policy) -> Outcome {
    let mut replay = Replay { history, policy, chains: Vec::new(), outcome: Outcome::default() };
    for target in 0..history.len() {
        let chain = replay.store(target);
        replay.count(target, &chain);
        replay.chains.push(chain);
    }
    replay.outcome
}

impl Replay<'_> {
    fn store(&mut self, target: usize) -> (Chain, Vec<usize>) {
        let history = self.history;
        if let Some(before) = history.before[target] {
            let (chain, versions) = self.chains[before].clone();
            let last = chain.depth() - 1;
            let mut start =
                Bounds::default().first_base(&chain, history.size).and_then(|start| match self.policy {
                    Policy::Whole => (start == 0).then_some(0),
                    Policy::Reference => Some(if start == 0 { 0 } else { last }),
                    Policy::Lower => Some(start),
                });
            while let Some(at) = start.take() {
                match self.attempt(target, &chain.below(at), versions[at]) {
                    Ok(link) => return grown(link, &chain.below(at), target, &versions[at..]),
                    Err((cost, verdict)) => {
                        start = match (self.policy, verdict) {
                            (Policy::Whole, _) => None,
                            (Policy::Lower, Verdict::TooDeep) => {
                                Bounds::default().lower_base(&chain, history.size, at, cost.stored_size)
                            }
                            _ => (at < last).then_some(last),
                        };
                    }
                }
            }
        }
        self.outcome.whole_copies += 1;
        let whole = Link { codec: None, ..link(target, history, history.whole, history.size) };
        (Chain { links: vec![whole] }, vec![target])
    }

    fn attempt(&mut self, target: usize, below: &Chain, base: usize) -> Result<Link, (DeltaCost, Verdict)> {
        let history = self.history;
        self.outcome.encodes += 1;
        let cost =
            DeltaCost { stored_size: history.delta(base, target), written_size: history.size * history.work };
        match Bounds::default().judge(below, history.size, cost, Some(history.whole)) {
            Verdict::Keep => Ok(link(target, history, cost.stored_size, cost.written_size)),
            verdict => Err((cost, verdict)),
        }
    }

    fn count(&mut self, target: usize, (chain, versions): &(Chain, Vec<usize>)) {
        let outcome = &mut self.outcome;
        outcome.stored += chain.links[0].stored_size;
        outcome.cold += chain.stored_size();
        outcome.links += chain.depth();
        let percent = chain.stored_size() * 100 / self.history.whole;
        outcome.cold_max_percent = outcome.cold_max_percent.max(percent);
        // A reader that has nothing but the version before.
        let end = versions.iter().position(|&link| Some(link) == self.history.before[target]);
        let fetched = &chain.links[..end.unwrap_or(chain.depth())];
        outcome.warm += fetched.iter().map(|link| link.stored_size).sum::<u64>();
    }
}

fn grown(link: Link, below: &Chain, target: usize, versions: &[usize]) -> (Chain, Vec<usize>) {
    let links = std::iter::once(link).chain(below.links.iter().copied()).collect();
    (Chain { links }, std::iter::once(target).chain(versions.iter().copied()).collect())
}

fn link(target: usize, history: &History, stored_size: u64, written_size: u64) -> Link {
    let id = CopyId { oid: Oid::of(&target.to_le_bytes()), nonce: Nonce::from_bytes([0; 16]) };
    Link { id, codec: Some(CodecName::DELTA), object_size: history.size, stored_size, written_size }
}

/// The least that any policy within the bounds could store, where chains may have `depth_max` copies.
///
/// A chain down to reference `r` takes what has been added since `r`, whatever its links are, and what comes with
/// each delta. So the depth at which a version stands tells whether it is within the bound on bytes.
pub fn optimum(history: &History, depth_max: usize) -> u64 {
    let order = order(history);
    let count = order.len();
    // forest[s][e]: the least for versions s..e by themselves, the first of them whole.
    let mut forest = vec![vec![NEVER; count + 1]; count + 1];
    forest[count][count] = 0;
    for r in (0..count).rev() {
        forest[r][r] = 0;
        let least = Below::of(history, &order, r, depth_max).least(&forest);
        let least_until = |e: usize| {
            let ends = (r + 1..=e).zip(&least);
            let sums = ends.map(|(end, below)| history.whole + below + forest[end][e]);
            sums.min().unwrap_or(NEVER).min(NEVER)
        };
        let row: Vec<u64> = (r + 1..=count).map(least_until).collect();
        forest[r][r + 1..].copy_from_slice(&row);
    }
    forest[0][count]
}

const NEVER: u64 = u64::MAX / 4;

/// Versions in an order in which each branch is in one piece.
fn order(history: &History) -> Vec<usize> {
    let mut order: Vec<usize> = (0..history.len()).collect();
    order.sort_by_key(|&version| (history.branch[version], version));
    order
}

/// The trees of deltas that can stand on one reference; other references may stand among them, because branches
/// take turns.
struct Below<'a> {
    history: &'a History,
    /// The place of the reference in the order.
    start: usize,
    /// The reference and the versions behind it that can stand on it.
    versions: &'a [usize],
    /// How deep each may stand.
    deepest: Vec<usize>,
    levels: usize,
}

impl<'a> Below<'a> {
    fn of(history: &'a History, order: &'a [usize], r: usize, depth_max: usize) -> Self {
        let room = (history.whole * (COLD_READ_MAX_PERCENT - 100) / 100) as f64;
        let deepest = |&version: &usize| {
            let left = room - history.between(order[r], version);
            let is_near = history.stretch[version] == history.stretch[order[r]];
            if left < 0.0 || !is_near {
                0
            } else if history.fresh > 0.0 {
                (left / history.fresh).min((depth_max - 1) as f64) as usize
            } else {
                depth_max - 1
            }
        };
        let mut deepest: Vec<usize> = std::iter::once(0).chain(order[r + 1..].iter().map(deepest)).collect();
        deepest.truncate(deepest.iter().rposition(|&depth| depth > 0).map_or(1, |last| last + 1));
        let versions = &order[r..r + deepest.len()];
        Self { history, start: r, versions, deepest, levels: depth_max }
    }

    /// Returns for each count of versions behind the reference what they take at least, none first.
    fn least(&self, forest: &[Vec<u64>]) -> Vec<u64> {
        let (count, width) = (self.versions.len(), self.versions.len() + 1);
        let keep_max = self.history.whole * DELTA_MAX_PERCENT / 100;
        let at = |i: usize, l: usize, e: usize| (i * self.levels + l) * width + e;
        // below[i][l][e]: versions i+1..e, all on top of i, which stands at depth l.
        let mut below = vec![NEVER; count * self.levels * width];
        let mut rest = vec![NEVER; (count + 2) * width];
        for i in (0..count).rev().filter(|&i| i == 0 || self.deepest[i] > 0) {
            let costs: Vec<u64> =
                self.versions.iter().map(|&s| self.history.delta(self.versions[i], s)).collect();
            for l in 0..=self.deepest[i] {
                // rest[s][e]: versions s..e, directly or indirectly on i.
                rest.fill(NEVER);
                for s in (i + 1..=count).rev() {
                    rest[s * width + s] = 0;
                    if s == count {
                        continue;
                    }
                    let fits = costs[s] <= keep_max && l < self.deepest[s];
                    let apart = &forest[self.start + s];
                    for e in s + 1..=count {
                        let mut least = NEVER;
                        for m in s + 1..=e {
                            let own = if fits { costs[s] + below[at(s, l + 1, m)] } else { NEVER };
                            least = least.min(own.min(apart[self.start + m]) + rest[m * width + e]);
                        }
                        rest[s * width + e] = least.min(NEVER);
                    }
                }
                for e in i + 1..=count {
                    below[at(i, l, e)] = rest[(i + 1) * width + e];
                }
            }
        }
        (1..=count).map(|e| below[at(0, 0, e)]).collect()
    }
}
