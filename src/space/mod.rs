//! DeltaSpaces as deltaglider keeps them: files with names of their own, as deltas on one `reference.bin`.
//!
//! The format is in `docs/deltaspace-layout.md`. Reference and deltas lie in one folder of a bucket or directory; what
//! they are is told by their metadata. Nothing here prints or knows a terminal: who wants to be told hands in an
//! `Observer`. A later move between this layout and a store of objects needs `DeltaSpace::files` and `restore`.
//!
//! What surprises: the reference is never replaced, and a file that stock `xdelta3` would decompress by itself
//! (gzip, bzip2, xz) never becomes one: no delta on it could be decoded by anybody who uses that program.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::Cache;
use crate::cancel::Cancel;
use crate::codec::Effort;
use crate::config::Settings;
use crate::disk::{self, Bytes, Hashing, Spill, Workspace};
use crate::error::{Error, Result};
use crate::model::artefact::{DELTA, REFERENCE};
use crate::model::limits::BUFFER_BYTES;
use crate::model::{ArtefactUrl, FileName, Folder, Hasher, Key, Location, Oid};
use crate::store::artefacts::{ArtefactStore, Found, Item};
use crate::store::{self, Visit};
use crate::transfer::Budget;

mod get;
mod metadata;
mod put;
mod rescue;

pub use get::{Locate, Located, Place, Restored};
pub use metadata::{Facts, Kind};
pub use put::{Local, Put};

/// How often it is looked anew after others changed what was found.
const LOOKS_MAX: usize = 8;

/// Is told what happens.
pub trait Observer: Sync {
    /// A step begins, or was decided.
    fn step(&self, text: &str);
    /// Bytes were sent or received.
    fn moved(&self, bytes: u64);
}

/// What all DeltaSpaces of a process share on this machine.
pub struct Machine {
    cache: Cache,
    workspace: Workspace,
    budget: Budget,
    effort: Effort,
    cancel: Cancel,
}

impl Machine {
    /// Makes a place for temporary files in the private folder of this program, or a private one elsewhere.
    ///
    /// # Errors
    /// A disk that cannot be written.
    pub fn open(settings: &Settings, cancel: &Cancel) -> Result<Self> {
        let usable = |folder: &std::path::PathBuf| {
            let made = disk::private_folder(folder);
            made.inspect_err(|error| tracing::warn!(%error, "no cache: {} cannot be used", folder.display()))
                .is_ok()
        };
        let private = settings.cache_folder.clone().filter(usable);
        let temporary = private.as_ref().map_or_else(std::env::temp_dir, |folder| folder.join("tmp"));
        let workspace = Workspace::create(&temporary, settings.leftover_age)
            .map_err(|source| Error::disk(format!("use {}", temporary.display()), source))?;
        let slots =
            private.as_deref().map_or_else(|| workspace.path().join("slots"), |folder| folder.join("slots"));
        Ok(Self {
            budget: Budget::new(&slots, settings),
            cache: Cache::new(private, settings.cache_max_bytes),
            workspace,
            effort: settings.effort,
            cancel: cancel.clone(),
        })
    }

    fn temporary(&self) -> Result<File> {
        self.workspace.unnamed_file().map_err(|source| Error::disk("make a temporary file", source))
    }

    /// Fails once the work is cancelled.
    fn step(&self) -> io::Result<()> {
        self.workspace.refresh_now_and_then();
        self.cancel.check()
    }

    /// Reads all of `reader` into one piece and hashes it.
    fn gather(&self, reader: &mut dyn Read, watch: &mut dyn FnMut(&[u8])) -> io::Result<(Bytes, Oid)> {
        let mut spill = Spill::new(&self.workspace);
        let mut hasher = Hasher::default();
        disk::copy(reader, &mut spill, &mut |bytes| {
            hasher.update(bytes);
            watch(bytes);
            self.step()
        })?;
        Ok((spill.finish()?, hasher.finish()))
    }

    /// Keeps bytes for the next time. May decline, and never fails.
    fn keep(&self, oid: &Oid, bytes: &[u8]) {
        if self.cache.find(oid, bytes.len() as u64).is_some() {
            return;
        }
        let written = self.workspace.file().and_then(|mut file| file.write_all(bytes).map(|()| file));
        match written {
            Ok(file) => self.cache.offer(oid, file.path()),
            Err(error) => tracing::debug!(%oid, %error, "not cached"),
        }
    }

    /// Reads an object from the cache and proves it; what is wrong is dropped.
    fn cached(&self, oid: &Oid) -> Result<Option<Bytes>> {
        let Some((path, size)) = self.cache.find_any(oid) else { return Ok(None) };
        let read = File::open(&path).and_then(|file| self.gather(&mut file.take(size), &mut |_| ()));
        match read {
            Ok((bytes, found)) if found == *oid => Ok(Some(bytes)),
            Ok(_) => {
                self.cache.drop_wrong(oid);
                Ok(None)
            }
            Err(error) if crate::cancel::is_cancelled(&error) => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot be read");
                Ok(None)
            }
        }
    }
}

/// The bytes that deltas are made against, proven.
#[derive(Debug, Clone)]
struct Reference {
    bytes: Arc<Bytes>,
    sha256: Oid,
}

/// Whether what is at hand may stand for what is in the DeltaSpace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// What is in the cache serves as well: it has the same hash.
    Cache,
    /// Only what is stored counts: it is to be verified.
    StoreOnly,
}

/// One folder with a reference and the files that were stored with it.
pub struct DeltaSpace<'a> {
    machine: &'a Machine,
    store: Arc<dyn ArtefactStore>,
    root: Location,
    folder: Folder,
    observer: &'a dyn Observer,
    trust: Trust,
    /// The one that was read last.
    reference: Mutex<Option<Reference>>,
}

impl<'a> DeltaSpace<'a> {
    /// Names a DeltaSpace; nothing is contacted.
    pub fn new(
        machine: &'a Machine,
        settings: &Settings,
        url: &ArtefactUrl,
        observer: &'a dyn Observer,
        trust: Trust,
    ) -> Self {
        let store = settings.open_artefacts(&url.root, &machine.cancel).into();
        let (root, folder) = (url.root.clone(), url.folder.clone());
        Self { machine, store, root, folder, observer, trust, reference: Mutex::default() }
    }

    /// Returns one below, at the same place.
    fn below(&self, folder: Folder) -> Self {
        let (store, root) = (Arc::clone(&self.store), self.root.clone());
        let Self { machine, observer, trust, .. } = *self;
        Self { machine, store, root, folder, observer, trust, reference: Mutex::default() }
    }

    /// Returns the URL of a file, or of the DeltaSpace itself for an empty name.
    pub fn url(&self, name: &str) -> String {
        ArtefactUrl::show(&self.root, &self.folder, name)
    }

    /// Makes a temporary file that goes when it is closed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn temporary(&self) -> Result<File> {
        self.machine.temporary()
    }

    /// Returns the bucket, where it is in one, and the full key of a file.
    pub fn place(&self, name: &FileName) -> (Option<&str>, String) {
        let bucket = match &self.root {
            Location::S3(s3) => Some(s3.bucket.as_str()),
            Location::Directory(_) => None,
        };
        (bucket, self.key(name).to_string())
    }

    fn key(&self, name: &FileName) -> Key {
        Key::artefact(&self.folder, name)
    }

    fn find(&self, name: &FileName) -> Result<Option<Found>> {
        self.find_at(&self.key(name))
    }

    fn find_at(&self, key: &Key) -> Result<Option<Found>> {
        self.observer.step(&format!("looking for {key}"));
        self.store.find(key).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: store::Error) -> Error {
        match error {
            store::Error::Cancelled => Error::Cancelled,
            error => Error::Depot { store: self.store.name(), source: error.into() },
        }
    }

    /// Lists the files of this DeltaSpace and the folders in it, in the order of their names.
    ///
    /// One request per 1,000 files, and none for each of them.
    ///
    /// # Errors
    /// What the place says.
    pub fn files(&self) -> Result<Vec<Item>> {
        self.observer.step(&format!("listing {}", self.url("")));
        let mut items = Vec::new();
        let mut visit = |item| {
            items.push(item);
            Visit::Continue
        };
        self.store.list(&self.folder, &mut visit).map_err(|error| self.failed(error))?;
        items.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(items)
    }

    /// Returns this DeltaSpace and all below it that are not empty, each with the names of its files.
    ///
    /// # Errors
    /// What the place says.
    pub fn tree(&self) -> Result<Vec<(Self, Vec<FileName>)>> {
        let (mut found, mut open) = (Vec::new(), vec![self.below(self.folder.clone())]);
        while let Some(space) = open.pop() {
            let mut names = Vec::new();
            for item in space.files()? {
                match item {
                    Item::File { name, .. } => names.push(name),
                    Item::Folder(name) => match space.folder.child(&name) {
                        Ok(folder) => open.push(space.below(folder)),
                        Err(error) => tracing::warn!(%error, "a folder that cannot be looked into"),
                    },
                }
            }
            if !names.is_empty() {
                found.push((space, names));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.folder.cmp(&b.folder));
        Ok(found)
    }

    fn remembered(&self, sha256: Oid) -> Option<Reference> {
        let remembered = self.reference.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.clone().filter(|reference| reference.sha256 == sha256)
    }

    fn remember(&self, bytes: Bytes, sha256: Oid) -> Reference {
        let reference = Reference { bytes: Arc::new(bytes), sha256 };
        *self.reference.lock().unwrap_or_else(PoisonError::into_inner) = Some(reference.clone());
        reference
    }

    /// Finds a reference by its hash without asking the store.
    fn reference_at_hand(&self, sha256: Oid) -> Result<Option<Reference>> {
        if let Some(reference) = self.remembered(sha256) {
            return Ok(Some(reference));
        }
        if self.trust == Trust::StoreOnly {
            return Ok(None);
        }
        let Some(bytes) = self.machine.cached(&sha256)? else { return Ok(None) };
        self.observer.step("the reference is in the cache");
        Ok(Some(self.remember(bytes, sha256)))
    }

    /// Reads the reference of a folder, whatever its bytes are; `None` where it is gone.
    fn read_reference(&self, folder: &Folder, found: &Found) -> Result<Option<Reference>> {
        let key = Key::artefact(folder, &FileName::reference());
        self.observer.step(&format!("reading {key}, {} bytes", found.size));
        let mut reader = match self.store.get(&key, found) {
            Err(store::Error::NotFound { .. }) => return Ok(None),
            opened => opened.map_err(|error| self.failed(error))?,
        };
        let moved = &mut |bytes: &[u8]| self.observer.moved(bytes.len() as u64);
        let read = self.machine.gather(&mut reader, moved);
        let (bytes, sha256) = read.map_err(|error| self.failed(store::Error::from_read(&key, error)))?;
        self.machine.keep(&sha256, &bytes);
        Ok(Some(self.remember(bytes, sha256)))
    }
}

/// Opens a buffered writer.
fn buffered<W: Write>(writer: W) -> io::BufWriter<W> {
    io::BufWriter::with_capacity(BUFFER_BYTES, writer)
}

/// Returns the last part of a local path as a name.
///
/// # Errors
/// `Usage` where it has none, or one that no artefact may have.
pub fn name_of(path: &Path) -> Result<FileName> {
    let text = path.file_name().and_then(|name| name.to_str());
    let text = text.ok_or_else(|| Error::Usage(format!("{} has no name that is text", path.display())))?;
    let name = FileName::parse(text).and_then(|name| name.check_artefact().map(|()| name));
    name.map_err(|error| Error::Usage(error.to_string()))
}
