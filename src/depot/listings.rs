//! Listings, and how few of them do: folder by folder at first, then by shard, then everything at once.
//!
//! Listings of shards and of everything are kept for a minute in a folder that all processes of the machine
//! share, so that eight agents that find ten thousand objects already stored ask once.
//!
//! What surprises: a listing is not a snapshot. To rely on a delta, its base's tombstone must be looked for
//! *after* the delta was seen: so two listings are kept, the oldest to see copies in and the newest to look for
//! tombstones in. That an object *is* in a recent listing may be relied upon (R5), that it is *not* only
//! costs an upload. What this process stored itself is added, and what the machine knows to be stored is
//! looked up afresh before it is called absent.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::{entries, sealed};
use crate::cancel::Cancel;
use crate::clock::{self, Stopwatch};
use crate::disk;
use crate::model::limits::{LIST_ALL_MAX_ENTRIES, LISTING_AGE_MAX, LOOKS_BEFORE_ALL, LOOKS_BEFORE_SHARDS};
use crate::model::{CopyId, Entry, KeyPrefix, Nonce, Oid, StoredCopy};
use crate::store::{Listed, ReadStore, Result, Visit};

/// The copies and tombstones of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder {
    copies: Vec<StoredCopy>,
    tombstones: Vec<Nonce>,
    /// When the listing that shows it had ended.
    seen: Option<SystemTime>,
}

impl Folder {
    /// Returns when it was seen as it is.
    pub fn seen(&self) -> SystemTime {
        self.seen.unwrap_or_else(clock::now)
    }

    /// Returns all copies, condemned or not: readers do not look at tombstones (R7).
    pub fn copies(&self) -> &[StoredCopy] {
        &self.copies
    }

    /// Returns the copies that nothing condemns, whole ones first.
    pub fn uncondemned(&self) -> impl Iterator<Item = &StoredCopy> {
        let stands = |copy: &&StoredCopy| !self.is_condemned(&copy.name.id);
        let whole = self.copies.iter().filter(|copy| copy.name.base().is_none());
        let deltas = self.copies.iter().filter(|copy| copy.name.base().is_some());
        whole.chain(deltas).filter(stands)
    }

    /// Returns a copy by its id.
    pub fn find(&self, id: &CopyId) -> Option<StoredCopy> {
        self.copies.iter().find(|copy| copy.name.id == *id).copied()
    }

    /// Returns whether a copy's tombstone was seen.
    pub fn is_condemned(&self, id: &CopyId) -> bool {
        self.tombstones.contains(&id.nonce)
    }

    /// Drops the copies that a later listing does not show, and takes over what it says is condemned.
    pub fn keep_those_in(&mut self, later: &Self) {
        self.copies.retain(|copy| later.find(&copy.name.id).is_some());
        self.tombstones.clone_from(&later.tombstones);
    }

    fn add(&mut self, entry: Entry, size: u64) {
        match entry {
            Entry::Copy(name) => self.copies.push(StoredCopy { name, size }),
            Entry::Tombstone(id) => self.tombstones.push(id.nonce),
        }
    }
}

/// Which part of the store a listing shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    Shard(String),
    All,
}

impl Scope {
    fn prefix(&self) -> KeyPrefix {
        match self {
            Self::Shard(shard) => KeyPrefix::shard(shard),
            Self::All => KeyPrefix::objects(),
        }
    }

    fn file_name(&self) -> &str {
        match self {
            Self::Shard(shard) => shard,
            Self::All => "all",
        }
    }
}

#[derive(Debug)]
struct Listing {
    begun: Stopwatch,
    folders: HashMap<Oid, Folder>,
}

impl Listing {
    fn is_recent(&self) -> bool {
        self.begun.elapsed() <= LISTING_AGE_MAX
    }
}

#[derive(Debug, Default)]
struct State {
    /// Listings of single folders that were asked for.
    looks: usize,
    shard_listings: usize,
    too_large: bool,
    /// Oldest first.
    recent: HashMap<Scope, Vec<Arc<Listing>>>,
    /// Folders that were listed alone, or that this process added to.
    folders: HashMap<Oid, (Stopwatch, Folder)>,
}

/// The listings of one process, and those that the machine shares.
#[derive(Debug)]
pub(super) struct Listings {
    state: Mutex<State>,
    shared: Option<PathBuf>,
}

impl Listings {
    pub(super) fn new(shared: Option<PathBuf>) -> Self {
        Self { state: Mutex::default(), shared: shared.map(|folder| folder.join("listings")) }
    }

    /// Asks the store for one folder.
    pub(super) fn look_now(&self, store: &dyn ReadStore, oid: &Oid) -> Result<Folder> {
        let begun = Stopwatch::start();
        let mut folder = Folder::default();
        let mut visit = |listed: Listed| {
            if let Some((found, entry)) = entries(&listed)
                && found == *oid
            {
                folder.add(entry, listed.size);
            }
            Visit::Continue
        };
        store.list(&KeyPrefix::folder(oid), &mut visit)?;
        folder.seen = Some(clock::now());
        self.state().folders.insert(*oid, (begun, folder.clone()));
        Ok(folder)
    }

    /// Answers from a recent listing where there is one; `known` says that the machine knows a copy.
    pub(super) fn look_recently(&self, store: &dyn ReadStore, oid: &Oid, known: bool) -> Result<Folder> {
        if let Some(folder) = self.recent(oid) {
            return Ok(folder);
        }
        let Some(scope) = self.widen(oid, None) else { return self.look_now(store, oid) };
        let Some(listing) = self.list(store, &scope, None)? else { return self.look_now(store, oid) };
        match listing.folders.get(oid) {
            Some(folder) => Ok(folder.clone()),
            None if known => self.look_now(store, oid),
            None => Ok(Folder::default()),
        }
    }

    /// Answers from a listing of this very folder, and takes one where none was taken within a minute.
    pub(super) fn look_alone(&self, store: &dyn ReadStore, oid: &Oid) -> Result<Folder> {
        let alone =
            self.state().folders.get(oid).filter(|(begun, _)| begun.elapsed() <= LISTING_AGE_MAX).cloned();
        match alone {
            Some((_, folder)) => Ok(folder),
            None => self.look_now(store, oid),
        }
    }

    /// Answers from a listing that was begun after `seen`.
    pub(super) fn look_after(&self, store: &dyn ReadStore, oid: &Oid, seen: SystemTime) -> Result<Folder> {
        // Bound first: the lock must not be held any more when the next step takes it again.
        let alone = self.state().folders.get(oid).filter(|(begun, _)| begun.started() >= seen).cloned();
        if let Some((_, folder)) = alone {
            return Ok(folder);
        }
        let listing = match self.widen(oid, Some(seen)) {
            Some(scope) => self.list(store, &scope, Some(seen))?,
            None => None,
        };
        match listing.and_then(|listing| listing.folders.get(oid).cloned()) {
            Some(folder) => Ok(folder),
            None => self.look_now(store, oid),
        }
    }

    /// Forgets what was seen, here and where the processes of this machine share it.
    pub(super) fn forget(&self) {
        *self.state() = State::default();
        let shared = self.shared.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
        for path in shared.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "lock") {
                // What cannot be removed is a minute old soon.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Adds a copy that this process stored.
    pub(super) fn add(&self, copy: &StoredCopy) {
        let mut state = self.state();
        let entry = state.folders.entry(copy.name.id.oid);
        entry.or_insert_with(|| (Stopwatch::start(), Folder::default())).1.copies.push(*copy);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a folder that was seen within the last minute, if it shows anything.
    fn recent(&self, oid: &Oid) -> Option<Folder> {
        let state = self.state();
        let alone = state.folders.get(oid).filter(|(begun, _)| begun.elapsed() <= LISTING_AGE_MAX);
        let shard = state.recent.get(&Scope::Shard(oid.shard()));
        let wide = [state.recent.get(&Scope::All), shard].into_iter().flatten().flatten();
        let mut found =
            wide.filter(|listing| listing.is_recent()).filter_map(|listing| listing.folders.get(oid));
        let found = alone.map(|(_, folder)| folder).or_else(|| found.next());
        found.filter(|folder| !folder.copies.is_empty()).cloned()
    }

    /// Chooses what to list next: more, the more often this process asks, and what another has listed anyway.
    /// `None` is the object's own folder.
    fn widen(&self, oid: &Oid, seen: Option<SystemTime>) -> Option<Scope> {
        let mut state = self.state();
        state.looks += 1;
        if state.looks <= LOOKS_BEFORE_SHARDS {
            return None;
        }
        let enough = state.shard_listings >= LOOKS_BEFORE_ALL && !state.too_large;
        if enough || self.others_listed(&Scope::All, seen) {
            return Some(Scope::All);
        }
        Some(Scope::Shard(oid.shard()))
    }

    /// Returns whether this machine shares a recent listing of a scope, begun after `seen` where that is given.
    fn others_listed(&self, scope: &Scope, seen: Option<SystemTime>) -> bool {
        let Some(folder) = &self.shared else { return false };
        let begun = std::fs::metadata(folder.join(scope.file_name())).and_then(|data| data.modified());
        begun.is_ok_and(|begun| clock::age(begun) <= LISTING_AGE_MAX && seen.is_none_or(|seen| begun >= seen))
    }

    /// Returns a recent listing of a scope, taken by this process or another, or takes one; only one begun
    /// after `seen`, where that is given.
    ///
    /// `None` when there is too much to list.
    fn list(
        &self,
        store: &dyn ReadStore,
        scope: &Scope,
        seen: Option<SystemTime>,
    ) -> Result<Option<Arc<Listing>>> {
        let fits = |listing: &Listing| {
            listing.is_recent() && seen.is_none_or(|seen| listing.begun.started() >= seen)
        };
        let held = self.state().recent.get(scope).and_then(|all| all.iter().find(|one| fits(one)).cloned());
        if held.is_some() {
            return Ok(held);
        }
        // Only one process of the machine asks; the others wait for what it saw.
        let _lock = self.shared.as_ref().and_then(|folder| {
            let path = folder.join(format!("{}.lock", scope.file_name()));
            disk::Lock::wait(&path, &Cancel::default()).ok()
        });
        let listing = match self.read_shared(scope).filter(fits) {
            Some(listing) => listing,
            None => match self.take(store, scope)? {
                Some(listing) => listing,
                None => return Ok(None),
            },
        };
        let listing = Arc::new(listing);
        let mut state = self.state();
        let all = state.recent.entry(scope.clone()).or_default();
        all.retain(|other| other.is_recent());
        all.push(Arc::clone(&listing));
        Ok(Some(listing))
    }

    fn take(&self, store: &dyn ReadStore, scope: &Scope) -> Result<Option<Listing>> {
        let begun = Stopwatch::start();
        let mut listed = Vec::new();
        let mut visit = |one| {
            listed.push(one);
            if listed.len() > LIST_ALL_MAX_ENTRIES { Visit::Stop } else { Visit::Continue }
        };
        store.list(&scope.prefix(), &mut visit)?;
        if listed.len() > LIST_ALL_MAX_ENTRIES {
            self.state().too_large = true;
            return Ok(None);
        }
        if let Scope::Shard(_) = scope {
            self.state().shard_listings += 1;
        }
        self.write_shared(scope, &listed, begun);
        Ok(Some(Listing { begun, folders: sort(&listed, clock::now()) }))
    }

    fn read_shared(&self, scope: &Scope) -> Option<Listing> {
        let path = self.shared.as_ref()?.join(scope.file_name());
        let begun = std::fs::metadata(&path).and_then(|data| data.modified()).ok()?;
        let text = String::from_utf8(sealed::read(&path)?).ok()?;
        let line = |line: &str| {
            let (size, key) = line.split_once(' ')?;
            Some(Listed { key: key.to_owned(), size: size.parse().ok()? })
        };
        let listed: Option<Vec<_>> = text.lines().map(line).collect();
        Some(Listing { begun: Stopwatch::since(begun), folders: sort(&listed?, clock::now()) })
    }

    /// Shares a listing; the file's time is when the listing began.
    fn write_shared(&self, scope: &Scope, listed: &[Listed], begun: Stopwatch) {
        let Some(folder) = &self.shared else { return };
        let mut text = String::new();
        for Listed { key, size } in listed.iter().filter(|listed| entries(listed).is_some()) {
            text.push_str(&format!("{size} {key}\n"));
        }
        let path = folder.join(scope.file_name());
        match sealed::write(&path, text.as_bytes()) {
            Ok(()) => disk::set_time(&path, begun.started()),
            Err(error) => tracing::debug!(%error, "cannot share a listing"),
        }
    }
}

/// Lists everything, whatever was seen before.
pub(super) fn survey(store: &dyn ReadStore) -> Result<BTreeMap<Oid, Folder>> {
    let mut folders: BTreeMap<Oid, Folder> = BTreeMap::new();
    let mut visit = |listed: Listed| {
        if let Some((oid, entry)) = entries(&listed) {
            folders.entry(oid).or_default().add(entry, listed.size);
        }
        Visit::Continue
    };
    store.list(&KeyPrefix::objects(), &mut visit)?;
    let seen = Some(clock::now());
    folders.values_mut().for_each(|folder| folder.seen = seen);
    Ok(folders)
}

fn sort(listed: &[Listed], seen: SystemTime) -> HashMap<Oid, Folder> {
    let mut folders: HashMap<Oid, Folder> = HashMap::new();
    for one in listed {
        if let Some((oid, entry)) = entries(one) {
            let folder = folders.entry(oid).or_default();
            folder.seen = Some(seen);
            folder.add(entry, one.size);
        }
    }
    folders
}
