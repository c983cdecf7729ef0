//! A plain directory as store: on a disk, a share, a stick.
//!
//! Files are staged in `tmp/`, written, synced, renamed to their free name, and every folder above is synced: a
//! `put` that returned survives a power cut. Leftovers in `tmp/` go by age.
//!
//! What surprises: a folder of an object that is not there is an empty listing only while the store's own
//! directory is. An unmounted share must not look like an empty store.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::{Body, Error, Listed, ReadStore, Result, Source, Verb, Visit, WriteStore};
use crate::cancel::Cancel;
use crate::disk;
use crate::model::limits::{LEFTOVER_AGE, SYNC_BYTES};
use crate::model::{Hasher, Key, KeyPrefix};

mod artefacts;

/// Where files of a store are written before they get their name.
const STAGING: &str = "tmp";

/// A store in a directory.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    staging: &'static str,
    cancel: Cancel,
    swept: Once,
}

impl DirectoryStore {
    /// Names a store; the directory is looked at by the first call.
    pub fn new(root: PathBuf, cancel: Cancel) -> Self {
        Self { root, staging: STAGING, cancel, swept: Once::new() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn check_root(&self, verb: Verb, key: &str) -> Result<()> {
        let gone = |reason: String| Error::Missing { verb, key: key.to_owned(), reason };
        match fs::metadata(&self.root) {
            Ok(data) if data.is_dir() => Ok(()),
            Ok(_) => Err(gone(format!("{} is not a directory", self.root.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(gone(format!("there is no directory {}", self.root.display())))
            }
            Err(error) => Err(Error::from_io(verb, key, error)),
        }
    }

    fn stage(&self, key: &Key, body: &Body<'_>) -> Result<tempfile::NamedTempFile> {
        let failed = |source| Error::from_io(Verb::Put, key.as_str(), source);
        let staging = self.root.join(self.staging);
        fs::create_dir_all(&staging).map_err(failed)?;
        let staged = disk::stage(&staging).map_err(failed)?;
        self.swept.call_once(|| sweep(&staging, staged.as_file()));
        let mut hasher = Hasher::default();
        let mut watch = |bytes: &[u8]| {
            hasher.update(bytes);
            (body.sent)(bytes.len() as u64);
            self.cancel.check()
        };
        let mut sink = Steady { file: staged.as_file(), unsynced: 0 };
        let written = match body.source {
            Source::Bytes(mut bytes) => disk::copy(&mut bytes, &mut sink, &mut watch),
            Source::File { path, .. } => {
                File::open(path).and_then(|mut file| disk::copy(&mut file, &mut sink, &mut watch))
            }
        };
        if written.map_err(failed)? != body.source.size() || hasher.finish() != body.digest {
            return Err(Error::Digest { key: key.clone(), expected: body.digest });
        }
        Ok(staged)
    }
}

/// A file whose bytes are synced as they come: else all of a large one would be at its end, a minute without progress.
struct Steady<'a> {
    file: &'a File,
    unsynced: usize,
}

impl Write for Steady<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.unsynced += count;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes what dead processes staged long ago, by the clock that stamps the files: the store may be on a share,
/// and this machine's own clock years off, while others are writing there.
fn sweep(staging: &Path, fresh: &File) {
    let now = fresh.metadata().and_then(|data| data.modified());
    if let Some(limit) = now.ok().and_then(|now| now.checked_sub(LEFTOVER_AGE)) {
        disk::sweep_files(staging, disk::STAGED_PREFIX, limit);
    }
}

impl ReadStore for DirectoryStore {
    fn get(&self, key: &Key, limit: Option<u64>) -> Result<Box<dyn Read + Send>> {
        match File::open(self.path(key.as_str())) {
            Ok(file) => Ok(Box::new(file.take(limit.unwrap_or(u64::MAX)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_root(Verb::Get, key.as_str())?;
                Err(Error::NotFound { key: key.clone() })
            }
            Err(error) => Err(Error::from_io(Verb::Get, key.as_str(), error)),
        }
    }

    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> Result<()> {
        let text = prefix.as_str();
        let (folder, name) = text.rsplit_once('/').unwrap_or(("", text));
        let mut found = Vec::new();
        walk(&self.root, folder, name, &mut found)
            .map_err(|error| Error::from_io(Verb::List, text, error))?;
        if found.is_empty() {
            self.check_root(Verb::List, text)?;
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        for listed in found {
            if visit(listed) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("directory {}", self.root.display())
    }
}

/// Gathers the files below `folder` whose names there begin with `start`.
fn walk(root: &Path, folder: &str, start: &str, found: &mut Vec<Listed>) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        // Never made, or a file where a folder should be: nothing of ours is below.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if !name.starts_with(start) {
            continue;
        }
        let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            walk(root, &key, "", found)?;
        } else {
            found.push(Listed { key, size: entry.metadata()?.len() });
        }
    }
    Ok(())
}

impl WriteStore for DirectoryStore {
    fn put(&self, key: &Key, body: &Body<'_>) -> Result<()> {
        self.check_root(Verb::Put, key.as_str())?;
        let staged = self.stage(key, body)?;
        disk::publish(staged, &self.path(key.as_str()), &self.root).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { key: key.clone() },
            _ => Error::from_io(Verb::Put, key.as_str(), error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{contract, put_bytes};

    #[test]
    fn a_directory_keeps_every_promise() {
        let parent = tempfile::tempdir().expect("tempdir");
        contract::check(&|| {
            let root = tempfile::tempdir_in(&parent).expect("tempdir").keep();
            Box::new(DirectoryStore::new(root, Cancel::default()))
        });
    }

    #[test]
    fn a_directory_that_is_gone_is_not_an_empty_store() {
        let store = DirectoryStore::new("/nonexistent/store".into(), Cancel::default());
        let listed = store.list(&KeyPrefix::objects(), &mut |_| Visit::Continue);
        assert!(matches!(listed, Err(Error::Missing { .. })), "{listed:?}");
        let read = store.get(&Key::manifest(), None).map(drop);
        assert!(matches!(read, Err(Error::Missing { .. })), "{read:?}");
        let stored = put_bytes(&store, &Key::manifest(), b"x");
        assert!(matches!(stored, Err(Error::Missing { .. })), "{stored:?}");
    }

    #[test]
    fn a_failed_put_leaves_no_staged_file() {
        let root = tempfile::tempdir().expect("tempdir");
        let store = DirectoryStore::new(root.path().into(), Cancel::default());
        let body = Body { source: Source::Bytes(b"a"), digest: crate::model::Oid::of(b"b"), sent: &|_| () };
        store.put(&Key::manifest(), &body).expect_err("wrong digest");
        assert_eq!(fs::read_dir(root.path().join(STAGING)).expect("staging").count(), 0);
    }

    #[test]
    fn a_cancelled_put_leaves_nothing() {
        let root = tempfile::tempdir().expect("tempdir");
        let cancel = Cancel::default();
        cancel.raise();
        let store = DirectoryStore::new(root.path().into(), cancel);
        let stored = put_bytes(&store, &Key::manifest(), b"x");
        assert!(matches!(stored, Err(Error::Cancelled)), "{stored:?}");
        assert!(!root.path().join("lfs-delta.json").exists());
    }
}
