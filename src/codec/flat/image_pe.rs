//! PE images: the programs and libraries of Windows, for 64-bit x86 and ARM.
//!
//! Tables inside count addresses from the image's base (exports, unwinding, resources), pointers are
//! absolute: both need the base that the header asks for.

use super::image::{ADDRESS_MAX, Image, Machine, PARTS_MAX, Part, disjoint};
use crate::codec::bytes::{u16_at, u32_at, u64_at};

const SECTION: usize = 40;
/// Bytes of the file header with its magic.
const FILE_HEADER: usize = 24;
const EXECUTABLE: u32 = 1 << 29;

/// Reads the image that begins with `image` at `at` of a byte string.
pub fn parse(image: &[u8], at: u64) -> Option<Image> {
    let header = image.get(u32_at(image.get(..64)?, 60) as usize..)?;
    if header.len() < FILE_HEADER + 112 || header[..4] != *b"PE\0\0" || u16_at(header, FILE_HEADER) != 0x20B {
        return None;
    }
    let machine = match u16_at(header, 4) {
        0x8664 => Machine::X86,
        0xAA64 => Machine::Arm,
        _ => return None,
    };
    let base = u64_at(header, FILE_HEADER + 24);
    let table = header.get(FILE_HEADER + usize::from(u16_at(header, 20))..)?;
    let count = usize::from(u16_at(header, 6)).min(PARTS_MAX);
    let sections = table.chunks_exact(SECTION).take(count);
    let parts = disjoint(sections.filter_map(|section| part(section, base, image.len())).collect());
    let end = parts.last().map(|part| part.offset + part.len)?;
    let is_native = base < ADDRESS_MAX / 2 && parts.iter().any(|part| part.is_code);
    let anchors = vec![base];
    is_native.then(|| Image::of_parts(machine, at..at + end, parts, anchors))
}

fn part(section: &[u8], base: u64, image_len: usize) -> Option<Part> {
    let [span, address, len, offset] = [8, 12, 16, 20].map(|at| u64::from(u32_at(section, at)));
    let fits = len > 0 && offset + len <= image_len as u64;
    let is_code = u32_at(section, 36) & EXECUTABLE != 0;
    fits.then_some(Part { offset, address: base.saturating_add(address), len, span: span.max(len), is_code })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::flat::image::find_images;

    /// A library with code and data, as a linker lays it out.
    pub fn library(machine: u16) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ\x90");
        put(60, &0x80u32.to_le_bytes());
        put(0x80, b"PE\0\0");
        put(0x84, &machine.to_le_bytes());
        put(0x86, &2u16.to_le_bytes());
        put(0x94, &0xF0u16.to_le_bytes());
        put(0x98, &0x20Bu16.to_le_bytes());
        put(0x98 + 24, &0x1_8000_0000u64.to_le_bytes());
        for (index, flags) in [(0u32, EXECUTABLE), (1, 0)] {
            let at = 0x98 + 0xF0 + index as usize * SECTION;
            let fields = [0x300, 0x1000 + index * 0x1000, 0x400, 0x400 + index * 0x400];
            fields.iter().enumerate().for_each(|(n, field)| put(at + 8 + n * 4, &field.to_le_bytes()));
            put(at + 36, &flags.to_le_bytes());
        }
        image
    }

    #[test]
    fn sections_have_the_addresses_that_the_header_asks_for() {
        let file = [&[0x90; 77][..], &library(0xAA64)].concat();
        let images = find_images(&file);
        assert_eq!(images.len(), 1);
        assert_eq!((images[0].at, images[0].end, images[0].machine), (77, 77 + 0xC00, Machine::Arm));
        let code = Part { offset: 0x400, address: 0x1_8000_1000, len: 0x400, span: 0x400, is_code: true };
        assert_eq!(images[0].parts[0], code);
        assert!(!images[0].parts[1].is_code);
        assert_eq!(images[0].anchors, [0x1_8000_0000]);
        assert_eq!(find_images(&library(0x8664))[0].at, 0);
    }

    #[test]
    fn cut_or_foreign_images_are_no_images() {
        let whole = library(0x8664);
        for len in 0..0x400 {
            assert_eq!(find_images(&whole[..len]), []);
        }
        assert_eq!(find_images(&library(0x14C)), []);
    }
}
