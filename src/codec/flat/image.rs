//! Finds executable images inside a byte string and where their parts live in memory: ELF here, PE
//! and Mach-O in files of their own.
//!
//! Only the encoder parses. What it found goes into the delta, so a decoder never depends on how
//! well headers were understood. Positions are relative to the image: archives put images anywhere.

use super::frames::{self, Frames};
use super::tables::{RowTable, Rows};
use crate::codec::bytes::{Reader, put_varint, u16_at, u32_at, u64_at};
use crate::codec::{Result, corrupt};

/// Images looked at in one byte string; more are treated as plain bytes.
pub const IMAGES_MAX: usize = 64;
/// Loaded parts of one image.
pub const PARTS_MAX: usize = 64;
const SYMBOL_TABLES_MAX: usize = 16;
/// Higher addresses stand for bytes that are never loaded.
pub const ADDRESS_MAX: u64 = 1 << 46;

/// The instruction set of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit x86.
    X86 = 0,
    /// 64-bit ARM.
    Arm = 1,
}

/// A part of an image that has an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Position in the image.
    pub offset: u64,
    /// Address in memory.
    pub address: u64,
    /// Bytes in the file.
    pub len: u64,
    /// Bytes in memory, at least `len`.
    pub span: u64,
    /// Whether it holds instructions.
    pub is_code: bool,
}

/// One executable image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub machine: Machine,
    /// Where it begins in the byte string.
    pub at: u64,
    /// Where it ends.
    pub end: u64,
    /// By position, disjoint.
    pub parts: Vec<Part>,
    /// Addresses that tables of 32-bit offsets are likely relative to.
    pub anchors: Vec<u64>,
    /// Position in the image, length, and address of the names of each symbol table.
    pub symbols: Vec<SymbolTable>,
    pub frames: Frames,
    /// Tables whose rows are worth comparing by what they mean; only an encoder knows them.
    pub tables: Vec<RowTable>,
}

/// A table of 24-byte symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolTable {
    pub offset: u64,
    pub len: u64,
    /// Where the table's names are, as an address.
    pub names: u64,
}

impl Image {
    /// An image of which its parts are known, and no names, frames or tables.
    pub fn of_parts(
        machine: Machine,
        place: std::ops::Range<u64>,
        parts: Vec<Part>,
        anchors: Vec<u64>,
    ) -> Self {
        let (symbols, tables) = (Vec::new(), Vec::new());
        Self {
            machine,
            at: place.start,
            end: place.end,
            parts,
            anchors,
            symbols,
            frames: Frames::default(),
            tables,
        }
    }

    /// Lowest and highest address, half open.
    pub fn bounds(&self) -> (u64, u64) {
        let low = self.loaded().map(|part| part.address).min().unwrap_or(0);
        let high = self.loaded().map(|part| part.address + part.span).max().unwrap_or(0);
        (low.max(1), high)
    }

    /// Parts with an address of their own: bytes that are never loaded are addressed above all.
    fn loaded(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.address < ADDRESS_MAX)
    }

    /// Appends what the decoder needs.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.machine as u64);
        put_varint(out, self.at);
        put_varint(out, self.end - self.at);
        put_varint(out, self.parts.len() as u64);
        for part in &self.parts {
            put_varint(out, part.offset << 1 | u64::from(part.is_code));
            put_varint(out, part.address);
            put_varint(out, part.len);
            put_varint(out, part.span - part.len);
        }
        let Frames { offset, len, table, rows } = self.frames;
        [len, offset, rows, table].into_iter().for_each(|field| put_varint(out, field));
    }

    /// Reads an image of a byte string of `total` bytes, checking what arithmetic relies on.
    pub fn get(reader: &mut Reader<'_>, total: u64) -> Result<Self> {
        let bad = || corrupt("an image does not fit");
        let machine = if reader.varint()? == 0 { Machine::X86 } else { Machine::Arm };
        let at = reader.varint()?;
        let end = at.checked_add(reader.varint()?).filter(|end| *end <= total).ok_or_else(bad)?;
        let count = reader.varint()?;
        if count > PARTS_MAX as u64 {
            return Err(bad());
        }
        let parts = (0..count).map(|_| get_part(reader, end - at)).collect::<Result<Vec<_>>>()?;
        let frames = get_frames(reader, end - at)?;
        Ok(Self {
            machine,
            at,
            end,
            parts,
            anchors: Vec::new(),
            symbols: Vec::new(),
            frames,
            tables: Vec::new(),
        })
    }
}

fn get_part(reader: &mut Reader<'_>, image_len: u64) -> Result<Part> {
    let first = reader.varint()?;
    let (offset, is_code) = (first >> 1, first & 1 == 1);
    let (address, len, more) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let fits = offset.checked_add(len).is_some_and(|end| end <= image_len)
        && address <= ADDRESS_MAX * 2
        && more <= ADDRESS_MAX;
    let part = Part { offset, address, len, span: len.saturating_add(more), is_code };
    if fits { Ok(part) } else { Err(corrupt("a part of an image does not fit")) }
}

fn get_frames(reader: &mut Reader<'_>, image_len: u64) -> Result<Frames> {
    let (len, offset) = (reader.varint()?, reader.varint()?);
    let (rows, table) = (reader.varint()?, reader.varint()?);
    let ends = [offset.checked_add(len), rows.checked_mul(8).and_then(|len| len.checked_add(table))];
    let fits = ends.into_iter().all(|end| end.is_some_and(|end| end <= image_len));
    let frames = Frames { offset, len, table, rows };
    if fits { Ok(frames) } else { Err(corrupt("frames of an image do not fit")) }
}

/// Finds the images of `bytes` in order.
pub fn find_images(bytes: &[u8]) -> Vec<Image> {
    let mut images = Vec::new();
    let mut at = 0;
    while let Some(found) = next_magic(bytes, at) {
        let image = parse(bytes, found);
        at = image.as_ref().map_or(found + 4, |image| image.end as usize).max(found + 4);
        images.extend(image);
        if images.len() == IMAGES_MAX {
            break;
        }
    }
    images
}

/// Finds the next place at or behind `from` that may begin an image.
fn next_magic(bytes: &[u8], from: usize) -> Option<usize> {
    if from == 0 && bytes.len() >= 64 && bytes.starts_with(b"MZ") {
        return Some(0);
    }
    let mut block_at = from;
    while block_at + HEAD <= bytes.len() {
        let ends = bytes.len() - HEAD + 1;
        if bytes[block_at..].first_chunk().is_none_or(may_hold_magic) {
            let places = block_at..(block_at + BLOCK).min(ends);
            if let Some(found) = places.into_iter().find(|&at| is_magic(&bytes[at..at + 4])) {
                return Some(found);
            }
        }
        block_at += BLOCK;
    }
    None
}

/// The least that an image's header takes.
const HEAD: usize = 64;
/// Bytes looked at at once.
const BLOCK: usize = 64;

/// Says whether the first two bytes of a magic are anywhere in a block.
#[inline]
fn may_hold_magic(block: &[u8; BLOCK + 1]) -> bool {
    let begins = |a: u8, b: u8| {
        let elf = u8::from(a == 0x7F) & u8::from(b == b'E');
        let macho = u8::from(a == 0xCF) & u8::from(b == 0xFA);
        elf | macho | u8::from(a == b'M') & u8::from(b == b'Z')
    };
    (0..BLOCK).fold(0, |any, i| any | begins(block[i], block[i + 1])) != 0
}

/// Whether four bytes begin an ELF, a 64-bit Mach-O or, as linkers write it, a PE image.
fn is_magic(bytes: &[u8]) -> bool {
    bytes == b"\x7fELF" || bytes == MACHO_MAGIC || matches!(bytes, [b'M', b'Z', 0x90 | b'x', _])
}

const MACHO_MAGIC: [u8; 4] = [0xCF, 0xFA, 0xED, 0xFE];

fn parse(bytes: &[u8], at: usize) -> Option<Image> {
    let image = &bytes[at..];
    match image[0] {
        0x7F => parse_elf(image, at as u64),
        b'M' => super::image_pe::parse(image, at as u64),
        _ => super::image_macho::parse(image, at as u64),
    }
}

fn parse_elf(image: &[u8], at: u64) -> Option<Image> {
    if image[4..7] != [2, 1, 1] {
        return None;
    }
    let machine = match u16_at(image, 18) {
        62 => Machine::X86,
        183 => Machine::Arm,
        _ => return None,
    };
    Elf { image }.read(machine, at)
}

/// Flags of a section that is loaded and written to: it holds pointers.
const WRITTEN: u64 = 3;
/// Flag of a section whose bytes are compressed.
const COMPRESSED: u64 = 1 << 11;
const ROW_TABLES_MAX: usize = 64;
/// The kind of program header that tells where the table of unwind frames is.
const FRAMES_HEADER: u32 = 0x6474_E550;

/// A 64-bit little-endian ELF image.
struct Elf<'a> {
    image: &'a [u8],
}

/// What is kept of a section header.
struct Section {
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    len: u64,
    link: usize,
    /// Where its name begins among the names of sections.
    name: usize,
}

impl Elf<'_> {
    fn read(&self, machine: Machine, at: u64) -> Option<Image> {
        let (mut parts, mut anchors) = self.segments()?;
        if !parts.iter().any(|part| part.is_code) {
            return None;
        }
        let sections = self.sections();
        let table_end = u64_at(self.image, 40).saturating_add(sections.len() as u64 * 64);
        let loaded_end = parts.iter().map(|part| part.offset + part.len).max()?;
        let end = loaded_end.max(if sections.is_empty() { 0 } else { table_end });
        parts.extend(unloaded(&sections, loaded_end, end, PARTS_MAX - parts.len()));
        anchors.extend(largest_sections(&sections));
        anchors.dedup();
        let symbols = self.symbol_tables(&sections, &parts);
        let tables = self.tables(&sections);
        let frames = self.frames(&parts).unwrap_or_default();
        Some(Image { machine, at, end: at + end, parts, anchors, symbols, frames, tables })
    }

    /// The loaded parts, and the address of the frame header if there is one.
    fn segments(&self) -> Option<(Vec<Part>, Vec<u64>)> {
        let image = self.image;
        let (table, count) = (u64_at(image, 32), usize::from(u16_at(image, 56)));
        let room = table.checked_add(count as u64 * 56)?;
        if u16_at(image, 54) != 56 || count >= PARTS_MAX || room > image.len() as u64 {
            return None;
        }
        let (mut parts, mut anchors) = (Vec::new(), Vec::new());
        for header in image[table as usize..room as usize].chunks_exact(56) {
            match u32_at(header, 0) {
                FRAMES_HEADER => anchors.push(u64_at(header, 16)),
                1 => parts.extend(self.part(header)),
                _ => {}
            }
        }
        Some((disjoint(parts), anchors))
    }

    /// The unwind frames, if a program header tells their table.
    fn frames(&self, parts: &[Part]) -> Option<Frames> {
        let (table, count) = (u64_at(self.image, 32) as usize, usize::from(u16_at(self.image, 56)));
        let mut headers = self.image.get(table..)?.chunks_exact(56).take(count);
        let header = headers.find(|header| u32_at(header, 0) == FRAMES_HEADER)?;
        Frames::find(self.image, u64_at(header, 8), parts)
    }

    fn part(&self, header: &[u8]) -> Option<Part> {
        let (offset, address) = (u64_at(header, 8), u64_at(header, 16));
        let (len, span) = (u64_at(header, 32), u64_at(header, 40));
        let fits = offset.checked_add(len)? <= self.image.len() as u64
            && address <= ADDRESS_MAX / 2
            && span <= ADDRESS_MAX / 2
            && span >= len;
        let is_code = u32_at(header, 4) & 1 == 1;
        fits.then_some(Part { offset, address, len, span, is_code })
    }

    fn sections(&self) -> Vec<Section> {
        let image = self.image;
        let (table, count) = (u64_at(image, 40), u64::from(u16_at(image, 60)));
        let Some(end) = table.checked_add(count * 64).filter(|end| *end <= image.len() as u64) else {
            return Vec::new();
        };
        let read = |header: &[u8]| Section {
            kind: u32_at(header, 4),
            flags: u64_at(header, 8),
            address: u64_at(header, 16),
            offset: u64_at(header, 24),
            len: u64_at(header, 32),
            link: u32_at(header, 40) as usize,
            name: u32_at(header, 0) as usize,
        };
        image[table as usize..end as usize].chunks_exact(64).map(read).collect()
    }

    /// The tables whose rows have a known meaning.
    fn tables(&self, sections: &[Section]) -> Vec<RowTable> {
        let names =
            sections.get(usize::from(u16_at(self.image, 62))).map_or(0, |names| names.offset as usize);
        let read = |section: &Section| {
            let end = section.offset.checked_add(section.len)?;
            let name = self.image.get(names.checked_add(section.name)?..)?;
            let name: Vec<u8> = name.iter().take(64).take_while(|byte| **byte != 0).copied().collect();
            let rows = match section.kind {
                _ if section.flags & COMPRESSED != 0 => return None,
                2 | 11 => Rows::Symbols { names: sections.get(section.link)?.offset },
                4 => Rows::Relocations,
                1 if section.flags & WRITTEN == WRITTEN => Rows::Words,
                1 if matches!(&name[..], b".debug_ranges" | b".debug_aranges") => Rows::Words,
                _ => return None,
            };
            let (offset, len) = (section.offset, section.len);
            (end <= self.image.len() as u64).then_some(RowTable { name, offset, len, rows })
        };
        sections.iter().filter_map(read).take(ROW_TABLES_MAX).collect()
    }

    fn symbol_tables(&self, sections: &[Section], parts: &[Part]) -> Vec<SymbolTable> {
        let read =
            |section: &Section| {
                let names = sections.get(section.link)?;
                let is_table = matches!(section.kind, 2 | 11);
                let end = section.offset.checked_add(section.len)?;
                let unloaded = || frames::address_of(parts, names.offset).map(|address| address as u64);
                let names = if names.address > 0 { names.address } else { unloaded()? };
                (is_table && end <= self.image.len() as u64 && names <= 2 * ADDRESS_MAX)
                    .then_some(SymbolTable { offset: section.offset, len: section.len, names })
            };
        sections.iter().filter_map(read).take(SYMBOL_TABLES_MAX).collect()
    }
}

/// Gives an address to what is never loaded between two positions, at most `count_max` parts of it.
///
/// A section begins at a multiple of 16 there, as it would if it were loaded.
fn unloaded(sections: &[Section], start: u64, end: u64, count_max: usize) -> Vec<Part> {
    let inside = |section: &&Section| {
        let is_stored = section.kind != NOTHING_STORED && section.len > 0;
        is_stored && section.offset >= start && section.offset.saturating_add(section.len) <= end
    };
    let mut begins: Vec<u64> = sections.iter().filter(inside).map(|section| section.offset).collect();
    begins.push(start);
    begins.sort_unstable();
    begins.dedup();
    begins.truncate(count_max);
    begins.push(end);
    let part = |(index, pair): (usize, &[u64])| {
        let (offset, len) = (pair[0], pair[1].saturating_sub(pair[0]));
        let address = (ADDRESS_MAX + offset + 16 * index as u64).next_multiple_of(16);
        (len > 0).then_some(Part { offset, address, len, span: len, is_code: false })
    };
    begins.windows(2).enumerate().filter_map(part).collect()
}

/// The kind of section that takes no bytes of the file.
const NOTHING_STORED: u32 = 8;

/// The addresses of the largest loaded sections of code and of data.
fn largest_sections(sections: &[Section]) -> impl Iterator<Item = u64> {
    let largest = |is_code: bool| {
        let of_kind = sections.iter().filter(move |section| {
            section.flags & 2 != 0 && (section.flags & 4 != 0) == is_code && section.address > 0
        });
        of_kind.max_by_key(|section| section.len).map(|section| section.address)
    };
    [largest(true), largest(false)].into_iter().flatten()
}

/// Sorts parts by position and drops what overlaps an earlier one.
pub fn disjoint(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by_key(|part| part.offset);
    let mut end = 0;
    parts.retain(|part| {
        let keeps = part.offset >= end && part.len > 0;
        end = if keeps { part.offset + part.len } else { end };
        keeps
    });
    parts
}
