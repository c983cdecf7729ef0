//! The typed view of a store: objects, their copies, and when a copy may be relied upon.
//!
//! The rules named R1–R7 are those of `docs/protocol.md`. In short: a name is used once; a base is settled
//! before a delta on it is stored and looked at once more afterwards; "already stored" looks at the whole chain.
//!
//! What surprises: what the machine remembers (`memory`) only ever saves requests. That a copy is *there* is
//! looked at each time, because buckets get wiped and restored.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use crate::codec::{self, Header};
use crate::model::limits::{CHAIN_DEPTH_MAX, HEADER_MAX_BYTES, RANGES_MIN_BYTES};
use crate::model::{
    Chain, CopyId, CopyName, Entry, Hint, Key, KeyPrefix, Link, Nonce, Oid, Sketch, Space, StoredCopy,
};
use crate::store::{self, Body, Listed, Unfinished, Verb, Visit, WriteStore, get_bytes, put_bytes};

mod hints;
mod listings;
mod memory;
mod rules;
mod sealed;

use hints::Hints;
pub use listings::Folder;
use listings::Listings;
use memory::Memory;
pub use rules::Rules;

/// The format that this program reads and writes.
pub const FORMAT: u64 = 1;

/// Longest `lfs-delta.json` that is read.
const MANIFEST_MAX_BYTES: u64 = 64 * 1024;

/// What working with a store's objects can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There is a bucket or directory, but no store in it.
    #[error("there is no lfs-delta store in {store}")]
    NoStore {
        /// Where it was looked for.
        store: String,
    },
    /// The store was made or marked by a later version.
    #[error("the store {store} needs a later version of lfs-delta ({what})")]
    TooNew {
        /// Which store.
        store: String,
        /// Its format or the feature it needs.
        what: String,
    },
    /// `lfs-delta.json` is not what it should be.
    #[error("{key} of {store} is damaged")]
    Manifest {
        /// Which store.
        store: String,
        /// The file.
        key: Key,
    },
    /// A copy is not what its name says.
    #[error("{key} is damaged: {reason}")]
    Damaged {
        /// The copy.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// The randomness of the system failed.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// The outcome of working with a store's objects.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a base turned out to be after a delta on it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// There, and not condemned: the delta may be relied upon.
    Settled,
    /// Condemned or gone: the delta is not relied upon by us.
    Condemned,
}

/// Whether an object is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// By a copy that may be relied upon.
    Stored,
    /// Only by copies that may not: their chains have a gap, or are condemned.
    Broken,
    /// Not at all.
    Absent,
}

/// A copy that may serve as base: it is settled, and what reading it costs is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The copy and all below it.
    pub chain: Chain,
}

impl Settled {
    /// Returns which copy it is.
    pub fn id(&self) -> CopyId {
        // A chain is never empty: both makers put the copy itself first.
        self.chain.links[0].id
    }
}

/// Objects and copies of one store.
pub struct Depot {
    store: Box<dyn WriteStore>,
    listings: Listings,
    memory: Memory,
    hints: Mutex<Hints>,
    /// Sizes of large copies that were seen in listings and headers: they are fetched in another way.
    large: Mutex<HashMap<CopyId, u64>>,
    rules: Rules,
    /// Set once the store was looked at: the feature that keeps this program from writing, if there is one.
    opened: OnceLock<Option<String>>,
}

impl Depot {
    /// Wraps a store. `shared` is a folder of this machine that all its processes keep what they saw in; without
    /// one nothing is remembered.
    pub fn new(store: Box<dyn WriteStore>, shared: Option<PathBuf>) -> Self {
        Self {
            listings: Listings::new(shared.clone()),
            memory: Memory::new(shared),
            store,
            hints: Mutex::default(),
            large: Mutex::default(),
            rules: Rules::default(),
            opened: OnceLock::new(),
        }
    }

    /// Returns which rules of the protocol hold: all, but in tests.
    pub(crate) const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Leaves one of them out.
    #[cfg(test)]
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Names the store in messages.
    pub fn name(&self) -> String {
        self.store.name()
    }

    /// Checks once per process that there is a store, of a format that this program may read.
    ///
    /// One LIST; and one GET of `lfs-delta.json` where this machine has not read it yet.
    ///
    /// # Errors
    /// `NoStore`, `TooNew`, `Manifest`.
    pub fn open(&self) -> Result<()> {
        if self.opened.get().is_some() {
            return Ok(());
        }
        let about = self.about()?;
        if !about.exists {
            self.check_absence()?;
        }
        if let Some(feature) = about.needs_to_read.first() {
            return Err(self.too_new(feature));
        }
        if !self.memory.knows_format() {
            self.check_manifest()?;
            self.memory.remember_format();
        }
        // Only writing stops at what is needed to write, and only when something is to be written.
        self.opened.get_or_init(|| about.needs_to_write.into_iter().next());
        Ok(())
    }

    /// Asks once more, in another way, before a store is called absent: listings carry no checksum.
    fn check_absence(&self) -> Result<()> {
        match self.check_manifest() {
            Err(Error::Store(store::Error::NotFound { .. })) => Err(Error::NoStore { store: self.name() }),
            checked => checked,
        }
    }

    fn check_writable(&self) -> Result<()> {
        self.open()?;
        match self.opened.get() {
            Some(Some(feature)) => Err(self.too_new(&format!("{feature}, to write in it"))),
            _ => Ok(()),
        }
    }

    fn too_new(&self, what: &str) -> Error {
        Error::TooNew { store: self.name(), what: what.to_owned() }
    }

    fn about(&self) -> Result<About> {
        let mut about = About::default();
        let mut visit = |listed: Listed| {
            about.add(&listed.key);
            Visit::Continue
        };
        self.store.list(&KeyPrefix::about(), &mut visit)?;
        Ok(about)
    }

    /// Makes the store, or checks the one that is there: writes, reads and lists in it, `lfs-delta.json` last.
    ///
    /// Returns whether it was made.
    ///
    /// # Errors
    /// `TooNew`, `Manifest`, and what the store says.
    pub fn create(&self) -> Result<bool> {
        let exists = self.about()?.exists;
        if exists {
            self.check_manifest()?;
            self.check_writable()?;
        }
        self.probe()?;
        if !exists {
            match put_bytes(&*self.store, &Key::manifest(), manifest().as_bytes()) {
                // Somebody else made the same store meanwhile.
                Ok(()) | Err(store::Error::AlreadyExists { .. }) => self.check_manifest()?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(!exists)
    }

    /// Reads `lfs-delta.json`; twice where the first answer makes no sense, which may have been damaged on its way.
    fn check_manifest(&self) -> Result<()> {
        match self.read_manifest() {
            Err(Error::Manifest { .. }) => self.read_manifest(),
            checked => checked,
        }
    }

    fn read_manifest(&self) -> Result<()> {
        let damaged = || Error::Manifest { store: self.name(), key: Key::manifest() };
        let text = get_bytes(&*self.store, &Key::manifest(), MANIFEST_MAX_BYTES)?;
        let fields: serde_json::Value = serde_json::from_slice(&text).map_err(|_| damaged())?;
        match fields.get("format").and_then(serde_json::Value::as_u64).ok_or_else(damaged)? {
            FORMAT => Ok(()),
            format => Err(self.too_new(&format!("format {format}"))),
        }
    }

    fn probe(&self) -> Result<()> {
        let key = Key::probe(&self.nonce()?);
        let wrong = |reason: &str| store::Error::Unavailable {
            verb: Verb::Get,
            key: key.to_string(),
            reason: reason.to_owned(),
        };
        put_bytes(&*self.store, &key, key.as_str().as_bytes())?;
        if get_bytes(&*self.store, &key, 1024)? != key.as_str().as_bytes() {
            return Err(wrong("the store returned other bytes than it was given").into());
        }
        let mut seen = false;
        let mut visit = |listed: Listed| {
            seen |= listed.key == key.as_str();
            Visit::Continue
        };
        self.store.list(&KeyPrefix::of(&key), &mut visit)?;
        if !seen {
            return Err(wrong("the store does not list what it was given").into());
        }
        Ok(())
    }

    /// Records once that a repository pushes here, so that a later release knows whom to ask what is needed.
    ///
    /// `remote_url` must carry no password.
    ///
    /// # Errors
    /// What the store says.
    pub fn register(&self, remote_url: &str) -> Result<()> {
        let key = Key::repository(remote_url);
        if self.memory.knows_repository(&key) {
            return Ok(());
        }
        self.check_writable()?;
        let mut seen = false;
        self.store.list(&KeyPrefix::of(&key), &mut |_| {
            seen = true;
            Visit::Stop
        })?;
        if !seen {
            match put_bytes(&*self.store, &key, remote_url.as_bytes()) {
                Ok(()) | Err(store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.memory.remember_repository(&key);
        Ok(())
    }

    /// Lists the copies of an object, asking the store.
    ///
    /// # Errors
    /// What the store says.
    pub fn look(&self, oid: &Oid) -> Result<Folder> {
        self.open()?;
        let folder = self.listings.look_now(&*self.store, oid)?;
        self.note_sizes(folder.copies().iter().map(|copy| (copy.name.id, copy.size)));
        Ok(folder)
    }

    /// Lists all copies and tombstones, asking the store, and looks whether it still says what it is.
    ///
    /// # Errors
    /// `NoStore`, `TooNew`, `Manifest`, and what the store says.
    pub fn survey(&self) -> Result<BTreeMap<Oid, Folder>> {
        self.open()?;
        self.check_manifest()?;
        let folders = listings::survey(&*self.store)?;
        let copies = folders.values().flat_map(Folder::copies);
        self.note_sizes(copies.map(|copy| (copy.name.id, copy.size)));
        Ok(folders)
    }

    /// Condemns copies, for ever; whether they are there or not.
    ///
    /// What this machine saw before is forgotten: its next push must not rely on them.
    ///
    /// # Errors
    /// What the store says.
    pub fn condemn(&self, ids: impl IntoIterator<Item = CopyId>, reason: &str) -> Result<()> {
        self.check_writable()?;
        for id in ids {
            match put_bytes(&*self.store, &Key::tombstone(&id), format!("{reason}\n").as_bytes()) {
                Ok(()) | Err(store::Error::AlreadyExists { .. }) => self.memory.forget(&id.oid),
                Err(error) => return Err(error.into()),
            }
        }
        self.listings.forget();
        Ok(())
    }

    /// Returns whether a file is there, by asking for it and not for a listing.
    ///
    /// # Errors
    /// What the store says.
    pub fn is_there(&self, name: &CopyName) -> Result<bool> {
        match self.store.get(&Key::copy(name), Some(1)) {
            Ok(_) => Ok(true),
            Err(store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether a copy of an object was seen, by its folder's own listing. No request where there is one
    /// already; so a listing of everything that is a minute old does not make a whole upload happen in vain.
    ///
    /// # Errors
    /// What the store says.
    pub fn is_seen(&self, oid: &Oid) -> Result<bool> {
        self.open()?;
        Ok(!self.listings.look_alone(&*self.store, oid)?.copies().is_empty())
    }

    /// Lists the copies of an object, perhaps from a listing that is a minute old and shared with others.
    ///
    /// # Errors
    /// What the store says.
    pub fn look_recently(&self, oid: &Oid) -> Result<Folder> {
        self.open()?;
        let known = self.memory.get(oid).is_some();
        let folder = self.listings.look_recently(&*self.store, oid, known)?;
        self.note_sizes(folder.copies().iter().map(|copy| (copy.name.id, copy.size)));
        Ok(folder)
    }

    /// Finds out whether an object is stored so that it may be relied upon (R5): by a copy that is not condemned,
    /// on a base that is not condemned, with its whole chain present.
    ///
    /// # Errors
    /// What the store says.
    pub fn presence(&self, oid: &Oid) -> Result<Presence> {
        let folder = self.look_recently(oid)?;
        let mut presence = Presence::Absent;
        for copy in folder.uncondemned() {
            if !self.rules.hold("R5") || (self.is_whole(copy)? && self.is_settled(copy, folder.seen())?) {
                return Ok(Presence::Stored);
            }
            tracing::warn!(key = %Key::copy(&copy.name), "a copy that cannot be relied upon is passed over");
            presence = Presence::Broken;
        }
        Ok(presence)
    }

    /// Returns whether every copy of a chain is there.
    fn is_whole(&self, copy: &StoredCopy) -> Result<bool> {
        let mut seen = HashSet::from([copy.name.id]);
        let mut next = copy.name.base();
        while let Some(base) = next {
            if seen.len() > CHAIN_DEPTH_MAX || !seen.insert(base) {
                return Ok(false);
            }
            let recent = self.look_recently(&base.oid)?.find(&base);
            // A listing that is a minute old must not make a chain out to be broken.
            let found = if recent.is_some() { recent } else { self.look(&base.oid)?.find(&base) };
            let Some(found) = found else { return Ok(false) };
            next = found.name.base();
        }
        Ok(true)
    }

    /// Returns whether the rely rule holds or once held: the copy was seen, then no tombstone of its base.
    fn is_settled(&self, copy: &StoredCopy, seen: SystemTime) -> Result<bool> {
        let Some(base) = copy.name.base() else { return Ok(true) };
        if self.memory.get(&copy.name.id.oid).is_some_and(|settled| settled.id() == copy.name.id) {
            return Ok(true);
        }
        let folder = self.listings.look_after(&*self.store, &base.oid, seen)?;
        Ok(stands(&folder, &base) == Base::Settled)
    }

    /// Looks at a base after a delta on it was seen or stored (R4c).
    ///
    /// # Errors
    /// What the store says.
    pub fn base_of(&self, base: &CopyId) -> Result<Base> {
        if !self.rules.hold("R4c") {
            return Ok(Base::Settled);
        }
        Ok(stands(&self.look(&base.oid)?, base))
    }

    /// Finds a copy of an object that a delta may be built on (R4a), with what reading it costs.
    ///
    /// No request where the machine remembers one; else a listing of its folder, one of its base's, and
    /// the first bytes of the copy.
    ///
    /// # Errors
    /// What the store says. A copy whose header is damaged is passed over.
    pub fn find_base(&self, oid: &Oid) -> Result<Option<Settled>> {
        if let Some(settled) = self.memory.get(oid) {
            return Ok(Some(settled));
        }
        let folder = self.look_recently(oid)?;
        for copy in folder.uncondemned() {
            if self.rules.hold("R4a") && !self.is_settled(copy, folder.seen())? {
                continue;
            }
            match self.chain_of(copy) {
                Ok(chain) => {
                    let settled = Settled { chain };
                    self.memory.remember(oid, &settled, None);
                    return Ok(Some(settled));
                }
                Err(error @ Error::Damaged { .. }) => tracing::warn!(%error, "no base"),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Returns the settled copy of an object that this machine knows. No request.
    pub fn remembered(&self, oid: &Oid) -> Option<Settled> {
        self.memory.get(oid)
    }

    /// Returns whether this machine knows a settled copy of an object.
    pub fn remembers(&self, oid: &Oid) -> bool {
        self.remembered(oid).is_some()
    }

    /// Returns the hints of a DeltaSpace, at most `HINTS_MAX` of them. One LIST for the process, or one for each
    /// space where a store has many.
    ///
    /// They may be stale or wrong: whoever builds on one looks for a copy that may be relied upon.
    ///
    /// # Errors
    /// What the store says.
    pub fn hints(&self, space: &Space) -> Result<Vec<Hint>> {
        self.open()?;
        Ok(self.lock_hints().of(&*self.store, space)?.to_vec())
    }

    /// Leaves a hint that an object belongs to a DeltaSpace: an empty file, one PUT.
    ///
    /// # Errors
    /// What the store says.
    pub fn leave_hint(&self, space: &Space, hint: Hint) -> Result<()> {
        self.check_writable()?;
        put_bytes(&*self.store, &Key::hint(space, &hint), b"")?;
        self.lock_hints().add(space, hint);
        Ok(())
    }

    fn lock_hints(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets that a copy can be built on.
    pub fn distrust(&self, id: &CopyId) {
        self.memory.forget(&id.oid);
    }

    fn chain_of(&self, copy: &StoredCopy) -> Result<Chain> {
        let own = |object_size, written_size| Link {
            id: copy.name.id,
            codec: copy.name.codec(),
            object_size,
            stored_size: copy.size,
            written_size,
        };
        if copy.name.codec().is_none() {
            return Ok(Chain { links: vec![own(copy.size, copy.size)] });
        }
        let header = self.header(&copy.name)?;
        let mut links = vec![own(header.object_size, header.written_size)];
        links.extend(header.chain.links);
        Ok(Chain { links })
    }

    /// Reads the header of a copy that has one.
    ///
    /// # Errors
    /// `Damaged` when it is not that of this copy; what the store says.
    pub fn header(&self, name: &CopyName) -> Result<Header> {
        let key = Key::copy(name);
        let bytes = get_bytes(&*self.store, &key, HEADER_MAX_BYTES as u64)?;
        let header = Header::read(&mut &bytes[..]).map_err(|error| damaged(&key, &error))?;
        check_header(name, &header)?;
        Ok(header)
    }

    /// Opens a copy for reading; of one with a codec the header is read and checked first.
    ///
    /// # Errors
    /// `Damaged` when the header is not that of this copy; what the store says.
    pub fn read(&self, name: &CopyName) -> Result<Reading> {
        self.open()?;
        let key = Key::copy(name);
        let payload = match self.large_size(&name.id) {
            Some(size) => self.store.get_large(&key, size)?,
            None => self.store.get(&key, None)?,
        };
        self.read_from(name, payload)
    }

    /// Does so where the copy's bytes come from elsewhere: this machine may keep it.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read_from(&self, name: &CopyName, mut payload: Box<dyn std::io::Read + Send>) -> Result<Reading> {
        let key = Key::copy(name);
        if name.codec().is_none() {
            return Ok(Reading { header: None, payload });
        }
        let header = Header::read(&mut *payload).map_err(|error| match error {
            codec::Error::Io(source) => Error::Store(store::Error::from_read(&key, source)),
            other => damaged(&key, &other),
        })?;
        check_header(name, &header)?;
        self.note_sizes(header.chain.links.iter().map(|link| (link.id, link.stored_size)));
        Ok(Reading { header: Some(header), payload })
    }

    fn note_sizes(&self, sizes: impl Iterator<Item = (CopyId, u64)>) {
        let large = sizes.filter(|(_, size)| *size >= RANGES_MIN_BYTES);
        self.large.lock().unwrap_or_else(PoisonError::into_inner).extend(large);
    }

    fn large_size(&self, id: &CopyId) -> Option<u64> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// Returns a nonce that nobody has used.
    ///
    /// # Errors
    /// `Random`.
    pub fn nonce(&self) -> Result<Nonce> {
        let mut bytes = [0; 16];
        if !self.rules.hold("R1") {
            return Ok(Nonce::from_bytes(bytes));
        }
        getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
        Ok(Nonce::from_bytes(bytes))
    }

    /// Stores a copy under a name that was never used (R1): one PUT, one commit.
    ///
    /// # Errors
    /// What the store says. A name whose outcome is unknown is given up.
    pub fn publish(&self, name: &CopyName, body: &Body<'_>) -> Result<StoredCopy> {
        self.check_writable()?;
        self.store.put(&Key::copy(name), body)?;
        let copy = StoredCopy { name: *name, size: body.source.size() };
        self.listings.add(&copy);
        Ok(copy)
    }

    /// Finds an upload of a copy of this object that broke on this machine and may go on: the name is used for the same
    /// bytes, and nothing ever showed under it.
    ///
    /// A delta's base is looked at anew (R4a); one that is not settled any more ends the upload.
    ///
    /// # Errors
    /// What the store says of the base.
    pub fn unfinished(&self, oid: &Oid) -> Result<Option<Unfinished>> {
        let Some(found) = self.store.unfinished(oid)? else { return Ok(None) };
        let Some(base) = found.name.base() else { return Ok(Some(found)) };
        let folder = self.look(&base.oid)?;
        let copy = folder.find(&base).filter(|_| !folder.is_condemned(&base));
        if let Some(copy) = copy
            && self.is_settled(&copy, folder.seen())?
        {
            return Ok(Some(found));
        }
        tracing::info!(%base, "the base of an unfinished upload is condemned or gone: beginning anew");
        self.store.give_up(&Key::copy(&found.name));
        Ok(None)
    }

    /// Remembers on this machine that a copy is settled, what reading it costs, and what its object looks like where
    /// that is known.
    pub fn remember(&self, chain: Chain, sketch: Option<Sketch>) {
        if let Some(link) = chain.links.first() {
            let oid = link.id.oid;
            self.memory.remember(&oid, &Settled { chain }, sketch);
        }
    }

    /// Returns what an object looks like, where this machine knows a settled copy and has looked at it. No request.
    pub fn remembered_sketch(&self, oid: &Oid) -> Option<Option<Sketch>> {
        Some(self.memory.find(oid)?.sketch)
    }
}

fn stands(folder: &Folder, base: &CopyId) -> Base {
    if folder.find(base).is_some() && !folder.is_condemned(base) { Base::Settled } else { Base::Condemned }
}

/// A copy that is being read.
pub struct Reading {
    /// Its header, where it has one.
    pub header: Option<Header>,
    /// What follows.
    pub payload: Box<dyn std::io::Read + Send>,
}

fn check_header(name: &CopyName, header: &Header) -> Result<()> {
    let base = header.chain.links.first().map(|link| link.id);
    let chain_names_codecs = (0..header.chain.depth()).all(|index| header.chain.name(index).is_some());
    if header.id != name.id || base != name.base() || !chain_names_codecs {
        let reason = "its header belongs to another copy".into();
        return Err(Error::Damaged { key: Key::copy(name), reason });
    }
    Ok(())
}

fn damaged(key: &Key, error: &codec::Error) -> Error {
    Error::Damaged { key: key.clone(), reason: error.to_string() }
}

/// The content of `lfs-delta.json`: the same bytes whoever makes the store.
fn manifest() -> String {
    let about = "Git LFS objects as references and deltas, kept by lfs-delta. See docs/format.md of that project \
                 for how to restore them by hand.";
    format!("{{\n  \"format\": {FORMAT},\n  \"about\": \"{about}\"\n}}\n")
}

/// What the listing of `lfs-delta…` shows.
#[derive(Debug, Default)]
struct About {
    exists: bool,
    needs_to_read: Vec<String>,
    needs_to_write: Vec<String>,
}

impl About {
    fn add(&mut self, key: &str) {
        if key == Key::manifest().as_str() {
            self.exists = true;
        } else if let Some(feature) = key.strip_prefix("lfs-delta.needs.write.") {
            self.needs_to_write.push(feature.to_owned());
        } else if let Some(feature) = key.strip_prefix("lfs-delta.needs.") {
            // Also what is not spelled as expected: it was written by somebody who knew more.
            self.needs_to_read.push(feature.to_owned());
        }
    }
}

/// Sorts the keys of a listing into the folders of their objects; foreign keys are passed over.
fn entries(listed: &Listed) -> Option<(Oid, Entry)> {
    let entry = Entry::parse(&listed.key)?;
    let oid = match &entry {
        Entry::Copy(name) => name.id.oid,
        Entry::Tombstone(id) => id.oid,
    };
    Some((oid, entry))
}

#[cfg(test)]
mod tests;
