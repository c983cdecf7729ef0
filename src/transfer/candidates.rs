//! A base for an object without earlier versions: a new path, no history, or no path at all.
//!
//! Relatives that git knows come first, then the hints of the DeltaSpace. Sketches compare them, and only the best is
//! tried: a wrong guess costs some work and never more than compression.
//!
//! What surprises: of objects that are being pushed together only those count that this machine knows to be stored.
//! Nobody waits for another: a folder of a thousand frames is one DeltaSpace, and eight agents push it at once.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::upload::Target;
use super::{Error, Permit, Result, Transfer};
use crate::codec;
use crate::depot::Settled;
use crate::disk::{self, Spill};
use crate::git::names::Origin;
use crate::git::{Relative, Version};
use crate::model::limits::{
    CANDIDATES_TRIED_MAX, HINT_OBJECT_MIN_BYTES, SKETCHED_MAX_BYTES, SKETCHED_MAX_RATIO, SKETCHES_MAX,
};
use crate::model::{Chain, Hint, Oid, Sketch, Space};
use crate::plan::{self, Candidate};

/// A candidate by name.
struct Guess {
    oid: Oid,
    facts: Candidate,
}

impl Transfer {
    /// Finds a base that an object probably resembles; at most a few listings, and nothing is fetched.
    pub(super) fn likely_base(&self, target: &Target<'_>) -> Result<Option<Settled>> {
        let guesses = self.compare_relatives(target)?;
        if let Some(base) = self.settle_best(guesses)? {
            return Ok(Some(base));
        }
        if target.version.size < HINT_OBJECT_MIN_BYTES {
            return Ok(None);
        }
        let guesses = self.compare_hints(target)?;
        self.settle_best(guesses)
    }

    /// Leaves a hint where no history will lead others to an object that was just stored.
    pub(super) fn leave_hint(&self, target: &Target<'_>) -> Result<()> {
        let Version { oid, size } = target.version;
        let origin = self.origin(target.version);
        if size < HINT_OBJECT_MIN_BYTES || origin.as_ref().is_some_and(|origin| !origin.is_rootless) {
            return Ok(());
        }
        let folder = self.depot.look_recently(&oid).map_err(|error| self.depot_error(error))?;
        let Some(id) = folder.uncondemned().next().map(|copy| copy.name.id) else { return Ok(()) };
        let hint = Hint { id, sketch: Some(self.sketch_of(target)?) };
        let left = self.depot.leave_hint(&self.space(origin.as_ref()), hint);
        // It would have saved bytes of others: no reason to fail.
        if let Err(error) = left {
            tracing::warn!(%oid, %error, "no hint was left");
        }
        Ok(())
    }

    /// Takes the best guess of which the store has a copy that may be built on.
    fn settle_best(&self, mut guesses: Vec<Guess>) -> Result<Option<Settled>> {
        for _ in 0..CANDIDATES_TRIED_MAX {
            let facts: Vec<Candidate> = guesses.iter().map(|guess| guess.facts).collect();
            let Some(best) = plan::choose(&facts) else { return Ok(None) };
            let guess = guesses.swap_remove(best);
            let found = self.depot.find_base(&guess.oid).map_err(|error| self.depot_error(error))?;
            tracing::debug!(base = %guess.oid, facts = ?guess.facts, found = found.is_some(), "a likely base");
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Compares an object with those that git relates to it, as far as this machine knows what they look like.
    fn compare_relatives(&self, target: &Target<'_>) -> Result<Vec<Guess>> {
        let Version { oid, size } = target.version;
        let relatives = self.relatives(target.version);
        if !relatives.is_empty() && target.is_small() {
            // Who is stored after it need not look at its bytes.
            self.sketch_of(target)?;
        }
        let (mut guesses, mut compared, mut left) = (Vec::new(), 0, size.saturating_mul(SKETCHED_MAX_RATIO));
        for Relative { version, kinship, is_new } in relatives {
            if compared == SKETCHES_MAX {
                break; // The more telling came first.
            }
            if version.oid == oid || !plan::is_worth_comparing(version.size, size) {
                continue;
            }
            let known = self.depot.remembered_sketch(&version.oid);
            if is_new && known.is_none() {
                continue;
            }
            let mut other = known.flatten();
            if other.is_none() && version.size <= left && self.at_hand(version).is_some() {
                left -= version.size;
                other = self.sketch_at_hand(version)?;
            }
            let likeness = match other {
                Some(other) => Some(self.sketch_of(target)?.likeness(&other)),
                None => None,
            };
            compared += usize::from(likeness.is_some());
            if likeness == Some(0) {
                continue; // It is nobody's choice, wherever it is.
            }
            let is_at_hand = self.at_hand(version).is_some();
            let facts = Candidate { likeness, kinship: Some(kinship), is_at_hand };
            guesses.push(Guess { oid: version.oid, facts });
        }
        Ok(guesses)
    }

    /// Compares an object with those that hints name, by the sketches in their names.
    fn compare_hints(&self, target: &Target<'_>) -> Result<Vec<Guess>> {
        let space = self.space(self.origin(target.version).as_ref());
        let hints = self.depot.hints(&space).map_err(|error| self.depot_error(error))?;
        let others: Vec<Hint> = hints.into_iter().filter(|hint| hint.id.oid != target.version.oid).collect();
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let own = self.sketch_of(target)?;
        let guess = |hint: Hint| {
            let likeness = hint.sketch.map(|other| own.likeness(&other));
            let facts = Candidate { likeness, kinship: None, is_at_hand: self.has(&hint.id.oid) };
            Guess { oid: hint.id.oid, facts }
        };
        Ok(others.into_iter().map(guess).collect())
    }

    /// Returns where git says that an object came to be.
    fn origin(&self, version: Version) -> Option<Origin> {
        let found = self.unpushed().and_then(|names| names.origin(version));
        found.or_else(|| self.everything().and_then(|names| names.origin(version)))
    }

    /// Returns the DeltaSpace of an object; without a path, that of all such.
    fn space(&self, origin: Option<&Origin>) -> Space {
        let families = self.families();
        origin.map_or_else(Space::nameless, |origin| match families {
            Some(families) => families.space(&origin.path),
            None => Space::named(&crate::model::space::fold(&origin.path)),
        })
    }

    /// Returns what git relates to an object. Whatever fails costs compression only.
    fn relatives(&self, version: Version) -> Vec<Relative> {
        let (Some(origin), Some(families)) = (self.origin(version), self.families()) else {
            return Vec::new();
        };
        self.learn_pointers();
        let gone = self.unpushed().map(|names| names.gone_with(version)).unwrap_or_default();
        let found = families.relatives(&self.blobs, &origin.path, &gone);
        found.inspect_err(|error| tracing::info!(%error, "no relatives from git")).unwrap_or_default()
    }

    /// Remembers a copy that was just stored, and what its object looks like, where that was asked.
    pub(super) fn remember(&self, chain: Chain) {
        let oid = chain.links.first().map(|link| link.id.oid);
        let sketch = oid.and_then(|oid| self.lock_sketches().get(&oid).copied());
        self.depot.remember(chain, sketch);
    }

    fn sketch_of(&self, target: &Target<'_>) -> Result<Sketch> {
        let known = self.lock_sketches().get(&target.version.oid).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        match self.small_bytes(target)? {
            Some(bytes) => self.sketch_bytes(target.version, &bytes, &Permit::small()),
            None => self.sketch(target.version, target.path),
        }
    }

    /// Sketches an object that is at hand; `None` where it cannot be had.
    fn sketch_at_hand(&self, version: Version) -> Result<Option<Sketch>> {
        let known = self.lock_sketches().get(&version.oid).copied();
        if known.is_some() {
            return Ok(known);
        }
        let Some(path) = self.at_hand(version) else { return Ok(None) };
        let sketched = self.sketch(version, &path);
        let sketched = sketched.inspect_err(|error| tracing::info!(oid = %version.oid, %error, "no sketch"));
        self.cancel.check().map_err(|_| Error::Cancelled)?;
        Ok(sketched.ok())
    }

    /// Sketches what is in a file. Nothing is proven: a wrong sketch costs compression only.
    fn sketch(&self, version: Version, path: &Path) -> Result<Sketch> {
        let permit = self.budget.wait(version.size.min(SKETCHED_MAX_BYTES), &self.cancel)?;
        let mut begin = Spill::new(&self.workspace);
        let read = File::open(path).and_then(|file| {
            disk::copy(&mut file.take(SKETCHED_MAX_BYTES), &mut begin, &mut |_| self.cancel.check())?;
            begin.finish()
        });
        let bytes = read.map_err(|source| Error::disk(format!("read {}", path.display()), source))?;
        self.sketch_bytes(version, &bytes, &permit)
    }

    /// Sketches an object by its first bytes, and remembers the sketch.
    fn sketch_bytes(&self, version: Version, bytes: &[u8], permit: &Permit) -> Result<Sketch> {
        let watch = |_| self.cancel.check();
        let sketch = codec::sketch(bytes, version.size, &self.work(permit, &watch))?;
        self.lock_sketches().insert(version.oid, sketch);
        Ok(sketch)
    }
}
