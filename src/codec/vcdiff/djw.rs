//! Reads sections that `xdelta3 -S djw` compressed: Huffman codes, up to eight tables that take turns.
//!
//! Nobody specified it; this follows what xdelta3 3.0.11 writes. A section is on its own:
//!
//! ```text
//! tables - 1           3 bits
//! sector size / 5 - 1  5 bits, if there is more than one table; a sector is coded with one table
//! codes of lengths     4 bits: how many there are beyond 7; then 4 bits each
//! lengths              256 for each table, as ranks in a list that moves what was used to its front,
//!                      runs of the front written in bijective binary; what the first table never
//!                      uses is left out of the others
//! selectors' codes     3 bits each for tables + 1, if there is more than one table
//! selectors            one for each sector, coded like the lengths
//! symbols
//! ```
//!
//! Bits are taken from each byte lowest first; within a number or a code, the highest bit comes first.

use crate::codec::{Error, Result, corrupt};

const TABLES_MAX: usize = 8;
const SYMBOLS: usize = 256;
const LENGTH_MAX: usize = 20;
const LENGTH_CODES: usize = LENGTH_MAX + 2;
const LENGTH_CODES_MIN: usize = 7;
const SECTOR_UNIT: usize = 5;
/// The lengths in the order in which they are expected, likely ones first.
const LENGTHS_EXPECTED: [u8; LENGTH_MAX + 1] =
    [0, 4, 5, 6, 7, 8, 9, 10, 3, 11, 2, 12, 13, 1, 14, 15, 16, 17, 18, 19, 20];

/// Decodes a section of `size` bytes.
///
/// # Errors
/// `Corrupt` when it is not what xdelta3 would write.
pub fn decode(section: &[u8], size: usize) -> Result<Vec<u8>> {
    let mut bits = Bits { bytes: section, held: 0, count: 0 };
    if size == 0 {
        return Err(corrupt("a compressed section of the delta is empty"));
    }
    let tables = bits.number(3)? + 1;
    let sector_size = if tables > 1 { (bits.number(5)? + 1) * SECTOR_UNIT } else { size };
    let codes = read_codes(&mut bits, tables)?;
    let selectors = read_selectors(&mut bits, tables, size.div_ceil(sector_size))?;
    let mut out = Vec::with_capacity(size);
    for selector in selectors {
        let code = codes.get(usize::from(selector)).ok_or_else(invalid)?;
        for _ in 0..sector_size.min(size - out.len()) {
            out.push(code.read(&mut bits)? as u8);
        }
    }
    if bits.bytes.is_empty() { Ok(out) } else { Err(corrupt("a section of the delta is too long")) }
}

fn invalid() -> Error {
    corrupt("a Huffman code of the delta is not valid")
}

fn read_codes(bits: &mut Bits<'_>, tables: usize) -> Result<Vec<Code>> {
    let mut lengths = [0; LENGTH_CODES];
    let count = LENGTH_CODES_MIN + bits.number(4)?;
    for length in lengths.iter_mut().take(count) {
        *length = bits.number(4)? as u8;
    }
    let mut ranked = Ranked { code: Code::new(&lengths), list: LENGTHS_EXPECTED.to_vec() };
    let lengths = ranked.read(bits, tables * SYMBOLS, Some(SYMBOLS))?;
    Ok(lengths.chunks(SYMBOLS).map(Code::new).collect())
}

fn read_selectors(bits: &mut Bits<'_>, tables: usize, sectors: usize) -> Result<Vec<u8>> {
    if tables == 1 {
        return Ok(vec![0; sectors]);
    }
    let mut lengths = [0; TABLES_MAX + 1];
    for length in &mut lengths[..=tables] {
        *length = bits.number(3)? as u8;
    }
    let list = (0..=tables as u8).collect();
    Ranked { code: Code::new(&lengths[..=tables]), list }.read(bits, sectors, None)
}

/// Values written as ranks in a list that moves what was used to its front.
struct Ranked {
    code: Code,
    list: Vec<u8>,
}

impl Ranked {
    /// Reads `count` values; what was 0 `period` values ago is 0 again, unwritten.
    fn read(&mut self, bits: &mut Bits<'_>, count: usize, period: Option<usize>) -> Result<Vec<u8>> {
        let mut values: Vec<u8> = Vec::new();
        let (mut pending, mut run, mut digit) = (None, 0usize, 0);
        while values.len() < count {
            let before = period.and_then(|period| values.len().checked_sub(period));
            if before.is_some_and(|before| values[before] == 0) {
                values.push(0);
            } else if run > 0 {
                values.push(self.list[0]);
                run -= 1;
            } else if let Some(rank) = pending.take() {
                values.push(self.use_rank(rank)?);
            } else {
                let symbol = self.code.read(bits)?;
                if symbol < 2 {
                    // The next digit of a run is worth twice the one before.
                    run = (symbol + 1).checked_shl(digit).filter(|&run| run <= count).ok_or_else(invalid)?;
                    digit += 1;
                } else {
                    (pending, digit) = (Some(symbol - 1), 0);
                }
            }
        }
        if run == 0 { Ok(values) } else { Err(invalid()) }
    }

    fn use_rank(&mut self, rank: usize) -> Result<u8> {
        let value = *self.list.get(rank).ok_or_else(invalid)?;
        self.list.copy_within(..rank, 1);
        self.list[0] = value;
        Ok(value)
    }
}

/// A canonical code: shorter codes first, then smaller symbols.
struct Code {
    /// Symbols in the order of their codes.
    symbols: Vec<u8>,
    /// How many codes have each length.
    counts: [usize; LENGTH_MAX + 1],
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; LENGTH_MAX + 1];
        let mut symbols = Vec::new();
        for (wanted, count) in counts.iter_mut().enumerate().skip(1) {
            let before = symbols.len();
            let fitting = lengths.iter().enumerate().filter(|&(_, &length)| usize::from(length) == wanted);
            symbols.extend(fitting.map(|(symbol, _)| symbol as u8));
            *count = symbols.len() - before;
        }
        Self { symbols, counts }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Result<usize> {
        let (mut code, mut first, mut index) = (0usize, 0usize, 0usize);
        for &count in &self.counts[1..] {
            code = code << 1 | bits.bit()?;
            first <<= 1;
            // An overfull code, which no writer makes, may have passed `code` already.
            let offset = code.checked_sub(first).ok_or_else(invalid)?;
            if offset < count {
                return Ok(self.symbols[index + offset].into());
            }
            index += count;
            first += count;
        }
        Err(invalid())
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    held: u8,
    count: u8,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<usize> {
        if self.count == 0 {
            let (&byte, rest) = self
                .bytes
                .split_first()
                .ok_or_else(|| corrupt("a compressed section of the delta is cut"))?;
            (self.bytes, self.held, self.count) = (rest, byte, 8);
        }
        let bit = self.held & 1;
        self.held >>= 1;
        self.count -= 1;
        Ok(bit.into())
    }

    fn number(&mut self, count: usize) -> Result<usize> {
        (0..count).try_fold(0, |number, _| Ok(number << 1 | self.bit()?))
    }
}
