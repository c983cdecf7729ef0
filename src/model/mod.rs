//! Plain data and the rules that need nothing else: names, sizes, bounds.
//!
//! Nothing here opens a file, asks the time or talks to a store. What surprises: a copy's *name* carries
//! its whole place in the graph (object, base, codec), so that one listing of a store tells everything.

pub mod artefact;
pub mod chain;
pub mod copy;
pub mod hex;
pub mod key;
pub mod limits;
pub mod location;
pub mod oid;
pub mod sketch;
pub mod space;

pub use artefact::{ArtefactUrl, FileName, Folder};
pub use chain::{Chain, Link};
pub use copy::{CodecName, CopyId, CopyName, Nonce, Shape, StoredCopy};
pub use key::{Entry, Hint, Key, KeyPrefix};
pub use location::{Location, LocationError, S3Location};
pub use oid::{Hasher, Oid};
pub use sketch::Sketch;
pub use space::Space;
