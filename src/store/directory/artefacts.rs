//! Files with names of their own in a directory, and their metadata in small files aside.
//!
//! `.deltaspace/<name>/<size>-<sha256>.json` holds the metadata of the file `<name>` with these bytes. It is written
//! before the file gets its name and never removed: whichever version has the name, its metadata is there, also after a
//! power cut between the two. What surprises: where two versions have the same size, the file is hashed to tell
//! which of the two it is.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Once;

use super::DirectoryStore;
use crate::cancel::Cancel;
use crate::disk;
use crate::model::artefact::ASIDE;
use crate::model::{FileName, Folder, Key, Oid};
use crate::store::artefacts::{ArtefactStore, Found, Item, Metadata, Placing};
use crate::store::{Body, Error, Result, Verb, Visit};

/// Where files of a DeltaSpace are written before they get their name: a folder that no artefact is called.
const STAGING: &str = ".deltaspace/tmp";
/// The largest file of metadata that is read.
const METADATA_MAX_BYTES: u64 = 64 << 10;

impl DirectoryStore {
    /// Names a directory of files with names of their own; it is looked at by the first call.
    pub fn of_artefacts(root: PathBuf, cancel: Cancel) -> Self {
        Self { root, staging: STAGING, cancel, swept: Once::new() }
    }

    /// Returns the folder of a file's metadata.
    fn aside(&self, key: &Key) -> PathBuf {
        let (folder, name) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
        self.root.join(folder).join(ASIDE).join(name)
    }

    /// Opens a file; `None` where there is none.
    fn open_file(&self, key: &Key) -> Result<Option<File>> {
        match File::open(self.path(key.as_str())) {
            Ok(file) if file.metadata().is_ok_and(|data| data.is_file()) => Ok(Some(file)),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.check_root(Verb::Get, key.as_str())?;
                Ok(None)
            }
            Err(error) => Err(Error::from_io(Verb::Get, key.as_str(), error)),
        }
    }

    /// Finds the metadata of an open file.
    ///
    /// Where none is for a file of its size there may be that of the only version: the file was cut, and is shown to be.
    fn metadata(&self, key: &Key, mut file: File, size: u64) -> io::Result<Metadata> {
        let folder = self.aside(key);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Metadata::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string().ok().filter(|name| name.ends_with(".json")));
        }
        let is_of_size = |name: &String| name.starts_with(&format!("{size}-"));
        if names.len() > 1 {
            names.retain(is_of_size);
        }
        let name = match &names[..] {
            [] => return Ok(Metadata::new()),
            [name] => name.clone(),
            _ => aside_name(size, disk::hash(&mut file, &|_| self.cancel.check())?),
        };
        match File::open(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Metadata::new()),
            opened => {
                let mut text = Vec::new();
                opened?.take(METADATA_MAX_BYTES).read_to_end(&mut text)?;
                Ok(parse_metadata(&text))
            }
        }
    }
}

fn aside_name(size: u64, digest: Oid) -> String {
    format!("{size}-{digest}.json")
}

/// Reads metadata; what is none is as good as not there.
fn parse_metadata(text: &[u8]) -> Metadata {
    let parsed: Metadata = serde_json::from_slice(text).unwrap_or_default();
    parsed.into_iter().map(|(name, text)| (name.to_ascii_lowercase(), text)).collect()
}

/// Tells a file from others that had or will have its name.
fn version_of(data: &fs::Metadata) -> String {
    let modified = data.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(data);
    #[cfg(not(unix))]
    let inode = 0;
    format!("{inode}-{}-{}", data.len(), modified.unwrap_or_default().as_nanos())
}

impl ArtefactStore for DirectoryStore {
    fn find(&self, key: &Key) -> Result<Option<Found>> {
        let Some(file) = self.open_file(key)? else { return Ok(None) };
        let failed = |error| Error::from_io(Verb::Get, key.as_str(), error);
        let data = file.metadata().map_err(failed)?;
        let metadata = self.metadata(key, file, data.len()).map_err(failed)?;
        Ok(Some(Found { size: data.len(), version: Some(version_of(&data)), metadata, checksum: None }))
    }

    fn get(&self, key: &Key, found: &Found) -> Result<Box<dyn Read + Send>> {
        let gone = || Error::NotFound { key: key.clone() };
        let file = self.open_file(key)?.ok_or_else(gone)?;
        let data = file.metadata().map_err(|error| Error::from_io(Verb::Get, key.as_str(), error))?;
        if found.version.as_ref().is_some_and(|version| *version != version_of(&data)) {
            return Err(gone());
        }
        Ok(Box::new(file))
    }

    fn put(&self, key: &Key, body: &Body<'_>, metadata: &Metadata, placing: Placing) -> Result<()> {
        self.check_root(Verb::Put, key.as_str())?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { key: key.clone() },
            _ => Error::from_io(Verb::Put, key.as_str(), error),
        };
        let path = self.path(key.as_str());
        if placing == Placing::Create && path.try_exists().map_err(failed)? {
            return Err(Error::AlreadyExists { key: key.clone() });
        }
        let staged = self.stage(key, body)?;
        let text = serde_json::to_vec_pretty(metadata).map_err(|error| failed(error.into()))?;
        let mut aside = disk::stage(&self.root.join(self.staging)).map_err(failed)?;
        aside.write_all(&text).map_err(failed)?;
        let name = aside_name(body.source.size(), body.digest);
        disk::publish_over(aside, &self.aside(key).join(name), &self.root).map_err(failed)?;
        match placing {
            Placing::Create => disk::publish(staged, &path, &self.root),
            Placing::Replace => disk::publish_over(staged, &path, &self.root),
        }
        .map_err(failed)
    }

    fn list(&self, folder: &Folder, visit: &mut dyn FnMut(Item) -> Visit) -> Result<()> {
        let failed = |error| Error::from_io(Verb::List, folder.as_str(), error);
        let entries = match fs::read_dir(self.root.join(folder.as_str())) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return self.check_root(Verb::List, folder.as_str());
            }
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Some(name) = entry.file_name().to_str().and_then(|name| FileName::parse(name).ok()) else {
                continue;
            };
            let data = match fs::metadata(entry.path()) {
                Ok(data) => data,
                // It went meanwhile, or is a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            // A link to a folder could lead back here: it is not followed.
            let is_folder = entry.file_type().map_err(failed)?.is_dir();
            let item = match is_folder {
                true => Item::Folder(name),
                false if data.is_file() => Item::File { name, size: data.len() },
                false => continue,
            };
            if visit(item) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("directory {}", self.root.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::artefacts_contract;

    #[test]
    fn a_directory_keeps_every_promise() {
        let parent = tempfile::tempdir().expect("tempdir");
        artefacts_contract::check(&|| {
            let root = tempfile::tempdir_in(&parent).expect("tempdir").keep();
            Box::new(DirectoryStore::of_artefacts(root, Cancel::default()))
        });
    }

    #[test]
    fn a_directory_that_is_gone_is_not_an_empty_space() {
        let store = DirectoryStore::of_artefacts("/nonexistent/space".into(), Cancel::default());
        let key = Key::artefact(&Folder::default(), &FileName::reference());
        let found = store.find(&key);
        assert!(matches!(found, Err(Error::Missing { .. })), "{found:?}");
        let listed = store.list(&Folder::default(), &mut |_| Visit::Continue);
        assert!(matches!(listed, Err(Error::Missing { .. })), "{listed:?}");
    }

    #[test]
    fn the_metadata_of_both_versions_is_there_while_one_takes_the_others_place() {
        let root = tempfile::tempdir().expect("tempdir");
        let store = DirectoryStore::of_artefacts(root.path().into(), Cancel::default());
        let key = artefacts_contract::key("a");
        let before = artefacts_contract::put(&store, &key, b"old", "1", Placing::Replace);
        before.expect("put");
        let old = fs::read(root.path().join("a")).expect("a file");
        artefacts_contract::put(&store, &key, b"new", "2", Placing::Replace).expect("put");
        // As a power cut leaves it: the metadata of the new version, and the old one.
        fs::write(root.path().join("a"), old).expect("a file");
        let found = store.find(&key).expect("looked").expect("there");
        assert_eq!(found.metadata.get("dg-note").map(String::as_str), Some("1"));
    }

    #[test]
    fn metadata_that_is_none_is_not_there() {
        let root = tempfile::tempdir().expect("tempdir");
        let store = DirectoryStore::of_artefacts(root.path().into(), Cancel::default());
        let key = artefacts_contract::key("a");
        artefacts_contract::put(&store, &key, b"x", "1", Placing::Create).expect("put");
        let aside = store.aside(&key).join(aside_name(1, Oid::of(b"x")));
        fs::write(aside, b"[1, 2").expect("damage");
        assert_eq!(store.find(&key).expect("looked").expect("there").metadata, Metadata::new());
    }
}
