//! Earlier versions of an object: which of them are stored, and those that must be stored before it.
//!
//! git-lfs hands objects over by size, to eight processes, in no order of history. Whoever is asked for a
//! version first stores the local versions before it that are not in the store yet, oldest first.

use super::Transfer;
use super::progress::Meter;
use crate::error::{Error, Result};
use crate::git::Version;

impl Transfer {
    /// Makes sure that the versions before an object, nearest first, are stored, as far as they are local.
    pub(super) fn settle_history(&self, earlier: &[Version], meter: &Meter) -> Result<()> {
        let mut missing = Vec::new();
        for (index, older) in earlier.iter().enumerate() {
            if self.seems_stored(*older)? {
                break;
            }
            if self.local_file(*older).is_some() {
                missing.push((*older, &earlier[index + 1..]));
            }
        }
        if !missing.is_empty() {
            meter.stage(50, missing.iter().map(|(older, _)| older.size).sum());
        }
        for (older, before) in missing.into_iter().rev() {
            match self.store_once(older, before, &Meter::silent()) {
                Ok(stored) => tracing::info!(oid = %older.oid, ?stored, "stored an earlier version first"),
                // Its own request will say so; this object does without it.
                Err(error @ (Error::LocalCorrupt { .. } | Error::LocalMissing { .. })) => {
                    tracing::warn!(oid = %older.oid, %error, "an earlier version is left out");
                }
                Err(error) => return Err(error.about("upload", older.oid)),
            }
            meter.add(older.size);
        }
        Ok(())
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
