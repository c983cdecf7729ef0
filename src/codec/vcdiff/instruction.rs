//! What an opcode of the default code table means, and how an address is written (RFC 3284, sections 5.3, 5.6).
//!
//! The writer uses three opcodes' families and one address mode only (see `write`); all else here is for
//! reading what others wrote.

use super::varint;
use crate::codec::{Result, corrupt};

/// The mode in which an address is the distance back from where the copy goes.
pub const MODE_HERE: u8 = 1;
const MODE_SELF: u8 = 0;
const NEAR_SLOTS: usize = 4;
const SAME_SLOTS: usize = 3 * 256;
const MODES: u8 = 9;

const OPCODE_RUN: u8 = 0;
const OPCODE_ADD: u8 = 1;
const OPCODE_COPY: u8 = 19;
const OPCODE_ADD_COPY: u8 = 163;
const OPCODE_ADD_COPY_SAME: u8 = 235;
const OPCODE_COPY_ADD: u8 = 247;
/// Longest ADD that needs no number beside its opcode.
const ADD_IMPLIED_MAX: u64 = 17;
/// Copies that need no number beside their opcode.
const COPY_IMPLIED: std::ops::RangeInclusive<u64> = 4..=18;

/// One of the three instructions; a size of 0 stands beside the opcode as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// One byte of the data section, repeated.
    Run,
    /// Bytes of the data section.
    Add {
        /// Bytes.
        size: u8,
    },
    /// Bytes of the base, or of the target so far.
    Copy {
        /// Bytes.
        size: u8,
        /// How the address is written.
        mode: u8,
    },
}

/// Returns the one or two instructions of an opcode.
pub const fn of_opcode(opcode: u8) -> (Instruction, Option<Instruction>) {
    match opcode {
        OPCODE_RUN => (Instruction::Run, None),
        OPCODE_ADD..OPCODE_COPY => (Instruction::Add { size: opcode - OPCODE_ADD }, None),
        OPCODE_COPY..OPCODE_ADD_COPY => {
            let (mode, step) = ((opcode - OPCODE_COPY) / 16, (opcode - OPCODE_COPY) % 16);
            (Instruction::Copy { size: if step == 0 { 0 } else { step + 3 }, mode }, None)
        }
        OPCODE_ADD_COPY..OPCODE_ADD_COPY_SAME => {
            let (mode, step) = ((opcode - OPCODE_ADD_COPY) / 12, (opcode - OPCODE_ADD_COPY) % 12);
            let copy = Instruction::Copy { size: 4 + step % 3, mode };
            (Instruction::Add { size: 1 + step / 3 }, Some(copy))
        }
        OPCODE_ADD_COPY_SAME..OPCODE_COPY_ADD => {
            let (mode, step) = ((opcode - OPCODE_ADD_COPY_SAME) / 4, (opcode - OPCODE_ADD_COPY_SAME) % 4);
            (Instruction::Add { size: 1 + step }, Some(Instruction::Copy { size: 4, mode: mode + 6 }))
        }
        OPCODE_COPY_ADD.. => {
            let copy = Instruction::Copy { size: 4, mode: opcode - OPCODE_COPY_ADD };
            (copy, Some(Instruction::Add { size: 1 }))
        }
    }
}

/// Appends an ADD.
pub fn put_add(out: &mut Vec<u8>, size: u64) {
    if size <= ADD_IMPLIED_MAX {
        return out.push(OPCODE_ADD + size as u8);
    }
    out.push(OPCODE_ADD);
    varint::put(out, size);
}

/// Returns how many bytes a COPY takes, besides its address.
pub fn copy_size(size: u64) -> usize {
    if COPY_IMPLIED.contains(&size) { 1 } else { 1 + varint::size(size) }
}

/// Appends a COPY whose address is written in `MODE_HERE`.
pub fn put_copy(out: &mut Vec<u8>, size: u64) {
    let opcode = OPCODE_COPY + 16 * MODE_HERE;
    if COPY_IMPLIED.contains(&size) {
        return out.push(opcode + size as u8 - 3);
    }
    out.push(opcode);
    varint::put(out, size);
}

/// The addresses of earlier copies of a window, which later ones are written relative to.
#[derive(Debug)]
pub struct Addresses {
    near: [u64; NEAR_SLOTS],
    next: usize,
    same: Vec<u64>,
}

impl Addresses {
    /// Creates the state that every window begins with.
    pub fn new() -> Self {
        Self { near: [0; NEAR_SLOTS], next: 0, same: vec![0; SAME_SLOTS] }
    }

    /// Takes the address of a copy to position `here` off the address section.
    ///
    /// # Errors
    /// `Corrupt` when the section is cut or the address is not before `here`.
    pub fn take(&mut self, section: &mut &[u8], here: u64, mode: u8) -> Result<u64> {
        let address = self.resolve(section, here, mode)?.filter(|&address| address < here);
        let address = address.ok_or_else(|| corrupt("the delta copies from what is not there yet"))?;
        self.near[self.next] = address;
        self.next = (self.next + 1) % NEAR_SLOTS;
        self.same[address as usize % SAME_SLOTS] = address;
        Ok(address)
    }

    fn resolve(&self, section: &mut &[u8], here: u64, mode: u8) -> Result<Option<u64>> {
        const SAME_FIRST: u8 = 2 + NEAR_SLOTS as u8;
        Ok(match mode {
            MODE_SELF => Some(varint::take(section)?),
            MODE_HERE => here.checked_sub(varint::take(section)?),
            2..SAME_FIRST => self.near[usize::from(mode) - 2].checked_add(varint::take(section)?),
            SAME_FIRST..MODES => {
                let (&byte, rest) =
                    section.split_first().ok_or_else(|| corrupt("the delta's addresses are cut"))?;
                *section = rest;
                Some(self.same[usize::from(mode - SAME_FIRST) * 256 + usize::from(byte)])
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn add(size: u8) -> Instruction {
        Instruction::Add { size }
    }

    const fn copy(size: u8, mode: u8) -> Instruction {
        Instruction::Copy { size, mode }
    }

    #[test]
    fn the_code_table_is_that_of_the_specification() {
        let expected = [
            (0, (Instruction::Run, None)),
            (1, (add(0), None)),
            (18, (add(17), None)),
            (19, (copy(0, 0), None)),
            (20, (copy(4, 0), None)),
            (34, (copy(18, 0), None)),
            (35, (copy(0, 1), None)),
            (162, (copy(18, 8), None)),
            (163, (add(1), Some(copy(4, 0)))),
            (165, (add(1), Some(copy(6, 0)))),
            (166, (add(2), Some(copy(4, 0)))),
            (175, (add(1), Some(copy(4, 1)))),
            (234, (add(4), Some(copy(6, 5)))),
            (235, (add(1), Some(copy(4, 6)))),
            (246, (add(4), Some(copy(4, 8)))),
            (247, (copy(4, 0), Some(add(1)))),
            (255, (copy(4, 8), Some(add(1)))),
        ];
        for (opcode, instructions) in expected {
            assert_eq!(of_opcode(opcode), instructions, "opcode {opcode}");
        }
    }

    #[test]
    fn written_instructions_mean_what_they_should() {
        for size in [1u64, 3, 4, 17, 18, 19, 1000] {
            for is_add in [true, false] {
                let mut bytes = Vec::new();
                if is_add {
                    put_add(&mut bytes, size)
                } else {
                    put_copy(&mut bytes, size)
                }
                let (opcode, mut rest) = bytes.split_first().expect("an opcode");
                let implied = match of_opcode(*opcode) {
                    (Instruction::Add { size }, None) if is_add => size,
                    (Instruction::Copy { size, mode: MODE_HERE }, None) if !is_add => size,
                    other => panic!("{other:?}"),
                };
                let read =
                    if implied == 0 { varint::take(&mut rest).expect("a size") } else { implied.into() };
                assert_eq!((read, rest.len()), (size, 0));
            }
        }
    }

    #[test]
    fn every_mode_finds_its_address() {
        let mut addresses = Addresses::new();
        let mut section = &[0x87, 0x68, 0x10, 0x05, 0x05, 232][..];
        let mut take = |mode| addresses.take(&mut section, 2000, mode).expect("valid");
        assert_eq!([take(0), take(1), take(2), take(3)], [1000, 1984, 1005, 1989]);
        assert_eq!(take(6), 1000, "1000 modulo 768 is 232, in the first table");
    }

    #[test]
    fn addresses_that_are_not_there_yet_are_refused() {
        for (mode, byte) in [(0, 100), (1, 0), (1, 101), (9, 0)] {
            assert!(Addresses::new().take(&mut &[byte][..], 100, mode).is_err(), "mode {mode}");
        }
    }
}
