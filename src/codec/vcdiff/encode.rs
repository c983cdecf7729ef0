//! Writes a delta: copies from the matcher, cut into windows, each kind of section compressed with LZMA.
//!
//! Addresses are always written as the distance back (`MODE_HERE`). In a window that distance is the same for
//! all copies at one shift: where xdelta3 looks for the shortest address, the same four bytes again are what
//! LZMA compresses to nothing.

use std::io::{self, Write};

use super::header::Header;
use super::instruction::{put_add, put_copy};
use super::matching::{Copy, Prices, find_copies};
use super::secondary::{Model, Search, Secondary, Squeezer};
use super::{WINDOW_ADLER, WINDOW_SOURCE, checksum, varint};
use crate::codec::{Effort, Result};

/// Bytes of a window: what stock xdelta3 writes.
const WINDOW_BYTES: usize = 8 << 20;

/// Writes a delta; see `super::encode`.
pub fn encode(
    base: &[u8],
    target: &[u8],
    effort: Effort,
    sink: &mut dyn Write,
    check: &dyn Fn() -> io::Result<()>,
) -> Result<()> {
    let prices = Prices { literal: env("LIT", 6), shifts: [env("S0", 14), env("S1", 20), env("S1", 20)+2, env("S1", 20)+4], anywhere: env("ANY", 40) };
    let t = std::time::Instant::now();
    let copies = find_copies(base, target, env("STEP", 3) as usize, prices, check)?;
    let t1 = t.elapsed();
    let windows = split(base.len(), target, &copies);
    if std::env::var("DUMP").is_ok() {
        for (kind, name) in ["data", "inst", "addr"].iter().enumerate() {
            let all: Vec<u8> = windows.iter().flat_map(|w| w.sections[kind].clone()).collect();
            std::fs::write(format!("/work/lab-vcdiff/dump.{name}"), all)?;
        }
    }
    let (windows, packed) = pack(windows, effort, check)?;
    if std::env::var("V").is_ok() {
        let s: Vec<usize> = (0..3).map(|k| windows.iter().map(|w| w.sections[k].len()).sum()).collect();
        eprintln!("match {t1:?} all {:?} copies {} packed {s:?}", t.elapsed(), copies.len());
    }
    let secondary = packed.contains(&true).then_some(Secondary::Lzma);
    sink.write_all(&Header { secondary, app_header: None }.to_bytes())?;
    for window in &windows {
        check()?;
        window.write(base.len(), packed, sink)?;
    }
    Ok(())
}
fn env(n: &str, d: i64) -> i64 { std::env::var(n).ok().and_then(|v| v.parse().ok()).unwrap_or(d) }

/// A window on its way into the delta.
struct Window<'a> {
    target: &'a [u8],
    /// Data, instructions, addresses.
    sections: [Vec<u8>; 3],
}

/// Cuts target and copies into windows.
fn split<'a>(base_size: usize, target: &'a [u8], copies: &[Copy]) -> Vec<Window<'a>> {
    let mut copies = copies.iter().copied().peekable();
    let mut windows = Vec::new();
    for (number, bytes) in target.chunks(WINDOW_BYTES).enumerate() {
        let start = number * WINDOW_BYTES;
        let end = start + bytes.len();
        let mut window = Window { target: bytes, sections: Default::default() };
        let mut at = start;
        while let Some(copy) = copies.peek_mut().filter(|copy| copy.target < end) {
            let size = copy.size.min(end - copy.target);
            window.add(&target[at..copy.target]);
            window.copy(base_size + copy.target - start - copy.base, size);
            at = copy.target + size;
            if size < copy.size {
                *copy = Copy { target: at, base: copy.base + size, size: copy.size - size };
                break;
            }
            copies.next();
        }
        window.add(&target[at..end]);
        windows.push(window);
    }
    windows
}

impl Window<'_> {
    fn add(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sections[0].extend_from_slice(bytes);
            put_add(&mut self.sections[1], bytes.len() as u64);
        }
    }

    fn copy(&mut self, distance: usize, size: usize) {
        put_copy(&mut self.sections[1], size as u64);
        varint::put(&mut self.sections[2], distance as u64);
    }

    fn write(&self, base_size: usize, packed: [bool; 3], sink: &mut dyn Write) -> Result<()> {
        let mut head = Vec::new();
        varint::put(&mut head, self.target.len() as u64);
        let bits = self.sections.iter().zip(packed).enumerate();
        head.push(bits.map(|(kind, (section, packed))| u8::from(packed && !section.is_empty()) << kind).sum());
        for section in &self.sections {
            varint::put(&mut head, section.len() as u64);
        }
        head.extend(checksum(self.target).to_be_bytes());
        let mut start = vec![WINDOW_ADLER | if base_size > 0 { WINDOW_SOURCE } else { 0 }];
        if base_size > 0 {
            varint::put(&mut start, base_size as u64);
            varint::put(&mut start, 0);
        }
        let size = head.len() + self.sections.iter().map(Vec::len).sum::<usize>();
        varint::put(&mut start, size as u64);
        for bytes in [&start, &head].into_iter().chain(&self.sections) {
            sink.write_all(bytes)?;
        }
        Ok(())
    }
}

/// Compresses the sections of each kind, unless that makes them larger, and returns for which it did not.
fn pack<'a>(
    mut windows: Vec<Window<'a>>,
    effort: Effort,
    check: &dyn Fn() -> io::Result<()>,
) -> Result<(Vec<Window<'a>>, [bool; 3])> {
    let mut packed = [false; 3];
    for kind in 0..3 {
        let plain: Vec<&[u8]> = windows.iter().map(|window| &window.sections[kind][..]).collect();
        let model = model(kind, &plain, effort);
        let mut squeezer = Squeezer::new(model)?;
        let mut squeezed = Vec::new();
        for section in plain {
            check()?;
            squeezed.push(if section.is_empty() { Vec::new() } else { squeezer.squeeze(section)? });
        }
        if squeezed.iter().map(Vec::len).sum::<usize>() < model.size {
            packed[kind] = true;
            for (window, section) in windows.iter_mut().zip(squeezed) {
                window.sections[kind] = section;
            }
        }
    }
    Ok((windows, packed))
}

fn model(kind: usize, plain: &[&[u8]], effort: Effort) -> Model {
    let _ = effort;
    let size = plain.iter().map(|section| section.len()).sum();
    let search = match env("SEARCH", 2) { 0 => Search::Light, 1 => Search::Fair, _ => Search::Thorough };
    match kind {
        0 => Model { size, literal_context_bits: env("LC", 3) as u32, position_bits: env("PB", 0) as u32, search },
        1 => Model { size, literal_context_bits: env("ILC", 3) as u32, position_bits: env("IPB", 0) as u32, search },
        _ => Model { size, literal_context_bits: env("ALC", 0) as u32, position_bits: env("APB", 2) as u32, search },
    }
}
