//! Where instructions keep addresses, and how an address is written there.
//!
//! No disassembler: an operand is taken for one when the bytes before it look like an instruction
//! that has one and its target lies inside the image. A wrong guess costs a prediction, not
//! correctness. The classes below are part of the format.

use super::image::Machine;
use crate::codec::bytes::{u32_at, u64_at};

/// How a field's value follows from the address it refers to.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// 32 bits, counted from an address.
    Near { origin: i64 },
    /// 64 bits, the address itself.
    Whole,
    /// The low 26 bits of an instruction, in words, counted from the instruction.
    Branch26 { origin: i64 },
    /// 32 bits, counted back from an address.
    Back { origin: i64 },
    /// Bits 5 to 23 of an instruction, in words, counted from the instruction.
    Branch19 { origin: i64 },
    /// The page number of the address, counted from the instruction's page, split over two fields.
    Page { origin: i64 },
    /// Bits 10 to 21 of an instruction: the address within a page, in units of 1 << `scale`.
    Low { page: i64, scale: u32 },
}

impl Form {
    /// The same form at another place.
    #[inline]
    pub fn moved_to(self, origin: i64) -> Self {
        match self {
            Self::Near { .. } => Self::Near { origin },
            Self::Back { .. } => Self::Back { origin },
            Self::Whole => Self::Whole,
            Self::Branch26 { .. } => Self::Branch26 { origin },
            Self::Branch19 { .. } => Self::Branch19 { origin },
            Self::Page { .. } => Self::Page { origin },
            Self::Low { scale, .. } => Self::Low { page: origin & !0xFFF, scale },
        }
    }

    /// Bytes the field takes.
    pub fn width(self) -> usize {
        if matches!(self, Self::Whole) { 8 } else { 4 }
    }

    /// What the field holds; 32-bit forms use the low half.
    #[inline]
    pub fn read(self, bytes: &[u8], at: usize) -> u64 {
        if self.width() == 8 { u64_at(bytes, at) } else { u64::from(u32_at(bytes, at)) }
    }

    /// The address that a field of this form refers to.
    #[inline]
    pub fn target(self, value: u64) -> i64 {
        let word = value as u32;
        match self {
            Self::Near { origin } => origin + i64::from(word as i32),
            Self::Back { origin } => origin - i64::from(word as i32),
            Self::Whole => value as i64,
            Self::Branch26 { origin } => origin + (i64::from((word << 6) as i32 >> 6) << 2),
            Self::Branch19 { origin } => origin + (i64::from((word << 8) as i32 >> 13) << 2),
            Self::Page { origin } => {
                let pages = (word >> 5 & 0x7_FFFF) << 2 | (word >> 29 & 3);
                (origin & !0xFFF) + (i64::from((pages << 11) as i32 >> 11) << 12)
            }
            Self::Low { page, scale } => page + (i64::from(word >> 10 & 0xFFF) << scale),
        }
    }

    /// The field's value when it refers to `target`; `pattern` gives the bits that are no address.
    #[inline]
    pub fn value(self, target: i64, pattern: u64) -> u64 {
        let word = pattern as u32;
        let written = match self {
            Self::Whole => return target as u64,
            Self::Near { origin } => target.wrapping_sub(origin) as u32,
            Self::Back { origin } => origin.wrapping_sub(target) as u32,
            Self::Branch26 { origin } => {
                word & 0xFC00_0000 | (target.wrapping_sub(origin) >> 2) as u32 & 0x03FF_FFFF
            }
            Self::Branch19 { origin } => {
                let words = (target.wrapping_sub(origin) >> 2) as u32 & 0x7_FFFF;
                word & 0xFF00_001F | words << 5
            }
            Self::Page { origin } => {
                let pages = ((target >> 12).wrapping_sub(origin >> 12)) as u32;
                word & 0x9F00_001F | (pages & 3) << 29 | (pages >> 2 & 0x7_FFFF) << 5
            }
            Self::Low { scale, .. } => word & 0xFFC0_03FF | ((target as u32 & 0xFFF) >> scale) << 10,
        };
        u64::from(written)
    }
}

/// A place in code that looks like an address.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Where its field begins.
    pub at: usize,
    /// What kind of instruction it belongs to, below [`KINDS`].
    pub kind: usize,
    /// Bytes from the field's begin to where its addresses are counted from.
    pub reach: usize,
}

/// Kinds of operands in code.
pub const KINDS: usize = 13;
/// The kind of an address within a page.
pub const LOW: usize = 12;
const PAGE: usize = 11;

const NONE: u8 = 0;
const CALL: u8 = 1;
const JUMP: u8 = 2;
const TWO_BYTE: u8 = 3;
const NEAR_DATA: u8 = 4;

/// What a byte may mean as the last one before a 32-bit operand.
const BEFORE_OPERAND: [u8; 256] = {
    let mut class = [NONE; 256];
    class[0xE8] = CALL;
    class[0xE9] = JUMP;
    class[0x0F] = TWO_BYTE;
    let mut register = 0;
    while register < 8 {
        class[register << 3 | 5] = NEAR_DATA;
        register += 1;
    }
    class
};

/// Kind of a data operand by its opcode, and the bytes of constant that follow it.
const DATA_OPCODES: [(u8, u8); 256] = {
    let mut kinds = [(0u8, 0u8); 256];
    kinds[0x8D] = (3, 0);
    let moves = [0x8B, 0x89, 0x3B, 0x39, 0xFF, 0x63, 0x03, 0x2B, 0x33, 0x85, 0x01, 0x29];
    let mut at = 0;
    while at < moves.len() {
        kinds[moves[at]] = (4, 0);
        at += 1;
    }
    let vectors = [
        0x28, 0x10, 0x11, 0x6F, 0x7F, 0x54, 0x57, 0x58, 0x59, 0x5C, 0x5E, 0x2E, 0x2F, 0x6E, 0x7E, 0xD6, 0xB6,
        0xB7, 0xBE, 0xBF, 0xEF, 0xFE, 0xDB, 0xEB, 0xD4, 0xFA, 0x00, 0xAF, 0x5D, 0x5F, 0x51, 0x14, 0x16, 0x12,
        0x13, 0x17, 0x2A, 0x2D,
    ];
    at = 0;
    while at < vectors.len() {
        kinds[vectors[at]] = (5, 0);
        at += 1;
    }
    let bytes_follow = [0x80, 0x83, 0xC6, 0xC0, 0xC1, 0x6B, 0xC5, 0x70];
    at = 0;
    while at < bytes_follow.len() {
        kinds[bytes_follow[at]] = (6, 1);
        at += 1;
    }
    let plain_bytes = [0x38, 0x3A, 0x8A, 0x88, 0x84, 0xB1, 0xB0, 0xF7, 0x0A, 0x22];
    at = 0;
    while at < plain_bytes.len() {
        kinds[plain_bytes[at]] = (6, 0);
        at += 1;
    }
    kinds[0xF6] = (6, 1);
    kinds[0x81] = (6, 4);
    kinds[0xC7] = (6, 4);
    kinds[0x69] = (6, 4);
    kinds
};

/// Bytes an operand's field and what is looked at before and behind it may take.
pub const OPERAND_ROOM: usize = 6;

/// The operand that the x86 byte at `at` announces; [`OPERAND_ROOM`] bytes must follow.
#[inline]
fn x86_operand(code: &[u8], at: usize) -> Option<Operand> {
    let class = BEFORE_OPERAND[usize::from(code[at])];
    if class == NEAR_DATA {
        let (kind, behind) = DATA_OPCODES[usize::from(code[at.checked_sub(1)?])];
        let reach = 4 + usize::from(behind);
        return (kind > 0).then_some(Operand { at: at + 1, kind: usize::from(kind), reach });
    }
    if class == TWO_BYTE {
        let is_jump = code[at + 1] & 0xF0 == 0x80;
        return is_jump.then_some(Operand { at: at + 2, kind: 2, reach: 4 });
    }
    let kind = usize::from(class == JUMP);
    (class != NONE).then_some(Operand { at: at + 1, kind, reach: 4 })
}

/// The form of the ARM instruction `word` that lies at address `origin`, if it has an operand.
#[inline]
fn arm_form(word: u32, origin: i64) -> Option<(usize, Form)> {
    match word >> 24 {
        0x94..=0x97 => Some((7, Form::Branch26 { origin })),
        0x14..=0x17 => Some((8, Form::Branch26 { origin })),
        0x34 | 0x35 | 0x54 | 0xB4 | 0xB5 => Some((9, Form::Branch19 { origin })),
        0x18 | 0x58 | 0x98 | 0x1C | 0x5C | 0x9C => Some((10, Form::Branch19 { origin })),
        0x90 | 0xB0 | 0xD0 | 0xF0 => Some((PAGE, Form::Page { origin })),
        _ => None,
    }
}

/// The register and the scale of an ARM instruction that adds a part of a page to a register.
#[inline]
fn arm_low(word: u32) -> Option<(usize, u32)> {
    let scale = if word & 0xFFC0_0000 == 0x9100_0000 {
        0
    } else if word & 0x3B00_0000 != 0x3900_0000 {
        return None;
    } else if word & 0x0480_0000 == 0x0480_0000 {
        4
    } else {
        word >> 30
    };
    Some(((word >> 5 & 31) as usize, scale))
}

/// An operand with its old target.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Where its field begins in the scanned code.
    pub at: usize,
    pub kind: usize,
    pub target: i64,
    /// Its form in the base; the target's differs by the origin alone.
    pub form: Form,
    /// Where addresses are counted from, relative to the field's begin.
    pub reach: usize,
    /// For an address within a page: where the instruction is that names the page.
    pub page_at: usize,
}

/// Instructions behind one that names a page in which the rest of the address is looked for.
const LOW_AHEAD: usize = 8;
/// Bytes behind it in which its register is believed to hold the page.
const LOW_REACH: usize = 32;

/// Walks the operands of one stretch of code.
#[derive(Debug)]
pub struct Scan<'a> {
    code: &'a [u8],
    at: usize,
    machine: Machine,
    /// Address of the code's first byte.
    address: i64,
    /// Targets outside are no targets.
    bounds: (i64, i64),
    /// Per register: the page it was given last, and by which instruction.
    pages: [Option<(i64, usize)>; 32],
}

impl<'a> Scan<'a> {
    /// Starts at the first byte, or for ARM at the first aligned instruction.
    pub fn new(machine: Machine, code: &'a [u8], address: i64, bounds: (i64, i64)) -> Self {
        let at = if machine == Machine::Arm { address.wrapping_neg().rem_euclid(4) } else { 0 };
        Self { code, at: at as usize, machine, address, bounds, pages: [None; 32] }
    }

    #[inline]
    fn next_x86(&mut self) -> Option<Found> {
        let end = self.code.len().saturating_sub(OPERAND_ROOM);
        loop {
            // Nearly all bytes announce nothing: this loop is what scanning costs.
            let rest = self.code.get(self.at..end)?;
            let announces = |byte: &u8| BEFORE_OPERAND[usize::from(*byte)] != NONE;
            self.at += rest.iter().position(announces)?;
            let Some(operand) = x86_operand(self.code, self.at) else {
                self.at += 1;
                continue;
            };
            let Operand { at, kind, reach } = operand;
            let form = Form::Near { origin: self.address + (at + reach) as i64 };
            let target = form.target(u64::from(u32_at(self.code, at)));
            if target >= self.bounds.0 && target < self.bounds.1 {
                self.at = at + 4;
                return Some(Found { at, kind, target, form, reach, page_at: 0 });
            }
            self.at += 1;
        }
    }

    #[inline]
    fn next_arm(&mut self) -> Option<Found> {
        while self.at + 4 <= self.code.len() {
            let at = self.at;
            self.at += 4;
            let word = u32_at(self.code, at);
            let found = match arm_form(word, self.address + at as i64) {
                Some((PAGE, form)) => Some(self.page(at, word, form)),
                Some((kind, form)) => {
                    let target = form.target(u64::from(word));
                    Some(Found { at, kind, target, form, reach: 0, page_at: 0 })
                }
                None => self.low(at, word),
            };
            if let Some(found) = found
                && found.target >= self.bounds.0
                && found.target < self.bounds.1
            {
                return Some(found);
            }
        }
        None
    }

    /// An instruction that names a page: where it leads is told by the one that adds the rest.
    #[inline]
    fn page(&mut self, at: usize, word: u32, form: Form) -> Found {
        let (page, register) = (form.target(u64::from(word)), (word & 31) as usize);
        self.pages[register] = Some((page, at));
        let words = self.code[at + 4..].chunks_exact(4).take(LOW_AHEAD).map(|word| u32_at(word, 0));
        let low = words.into_iter().find_map(|word| {
            let (_, scale) = arm_low(word).filter(|(base, _)| *base == register)?;
            Some(Form::Low { page, scale }.target(u64::from(word)))
        });
        Found { at, kind: PAGE, target: low.unwrap_or(page), form, reach: 0, page_at: at }
    }

    /// An instruction that adds a part of a page to a register that holds one.
    #[inline]
    fn low(&self, at: usize, word: u32) -> Option<Found> {
        let (register, scale) = arm_low(word)?;
        let (page, page_at) = self.pages[register].filter(|(_, from)| at - from <= LOW_REACH)?;
        let form = Form::Low { page, scale };
        let target = form.target(u64::from(word));
        Some(Found { at, kind: LOW, target, form, reach: 0, page_at })
    }
}

impl Iterator for Scan<'_> {
    type Item = Found;

    #[inline]
    fn next(&mut self) -> Option<Found> {
        match self.machine {
            Machine::X86 => self.next_x86(),
            Machine::Arm => self.next_arm(),
        }
    }
}

/// Bytes from `at` to the end of the operand field it lies in; 0 when it lies in none.
///
/// `lift` is what must be added to a position to get its address.
#[inline]
pub fn operand_rest(machine: Machine, code: &[u8], at: usize, lift: i64) -> usize {
    if machine == Machine::Arm {
        let phase = (at as i64 + lift).rem_euclid(4) as usize;
        let start = at.wrapping_sub(phase);
        let word = code.get(start..start.wrapping_add(4)).map(|word| u32_at(word, 0));
        return if word.is_some_and(|word| arm_form(word, 0).is_some()) { 4 - phase } else { 0 };
    }
    for inside in 0..4.min(at) {
        let field = at - inside;
        let announces = |before: usize| {
            let opcode = field.checked_sub(before);
            opcode.and_then(|opcode| x86_operand(code, opcode)).is_some_and(|it| it.at == field)
        };
        if announces(1) || announces(2) {
            return 4 - inside;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_arm_address_name_it_together() {
        let (page, low) = (0xB000_0005u32, 0xF940_0CA0u32);
        let code = [page, 0xD503_201F, low, 0x9100_4000].map(u32::to_le_bytes).concat();
        let found: Vec<_> = Scan::new(Machine::Arm, &code, 0x40_0000, (0, 1 << 30)).collect();
        let targets: Vec<_> = found.iter().map(|it| (it.at, it.kind, it.target, it.page_at)).collect();
        assert_eq!(targets, [(0, PAGE, 0x40_1018, 0), (8, LOW, 0x40_1018, 0)]);
    }

    #[test]
    fn every_form_writes_what_it_reads() {
        let origin = 0x12_3450;
        let pairs = [
            (Form::Near { origin }, 0x12_0000),
            (Form::Back { origin }, 0x12_0000),
            (Form::Whole, 0x12_0000),
            (Form::Branch26 { origin }, 0x12_0000),
            (Form::Branch19 { origin }, 0x12_0000),
            (Form::Page { origin }, 0x12_0000),
            (Form::Low { page: 0x12_0000, scale: 3 }, 0x12_0238),
        ];
        for (form, target) in pairs {
            assert_eq!(form.target(form.value(target, 0xF940_0CA0)), target, "{form:?}");
        }
    }
}
