//! Deltas of files with deflate streams inside.
//!
//! A container is expanded: streams whose packed bytes are in the base as they are stay closed,
//! the others become plain text and predicted tokens. The plain text of both sides goes to a
//! [`plain::Plain`] stage, whose alignment the tokens are predicted along.
//!
//! The crate reads slices and writes to sinks; it opens no files. Buffers that grow with the
//! expansion come from a [`scratch::Scratch`] of the caller's.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod container;
pub mod deflate;
pub mod delta;
pub mod error;
#[cfg(feature = "flat")]
pub mod flat;
pub mod format;
pub mod plain;
pub mod scratch;
pub mod simple;
pub mod tokens;
pub mod wire;

pub use delta::{Limits, Options, Summary, decode, encode};
pub use error::{Error, Result};
