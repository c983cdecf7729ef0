//! Bytes under keys: what every store promises, whatever it is made of.
//!
//! A store knows nothing of copies and chains (`depot` does). The promises, each held by a test in
//! `contract.rs`:
//!
//! 1. A `put` that returned is durable and seen by every later `get` and `list`, from any machine.
//! 2. A `put` never replaces anything: an existing key is `AlreadyExists`, and its bytes stay.
//! 3. A `put` that failed leaves nothing that a `get` or `list` would show.
//! 4. `NotFound` means that the store itself said so. Whatever is unknown is another error.
//! 5. A `list` shows every key with the prefix exactly once, in the order of their bytes.
//! 6. A `put` with a digest stores no bytes that do not match it.
//!
//! What surprises: nothing here deletes. The first release of the format only adds.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::model::{CopyName, Key, KeyPrefix, Oid};

pub mod artefacts;
#[doc(hidden)]
pub mod artefacts_contract;
pub mod calls;
#[doc(hidden)]
pub mod contract;
pub mod directory;
pub mod error;
pub mod memory;
pub mod s3;

pub use artefacts::ArtefactStore;
pub use calls::{CallLog, Calls};
pub use directory::DirectoryStore;
pub use error::{Error, Result, Verb};
pub use memory::MemoryStore;
pub use s3::{Pace, S3Options, S3Store};

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key, relative to the store's prefix.
    pub key: String,
    /// Its bytes.
    pub size: u64,
}

/// Whether a listing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Show the next one.
    Continue,
    /// That is enough.
    Stop,
}

/// What is to be stored.
pub struct Body<'a> {
    /// The bytes.
    pub source: Source<'a>,
    /// Their SHA-256; the store refuses other bytes.
    pub digest: Oid,
    /// Called with the number of bytes that went out since the last call; may repeat on a retry.
    pub sent: &'a (dyn Fn(u64) + Send + Sync),
}

/// Where the bytes to be stored come from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// From memory.
    Bytes(&'a [u8]),
    /// From a file, all of it.
    File {
        /// The file.
        path: &'a Path,
        /// Its bytes.
        size: u64,
    },
}

impl Source<'_> {
    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

/// An upload of a copy that a process of this machine began, and that broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Which copy it was to be.
    pub name: CopyName,
    /// SHA-256 of its bytes.
    pub digest: Oid,
    /// How many there are.
    pub size: u64,
    /// The file that has them; none for a raw copy, whose bytes are the object's own.
    pub payload: Option<PathBuf>,
}

/// Reading, which needs no right to write.
pub trait ReadStore: Send + Sync {
    /// Returns a reader of the file, or of its first `limit` bytes.
    ///
    /// # Errors
    /// `NotFound` when the store says that there is none. The reader itself fails with an `io::Error` that
    /// carries a store error; a file shorter than it was announced is one.
    fn get(&self, key: &Key, limit: Option<u64>) -> Result<Box<dyn Read + Send>>;

    /// Returns a reader of a whole file that a listing or a header said to have `size` bytes; a store may fetch
    /// large ones in several pieces at once. The size is only a hint: what is there is what is read.
    ///
    /// # Errors
    /// Those of `get`.
    fn get_large(&self, key: &Key, size: u64) -> Result<Box<dyn Read + Send>> {
        let _ = size;
        self.get(key, None)
    }

    /// Shows every file whose key begins with `prefix`, in the order of their keys.
    ///
    /// One request per 1,000 keys. Not a snapshot: what comes and goes meanwhile may show or not.
    ///
    /// # Errors
    /// All but `NotFound`: an empty listing is one.
    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> Result<()>;

    /// Names the store in messages.
    fn name(&self) -> String;
}

/// Adding, which needs no right to replace or delete.
pub trait WriteStore: ReadStore {
    /// Stores a file under a free key.
    ///
    /// # Errors
    /// `AlreadyExists` when the key is taken, `Digest` when the bytes are not what they should be.
    fn put(&self, key: &Key, body: &Body<'_>) -> Result<()>;

    /// Finds an upload of a copy of this object that broke: a `put` of the same bytes under its name goes on with it.
    ///
    /// # Errors
    /// `Cancelled`. Whatever else fails only costs sending everything again.
    fn unfinished(&self, oid: &Oid) -> Result<Option<Unfinished>> {
        let _ = oid;
        Ok(None)
    }

    /// Gives up an upload that `unfinished` returned.
    fn give_up(&self, key: &Key) {
        let _ = key;
    }
}

impl ReadStore for Box<dyn WriteStore> {
    fn get(&self, key: &Key, limit: Option<u64>) -> Result<Box<dyn Read + Send>> {
        (**self).get(key, limit)
    }

    fn get_large(&self, key: &Key, size: u64) -> Result<Box<dyn Read + Send>> {
        (**self).get_large(key, size)
    }

    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> Result<()> {
        (**self).list(prefix, visit)
    }

    fn name(&self) -> String {
        (**self).name()
    }
}

impl WriteStore for Box<dyn WriteStore> {
    fn put(&self, key: &Key, body: &Body<'_>) -> Result<()> {
        (**self).put(key, body)
    }

    fn unfinished(&self, oid: &Oid) -> Result<Option<Unfinished>> {
        (**self).unfinished(oid)
    }

    fn give_up(&self, key: &Key) {
        (**self).give_up(key);
    }
}

/// Stores bytes that are at hand.
///
/// # Errors
/// Those of `put`.
pub fn put_bytes(store: &dyn WriteStore, key: &Key, bytes: &[u8]) -> Result<()> {
    let body = Body { source: Source::Bytes(bytes), digest: Oid::of(bytes), sent: &|_| () };
    store.put(key, &body)
}

/// Reads a small file whole, at most `limit` bytes of it.
///
/// # Errors
/// Those of `get`.
pub fn get_bytes(store: &dyn ReadStore, key: &Key, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = store.get(key, Some(limit))?;
    reader.read_to_end(&mut bytes).map_err(|source| Error::from_read(key, source))?;
    Ok(bytes)
}
