//! Earlier versions of an object: which of them are stored, and those that must be stored before it.
//!
//! git-lfs hands objects over by size, to eight processes, in no order of history. Whoever is asked for a
//! version first stores the local versions before it that are not in the store yet, oldest first.
//!
//! What surprises: neighbours by size are mostly versions of one path, so that all agents want the same history. Whoever
//! would have to wait for another stores meanwhile what is pushed together with its object and nobody stores: git-lfs
//! asks for that, too, sooner or later.

use super::Transfer;
use super::progress::Meter;
use crate::disk;
use crate::error::{Error, Result};
use crate::git::Version;

/// A version, and those before it, nearest first.
type Older<'a> = (Version, &'a [Version]);

impl Transfer {
    /// Makes sure that the versions before an object, nearest first, are stored, as far as they are local.
    pub(super) fn settle_history(&self, version: Version, earlier: &[Version], meter: &Meter) -> Result<()> {
        let missing = self.missing(earlier)?;
        if !missing.is_empty() {
            meter.stage(50, missing.iter().map(|(older, _)| older.size).sum());
        }
        for older in missing.into_iter().rev() {
            let _lock = self.lock_usefully(older.0, version)?;
            self.store_older(older)?;
            meter.add(older.0.size);
        }
        Ok(())
    }

    /// Returns those of some versions, nearest first, that are local and not stored yet.
    fn missing<'a>(&self, earlier: &'a [Version]) -> Result<Vec<Older<'a>>> {
        let mut missing = Vec::new();
        for (index, older) in earlier.iter().enumerate() {
            if self.seems_stored(*older)? {
                break;
            }
            if self.local_file(*older).is_some() {
                missing.push((*older, &earlier[index + 1..]));
            }
        }
        Ok(missing)
    }

    fn store_older(&self, (older, before): Older<'_>) -> Result<()> {
        match self.store_once(older, before, &Meter::silent()) {
            Ok(stored) => tracing::info!(oid = %older.oid, ?stored, "stored an earlier version first"),
            // Its own request will say so; this object does without it.
            Err(error @ (Error::LocalCorrupt { .. } | Error::LocalMissing { .. })) => {
                tracing::warn!(oid = %older.oid, %error, "an earlier version is left out");
            }
            Err(error) => return Err(error.about("upload", older.oid)),
        }
        Ok(())
    }

    /// Waits until no other process of this machine works on an object, and meanwhile stores what else is pushed with the one
    /// that was asked for.
    pub(super) fn lock_usefully(&self, object: Version, asked: Version) -> Result<Option<disk::Lock>> {
        loop {
            if let Some(lock) = self.lock_if_free(object) {
                return Ok(lock);
            }
            if !self.store_another(asked)? {
                tracing::debug!(oid = %object.oid, "waiting for another agent");
                return self.lock(object);
            }
        }
    }

    /// Stores one object that is pushed together with another, of a history that nobody stores at the moment; `false`
    /// where there is none.
    fn store_another(&self, version: Version) -> Result<bool> {
        // Whoever pushes objects by their oids pushes nothing else.
        let Some(names) = self.unpushed().filter(|_| !self.repair) else { return Ok(false) };
        let found = self.blobs.pointers_among(&names.beside(version));
        let found = found.inspect_err(|error| tracing::info!(%error, "nothing from git to do meanwhile"));
        let mut others: Vec<Version> =
            found.unwrap_or_default().into_iter().map(|(_, other)| other).collect();
        // So that not all begin with the same.
        let begin = std::process::id() as usize % others.len().max(1);
        others.rotate_left(begin);
        for other in others {
            if self.seems_stored(other)? {
                continue;
            }
            let line: Vec<Version> = std::iter::once(other).chain(self.earlier(other)).collect();
            let Some(oldest) = self.missing(&line)?.pop() else { continue };
            let Some(_lock) = self.lock_if_free(oldest.0) else { continue };
            tracing::debug!(oid = %oldest.0.oid, "storing another object meanwhile");
            self.store_older(oldest)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Returns whether an earlier version seems to be in the store. Being wrong costs compression only.
    fn seems_stored(&self, version: Version) -> Result<bool> {
        if self.depot.remembers(&version.oid) {
            return Ok(true);
        }
        let folder = self.depot.look_recently(&version.oid).map_err(|error| self.depot_error(error))?;
        Ok(!folder.copies().is_empty())
    }
}
