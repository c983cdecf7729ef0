//! What encoding or decoding a delta can fail with.

use std::{fmt, io};

/// The result of an operation of this engine.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a delta could not be written or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The delta contradicts itself, its base or the declared size.
    Damaged {
        /// The part that did not hold.
        part: &'static str,
    },
    /// The delta was written by another version of the format.
    Version {
        /// The version it names.
        found: u8,
    },
    /// The sink failed.
    Write {
        /// What the sink said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) const fn damaged(part: &'static str) -> Self {
        Self::Damaged { part }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { part } => write!(formatter, "delta is damaged: {part}"),
            Self::Version { found } => write!(formatter, "delta has unknown version {found}"),
            Self::Write { .. } => write!(formatter, "cannot write the output"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Write { source } => Some(source),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Write { source }
    }
}
