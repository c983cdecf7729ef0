//! What a call to a store can fail with, as far as callers can tell it apart.

use std::fmt;
use std::io;

use crate::cancel;
use crate::model::{Key, Oid};

/// The outcome of a call to a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reading a file.
    Get,
    /// Storing a file.
    Put,
    /// Listing keys.
    List,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "read",
            Self::Put => "store",
            Self::List => "list",
        })
    }
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store itself says that there is no such file.
    #[error("{key} is not there")]
    NotFound {
        /// The key that was asked for.
        key: Key,
    },
    /// The key is taken; its bytes stay as they are.
    #[error("{key} is there already")]
    AlreadyExists {
        /// The key that was to be stored.
        key: Key,
    },
    /// The store, or the disk, knows this user but does not allow the call.
    #[error("not allowed to {verb} {key}: {reason}")]
    Denied {
        /// The call.
        verb: Verb,
        /// What it was about.
        key: String,
        /// What the service said.
        reason: String,
    },
    /// The store does not know this user, or no longer.
    #[error("cannot {verb} {key}: {reason}")]
    Credentials {
        /// The call.
        verb: Verb,
        /// What it was about.
        key: String,
        /// What the service or the credential chain said.
        reason: String,
    },
    /// There is no such bucket, or the directory is gone.
    #[error("cannot {verb} {key}: {reason}")]
    Missing {
        /// The call.
        verb: Verb,
        /// What it was about.
        key: String,
        /// What is missing.
        reason: String,
    },
    /// Nobody answered, or not in time, or with a fault of the service. Trying again may work.
    #[error("cannot {verb} {key}: {reason}")]
    Unavailable {
        /// The call.
        verb: Verb,
        /// What it was about.
        key: String,
        /// What the service or the network said.
        reason: String,
    },
    /// The bytes that were to be stored are not those that were announced.
    #[error("the bytes for {key} are not those of {expected}")]
    Digest {
        /// The key that was to be stored.
        key: Key,
        /// The SHA-256 that they should have had.
        expected: Oid,
    },
    /// No space is left where the store is.
    #[error("no space left to {verb} {key}")]
    Full {
        /// The call.
        verb: Verb,
        /// What it was about.
        key: String,
    },
    /// The settings of the store cannot work.
    #[error("{reason}")]
    Settings {
        /// What is wrong.
        reason: String,
    },
    /// The local side failed: a file to be stored cannot be read, or the store's disk has a fault.
    #[error("cannot {verb} {key}")]
    Io {
        /// The call.
        verb: Verb,
        /// What it was about.
        key: String,
        /// What the system said.
        source: io::Error,
    },
    /// git-lfs or the user wants to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Sorts a local error.
    pub fn from_io(verb: Verb, key: &str, source: io::Error) -> Self {
        if cancel::is_cancelled(&source) {
            return Self::Cancelled;
        }
        let key = key.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { verb, key },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { verb, key, reason: source.to_string() }
            }
            _ => Self::Io { verb, key, source },
        }
    }

    /// Unpacks what a reader of `get` failed with.
    pub fn from_read(key: &Key, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(error) => error,
            Err(source) => Self::from_io(Verb::Get, key.as_str(), source),
        }
    }
}
