//! What this machine remembers of its uploads in parts, so that one that broke goes on where it stopped.
//!
//! One file of notes for each upload: what it is, then a line for each part that the service has. It is locked by the
//! process that sends the parts, so nobody else goes on with what is not broken. A payload that could not be made
//! again bit for bit, which is every copy but a raw one, is kept beside its notes.
//!
//! What surprises: the notes are believed in nothing that matters. Which parts are there is asked of the service, and
//! each is compared with the bytes at hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::disk::{self, Notes};
use crate::model::limits::UPLOAD_AGE_MAX;
use crate::model::{Entry, Key, Oid};
use crate::{clock, store};

/// What a payload's name ends with.
const PAYLOAD: &str = "payload";

/// An upload in parts, as it was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The key, relative to the store's prefix.
    key: String,
    /// What the service calls the upload.
    pub(super) id: String,
    /// SHA-256 of all bytes.
    digest: String,
    /// All bytes.
    pub(super) size: u64,
    /// Bytes of each part but the last.
    pub(super) part_size: u64,
    /// Whether parts carry checksums: the service was told so when it began.
    pub(super) checksums: bool,
    /// When it was begun, in seconds since 1970.
    at: u64,
}

impl Begun {
    pub(super) fn now(
        key: &Key,
        id: String,
        digest: Oid,
        size: u64,
        part_size: u64,
        checksums: bool,
    ) -> Self {
        let at = seconds(clock::now());
        Self { key: key.to_string(), id, digest: digest.to_string(), size, part_size, checksums, at }
    }

    /// Returns whether it was begun too long ago to go on with, or in the future: then its age is unknown.
    fn is_older(&self, age: Duration) -> bool {
        let now = seconds(clock::now());
        self.at > now || Duration::from_secs(now - self.at) >= age.min(UPLOAD_AGE_MAX)
    }
}

/// A part that the service has acknowledged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) number: i32,
    pub(super) etag: String,
    /// CRC-32 of its bytes.
    pub(super) crc: u32,
}

/// The folder of journals of one store; without one nothing is remembered.
#[derive(Debug, Clone)]
pub(super) struct Journals {
    folder: Option<PathBuf>,
    age: Duration,
}

/// One of them, held by this process.
#[derive(Debug)]
pub(super) struct Journal {
    notes: Notes,
    pub(super) begun: Begun,
    pub(super) done: HashMap<i32, Done>,
}

impl Journals {
    /// Names the folder. Uploads that were begun longer than `age` ago are not gone on with.
    pub(super) const fn new(folder: Option<PathBuf>, age: Duration) -> Self {
        Self { folder, age }
    }

    /// Begins one, and keeps the payload where it could not be made again; `None` where that fails: then the upload is
    /// not gone on with if it breaks.
    pub(super) fn begin(&self, begun: Begun, payload: &Path) -> Option<Journal> {
        let folder = self.folder.as_deref()?;
        let made = disk::private_folder(folder).and_then(|()| {
            let path = folder.join(&Oid::of(begun.key.as_bytes()).to_string()[..32]);
            let mut notes = Notes::create(&path)?;
            notes.add(&serde_json::to_string(&begun)?)?;
            if needs_payload(&begun.key) {
                disk::link_or_copy(payload, &path.with_extension(PAYLOAD))?;
            }
            Ok(Journal { notes, begun, done: HashMap::new() })
        });
        made.inspect_err(|error| tracing::warn!(%error, "an upload in parts is not remembered")).ok()
    }

    /// Opens those of other processes, which must have ended.
    pub(super) fn left_behind(&self) -> impl Iterator<Item = Journal> {
        let files = self.folder.as_deref().map(disk::files).unwrap_or_default();
        files.into_iter().filter(|path| path.extension().is_none()).filter_map(|path| Journal::open(&path))
    }

    /// Returns whether there is nothing to go on with.
    pub(super) fn are_none(&self) -> bool {
        self.folder.as_deref().map(disk::files).unwrap_or_default().is_empty()
    }

    /// Returns whether an upload is to be given up instead of gone on with.
    pub(super) fn is_over(&self, journal: &Journal) -> bool {
        journal.begun.is_older(self.age)
    }
}

impl Journal {
    fn open(path: &Path) -> Option<Self> {
        let (notes, lines) = Notes::open(path).ok()??;
        let Some(begun) = lines.first().and_then(|line| serde_json::from_str(line).ok()) else {
            // Killed before it was written: no part can have been sent.
            remove(notes);
            return None;
        };
        let done = lines[1..].iter().filter_map(|line| serde_json::from_str(line).ok());
        let done = done.map(|done: Done| (done.number, done)).collect();
        Some(Self { notes, begun, done })
    }

    /// Notes that the service has a part.
    pub(super) fn note(&mut self, done: Done) {
        // Whatever fails costs sending the part again, at most.
        let noted = serde_json::to_string(&done).map(|line| self.notes.add(&line));
        tracing::trace!(part = done.number, ?noted, "noted");
    }

    /// Returns what was to be stored, where that can still be sent.
    pub(super) fn unfinished(&self) -> Option<store::Unfinished> {
        let payload = self.notes.path().with_extension(PAYLOAD);
        let payload = needs_payload(&self.begun.key).then_some(payload);
        if payload.as_ref().is_some_and(|path| !path.is_file()) {
            return None;
        }
        let Some(Entry::Copy(name)) = Entry::parse(&self.begun.key) else { return None };
        let digest = Oid::parse(&self.begun.digest).ok()?;
        Some(store::Unfinished { name, digest, size: self.begun.size, payload })
    }

    /// Returns the key.
    pub(super) fn key(&self) -> &str {
        &self.begun.key
    }

    /// Forgets the upload.
    pub(super) fn close(self) {
        let removed = disk::remove(&self.notes.path().with_extension(PAYLOAD));
        tracing::trace!(?removed, "forgot an upload in parts");
        remove(self.notes);
    }
}

fn remove(notes: Notes) {
    if let Err(error) = notes.remove() {
        tracing::debug!(%error, "notes of an upload stay");
    }
}

/// Returns whether the bytes of a copy cannot be had again from the object itself.
fn needs_payload(key: &str) -> bool {
    !matches!(Entry::parse(key), Some(Entry::Copy(name)) if name.codec().is_none())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
