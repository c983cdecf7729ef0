//! One small pair for each shape of a delta and each way to code one.

use lfs_delta::codec::Effort;

use super::make::{Packer, Style, changed, gzip, png, tar, zip};
use crate::support::data::{Random, edited, noise, text};

/// A base, a target, and how the one is encoded against the other.
pub struct Case {
    pub name: &'static str,
    pub base: Vec<u8>,
    pub target: Vec<u8>,
    pub effort: Effort,
}

/// All cases. They are part of no format: change them as you like, and freeze those you add.
pub fn all() -> Vec<Case> {
    let case = |name, (base, target), effort| Case { name, base, target, effort };
    vec![
        case("lean", moved_and_edited(), Effort::Default),
        case("mixing", moved_and_edited(), Effort::Max),
        case("prefix", corrected_text(), Effort::Default),
        case("alone", (Vec::new(), text(5, 3_000)), Effort::Default),
        case("floats", nudged_floats(), Effort::Default),
        case("code-x86", grown_code(62), Effort::Default),
        case("code-arm", grown_code(183), Effort::Max),
        case("frames", (unwound_code(0), unwound_code(512)), Effort::Default),
        case("containers", filled_zips(), Effort::Default),
        case("containers-max", filled_zips(), Effort::Max),
        case("opened", (Vec::new(), filled_zips().1), Effort::Max),
        case("gzip-fast", edited_gzips(), Effort::Fast),
    ]
}

fn moved_and_edited() -> (Vec<u8>, Vec<u8>) {
    let base = [noise(1, 4_000), text(1, 3_000), noise(2, 2_000)].concat();
    let mut target = edited(&base, 77, 12);
    target[2_000..].rotate_left(1_500);
    (base, target)
}

/// Text with many small edits, which the flat stage codes by zstd with a prefix.
fn corrected_text() -> (Vec<u8>, Vec<u8>) {
    let base = text(3, 20_000);
    let mut target = base.clone();
    let mut random = Random::new(3);
    for _ in 0..900 {
        let at = random.below(target.len());
        target.splice(at..at + random.below(2).min(target.len() - at), *b"x");
    }
    (base, target)
}

fn nudged_floats() -> (Vec<u8>, Vec<u8>) {
    let floats = |nudge: f64| -> Vec<u8> {
        let value = |at: u32| (f64::from(at % 4096) + nudge * f64::from(at * 37 % 100)) as f32;
        (0..4_000).flat_map(|at| value(at * 7919).to_le_bytes()).collect()
    };
    (floats(0.0), floats(1e-3))
}

/// A 64-bit ELF image of 120 functions that call each other, before and after some of them were moved.
fn grown_code(machine: u8) -> (Vec<u8>, Vec<u8>) {
    (code(machine, 0), code(machine, 512))
}

const FUNCTION: usize = 64;
const FUNCTIONS: usize = 120;
const CODE_AT: usize = 4096;

fn code(machine: u8, inserted: usize) -> Vec<u8> {
    let mut random = Random::new(99);
    let place = |index: usize| index * FUNCTION + if index >= FUNCTIONS / 2 { inserted } else { 0 };
    let mut code = vec![0x90; FUNCTIONS * FUNCTION + inserted];
    for index in 0..FUNCTIONS {
        let body = random.bytes(FUNCTION - 16);
        let from = place(index) + body.len();
        code[place(index)..from].copy_from_slice(&body);
        let away = place(random.below(FUNCTIONS)) as i64 - from as i64;
        if machine == 62 {
            code[from] = 0xe8;
            code[from + 1..from + 5].copy_from_slice(&(away as i32 - 5).to_le_bytes());
        } else {
            let call = 0x9400_0000 | ((away >> 2) as u32 & 0x03ff_ffff);
            let [page, low] = arm_address(from, place(random.below(FUNCTIONS)));
            for (index, word) in [call, page, low].into_iter().enumerate() {
                code[from + 4 * index..][..4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    [elf_header(machine, code.len()), code].concat()
}

/// Two instructions that put the address of `to` into a register: its page, and the rest of it.
fn arm_address(from: usize, to: usize) -> [u32; 2] {
    let pages = (to >> 12).wrapping_sub((from + 4) >> 12) as u32;
    let page = 0x9000_0003 | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5;
    [page, 0x9100_0063 | (to as u32 & 0xfff) << 10]
}

/// The same code with unwind frames and the sorted table of them in front, in a segment of their own.
fn unwound_code(inserted: usize) -> Vec<u8> {
    const TABLE_ADDRESS: usize = 0x50_0000;
    let mut image = code(62, inserted);
    let table_at = image.len();
    let place = |index: usize| index * FUNCTION + if index >= FUNCTIONS / 2 { inserted } else { 0 };
    let records_at = TABLE_ADDRESS + 12 + 8 * FUNCTIONS;
    let (mut rows, mut records) = (Vec::new(), [vec![20, 0, 0, 0], vec![0; 20]].concat());
    for index in 0..FUNCTIONS {
        let (at, begin) = (records.len(), 0x40_0000 + place(index));
        let address = records_at + at;
        let fields = [20, at + 4, begin.wrapping_sub(address + 8), FUNCTION, 0, 0];
        records.extend(fields.iter().flat_map(|field| (*field as u32).to_le_bytes()));
        let row = [begin, address].map(|it| (it.wrapping_sub(TABLE_ADDRESS) as u32).to_le_bytes());
        rows.extend(row.concat());
    }
    let head = [0x3b03_1b01, (8 + rows.len()) as u32, FUNCTIONS as u32].map(u32::to_le_bytes).concat();
    let segment = [head, rows, records, vec![0; 4]].concat();
    image[56] = 3;
    for (header, kind) in [(120, [1, 4]), (176, [0x6474_e550, 4])] {
        let place = [table_at, TABLE_ADDRESS, TABLE_ADDRESS, segment.len(), segment.len(), 8];
        let place = place.iter().flat_map(|number| (*number as u64).to_le_bytes());
        let bytes: Vec<u8> = kind.iter().flat_map(|number: &u32| number.to_le_bytes()).chain(place).collect();
        image[header..header + bytes.len()].copy_from_slice(&bytes);
    }
    [image, segment].concat()
}

/// One segment that is loaded and executed.
fn elf_header(machine: u8, code_len: usize) -> Vec<u8> {
    let mut header = vec![0; CODE_AT];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let bytes = [(16, 3), (18, machine), (32, 64), (54, 56), (56, 1), (64, 1), (68, 5)];
    bytes.iter().for_each(|&(at, byte)| header[at] = byte);
    for (at, number) in [(72, CODE_AT), (80, 0x40_0000), (96, code_len), (104, code_len)] {
        header[at..at + 8].copy_from_slice(&(number as u64).to_le_bytes());
    }
    header
}

/// ZIPs with everything in them that is opened, and something that is the same in both.
fn filled_zips() -> (Vec<u8>, Vec<u8>) {
    let old = text(6, 4_000);
    let new = changed(&old, &mut Random::new(6));
    (filled_zip(&old), filled_zip(&new))
}

/// A ZIP with a ZIP, an image, a gzip of a tar and a stored ZIP in it.
pub fn filled_zip(plain: &[u8]) -> Vec<u8> {
    let inner = zip(&[("deep", plain)], Style::Descriptors, Packer::Usual(6));
    let image = png(plain, 100, Packer::Usual(9));
    let tarred = gzip(&tar(&[("plain", plain), ("image", &image)]), Packer::Usual(1));
    let same = text(7, 1_000);
    let files: [(&str, &[u8]); 6] = [
        ("zip", &inner),
        ("stored zip", &inner),
        ("image", &image),
        ("tar.gz", &tarred),
        ("odd", &gzip(plain, Packer::Odd)),
        ("same", &same),
    ];
    zip(&files, Style::Usual, Packer::Usual(6))
}

fn edited_gzips() -> (Vec<u8>, Vec<u8>) {
    let old = text(8, 6_000);
    let new = changed(&old, &mut Random::new(8));
    (gzip(&old, Packer::Usual(6)), gzip(&new, Packer::Usual(6)))
}
