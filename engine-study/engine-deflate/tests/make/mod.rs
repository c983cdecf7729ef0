//! Makes containers to test with: a small deflate encoder, ZIP, gzip, PNG and edits.

use engine_deflate::deflate::bits::{BitReader, BitWriter};
use engine_deflate::deflate::checksum::{adler32, crc32};
use engine_deflate::deflate::emit::Codebook;
use engine_deflate::deflate::huffman::CodeLengths;
use engine_deflate::deflate::ledger::Match;
use engine_deflate::deflate::symbols::{LENGTH_SYMBOL, distance_symbol};
use engine_deflate::deflate::trees::{Histogram, zlib_header};
use engine_deflate::tokens::finder::{Finder, Preset, Token};

/// Repeatable randomness.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }
}

/// Text of repeating words.
pub fn text(random: &mut Random, len: usize) -> Vec<u8> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    for _ in 0..200 {
        let len = 2 + random.below(9);
        words.push((0..len).map(|_| b'a' + random.below(26) as u8).collect());
    }
    let mut text = Vec::new();
    while text.len() < len {
        let index = random.below(200).min(random.below(200));
        text.extend_from_slice(&words[index]);
        text.push(b' ');
    }
    text.truncate(len);
    text
}

/// How a test stream is packed.
#[derive(Clone, Copy)]
pub struct Packer {
    /// One of zlib's presets.
    pub preset: u8,
    /// One token in so many is another than the preset's.
    pub odd_tokens: usize,
    /// Tokens per block.
    pub block: usize,
    /// Store every so many-th block.
    pub stored: usize,
}

impl Packer {
    /// zlib's default.
    pub const ZLIB: Self = Self { preset: 5, odd_tokens: 0, block: 16383, stored: 0 };

    pub fn some(random: &mut Random) -> Self {
        Self {
            preset: random.below(36) as u8,
            odd_tokens: [0, 0, 3, 50][random.below(4)],
            block: [16383, 100, 2000, 8191][random.below(4)],
            stored: [0, 0, 3][random.below(3)],
        }
    }

    /// Packs a deflate stream.
    pub fn deflate(&self, plain: &[u8], random: &mut Random) -> Vec<u8> {
        let mut finder = Finder::new();
        finder.start(plain.len(), Preset::of(self.preset), 4096);
        let mut out = BitWriter::default();
        let (mut at, mut number) = (0, 0);
        loop {
            number += 1;
            let start = at;
            let (matches, histogram) = self.tokens(plain, &mut at, &mut finder, random);
            let last = at == plain.len();
            if self.stored > 0 && number % self.stored == 0 {
                at = at.min(start + 60_000);
                stored(&plain[start..at], at == plain.len(), &mut out);
                if at == plain.len() {
                    break;
                }
                continue;
            }
            coded(plain, (start, at), &matches, &histogram, last, number % 4 == 1, &mut out);
            if last {
                break;
            }
        }
        out.finish().0
    }

    fn tokens(
        &self,
        plain: &[u8],
        at: &mut usize,
        finder: &mut Finder,
        random: &mut Random,
    ) -> (Vec<Match>, Histogram) {
        let (mut matches, mut histogram) = (Vec::new(), Histogram::new());
        for _ in 0..self.block {
            if *at == plain.len() {
                break;
            }
            let mut token = finder.predict(plain, *at);
            if self.odd_tokens > 0 && random.below(self.odd_tokens) == 0 {
                token = odd(token, random);
            }
            finder.note(*at, token);
            if token.is_literal() {
                histogram.literals[usize::from(plain[*at])] += 1;
            } else {
                let (length, distance) = (token.length as usize, token.distance as usize);
                matches.push(Match::new(*at, length, distance));
                histogram.literals[257 + usize::from(LENGTH_SYMBOL[length])] += 1;
                histogram.distances[distance_symbol(token.distance)] += 1;
            }
            *at += token.span();
        }
        (matches, histogram)
    }
}

fn odd(token: Token, random: &mut Random) -> Token {
    if token.length > 3 && random.below(2) == 0 {
        return Token { length: 3 + random.below(token.length as usize - 3) as u32, ..token };
    }
    Token::LITERAL
}

fn stored(bytes: &[u8], last: bool, out: &mut BitWriter) {
    out.put(last.into(), 3);
    out.put(0, out.padding());
    out.put(bytes.len() as u64 | (bytes.len() as u64 ^ 0xffff) << 16, 32);
    out.put_bytes(bytes);
}

fn coded(
    plain: &[u8],
    (start, end): (usize, usize),
    matches: &[Match],
    histogram: &Histogram,
    last: bool,
    fixed: bool,
    out: &mut BitWriter,
) {
    let lengths = if fixed {
        out.put(u64::from(last) | 1 << 1, 3);
        CodeLengths::fixed()
    } else {
        out.put(u64::from(last) | 2 << 1, 3);
        let (literals, distances) = histogram.zlib_lengths();
        let header = zlib_header(literals.used(), distances.used());
        out.put_slice(&header.bytes, header.bits);
        CodeLengths::read(&mut BitReader::at(&header.bytes, 0)).expect("own header")
    };
    Codebook::new(&lengths).write(plain, start, end, matches, out);
}

/// A member of a ZIP to be made.
pub struct Entry {
    pub name: String,
    pub plain: Vec<u8>,
    pub packed: Vec<u8>,
    pub method: u16,
    pub flags: u16,
}

impl Entry {
    pub fn deflated(name: &str, plain: &[u8], packer: Packer, random: &mut Random) -> Self {
        let packed = packer.deflate(plain, random);
        Self { name: name.into(), plain: plain.into(), packed, method: 8, flags: 0 }
    }
    pub fn stored(name: &str, plain: &[u8]) -> Self {
        Self { name: name.into(), plain: plain.into(), packed: plain.into(), method: 0, flags: 0 }
    }
}

/// How a ZIP is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Usual,
    Descriptors,
    Zip64,
}

pub fn zip(entries: &[Entry], style: Style) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = out.len() as u32;
        let crc = crc32(&[&entry.plain]);
        let sizes = [crc, entry.packed.len() as u32, entry.plain.len() as u32];
        let flags = entry.flags | if style == Style::Descriptors { 8 } else { 0 };
        let told = if style == Style::Descriptors { [0; 3] } else { sizes };
        header(&mut out, 0x0403_4b50, entry, flags, told, &[]);
        out.extend_from_slice(&entry.packed);
        if style == Style::Descriptors {
            out.extend_from_slice(b"PK\x07\x08");
            sizes.iter().for_each(|size| out.extend_from_slice(&size.to_le_bytes()));
        }
        central_entry(&mut central, entry, flags, sizes, offset, style);
    }
    let start = out.len();
    out.extend_from_slice(&central);
    end_records(&mut out, entries.len() as u64, start as u64, central.len() as u64, style);
    out
}

fn header(out: &mut Vec<u8>, magic: u32, entry: &Entry, flags: u16, sizes: [u32; 3], extra: &[u8]) {
    out.extend_from_slice(&magic.to_le_bytes());
    if magic == 0x0201_4b50 {
        out.extend_from_slice(&[20, 3]);
    }
    for field in [20, flags, entry.method, 0x1234, 0x5678] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    sizes.iter().for_each(|size| out.extend_from_slice(&size.to_le_bytes()));
    out.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
    out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
    if magic == 0x0403_4b50 {
        out.extend_from_slice(entry.name.as_bytes());
    }
}

fn central_entry(out: &mut Vec<u8>, entry: &Entry, flags: u16, sizes: [u32; 3], offset: u32, style: Style) {
    let mut extra = Vec::new();
    let (mut told, mut told_offset) = (sizes, offset);
    if style == Style::Zip64 {
        extra.extend_from_slice(&[1, 0, 24, 0]);
        for value in [sizes[2], sizes[1], offset] {
            extra.extend_from_slice(&u64::from(value).to_le_bytes());
        }
        told = [sizes[0], u32::MAX, u32::MAX];
        told_offset = u32::MAX;
    }
    header(out, 0x0201_4b50, entry, flags, told, &extra);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(&told_offset.to_le_bytes());
    out.extend_from_slice(entry.name.as_bytes());
    out.extend_from_slice(&extra);
}

fn end_records(out: &mut Vec<u8>, entries: u64, start: u64, size: u64, style: Style) {
    if style == Style::Zip64 {
        let record = out.len() as u64;
        out.extend_from_slice(b"PK\x06\x06");
        out.extend_from_slice(&44u64.to_le_bytes());
        out.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for value in [entries, entries, size, start] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        out.extend_from_slice(&record.to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
    }
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    let full = style == Style::Zip64;
    for value in [entries, entries] {
        out.extend_from_slice(&(if full { u16::MAX } else { value as u16 }).to_le_bytes());
    }
    for value in [size, start] {
        out.extend_from_slice(&(if full { u32::MAX } else { value as u32 }).to_le_bytes());
    }
    out.extend_from_slice(&[0, 0]);
}

pub fn gzip(plain: &[u8], packer: Packer, random: &mut Random) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 8, 1, 2, 3, 4, 2, 3];
    out.extend_from_slice(b"name\0");
    out.extend(packer.deflate(plain, random));
    out.extend_from_slice(&crc32(&[plain]).to_le_bytes());
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    out
}

pub fn zlib(plain: &[u8], packer: Packer, random: &mut Random) -> Vec<u8> {
    let mut out = vec![0x78, 0x9c];
    out.extend(packer.deflate(plain, random));
    out.extend_from_slice(&adler32(plain).to_be_bytes());
    out
}

pub fn png(plain: &[u8], chunk: usize, packer: Packer, random: &mut Random) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut put = |kind: &[u8], data: &[u8]| {
        out.extend_from_slice(&(data.len() as u32).to_be_bytes());
        out.extend_from_slice(kind);
        out.extend_from_slice(data);
        out.extend_from_slice(&crc32(&[kind, data]).to_be_bytes());
    };
    put(b"IHDR", &[0, 0, 0, 64, 0, 0, 0, 64, 8, 2, 0, 0, 0]);
    zlib(plain, packer, random).chunks(chunk).for_each(|data| put(b"IDAT", data));
    put(b"IEND", &[]);
    out
}

/// A changed copy: inserted, deleted, swapped, overwritten or truncated.
pub fn edited(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(out.len());
        let len = random.below(300).min(out.len() - at);
        match random.below(5) {
            0 => {
                let new = text(random, len);
                out.splice(at..at, new);
            }
            1 => drop(out.drain(at..at + len)),
            2 => out[at..].rotate_left(len / 2),
            3 => out[at..at + len].iter_mut().for_each(|byte| *byte = byte.wrapping_add(7)),
            _ => out.truncate(out.len() - len / 4),
        }
    }
    out
}
