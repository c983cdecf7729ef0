//! Files with names of their own and metadata beside them: what deltaglider's layout needs of a place.
//!
//! Not the store of objects (`ReadStore`, `WriteStore`), where names are never used again: here a name says what
//! people called the file, and a later upload may replace it. The promises, each held by a test in
//! `artefacts_contract.rs`:
//!
//! 1. A `put` that returned is durable, its bytes and its metadata together, and seen by everybody.
//! 2. A `put` that creates never replaces: of many at once on one name, one succeeds.
//! 3. A reader gets the bytes of the version that it found, or `NotFound`; never a mixture of two.
//! 4. `None` and `NotFound` mean that the place itself said so. Whatever is unknown is another error.
//! 5. A `put` stores no bytes that do not match their digest.
//!
//! What surprises: a service that ignores conditional writes breaks the second, and does not say so. Whoever creates
//! looks again afterwards.

use std::collections::BTreeMap;
use std::io::Read;

use super::{Body, Result, Visit};
use crate::model::{FileName, Folder, Key, Oid};

/// What is kept beside a file: names in lower case, and their texts.
pub type Metadata = BTreeMap<String, String>;

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its bytes.
    pub size: u64,
    /// What tells it from other files that had or will have its name.
    pub version: Option<String>,
    /// What is kept beside it.
    pub metadata: Metadata,
    /// What the place itself knows of its bytes.
    pub checksum: Option<Checksum>,
}

/// A checksum of all bytes of a file that was recorded when it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// A SHA-256.
    Sha256(Oid),
    /// An MD5: proof against accidents, not against people.
    Md5([u8; 16]),
}

/// What becomes of a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// It stays, and the new one is refused.
    Create,
    /// The new one takes its place, in one step.
    Replace,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A file.
    File {
        /// Its name.
        name: FileName,
        /// Its bytes.
        size: u64,
    },
    /// A folder.
    Folder(FileName),
}

impl Item {
    /// Returns its name.
    pub const fn name(&self) -> &FileName {
        match self {
            Self::File { name, .. } | Self::Folder(name) => name,
        }
    }
}

/// A place for files with names of their own.
pub trait ArtefactStore: Send + Sync {
    /// Looks at a file.
    ///
    /// # Errors
    /// All but `NotFound`.
    fn find(&self, key: &Key) -> Result<Option<Found>>;

    /// Returns a reader of the version that was found.
    ///
    /// # Errors
    /// `NotFound` when it is gone, or another one has its name. The reader itself fails with an `io::Error` that
    /// carries a store error.
    fn get(&self, key: &Key, found: &Found) -> Result<Box<dyn Read + Send>>;

    /// Stores a file with its metadata.
    ///
    /// # Errors
    /// `AlreadyExists` when it was to be created and is there, `Digest` when the bytes are not what they should be.
    fn put(&self, key: &Key, body: &Body<'_>, metadata: &Metadata, placing: Placing) -> Result<()>;

    /// Shows the files and folders in a folder, but not what is in those, in no order.
    ///
    /// Names that are no `FileName`s are passed over.
    ///
    /// # Errors
    /// All but `NotFound`: an empty listing is one.
    fn list(&self, folder: &Folder, visit: &mut dyn FnMut(Item) -> Visit) -> Result<()>;

    /// Names the place in messages.
    fn name(&self) -> String;
}
