//! The constants both sides share: changing any of them is a new version of the format.
//!
//! Together with the hash functions, table sizes and contexts in [`crate::tokens`], zlib's code
//! construction in [`crate::deflate::trees`] and the rules of [`crate::container::rules`].

/// Names everything above; the first byte of a delta.
pub const VERSION: u8 = 1;

/// Chain steps a stream may take per plain byte; afterwards searches are shallow.
pub const STEPS_PER_BYTE: u64 = 32;
/// Chain steps every stream may take, however short.
pub const STEPS_PER_STREAM: u64 = 1 << 16;
/// Chain depth once a stream's steps are used up.
pub const STEPS_EXHAUSTED: u32 = 4;
/// Most steps of one listing of candidates.
pub const CANDIDATE_STEPS_MAX: u32 = 1024;

/// A search this far behind the tables may look at the window instead of filling them.
pub const SCAN_GAP_MIN: usize = 4096;
/// Most such searches in a row.
pub const SCANS_MAX: usize = 24;
/// Plain bytes per further such search.
pub const SCAN_BYTES: usize = 2048;

/// Candidates that have an index of their own; others are told by distance.
pub const CANDIDATES_RANKED: usize = 16;
/// Earlier segments looked at for the source of a match.
pub const SOURCE_SEGMENTS_MAX: usize = 64;
/// Segments looked at for the base's next block end.
pub const BLOCK_SEGMENTS_MAX: usize = 256;
/// Least correct base tokens in a row before runs are told instead of tokens.
pub const TRUST_MIN: u32 = 8;
/// Tokens of a block of zlib's: its buffer holds one less than 16384.
pub const BLOCK_TOKENS_USUAL: u32 = 16383;
/// Block token counts above this become the usual one.
pub const BLOCK_TOKENS_REMEMBERED_MIN: u32 = 4000;
/// Search depths a stream can ask for.
pub const DEPTHS: [u32; 4] = [16, 64, 256, 1024];
/// Highest trust thresholds a stream can ask for.
pub const TRUSTS: [u32; 4] = [8, 16, 64, 256];
/// Blocks without a token a stream may have in a row.
pub const EMPTY_BLOCKS_MAX: u32 = 1024;
/// Dynamic blocks a stream may have whatever its length, and one more per so many plain bytes.
pub const DYNAMIC_BLOCKS_FREE: usize = 16;
/// See [`DYNAMIC_BLOCKS_FREE`].
pub const DYNAMIC_BLOCK_BYTES_MIN: usize = 64;
