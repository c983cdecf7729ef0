//! The two lines of the program: an object to the store (`upload`), an object from it (`download`).
//!
//! Both are given an oid and a size, and nothing else. Paths and earlier versions come from git and only ever
//! save bytes; what a reader needs is in the store.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::cache::Cache;
use crate::cancel::Cancel;
use crate::codec::{Effort, Watch, Work};
use crate::config::Settings;
use crate::depot::{self, Depot};
use crate::disk::{self, Bytes, Fingerprint, Workspace};
use crate::error::{Error, Result};
use crate::git::place::{object_path, shared_mode};
use crate::git::{Blobs, Config, Families, Git, Names, Operation, Place, Version};
use crate::model::limits::SMALL_OBJECT_MAX_BYTES;
use crate::model::{CodecName, Hasher, Location, Oid, Sketch};

mod budget;
mod by_hand;
mod candidates;
mod download;
mod draft;
mod history;
mod inspect;
mod lookup;
mod progress;
mod resume;
mod upload;

pub(crate) use budget::{Budget, Permit};
pub use by_hand::{ByHand, Put, Wanted};
pub use inspect::{Keep, Rebuilt};
pub use progress::Meter;
pub use upload::Stored;

/// Everything that transfers of one process share.
pub struct Transfer {
    depot: Depot,
    cache: Cache,
    git: Git,
    blobs: Blobs,
    /// Where git-lfs keeps its objects.
    lfs_folder: PathBuf,
    workspace: Workspace,
    /// Where what git said is shared; none where nothing can be.
    names_folder: Option<PathBuf>,
    /// Where locks are; none where nothing can be shared.
    lock_folder: Option<PathBuf>,
    effort: Effort,
    budget: Budget,
    /// The rights of downloaded files, where the repository asks for special ones.
    file_mode: Option<u32>,
    remote: String,
    repair: bool,
    /// The remote's URL, where pushes are to be recorded.
    registration: Option<String>,
    registered: OnceLock<()>,
    unpushed: OnceLock<Option<Names>>,
    everything: OnceLock<Option<Names>>,
    families: OnceLock<Option<Families>>,
    /// What `deltaspace-cold` says of the paths of either.
    unpushed_colds: OnceLock<HashMap<Vec<u8>, u64>>,
    all_colds: OnceLock<HashMap<Vec<u8>, u64>>,
    /// Questions about blobs so far.
    questions: AtomicUsize,
    /// What git said of all refs.
    refs: OnceLock<Option<Vec<u8>>>,
    sketches: Mutex<HashMap<Oid, Sketch>>,
    /// How long the transfer of one object may take.
    patience: Option<Duration>,
    cancel: Cancel,
}

/// Fails once somebody wants to write to bytes that are held.
fn check(held: &[&Bytes]) -> io::Result<()> {
    held.iter().try_for_each(|bytes| bytes.check())
}

/// How a file is read into one piece: copied or held.
type Reading =
    fn(&Workspace, &mut File, u64, &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Option<Bytes>>;

/// What a transfer is for.
#[derive(Debug, Clone)]
pub struct Session {
    /// Up or down.
    pub operation: Operation,
    /// The remote's name, or the URL that git was given in its place.
    pub remote: String,
    /// The store, where the command line names it.
    pub store: Option<String>,
    /// How much time a smaller result is worth, where the command line says so.
    pub effort: Option<Effort>,
    /// The AWS profile, where the command line says so.
    pub profile: Option<String>,
    /// Whether an object that seems to be stored is read first, and stored again where that fails.
    pub repair: bool,
}

impl Transfer {
    /// Resolves settings and store for a session in the repository around `folder`. Contacts nothing.
    ///
    /// # Errors
    /// Settings, git, and a local disk that cannot be written.
    pub fn open(folder: &Path, session: &Session, cancel: &Cancel) -> Result<Self> {
        let git = Git::new(folder.to_path_buf(), Duration::from_secs(60), cancel.clone());
        let place = Place::find(&git)?;
        let config = Config::read(&git, &place)?;
        let mut settings = Settings::read(&config)?;
        if session.profile.is_some() {
            settings.s3.access.profile = session.profile.clone();
        }
        let location =
            settings.location(session.store.as_deref(), &config, session.operation, &session.remote)?;
        let cancel = &cancel.with_own_deadline();
        let store = settings.open(&location, cancel);
        let git = Git::new(folder.to_path_buf(), settings.git_patience, cancel.clone());
        let lfs_folder = place.lfs_folder(&config);
        Self::with_store(
            Parts { git, lfs_folder, config, settings, location, session: session.clone() },
            store,
            cancel,
        )
    }

    /// Builds the transfer around a store.
    fn with_store(parts: Parts, store: Box<dyn crate::store::WriteStore>, cancel: &Cancel) -> Result<Self> {
        let Parts { git, lfs_folder, config, settings, location, session } = parts;
        let temporary = lfs_folder.join("tmp");
        let workspace = Workspace::create(&temporary, settings.leftover_age)
            .map_err(|source| Error::disk(format!("use {}", temporary.display()), source))?;
        let private = settings.cache_folder.clone().filter(|folder| usable(folder));
        // Without a folder that all agents share, each has the whole budget: a workspace of its own serves.
        let slots =
            private.as_deref().map_or_else(|| workspace.path().join("slots"), |folder| folder.join("slots"));
        let budget = Budget::new(&slots, &settings);
        let shared = private.as_ref().and_then(|_| settings.store_folder(&location));
        Ok(Self {
            depot: Depot::new(store, shared.clone()),
            names_folder: private.as_ref().map(|folder| folder.join("names")),
            cache: Cache::new(private, settings.cache_max_bytes),
            lock_folder: shared.map(|folder| folder.join("locks")),
            lfs_folder,
            workspace,
            effort: session.effort.unwrap_or(settings.effort),
            budget,
            file_mode: shared_mode(&config),
            registration: settings.register.then(|| remote_url(&config, &session.remote)).flatten(),
            remote: session.remote,
            repair: session.repair,
            registered: OnceLock::new(),
            unpushed: OnceLock::new(),
            everything: OnceLock::new(),
            families: OnceLock::new(),
            unpushed_colds: OnceLock::new(),
            all_colds: OnceLock::new(),
            questions: AtomicUsize::new(0),
            refs: OnceLock::new(),
            sketches: Mutex::default(),
            blobs: Blobs::new(git.clone()),
            git,
            patience: settings.transfer_patience,
            cancel: cancel.clone(),
        })
    }

    /// Returns the folder of this process' temporary files.
    pub fn workspace(&self) -> &Path {
        self.workspace.path()
    }

    /// Does the work of one transfer in the time that it may take.
    fn in_time<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.cancel.set_deadline(self.patience);
        let outcome = work();
        let late = self.patience.filter(|_| self.cancel.is_late());
        self.cancel.set_deadline(None);
        match (outcome, late) {
            (Err(Error::Cancelled), Some(patience)) => Err(Error::Late { patience }),
            (outcome, _) => outcome,
        }
    }

    fn depot_error(&self, source: depot::Error) -> Error {
        match source {
            depot::Error::Store(crate::store::Error::Cancelled) => Error::Cancelled,
            source => Error::Depot { store: self.depot.name(), source },
        }
    }

    /// Counts work, and fails once it is cancelled.
    fn step(&self, meter: &Meter, done: u64) -> io::Result<()> {
        meter.add(done);
        self.workspace.refresh_now_and_then();
        self.cancel.check()
    }

    /// The same while bytes are held: fails as well once somebody wants to write to them.
    fn step_on(&self, held: &[&Bytes], meter: &Meter, done: u64) -> io::Result<()> {
        check(held)?;
        self.step(meter, done)
    }

    /// Waits for a share of the machine to decode with, where the codec needs one.
    fn permit(&self, codec: CodecName, size: u64) -> Result<Permit> {
        match codec {
            CodecName::ZSTD => Ok(Permit::small()),
            _ => self.budget.wait(size, &self.cancel),
        }
    }

    /// Returns what codecs work with.
    fn work<'a>(&'a self, permit: &Permit, watch: Watch<'a>) -> Work<'a> {
        let (effort, memory) = (self.effort, self.budget.share_bytes());
        Work { effort, threads: permit.threads(), memory, scratch: &self.workspace, watch }
    }

    /// Returns where git-lfs or the cache has an object of this size; its bytes are not proven.
    fn at_hand(&self, version: Version) -> Option<PathBuf> {
        self.local_file(version).or_else(|| self.cache.find(&version.oid, version.size))
    }

    fn local_file(&self, version: Version) -> Option<PathBuf> {
        let path = object_path(&self.lfs_folder, &version.oid);
        std::fs::metadata(&path)
            .is_ok_and(|data| data.is_file() && data.len() == version.size)
            .then_some(path)
    }

    /// Reads an object that is at hand into one piece and proves it; what is wrong is not used.
    fn read_at_hand(&self, version: Version, meter: &Meter) -> Result<Option<Bytes>> {
        self.read_at_hand_by(Workspace::copy_of, version, meter)
    }

    fn read_at_hand_by(&self, read: Reading, version: Version, meter: &Meter) -> Result<Option<Bytes>> {
        let cached = || self.cache.find(&version.oid, version.size);
        for (path, is_cached) in [(self.local_file(version), false), (cached(), true)] {
            let Some(path) = path else { continue };
            match self.read_proven(read, &path, version, meter) {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) if is_cached => self.cache.drop_wrong(&version.oid),
                Ok(None) => {
                    tracing::warn!(path = %path.display(), "git-lfs' own object is damaged: run git lfs fsck")
                }
                Err(error) if crate::cancel::is_cancelled(&error) => return Err(Error::Cancelled),
                Err(error) => tracing::warn!(path = %path.display(), %error, "cannot be read"),
            }
        }
        Ok(None)
    }

    /// Reads a file into one piece; `None` when it is not the object.
    fn read_proven(
        &self,
        read: Reading,
        path: &Path,
        version: Version,
        meter: &Meter,
    ) -> io::Result<Option<Bytes>> {
        let mut hasher = Hasher::default();
        let read = read(&self.workspace, &mut File::open(path)?, version.size, &mut |bytes| {
            hasher.update(bytes);
            self.step(meter, bytes.len() as u64)
        })?;
        Ok(read.filter(|_| hasher.finish() == version.oid || !self.depot.rules().hold("R2")))
    }

    /// Looks whether a local file may be the object, and tells what shows that it changes later.
    ///
    /// Whether it is the object turns out when it is read to be stored: whatever is published is hashed on the way.
    fn look_at_local(&self, path: &Path, version: Version) -> Result<Fingerprint> {
        let fingerprint = File::open(path).and_then(|file| Fingerprint::of(&file));
        let fingerprint = fingerprint.map_err(|source| local_failed(path, source))?;
        if fingerprint.size() != version.size && self.depot.rules().hold("R2") {
            return Err(Error::LocalCorrupt { path: path.to_path_buf(), found: self.hash_local(path)? });
        }
        Ok(fingerprint)
    }

    fn hash_local(&self, path: &Path) -> Result<Oid> {
        let hashed = File::open(path).and_then(|mut file| disk::hash(&mut file, &|_| self.cancel.check()));
        hashed.map_err(|source| local_failed(path, source))
    }

    /// Hashes a local file to prove that it is the object.
    fn prove_local(&self, path: &Path, version: Version) -> Result<()> {
        let found = self.hash_local(path)?;
        if found != version.oid && self.depot.rules().hold("R2") {
            return Err(Error::LocalCorrupt { path: path.to_path_buf(), found });
        }
        Ok(())
    }

    /// Waits until no other process of this machine works on an object.
    fn lock(&self, version: Version) -> Result<Option<disk::Lock>> {
        let Some(path) = self.lock_path(version) else { return Ok(None) };
        self.wait_for(&path)
    }

    /// Locks an object if no other process works on it; `None` where one does.
    ///
    /// Where nothing can be locked, nobody else is known of.
    fn lock_if_free(&self, version: Version) -> Option<Option<disk::Lock>> {
        let Some(path) = self.lock_path(version) else { return Some(None) };
        match disk::Lock::attempt(&path) {
            Ok(lock) => lock.map(Some),
            Err(error) => {
                tracing::warn!(%error, "cannot lock: working without");
                Some(None)
            }
        }
    }

    fn lock_path(&self, version: Version) -> Option<PathBuf> {
        Some(lock_file(self.lock_folder.as_ref()?, &version.oid.to_string(), version.size))
    }

    fn wait_for(&self, path: &Path) -> Result<Option<disk::Lock>> {
        match disk::Lock::wait(path, &self.cancel) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if crate::cancel::is_cancelled(&error) => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(%error, "cannot lock: working without");
                Ok(None)
            }
        }
    }

    fn lock_sketches(&self) -> MutexGuard<'_, HashMap<Oid, Sketch>> {
        self.sketches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a transfer is built from.
struct Parts {
    git: Git,
    lfs_folder: PathBuf,
    config: Config,
    settings: Settings,
    location: Location,
    session: Session,
}

/// Returns the file that locks what `hex` names, which is about an object of this size.
///
/// A few files serve for all: two that share one only wait for each other. Small objects are done at once. They never
/// wait for a large one, and share fewer files: to make one takes about as long.
fn lock_file(folder: &Path, hex: &str, size: u64) -> PathBuf {
    let digits = if size <= SMALL_OBJECT_MAX_BYTES { 2 } else { 3 };
    folder.join(&hex[..digits])
}

fn local_failed(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::LocalMissing { path: path.to_path_buf() },
        _ => Error::disk(format!("read {}", path.display()), source),
    }
}

fn usable(folder: &Path) -> bool {
    let made = disk::private_folder(folder);
    made.inspect_err(|error| tracing::warn!(%error, "no cache: {} cannot be used", folder.display())).is_ok()
}

/// Returns the URL of a remote without user and password; `None` where there is none to tell.
fn remote_url(config: &Config, remote: &str) -> Option<String> {
    // git-lfs says "origin" where there is no remote at all: that names no repository.
    let pushed_to_url = remote.contains([':', '/']).then_some(remote);
    let url = config.user(&format!("remote.{remote}.url")).or(pushed_to_url)?;
    let url = match url.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.find('/').unwrap_or(rest.len());
            let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[host..])
        }
        None => url.rsplit_once('@').map_or(url, |(_, rest)| rest).to_owned(),
    };
    (!url.is_empty()).then_some(url)
}

#[cfg(test)]
pub(crate) mod tests;
