//! Codes the tokens and blocks of one stream: the encoder's and the decoder's one common text.
//!
//! Three sources answer for a token. While the base has been right for a while, only the length of
//! its run of right answers is told. Otherwise the finder says what zlib would do, the base what
//! was done before, and whether they are right costs a bit that mostly weighs next to nothing.

use std::collections::VecDeque;

use super::base::{BaseToken, Cursor, Reference};
use super::coder::{Coder, tree};
use super::finder::{Finder, Preset, Token};
use super::header;
use super::model::{Model, length_class, trust_class};
use crate::codec::deflate::emit::{Coded, Output, Stored};
use crate::codec::deflate::ledger::{Block, BlockKind, Ledger, Match, Matches, Stream};
use crate::codec::deflate::symbols::{
    DISTANCE_BASE, DISTANCE_EXTRA, DISTANCE_MAX, LENGTH_MAX, LENGTH_MIN, LENGTH_SYMBOL, distance_symbol,
};
use crate::codec::deflate::trees::{HeaderBits, Histogram};
use crate::codec::format::{
    BLOCK_TOKENS_REMEMBERED_MIN, BLOCK_TOKENS_USUAL, CANDIDATES_RANKED, DEPTHS, DYNAMIC_BLOCK_BYTES_MIN,
    DYNAMIC_BLOCKS_FREE, EMPTY_BLOCKS_MAX, TRUST_MIN, TRUSTS,
};
use crate::codec::{Result, Watch, corrupt};

/// How a stream is predicted: the encoder's choice, told when it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Index of the zlib preset.
    pub preset: u8,
    /// Index into [`DEPTHS`].
    pub depth: u8,
    /// Index into [`TRUSTS`].
    pub trust: u8,
}

impl Plan {
    /// Every group starts from zlib's default level.
    pub const FIRST: Self = Self { preset: 5, depth: 1, trust: 1 };

    fn pack(self) -> u32 {
        u32::from(self.preset) << 4 | u32::from(self.depth) << 2 | u32::from(self.trust)
    }

    fn unpack(bits: u32) -> Self {
        let preset = (bits >> 4) as u8 % super::finder::PRESETS;
        Self { preset, depth: (bits >> 2 & 3) as u8, trust: (bits & 3) as u8 }
    }

    fn trust_max(self) -> u32 {
        TRUSTS[usize::from(self.trust)]
    }
}

/// When to rely on the base, and how long that went well.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Right base tokens since the last wrong one, while tokens are told one by one.
    pub streak: u32,
    /// How long the streak must be before runs are told.
    pub threshold: u32,
    max: u32,
}

impl Trust {
    /// Trusts the base until it is wrong once.
    pub fn new() -> Self {
        Self { streak: u32::MAX, threshold: TRUST_MIN, max: TRUST_MIN }
    }

    /// Applies a stream's plan.
    pub fn limit(&mut self, plan: Plan) {
        self.max = plan.trust_max();
        self.threshold = self.threshold.clamp(TRUST_MIN, self.max);
    }

    /// Says whether base tokens are told in runs now.
    #[inline(always)]
    pub fn in_runs(&self) -> bool {
        self.streak >= self.threshold
    }

    /// Notes whether a base token told by itself was right.
    #[inline(always)]
    pub fn note(&mut self, right: bool) {
        self.streak = if right { self.streak.saturating_add(1) } else { 0 };
    }

    /// Notes the end of a run of `run` right tokens: the shorter, the longer until the next.
    pub fn end_run(&mut self, run: u64) {
        self.streak = 0;
        let threshold = u64::from(self.threshold);
        if run < 8 * threshold {
            self.threshold = (self.threshold * 2).min(self.max);
        } else if run > 64 * threshold {
            self.threshold = (self.threshold / 2).max(TRUST_MIN);
        }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self::new()
    }
}

/// The stream as it really is; the encoder's knowledge.
#[derive(Clone, Copy)]
pub struct Truth<'a> {
    /// Where its matches and blocks are.
    pub ledger: &'a Ledger,
    /// Which they are.
    pub stream: &'a Stream,
    /// How it is to be predicted.
    pub plan: Plan,
}

/// The true tokens in order.
pub struct TrueTokens<'a> {
    matches: Matches<'a>,
    next: usize,
}

impl<'a> TrueTokens<'a> {
    /// Starts at the stream's first token.
    pub fn new(ledger: &'a Ledger, stream: &Stream) -> Self {
        Self { matches: ledger.matches().slice(stream.matches.clone()), next: 0 }
    }
    /// Starts at the first token that begins at `from` or later; returns where that is.
    pub fn starting_near(ledger: &'a Ledger, stream: &Stream, from: usize) -> (Self, usize) {
        let mut tokens = Self::new(ledger, stream);
        tokens.next = tokens.matches.first_from(from);
        let covered = tokens.next.checked_sub(1).map_or(0, |before| tokens.matches.get(before).end());
        (tokens, from.max(covered))
    }
    /// Nothing is known.
    fn none() -> Self {
        Self { matches: Matches::default(), next: 0 }
    }
    /// Returns the token at `at` and steps over it.
    #[inline(always)]
    pub fn take(&mut self, at: usize) -> Token {
        if self.next_match_at() == at {
            let found = self.matches.get(self.next);
            self.next += 1;
            return Token::copy(found.length(), found.distance());
        }
        Token::LITERAL
    }
    /// Returns where the next match starts.
    #[inline(always)]
    pub fn next_match_at(&self) -> usize {
        if self.next < self.matches.len() { self.matches.get(self.next).position() } else { usize::MAX }
    }
    #[inline(always)]
    fn skip(&mut self, count: usize) {
        self.next += count;
    }
}

/// Where a stream's plain text is.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    /// Its bytes.
    pub plain: &'a [u8],
    /// Its position in the new expanded form; `None` when it is not part of it.
    pub origin: Option<usize>,
}

/// One block being told.
struct Open {
    histogram: Histogram,
    matches: Vec<Match>,
    start: usize,
    at: usize,
    tokens: u32,
    /// The block ends at whichever of both comes first.
    end: usize,
    tokens_max: u32,
}

/// Codes the streams of one group, in order.
pub struct StreamCoder<'r, C> {
    /// Where symbols go or come from.
    pub coder: C,
    reference: &'r Reference<'r>,
    model: Model,
    finder: Finder,
    trust: Trust,
    /// Right base tokens left in the current run; `None` before its length is told.
    run: Option<u64>,
    run_told: u64,
    /// The encoder's run lengths to come.
    runs: VecDeque<u64>,
    plan: Plan,
    usual_tokens: u32,
    watch: Watch<'r>,
}

impl<'r, C: Coder> StreamCoder<'r, C> {
    /// Starts a group; `runs` are the base's run lengths in it, empty when decoding. The watch is asked at every
    /// block.
    pub fn new(coder: C, reference: &'r Reference<'r>, runs: VecDeque<u64>, watch: Watch<'r>) -> Self {
        Self {
            coder,
            reference,
            model: Model::new(),
            finder: Finder::new(),
            trust: Trust::new(),
            run: None,
            run_told: 0,
            runs,
            plan: Plan::FIRST,
            usual_tokens: BLOCK_TOKENS_USUAL,
            watch,
        }
    }

    /// Codes one stream; when decoding, its blocks go to `out`.
    ///
    /// # Errors
    /// `Corrupt` when what is told is no stream of this text, or one of more than `packed_max` bytes; what
    /// `out` and the watch say.
    pub fn stream<O: Output>(
        &mut self,
        text: Text,
        packed_max: usize,
        truth: Option<Truth>,
        mut out: O,
    ) -> Result<O::Done> {
        let plain = text.plain;
        self.code_plan(plain.len(), truth);
        let mut cursor = Cursor::new(self.reference, text.origin);
        let mut tokens = match truth {
            Some(truth) => TrueTokens::new(truth.ledger, truth.stream),
            None => TrueTokens::none(),
        };
        let mut blocks = truth.map_or(&[][..], |t| &t.ledger.blocks[t.stream.blocks.clone()]).iter();
        let mut open = Open::new();
        let mut limits = BlockLimits::new(plain.len());
        loop {
            (self.watch)(0)?;
            let known = blocks.next();
            if C::ENCODES && known.is_none() {
                return Err(corrupt("a stream without a last block"));
            }
            let last = self.block(plain, &mut cursor, &mut tokens, &mut open, &mut out, known, truth)?;
            limits.note(&open, last.1)?;
            if out.position().div_ceil(8) > packed_max {
                return Err(corrupt("a stream longer than declared"));
            }
            if last.0 {
                break;
            }
        }
        if open.at != plain.len() {
            return Err(corrupt("a stream that ends early"));
        }
        let known = truth.map_or(0, |truth| truth.stream.padding);
        let padding = self.model.blocks.tail(&mut self.coder, known);
        self.finder.finish(plain.len());
        Ok(out.finish(padding))
    }

    fn code_plan(&mut self, len: usize, truth: Option<Truth>) {
        let wanted = truth.map_or(self.plan, |truth| truth.plan);
        let contexts = &mut self.model.blocks;
        if self.coder.bit(&mut contexts.plan_changed, wanted != self.plan) {
            self.plan = Plan::unpack(tree(&mut self.coder, &mut contexts.plan, 10, wanted.pack()));
        }
        let depth = DEPTHS[usize::from(self.plan.depth)];
        self.finder.start(len, Preset::of(self.plan.preset), depth);
        self.trust.limit(self.plan);
    }

    /// Codes one block; returns whether it is the last, and its kind.
    #[allow(clippy::too_many_arguments)]
    fn block<O: Output>(
        &mut self,
        plain: &[u8],
        cursor: &mut Cursor,
        tokens: &mut TrueTokens,
        open: &mut Open,
        out: &mut O,
        known: Option<&Block>,
        truth: Option<Truth>,
    ) -> Result<(bool, BlockKind)> {
        let kind = self.model.blocks.kind(&mut self.coder, known.map_or(0, |block| block.kind as u32));
        let kind = BlockKind::from_code(kind).ok_or(corrupt("an unknown kind of block"))?;
        if kind == BlockKind::Stored {
            let last = self.stored(plain, open, out, known)?;
            return Ok((last, kind));
        }
        let (base_end, base_header) = cursor.next_block_end(open.at);
        self.open(plain.len(), base_end, open, known);
        while open.tokens < open.tokens_max && open.at < open.end {
            self.step(plain, cursor, tokens, open)?;
        }
        let at_end = open.at == plain.len();
        let last = known.is_some_and(|block| block.last);
        let last = self.model.blocks.last(&mut self.coder, true, at_end, last);
        let header = match kind {
            BlockKind::Dynamic => {
                let known = known.zip(truth).map(|(block, truth)| HeaderBits {
                    bytes: truth.ledger.header(block.header).to_vec(),
                    bits: block.header.bits,
                });
                let base = base_header.map(|header| HeaderBits {
                    bytes: self.reference.header(header).to_vec(),
                    bits: header.bits,
                });
                header::code(&mut self.coder, &mut self.model.blocks, &open.histogram, base, known)?
            }
            _ => HeaderBits::default(),
        };
        if !C::ENCODES {
            let coded = Coded { kind, last, span: open.start..open.at, matches: &open.matches, header };
            out.coded(plain, coded, &open.histogram)?;
        }
        Ok((last, kind))
    }

    fn stored<O: Output>(
        &mut self,
        plain: &[u8],
        open: &mut Open,
        out: &mut O,
        known: Option<&Block>,
    ) -> Result<bool> {
        let contexts = &mut self.model.blocks;
        let padding = contexts.padding(&mut self.coder, known.map_or(0, |block| block.padding));
        let count = contexts.count(&mut self.coder, known.map_or(0, |block| block.tokens));
        let bytes = plain[open.at..].get(..count as usize).filter(|bytes| bytes.len() <= 0xffff);
        let bytes = bytes.ok_or(corrupt("a stored block beyond its stream"))?;
        open.start = open.at;
        open.at += bytes.len();
        let at_end = open.at == plain.len();
        let last = known.is_some_and(|block| block.last);
        let last = contexts.last(&mut self.coder, false, at_end, last);
        if !C::ENCODES {
            out.stored(plain, Stored { last, padding, span: open.start..open.at })?;
        }
        Ok(last)
    }

    /// Codes where the block ends.
    fn open(&mut self, len: usize, base_end: Option<usize>, open: &mut Open, known: Option<&Block>) {
        let base_end = base_end.unwrap_or(usize::MAX);
        let how = known.map_or(0, |block| match block.tokens {
            tokens if tokens == self.usual_tokens => 1,
            0 => 3,
            _ if block.end == len => 0,
            _ if block.end == base_end => 2,
            _ => 3,
        });
        open.begin(len);
        match self.model.blocks.end(&mut self.coder, how) {
            0 => {}
            1 => open.tokens_max = self.usual_tokens,
            2 => open.end = base_end.min(len),
            _ => {
                let count = known.map_or(0, |block| block.tokens);
                open.tokens_max = self.model.blocks.count(&mut self.coder, count);
                if open.tokens_max > BLOCK_TOKENS_REMEMBERED_MIN {
                    self.usual_tokens = open.tokens_max;
                }
            }
        }
    }

    /// Codes one token, or a stretch of them.
    #[inline(always)]
    fn step(
        &mut self,
        plain: &[u8],
        cursor: &mut Cursor,
        tokens: &mut TrueTokens,
        open: &mut Open,
    ) -> Result<()> {
        let base = cursor.token(plain, open.at);
        if base != BaseToken::Unknown && self.trust.in_runs() {
            let left = match self.run {
                Some(left) => left,
                None => self.tell_run(),
            };
            if left > 0 {
                self.run = Some(left);
                return self.follow(plain, cursor, tokens, open, base);
            }
            self.run = None;
            self.trust.end_run(self.run_told);
            let token = self.token(plain, open.at, base, true, tokens.take_if::<C>(open.at));
            return self.accept(plain, open, token);
        }
        let token = self.token(plain, open.at, base, false, tokens.take_if::<C>(open.at));
        match base {
            BaseToken::Unknown => {}
            BaseToken::Literals(_) => self.trust.note(token.is_literal()),
            BaseToken::Match(said) => self.trust.note(token == said),
        }
        self.accept(plain, open, token)
    }

    fn tell_run(&mut self) -> u64 {
        let run = if C::ENCODES { self.runs.pop_front().unwrap_or(0) } else { 0 };
        self.run_told = self.model.runs.code(&mut self.coder, run);
        self.run_told
    }

    /// Takes base tokens over, as many as the run and the text allow.
    #[inline(always)]
    fn follow(
        &mut self,
        plain: &[u8],
        cursor: &mut Cursor,
        tokens: &mut TrueTokens,
        open: &mut Open,
        base: BaseToken,
    ) -> Result<()> {
        let left = self.run.unwrap_or(0);
        let token = match base {
            BaseToken::Literals(count) => {
                let count = count.min(left.min(u64::from(open.tokens_left())) as usize);
                let count = count.min(open.end - open.at);
                self.finder.note_literals(open.at, count);
                open.take_literals(plain, count);
                self.run = Some(left - count as u64);
                return Ok(());
            }
            BaseToken::Match(token) => token,
            BaseToken::Unknown => return Ok(()),
        };
        let (taken, matches) = self.follow_equal(plain, cursor, open, left);
        if matches > 0 {
            tokens.skip(matches);
            self.run = Some(left - taken);
            return Ok(());
        }
        self.run = Some(left - 1);
        tokens.skip(1);
        self.accept(plain, open, token)
    }

    /// Takes over whole matches with the literals before them, where both texts are equal.
    #[inline(always)]
    fn follow_equal(
        &mut self,
        plain: &[u8],
        cursor: &mut Cursor,
        open: &mut Open,
        left: u64,
    ) -> (u64, usize) {
        let (source_min, equal_end) = cursor.equal_stretch();
        let stop = equal_end.min(open.end + 1);
        let most = left.min(u64::from(open.tokens_left()));
        let (mut taken, mut matches) = (0u64, 0);
        while let Some((position, length, distance)) = cursor.peek_match() {
            let literals = position - open.at;
            if position + length >= stop
                || position < source_min + distance
                || taken + literals as u64 + 1 > most
            {
                break;
            }
            if self.finder.is_greedy() {
                self.finder.note_literals(open.at, literals);
                self.finder.note(position, Token::copy(length, distance));
            }
            open.count_literals(plain, position);
            open.push::<C>(position, length, distance);
            taken += literals as u64 + 1;
            matches += 1;
            cursor.advance();
        }
        open.tokens += taken as u32;
        (taken, matches)
    }

    /// Notes a token told by itself.
    #[inline(always)]
    fn accept(&mut self, plain: &[u8], open: &mut Open, token: Token) -> Result<()> {
        if token.is_literal() {
            self.finder.note_literals(open.at, 1);
            open.take_literals(plain, 1);
            return Ok(());
        }
        let (length, distance) = (token.length as usize, token.distance as usize);
        if length > plain.len() - open.at || distance == 0 || distance > open.at.min(DISTANCE_MAX) {
            return Err(corrupt("a match outside its stream"));
        }
        self.finder.note(open.at, token);
        open.push::<C>(open.at, length, distance);
        open.tokens += 1;
        Ok(())
    }

    /// Codes a token that is not part of a run.
    fn token(&mut self, plain: &[u8], at: usize, base: BaseToken, wrong: bool, truth: Token) -> Token {
        let found = self.finder.predict(plain, at);
        if found.is_literal() && plain.len() - at < LENGTH_MIN {
            return Token::LITERAL;
        }
        let said = match base {
            BaseToken::Unknown => None,
            BaseToken::Literals(_) => Some(Token::LITERAL),
            BaseToken::Match(token) => Some(token),
        };
        let class = length_class(found.length);
        let agree = said == Some(found);
        if !(wrong && agree) && self.finder_is_right(class, said, agree, wrong, truth == found) {
            return found;
        }
        if let Some(said) = said.filter(|_| !agree && !wrong) {
            let kind = usize::from(!said.is_literal());
            let context = (class * 2 + kind) * 3 + trust_class(self.trust.streak);
            let context = &mut self.model.tokens.base_right[context];
            if !self.coder.bit(context, truth != said) {
                return said;
            }
        }
        self.told_token(plain, at, found, said, truth)
    }

    #[inline(always)]
    fn finder_is_right(
        &mut self,
        class: usize,
        said: Option<Token>,
        agree: bool,
        wrong: bool,
        right: bool,
    ) -> bool {
        let standing = match said {
            None => 0,
            Some(_) if wrong => 4,
            Some(_) if agree => 1,
            Some(said) => 2 + usize::from(!said.is_literal()),
        };
        let trust = if said.is_none() { 0 } else { trust_class(self.trust.streak) };
        let context = self.model.tokens.hit_context(class, standing, trust);
        let miss = self.coder.bit(context, !right);
        self.model.tokens.history = self.model.tokens.history << 1 | usize::from(miss);
        !miss
    }

    /// Codes a token neither source knew.
    #[cold]
    fn told_token(
        &mut self,
        plain: &[u8],
        at: usize,
        found: Token,
        said: Option<Token>,
        truth: Token,
    ) -> Token {
        let class = length_class(found.length);
        let base_literal = said.is_some_and(Token::is_literal);
        if !found.is_literal() && !base_literal {
            let context = &mut self.model.tokens.literal[class * 3 + usize::from(said.is_some())];
            if self.coder.bit(context, truth.is_literal()) {
                return Token::LITERAL;
            }
        }
        let length = self.told_length(class, found, truth.length);
        if length as usize > (plain.len() - at).min(LENGTH_MAX) {
            return Token { length, distance: 0 };
        }
        let distance = self.told_distance(plain, at, length, found, said, truth.distance);
        Token { length, distance }
    }

    fn told_length(&mut self, class: usize, found: Token, truth: u32) -> u32 {
        let contexts = &mut self.model.tokens;
        if !found.is_literal() && !self.coder.bit(&mut contexts.same_length[class], truth != found.length) {
            return found.length;
        }
        let value = truth.wrapping_sub(LENGTH_MIN as u32) & 0xff;
        tree(&mut self.coder, &mut contexts.length[class], 8, value) + LENGTH_MIN as u32
    }

    fn told_distance(
        &mut self,
        plain: &[u8],
        at: usize,
        length: u32,
        found: Token,
        said: Option<Token>,
        truth: u32,
    ) -> u32 {
        let said = said.filter(|said| !said.is_literal());
        if let Some(said) = said.filter(|s| s.length != length && s.distance != found.distance) {
            let context = &mut self.model.tokens.same_distance;
            if !self.coder.bit(context, truth != said.distance) {
                return said.distance;
            }
        }
        let known_wrong = if length == found.length { found.distance } else { 0 };
        let class = match length {
            3 => 0,
            4 | 5 => 1,
            _ => 2,
        };
        if let Some(distance) = self.ranked(plain, at, length, class, known_wrong, truth) {
            return distance;
        }
        let slots = &mut self.model.tokens.slot[class];
        let slot = tree(&mut self.coder, slots, 5, distance_symbol(truth) as u32).min(29) as usize;
        let first = u32::from(DISTANCE_BASE[slot]);
        first + self.coder.raw(truth.wrapping_sub(first), DISTANCE_EXTRA[slot].into())
    }

    /// Codes a distance as an index into the finder's candidates; `None` when it is not among them.
    fn ranked(
        &mut self,
        plain: &[u8],
        at: usize,
        length: u32,
        class: usize,
        known_wrong: u32,
        truth: u32,
    ) -> Option<u32> {
        let mut rank = CANDIDATES_RANKED;
        if C::ENCODES {
            let mut index = 0;
            let steps = self.finder.steps();
            self.finder.candidates(plain, at, length as usize, |distance| {
                if distance == truth {
                    rank = index;
                }
                index += usize::from(distance != known_wrong);
                distance == truth || index == CANDIDATES_RANKED
            });
            if rank == CANDIDATES_RANKED {
                self.finder.restore_steps(steps);
            }
        }
        let contexts = &mut self.model.tokens.candidate[class];
        let mut told = 0;
        while told < CANDIDATES_RANKED && self.coder.bit(&mut contexts[told], told < rank) {
            told += 1;
        }
        if C::ENCODES || told == CANDIDATES_RANKED {
            return (told < CANDIDATES_RANKED).then_some(truth);
        }
        let mut found = 0;
        self.finder.candidates(plain, at, length as usize, |distance| {
            if distance == known_wrong {
                return false;
            }
            if told == 0 {
                found = distance;
                return true;
            }
            told -= 1;
            false
        });
        Some(found)
    }
}

impl TrueTokens<'_> {
    #[inline(always)]
    fn take_if<C: Coder>(&mut self, at: usize) -> Token {
        if C::ENCODES { self.take(at) } else { Token::LITERAL }
    }
}

impl Open {
    fn new() -> Self {
        Self {
            histogram: Histogram::new(),
            matches: Vec::new(),
            start: 0,
            at: 0,
            tokens: 0,
            end: 0,
            tokens_max: 0,
        }
    }

    fn begin(&mut self, len: usize) {
        self.histogram = Histogram::new();
        self.matches.clear();
        self.start = self.at;
        self.tokens = 0;
        self.end = len;
        self.tokens_max = u32::MAX;
    }

    #[inline(always)]
    fn tokens_left(&self) -> u32 {
        self.tokens_max - self.tokens
    }

    #[inline(always)]
    fn count_literals(&mut self, plain: &[u8], upto: usize) {
        for &byte in &plain[self.at..upto] {
            self.histogram.literals[usize::from(byte)] += 1;
        }
    }

    #[inline(always)]
    fn take_literals(&mut self, plain: &[u8], count: usize) {
        self.count_literals(plain, self.at + count);
        self.at += count;
        self.tokens += count as u32;
    }

    #[inline(always)]
    fn push<C: Coder>(&mut self, position: usize, length: usize, distance: usize) {
        self.histogram.literals[257 + usize::from(LENGTH_SYMBOL[length])] += 1;
        self.histogram.distances[distance_symbol(distance as u32)] += 1;
        if !C::ENCODES {
            self.matches.push(Match::new(position, length, distance));
        }
        self.at = position + length;
    }
}

/// Keeps a hostile stream from consisting of nothing but expensive blocks.
struct BlockLimits {
    empty_in_a_row: u32,
    dynamic_left: usize,
}

impl BlockLimits {
    fn new(len: usize) -> Self {
        Self { empty_in_a_row: 0, dynamic_left: DYNAMIC_BLOCKS_FREE + len / DYNAMIC_BLOCK_BYTES_MIN }
    }

    fn note(&mut self, open: &Open, kind: BlockKind) -> Result<()> {
        let empty = open.at == open.start;
        self.empty_in_a_row = if empty { self.empty_in_a_row + 1 } else { 0 };
        let dynamic = usize::from(kind == BlockKind::Dynamic);
        let left = self.dynamic_left.checked_sub(dynamic);
        self.dynamic_left = left.ok_or(corrupt("too many short blocks"))?;
        if self.empty_in_a_row > EMPTY_BLOCKS_MAX {
            return Err(corrupt("too many empty blocks"));
        }
        Ok(())
    }
}
