//! The graph of a listing, and what it says of each object. Judging is pure: it opens nothing.
//!
//! What surprises: a copy that is built on a condemned one is no damage beside a sound copy of its object. It is what
//! an upload leaves behind whose base was condemned meanwhile, and nobody relies on it.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::codec::Header;
use crate::depot::Folder;
use crate::error::Result;
use crate::git::Version;
use crate::model::limits::CHAIN_DEPTH_MAX;
use crate::model::{CodecName, CopyId, Key, Oid, StoredCopy};
use crate::transfer::Transfer;

/// How an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Some copy may be relied upon, and none is wrong.
    Sound,
    /// It can be restored; but a copy is wrong, or none may be relied upon.
    Weakened,
    /// Only a later version of this program can tell.
    Unknown,
    /// No copy restores it.
    Damaged,
    /// A ref needs it, and there is no copy.
    Missing,
}

impl State {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Weakened => "weakened",
            Self::Unknown => "unknown",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
        }
    }
}

/// What is wrong with a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Its base is not there.
    Gap {
        /// Which base.
        base: CopyId,
    },
    /// Its base was condemned, and is not there any more.
    Collected {
        /// Which base.
        base: CopyId,
    },
    /// A copy of its chain is condemned: nothing may rely on it.
    OnCondemned {
        /// Which copy.
        base: CopyId,
    },
    /// It is condemned itself.
    Condemned,
    /// It cannot be what its name says.
    Implausible {
        /// Why not.
        reason: String,
    },
    /// It was read, and does not yield its object.
    Wrong {
        /// Why not.
        reason: String,
    },
    /// A copy of its chain is wrong.
    Below {
        /// Which copy.
        base: CopyId,
    },
    /// Its chain has no end within the bound.
    Endless,
    /// It, or a copy of its chain, needs a later version of this program.
    Unknown {
        /// The codec.
        codec: CodecName,
    },
}

impl Flaw {
    /// Returns whether the copy cannot be restored as its name says.
    pub(super) const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Gap { .. }
                | Self::Implausible { .. }
                | Self::Wrong { .. }
                | Self::Below { .. }
                | Self::Endless
        )
    }

    /// Returns whether its own bytes are wrong, whatever its base is.
    pub(super) const fn is_own(&self) -> bool {
        matches!(self, Self::Implausible { .. } | Self::Wrong { .. } | Self::Endless)
    }

    /// Returns the codec that is not known.
    pub(super) const fn unknown(&self) -> Option<CodecName> {
        match self {
            Self::Unknown { codec } => Some(*codec),
            _ => None,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { base } => write!(f, "its base {base} is not there"),
            Self::Collected { base } => write!(f, "its base {base} was condemned and is gone"),
            Self::OnCondemned { base } => write!(f, "{base} in its chain is condemned"),
            Self::Condemned => f.write_str("it is condemned"),
            Self::Implausible { reason } | Self::Wrong { reason } => f.write_str(reason),
            Self::Below { base } => write!(f, "{base} in its chain is wrong"),
            Self::Endless => write!(f, "its chain is longer than {CHAIN_DEPTH_MAX} copies, or a circle"),
            Self::Unknown { codec } => write!(f, "codec {codec} is not known to this version"),
        }
    }
}

/// What was listed, and what is needed.
#[derive(Debug, Default)]
pub(super) struct Graph {
    folders: BTreeMap<Oid, Folder>,
    /// Objects that must be there, and their sizes where a pointer says them.
    needed: BTreeMap<Oid, Option<u64>>,
}

impl Graph {
    pub(super) fn new(folders: BTreeMap<Oid, Folder>) -> Self {
        Self { folders, needed: BTreeMap::new() }
    }

    /// Lists some objects, and whatever they are built on.
    pub(super) fn around(transfer: &Transfer, oids: &[Oid]) -> Result<Self> {
        let mut graph = Self::default();
        graph.refresh(transfer, &oids.iter().copied().collect())?;
        Ok(graph)
    }

    /// Lists some objects again, and whatever they are built on: bases after what is built on them was seen, and that
    /// once more afterwards.
    pub(super) fn refresh(&mut self, transfer: &Transfer, oids: &BTreeSet<Oid>) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut next: Vec<Oid> = oids.iter().copied().collect();
        while let Some(oid) = next.pop() {
            if seen.insert(oid) {
                let folder = transfer.look(&oid)?;
                next.extend(folder.copies().iter().filter_map(|copy| copy.name.base()).map(|base| base.oid));
                self.folders.insert(oid, folder);
            }
        }
        for oid in oids {
            let again = transfer.look(oid)?;
            if let Some(folder) = self.folders.get_mut(oid) {
                folder.keep_those_in(&again);
            }
        }
        Ok(())
    }

    pub(super) fn replace(&mut self, folders: BTreeMap<Oid, Folder>) {
        self.folders = folders;
    }

    /// Says that an object must be there, of this size.
    pub(super) fn need(&mut self, version: Version) {
        self.needed.insert(version.oid, Some(version.size));
    }

    /// Says that an object must be there.
    pub(super) fn want(&mut self, oid: Oid) {
        self.needed.entry(oid).or_default();
    }

    pub(super) fn folders(&self) -> impl Iterator<Item = (&Oid, &Folder)> {
        self.folders.iter()
    }

    /// Returns all objects that are there or needed.
    pub(super) fn oids(&self) -> impl Iterator<Item = Oid> {
        let oids: BTreeSet<Oid> = self.folders.keys().chain(self.needed.keys()).copied().collect();
        oids.into_iter()
    }

    pub(super) fn folder(&self, oid: &Oid) -> Option<&Folder> {
        self.folders.get(oid)
    }

    fn find(&self, id: &CopyId) -> Option<StoredCopy> {
        self.folder(&id.oid)?.find(id)
    }

    pub(super) fn is_condemned(&self, id: &CopyId) -> bool {
        self.folder(&id.oid).is_some_and(|folder| folder.is_condemned(id))
    }

    /// Says why a copy cannot be what its name says, as far as a listing tells.
    fn implausible(&self, copy: &StoredCopy) -> Option<String> {
        let size = copy.size;
        if copy.name.codec().is_none() {
            let announced = self.needed.get(&copy.name.id.oid).copied().flatten();
            let is_empty = copy.name.id.oid == Oid::of(b"");
            return match announced {
                Some(expected) if expected != size => {
                    Some(format!("it has {size} bytes, and its object {expected}"))
                }
                None if (size == 0) != is_empty => Some(format!("it has {size} bytes")),
                _ => None,
            };
        }
        // The chain record has an entry for each copy below, and a payload is never empty.
        let least = Header::size(self.links_below(copy)) as u64;
        (size <= least).then(|| format!("it has {size} bytes, and its header alone {least}"))
    }

    fn links_below(&self, copy: &StoredCopy) -> usize {
        let (mut links, mut next) = (0, copy.name.base());
        while let Some(base) = next.filter(|_| links + 1 < CHAIN_DEPTH_MAX) {
            links += 1;
            next = self.find(&base).and_then(|base| base.name.base());
        }
        links
    }
}

/// What is known of one copy.
#[derive(Debug, Clone)]
struct Known {
    flaw: Option<Flaw>,
    /// Copies in its chain, as far as they were followed.
    depth: usize,
}

/// What a graph and the bytes that were read say together.
pub(super) struct Judgement<'a> {
    graph: &'a Graph,
    read: &'a HashMap<CopyId, Flaw>,
    known: RefCell<HashMap<CopyId, Known>>,
    restorable: OnceCell<HashSet<Oid>>,
}

impl<'a> Judgement<'a> {
    pub(super) fn of(graph: &'a Graph, read: &'a HashMap<CopyId, Flaw>) -> Self {
        Self { graph, read, known: RefCell::default(), restorable: OnceCell::new() }
    }

    /// Returns what is wrong with a copy that is there.
    pub(super) fn flaw(&self, copy: &StoredCopy) -> Option<Flaw> {
        self.known(copy, CHAIN_DEPTH_MAX).flaw
    }

    /// Judges a copy, going down at most `limit` links.
    fn known(&self, copy: &StoredCopy, limit: usize) -> Known {
        if let Some(known) = self.known.borrow().get(&copy.name.id) {
            return known.clone();
        }
        let below = copy.name.base().map(|base| self.below(base, limit));
        let depth = below.as_ref().map_or(1, |below| below.depth + 1);
        let flaw = match self.own_flaw(copy) {
            Some(own) => Some(own),
            None if depth > CHAIN_DEPTH_MAX => Some(Flaw::Endless),
            None => below.and_then(|below| below.flaw),
        };
        let known = Known { flaw, depth };
        // A walk that was given up says nothing of the copies on its way, but of the one that it began with.
        if depth <= CHAIN_DEPTH_MAX || limit == CHAIN_DEPTH_MAX {
            self.known.borrow_mut().insert(copy.name.id, known.clone());
        }
        known
    }

    /// Says what a base makes of a copy that is built on it, and how long the base's chain is.
    fn below(&self, base: CopyId, limit: usize) -> Known {
        let is_condemned = self.graph.is_condemned(&base);
        let Some(found) = self.graph.find(&base) else {
            let flaw = if is_condemned { Flaw::Collected { base } } else { Flaw::Gap { base } };
            return Known { flaw: Some(flaw), depth: 0 };
        };
        if limit == 0 {
            return Known { flaw: None, depth: CHAIN_DEPTH_MAX };
        }
        let Known { flaw, depth } = self.known(&found, limit - 1);
        let flaw = match flaw {
            Some(Flaw::Unknown { codec }) => Some(Flaw::Unknown { codec }),
            // Whether that base is wrong as well makes no difference: who stored this copy does not rely on it.
            _ if is_condemned => Some(Flaw::OnCondemned { base }),
            Some(same @ (Flaw::OnCondemned { .. } | Flaw::Below { .. })) => Some(same),
            Some(_) => Some(Flaw::Below { base }),
            None => None,
        };
        Known { flaw, depth }
    }

    fn own_flaw(&self, copy: &StoredCopy) -> Option<Flaw> {
        let read = self.read.get(&copy.name.id).cloned();
        read.or_else(|| self.graph.implausible(copy).map(|reason| Flaw::Implausible { reason }))
    }

    /// Returns whether an object has a copy that may be relied upon.
    pub(super) fn has_sound(&self, oid: &Oid) -> bool {
        let copies = self.graph.folder(oid).map(Folder::uncondemned).into_iter().flatten();
        copies.into_iter().any(|copy| self.flaw(copy).is_none())
    }

    /// Returns how an object is.
    pub(super) fn state(&self, oid: &Oid) -> State {
        let Some(folder) = self.graph.folder(oid).filter(|folder| !folder.copies().is_empty()) else {
            let is_needed = self.graph.needed.contains_key(oid);
            return if is_needed { State::Missing } else { State::Sound };
        };
        if self.has_sound(oid) {
            let is_wrong = |copy: &StoredCopy| self.flaw(copy).is_some_and(|flaw| flaw.is_damage());
            let is_weakened = folder.uncondemned().any(is_wrong);
            return if is_weakened { State::Weakened } else { State::Sound };
        }
        if self.is_restorable(oid) {
            return State::Weakened;
        }
        let is_unknown = |copy: &StoredCopy| self.flaw(copy).is_some_and(|flaw| flaw.unknown().is_some());
        if folder.copies().iter().any(is_unknown) { State::Unknown } else { State::Damaged }
    }

    /// Returns whether a reader would get an object, from copies of any kind: of a base any copy serves.
    fn is_restorable(&self, oid: &Oid) -> bool {
        self.restorable.get_or_init(|| self.find_restorable()).contains(oid)
    }

    /// Finds all objects that a reader would get: from whole copies upwards, so that circles are never entered.
    fn find_restorable(&self) -> HashSet<Oid> {
        let mut above: HashMap<Oid, Vec<Oid>> = HashMap::new();
        let mut level = Vec::new();
        let copies = self.graph.folders().flat_map(|(_, folder)| folder.copies());
        for copy in copies.filter(|copy| self.own_flaw(copy).is_none()) {
            match copy.name.base() {
                None => level.push(copy.name.id.oid),
                Some(base) => above.entry(base.oid).or_default().push(copy.name.id.oid),
            }
        }
        let mut found = HashSet::new();
        for _ in 0..CHAIN_DEPTH_MAX {
            level.retain(|oid| found.insert(*oid));
            level = level.iter().filter_map(|oid| above.get(oid)).flatten().copied().collect();
        }
        found
    }

    /// Returns what is wrong with the copies of an object.
    pub(super) fn flaws(&self, oid: &Oid) -> Vec<(Key, Flaw)> {
        let Some(folder) = self.graph.folder(oid) else { return Vec::new() };
        let has_sound = self.has_sound(oid);
        let flaw = |copy: &StoredCopy| {
            let is_condemned = folder.is_condemned(&copy.name.id);
            let flaw = self.flaw(copy).or(is_condemned.then_some(Flaw::Condemned))?;
            // Beside a sound copy only damage that nobody condemned yet is worth a word.
            (!has_sound || (flaw.is_damage() && !is_condemned)).then(|| (Key::copy(&copy.name), flaw))
        };
        folder.copies().iter().filter_map(flaw).collect()
    }
}
