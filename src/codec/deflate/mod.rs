//! Deflate streams as plain text, matches and blocks, and back.
//!
//! Nothing here predicts anything: [`inflate`] takes a stream apart, [`emit`] puts a block together
//! again from the same parts, [`trees`] knows how zlib would have chosen a block's codes.

pub mod bits;
pub mod checksum;
pub mod emit;
pub mod huffman;
pub mod inflate;
pub mod ledger;
pub mod record;
pub mod symbols;
pub mod trees;
