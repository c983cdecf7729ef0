//! Repair (rule 14 of `docs/protocol.md`): what is wrong is condemned with all that is built on it, and what this clone
//! has, or the store still yields, is stored again. Nothing is deleted.
//!
//! What surprises: the store is listed again after each level. Somebody may have stored a delta on a damaged copy while
//! it was being condemned.

use std::collections::{BTreeSet, HashSet};

use super::Check;
use super::graph::{Flaw, Graph};
use crate::error::Result;
use crate::model::{CopyId, CopyName, Oid, StoredCopy};
use crate::transfer::Stored;

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Copies that were condemned.
    pub condemned: Vec<CopyId>,
    /// Objects that were stored again.
    pub stored: Vec<Oid>,
}

const REASON: &str = "damaged: condemned by lfs-delta verify --repair";

/// Condemns what is wrong with the suspects' copies, and stores again what may not be relied upon any more.
pub(super) fn repair(check: &mut Check<'_>, suspects: &BTreeSet<Oid>) -> Result<Repaired> {
    let wrong = wrong_copies(check, suspects)?;
    let condemned = condemn_with_all_above(check, wrong)?;
    let mut concerned: BTreeSet<Oid> = condemned.iter().map(|id| id.oid).collect();
    concerned.extend(suspects);
    check.graph.refresh(check.transfer, &concerned)?;
    let stored = store_again(check, &concerned)?;
    Ok(Repaired { condemned, stored })
}

/// Condemns copies and all that is built on them; those that a repair condemned before that was broken off count as well.
fn condemn_with_all_above(check: &Check<'_>, wrong: BTreeSet<CopyId>) -> Result<Vec<CopyId>> {
    let mut condemned = Vec::new();
    let mut level: Vec<CopyId> = wrong.iter().copied().filter(|id| !check.graph.is_condemned(id)).collect();
    let mut below = wrong;
    loop {
        if !level.is_empty() {
            tracing::debug!("condemning {} copies", level.len());
            check.transfer.condemn(level.iter().copied(), REASON)?;
        }
        below.extend(&level);
        condemned.append(&mut level);
        if below.is_empty() {
            return Ok(condemned);
        }
        let graph = Graph::new(check.transfer.survey()?);
        level = built_on(&graph, &below);
        if level.is_empty() {
            return Ok(condemned);
        }
    }
}

/// Returns the copies that are wrong or missing themselves, condemned ones among them.
fn wrong_copies(check: &Check<'_>, suspects: &BTreeSet<Oid>) -> Result<BTreeSet<CopyId>> {
    let judgement = check.judge();
    let mut wrong = BTreeSet::new();
    let mut next: Vec<Oid> = suspects.iter().copied().collect();
    let mut seen: HashSet<Oid> = HashSet::new();
    while let Some(oid) = next.pop() {
        let Some(folder) = check.graph.folder(&oid).filter(|_| seen.insert(oid)) else { continue };
        for copy in folder.copies() {
            match judgement.flaw(copy) {
                Some(flaw) if flaw.is_own() => wrong.extend(confirmed(check, copy, &flaw)?),
                Some(Flaw::Gap { base } | Flaw::Collected { base }) => {
                    wrong.extend(missing(check, &copy.name, base)?);
                }
                // What is wrong is further down, perhaps in an object that was not asked for.
                Some(Flaw::Below { base } | Flaw::OnCondemned { base }) => next.push(base.oid),
                _ => {}
            }
        }
    }
    Ok(wrong)
}

/// Returns a copy that is wrong for sure. A tombstone is for ever: nothing is condemned because of one look, or because
/// of what a pointer says.
fn confirmed(check: &Check<'_>, copy: &StoredCopy, flaw: &Flaw) -> Result<Option<CopyId>> {
    let is_wrong = *flaw == Flaw::Endless || check.transfer.is_wrong(copy)?;
    Ok(is_wrong.then_some(copy.name.id))
}

/// Returns what a delta without its base makes condemned: itself, and the base unless that is there after all.
fn missing(check: &Check<'_>, name: &CopyName, base: CopyId) -> Result<Vec<CopyId>> {
    Ok(match check.transfer.lacks_base(name)? {
        Some(true) => vec![base, name.id],
        Some(false) => Vec::new(),
        // Its own header is damaged as well.
        None => vec![name.id],
    })
}

/// Returns the copies that are built on condemned ones and not condemned yet.
fn built_on(graph: &Graph, condemned: &BTreeSet<CopyId>) -> Vec<CopyId> {
    let copies = graph.folders().flat_map(|(_, folder)| folder.uncondemned());
    let is_next = |copy: &&StoredCopy| {
        copy.name.base().is_some_and(|base| condemned.contains(&base)) && !condemned.contains(&copy.name.id)
    };
    copies.filter(is_next).map(|copy| copy.name.id).collect()
}

/// Stores the objects again that have no copy to rely on, as far as their bytes can be had.
fn store_again(check: &Check<'_>, concerned: &BTreeSet<Oid>) -> Result<Vec<Oid>> {
    let judgement = check.judge();
    let mut stored = Vec::new();
    for oid in concerned.iter().filter(|oid| !judgement.has_sound(oid)) {
        match check.transfer.store_again(*oid)? {
            None => tracing::debug!(%oid, "neither this clone nor the store has it"),
            Some(Stored::Already) => {}
            Some(_) => stored.push(*oid),
        }
    }
    Ok(stored)
}
