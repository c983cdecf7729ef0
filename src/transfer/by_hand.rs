//! What people ask for themselves: a file into the store, an object out of it, by the code that git-lfs uses.
//!
//! What surprises: who asks by hand has a path or an oid, and hardly ever a size. So a path's pointer is read with
//! git, and where there is only an oid, the sizes that its copies claim are tried one after the other; the hash
//! decides.

use std::path::{Path, PathBuf};

use super::upload::{Given, Owner};
use super::{Error, Meter, Parts, Result, Session, Stored, Transfer};
use crate::cancel::Cancel;
use crate::config::Settings;
use crate::disk;
use crate::git::{self, Config, Git, Named, Place, Version, pointers};
use crate::model::limits::POINTER_MAX_BYTES;
use crate::model::{Hasher, KeyPrefix, Oid};
use crate::store::{CallLog, Calls, WriteStore};

/// A transfer that counts what it asks of the store.
pub struct ByHand {
    /// The transfer.
    pub transfer: Transfer,
    /// What was asked.
    pub calls: CallLog,
}

/// What somebody names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// An object by its oid.
    Object(Oid),
    /// What a pointer stands for.
    Pointer(Version),
}

impl Wanted {
    /// Returns which object it is.
    pub const fn oid(&self) -> Oid {
        match self {
            Self::Object(oid) => *oid,
            Self::Pointer(version) => version.oid,
        }
    }
}

/// A file that was put into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// What it is.
    pub version: Version,
    /// How it is stored.
    pub stored: Stored,
}

impl Transfer {
    /// Resolves settings and store as `open` does; outside of a repository, too, where the session names a store.
    ///
    /// # Errors
    /// Those of `open`; `NoRepository` outside of one when no store is named.
    pub fn open_by_hand(folder: &Path, session: &Session, cancel: &Cancel) -> Result<ByHand> {
        let git = Git::new(folder.to_path_buf(), std::time::Duration::from_secs(60), cancel.clone());
        let place = match Place::find(&git) {
            Err(git::Error::NoRepository { .. }) if session.store.is_some() => None,
            found => Some(found?),
        };
        let config = match &place {
            Some(place) => Config::read(&git, place)?,
            None => Config::read_user(&git)?,
        };
        let settings = Settings::read(&config)?;
        let location =
            settings.location(session.store.as_deref(), &config, session.operation, &session.remote)?;
        let lfs_folder = match place {
            Some(place) => place.lfs_folder(&config),
            // Nobody's objects are there: only the temporary files of this process.
            None => settings.cache_folder.as_ref().map(|folder| folder.join("no-repository")).ok_or_else(
                || Error::Usage("there is no folder for temporary files: set LFS_DELTA_CACHE_DIR".into()),
            )?,
        };
        let store = Calls::new(settings.open(&location, cancel));
        let calls = store.log();
        let git = Git::new(folder.to_path_buf(), settings.git_patience, cancel.clone());
        let parts = Parts { git, lfs_folder, config, settings, location, session: session.clone() };
        let store: Box<dyn WriteStore> = Box::new(store);
        Ok(ByHand { transfer: Self::with_store(parts, store, cancel)?, calls })
    }

    /// Names the store in messages.
    pub fn store_name(&self) -> String {
        self.depot.name()
    }

    /// Finds out what a text means: an oid, a path that git tracks, or `REV:PATH`.
    ///
    /// # Errors
    /// `Usage` when it is none of them.
    pub fn resolve(&self, text: &str) -> Result<Wanted> {
        if let Ok(oid) = Oid::parse(text) {
            return Ok(Wanted::Object(oid));
        }
        let mut refused = None;
        let as_path = pointers::name_at(&self.git, "", Path::new(text));
        for name in as_path.into_iter().chain(text.contains(':').then(|| text.to_owned())) {
            match pointers::find(&self.git, &name) {
                Ok(Named::Pointer(version)) => return Ok(Wanted::Pointer(version)),
                Ok(Named::Plain) => {
                    let message = format!("{text} is no LFS pointer: git has its content itself");
                    return Err(Error::Usage(message));
                }
                Err(git::Error::Refused { message, .. }) => refused = Some(message),
                Err(error) => return Err(error.into()),
            }
        }
        let reason = refused.map_or_else(String::new, |message| format!(" (git: {message})"));
        Err(Error::Usage(format!("{text} is no oid, no path that git tracks, and no REV:PATH{reason}")))
    }

    /// Stores a file of the user's.
    ///
    /// # Errors
    /// `Usage` for a pointer, `LocalMissing`, and those of `upload`.
    pub fn put(&self, path: &Path, meter: &Meter) -> Result<Put> {
        let path = self.git.folder().join(path);
        let version = self.version_of(&path)?;
        let earlier = Some(self.earlier_at(&path, version));
        let given = Given { version, path: &path, earlier, owner: Owner::User };
        let stored = self.upload_given(given, meter)?;
        Ok(Put { version, stored })
    }

    fn version_of(&self, path: &Path) -> Result<Version> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => Error::LocalMissing { path: path.to_path_buf() },
            _ => Error::disk(format!("read {}", path.display()), source),
        };
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let mut hasher = Hasher::default();
        let mut start = Vec::new();
        let size = disk::copy(&mut file, &mut std::io::sink(), &mut |bytes| {
            hasher.update(bytes);
            if start.len() as u64 <= POINTER_MAX_BYTES {
                start.extend_from_slice(bytes);
            }
            self.cancel.check()
        });
        let size = size.map_err(failed)?;
        let text = std::str::from_utf8(&start).ok().filter(|_| size <= POINTER_MAX_BYTES);
        if text.and_then(git::names::parse_pointer).is_some() {
            let message = format!("{} is a pointer, not the object: run git lfs pull first", path.display());
            return Err(Error::Usage(message));
        }
        Ok(Version { oid: hasher.finish(), size })
    }

    /// Returns the versions before a file of the user's: those before the same content, else what git has at its path.
    fn earlier_at(&self, path: &Path, version: Version) -> Vec<Version> {
        let found = self.earlier(version);
        if !found.is_empty() {
            return found;
        }
        for rev in ["", "HEAD"] {
            let named = pointers::name_at(&self.git, rev, path);
            let named = named.and_then(|name| pointers::find(&self.git, &name).ok());
            if let Some(Named::Pointer(older)) = named
                && older.oid != version.oid
            {
                return std::iter::once(older).chain(self.earlier(older)).collect();
            }
        }
        Vec::new()
    }

    /// Fetches what somebody named into a temporary file, proven, and returns what it is and where.
    ///
    /// # Errors
    /// Those of `download`.
    pub fn fetch_wanted(&self, wanted: &Wanted, meter: &Meter) -> Result<(Version, PathBuf)> {
        let oid = match wanted {
            Wanted::Pointer(version) => return Ok((*version, self.download(*version, meter)?)),
            Wanted::Object(oid) => *oid,
        };
        let mut failure = None;
        for size in self.sizes(oid).map_err(|error| error.about("download", oid))? {
            let version = Version { oid, size };
            match self.download(version, meter) {
                Ok(path) => return Ok((version, path)),
                Err(error @ (Error::Cancelled | Error::Config(_) | Error::Git(_))) => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let folder = KeyPrefix::folder(&oid).to_string();
            Error::NotStored { store: self.depot.name(), folder }.about("download", oid)
        }))
    }

    /// Returns the sizes that an object may have: that of git-lfs' own file, and what its copies say.
    fn sizes(&self, oid: Oid) -> Result<Vec<u64>> {
        let own = self.own(oid).map(|version| version.size);
        let stored = self.stored_sizes(oid)?;
        Ok(own.into_iter().chain(stored.into_iter().filter(|&size| Some(size) != own)).collect())
    }

    /// Returns the sizes that the copies of an object say it has.
    pub(super) fn stored_sizes(&self, oid: Oid) -> Result<Vec<u64>> {
        let folder = self.depot.look(&oid).map_err(|error| self.depot_error(error))?;
        let mut sizes = Vec::new();
        for copy in folder.copies() {
            match self.size_in(copy)? {
                Some(size) if !sizes.contains(&size) => sizes.push(size),
                _ => {}
            }
        }
        // No copy says it: the first tells what is wrong with it.
        match folder.copies().first() {
            Some(copy) if sizes.is_empty() => Ok(vec![copy.size]),
            _ => Ok(sizes),
        }
    }
}
