//! Answers what match zlib would have chosen, without zlib's long walks.
//!
//! Newest positions are kept per hash of 3, 4 and 5 bytes, chains per hash of 6: the longest match
//! is in the chain of 6 or is the newest of the shorter ones. zlib gives up after a number of
//! candidates of *its* hash bucket; every position therefore remembers how many positions its
//! bucket had seen, and the difference is a candidate's rank in zlib's chain.
//!
//! Positions enter the tables late: runs predicted by the base cost nothing here. The first
//! searches behind one look at the window itself; when there are more, a window is entered.

use super::window::Window;
use crate::codec::deflate::symbols::{DISTANCE_MAX, LENGTH_MAX, LENGTH_MIN};
use crate::codec::format::{
    CANDIDATE_STEPS_MAX, SCAN_BYTES, SCAN_GAP_MIN, SCANS_MAX, STEPS_EXHAUSTED, STEPS_PER_BYTE,
    STEPS_PER_STREAM,
};

/// A literal (`length` 0) or a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Token {
    /// 3 to 258, or 0.
    pub length: u32,
    /// 1 to 32768, or 0.
    pub distance: u32,
}

impl Token {
    /// Any literal.
    pub const LITERAL: Self = Self { length: 0, distance: 0 };

    /// A match.
    pub fn copy(length: usize, distance: usize) -> Self {
        Self { length: length as u32, distance: distance as u32 }
    }
    /// Says whether it is a literal.
    #[inline(always)]
    pub fn is_literal(self) -> bool {
        self.length == 0
    }
    /// Plain bytes it stands for.
    #[inline(always)]
    pub fn span(self) -> usize {
        self.length.max(1) as usize
    }
}

/// One of zlib's configurations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preset {
    good: u32,
    lazy: u32,
    nice: u32,
    chain: u32,
    greedy: bool,
    variant: Variant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Variant {
    Zlib,
    /// Chromium hashes four bytes and so finds no match of three.
    Chromium,
    /// `Z_FILTERED`, as libpng asks for: no match of five or less.
    Filtered,
    /// Matches of three count however far they are.
    AnyDistance,
}

/// Number of presets; the last is excluded.
pub const PRESETS: u8 = 36;

impl Preset {
    /// Levels 1-9 of each variant.
    pub fn of(index: u8) -> Self {
        const LEVELS: [(u32, u32, u32, u32); 9] = [
            (4, 4, 8, 4),
            (4, 5, 16, 8),
            (4, 6, 32, 32),
            (4, 4, 16, 16),
            (8, 16, 32, 32),
            (8, 16, 128, 128),
            (8, 32, 128, 256),
            (32, 128, 258, 1024),
            (32, 258, 258, 4096),
        ];
        let (good, lazy, nice, chain) = LEVELS[usize::from(index % 9)];
        let variant = match index / 9 {
            0 => Variant::Zlib,
            1 => Variant::Chromium,
            2 => Variant::Filtered,
            _ => Variant::AnyDistance,
        };
        Self { good, lazy, nice, chain, greedy: index % 9 < 3, variant }
    }

    /// How far a match of three may reach.
    fn far(&self) -> usize {
        if self.greedy || self.variant == Variant::AnyDistance { REACH } else { 4096 }
    }
}

/// zlib's own limit: the window less its lookahead.
const REACH: usize = DISTANCE_MAX - 262;
const WINDOW_MASK: usize = DISTANCE_MAX - 1;
const SHORT_BITS: u32 = 17;
const SHORT_SIZE: usize = 1 << SHORT_BITS;
const CHAIN_BITS: u32 = 16;
const CHAIN_SIZE: usize = 1 << CHAIN_BITS;
const BUCKETS: usize = 1 << 16;
const MULTIPLIER: u64 = 0x9e37_79b1_85eb_ca87;

/// Where a position's chain goes on, and how full its bucket of zlib's hash was.
#[derive(Clone, Copy, Default)]
struct Link {
    back: u16,
    rank: u16,
}

/// The tables. Entries are virtual positions: they grow from stream to stream, so that nothing
/// needs clearing.
pub struct Finder {
    newest3: Box<[u16]>,
    newest4: Box<[u16]>,
    newest5: Box<[u16]>,
    newest6: Box<[u32]>,
    links: Box<[Link]>,
    counts: Box<[u16]>,
    /// What the position entered last pushed out of the tables for 3, 4 and 5 bytes.
    displaced: [u16; 3],
    /// Set inside matches that zlib's greedy levels do not enter.
    skipped: Box<[bool]>,
    /// Virtual position of the stream's first byte.
    origin: u64,
    /// First position not entered yet.
    next: usize,
    preset: Preset,
    depth: u32,
    steps: u64,
    /// Searches that may look at the window, as of position `scans_at`.
    scans: usize,
    scans_at: usize,
    /// The lazy rule's look at the next position, which is that position's own answer.
    ahead: Option<(usize, Token)>,
}

#[inline(always)]
fn load(plain: &[u8], at: usize) -> u64 {
    match plain.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_tail(plain, at),
    }
}

#[cold]
fn load_tail(plain: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    let rest = plain.get(at..).unwrap_or(&[]);
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}

/// Hash of the low `bytes` bytes of `word`.
#[inline(always)]
fn hash(word: u64, bytes: u32, bits: u32) -> usize {
    ((word << (64 - 8 * bytes)).wrapping_mul(MULTIPLIER) >> (64 - bits)) as usize
}

#[inline(always)]
fn zlib_hash(word: u64) -> usize {
    ((word & 0xff) << 10 ^ (word >> 8 & 0xff) << 5 ^ (word >> 16 & 0xff)) as usize & 0x7fff
}

#[inline(always)]
fn chromium_hash(word: u64) -> usize {
    hash(word, 4, CHAIN_BITS)
}

/// Returns how many bytes from `a` and `b` on agree, at most `max`; both must have that many.
#[inline]
pub fn agreement(plain: &[u8], a: usize, b: usize, max: usize) -> usize {
    let (first, second) = (&plain[a..a + max], &plain[b..b + max]);
    let (words, tail) = first.as_chunks::<8>();
    let (others, other_tail) = second.as_chunks::<8>();
    for (i, (word, other)) in words.iter().zip(others).enumerate() {
        let difference = u64::from_le_bytes(*word) ^ u64::from_le_bytes(*other);
        if difference != 0 {
            return i * 8 + (difference.trailing_zeros() / 8) as usize;
        }
    }
    words.len() * 8 + tail.iter().zip(other_tail).take_while(|(x, y)| x == y).count()
}

impl Finder {
    /// Creates empty tables.
    pub fn new() -> Self {
        Self {
            newest3: vec![0; SHORT_SIZE].into(),
            newest4: vec![0; SHORT_SIZE].into(),
            newest5: vec![0; SHORT_SIZE].into(),
            newest6: vec![0; CHAIN_SIZE].into(),
            links: vec![Link::default(); DISTANCE_MAX].into(),
            counts: vec![0; BUCKETS].into(),
            displaced: [0; 3],
            skipped: vec![false; DISTANCE_MAX].into(),
            origin: DISTANCE_MAX as u64,
            next: 0,
            preset: Preset::of(5),
            depth: 0,
            steps: 0,
            scans: 0,
            scans_at: 0,
            ahead: None,
        }
    }

    /// Prepares for a stream of `len` plain bytes.
    pub fn start(&mut self, len: usize, preset: Preset, depth: u32) {
        self.preset = preset;
        self.depth = depth;
        self.steps = STEPS_PER_STREAM + STEPS_PER_BYTE * len as u64;
        self.next = 0;
        (self.scans, self.scans_at) = (SCANS_MAX, 0);
        self.ahead = None;
    }

    /// Leaves the stream: none of its positions is within reach of the next one's.
    pub fn finish(&mut self, len: usize) {
        self.origin += len as u64 + DISTANCE_MAX as u64;
    }

    /// Says whether zlib keeps positions inside matches out of its tables.
    pub fn is_greedy(&self) -> bool {
        self.preset.greedy
    }

    #[inline(always)]
    fn virtual_position(&self, at: usize) -> u32 {
        (self.origin + at as u64) as u32
    }

    #[inline(always)]
    fn bucket(&self, word: u64) -> usize {
        match self.preset.variant {
            Variant::Chromium => chromium_hash(word),
            _ => zlib_hash(word),
        }
    }

    /// Enters all positions below `upto` that are not in the tables yet.
    #[inline]
    fn enter(&mut self, plain: &[u8], upto: usize) {
        let end = upto.min(plain.len().saturating_sub(LENGTH_MIN - 1));
        let start = self.next.max(upto.saturating_sub(DISTANCE_MAX));
        if start < end {
            match self.preset.variant {
                Variant::Chromium => self.enter_all(plain, start, end, chromium_hash),
                _ => self.enter_all(plain, start, end, zlib_hash),
            }
        }
        self.next = self.next.max(end);
    }

    /// Enters the positions from `start` to `end`; the loop most time is spent in where new text is long.
    #[inline(always)]
    fn enter_all(&mut self, plain: &[u8], start: usize, end: usize, bucket: impl Fn(u64) -> usize) {
        let greedy = self.preset.greedy;
        let first = self.virtual_position(start);
        let tables = self.newest3.first_chunk_mut::<SHORT_SIZE>().zip(self.newest4.first_chunk_mut());
        let tables = tables.zip(self.newest5.first_chunk_mut::<SHORT_SIZE>());
        let chains = self.newest6.first_chunk_mut::<CHAIN_SIZE>().zip(self.links.first_chunk_mut());
        let chains = chains.zip(self.counts.first_chunk_mut::<BUCKETS>());
        let Some((((newest3, newest4), newest5), ((newest6, links), counts))) = tables.zip(chains) else {
            return;
        };
        let newest4: &mut [u16; SHORT_SIZE] = newest4;
        let links: &mut [Link; DISTANCE_MAX] = links;
        for at in start..end {
            if greedy && self.skipped[at & WINDOW_MASK] {
                continue;
            }
            let word = load(plain, at);
            let position = first.wrapping_add((at - start) as u32);
            let short = position as u16;
            self.displaced = [
                std::mem::replace(&mut newest3[hash(word, 3, SHORT_BITS)], short),
                std::mem::replace(&mut newest4[hash(word, 4, SHORT_BITS)], short),
                std::mem::replace(&mut newest5[hash(word, 5, SHORT_BITS)], short),
            ];
            let head = &mut newest6[hash(word, 6, CHAIN_BITS)];
            let back = position.wrapping_sub(*head);
            *head = position;
            let back = if back as usize >= DISTANCE_MAX { 0 } else { back as u16 };
            let count = &mut counts[bucket(word) & (BUCKETS - 1)];
            links[at & WINDOW_MASK] = Link { back, rank: *count };
            *count = count.wrapping_add(1);
        }
    }

    /// Notes a token, for the levels that keep the insides of longer matches out of the tables.
    #[inline(always)]
    pub fn note(&mut self, at: usize, token: Token) {
        if self.preset.greedy {
            let inside = token.length > self.preset.lazy;
            self.skipped[at & WINDOW_MASK] = false;
            for position in at + 1..at + token.length as usize {
                self.skipped[position & WINDOW_MASK] = inside;
            }
        }
    }

    /// Notes `count` literals.
    pub fn note_literals(&mut self, at: usize, count: usize) {
        if self.preset.greedy {
            for position in at..at + count.min(DISTANCE_MAX) {
                self.skipped[position & WINDOW_MASK] = false;
            }
        }
    }

    /// Distance from `at` back to virtual position `position`, 0 when it is out of reach.
    #[inline(always)]
    fn distance(&self, at: usize, position: u32) -> usize {
        let distance = self.virtual_position(at).wrapping_sub(position) as usize;
        if distance > at { 0 } else { distance }
    }

    /// Predicts the token at `at`.
    pub fn predict(&mut self, plain: &[u8], at: usize) -> Token {
        let found = match self.ahead.take() {
            Some((position, token)) if position == at => token,
            _ => self.search(plain, at, 2, self.preset.chain),
        };
        let final_answer = found.is_literal()
            || self.preset.greedy
            || found.length >= self.preset.lazy
            || at + 1 >= plain.len();
        if final_answer {
            return found;
        }
        let good = found.length >= self.preset.good;
        let chain = if good { self.preset.chain >> 2 } else { self.preset.chain };
        let next = self.search(plain, at + 1, found.length, chain);
        if next.length > found.length {
            self.ahead = Some((at + 1, next));
            return Token::LITERAL;
        }
        found
    }

    /// Finds the longest match at `at` longer than `beat` within zlib's chain limit.
    fn search(&mut self, plain: &[u8], at: usize, beat: u32, chain: u32) -> Token {
        let max = plain.len().saturating_sub(at).min(LENGTH_MAX);
        if max < LENGTH_MIN || beat as usize >= max {
            return Token::LITERAL;
        }
        if at >= self.next + SCAN_GAP_MIN && self.may_scan(at) {
            return self.scan(plain, at, max, beat, chain);
        }
        self.enter(plain, at);
        let word = load(plain, at);
        let query = Query { at, word, max, now: self.counts[self.bucket(word)], chain };
        let long = self.search_chain(plain, &query, (beat as usize).max(5));
        let found = match long {
            Token::LITERAL if beat < 5 => self.search_short(plain, &query, beat),
            found => found,
        };
        if self.preset.variant == Variant::Filtered && found.length <= 5 {
            return Token::LITERAL;
        }
        found
    }

    /// Says whether one more search may look at the window, and counts it.
    fn may_scan(&mut self, at: usize) -> bool {
        let earned = at.saturating_sub(self.scans_at) / SCAN_BYTES;
        self.scans = (self.scans + earned).min(SCANS_MAX);
        self.scans_at += earned * SCAN_BYTES;
        let may = self.scans > 0;
        self.scans -= usize::from(may);
        may
    }

    /// Searches as zlib does, over its chain found by looking.
    #[cold]
    fn scan(&mut self, plain: &[u8], at: usize, max: usize, beat: u32, chain: u32) -> Token {
        let chromium = self.preset.variant == Variant::Chromium;
        let width = if chromium { 4 } else { 3 };
        if max < width {
            return Token::LITERAL;
        }
        let nice = (self.preset.nice as usize).min(max);
        let (mut best, mut found) = (beat as usize, Token::LITERAL);
        let (mut compared, mut seen) = (0, 0);
        for candidate in Window::new(plain, at, width) {
            let distance = at - candidate;
            if self.preset.greedy && self.skipped[candidate & WINDOW_MASK] {
                continue;
            }
            seen += 1;
            if distance > REACH || seen > chain || compared >= self.depth {
                break;
            }
            if plain[candidate + best] != plain[at + best] {
                continue;
            }
            compared += 1;
            let length = agreement(plain, candidate, at, max);
            if length > best && !(length == 3 && distance > self.preset.far()) {
                best = length;
                found = Token::copy(length, distance);
                if length >= nice {
                    break;
                }
            }
        }
        let filtered = self.preset.variant == Variant::Filtered && found.length <= 5;
        if filtered { Token::LITERAL } else { found }
    }

    fn search_chain(&mut self, plain: &[u8], query: &Query, beat: usize) -> Token {
        let &Query { at, word, max, .. } = query;
        if beat >= max {
            return Token::LITERAL;
        }
        let nice = (self.preset.nice as usize).min(max);
        let mut best = beat;
        let mut found = Token::LITERAL;
        let mut distance = self.distance(at, self.newest6[hash(word, 6, CHAIN_BITS)]);
        let depth = if self.steps == 0 { STEPS_EXHAUSTED } else { self.depth };
        let mut left = depth;
        while distance != 0 && distance <= REACH && left > 0 {
            left -= 1;
            let candidate = at - distance;
            let link = self.links[candidate & WINDOW_MASK];
            if (load(plain, candidate) ^ word) << 16 == 0 {
                if !query.reaches(link.rank) {
                    break;
                }
                if plain[candidate + best] == plain[at + best] {
                    let length = agreement(plain, candidate, at, max);
                    if length > best {
                        best = length;
                        found = Token::copy(length, distance);
                        if length >= nice {
                            break;
                        }
                    }
                }
            }
            if link.back == 0 {
                break;
            }
            distance += usize::from(link.back);
            if distance > at {
                break;
            }
        }
        self.steps = self.steps.saturating_sub(u64::from(depth - left));
        found
    }

    /// Asks the newest positions for a match of 5, then 4, then 3 bytes longer than `beat`.
    #[inline]
    fn search_short(&self, plain: &[u8], query: &Query, beat: u32) -> Token {
        // In new text there is mostly no match at all: one branch tells that, not one per table.
        let any = (LENGTH_MIN..=5)
            .fold(false, |any, length| any | (self.newest(plain, query.at, query.word, length) != 0));
        if !any {
            return Token::LITERAL;
        }
        for length in (LENGTH_MIN.max(beat as usize + 1)..=5.min(query.max)).rev() {
            if length == 3 && self.preset.variant == Variant::Chromium {
                break;
            }
            let reach = if length == 3 { self.preset.far() } else { REACH };
            let distance = self.newest(plain, query.at, query.word, length);
            let ranked =
                |distance: usize| query.reaches(self.links[(query.at - distance) & WINDOW_MASK].rank);
            if distance != 0 && distance <= reach && ranked(distance) {
                return Token::copy(length, distance);
            }
        }
        Token::LITERAL
    }

    /// Distance to the newest position that agrees in `length` (3 to 5) bytes, 0 for none.
    #[inline(always)]
    fn newest(&self, plain: &[u8], at: usize, word: u64, length: usize) -> usize {
        let table = match length {
            3 => &self.newest3,
            4 => &self.newest4,
            _ => &self.newest5,
        };
        let here = self.virtual_position(at) as u16;
        let entry = table[hash(word, length as u32, SHORT_BITS)];
        // The lazy rule may have entered `at` already.
        let entry = if entry == here { self.displaced[length.clamp(3, 5) - 3] } else { entry };
        let distance = usize::from(here.wrapping_sub(entry));
        let near = (distance <= at) & (distance <= DISTANCE_MAX);
        let distance = if near { distance } else { 0 };
        let agrees = (load(plain, at - distance) ^ word) << (64 - 8 * length) == 0;
        if agrees { distance } else { 0 }
    }

    /// Returns the steps left, to be restored when a listing turns out not to be needed: the
    /// decoder never makes it.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// See [`Self::steps`].
    pub fn restore_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Calls `visit` with the distance of each candidate that agrees in `length` bytes, newest
    /// first, until it returns `true`.
    pub fn candidates(&mut self, plain: &[u8], at: usize, length: usize, mut visit: impl FnMut(u32) -> bool) {
        if at + length.max(LENGTH_MIN) > plain.len() {
            return;
        }
        if self.next < at {
            let fits = |&candidate: &usize| agreement(plain, candidate, at, length) == length;
            let mut candidates = Window::new(plain, at, LENGTH_MIN).filter(fits);
            candidates.any(|candidate| visit((at - candidate) as u32));
            return;
        }
        let word = load(plain, at);
        let newest = if length < 6 { self.newest(plain, at, word, length) } else { 0 };
        if newest != 0 && visit(newest as u32) {
            return;
        }
        let depth = if self.steps == 0 { STEPS_EXHAUSTED } else { CANDIDATE_STEPS_MAX };
        let mut distance = self.distance(at, self.newest6[hash(word, 6, CHAIN_BITS)]);
        if distance == 0 && self.next > at {
            distance = usize::from(self.links[at & WINDOW_MASK].back);
        }
        for _ in 0..depth {
            if distance == 0 || distance > DISTANCE_MAX.min(at) {
                return;
            }
            self.steps = self.steps.saturating_sub(1);
            let candidate = at - distance;
            let agrees = agreement(plain, candidate, at, length) == length;
            if distance != newest && agrees && visit(distance as u32) {
                return;
            }
            let back = usize::from(self.links[candidate & WINDOW_MASK].back);
            if back == 0 || distance + back > at {
                return;
            }
            distance += back;
        }
    }
}

impl Default for Finder {
    fn default() -> Self {
        Self::new()
    }
}

/// One search.
struct Query {
    at: usize,
    word: u64,
    max: usize,
    /// How full zlib's bucket is now.
    now: u16,
    chain: u32,
}

impl Query {
    /// Says whether zlib's walk gets as far as the candidate entered when the bucket had `rank`.
    #[inline(always)]
    fn reaches(&self, rank: u16) -> bool {
        self.chain >= 4096 || u32::from(self.now.wrapping_sub(rank)) <= self.chain
    }
}
