//! Mach-O images: the programs and libraries of Apple's systems, for 64-bit x86 and ARM.
//!
//! A fat file is several of them behind a table nobody needs here: each begins with its own magic.
//! Code shares its segment with constants, so parts are sections.

use super::image::{ADDRESS_MAX, Image, Machine, PARTS_MAX, Part, disjoint};
use crate::codec::bytes::{u32_at, u64_at};

const HEADER: usize = 32;
const SEGMENT_COMMAND: u32 = 0x19;
const SEGMENT: usize = 72;
const SECTION: usize = 80;
const COMMANDS_MAX: u32 = 1 << 10;
/// Sections with instructions have one of these flags.
const INSTRUCTIONS: u32 = 0x8000_0400;

/// Reads the image that begins with `image` at `at` of a byte string.
pub fn parse(image: &[u8], at: u64) -> Option<Image> {
    let header = image.get(..HEADER)?;
    let machine = match u32_at(header, 4) {
        0x0100_0007 => Machine::X86,
        0x0100_000C => Machine::Arm,
        _ => return None,
    };
    let (mut parts, mut anchors, mut end, mut next) = (Vec::new(), Vec::new(), 0, HEADER);
    for _ in 0..u32_at(header, 16).min(COMMANDS_MAX) {
        let rest = image.get(next..).filter(|rest| rest.len() >= 8)?;
        let len = u32_at(rest, 4) as usize;
        let command = rest.get(..len).filter(|_| len >= 8)?;
        if u32_at(command, 0) == SEGMENT_COMMAND && len >= SEGMENT {
            let (address, offset, len) = (u64_at(command, 24), u64_at(command, 40), u64_at(command, 48));
            let fits = offset.checked_add(len).is_some_and(|end| end <= image.len() as u64);
            if fits && len > 0 {
                end = end.max(offset + len);
                anchors.extend((offset == 0).then_some(address));
                parts.extend(sections(command, image.len()));
            }
        }
        next += len;
    }
    let mut parts = disjoint(parts);
    parts.truncate(PARTS_MAX);
    let is_native = parts.iter().any(|part| part.is_code);
    is_native.then(|| Image::of_parts(machine, at..at + end, parts, anchors))
}

/// The sections of a segment that lie in the file.
fn sections(segment: &[u8], image_len: usize) -> impl Iterator<Item = Part> {
    let count = u32_at(segment, 64) as usize;
    segment[SEGMENT..].chunks_exact(SECTION).take(count).filter_map(move |section| {
        let (address, len) = (u64_at(section, 32), u64_at(section, 40));
        let (offset, flags) = (u64::from(u32_at(section, 48)), u32_at(section, 64));
        let fits = offset > 0
            && offset.checked_add(len).is_some_and(|end| end <= image_len as u64)
            && address <= ADDRESS_MAX / 2;
        let is_code = flags & INSTRUCTIONS != 0;
        fits.then_some(Part { offset, address, len, span: len, is_code })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flat::image::find_images;

    /// A library with a section of code and one of constants.
    fn library(cpu: u32) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        let mut put = |at: usize, value: u64| image[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(0, u64::from(cpu) << 32 | 0xFEED_FACF);
        put(16, 1);
        put(HEADER, ((SEGMENT + 2 * SECTION) as u64) << 32 | u64::from(SEGMENT_COMMAND));
        put(HEADER + 24, 0x1_0000_0000);
        put(HEADER + 48, 0x1000);
        put(HEADER + 64, 2);
        for (index, flags) in [(0, INSTRUCTIONS), (1, 0)] {
            let at = HEADER + SEGMENT + index * SECTION;
            put(at + 32, 0x1_0000_0400 + index as u64 * 0x400);
            put(at + 40, 0x380);
            put(at + 48, 0x400 + index as u64 * 0x400);
            put(at + 64, u64::from(flags));
        }
        image
    }

    #[test]
    fn every_image_of_a_fat_file_is_found_with_its_sections() {
        let file = [&[0xCA; 61][..], &library(0x0100_0007), &library(0x0100_000C)].concat();
        let images = find_images(&file);
        let found: Vec<_> = images.iter().map(|image| (image.at, image.machine)).collect();
        assert_eq!(found, [(61, Machine::X86), (61 + 0x1000, Machine::Arm)]);
        let code = Part { offset: 0x400, address: 0x1_0000_0400, len: 0x380, span: 0x380, is_code: true };
        assert_eq!(images[1].parts[0], code);
        assert!(!images[1].parts[1].is_code);
    }

    #[test]
    fn cut_or_foreign_images_are_no_images() {
        let whole = library(0x0100_0007);
        for len in 0..0x800 {
            assert_eq!(find_images(&whole[..len]), []);
        }
        assert_eq!(find_images(&library(7)), []);
    }
}
