//! Aligns tables of images by what their rows mean: relocations, symbols, unwind frames, address ranges.
//!
//! The rows of such a table differ in all but a few bytes between two versions, and in these few they
//! all look alike: by the bytes, a row is as good as its neighbour. Here the rows are first rewritten
//! to what they mean: an address of the base becomes the address where the alignment moved what was
//! there, an offset of a name becomes a digest of the name. Then equal rows are equal bytes.
//!
//! Nothing here is part of the format: any list of segments can be coded.

use super::GROUP;
use super::address::Addresses;
use super::frames::{self, Frames};
use super::image::Image;
use super::matcher::{self, Pair, Seeds, Segment, Veil};
use crate::codec::bytes::{scramble, u32_at, u64_at};

/// A table of an image, relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowTable {
    pub name: Vec<u8>,
    pub offset: u64,
    pub len: u64,
    pub rows: Rows,
}

/// What the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Address, kind, address: 24 bytes.
    Relocations,
    /// Name, kind, address, size: 24 bytes; where the names begin.
    Symbols { names: u64 },
    /// Records of varying length.
    Frames,
    /// Aligned addresses.
    Words,
}

/// Bytes of a row of relocations and symbols.
const ROW: usize = 24;
/// Tables below are not worth the search.
const TABLE_MIN: u64 = 1 << 12;
/// What a mismatch costs an extension, in matches: several rows must agree.
const MISMATCH: i64 = 2;
/// Bytes that naming a segment is believed to take.
const SEGMENT_BYTES: usize = 4;

/// Replaces the segments of tables where what the rows mean gives better ones.
pub fn realign(
    segments: Vec<Segment>,
    addresses: &Addresses,
    base: &[u8],
    target: &[u8],
    table_bytes_max: usize,
) -> Vec<Segment> {
    let mut segments = segments;
    let layout = &addresses.layout;
    for (image, (old, new)) in layout.base.iter().zip(&layout.target).enumerate() {
        for (from, to) in pairs(old, new) {
            let side = |bytes: &[u8], place: &Image, table: &RowTable, moves: Option<usize>| Side {
                start: (place.at + table.offset) as usize,
                bytes: meaning(bytes, place, table, moves.map(|image| (addresses, image))),
            };
            let (from, to) = (side(base, old, &from, Some(image)), side(target, new, &to, None));
            segments = realign_table(segments, &from, &to, base, table_bytes_max);
        }
    }
    segments
}

/// The tables that both images have.
fn pairs(old: &Image, new: &Image) -> Vec<(RowTable, RowTable)> {
    let of = |image: &Image| -> Vec<RowTable> {
        let Frames { offset, len, .. } = image.frames;
        let frames = RowTable { name: b".eh_frame".to_vec(), offset, len, rows: Rows::Frames };
        image.tables.iter().cloned().chain([frames]).collect()
    };
    let other = of(new);
    let pair = |from: RowTable| {
        let to = other.iter().find(|to| to.name == from.name)?.clone();
        (from.len.min(to.len) >= TABLE_MIN).then_some((from, to))
    };
    of(old).into_iter().filter_map(pair).collect()
}

/// One side of a table, rewritten.
struct Side {
    /// Position of the first byte.
    start: usize,
    bytes: Vec<u8>,
}

/// Rewrites a table of the image `place` of `all`; with `moves`, addresses to where they went.
fn meaning(all: &[u8], place: &Image, table: &RowTable, moves: Option<(&Addresses, usize)>) -> Vec<u8> {
    let start = (place.at + table.offset) as usize;
    let mut bytes = all[start..start + table.len as usize].to_vec();
    let (low, high) = place.bounds();
    let moved = |address: u64| -> u64 {
        let Some((addresses, image)) = moves.filter(|_| address >= low && address < high) else {
            return address;
        };
        let [covering, following, _] = addresses.shifts(image, address as i64);
        address.wrapping_add(covering.or(following).unwrap_or(0) as u64)
    };
    let word = |bytes: &mut [u8], at: usize| {
        let address = moved(u64_at(bytes, at));
        bytes[at..at + 8].copy_from_slice(&address.to_le_bytes());
    };
    match table.rows {
        Rows::Relocations => (0..bytes.len() / ROW).for_each(|row| {
            word(&mut bytes, row * ROW);
            word(&mut bytes, row * ROW + 16);
        }),
        Rows::Symbols { names } => (0..bytes.len() / ROW).for_each(|row| {
            let name = names.saturating_add(place.at + u64::from(u32_at(&bytes, row * ROW)));
            let digest = name_digest(all.get(name as usize..).unwrap_or(&[]));
            bytes[row * ROW..row * ROW + 4].copy_from_slice(&digest.to_le_bytes());
            word(&mut bytes, row * ROW + 8);
        }),
        Rows::Frames => rewrite_frames(&mut bytes, place, moved),
        Rows::Words => {
            (0..bytes.len().saturating_sub(7)).step_by(8).for_each(|at| word(&mut bytes, at));
        }
    }
    bytes
}

/// Names longer than this are told apart by their begin.
const NAME_MAX: usize = 256;

fn name_digest(name: &[u8]) -> u32 {
    let name = name.iter().take(NAME_MAX).take_while(|byte| **byte != 0);
    (name.fold(0, |digest, byte| scramble(digest ^ u64::from(*byte)).rotate_left(23)) >> 16) as u32
}

fn rewrite_frames(bytes: &mut [u8], place: &Image, moved: impl Fn(u64) -> u64) {
    let Some(start) = frames::address_of(&place.parts, place.frames.offset) else { return };
    let functions: Vec<_> = frames::records(bytes).filter(|record| record.is_function).collect();
    for record in functions {
        let at = record.at;
        // All that matters of the common part is which of the few it is.
        let common = (at + frames::COMMON).wrapping_sub(u32_at(bytes, at + frames::COMMON) as usize);
        let digest = bytes.get(common..).and_then(|common| common.get(16..20)).map_or(0, |id| u32_at(id, 0));
        bytes[at + frames::COMMON..at + frames::BEGIN].copy_from_slice(&digest.to_le_bytes());
        let handler = frames::has_handler(bytes, at).then_some(at + frames::HANDLER);
        for at in [Some(at + frames::BEGIN), handler].into_iter().flatten() {
            let address = start + at as i64 + i64::from(u32_at(bytes, at) as i32);
            bytes[at..at + 4].copy_from_slice(&(moved(address as u64) as u32).to_le_bytes());
        }
    }
}

fn realign_table(
    segments: Vec<Segment>,
    from: &Side,
    to: &Side,
    base: &[u8],
    table_bytes_max: usize,
) -> Vec<Segment> {
    let veil = Veil::default();
    let seeds = Seeds::new(&from.bytes, &veil, table_bytes_max, 8);
    let pair = Pair {
        base: &from.bytes,
        target: &to.bytes,
        base_veil: &veil,
        target_veil: &veil,
        mismatch: MISMATCH,
        shifts: &[],
    };
    let mut better = Vec::new();
    let (mut at, end) = (to.start, to.start + to.bytes.len());
    while at < end {
        // Groups are coded apart: no segment may lie in two.
        let next = (at / GROUP + 1).saturating_mul(GROUP).min(end);
        better.extend(matcher::find_segments(pair, &seeds, at - to.start..next - to.start));
        at = next;
    }
    for segment in &mut better {
        segment.base += from.start;
        segment.target += to.start;
    }
    let range = to.start..end;
    let inside = frames::clip(&segments, &range);
    if cost(&better, from, to, base) >= cost(&inside, from, to, base) {
        return segments;
    }
    let mut all = frames::leave_out(&segments, &[range]);
    all.extend(better);
    all.sort_unstable_by_key(|segment| segment.target);
    all
}

/// Bytes that coding a table with these segments is believed to take.
fn cost(segments: &[Segment], from: &Side, to: &Side, base: &[u8]) -> usize {
    let (mut wrong, mut covered) = (0, 0);
    for segment in segments {
        let at = segment.target - to.start;
        let new = &to.bytes[at..at + segment.len];
        let inside = segment.base.checked_sub(from.start);
        let rewritten = inside.and_then(|inside| from.bytes.get(inside..inside + segment.len));
        let old = rewritten.unwrap_or(&base[segment.base..segment.base + segment.len]);
        wrong += old.iter().zip(new).filter(|(old, new)| old != new).count();
        covered += segment.len;
    }
    segments.len() * SEGMENT_BYTES + wrong + (to.bytes.len() - covered) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flat::address::Layout;
    use crate::codec::flat::image::{Machine, Part};

    const CODE: usize = 1 << 16;
    const COUNT: usize = 400;

    /// Zeros, code of which nothing changed, and behind it relocations: slots in order, targets all over the code.
    fn image_at(place: usize, first: usize) -> (Vec<u8>, Image) {
        let row = |index: usize| {
            let fields = [(1 << 20) + 8 * index, 8, index * 25_771 % CODE];
            fields.map(|field| (field as u64).to_le_bytes()).concat()
        };
        let rows: Vec<u8> = (first..COUNT).flat_map(row).collect();
        let code = (0..CODE / 4).flat_map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes());
        let all: Vec<u8> = vec![0; place].into_iter().chain(code).chain(rows.iter().copied()).collect();
        let part = |offset: u64, len: u64, is_code| Part { offset, address: offset, len, span: len, is_code };
        let (offset, len) = (CODE as u64, rows.len() as u64);
        let table = RowTable { name: b".rela".to_vec(), offset, len, rows: Rows::Relocations };
        let image = Image {
            machine: Machine::X86,
            at: place as u64,
            end: all.len() as u64,
            parts: vec![part(0, offset, true), part(offset, len, false)],
            anchors: Vec::new(),
            symbols: Vec::new(),
            frames: Frames::default(),
            tables: vec![table],
        };
        (all, image)
    }

    fn image(first: usize) -> (Vec<u8>, Image) {
        image_at(0, first)
    }

    #[test]
    fn rows_behind_an_inserted_one_are_paired_with_those_of_the_same_meaning() {
        let ((base, old), (target, new)) = (image(1), image(0));
        let rows = base.len() - CODE;
        let code = Segment { target: 0, base: 0, len: CODE };
        let by_bytes = vec![code, Segment { target: CODE, base: CODE, len: rows }];
        let layout = Layout { base: vec![old], target: vec![new], ..Layout::default() };
        let addresses = Addresses::new(layout, &by_bytes, &base);
        let found = realign(by_bytes, &addresses, &base, &target, 1 << 20);
        assert_eq!(found, [code, Segment { target: CODE + ROW, base: CODE, len: rows }]);
    }

    #[test]
    fn a_table_that_lies_in_two_groups_has_no_segment_in_both() {
        let place = GROUP - CODE - COUNT / 2 * ROW;
        let ((base, old), (target, new)) = (image_at(place, 1), image_at(place, 0));
        let by_bytes = vec![Segment { target: place, base: place, len: CODE }];
        let layout = Layout { base: vec![old], target: vec![new], ..Layout::default() };
        let addresses = Addresses::new(layout, &by_bytes, &base);
        let found = realign(by_bytes, &addresses, &base, &target, 1 << 20);
        let groups = |segment: &Segment| segment.target / GROUP..=(segment.target_end() - 1) / GROUP;
        assert!(found.iter().all(|segment| groups(segment).count() == 1), "{found:?}");
        let covered: usize = found.iter().map(|segment| segment.len).sum();
        assert_eq!(covered, CODE + (COUNT - 1) * ROW, "{found:?}");
    }

    #[test]
    fn what_was_aligned_well_stays_as_it_is() {
        let ((base, old), (target, new)) = (image(0), image(0));
        let segments = vec![Segment { target: 0, base: 0, len: base.len() }];
        let layout = Layout { base: vec![old], target: vec![new], ..Layout::default() };
        let addresses = Addresses::new(layout, &segments, &base);
        assert_eq!(realign(segments.clone(), &addresses, &base, &target, 1 << 20), segments);
    }

    #[test]
    fn a_name_is_read_up_to_its_end() {
        assert_eq!(name_digest(b"main\0rest"), name_digest(b"main"));
        assert_ne!(name_digest(b"main"), name_digest(b"mainly"));
    }
}
