//! A store in memory, for tests.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Body, Error, Listed, ReadStore, Result, Source, Verb, Visit, WriteStore};
use crate::model::{Key, KeyPrefix, Oid};

/// Files in a map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStore {
    /// Gives tests the files themselves, to look at and to damage.
    pub fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadStore for MemoryStore {
    fn get(&self, key: &Key, limit: Option<u64>) -> Result<Box<dyn Read + Send>> {
        let found = self.files().get(key.as_str()).cloned();
        let bytes = found.ok_or_else(|| Error::NotFound { key: key.clone() })?;
        Ok(Box::new(Cursor::new(bytes).take(limit.unwrap_or(u64::MAX))))
    }

    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> Result<()> {
        let files = self.files();
        let from = Bound::Included(prefix.as_str().to_owned());
        let shown = files.range((from, Bound::Unbounded));
        for (key, bytes) in shown.take_while(|(key, _)| key.starts_with(prefix.as_str())) {
            if visit(Listed { key: key.clone(), size: bytes.len() as u64 }) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        "memory".into()
    }
}

impl WriteStore for MemoryStore {
    fn put(&self, key: &Key, body: &Body<'_>) -> Result<()> {
        let bytes = match body.source {
            Source::Bytes(bytes) => bytes.to_vec(),
            Source::File { path, .. } => {
                std::fs::read(path).map_err(|source| Error::from_io(Verb::Put, key.as_str(), source))?
            }
        };
        if Oid::of(&bytes) != body.digest || bytes.len() as u64 != body.source.size() {
            return Err(Error::Digest { key: key.clone(), expected: body.digest });
        }
        (body.sent)(bytes.len() as u64);
        let mut files = self.files();
        if files.contains_key(key.as_str()) {
            return Err(Error::AlreadyExists { key: key.clone() });
        }
        files.insert(key.as_str().to_owned(), bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    #[test]
    fn a_store_in_memory_keeps_every_promise() {
        contract::check(&|| Box::new(MemoryStore::default()));
    }
}
