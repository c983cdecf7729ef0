//! The flat stage: rebuilds one byte string from another that resembles it.
//!
//! `encode` aligns the target with the base (`matcher`), writes the alignment (`control`), predicts
//! moved addresses in native code (`address`) and repeated changes elsewhere (`edits`), and codes what
//! is left in groups that stand alone (`residue`). `decode` runs the same walk with a decoder in place
//! of the encoder. Containers, files and stores are left to the callers: everything here is slices in,
//! bytes out.
//!
//! The surprise: encoder and decoder are one function, generic over `coder::Coder`. A model that
//! only one side updates is therefore impossible to write.

mod address;
mod coder;
mod control;
mod delta;
mod edits;
mod frames;
mod image;
mod image_macho;
mod image_pe;
mod lean;
mod literal;
mod matcher;
mod mixing;
mod numeric;
mod operand;
mod piece;
mod prefix;
mod residue;
mod tables;
mod unlike;
mod words;
mod written;

/// Target bytes of a group: large enough for models to learn, small enough for many threads.
const GROUP: usize = 32 << 20;

pub use delta::{Alignment, Place, decode, encode};
pub use matcher::Segment;
