//! What git knows of objects, asked once: by one process of the machine for all agents of a push.
//!
//! What surprises: the log that one agent reads is kept in a file for the others, named after all refs. Eight agents
//! that each read a history of 20,000 commits would keep two cores busy for seconds before the first byte is sent.

use std::path::{Path, PathBuf};

use super::Transfer;
use crate::clock;
use crate::disk;
use crate::git::names::{Range, read_log};
use crate::git::{Names, Version};
use crate::model::Oid;
use crate::model::limits::NAMES_AGE_MAX;

impl Transfer {
    /// Returns the versions before an object at its path, nearest first. Whatever fails costs compression only.
    pub(super) fn earlier(&self, version: Version) -> Vec<Version> {
        if let Some(found) = self.earlier_in(self.unpushed(), version) {
            return found;
        }
        self.earlier_in(self.everything(), version).unwrap_or_default()
    }

    /// Returns what the commits that are being pushed changed.
    pub(super) fn unpushed(&self) -> Option<&Names> {
        let read = || self.names(Range::Unpushed { remote: &self.remote });
        self.unpushed.get_or_init(read).as_ref()
    }

    /// Returns what all commits changed.
    pub(super) fn everything(&self) -> Option<&Names> {
        self.everything.get_or_init(|| self.names(Range::Everything)).as_ref()
    }

    fn earlier_in(&self, names: Option<&Names>, version: Version) -> Option<Vec<Version>> {
        let earlier = names?.earlier(&self.git, version);
        earlier.inspect_err(|error| tracing::info!(%error, "no earlier versions from git")).ok().flatten()
    }

    fn names(&self, range: Range<'_>) -> Option<Names> {
        let log = match self.shared_log(range) {
            Some(path) => self.log_by(&path, range),
            None => read_log(&self.git, range),
        };
        log.inspect_err(|error| tracing::info!(%error, "no names from git"))
            .ok()
            .map(|log| Names::parse(&log))
    }

    /// Reads a log from its file; the first to ask makes it, and the others wait for that.
    fn log_by(&self, path: &Path, range: Range<'_>) -> crate::git::Result<Vec<u8>> {
        // Where nobody can wait, each asks git.
        let _lock = disk::Lock::wait(&path.with_extension("lock"), &self.cancel).ok();
        if !disk::is_older(path, NAMES_AGE_MAX)
            && let Ok(log) = std::fs::read(path)
        {
            return Ok(log);
        }
        let log = read_log(&self.git, range)?;
        if let Err(error) = disk::replace(path, &log) {
            tracing::debug!(%error, "cannot share what git said");
        }
        Ok(log)
    }

    /// Returns where the log of a range is shared, after all refs; `None` where nothing can be shared.
    fn shared_log(&self, range: Range<'_>) -> Option<PathBuf> {
        let folder = self.names_folder.as_ref()?;
        let refs = self.git.run(["show-ref", "--head"]).ok()?;
        // A shallow clone has the same refs and less history.
        let place = format!("{range:?}\0{}\0", self.lfs_folder.display());
        let name = Oid::of(&[place.as_bytes(), &refs].concat()).to_string();
        disk::sweep_files(folder, "", clock::ago(NAMES_AGE_MAX * 2));
        Some(folder.join(name))
    }
}
