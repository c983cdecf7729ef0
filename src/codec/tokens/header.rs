//! Codes a dynamic block's header: zlib's for the histogram, the base's, or told.
//!
//! A told header is told as what its encoder chose: code lengths in the light of zlib's, then how
//! it spelled runs of them, then the code of that spelling. What does not fit is told bit by bit.

use super::coder::{Coder, tree};
use super::model::BlockContexts;
use crate::codec::deflate::bits::BitReader;
use crate::codec::deflate::huffman::{CodeLengths, DecodeTable};
use crate::codec::deflate::symbols::CODE_LENGTH_ORDER;
use crate::codec::deflate::trees::{
    HeaderBits, Histogram, Lengths, Run, header, repeat_bits, zlib_header, zlib_lengths,
};
use crate::codec::{Result, corrupt};

/// The longest header there can be: 14 bits, 19 lengths of 3, 316 of 7 with 7 more.
const HEADER_BITS_MAX: usize = 14 + 57 + 316 * 14;

/// Codes the header of the block with `histogram`.
pub fn code<C: Coder>(
    coder: &mut C,
    contexts: &mut BlockContexts,
    histogram: &Histogram,
    base: Option<HeaderBits>,
    known: Option<HeaderBits>,
) -> Result<HeaderBits> {
    let (literals, distances) = histogram.zlib_lengths();
    let zlibs = zlib_header(literals.used(), distances.used());
    let differs = known.as_ref().is_some_and(|known| *known != zlibs);
    if !coder.bit(&mut contexts.header_is_zlibs, differs) {
        return Ok(zlibs);
    }
    if let Some(base) = base.filter(|base| base.bits > 0) {
        let differs = known.as_ref().is_some_and(|known| *known != base);
        if !coder.bit(&mut contexts.header_is_the_bases, differs) {
            return Ok(base);
        }
    }
    let parts = known.as_ref().and_then(Parts::of);
    if coder.bit(&mut contexts.header_in_zlibs_runs, C::ENCODES && parts.is_none()) {
        return raw(coder, known);
    }
    Parts::code(coder, contexts, &literals, &distances, parts)
}

fn raw<C: Coder>(coder: &mut C, known: Option<HeaderBits>) -> Result<HeaderBits> {
    let known = known.unwrap_or_default();
    let bits = coder.raw(known.bits as u32, 13) as usize;
    if bits == 0 || bits > HEADER_BITS_MAX {
        return Err(corrupt("a block header of impossible length"));
    }
    let mut bytes = Vec::with_capacity(bits.div_ceil(8));
    for at in 0..bits.div_ceil(8) {
        let count = (bits - at * 8).min(8) as u32;
        let byte = known.bytes.get(at).copied().unwrap_or(0);
        bytes.push(coder.raw(byte.into(), count) as u8);
    }
    Ok(HeaderBits { bytes, bits })
}

/// A header's choices.
#[derive(PartialEq, Debug)]
struct Parts {
    lengths: Vec<u8>,
    literals: usize,
    runs: Vec<Run>,
    code: [u8; 19],
}

impl Parts {
    /// Takes a header apart; `None` when its parts would not give the same bits.
    fn of(known: &HeaderBits) -> Option<Self> {
        let mut reader = BitReader::at(&known.bytes, 0);
        let lengths = CodeLengths::read(&mut reader)?;
        let (code, runs) = read_runs(&known.bytes, lengths.literals().len() + lengths.distances().len())?;
        let literals = lengths.literals().len();
        let parts =
            Self { lengths: [lengths.literals(), lengths.distances()].concat(), literals, runs, code };
        (parts.bits() == *known && can_be_told(&parts.lengths, &parts.runs)).then_some(parts)
    }

    fn bits(&self) -> HeaderBits {
        header(self.literals, self.lengths.len() - self.literals, &self.code, &self.runs)
    }

    fn code<C: Coder>(
        coder: &mut C,
        contexts: &mut BlockContexts,
        zlib_literals: &Lengths,
        zlib_distances: &Lengths,
        known: Option<Self>,
    ) -> Result<HeaderBits> {
        let told = known.unwrap_or(Self { lengths: vec![], literals: 0, runs: vec![], code: [0; 19] });
        let distances = told.lengths.len() - told.literals;
        let literals = coder.raw(told.literals.wrapping_sub(257) as u32 & 31, 5) as usize + 257;
        let distances = coder.raw(distances.wrapping_sub(1) as u32 & 31, 5) as usize + 1;
        let mut lengths = vec![0u8; literals + distances];
        for (at, length) in lengths.iter_mut().enumerate() {
            let (expected, row) = match at.checked_sub(literals) {
                None => (zlib_literals.get(at), 0),
                Some(distance) => (zlib_distances.get(distance), 16),
            };
            let row = &mut contexts.code_length[row + usize::from(expected)];
            let known = told.lengths.get(at).copied().unwrap_or(0);
            *length = tree(coder, row, 4, known.into()) as u8;
        }
        let runs = code_runs(coder, contexts, &lengths, &told.runs)?;
        let code = code_code(coder, contexts, &runs, &told.code);
        Ok(Self { lengths, literals, runs, code }.bits())
    }
}

/// Reads the runs a header spells `count` lengths with.
fn read_runs(bytes: &[u8], count: usize) -> Option<([u8; 19], Vec<Run>)> {
    let mut reader = BitReader::at(bytes, 10);
    let listed = reader.read(4) as usize + 4;
    let mut code = [0u8; 19];
    for &symbol in &CODE_LENGTH_ORDER[..listed] {
        code[symbol] = reader.read(3) as u8;
    }
    let mut table = DecodeTable::default();
    table.code_lengths(&code)?;
    let (mut runs, mut covered) = (Vec::new(), 0);
    while covered < count {
        reader.refill();
        let entry = table.root::<7>(reader.peek());
        reader.drop_bits(entry.bits());
        let symbol = entry.symbol() as u8;
        let run = Run { symbol, repeat: reader.take(repeat_bits(symbol)) as u8 };
        covered += span(run);
        runs.push(run);
    }
    Some((code, runs))
}

/// The row of contexts in which zeros are spelled as copies.
const COPIED_ZEROS: usize = 48;

/// How many lengths a run stands for.
fn span(run: Run) -> usize {
    match run.symbol {
        16 | 17 => usize::from(run.repeat) + 3,
        18 => usize::from(run.repeat) + 11,
        _ => 1,
    }
}

/// Returns the run that covers `span` lengths starting at `at`, or none; `as_copy` asks for zeros
/// as copies of the zero before.
fn run_of(lengths: &[u8], at: usize, span: usize, as_copy: bool) -> Option<Run> {
    let length = lengths[at];
    let repeats = at > 0 && lengths[at - 1] == length;
    match (length, span) {
        (_, 3..=6) if repeats && as_copy => Some(Run { symbol: 16, repeat: (span - 3) as u8 }),
        (_, 1) => Some(Run { symbol: length, repeat: 0 }),
        (0, 11..=138) => Some(Run { symbol: 18, repeat: (span - 11) as u8 }),
        (0, 3..=10) => Some(Run { symbol: 17, repeat: (span - 3) as u8 }),
        (1.., 3..=6) if repeats => Some(Run { symbol: 16, repeat: (span - 3) as u8 }),
        _ => None,
    }
}

/// The equal lengths ahead of a place, and the longest run that can spell them.
struct Ahead {
    same: usize,
    longest: usize,
    /// Zeros behind a zero, for which there are two spellings.
    zeros_again: bool,
}

impl Ahead {
    fn of(lengths: &[u8], at: usize) -> Self {
        let length = lengths[at];
        let same = lengths[at..].iter().take(138).take_while(|&&next| next == length).count();
        let repeats = at > 0 && lengths[at - 1] == length;
        let longest = match length {
            0 if same >= 3 => same,
            1.. if repeats && same >= 3 => same.min(6),
            _ => 1,
        };
        Self { same, longest, zeros_again: repeats && length == 0 }
    }
}

/// Says whether [`code_runs`] can tell these runs.
fn can_be_told(lengths: &[u8], runs: &[Run]) -> bool {
    let mut at = 0;
    for &run in runs {
        let covered = span(run);
        if at + covered > lengths.len() {
            return false;
        }
        let ahead = Ahead::of(lengths, at);
        let as_copy = run.symbol == 16 && ahead.zeros_again;
        let fits = covered <= ahead.longest && run_of(lengths, at, covered, as_copy) == Some(run);
        if !fits {
            return false;
        }
        at += covered;
    }
    at == lengths.len()
}

/// Codes how `lengths` are spelled: for each run, whether it is as long as it can be.
fn code_runs<C: Coder>(
    coder: &mut C,
    contexts: &mut BlockContexts,
    lengths: &[u8],
    told: &[Run],
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < lengths.len() {
        let ahead = Ahead::of(lengths, at);
        let known = told.get(runs.len());
        let mut covered = ahead.longest;
        if covered > 1 {
            let wanted = known.map_or(covered, |&run| span(run));
            covered = code_span(coder, contexts, covered, lengths[at] == 0, wanted);
        }
        let as_copy = ahead.zeros_again && (3..=6).contains(&covered) && {
            let wanted = known.is_some_and(|run| run.symbol == 16);
            coder.bit(&mut contexts.run[COPIED_ZEROS][0], wanted)
        };
        let run = run_of(lengths, at, covered, as_copy).filter(|_| covered <= ahead.same);
        runs.push(run.ok_or(corrupt("a block header that does not add up"))?);
        at += covered;
    }
    Ok(runs)
}

fn code_span<C: Coder>(
    coder: &mut C,
    contexts: &mut BlockContexts,
    longest: usize,
    zero: bool,
    wanted: usize,
) -> usize {
    let row = &mut contexts.run[usize::from(zero) * 16 + longest.min(15)];
    let short = wanted.min(15);
    let how = if wanted == longest { 0 } else { short };
    match tree(coder, row, 4, how as u32) as usize {
        0 => longest,
        15 => coder.raw(wanted as u32, 8) as usize,
        span => span,
    }
}

/// Codes the code of the runs, in the light of the one zlib would build.
fn code_code<C: Coder>(
    coder: &mut C,
    contexts: &mut BlockContexts,
    runs: &[Run],
    told: &[u8; 19],
) -> [u8; 19] {
    let mut frequencies = [0u32; 19];
    for run in runs {
        frequencies[usize::from(run.symbol)] += 1;
    }
    let expected = zlib_lengths(&frequencies, 7);
    std::array::from_fn(|symbol| {
        let row = &mut contexts.run[32 + usize::from(expected.get(symbol))];
        tree(coder, row, 3, told[symbol].into()) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::deflate::bits::BitWriter;
    use crate::codec::tokens::coder::{Decoder, Encoder};

    #[test]
    fn a_header_of_another_encoder_comes_back() {
        let mut writer = BitWriter::default();
        let lengths: Vec<u8> = (0..257).map(|i| if i < 255 { 0 } else { 1 }).chain([1]).collect();
        let mut code = [0u8; 19];
        (code[0], code[1], code[18]) = (2, 1, 2);
        (code[1], code[16]) = (2, 2);
        let runs = [(18, 127), (18, 101), (16, 1)].map(|(symbol, repeat)| Run { symbol, repeat });
        let ones = [Run { symbol: 1, repeat: 0 }; 3];
        let bits = header(257, 1, &code, &[&runs[..], &[Run { symbol: 0, repeat: 0 }], &ones].concat());
        writer.put_slice(&bits.bytes, bits.bits);
        assert_eq!(lengths.len(), 258);
        let histogram = Histogram::new();
        let (mut encoder, mut contexts) = (Encoder::new(), crate::codec::tokens::model::Model::new());
        code_header(&mut encoder, &mut contexts.blocks, &histogram, Some(bits.clone()));
        let bytes = encoder.finish();
        let (mut decoder, mut contexts) = (Decoder::new(&bytes), crate::codec::tokens::model::Model::new());
        assert_eq!(code_header(&mut decoder, &mut contexts.blocks, &histogram, None), bits);
    }

    fn code_header<C: Coder>(
        coder: &mut C,
        contexts: &mut BlockContexts,
        histogram: &Histogram,
        known: Option<HeaderBits>,
    ) -> HeaderBits {
        code(coder, contexts, histogram, None, known).expect("valid")
    }
}
