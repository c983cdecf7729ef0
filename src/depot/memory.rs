//! What the machine remembers of settled copies: one small file per object, written anew in one step.
//!
//! Everything here may vanish or be damaged at any time: it saves requests and decides nothing but what a new copy says
//! of its chain, and so it is sealed.

use std::fs;
use std::path::PathBuf;

use super::{Settled, sealed};
use crate::codec::Header;
use crate::disk;
use crate::model::{Chain, Key, Link, Oid};

/// The file that says that the store is of format 1. A later format adds a `needs` file to the store, which is
/// looked at by every process.
const FORMAT_MARK: &str = "format-1";

/// The memory of one store on this machine.
#[derive(Debug)]
pub(super) struct Memory {
    folder: Option<PathBuf>,
}

impl Memory {
    pub(super) const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Returns the settled copy of an object that was last remembered.
    pub(super) fn get(&self, oid: &Oid) -> Option<Settled> {
        let bytes = sealed::read(&self.path(oid)?)?;
        let header = Header::read(&mut &bytes[..]).ok()?;
        let mut reader = bytes.get(Header::size(header.chain.depth())..)?;
        let (stored_size, rest) =
            reader.split_first_chunk().map(|(size, rest)| (u64::from_le_bytes(*size), rest))?;
        reader = rest;
        let codec = crate::model::CodecName::from_bytes(reader.try_into().ok()?);
        let own = Link {
            id: header.id,
            codec,
            object_size: header.object_size,
            stored_size,
            written_size: header.written_size,
        };
        let links = std::iter::once(own).chain(header.chain.links).collect();
        (header.id.oid == *oid).then_some(Settled { chain: Chain { links } })
    }

    pub(super) fn remember(&self, oid: &Oid, settled: &Settled) {
        let Some(path) = self.path(oid) else { return };
        let Some((own, below)) = settled.chain.links.split_first() else { return };
        // The same bytes as a copy's own header: nothing else has to be parsed and checked.
        let header = Header {
            id: own.id,
            object_size: own.object_size,
            written_size: own.written_size,
            chain: Chain { links: below.to_vec() },
        };
        let mut bytes = header.to_bytes();
        bytes.extend(own.stored_size.to_le_bytes());
        bytes.extend(own.codec.map_or([0; 8], |codec| *codec.as_bytes()));
        if let Err(error) = sealed::write(&path, &bytes) {
            tracing::debug!(%error, "cannot remember a copy");
        }
    }

    pub(super) fn forget(&self, oid: &Oid) {
        if let Some(path) = self.path(oid) {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
    }

    pub(super) fn knows_repository(&self, key: &Key) -> bool {
        self.is_marked(key.as_str())
    }

    pub(super) fn remember_repository(&self, key: &Key) {
        self.mark(key.as_str());
    }

    /// Returns whether `lfs-delta.json` was read once and found to be of the format that this program knows.
    pub(super) fn knows_format(&self) -> bool {
        self.is_marked(FORMAT_MARK)
    }

    pub(super) fn remember_format(&self) {
        self.mark(FORMAT_MARK);
    }

    fn is_marked(&self, name: &str) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.join(name).exists())
    }

    fn mark(&self, name: &str) {
        if let Some(folder) = &self.folder
            && let Err(error) = disk::replace(&folder.join(name), b"")
        {
            tracing::debug!(%error, name, "cannot remember");
        }
    }

    fn path(&self, oid: &Oid) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("settled").join(oid.shard()).join(oid.to_string()))
    }
}
