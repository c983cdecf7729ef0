//! Predicted tokens: what a deflate stream adds to its plain text, given the base's streams.
//!
//! Encoder and decoder run the same code over the same state and differ only in whether a symbol
//! is told to the range coder or learnt from it. The state is made of integers, of tables of fixed
//! size that start from zero in every group, and of nothing else: no pointers, threads or floats.
//! All constants of the parent [`crate::codec::format`] and of these modules are part of the format.

pub mod base;
pub mod coder;
pub mod finder;
pub mod group;
pub mod header;
pub mod model;
pub mod plan;
pub mod stream;
mod window;
