//! What of a store holds: whether every object can be restored, what is wrong, who needs it, and putting it right.
//!
//! list → judge → read → look again → name → repair.
//!
//! What surprises: nothing is reported that was seen once. A listing is no snapshot, and pushes go on meanwhile: so
//! whatever looks wrong is looked at again, bases after what is built on them, before it is said.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{Error, Result};
use crate::git::{Pointers, Use};
use crate::model::limits::SUSPECTS_LOOKED_AT_ALONE;
use crate::model::{CodecName, CopyId, Key, Oid};
use crate::transfer::Transfer;

mod graph;
mod read;
mod repair;
mod subset;

pub use graph::State;
pub use repair::Repaired;
pub use subset::Subset;

use graph::{Flaw, Graph, Judgement};

/// What is to be looked at.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// These objects alone, each of their copies read; empty means all.
    pub objects: Vec<Oid>,
    /// Whether every pointer of all refs must have its object in the store.
    pub refs: bool,
    /// Whether copies are read, and of which objects; else listings are all that is asked for.
    pub data: Option<Subset>,
    /// Whether what is wrong is condemned, and what this clone has is stored again.
    pub repair: bool,
}

/// How far the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of copies are going to be read.
    Total(u64),
    /// So many more were read.
    Read(u64),
}

/// Who is told.
pub type Watch<'a> = &'a (dyn Fn(Progress) + Sync);

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects that were looked at.
    pub objects: usize,
    /// Their copies.
    pub copies: usize,
    /// Copies among them that are condemned.
    pub condemned: usize,
    /// Bytes of all copies.
    pub stored_size: u64,
    /// Copies that were read and decoded.
    pub read: usize,
    /// Their bytes.
    pub read_size: u64,
    /// What is not as it should be, in the order of the oids.
    pub findings: Vec<Finding>,
    /// What was done about it.
    pub repaired: Repaired,
}

impl Report {
    /// Returns how many findings have a state.
    pub fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }
}

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which object.
    pub oid: Oid,
    /// How bad it is.
    pub state: State,
    /// The copies that are wrong, and why.
    pub flaws: Vec<(Key, String)>,
    /// The codec that keeps this version from telling.
    pub unknown: Option<CodecName>,
    /// Where it is needed, as far as this repository knows.
    pub uses: Vec<Use>,
}

/// Looks at a store as the request says.
///
/// # Errors
/// What the store, git or the local disk says: then nothing is known. Damage is no error, but a finding.
pub fn verify(transfer: &Transfer, request: &Request, watch: Watch<'_>) -> Result<Report> {
    let mut check = Check::begin(transfer, request)?;
    let mut report = check.count();
    if request.data.is_some() || !request.objects.is_empty() {
        let seen = read::read(transfer, &check.graph, &check.wanted(), watch)?;
        (report.read, report.read_size) = (seen.copies, seen.bytes);
        check.read = seen.flaws;
        check.is_read = true;
    }
    let mut suspects = check.look_again()?;
    if request.repair && !suspects.is_empty() {
        report.repaired = repair::repair(&mut check, &suspects)?;
        suspects = check.look_again()?;
    }
    report.findings = check.findings(&suspects)?;
    check.name_uses(&mut report.findings)?;
    Ok(report)
}

/// A check that is under way.
struct Check<'a> {
    transfer: &'a Transfer,
    request: &'a Request,
    graph: Graph,
    /// The pointers of all refs, where these are asked for.
    pointers: Option<Pointers>,
    /// What reading found.
    read: HashMap<CopyId, Flaw>,
    is_read: bool,
}

impl<'a> Check<'a> {
    fn begin(transfer: &'a Transfer, request: &'a Request) -> Result<Self> {
        // Before the listing: an object is stored before any ref needs it.
        let pointers = if request.refs { Some(transfer.pointers()?) } else { None };
        let graph = match request.objects[..] {
            [] => Graph::new(transfer.survey()?),
            _ => Graph::around(transfer, &request.objects)?,
        };
        let mut check = Self { transfer, request, graph, pointers, read: HashMap::new(), is_read: false };
        check.note_needed();
        Ok(check)
    }

    /// Tells the graph what pointers say.
    fn note_needed(&mut self) {
        for version in self.pointers.iter().flat_map(Pointers::versions) {
            self.graph.need(version);
        }
        for oid in &self.request.objects {
            self.graph.want(*oid);
        }
    }

    fn count(&self) -> Report {
        let folders = || self.graph.folders().filter(|(_, folder)| !folder.copies().is_empty());
        let copies =
            || folders().flat_map(|(_, folder)| folder.copies().iter().map(move |copy| (folder, copy)));
        Report {
            objects: folders().count(),
            copies: copies().count(),
            condemned: copies().filter(|(folder, copy)| folder.is_condemned(&copy.name.id)).count(),
            stored_size: copies().map(|(_, copy)| copy.size).sum(),
            ..Report::default()
        }
    }

    /// Returns the objects whose copies are to be read.
    fn wanted(&self) -> impl Fn(&Oid) -> bool + Sync + use<> {
        let objects: HashSet<Oid> = self.request.objects.iter().copied().collect();
        let subset = self.request.data.unwrap_or_default();
        move |oid| if objects.is_empty() { subset.holds(oid) } else { objects.contains(oid) }
    }

    /// Returns the objects that are in question.
    fn asked_for(&self) -> impl Fn(&Oid) -> bool + use<> {
        let objects: HashSet<Oid> = self.request.objects.iter().copied().collect();
        move |oid| objects.is_empty() || objects.contains(oid)
    }

    fn judge(&self) -> Judgement<'_> {
        Judgement::of(&self.graph, &self.read)
    }

    fn suspects(&self) -> BTreeSet<Oid> {
        let asked_for = self.asked_for();
        let judgement = self.judge();
        self.graph.oids().filter(|oid| asked_for(oid) && judgement.state(oid) != State::Sound).collect()
    }

    /// Returns what still looks wrong after it was looked at again, twice.
    fn look_again(&mut self) -> Result<BTreeSet<Oid>> {
        let mut suspects = self.suspects();
        for _ in 0..2 {
            if suspects.is_empty() {
                break;
            }
            tracing::debug!("{} objects look wrong: looking again", suspects.len());
            if suspects.len() > SUSPECTS_LOOKED_AT_ALONE && self.request.objects.is_empty() {
                self.graph.replace(self.transfer.survey()?);
            } else {
                self.graph.refresh(self.transfer, &suspects)?;
            }
            let still = self.suspects();
            suspects.retain(|oid| still.contains(oid));
        }
        Ok(suspects)
    }

    fn findings(&self, suspects: &BTreeSet<Oid>) -> Result<Vec<Finding>> {
        let judgement = self.judge();
        suspects.iter().map(|oid| self.finding(&judgement, *oid)).collect()
    }

    fn finding(&self, judgement: &Judgement<'_>, oid: Oid) -> Result<Finding> {
        let mut state = judgement.state(&oid);
        // A listing, or one copy, does not tell whether a reader would get the object all the same.
        if self.is_read && matches!(state, State::Damaged | State::Weakened) && !judgement.has_sound(&oid) {
            let yields = self.transfer.yielded(oid)?.is_some();
            state = if yields { State::Weakened } else { State::Damaged };
        }
        let flaws = judgement.flaws(&oid);
        let unknown = flaws.iter().find_map(|(_, flaw)| flaw.unknown());
        let flaws = flaws.into_iter().map(|(key, flaw)| (key, flaw.to_string())).collect();
        Ok(Finding { oid, state, flaws, unknown, uses: Vec::new() })
    }

    /// Names the commits and paths that need what was found, where there is a repository that knows them.
    fn name_uses(&self, findings: &mut [Finding]) -> Result<()> {
        let oids: HashSet<Oid> = findings.iter().map(|finding| finding.oid).collect();
        if oids.is_empty() {
            return Ok(());
        }
        let found = match &self.pointers {
            Some(pointers) => self.transfer.uses(pointers, &oids),
            None => self.transfer.pointers().and_then(|pointers| self.transfer.uses(&pointers, &oids)),
        };
        let mut uses: BTreeMap<Oid, Vec<Use>> = match found {
            Ok(uses) => uses,
            Err(Error::Git(error)) if self.pointers.is_none() => {
                tracing::info!(%error, "nobody knows who needs these objects");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for finding in findings {
            finding.uses = uses.remove(&finding.oid).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
