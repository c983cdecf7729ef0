//! What the encoder decides before it codes a group: each stream's plan and the base's runs.
//!
//! Nothing here is part of the format: any plan decodes.

use std::collections::VecDeque;

use super::base::{BaseToken, Cursor, Reference};
use super::finder::{Finder, Preset};
use super::stream::{Plan, Text, TrueTokens, Trust, Truth};
use crate::codec::deflate::ledger::{BlockKind, Ledger, Stream};
use crate::codec::deflate::symbols::DISTANCE_MAX;
use crate::codec::{Result, Watch};

/// How much work predicting may be.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    /// Search depth, an index into [`crate::codec::format::DEPTHS`].
    pub depth: u8,
    /// Trust threshold, an index into [`crate::codec::format::TRUSTS`].
    pub trust: u8,
}

/// Presets in the order they are tried: common first.
const TRIED: [u8; 20] = [5, 8, 14, 17, 7, 6, 4, 3, 16, 15, 13, 12, 32, 35, 0, 1, 2, 23, 26, 34];
/// A stream below this size keeps its predecessor's plan.
const SAMPLED_MIN: usize = 512;
/// Without a miss among so many tokens, the plan that suited the stream before suits this one.
const GLIMPSE_TOKENS: u32 = 250;
/// New bytes below this, in a stream below [`LARGE`], are not worth a sample.
const NEW_MIN: usize = 256;
const LARGE: usize = 100_000;
/// A sample starts with a full window behind it where it can.
const LEAD: usize = DISTANCE_MAX + 256;

/// Chooses plans, stream by stream.
pub struct Planner<'r> {
    reference: &'r Reference<'r>,
    finder: Finder,
    care: Care,
    previous: Plan,
    /// Of streams whose text is in the expanded form, and of others.
    doubts: [Doubt; 2],
}

/// Streams like those that no other preset suited better are not tried with all of them each time.
#[derive(Clone, Copy, Default)]
struct Doubt {
    /// Streams to come that only the last preset is tried with.
    left: u32,
    /// How many there were last time.
    span: u32,
}

impl Doubt {
    const SPAN_MAX: u32 = 31;

    /// Says whether to try all presets now.
    fn tries_all(&mut self) -> bool {
        let now = self.left == 0;
        self.left = self.left.saturating_sub(1);
        now
    }

    fn note(&mut self, changed: bool) {
        self.span = if changed { 0 } else { (self.span * 2 + 1).min(Self::SPAN_MAX) };
        self.left = self.span;
    }
}

impl<'r> Planner<'r> {
    /// Starts a group.
    pub fn new(reference: &'r Reference<'r>, care: Care) -> Self {
        let previous = Plan { depth: care.depth, trust: care.trust, ..Plan::FIRST };
        Self { reference, finder: Finder::new(), care, previous, doubts: Default::default() }
    }

    /// Chooses the plan of a group's next stream.
    pub fn plan(&mut self, text: Text, ledger: &Ledger, stream: &Stream) -> Plan {
        if let Some(from) = self.sample_start(text) {
            let kind = usize::from(text.origin.is_none());
            self.previous = self.guess(text.plain, ledger, stream, from, kind);
        }
        self.previous
    }

    /// Finds where the base is of no help; `None` when that is hardly anywhere.
    fn sample_start(&self, text: Text) -> Option<usize> {
        let len = text.plain.len();
        if len < SAMPLED_MIN {
            return None;
        }
        let mut cursor = Cursor::new(self.reference, text.origin);
        let (mut first, mut unknown, mut at) = (None, 0, 0);
        while at < len && text.origin.is_some() && !self.reference.is_empty() {
            cursor.token(text.plain, at);
            let (end, mapped) = cursor.zone();
            let end = end.clamp(at + 1, len);
            if !mapped {
                unknown += end - at;
                first = first.or((end - at > 64).then_some(at));
            }
            at = end;
        }
        let predicted = text.origin.is_some() && !self.reference.is_empty();
        if predicted && unknown < NEW_MIN && len < LARGE {
            return None;
        }
        let from = first.unwrap_or(0);
        let from = if len > from + 2 * LEAD { from + LEAD } else { from };
        Some(from.min(len.saturating_sub(6000)))
    }

    /// Says whether the last stream was predicted with all care.
    fn is_exact(&self) -> bool {
        (self.previous.depth, self.previous.trust) == (self.care.depth, self.care.trust)
    }

    /// Picks the preset that predicts a sample best.
    fn guess(&mut self, plain: &[u8], ledger: &Ledger, stream: &Stream, from: usize, kind: usize) -> Plan {
        let glimpse = Sample { plain, ledger, stream, from, tokens_max: GLIMPSE_TOKENS };
        if self.is_exact() && glimpse.misses(&mut self.finder, self.previous.preset, 0).0 == 0 {
            return self.previous;
        }
        let tokens_max = if plain.len() > 200_000 { 4000 } else { 1000 };
        let sample = Sample { tokens_max, ..glimpse };
        let (mut misses, tokens) = sample.misses(&mut self.finder, self.previous.preset, u32::MAX);
        let mut best = self.previous.preset;
        if misses * 200 > tokens && self.doubts[kind].tries_all() {
            misses = misses.saturating_sub(2); // changing costs something too
            for preset in TRIED.into_iter().filter(|&preset| preset != self.previous.preset) {
                let (now, _) = sample.misses(&mut self.finder, preset, misses);
                if now < misses {
                    (misses, best) = (now, preset);
                }
                if misses * 500 < tokens {
                    break;
                }
            }
            self.doubts[kind].note(best != self.previous.preset);
        }
        let exact = misses * 20 <= tokens;
        let (depth, trust) = if exact { (self.care.depth, self.care.trust) } else { (0, 0) };
        Plan { preset: best, depth, trust }
    }
}

struct Sample<'a> {
    plain: &'a [u8],
    ledger: &'a Ledger,
    stream: &'a Stream,
    from: usize,
    tokens_max: u32,
}

impl Sample<'_> {
    /// Counts the tokens a preset gets wrong, giving up above `misses_max`; and all tokens.
    fn misses(&self, finder: &mut Finder, preset: u8, misses_max: u32) -> (u32, u32) {
        finder.start(self.plain.len(), Preset::of(preset), 4096);
        let (mut tokens, mut at) = TrueTokens::starting_near(self.ledger, self.stream, self.from);
        let (mut count, mut misses) = (0, 0);
        while count < self.tokens_max && at < self.plain.len() && misses <= misses_max {
            let token = tokens.take(at);
            misses += u32::from(finder.predict(self.plain, at) != token);
            finder.note(at, token);
            count += 1;
            at += token.span();
        }
        finder.finish(self.plain.len());
        (misses, count)
    }
}

/// Counts how long the base stays right, exactly as the coder will ask.
#[derive(Default)]
pub struct RunCounter {
    trust: Trust,
    open: u64,
    runs: VecDeque<u64>,
}

impl RunCounter {
    /// Adds a group's next stream.
    ///
    /// # Errors
    /// `Io` of the watch, which is asked at every block.
    pub fn add(&mut self, reference: &Reference, text: Text, truth: Truth, watch: Watch<'_>) -> Result<()> {
        self.trust.limit(truth.plan);
        let mut cursor = Cursor::new(reference, text.origin);
        let mut tokens = TrueTokens::new(truth.ledger, truth.stream);
        let mut at = 0;
        for block in &truth.ledger.blocks[truth.stream.blocks.clone()] {
            watch(0)?;
            if block.kind == BlockKind::Stored {
                at = block.end;
            }
            while at < block.end {
                at = self.step(text.plain, at, block.end, &mut cursor, &mut tokens);
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        plain: &[u8],
        at: usize,
        end: usize,
        cursor: &mut Cursor,
        tokens: &mut TrueTokens,
    ) -> usize {
        let base = cursor.token(plain, at);
        if let (BaseToken::Literals(count), true) = (base, self.trust.in_runs()) {
            let count = count.min(tokens.next_match_at().min(end) - at);
            if count > 0 {
                self.open += count as u64;
                return at + count;
            }
        }
        let token = tokens.take(at);
        let right = match base {
            BaseToken::Unknown => return at + token.span(),
            BaseToken::Literals(_) => token.is_literal(),
            BaseToken::Match(said) => token == said,
        };
        if !self.trust.in_runs() {
            self.trust.note(right);
        } else if right {
            self.open += 1;
        } else {
            self.trust.end_run(self.open);
            self.runs.push_back(self.open);
            self.open = 0;
        }
        at + token.span()
    }

    /// Returns all runs, the last one still open.
    pub fn finish(mut self) -> VecDeque<u64> {
        self.runs.push_back(self.open);
        self.runs
    }
}
