//! Bytes that no segment covers: literals, and short copies from the base or earlier such bytes.
//!
//! Four recent sources are kept, move-to-front. A region starts with the alignments around it as
//! the most recent ones, so what a replaced stretch still shares with the base is cheap to name.

use super::coder::{Bit, Coder, Number};
use super::matcher::Segment;
use crate::codec::bytes::{bit_length, common_prefix, scramble, u32_at, u64_at};

/// Where a copy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The base, at this distance from the target's position.
    Base(i64),
    /// Earlier literal bytes, this many back.
    Own(u64),
}

/// What a region does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Literal,
    Recent { index: usize, len: usize },
    Copy { source: Source, len: usize },
}

/// Recently used sources.
#[derive(Clone, Copy, Debug)]
pub struct Recent(pub [Source; 4]);

impl Default for Recent {
    fn default() -> Self {
        Self([Source::Base(0); 4])
    }
}

impl Recent {
    /// Puts a source in front.
    pub fn push(&mut self, source: Source) {
        let known = self.0[..3].iter().position(|other| *other == source).unwrap_or(3);
        self.0[..=known].rotate_right(1);
        self.0[0] = source;
    }

    /// Enters a region: the alignments before and behind it come first.
    pub fn enter(&mut self, before: i64, behind: Option<i64>) {
        if let Some(behind) = behind.filter(|behind| *behind != before) {
            self.push(Source::Base(behind));
        }
        self.push(Source::Base(before));
    }
}

/// Shortest copy from a recent source.
pub const RECENT_MIN: usize = 2;
/// Shortest copy from elsewhere.
pub const COPY_MIN: usize = 4;
/// Longest match compared by the parser at a time: longer ones are taken at once.
const GOOD: usize = 128;
/// How many bytes before it is searched a bucket is loaded.
const SOON: usize = 4;
const BASE_HASHED: u64 = 5;
const WAYS: usize = 4;
/// Bits of a position in the index; the rest of an entry is a tag.
const NUMBER_BITS_MAX: u32 = 26;

/// Short strings of the base, for all groups.
#[derive(Debug)]
pub struct BaseIndex {
    entries: Vec<u32>,
    bucket_bits: u32,
    number_bits: u32,
    step: usize,
}

impl BaseIndex {
    /// Indexes at most about `count_max` positions of `base`.
    ///
    /// What no segment was copied from is the likeliest to be wanted: it gets most of the entries,
    /// the base as a whole the rest.
    pub fn new(base: &[u8], segments: &[Segment], count_max: usize) -> Self {
        let bits = bit_length(count_max as u64).clamp(8, 30);
        let step = (base.len() >> NUMBER_BITS_MAX) + 1;
        let number_bits = bit_length((base.len() / step) as u64).max(1);
        let entries = vec![u32::MAX; 1 << bits];
        let mut index = Self { entries, bucket_bits: bits - 2, number_bits, step };
        index.insert(base, 0..base.len(), base.len().div_ceil(count_max / 4 + 1).max(1));
        let free = uncovered(segments, base.len());
        let free_len: usize = free.iter().map(|range| range.len()).sum();
        let sparse = free_len.div_ceil(count_max / 2 + 1);
        for range in free {
            index.insert(base, range, sparse);
        }
        index
    }

    fn insert(&mut self, base: &[u8], range: std::ops::Range<usize>, sparse: usize) {
        let step = sparse.next_multiple_of(self.step);
        let first = range.start.next_multiple_of(self.step);
        for at in (first..range.end.min(base.len().saturating_sub(8))).step_by(step) {
            let (bucket, tag) = self.place(base, at);
            let number = at / self.step;
            self.entries[bucket + ((at / step) & (WAYS - 1))] = tag | number as u32;
        }
    }

    #[inline]
    fn place(&self, bytes: &[u8], at: usize) -> (usize, u32) {
        let hash = scramble(u64_at(bytes, at) << (64 - 8 * BASE_HASHED));
        let bucket = (hash >> (64 - self.bucket_bits)) as usize * WAYS;
        (bucket, ((hash >> 8) as u32).unbounded_shl(self.number_bits))
    }

    /// Loads the bucket of a string and returns something of it.
    #[inline]
    fn touch(&self, bytes: &[u8], at: usize) -> u32 {
        self.entries[self.place(bytes, at).0]
    }

    #[inline]
    fn find(&self, bytes: &[u8], at: usize) -> [Option<usize>; WAYS] {
        let (bucket, tag) = self.place(bytes, at);
        let low = u32::MAX.unbounded_shr(32 - self.number_bits);
        std::array::from_fn(|way| {
            let entry = self.entries[bucket + way];
            let fits = entry & !low == tag && entry != u32::MAX;
            fits.then_some((entry & low) as usize * self.step)
        })
    }
}

/// The stretches of the base that no segment was copied from.
fn uncovered(segments: &[Segment], base_len: usize) -> Vec<std::ops::Range<usize>> {
    let mut sources: Vec<_> = segments.iter().map(|it| (it.base, it.base + it.len)).collect();
    sources.sort_unstable();
    sources.push((base_len, base_len));
    let (mut free, mut at) = (Vec::new(), 0);
    for (start, end) in sources {
        if start > at {
            free.push(at..start);
        }
        at = at.max(end);
    }
    free
}

const OWN_BITS: u32 = 15;

/// Short strings among a group's earlier literal bytes.
#[derive(Debug)]
struct OwnIndex {
    entries: Vec<u32>,
    indexed: usize,
}

impl OwnIndex {
    fn new() -> Self {
        Self { entries: vec![u32::MAX; WAYS << OWN_BITS], indexed: 0 }
    }

    #[inline]
    fn bucket(bytes: &[u8], at: usize) -> usize {
        (scramble(u64::from(u32_at(bytes, at))) >> (64 - OWN_BITS)) as usize * WAYS
    }

    fn catch_up(&mut self, literals: &[u8]) {
        while self.indexed + 4 <= literals.len() {
            let bucket = Self::bucket(literals, self.indexed);
            self.entries[bucket..bucket + WAYS].rotate_right(1);
            self.entries[bucket] = self.indexed as u32;
            self.indexed += 1;
        }
    }
}

/// The region that is parsed.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The next byte's position in the target, and the region's end.
    pub at: usize,
    pub end: usize,
    /// Expected distance to the base.
    pub shift: i64,
}

/// How hard to look for copies.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Whether to look one byte ahead before taking a copy.
    pub is_lazy: bool,
    /// What a literal is believed to cost, in bits.
    pub literal_price: i32,
    /// Bits per byte from which a block counts as incompressible.
    pub dense_bits: f64,
}

/// Chooses tokens; only the encoder has one.
#[derive(Debug)]
pub struct Parser<'a> {
    base: &'a [u8],
    target: &'a [u8],
    index: &'a BaseIndex,
    own: OwnIndex,
    depth: Depth,
    pending: Option<(usize, Token, i32)>,
    dry: usize,
    /// Nothing: a sum that makes the processor load buckets before they are needed.
    warmth: u32,
}

impl<'a> Parser<'a> {
    /// How hard to look.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    pub fn new(base: &'a [u8], target: &'a [u8], index: &'a BaseIndex, depth: Depth) -> Self {
        Self { base, target, index, own: OwnIndex::new(), depth, pending: None, dry: 0, warmth: 0 }
    }

    /// The next token of a region.
    pub fn next(&mut self, region: Region, recent: &Recent, literals: &[u8]) -> Token {
        let (token, gain) = match self.pending.take() {
            Some((at, token, gain)) if at == region.at => (token, gain),
            _ => self.best(region, recent, literals),
        };
        if gain <= 0 {
            self.dry += 1;
            return Token::Literal;
        }
        self.dry = 0;
        if self.depth.is_lazy && token_len(token) < 32 && region.at + 1 < region.end {
            let later = Region { at: region.at + 1, ..region };
            let (other, other_gain) = self.best_ahead(later, recent, literals);
            if other_gain > gain + self.depth.literal_price - 1 {
                self.pending = Some((later.at, other, other_gain));
                return Token::Literal;
            }
        }
        token
    }

    /// The best token and the bits it saves over literals.
    fn best(&mut self, region: Region, recent: &Recent, literals: &[u8]) -> (Token, i32) {
        // Long stretches without a copy rarely have one: look at fewer places.
        let pause = (1 << (self.dry >> 8).min(4)) - 1;
        if self.dry & pause != 0 {
            return (Token::Literal, 0);
        }
        self.own.catch_up(literals);
        let soon = region.at + SOON;
        if soon + 8 <= self.target.len() {
            self.warmth = self.warmth.wrapping_add(self.index.touch(self.target, soon));
        }
        self.search(region, recent, literals, 0)
    }

    /// The same one byte ahead, where own sources are one byte closer than they will be.
    fn best_ahead(&mut self, region: Region, recent: &Recent, literals: &[u8]) -> (Token, i32) {
        self.search(region, recent, literals, 1)
    }

    fn search(&self, region: Region, recent: &Recent, literals: &[u8], ahead: usize) -> (Token, i32) {
        let price = self.depth.literal_price;
        let mut best = (Token::Literal, 0);
        let mut consider = |token: Token, gain: i32| {
            if gain > best.1 {
                best = (token, gain);
            }
        };
        let mut longest = 0;
        for (index, source) in recent.0.iter().enumerate() {
            let len = self.match_len(*source, region, literals, ahead);
            if len >= RECENT_MIN {
                longest = longest.max(len);
                consider(Token::Recent { index, len }, len as i32 * price - 7 - index as i32);
            }
        }
        let left = region.end - region.at;
        if longest >= 64 || longest == left || left < COPY_MIN || region.at + 8 > self.target.len() {
            return best;
        }
        self.search_base(region, &mut consider);
        self.search_own(region, literals, ahead, &mut consider);
        best
    }

    fn search_base(&self, region: Region, consider: &mut impl FnMut(Token, i32)) {
        let wanted = &self.target[region.at..region.end];
        for base_at in self.index.find(self.target, region.at).into_iter().flatten() {
            let len = common_prefix(&self.base[base_at..], wanted);
            if len > COPY_MIN {
                let shift = base_at as i64 - region.at as i64;
                let away = bit_length(shift.abs_diff(region.shift)) as i32;
                let gain = len.min(GOOD * 64) as i32 * self.depth.literal_price - 13 - away;
                consider(Token::Copy { source: Source::Base(shift), len }, gain);
            }
        }
    }

    fn search_own(
        &self,
        region: Region,
        literals: &[u8],
        ahead: usize,
        consider: &mut impl FnMut(Token, i32),
    ) {
        let bucket = OwnIndex::bucket(self.target, region.at);
        for entry in &self.own.entries[bucket..bucket + WAYS] {
            if *entry as usize >= literals.len() {
                break;
            }
            let source = Source::Own((literals.len() + ahead - *entry as usize) as u64);
            let len = self.match_len(source, region, literals, ahead);
            if len >= COPY_MIN {
                let away = bit_length((literals.len() - *entry as usize) as u64) as i32;
                consider(
                    Token::Copy { source, len },
                    len.min(GOOD * 64) as i32 * self.depth.literal_price - 13 - away,
                );
            }
        }
    }

    /// Bytes a source predicts right; `ahead` literals lie between the known ones and the region.
    #[inline]
    fn match_len(&self, source: Source, region: Region, literals: &[u8], ahead: usize) -> usize {
        let wanted = &self.target[region.at..region.end];
        match source {
            Source::Base(shift) => match usize::try_from(region.at as i64 + shift) {
                Ok(base_at) if base_at < self.base.len() => common_prefix(&self.base[base_at..], wanted),
                _ => 0,
            },
            Source::Own(back) => {
                let known = literals.len() + ahead;
                let Some(from) = known.checked_sub(back as usize) else { return 0 };
                let Some(earlier) = literals.get(from..) else { return 0 };
                let len = common_prefix(earlier, wanted);
                if len < earlier.len() || ahead > 0 || len == wanted.len() {
                    return len;
                }
                len + common_prefix(&wanted[..wanted.len() - len], &wanted[len..])
            }
        }
    }
}

fn token_len(token: Token) -> usize {
    match token {
        Token::Literal => 1,
        Token::Recent { len, .. } | Token::Copy { len, .. } => len,
    }
}

/// The models of tokens.
#[derive(Debug)]
pub struct TokenModel {
    is_copy: [Bit; 64],
    is_recent: [Bit; 8],
    indices: [Bit; 32],
    is_own: [Bit; 8],
    below: Bit,
    near: [Number; 2],
    own: Number,
    to_end: [Bit; 32],
    lengths: [Number; 4],
    /// The last three tokens: which were copies.
    history: usize,
}

impl Default for TokenModel {
    fn default() -> Self {
        Self {
            is_copy: [Bit::default(); 64],
            is_recent: [Bit::default(); 8],
            indices: [Bit::default(); 32],
            is_own: [Bit::default(); 8],
            below: Bit::default(),
            near: std::array::from_fn(|_| Number::default()),
            own: Number::default(),
            to_end: [Bit::default(); 32],
            lengths: std::array::from_fn(|_| Number::default()),
            history: 0,
        }
    }
}

impl TokenModel {
    /// Begins a region.
    pub fn enter(&mut self) {
        self.history = 0;
    }

    /// Whether the last token was a copy, and the history for contexts.
    pub fn history(&self) -> usize {
        self.history
    }

    /// Codes a token and updates the recent sources. The length never exceeds what is left.
    #[inline]
    pub fn code<C: Coder>(
        &mut self,
        coder: &mut C,
        token: Token,
        region: Region,
        recent: &mut Recent,
    ) -> Option<(Source, usize)> {
        let left = region.end - region.at;
        let few = (bit_length(left as u64) as usize).min(4) - 1;
        let is_own = matches!(recent.0[0], Source::Own(_));
        let model = &mut self.is_copy[self.history * 8 + few * 2 + usize::from(is_own)];
        let is_copy = coder.bit(model, token != Token::Literal);
        let history = self.history;
        self.history = history << 1 & 7 | usize::from(is_copy);
        if !is_copy {
            return None;
        }
        let is_recent = matches!(token, Token::Recent { .. });
        let (source, class, min) = if coder.bit(&mut self.is_recent[history], is_recent) {
            let index = self.recent_index(coder, token, history);
            (recent.0[index], usize::from(index > 0), RECENT_MIN)
        } else {
            let source = self.source(coder, token, region, history);
            (source, 2 + usize::from(matches!(source, Source::Own(_))), COPY_MIN)
        };
        recent.push(source);
        Some((source, self.length(coder, token_len(token), class, min, left)))
    }

    fn recent_index<C: Coder>(&mut self, coder: &mut C, token: Token, history: usize) -> usize {
        let right = if let Token::Recent { index, .. } = token { index } else { 0 };
        let mut index = 0;
        while index < 3 && coder.bit(&mut self.indices[history * 4 + index], index != right) {
            index += 1;
        }
        index
    }

    fn source<C: Coder>(&mut self, coder: &mut C, token: Token, region: Region, history: usize) -> Source {
        let source = if let Token::Copy { source, .. } = token { source } else { Source::Base(0) };
        let back = if let Source::Own(back) = source { Some(back) } else { None };
        if coder.bit(&mut self.is_own[history], back.is_some()) {
            return Source::Own(self.own.code(coder, back.unwrap_or(0)));
        }
        let away = if let Source::Base(shift) = source { shift.wrapping_sub(region.shift) } else { 0 };
        let is_below = coder.bit(&mut self.below, away < 0);
        let away = self.near[usize::from(is_below)].code(coder, away.unsigned_abs()) as i64;
        let away = if is_below { away.wrapping_neg() } else { away };
        Source::Base(region.shift.wrapping_add(away))
    }

    /// Codes a copy's length: a flag when it ends the region, else a number.
    fn length<C: Coder>(
        &mut self,
        coder: &mut C,
        len: usize,
        class: usize,
        min: usize,
        left: usize,
    ) -> usize {
        let few = (bit_length(left as u64) as usize).min(7);
        if coder.bit(&mut self.to_end[class * 8 + few], len == left) {
            return left;
        }
        let more = self.lengths[class].code(coder, len.wrapping_sub(min) as u64);
        usize::try_from(more).unwrap_or(usize::MAX).saturating_add(min).min(left)
    }
}
