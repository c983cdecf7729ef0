//! The contexts of the token coder: one fresh set per group.

use super::coder::{Bit, Coder, Number, tree};
use crate::codec::format::CANDIDATES_RANKED;

/// Classes of a predicted length.
pub const LENGTH_CLASSES: usize = 8;
/// Classes of a base token's standing.
const STANDINGS: usize = 5;

/// Groups a predicted length.
#[inline(always)]
pub fn length_class(length: u32) -> usize {
    match length {
        0..=2 => 0,
        3 => 1,
        4 => 2,
        5..=6 => 3,
        7..=10 => 4,
        11..=31 => 5,
        32..=257 => 6,
        _ => 7,
    }
}

/// Groups how many base tokens in a row were right.
#[inline(always)]
pub fn trust_class(trust: u32) -> usize {
    match trust {
        0 => 0,
        1..=3 => 1,
        _ => 2,
    }
}

/// Groups a run of base tokens that were right, as context of the next.
fn run_class(run: u64) -> usize {
    match run {
        0 => 0,
        1..=2 => 1,
        3..=7 => 2,
        _ => 3,
    }
}

/// Lengths of base runs.
pub struct Runs {
    short: [[Bit; 9]; 4],
    long: Number,
    class: usize,
}

impl Runs {
    fn new() -> Self {
        Self { short: [[Bit::NEW; 9]; 4], long: Number::NEW, class: 0 }
    }

    /// Codes the length of a run.
    pub fn code<C: Coder>(&mut self, coder: &mut C, run: u64) -> u64 {
        let told = run.min(u64::from(u32::MAX) - 16) as u32;
        let mut short = 0;
        while short < 8 && coder.bit(&mut self.short[self.class][short as usize], told > short) {
            short += 1;
        }
        let rest = if short == 8 { self.long.code(coder, told.wrapping_sub(8)) } else { 0 };
        let run = u64::from(short) + u64::from(rest);
        self.class = run_class(run);
        run
    }
}

/// Single tokens.
pub struct TokenContexts {
    /// Whether the finder is right.
    pub hit: Vec<Bit>,
    /// Whether the base is, when the finder is not.
    pub base_right: Vec<Bit>,
    /// Whether a told token is a literal.
    pub literal: [Bit; 3 * LENGTH_CLASSES],
    /// Whether only the distance is unexpected.
    pub same_length: [Bit; LENGTH_CLASSES],
    /// Told lengths, by class of the expected one.
    pub length: Vec<[Bit; 256]>,
    /// Whether the base's distance holds although its length does not.
    pub same_distance: Bit,
    /// Whether a distance is beyond the candidate of this rank, by class of length.
    pub candidate: [[Bit; CANDIDATES_RANKED]; 3],
    /// Distance symbols, by class of length.
    pub slot: [[Bit; 32]; 3],
    /// Whether the finder was right lately, newest lowest.
    pub history: usize,
}

impl TokenContexts {
    fn new() -> Self {
        Self {
            hit: vec![Bit::NEW; 8 * LENGTH_CLASSES * STANDINGS * 3],
            base_right: vec![Bit::NEW; LENGTH_CLASSES * 2 * 3],
            literal: [Bit::NEW; 3 * LENGTH_CLASSES],
            same_length: [Bit::NEW; LENGTH_CLASSES],
            length: vec![[Bit::NEW; 256]; LENGTH_CLASSES],
            same_distance: Bit::NEW,
            candidate: [[Bit::NEW; CANDIDATES_RANKED]; 3],
            slot: [[Bit::NEW; 32]; 3],
            history: 0,
        }
    }

    /// The context of "the finder is right".
    #[inline(always)]
    pub fn hit_context(&mut self, length_class: usize, standing: usize, trust: usize) -> &mut Bit {
        let history = self.history & 7;
        &mut self.hit[((history * LENGTH_CLASSES + length_class) * STANDINGS + standing) * 3 + trust]
    }
}

/// Blocks and streams.
pub struct BlockContexts {
    kind: [[Bit; 4]; 4],
    end: [Bit; 4],
    count: Number,
    last: [Bit; 4],
    padded: Bit,
    tail: Bit,
    /// Whether a header is not zlib's.
    pub header_is_zlibs: Bit,
    /// Whether a header is not the base's.
    pub header_is_the_bases: Bit,
    /// Whether a header can't be told in parts.
    pub header_in_zlibs_runs: Bit,
    /// Code lengths, by the one zlib would choose; literals first, distances behind.
    pub code_length: Vec<[Bit; 16]>,
    /// Lengths of runs of code lengths, and the code of the runs.
    pub run: Vec<[Bit; 32]>,
    /// Whether a stream has another plan than the one before.
    pub plan_changed: Bit,
    /// Plans.
    pub plan: Vec<Bit>,
    /// Kind of the block before.
    pub previous_kind: usize,
}

impl BlockContexts {
    fn new() -> Self {
        Self {
            kind: [[Bit::NEW; 4]; 4],
            end: [Bit::NEW; 4],
            count: Number::NEW,
            last: [Bit::NEW; 4],
            padded: Bit::NEW,
            tail: Bit::NEW,
            header_is_zlibs: Bit::NEW,
            header_is_the_bases: Bit::NEW,
            header_in_zlibs_runs: Bit::NEW,
            code_length: vec![[Bit::NEW; 16]; 2 * 16],
            run: vec![[Bit::NEW; 32]; 64],
            plan_changed: Bit::NEW,
            plan: vec![Bit::NEW; 1 << 10],
            previous_kind: 0,
        }
    }

    /// Codes a block's kind; 3 is invalid.
    pub fn kind<C: Coder>(&mut self, coder: &mut C, kind: u32) -> u32 {
        let kind = tree(coder, &mut self.kind[self.previous_kind], 2, kind);
        self.previous_kind = kind as usize & 3;
        kind
    }

    /// Codes how a block's end is told.
    pub fn end<C: Coder>(&mut self, coder: &mut C, how: u32) -> u32 {
        tree(coder, &mut self.end, 2, how)
    }

    /// Codes a number of tokens or stored bytes.
    pub fn count<C: Coder>(&mut self, coder: &mut C, count: u32) -> u32 {
        self.count.code(coder, count)
    }

    /// Codes whether a block is the last.
    pub fn last<C: Coder>(&mut self, coder: &mut C, coded: bool, at_end: bool, last: bool) -> bool {
        coder.bit(&mut self.last[usize::from(coded) * 2 + usize::from(at_end)], last)
    }

    /// Codes the bits between a stored block's header and its length.
    pub fn padding<C: Coder>(&mut self, coder: &mut C, padding: u8) -> u8 {
        Self::rare(coder, &mut self.padded, padding)
    }

    /// Codes the bits behind the last block.
    pub fn tail<C: Coder>(&mut self, coder: &mut C, padding: u8) -> u8 {
        Self::rare(coder, &mut self.tail, padding)
    }

    fn rare<C: Coder>(coder: &mut C, context: &mut Bit, padding: u8) -> u8 {
        if coder.bit(context, padding != 0) { coder.raw(padding.into(), 7) as u8 } else { 0 }
    }
}

/// All contexts of a group.
pub struct Model {
    /// How long the base stays right.
    pub runs: Runs,
    /// Single tokens.
    pub tokens: TokenContexts,
    /// Blocks and streams.
    pub blocks: BlockContexts,
}

impl Model {
    /// Knows nothing.
    pub fn new() -> Self {
        Self { runs: Runs::new(), tokens: TokenContexts::new(), blocks: BlockContexts::new() }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}
