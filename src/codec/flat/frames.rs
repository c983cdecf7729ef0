//! Unwind frames of ELF images: records that say where functions begin, and the sorted table of them.
//!
//! A record names its common part by the distance back to it, so every record changes when one is
//! inserted; and the table in front follows from the records, byte for byte. It is therefore left out
//! of the delta and built again when the rest of its group is there.

use std::ops::Range;

use super::image::Part;
use super::matcher::{SEGMENT_MIN, Segment};
use crate::codec::bytes::u32_at;

/// Where the unwind frames of an image are, relative to it; nowhere if `len` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    pub offset: u64,
    /// Bytes of the records.
    pub len: u64,
    /// Where the rows of the table begin, and how many there are.
    pub table: u64,
    pub rows: u64,
}

/// Bytes of the table before its rows: version, encodings, address of the records, number of rows.
const TABLE_HEAD: u64 = 12;
/// Version 1, records relative to their field, rows relative to the table.
const TABLE_MAGIC: u32 = 0x3B03_1B01;
const ROW: usize = 8;

impl Frames {
    /// Finds the frames whose table is at `offset` of `image`.
    pub fn find(image: &[u8], offset: u64, parts: &[Part]) -> Option<Self> {
        let head = image.get(usize::try_from(offset).ok()?..)?.get(..TABLE_HEAD as usize)?;
        if u32_at(head, 0) != TABLE_MAGIC {
            return None;
        }
        let place =
            address_of(parts, offset)?.wrapping_add(4).wrapping_add(i64::from(u32_at(head, 4) as i32));
        let inside = |part: &&Part| (place as u64).wrapping_sub(part.address) < part.len;
        let part = parts.iter().find(inside)?;
        let from = part.offset + (place as u64 - part.address);
        let bytes = image.get(from as usize..(part.offset + part.len) as usize)?;
        let len = records(bytes).last().map_or(0, |last| last.at + last.len) as u64;
        let (table, rows) = (offset + TABLE_HEAD, u64::from(u32_at(head, 8)));
        Some(Self { offset: from, len, table, rows })
    }

    /// Positions of the records in a byte string that has the image at `at`.
    pub fn place(&self, at: u64) -> Range<usize> {
        let start = (at + self.offset) as usize;
        start..start + self.len as usize
    }
}

/// The address of a position of an image.
pub fn address_of(parts: &[Part], offset: u64) -> Option<i64> {
    let part = parts.iter().find(|part| offset.wrapping_sub(part.offset) < part.len)?;
    Some((part.address + (offset - part.offset)) as i64)
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: usize,
    /// Bytes, the length field included.
    pub len: usize,
    /// Whether it is about a function, not the common part of several.
    pub is_function: bool,
}

/// Walks records up to the terminator or the first that does not fit.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Record> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at + 8)?;
        let len = (u32_at(head, 0) as usize).checked_add(4).filter(|len| *len >= 8)?;
        let record = Record { at, len, is_function: u32_at(head, 4) != 0 && len >= FUNCTION_MIN };
        at += len;
        (at <= bytes.len()).then_some(record)
    })
}

/// Where a record's fields are: the distance to its common part, the function's begin.
pub const COMMON: usize = 4;
pub const BEGIN: usize = 8;
/// Behind the function's length: how many bytes of further fields there are, and the first of them.
const FURTHER: usize = 16;
pub const HANDLER: usize = 17;
const FUNCTION_MIN: usize = 16;

/// Whether the record of a function at `at` has one further field, which is an address.
pub fn has_handler(bytes: &[u8], at: usize) -> bool {
    bytes.get(at + FURTHER) == Some(&4) && u32_at(bytes, at) as usize + 4 >= HANDLER + 4
}

/// A table of the target that is built, not coded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Positions of its rows.
    pub rows: Range<usize>,
    /// Address that its rows are relative to.
    address: i64,
    /// Positions of the records, and the address of the first.
    pub records: Range<usize>,
    records_address: i64,
}

impl Table {
    /// The table of an image at `at` of the target; `None` when its place is not in memory.
    pub fn of(frames: &Frames, at: u64, parts: &[Part]) -> Option<Self> {
        let start = (at + frames.table) as usize;
        let address = address_of(parts, frames.table)? - TABLE_HEAD as i64;
        let records_address = address_of(parts, frames.offset)?;
        let rows = start..start + frames.rows as usize * ROW;
        (frames.rows > 0).then_some(Self { rows, address, records: frames.place(at), records_address })
    }

    /// Builds the rows from the records.
    pub fn build(&self, records_bytes: &[u8]) -> Vec<u8> {
        let from_table = |address: i64| address.wrapping_sub(self.address) as i32;
        let row = |record: Record| {
            let here = self.records_address + record.at as i64;
            let begin = u32_at(records_bytes, record.at + BEGIN) as i32;
            let begin = here + BEGIN as i64 + i64::from(begin);
            (from_table(begin), from_table(here))
        };
        let functions = records(records_bytes).filter(|record| record.is_function);
        let mut rows: Vec<(i32, i32)> = functions.map(row).collect();
        rows.sort_by_key(|row| row.0);
        if rows.len() * ROW != self.rows.len() {
            // Some linkers fold functions that are equal.
            rows.dedup_by_key(|row| row.0);
        }
        let bytes = rows.iter().flat_map(|row| [row.0.to_le_bytes(), row.1.to_le_bytes()].concat());
        let mut bytes: Vec<u8> = bytes.take(self.rows.len()).collect();
        bytes.resize(self.rows.len(), 0);
        bytes
    }
}

/// Takes ranges of the target out of the segments.
pub fn leave_out(segments: &[Segment], ranges: &[Range<usize>]) -> Vec<Segment> {
    let mut kept = Vec::with_capacity(segments.len());
    for segment in segments {
        let mut at = segment.target;
        let overlapping = ranges.iter().filter(|range| range.start < segment.target_end());
        for range in overlapping.filter(|range| range.end > segment.target) {
            kept.extend(cut(segment, &(at..range.start)));
            at = range.end;
        }
        kept.extend(cut(segment, &(at..segment.target_end())));
    }
    kept
}

/// What the segments have inside a range of the target.
pub fn clip(segments: &[Segment], range: &Range<usize>) -> Vec<Segment> {
    let first = segments.partition_point(|segment| segment.target_end() <= range.start);
    let overlapping = segments[first..].iter().take_while(|segment| segment.target < range.end);
    overlapping.filter_map(|segment| cut(segment, range)).collect()
}

/// The part of a segment inside a range of the target, if it is long enough to be one.
fn cut(segment: &Segment, range: &Range<usize>) -> Option<Segment> {
    let (from, to) = (segment.target.max(range.start), segment.target_end().min(range.end));
    let base = segment.base + (from - segment.target);
    (from + SEGMENT_MIN <= to).then(|| Segment { target: from, base, len: to - from })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE_AT: u64 = 0x1000;

    /// An image of which nothing but frames is there: a common part, then functions of these begins.
    fn frames(begins: &[u32]) -> (Vec<u8>, Vec<Part>) {
        let mut records = [vec![20, 0, 0, 0], vec![0; 20]].concat();
        let start = TABLE_AT as usize + TABLE_HEAD as usize + begins.len() * ROW;
        for begin in begins {
            let at = records.len();
            let here = (start + at + BEGIN) as u32;
            let fields = [20, (at + COMMON) as u32, begin.wrapping_sub(here), 16, 0, 0];
            records.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        }
        let records_away = (start - TABLE_AT as usize - 4) as u32;
        let head = [TABLE_MAGIC, records_away, begins.len() as u32].map(u32::to_le_bytes).concat();
        let space = vec![0; start - TABLE_AT as usize - head.len()];
        let image = [vec![0; TABLE_AT as usize], head, space, records, vec![0; 4]].concat();
        let len = image.len() as u64;
        (image, vec![Part { offset: 0, address: 0, len, span: len, is_code: false }])
    }

    #[test]
    fn a_table_has_a_row_for_each_function_in_order_of_their_begins() {
        let (image, parts) = frames(&[0x700, 0x300, 0x500]);
        let found = Frames::find(&image, TABLE_AT, &parts).expect("frames");
        assert_eq!((found.rows, found.len), (3, 4 * 24));
        let table = Table::of(&found, 0, &parts).expect("in memory");
        let rows = table.build(&image[table.records.clone()]);
        let words: Vec<i32> = rows.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect();
        let begins: Vec<i32> = words.iter().step_by(2).map(|begin| begin + TABLE_AT as i32).collect();
        assert_eq!(begins, [0x300, 0x500, 0x700]);
        let first = found.offset as i32 - TABLE_AT as i32 + 24;
        assert_eq!(words[1], first + 24);
    }

    #[test]
    fn functions_that_were_folded_have_one_row() {
        let (image, parts) = frames(&[0x700, 0x300, 0x700]);
        let mut found = Frames::find(&image, TABLE_AT, &parts).expect("frames");
        found.rows = 2;
        let table = Table::of(&found, 0, &parts).expect("in memory");
        let records = &image[found.place(0)];
        assert_eq!(u32_at(&table.build(records), 8), 0x700u32.wrapping_sub(TABLE_AT as u32));
    }

    #[test]
    fn a_record_that_does_not_fit_ends_the_walk() {
        let (image, parts) = frames(&[0x300, 0x500]);
        let found = Frames::find(&image, TABLE_AT, &parts).expect("frames");
        let all = &image[found.place(0)];
        assert_eq!(records(all).filter(|record| record.is_function).count(), 2);
        assert_eq!(records(&all[..all.len() - 1]).count(), 2);
        assert_eq!(records(&[&[3, 0, 0, 0][..], all].concat()).count(), 0);
        assert_eq!(records(&[0xFF; 64]).count(), 0);
    }

    #[test]
    fn segments_lose_what_is_left_out_of_them_and_pieces_too_short() {
        let segment = Segment { target: 100, base: 1000, len: 200 };
        let short = 100 + SEGMENT_MIN - 1..150;
        let kept = leave_out(&[segment], std::slice::from_ref(&short));
        assert_eq!(kept, [Segment { target: 150, base: 1050, len: 150 }]);
        let kept = leave_out(&[segment], &[140..150, 160..170]);
        let ends: Vec<_> = kept.iter().map(|it| (it.target, it.target_end())).collect();
        assert_eq!(ends, [(100, 140), (170, 300)]);
        assert_eq!(clip(&kept, &(180..250)), [Segment { target: 180, base: 1080, len: 70 }]);
    }
}
