//! The codes zlib would have chosen for a block, and the header it would have written.
//!
//! A faithful retelling of `build_tree`, `gen_bitlen` and `scan_tree` of zlib's trees.c, including
//! the order in which its heap breaks ties. Most encoders in use are descendants of it, and then a
//! block's header follows from its histogram. The functions are part of the delta format.

use super::bits::BitWriter;
use super::huffman::{CODE_BITS_MAX, codes};
use super::symbols::{CODE_LENGTH_ORDER, DISTANCES, END_OF_BLOCK, LITERALS};

const SYMBOLS_MAX: usize = LITERALS;
const NODES_MAX: usize = 2 * SYMBOLS_MAX + 1;

/// How often a block uses each symbol.
#[derive(Clone)]
pub struct Histogram {
    /// Literals, the end of the block, lengths.
    pub literals: [u32; LITERALS],
    /// Distances.
    pub distances: [u32; DISTANCES],
}

impl Histogram {
    /// Counts nothing but the end of the block.
    pub fn new() -> Self {
        let mut literals = [0; LITERALS];
        literals[END_OF_BLOCK] = 1;
        Self { literals, distances: [0; DISTANCES] }
    }

    /// Returns zlib's code lengths for both alphabets, trailing unused symbols cut off.
    pub fn zlib_lengths(&self) -> (Lengths, Lengths) {
        (zlib_lengths(&self.literals, CODE_BITS_MAX), zlib_lengths(&self.distances, CODE_BITS_MAX))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// Code lengths of one alphabet.
#[derive(Clone)]
pub struct Lengths {
    bits: [u8; SYMBOLS_MAX],
    used: usize,
}

impl Lengths {
    /// Returns the lengths up to the last symbol in use.
    pub fn used(&self) -> &[u8] {
        &self.bits[..self.used]
    }
    /// Returns a symbol's length, 0 when it has none.
    pub fn get(&self, symbol: usize) -> u8 {
        self.used().get(symbol).copied().unwrap_or(0)
    }
}

/// Computes the lengths zlib gives an alphabet used `frequencies` times.
pub fn zlib_lengths(frequencies: &[u32], bits_max: u32) -> Lengths {
    let mut tree = Tree::plant(frequencies);
    tree.join(frequencies.len());
    tree.measure(frequencies.len(), bits_max)
}

struct Tree {
    frequency: [u32; NODES_MAX + 1],
    depth: [u8; NODES_MAX + 1],
    parent: [u16; NODES_MAX + 1],
    /// A heap from 1 to `heap_len`; nodes taken from it are listed from `sorted` on.
    heap: [u16; NODES_MAX + 1],
    heap_len: usize,
    sorted: usize,
    heap_end: usize,
    last_used: usize,
}

impl Tree {
    /// Puts the symbols in use on the heap, at least two.
    fn plant(frequencies: &[u32]) -> Self {
        let heap_end = 2 * frequencies.len() + 1;
        let mut tree = Self {
            frequency: [0; NODES_MAX + 1],
            depth: [0; NODES_MAX + 1],
            parent: [0; NODES_MAX + 1],
            heap: [0; NODES_MAX + 1],
            heap_len: 0,
            sorted: heap_end,
            heap_end,
            last_used: 0,
        };
        let mut last_used = None;
        for (symbol, &frequency) in frequencies.iter().enumerate() {
            if frequency == 0 {
                continue;
            }
            tree.frequency[symbol] = frequency;
            tree.push(symbol);
            last_used = Some(symbol);
        }
        while tree.heap_len < 2 {
            let symbol = match last_used {
                Some(symbol) if symbol >= 2 => 0,
                Some(symbol) => symbol + 1,
                None => 0,
            };
            last_used = last_used.max(Some(symbol));
            tree.frequency[symbol] = 1;
            tree.push(symbol);
        }
        tree.last_used = last_used.unwrap_or(0);
        for position in (1..=tree.heap_len / 2).rev() {
            tree.sift(position);
        }
        tree
    }

    fn push(&mut self, node: usize) {
        self.heap_len += 1;
        self.heap[self.heap_len] = node as u16;
    }

    fn before(&self, a: u16, b: u16) -> bool {
        let (a, b) = (usize::from(a), usize::from(b));
        let (first, second) = (self.frequency[a], self.frequency[b]);
        first < second || first == second && self.depth[a] <= self.depth[b]
    }

    fn sift(&mut self, mut position: usize) {
        let node = self.heap[position];
        let mut child = position * 2;
        while child <= self.heap_len {
            if child < self.heap_len && self.before(self.heap[child + 1], self.heap[child]) {
                child += 1;
            }
            if self.before(node, self.heap[child]) {
                break;
            }
            self.heap[position] = self.heap[child];
            position = child;
            child *= 2;
        }
        self.heap[position] = node;
    }

    fn retire(&mut self, node: u16) {
        self.sorted -= 1;
        self.heap[self.sorted] = node;
    }

    /// Joins the two rarest nodes until one is left; new nodes are numbered from `node`.
    fn join(&mut self, mut node: usize) {
        loop {
            let first = self.heap[1];
            self.heap[1] = self.heap[self.heap_len];
            self.heap_len -= 1;
            self.sift(1);
            let second = self.heap[1];
            self.retire(first);
            self.retire(second);
            let (a, b) = (usize::from(first), usize::from(second));
            self.frequency[node] = self.frequency[a].wrapping_add(self.frequency[b]);
            self.depth[node] = self.depth[a].max(self.depth[b]).wrapping_add(1);
            self.parent[a] = node as u16;
            self.parent[b] = node as u16;
            self.heap[1] = node as u16;
            node += 1;
            self.sift(1);
            if self.heap_len < 2 {
                break;
            }
        }
        self.retire(self.heap[1]);
    }

    /// Derives lengths from depths, none above `bits_max`.
    fn measure(&self, symbols: usize, bits_max: u32) -> Lengths {
        let bits_max = bits_max as usize;
        let mut bits = [0u8; NODES_MAX + 1];
        let mut count = [0u32; CODE_BITS_MAX as usize + 2];
        let mut overflow = 0i64;
        for &node in &self.heap[self.sorted + 1..self.heap_end] {
            let node = usize::from(node);
            let wanted = usize::from(bits[usize::from(self.parent[node])]) + 1;
            overflow += i64::from(wanted > bits_max);
            bits[node] = wanted.min(bits_max) as u8;
            if node <= self.last_used {
                count[wanted.min(bits_max)] += 1;
            }
        }
        if overflow > 0 {
            rebalance(&mut count, bits_max, overflow);
            self.reassign(&mut bits, &count, bits_max);
        }
        let mut lengths = Lengths { bits: [0; SYMBOLS_MAX], used: self.last_used + 1 };
        lengths.bits[..symbols].copy_from_slice(&bits[..symbols]);
        lengths
    }

    /// Hands the counted lengths out again, longest to the rarest.
    fn reassign(&self, bits: &mut [u8], count: &[u32], bits_max: usize) {
        let mut nodes = self.heap[self.sorted..self.heap_end].iter().rev();
        for length in (1..=bits_max).rev() {
            let mut left = count[length];
            while left > 0 {
                let Some(&node) = nodes.next() else { return };
                if usize::from(node) <= self.last_used {
                    bits[usize::from(node)] = length as u8;
                    left -= 1;
                }
            }
        }
    }
}

/// Makes room for codes that are too long by lengthening shorter ones.
fn rebalance(count: &mut [u32], bits_max: usize, mut overflow: i64) {
    while overflow > 0 {
        let Some(bits) = (1..bits_max).rev().find(|&bits| count[bits] > 0) else {
            return;
        };
        count[bits] -= 1;
        count[bits + 1] += 2;
        count[bits_max] = count[bits_max].wrapping_sub(1);
        overflow -= 2;
    }
}

/// One operation of a header's run-length form: a length, or a repetition and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// A code length, or 16 to 18 for a repetition.
    pub symbol: u8,
    /// What the repetition's extra bits say.
    pub repeat: u8,
}

/// Spells `lengths` the way zlib does, appending to `runs`.
pub fn zlib_runs(lengths: &[u8], runs: &mut Vec<Run>) {
    let mut previous = None;
    let mut at = 0;
    while at < lengths.len() {
        let current = lengths[at];
        let first_of_its_kind = previous != Some(current);
        let limit = if current == 0 { 138 } else { 6 + usize::from(first_of_its_kind) };
        let same = lengths[at..].iter().take(limit).take_while(|&&next| next == current).count();
        spell(current, same, first_of_its_kind, runs);
        previous = Some(current);
        at += same;
    }
}

fn spell(length: u8, times: usize, first_of_its_kind: bool, runs: &mut Vec<Run>) {
    let leading = usize::from(length != 0 && first_of_its_kind);
    let run = |symbol, repeat: usize| Run { symbol, repeat: repeat as u8 };
    if times < 3 + leading {
        runs.extend(std::iter::repeat_n(run(length, 0), times));
    } else if length != 0 {
        runs.extend(std::iter::repeat_n(run(length, 0), leading));
        runs.push(run(16, times - leading - 3));
    } else if times <= 10 {
        runs.push(run(17, times - 3));
    } else {
        runs.push(run(18, times - 11));
    }
}

/// Extra bits of a run's repetition count.
pub fn repeat_bits(symbol: u8) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

/// A dynamic block's header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeaderBits {
    /// The bits, the first one lowest; zero-padded.
    pub bytes: Vec<u8>,
    /// How many bits there are.
    pub bits: usize,
}

/// Writes the header zlib writes for these code lengths.
pub fn zlib_header(literals: &[u8], distances: &[u8]) -> HeaderBits {
    let mut runs = Vec::with_capacity(320);
    zlib_runs(literals, &mut runs);
    zlib_runs(distances, &mut runs);
    let mut frequencies = [0u32; 19];
    for run in &runs {
        frequencies[usize::from(run.symbol)] += 1;
    }
    let code = zlib_lengths(&frequencies, 7);
    header(literals.len(), distances.len(), &code.bits[..19], &runs)
}

/// Writes a header in a given run-length form and code-length code.
pub fn header(literals: usize, distances: usize, code: &[u8], runs: &[Run]) -> HeaderBits {
    let listed = CODE_LENGTH_ORDER.iter().rposition(|&symbol| code[symbol] > 0).map_or(0, |n| n + 1);
    let listed = listed.max(4);
    let mut writer = BitWriter::with_capacity(128);
    writer.put((literals.saturating_sub(257)) as u64, 5);
    writer.put((distances.saturating_sub(1)) as u64, 5);
    writer.put(listed as u64 - 4, 4);
    for &symbol in &CODE_LENGTH_ORDER[..listed] {
        writer.put(code[symbol].into(), 3);
    }
    let words: Vec<u32> = codes(code).collect();
    for run in runs {
        let symbol = usize::from(run.symbol);
        writer.put(words[symbol].into(), code[symbol].into());
        writer.put(run.repeat.into(), repeat_bits(run.symbol));
    }
    let (bytes, bits) = writer.finish();
    HeaderBits { bytes, bits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::deflate::bits::BitReader;
    use crate::codec::deflate::huffman::CodeLengths;

    #[test]
    fn headers_read_back_as_the_lengths_they_were_made_of() {
        let mut histogram = Histogram::new();
        for (i, count) in histogram.literals.iter_mut().enumerate() {
            *count += ((i * 7919) % 97).saturating_sub(60) as u32 * (i as u32 + 1);
        }
        histogram.distances[3] = 17;
        let (literals, distances) = histogram.zlib_lengths();
        let header = zlib_header(literals.used(), distances.used());
        let read = CodeLengths::read(&mut BitReader::at(&header.bytes, 0)).expect("valid header");
        assert_eq!((read.literals(), read.distances()), (literals.used(), distances.used()));
    }

    #[test]
    fn lengths_never_exceed_the_limit() {
        let frequencies: Vec<u32> = (0..30)
            .scan((1, 1), |s, _| {
                *s = (s.1, s.0 + s.1);
                Some(s.0)
            })
            .collect();
        let lengths = zlib_lengths(&frequencies, 15);
        let kraft: u32 = lengths.used().iter().map(|&bits| 1 << (15 - bits)).sum();
        assert!(lengths.used().iter().all(|&bits| bits <= 15));
        assert_eq!(kraft, 1 << 15);
    }
}
