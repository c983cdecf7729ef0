//! Rebuilds a target from its base and a delta, window by window.
//!
//! Nothing in the delta is trusted: every size is checked before memory is taken for it, and a window is
//! written only when all of it was rebuilt.

use std::io::{self, Read, Write};

use super::header::Header;
use super::instruction::{Addresses, Instruction, of_opcode};
use super::secondary::Expander;
use super::{Checksum, WINDOW_ADLER, WINDOW_SOURCE, WINDOW_TARGET, checksum, varint};
use crate::codec::{Result, corrupt};

/// Largest window, as for xdelta3 itself.
const WINDOW_MAX_BYTES: u64 = 16 << 20;
/// A section may have twice the bytes of its window and this many: more than any writer needs.
const SECTION_SLACK_BYTES: u64 = 1 << 10;

/// Reads a delta and rebuilds the target.
pub struct Decoder<'a> {
    base: &'a [u8],
    delta: &'a mut dyn Read,
    expanders: Option<[Expander; 3]>,
    /// Whether every window must have a checksum.
    is_checked: bool,
}

impl<'a> Decoder<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// `Corrupt` when it is none, or asks for what is not supported; `Io` from the reader.
    pub fn open(base: &'a [u8], delta: &'a mut dyn Read) -> Result<Self> {
        let header = Header::read(delta)?;
        let expanders = header.secondary.map(|secondary| [(); 3].map(|()| Expander::new(secondary)));
        Ok(Self { base, delta, expanders, is_checked: false })
    }

    /// Refuses windows without a checksum.
    pub fn checked(self) -> Self {
        Self { is_checked: true, ..self }
    }

    /// Writes the target and returns its size.
    ///
    /// # Errors
    /// `Corrupt` when the delta is damaged, or the target larger than `target_max`; `Io` with what reading,
    /// writing or `check` said.
    pub fn run(
        mut self,
        target_max: u64,
        sink: &mut dyn Write,
        check: &dyn Fn() -> io::Result<()>,
    ) -> Result<u64> {
        let mut written = 0;
        while let Some(window) = self.read_window(target_max - written)? {
            check()?;
            sink.write_all(&self.rebuild(&window)?)?;
            written += window.target_size as u64;
        }
        Ok(written)
    }

    /// Reads the next window; `None` at the end of the delta.
    fn read_window(&mut self, room: u64) -> Result<Option<Window<'a>>> {
        let Some(indicator) = read_indicator(self.delta)? else { return Ok(None) };
        if self.is_checked && indicator & WINDOW_ADLER == 0 {
            return Err(corrupt("a window of the delta has no checksum"));
        }
        let segment = self.read_segment(indicator)?;
        let delta_size = varint::read(self.delta)?;
        let target_size = varint::read(self.delta)?;
        if target_size > room {
            return Err(corrupt("the delta makes more bytes than the object has"));
        }
        if target_size > WINDOW_MAX_BYTES {
            return Err(corrupt("a window of the delta is over 16 MiB"));
        }
        let compressed = varint::read_byte(self.delta)?;
        let sizes = [varint::read(self.delta)?, varint::read(self.delta)?, varint::read(self.delta)?];
        let checksum = if indicator & WINDOW_ADLER == 0 { None } else { Some(self.read_checksum()?) };
        let numbers: usize = [target_size].iter().chain(&sizes).map(|&size| varint::size(size)).sum();
        let fixed = (1 + numbers + if checksum.is_some() { 4 } else { 0 }) as u64;
        if sizes.iter().try_fold(fixed, |sum, &size| sum.checked_add(size)) != Some(delta_size) {
            return Err(corrupt("a window of the delta contradicts itself"));
        }
        let size_max = 2 * target_size + SECTION_SLACK_BYTES;
        let sections = self.read_sections(sizes, compressed, size_max)?;
        Ok(Some(Window { segment, target_size: target_size as usize, checksum, sections }))
    }

    /// Reads and decompresses the sections of a window; none may be larger than `size_max`.
    fn read_sections(&mut self, sizes: [u64; 3], compressed: u8, size_max: u64) -> Result<[Vec<u8>; 3]> {
        if compressed > 7 || (compressed != 0 && self.expanders.is_none()) {
            return Err(corrupt("a window of the delta is compressed in an unknown way"));
        }
        if sizes.iter().any(|&size| size > size_max) {
            return Err(corrupt("a section of the delta is larger than its window allows"));
        }
        let mut sections = [const { Vec::new() }; 3];
        for (section, size) in sections.iter_mut().zip(sizes) {
            *section = self.read_section(size)?;
        }
        for (kind, expander) in self.expanders.iter_mut().flatten().enumerate() {
            if compressed & 1 << kind != 0 {
                sections[kind] = expander.expand(&sections[kind], size_max as usize)?;
            }
        }
        Ok(sections)
    }

    fn read_segment(&mut self, indicator: u8) -> Result<&'a [u8]> {
        match indicator & !WINDOW_ADLER {
            0 => return Ok(&[]),
            WINDOW_SOURCE => {}
            WINDOW_TARGET => {
                return Err(corrupt("the delta copies from earlier windows, which is not supported"));
            }
            _ => return Err(corrupt("a window of the delta is of an unknown kind")),
        }
        let (size, start) = (varint::read(self.delta)?, varint::read(self.delta)?);
        let range = start
            .checked_add(size)
            .and_then(|end| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?));
        let segment = range.and_then(|range| self.base.get(range));
        segment.ok_or_else(|| corrupt("the delta copies from behind the end of its base"))
    }

    fn read_checksum(&mut self) -> Result<Checksum> {
        let mut bytes = [0; 4];
        self.delta.read_exact(&mut bytes).map_err(varint::cut)?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// Reads a section; memory grows with what is there, not with what is announced.
    fn read_section(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut section = Vec::new();
        (&mut *self.delta).take(size).read_to_end(&mut section)?;
        if section.len() as u64 == size { Ok(section) } else { Err(corrupt("the delta is cut")) }
    }

    fn rebuild(&self, window: &Window<'_>) -> Result<Vec<u8>> {
        let [data, instructions, addresses] = &window.sections;
        let mut builder = Builder {
            segment: window.segment,
            out: Vec::with_capacity(window.target_size),
            target_size: window.target_size,
            data,
            instructions,
            addresses,
            known: Addresses::new(),
        };
        builder.run()?;
        if window.checksum.is_some_and(|expected| expected != checksum(&builder.out)) {
            return Err(corrupt("the checksum of a window differs: the delta or its base is damaged"));
        }
        Ok(builder.out)
    }
}

fn read_indicator(delta: &mut dyn Read) -> Result<Option<u8>> {
    let mut indicator = Vec::with_capacity(1);
    delta.take(1).read_to_end(&mut indicator)?;
    Ok(indicator.first().copied())
}

/// What the delta says of one window, decompressed.
struct Window<'a> {
    segment: &'a [u8],
    target_size: usize,
    checksum: Option<Checksum>,
    /// Data, instructions, addresses.
    sections: [Vec<u8>; 3],
}

/// Follows the instructions of one window.
struct Builder<'a> {
    segment: &'a [u8],
    out: Vec<u8>,
    target_size: usize,
    data: &'a [u8],
    instructions: &'a [u8],
    addresses: &'a [u8],
    known: Addresses,
}

impl Builder<'_> {
    fn run(&mut self) -> Result<()> {
        while let Some((&opcode, rest)) = self.instructions.split_first() {
            self.instructions = rest;
            let (first, second) = of_opcode(opcode);
            self.follow(first)?;
            if let Some(second) = second {
                self.follow(second)?;
            }
        }
        if self.out.len() == self.target_size && self.data.is_empty() && self.addresses.is_empty() {
            return Ok(());
        }
        Err(corrupt("a window of the delta makes another size than it says"))
    }

    fn follow(&mut self, instruction: Instruction) -> Result<()> {
        match instruction {
            Instruction::Run => {
                let size = self.size(0)?;
                let byte = self.take_data(1)?[0];
                self.out.resize(self.out.len() + size, byte);
            }
            Instruction::Add { size } => {
                let size = self.size(size)?;
                let bytes = self.take_data(size)?;
                self.out.extend_from_slice(bytes);
            }
            Instruction::Copy { size, mode } => {
                let size = self.size(size)?;
                self.copy(size, mode)?;
            }
        }
        Ok(())
    }

    /// Returns the size of an instruction, which the window has room for.
    fn size(&mut self, implied: u8) -> Result<usize> {
        let size = if implied == 0 { varint::take(&mut self.instructions)? } else { implied.into() };
        let room = self.target_size - self.out.len();
        let size = usize::try_from(size).ok().filter(|&size| size <= room);
        size.ok_or_else(|| corrupt("a window of the delta makes another size than it says"))
    }

    fn copy(&mut self, size: usize, mode: u8) -> Result<()> {
        let here = (self.segment.len() + self.out.len()) as u64;
        let address = self.known.take(&mut self.addresses, here, mode)? as usize;
        // A copy may begin in the segment and go on in the target, which follows it.
        let from_segment = size.min(self.segment.len().saturating_sub(address));
        if from_segment > 0 {
            self.out.extend_from_slice(&self.segment[address..address + from_segment]);
        }
        let start = (address + from_segment) - self.segment.len().min(address + from_segment);
        self.repeat(start, size - from_segment);
        Ok(())
    }

    /// Copies from the target so far; a copy that reaches into itself repeats.
    fn repeat(&mut self, start: usize, mut size: usize) {
        while size > 0 {
            let step = size.min(self.out.len() - start);
            self.out.extend_from_within(start..start + step);
            size -= step;
        }
    }
}

impl<'a> Builder<'a> {
    fn take_data(&mut self, size: usize) -> Result<&'a [u8]> {
        let (bytes, rest) =
            self.data.split_at_checked(size).ok_or_else(|| corrupt("the delta's data is cut"))?;
        self.data = rest;
        Ok(bytes)
    }
}
