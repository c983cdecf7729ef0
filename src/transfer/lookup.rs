//! What git knows of objects, asked once: by one process of the machine for all agents of a push.
//!
//! What surprises: what one agent is told is kept in a file for the others, named after all refs. Eight agents
//! that each read a history of 20,000 commits would keep two cores busy for seconds before the first byte is sent.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use super::Transfer;
use crate::clock;
use crate::disk;
use crate::git::attributes::{parse_colds, read_colds};
use crate::git::names::{Range, read_log};
use crate::git::relatives::read_tree;
use crate::git::{self, Families, Names, Version};
use crate::model::Oid;
use crate::model::limits::{BLOBS_KNOWN_MAX, NAMES_AGE_MAX};
use crate::plan::Bounds;

/// Questions about blobs that a process asks for itself: most pushes have no more.
const QUESTIONS_BEFORE_ALL: usize = 8;

impl Transfer {
    /// Returns the versions before an object at its path, nearest first. Whatever fails costs compression only.
    pub(super) fn earlier(&self, version: Version) -> Vec<Version> {
        self.learn_pointers();
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
        let earlier = names?.earlier(&self.blobs, version);
        earlier.inspect_err(|error| tracing::info!(%error, "no earlier versions from git")).ok().flatten()
    }

    /// Reads the pointers of all that is being pushed, for all agents, once this one has asked git a few times.
    pub(super) fn learn_pointers(&self) {
        if self.questions.fetch_add(1, Ordering::Relaxed) != QUESTIONS_BEFORE_ALL {
            return;
        }
        let Some(blobs) = self.unpushed().map(Names::blobs) else { return };
        if blobs.len() > BLOBS_KNOWN_MAX {
            return;
        }
        let what = format!("pointers of {:?}", Range::Unpushed { remote: &self.remote });
        match self.shared(&what, || self.blobs.describe(&blobs)) {
            Ok(said) => self.blobs.learn(&said),
            Err(error) => tracing::info!(%error, "no pointers from git"),
        }
    }

    /// Returns what relates the paths of HEAD and of what is being pushed.
    pub(super) fn families(&self) -> Option<&Families> {
        let read = || {
            // A repository without commits has no tree, and nothing to say.
            let tree = self.shared("tree", || read_tree(&self.git)).unwrap_or_default();
            let found = Families::read(&self.git, &tree, self.unpushed());
            found.inspect_err(|error| tracing::info!(%error, "no relatives from git")).ok()
        };
        self.families.get_or_init(read).as_ref()
    }

    /// Returns what the chain of an object may cost: by the attribute of its path, else as ever.
    pub(super) fn bounds(&self, version: Version) -> Bounds {
        let pushed = || self.cold_in(self.unpushed(), "cold", &self.unpushed_colds, version);
        let all = || self.cold_in(self.everything(), "cold of all", &self.all_colds, version);
        let cold_read_max_percent = pushed().or_else(all).flatten();
        cold_read_max_percent
            .map_or_else(Bounds::default, |percent| Bounds { cold_read_max_percent: percent })
    }

    /// Returns what `deltaspace-cold` says of an object; `None` where it is not in these changes.
    fn cold_in(
        &self,
        names: Option<&Names>,
        what: &str,
        known: &OnceLock<HashMap<Vec<u8>, u64>>,
        version: Version,
    ) -> Option<Option<u64>> {
        let (names, path) = (names?, names?.origin(version)?.path);
        let ask = || {
            let paths: Vec<&[u8]> = names.newest().into_iter().map(|(path, _)| path).collect();
            let said = self.shared(what, || read_colds(&self.git, &paths));
            let said = said.inspect_err(|error| tracing::info!(%error, "no attributes from git"));
            parse_colds(&said.unwrap_or_default())
        };
        Some(known.get_or_init(ask).get(&path).copied())
    }

    fn names(&self, range: Range<'_>) -> Option<Names> {
        let log = self.shared(&format!("{range:?}"), || read_log(&self.git, range));
        log.inspect_err(|error| tracing::info!(%error, "no names from git"))
            .ok()
            .map(|log| Names::parse(&log))
    }

    /// Returns what git says when it is asked; the first process of the machine to ask keeps it for the others, which
    /// wait for that.
    fn shared(&self, what: &str, ask: impl Fn() -> git::Result<Vec<u8>>) -> git::Result<Vec<u8>> {
        let Some(path) = self.shared_path(what) else { return ask() };
        // Where nobody can wait, each asks git.
        let _lock = disk::Lock::wait(&path.with_extension("lock"), &self.cancel).ok();
        if !disk::is_older(&path, NAMES_AGE_MAX)
            && let Ok(said) = std::fs::read(&path)
        {
            return Ok(said);
        }
        let said = ask()?;
        if let Err(error) = disk::replace(&path, &said) {
            tracing::debug!(%error, "cannot share what git said");
        }
        Ok(said)
    }

    /// Returns where an answer of git is shared, named after all refs; `None` where nothing can be shared.
    fn shared_path(&self, what: &str) -> Option<PathBuf> {
        let folder = self.names_folder.as_ref()?;
        let refs = self.refs.get_or_init(|| {
            disk::sweep_files(folder, "", clock::ago(NAMES_AGE_MAX * 2));
            self.git.run(["show-ref", "--head"]).ok()
        });
        // A shallow clone has the same refs and less history.
        let place = format!("{what}\0{}\0", self.lfs_folder.display());
        Some(folder.join(Oid::of(&[place.as_bytes(), refs.as_ref()?].concat()).to_string()))
    }
}
