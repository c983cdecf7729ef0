//! What can go wrong in this crate.

use std::{fmt, io};

/// Why a delta could not be made or applied.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The delta, or the base it is applied to, is not what the encoder saw.
    Corrupt(&'static str),
    /// A limit of the caller's is too small for this delta.
    TooLarge(&'static str),
    /// The delta is of a version this code does not know.
    Version(u8),
    /// Scratch memory, or the sink the result is written to.
    Io(io::Error),
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Shortens the commonest error.
pub(crate) fn corrupt(what: &'static str) -> Error {
    Error::Corrupt(what)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(what) => write!(f, "corrupt delta: {what}"),
            Self::TooLarge(what) => write!(f, "delta over a limit: {what}"),
            Self::Version(version) => write!(f, "delta of unknown version {version}"),
            Self::Io(_) => write!(f, "cannot read or write delta bytes"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(source) => Some(source),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}
