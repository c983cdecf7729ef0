//! Hints: objects of a DeltaSpace to which no git history leads.
//!
//! Nearly all stores have few. So the first question asks for those of all spaces, and where one request shows
//! them all, it was the last.

use std::collections::HashMap;

use crate::model::limits::HINTS_MAX;
use crate::model::{Hint, KeyPrefix, Space};
use crate::store::{Listed, ReadStore, Result, Visit};

/// The hints that one process has seen. They may be stale.
#[derive(Debug, Default)]
pub(super) struct Hints {
    seen: HashMap<Space, Vec<Hint>>,
    /// Whether all spaces were seen; `None` before the first look.
    is_all: Option<bool>,
}

impl Hints {
    /// Returns the hints of a space, at most `HINTS_MAX`: one LIST for the process, or one for each space.
    pub(super) fn of(&mut self, store: &dyn ReadStore, space: &Space) -> Result<&[Hint]> {
        if self.is_all.is_none() {
            let (found, is_all) = list(store, &KeyPrefix::spaces())?;
            for (space, hint) in found.into_iter().filter(|_| is_all) {
                self.seen.entry(space).or_default().push(hint);
            }
            self.is_all = Some(is_all);
        }
        if self.is_all == Some(false) && !self.seen.contains_key(space) {
            let (found, _) = list(store, &KeyPrefix::space(space))?;
            self.seen.insert(*space, found.into_iter().map(|(_, hint)| hint).collect());
        }
        Ok(self.seen.get(space).map(Vec::as_slice).unwrap_or_default())
    }

    /// Adds one that this process left.
    pub(super) fn add(&mut self, space: &Space, hint: Hint) {
        // Of a space that was not looked at, one hint is not all.
        if self.is_all == Some(true) || self.seen.contains_key(space) {
            self.seen.entry(*space).or_default().push(hint);
        }
    }
}

/// Lists hints until there are `HINTS_MAX`, and returns whether those are all.
fn list(store: &dyn ReadStore, prefix: &KeyPrefix) -> Result<(Vec<(Space, Hint)>, bool)> {
    let (mut found, mut count) = (Vec::new(), 0);
    let mut visit = |listed: Listed| {
        found.extend(Hint::parse(&listed.key));
        count += 1;
        if count < HINTS_MAX { Visit::Continue } else { Visit::Stop }
    };
    store.list(prefix, &mut visit)?;
    Ok((found, count < HINTS_MAX))
}
