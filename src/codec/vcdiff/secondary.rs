//! Sections compressed once more: the secondary compression of xdelta3.
//!
//! With LZMA, all sections of one kind are one .xz stream that runs through all windows, is flushed at the end
//! of each and never finished: a state for each kind lives as long as the delta.

use liblzma::stream::{Action, Check, Filters, LzmaOptions, MatchFinder, Mode, Status, Stream};

use super::{djw, varint};
use crate::codec::{Error, Result, corrupt};

/// Memory of one LZMA decoder: xdelta3 -9 asks for a dictionary of 64 MiB.
const LZMA_MEMORY_MAX_BYTES: u64 = 80 << 20;
/// Largest dictionary that is written, the one of xdelta3 -9.
const DICTIONARY_MAX_BYTES: usize = 64 << 20;
/// Dictionary for data that hardly compresses.
const LIGHT_DICTIONARY_BYTES: usize = 1 << 20;
/// Dictionary for data that does not even repeat: the encoder's tables fit a processor's cache.
const NEAR_DICTIONARY_BYTES: usize = 256 << 10;
/// Smallest dictionary of LZMA2.
const DICTIONARY_MIN_BYTES: usize = 4 << 10;
/// Output is asked for in steps of this size.
const STEP_BYTES: usize = 64 << 10;

/// How the sections of a delta are compressed once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secondary {
    /// Huffman codes with several tables, `xdelta3 -S djw`.
    Djw,
    /// LZMA, what xdelta3 does unless told otherwise.
    Lzma,
}

impl Secondary {
    /// Its number in the header.
    pub const fn id(self) -> u8 {
        match self {
            Self::Djw => 1,
            Self::Lzma => 2,
        }
    }

    /// Returns the one with this number.
    ///
    /// # Errors
    /// `Corrupt`, naming the compression if it is one that is not supported.
    pub const fn from_id(id: u8) -> Result<Self> {
        match id {
            1 => Ok(Self::Djw),
            2 => Ok(Self::Lzma),
            16 => Err(corrupt("the delta uses FGK compression (xdelta3 -S fgk), which is not supported")),
            _ => Err(corrupt("the delta uses a secondary compression that is not known")),
        }
    }
}

/// Decompresses the sections of one kind.
pub struct Expander {
    secondary: Secondary,
    lzma: Option<Stream>,
}

impl Expander {
    /// Creates the state at the beginning of a delta.
    pub const fn new(secondary: Secondary) -> Self {
        Self { secondary, lzma: None }
    }

    /// Decompresses the next section, which may have up to `size_max` bytes.
    ///
    /// # Errors
    /// `Corrupt` when it is not what it should be, or larger.
    pub fn expand(&mut self, mut section: &[u8], size_max: usize) -> Result<Vec<u8>> {
        let size = varint::take(&mut section)?;
        let size = usize::try_from(size).ok().filter(|&size| size <= size_max);
        let size = size.ok_or_else(|| corrupt("a section of the delta is larger than its window allows"))?;
        match self.secondary {
            Secondary::Djw => djw::decode(section, size),
            Secondary::Lzma => self.expand_lzma(section, size),
        }
    }

    fn expand_lzma(&mut self, section: &[u8], size: usize) -> Result<Vec<u8>> {
        let lzma = match &mut self.lzma {
            Some(lzma) => lzma,
            None => self.lzma.insert(Stream::new_stream_decoder(LZMA_MEMORY_MAX_BYTES, 0).map_err(damaged)?),
        };
        let (mut taken, mut out) = (0, Vec::new());
        let mut made = 0;
        while taken < section.len() || made < size {
            out.resize(size.min(made + STEP_BYTES), 0);
            let before = (lzma.total_in(), lzma.total_out());
            let status = lzma.process(&section[taken..], &mut out[made..], Action::Run).map_err(damaged)?;
            let (read, written) = (lzma.total_in() - before.0, lzma.total_out() - before.1);
            taken += read as usize;
            made += written as usize;
            if (read == 0 && written == 0) || status == Status::StreamEnd {
                break;
            }
        }
        if taken == section.len() && made == size {
            return Ok(out);
        }
        Err(corrupt("a compressed section of the delta has another size than it says"))
    }
}

fn damaged(error: liblzma::stream::Error) -> Error {
    match error {
        liblzma::stream::Error::Mem => Error::Io(std::io::ErrorKind::OutOfMemory.into()),
        liblzma::stream::Error::MemLimit => corrupt("the delta's LZMA needs a dictionary over 64 MiB"),
        _ => corrupt("the delta's LZMA data is damaged"),
    }
}

/// How the sections of a kind are to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Bytes of all sections together, which the dictionary need not exceed.
    pub size: usize,
    /// What predicts a byte.
    pub context: Context,
    /// How hard repetition is looked for.
    pub search: Search,
}

/// What predicts a byte, beside what was repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// The byte before.
    Before,
    /// The byte's place in a record of four, and a little of the byte before.
    FourAndBefore,
    /// The byte's place in a record of four.
    Four,
}

impl Context {
    /// Bits of the byte before, and of the position.
    pub const fn bits(self) -> (u32, u32) {
        match self {
            Self::Before => (3, 0),
            Self::FourAndBefore => (2, 2),
            Self::Four => (0, 2),
        }
    }
}

/// How hard repetition is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// Hardly, and only what is near.
    Near,
    /// Hardly; for data that hardly compresses.
    Light,
    /// Finds most and takes what it finds.
    Quick,
    /// Finds most and weighs it.
    Fair,
    /// Finds all and weighs it.
    Thorough,
}

/// Compresses the sections of one kind, with LZMA.
pub struct Squeezer(Stream);

impl Squeezer {
    /// Creates the state at the beginning of a delta.
    ///
    /// # Errors
    /// `Io` when there is not enough memory.
    pub fn new(model: Model) -> Result<Self> {
        let (context_bits, position_bits) = model.context.bits();
        let (mode, finder, enough, depth) = match model.search {
            Search::Near | Search::Light => (Mode::Fast, MatchFinder::HashChain3, 8, 1),
            Search::Quick => (Mode::Fast, MatchFinder::HashChain4, 64, 8),
            Search::Fair => (Mode::Normal, MatchFinder::HashChain4, 32, 6),
            Search::Thorough => (Mode::Normal, MatchFinder::BinaryTree4, 128, 0),
        };
        let mut options = LzmaOptions::new_preset(6).map_err(failed)?;
        options.dict_size(dictionary_size(model));
        options.literal_context_bits(context_bits);
        options.literal_position_bits(position_bits).position_bits(position_bits);
        options.mode(mode).match_finder(finder).nice_len(enough).depth(depth);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        Ok(Self(Stream::new_stream_encoder(&filters, Check::None).map_err(failed)?))
    }

    /// Compresses a section that is not empty, up to a point where all of it can be decoded.
    ///
    /// # Errors
    /// `Io` when there is not enough memory.
    pub fn squeeze(&mut self, section: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(section.len() / 2 + STEP_BYTES);
        varint::put(&mut out, section.len() as u64);
        flush_through(&mut self.0, section, &mut out)?;
        Ok(out)
    }
}

fn flush_through(lzma: &mut Stream, section: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut taken = 0;
    loop {
        out.reserve(STEP_BYTES);
        let before = lzma.total_in();
        let status = lzma.process_vec(&section[taken..], out, Action::SyncFlush).map_err(failed)?;
        taken += (lzma.total_in() - before) as usize;
        if status == Status::StreamEnd {
            return Ok(());
        }
    }
}

fn dictionary_size(model: Model) -> u32 {
    let max = match model.search {
        Search::Near => NEAR_DICTIONARY_BYTES,
        Search::Light => LIGHT_DICTIONARY_BYTES,
        _ => DICTIONARY_MAX_BYTES,
    };
    model.size.clamp(DICTIONARY_MIN_BYTES, max).next_power_of_two() as u32
}

fn failed(error: liblzma::stream::Error) -> Error {
    Error::Io(std::io::Error::other(error))
}
