//! Makes what people store: edits, gzip, PNG, zlib between other bytes, ZIP and tar, each as several
//! programs write it.
//!
//! What surprises: `Packer::Odd` writes deflate streams that no program writes, but all may: stored, empty
//! and fixed blocks in turn, and matches wherever they happen to be.

use crate::support::data::{Random, text};

/// A changed copy: something inserted, deleted, swapped, overwritten or cut off, up to three times.
pub fn changed(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(out.len() + 1);
        let len = random.below(300).min(out.len() - at);
        match random.below(5) {
            0 => drop(out.splice(at..at, text(random.next(), len))),
            1 => drop(out.drain(at..at + len)),
            2 => out[at..].rotate_left(len / 2),
            3 => out[at..at + len].iter_mut().step_by(3).for_each(|byte| *byte = byte.wrapping_add(7)),
            _ => out.truncate(out.len() - len / 4),
        }
    }
    out
}

/// Who packs a deflate stream.
#[derive(Clone, Copy, Debug)]
pub enum Packer {
    /// A usual encoder at one of its levels.
    Usual(u8),
    /// Nobody: see above.
    Odd,
}

impl Packer {
    pub fn any(random: &mut Random) -> Packer {
        [Packer::Usual(1), Packer::Usual(6), Packer::Usual(9), Packer::Odd][random.below(4)]
    }

    pub fn deflate(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Packer::Usual(level) => miniz_oxide::deflate::compress_to_vec(plain, level),
            Packer::Odd => odd(plain),
        }
    }
}

/// Bits in deflate's order.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: usize, count: usize) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            self.bytes[self.used / 8] |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// Puts a code, highest bit first.
    fn put_code(&mut self, code: usize, count: usize) {
        (0..count).rev().for_each(|bit| self.put(code >> bit & 1, 1));
    }

    /// Puts a symbol of the fixed code.
    fn put_symbol(&mut self, symbol: usize) {
        match symbol {
            0..=143 => self.put_code(0x30 + symbol, 8),
            144..=255 => self.put_code(0x190 + symbol - 144, 9),
            256..=279 => self.put_code(symbol - 256, 7),
            _ => self.put_code(0xc0 + symbol - 280, 8),
        }
    }

    /// Puts a match of 3 to 10 bytes, whose length has a symbol of its own.
    fn put_match(&mut self, length: usize, distance: usize) {
        self.put_symbol(254 + length);
        let class = (distance - 1).checked_ilog2().unwrap_or(0) as usize;
        let extra = class.saturating_sub(1);
        let half = (distance - 1) >> extra & 1;
        let code = if distance <= 2 { distance - 1 } else { class * 2 + half };
        self.put_code(code, 5);
        self.put((distance - 1) & ((1 << extra) - 1), extra);
    }

    fn put_stored(&mut self, bytes: &[u8]) {
        self.put(0, 3);
        self.put(0, self.used.wrapping_neg() % 8);
        self.put(bytes.len() | (bytes.len() ^ 0xffff) << 16, 32);
        bytes.iter().for_each(|&byte| self.put(byte.into(), 8));
    }
}

fn odd(plain: &[u8]) -> Vec<u8> {
    let mut bits = Bits::default();
    let mut latest = vec![usize::MAX; 1 << 8];
    let mut start = 0;
    for (index, block) in plain.chunks(700).enumerate() {
        match index % 4 {
            1 => bits.put_stored(block),
            3 => bits.put_stored(&[]),
            _ => {}
        }
        if index % 4 != 1 {
            bits.put(1 << 1, 3);
            put_fixed(plain, start..start + block.len(), &mut latest, &mut bits);
        }
        start += block.len();
    }
    bits.put(1 | 1 << 1, 3);
    bits.put_symbol(256);
    bits.bytes
}

/// Puts literals and whatever matches the latest place of the same byte gives, then the end of the block.
fn put_fixed(plain: &[u8], range: std::ops::Range<usize>, latest: &mut [usize], bits: &mut Bits) {
    let mut at = range.start;
    while at < range.end {
        let from = std::mem::replace(&mut latest[usize::from(plain[at])], at);
        let max = (range.end - at).min(10);
        let equal = |from: usize| (0..max).take_while(|i| plain[from + i] == plain[at + i]).count();
        let length = if from < at && at - from <= 32768 { equal(from) } else { 0 };
        if length >= 3 {
            bits.put_match(length, at - from);
        } else {
            bits.put_symbol(plain[at].into());
        }
        at += if length >= 3 { length } else { 1 };
    }
    bits.put_symbol(256);
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

pub fn crc32(bytes: &[u8]) -> u32 {
    let entry = |crc: u32, byte: u8| (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)];
    !bytes.iter().fold(u32::MAX, |crc, &byte| entry(crc, byte))
}

fn adler32(bytes: &[u8]) -> u32 {
    let step = |(a, b): (u32, u32), &byte: &u8| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (b + a) % 65521)
    };
    let (a, b) = bytes.iter().fold((1, 0), step);
    b << 16 | a
}

/// One gzip member, with a name in its header.
pub fn gzip(plain: &[u8], packer: Packer) -> Vec<u8> {
    let mut out = b"\x1f\x8b\x08\x08\x01\x02\x03\x04\x02\x03name\0".to_vec();
    out.extend(packer.deflate(plain));
    out.extend_from_slice(&crc32(plain).to_le_bytes());
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    out
}

pub fn zlib(plain: &[u8], packer: Packer) -> Vec<u8> {
    let stream = packer.deflate(plain);
    [b"\x78\x9c", &stream[..], &adler32(plain).to_be_bytes()].concat()
}

/// Streams between other bytes, as in PDF, PSD and EXR.
pub fn between(plain: &[u8], packer: Packer) -> Vec<u8> {
    let mut out = b"%PDF-1.7 \x78\x9c not a stream \x78\xda".to_vec();
    for part in plain.chunks(1500) {
        out.extend(zlib(part, packer));
        out.extend_from_slice(b"endstream x\x9c 1 0 obj");
    }
    out
}

/// An image whose data is in chunks of `chunk` bytes.
pub fn png(plain: &[u8], chunk: usize, packer: Packer) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut put = |kind: &[u8], data: &[u8]| {
        out.extend_from_slice(&(data.len() as u32).to_be_bytes());
        out.extend_from_slice(&[kind, data].concat());
        out.extend_from_slice(&crc32(&[kind, data].concat()).to_be_bytes());
    };
    put(b"IHDR", &[0, 0, 0, 64, 0, 0, 0, 64, 8, 2, 0, 0, 0]);
    zlib(plain, packer).chunks(chunk).for_each(|data| put(b"IDAT", data));
    put(b"IEND", &[]);
    out
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[257..262].copy_from_slice(b"ustar");
        out.extend_from_slice(&header);
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// How a ZIP is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Sizes before the members.
    Usual,
    /// Sizes behind the members.
    Descriptors,
    /// Sizes and places in 64 bits.
    Zip64,
    /// Members that nobody may read.
    Encrypted,
}

impl Style {
    pub const ALL: [Style; 4] = [Style::Usual, Style::Descriptors, Style::Zip64, Style::Encrypted];

    fn flags(self) -> u16 {
        match self {
            Style::Usual | Style::Zip64 => 0,
            Style::Descriptors => 8,
            Style::Encrypted => 1,
        }
    }
}

/// A member of a ZIP: its bytes are in the file as they are here.
struct Entry<'a> {
    name: &'a str,
    method: u16,
    flags: u16,
    /// CRC-32, packed size, plain size.
    sizes: [u32; 3],
}

/// A ZIP of files; those whose name begins with `stored` are not compressed.
pub fn zip(files: &[(&str, &[u8])], style: Style, packer: Packer) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, plain) in files {
        let (method, mut packed) = match name.starts_with("stored") {
            true => (0, plain.to_vec()),
            false => (8, packer.deflate(plain)),
        };
        if style == Style::Encrypted {
            let mut key = Random::new(plain.len() as u64);
            packed.iter_mut().for_each(|byte| *byte ^= key.next() as u8);
        }
        let sizes = [crc32(plain), packed.len() as u32, plain.len() as u32];
        let entry = Entry { name, method, flags: style.flags(), sizes };
        let offset = out.len() as u32;
        let told = if style == Style::Descriptors { [0; 3] } else { sizes };
        put_header(&mut out, b"PK\x03\x04", &entry, told, &[]);
        out.extend_from_slice(name.as_bytes());
        out.extend(packed);
        if style == Style::Descriptors {
            out.extend_from_slice(b"PK\x07\x08");
            sizes.iter().for_each(|size| out.extend_from_slice(&size.to_le_bytes()));
        }
        put_directory_entry(&mut directory, &entry, offset, style);
    }
    let start = out.len() as u64;
    out.extend_from_slice(&directory);
    put_end(&mut out, [files.len() as u64, directory.len() as u64, start], style);
    out
}

/// Puts what local headers and the directory's entries have in common.
fn put_header(out: &mut Vec<u8>, magic: &[u8], entry: &Entry<'_>, sizes: [u32; 3], extra: &[u8]) {
    out.extend_from_slice(magic);
    for field in [20, entry.flags, entry.method, 0x1234, 0x5678] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    sizes.iter().for_each(|size| out.extend_from_slice(&size.to_le_bytes()));
    out.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
    out.extend_from_slice(&(extra.len() as u16).to_le_bytes());
}

fn put_directory_entry(out: &mut Vec<u8>, entry: &Entry<'_>, offset: u32, style: Style) {
    let [crc, packed, plain] = entry.sizes;
    let (mut extra, mut sizes, mut told) = (Vec::new(), entry.sizes, offset);
    if style == Style::Zip64 {
        extra.extend_from_slice(&[1, 0, 24, 0]);
        let wide = [plain, packed, offset].map(u64::from);
        wide.iter().for_each(|value| extra.extend_from_slice(&value.to_le_bytes()));
        (sizes, told) = ([crc, u32::MAX, u32::MAX], u32::MAX);
    }
    put_header(out, b"PK\x01\x02\x14\x03", entry, sizes, &extra);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(&told.to_le_bytes());
    out.extend_from_slice(entry.name.as_bytes());
    out.extend_from_slice(&extra);
}

fn put_end(out: &mut Vec<u8>, [count, size, start]: [u64; 3], style: Style) {
    let wide = style == Style::Zip64;
    if wide {
        let record = out.len() as u64;
        out.extend_from_slice(b"PK\x06\x06");
        out.extend_from_slice(&44u64.to_le_bytes());
        out.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        [count, count, size, start].iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        out.extend_from_slice(&record.to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
    }
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    let count = if wide { u16::MAX } else { count as u16 };
    [count, count].iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    let places = [size, start].map(|value| if wide { u32::MAX } else { value as u32 });
    places.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    out.extend_from_slice(&[0, 0]);
}
