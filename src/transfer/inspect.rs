//! What a check of a store needs: everything that is listed, one copy at a time, and putting things right.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;

use super::download::Failure;
use super::{Error, Meter, Result, Stored, Transfer, Wanted};
use crate::depot::{self, Folder};
use crate::disk::{Bytes, Hashing, Spill};
use crate::error::Kind;
use crate::git::{Pointers, Use, Version};
use crate::model::{CodecName, CopyId, CopyName, Key, Oid, StoredCopy};
use crate::store;

/// Whether the bytes of a rebuilt object are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As the base of others.
    Bytes,
    /// Only their hash counts.
    Nothing,
}

/// What a copy turned out to hold.
#[derive(Debug)]
pub enum Rebuilt {
    /// Its object; the bytes only where they were asked for.
    Right(Option<Bytes>),
    /// Something else.
    Wrong(String),
    /// Only a later version of this program can tell.
    Unknown(CodecName),
}

impl Transfer {
    /// Lists the whole store afresh.
    ///
    /// # Errors
    /// What the store says.
    pub fn survey(&self) -> Result<BTreeMap<Oid, Folder>> {
        self.depot.survey().map_err(|error| self.depot_error(error))
    }

    /// Lists the copies of one object afresh.
    ///
    /// # Errors
    /// What the store says.
    pub fn look(&self, oid: &Oid) -> Result<Folder> {
        self.depot.look(oid).map_err(|error| self.depot_error(error))
    }

    /// Returns the size of an object, as the first of its copies says that can be asked.
    ///
    /// # Errors
    /// What the store says.
    pub fn object_size(&self, folder: &Folder) -> Result<Option<u64>> {
        for copy in folder.copies() {
            if let Some(size) = self.size_in(copy)? {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    /// Returns the size of the object that a copy says it holds; `None` where the copy is damaged or gone.
    pub(super) fn size_in(&self, copy: &StoredCopy) -> Result<Option<u64>> {
        if copy.name.codec().is_none() {
            return Ok(Some(copy.size));
        }
        match self.depot.header(&copy.name) {
            Ok(header) => Ok(Some(header.object_size)),
            Err(depot::Error::Damaged { .. } | depot::Error::Store(store::Error::NotFound { .. })) => {
                Ok(None)
            }
            Err(error) => Err(self.depot_error(error)),
        }
    }

    /// Rebuilds the object of one copy on the bytes of its base, from the store alone, and proves it.
    ///
    /// # Errors
    /// What the store or the local disk says; that a copy is damaged is no error.
    pub fn rebuild(&self, copy: &StoredCopy, base: Option<&Bytes>, keep: Keep) -> Result<Rebuilt> {
        let rebuilt = match keep {
            Keep::Nothing => self.rebuild_into(copy, base, io::sink()).map(|_| None),
            Keep::Bytes => self.rebuild_into(copy, base, Spill::new(&self.workspace)).and_then(|spill| {
                let failed = |source| Failure::Fatal(Error::disk("write a temporary file", source));
                spill.finish().map(Some).map_err(failed)
            }),
        };
        match rebuilt {
            Ok(bytes) => Ok(Rebuilt::Right(bytes)),
            Err(Failure::Copy(reason)) => Ok(Rebuilt::Wrong(reason)),
            Err(Failure::Unknown(_, codec)) => Ok(Rebuilt::Unknown(codec)),
            Err(Failure::Fatal(error)) => Err(error.about("verify", copy.name.id.oid)),
        }
    }

    fn rebuild_into<W: io::Write>(
        &self,
        copy: &StoredCopy,
        base: Option<&Bytes>,
        sink: W,
    ) -> std::result::Result<W, Failure> {
        let mut sink = Hashing::new(sink);
        let mut reading = self.read(&copy.name)?;
        let size = reading.header.as_ref().map_or(copy.size, |header| header.object_size);
        let base = base.map(|bytes| &**bytes);
        self.decode(&copy.name, base, &mut *reading.payload, size, &Meter::silent(), &mut sink)?;
        let (sink, found) = sink.into_parts();
        match found == copy.name.id.oid {
            true => Ok(sink),
            false => Err(Failure::Copy(format!("{} yields other bytes", Key::copy(&copy.name)))),
        }
    }

    /// Returns what the store yields of an object to somebody who has nothing, if it yields it.
    ///
    /// # Errors
    /// What the store says.
    pub fn yielded(&self, oid: Oid) -> Result<Option<Version>> {
        for size in self.stored_sizes(oid)? {
            let version = Version { oid, size };
            if self.store_yields(version)? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Returns the object that git-lfs has in its own folder; its bytes are not proven.
    pub fn own(&self, oid: Oid) -> Option<Version> {
        let path = crate::git::place::object_path(&self.lfs_folder, &oid);
        let data = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Version { oid, size: data.len() })
    }

    /// Stores an object again, from git-lfs' own folder or from what the store still yields; `None` where neither has
    /// it.
    ///
    /// # Errors
    /// What the store or the local disk says.
    pub fn store_again(&self, oid: Oid) -> Result<Option<Stored>> {
        if let Some(version) = self.own(oid) {
            match self.upload(version, &PathBuf::new(), &Meter::silent()) {
                Err(error) if matches!(error.kind(), Kind::LocalCorrupt | Kind::LocalMissing) => {
                    tracing::warn!(%error, "this clone's own object is of no help");
                }
                stored => return stored.map(Some),
            }
        }
        let (version, file) = match self.fetch_wanted(&Wanted::Object(oid), &Meter::silent()) {
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotStored | Kind::TooNew) => {
                return Ok(None);
            }
            fetched => fetched?,
        };
        let stored = self.upload(version, &file, &Meter::silent());
        // Goes with the workspace at the latest.
        let _ = std::fs::remove_file(file);
        stored.map(Some)
    }

    /// Reads a copy once more that seemed to be wrong: a disk or a line may have been for a moment.
    ///
    /// # Errors
    /// What the store or the local disk says.
    pub fn is_wrong(&self, copy: &StoredCopy) -> Result<bool> {
        let size = self.size_in(copy)?;
        size.map_or(Ok(true), |size| self.yields_wrong(&copy.name, size))
    }

    /// Condemns copies for ever.
    ///
    /// # Errors
    /// What the store says.
    pub fn condemn(&self, ids: impl IntoIterator<Item = CopyId>, reason: &str) -> Result<()> {
        self.depot.condemn(ids, reason).map_err(|error| self.depot_error(error))
    }

    /// Returns whether the base of a delta is gone for sure: the delta's own header names the file, and the store says
    /// that it does not have it. `None` where the header itself is damaged.
    ///
    /// # Errors
    /// What the store says.
    pub fn lacks_base(&self, name: &CopyName) -> Result<Option<bool>> {
        let header = match self.depot.header(name) {
            Ok(header) => header,
            Err(depot::Error::Damaged { .. } | depot::Error::Store(store::Error::NotFound { .. })) => {
                return Ok(None);
            }
            Err(error) => return Err(self.depot_error(error)),
        };
        let Some(base) = header.chain.name(0) else { return Ok(None) };
        let is_there = self.depot.is_there(&base).map_err(|error| self.depot_error(error))?;
        Ok(Some(!is_there))
    }

    /// Reads the pointers of all refs of this repository.
    ///
    /// # Errors
    /// Those of asking git.
    pub fn pointers(&self) -> Result<Pointers> {
        Ok(Pointers::of_all_refs(&self.git)?)
    }

    /// Finds where objects are needed.
    ///
    /// # Errors
    /// Those of asking git.
    pub fn uses(&self, pointers: &Pointers, oids: &HashSet<Oid>) -> Result<BTreeMap<Oid, Vec<Use>>> {
        Ok(pointers.uses(&self.git, oids)?)
    }
}
