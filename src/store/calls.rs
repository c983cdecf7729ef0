//! Decorator: remembers every call, so that tests count requests and messages can say what was done.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Body, Listed, ReadStore, Result, Unfinished, Verb, Visit, WriteStore};
use crate::model::{Key, KeyPrefix, Oid};

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub verb: Verb,
    /// The key or prefix.
    pub key: String,
    /// Bytes that were read or stored.
    pub bytes: u64,
}

/// The calls of a store that somebody else has.
#[derive(Debug, Clone)]
pub struct CallLog(Arc<Mutex<Vec<Call>>>);

impl CallLog {
    /// Returns how many calls of a kind there were, and their bytes.
    pub fn count(&self, verb: Verb) -> (usize, u64) {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = log.iter().filter(|call| call.verb == verb);
        calls.fold((0, 0), |(count, bytes), call| (count + 1, bytes + call.bytes))
    }
}

/// A store that remembers what it was asked.
pub struct Calls<S> {
    inner: S,
    log: Arc<Mutex<Vec<Call>>>,
}

impl<S> Calls<S> {
    /// Wraps a store.
    pub fn new(inner: S) -> Self {
        Self { inner, log: Arc::default() }
    }

    /// Returns the calls so far and forgets them.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns what the calls are remembered in, for whoever gives the store away.
    pub fn log(&self) -> CallLog {
        CallLog(Arc::clone(&self.log))
    }

    /// Returns the wrapped store.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    fn note(&self, verb: Verb, key: &str, bytes: u64) -> usize {
        tracing::debug!("{verb} {key}");
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(Call { verb, key: key.to_owned(), bytes });
        log.len() - 1
    }
}

impl<S: ReadStore> ReadStore for Calls<S> {
    fn get(&self, key: &Key, limit: Option<u64>) -> Result<Box<dyn Read + Send>> {
        let index = self.note(Verb::Get, key.as_str(), 0);
        let inner = self.inner.get(key, limit)?;
        Ok(Box::new(CountingReader { inner, index, log: Arc::clone(&self.log) }))
    }

    fn get_large(&self, key: &Key, size: u64) -> Result<Box<dyn Read + Send>> {
        let index = self.note(Verb::Get, key.as_str(), 0);
        let inner = self.inner.get_large(key, size)?;
        Ok(Box::new(CountingReader { inner, index, log: Arc::clone(&self.log) }))
    }

    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> Result<()> {
        self.note(Verb::List, prefix.as_str(), 0);
        self.inner.list(prefix, visit)
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

impl<S: WriteStore> WriteStore for Calls<S> {
    fn put(&self, key: &Key, body: &Body<'_>) -> Result<()> {
        self.note(Verb::Put, key.as_str(), body.source.size());
        self.inner.put(key, body)
    }

    fn unfinished(&self, oid: &Oid) -> Result<Option<Unfinished>> {
        self.inner.unfinished(oid)
    }

    fn give_up(&self, key: &Key) {
        self.inner.give_up(key);
    }
}

struct CountingReader {
    inner: Box<dyn Read + Send>,
    index: usize,
    log: Arc<Mutex<Vec<Call>>>,
}

impl Read for CountingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // The log may have been taken meanwhile.
        if let Some(call) = log.get_mut(self.index) {
            call.bytes += count as u64;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, contract, get_bytes, put_bytes};

    #[test]
    fn a_counted_store_keeps_every_promise() {
        contract::check(&|| Box::new(Calls::new(MemoryStore::default())));
    }

    #[test]
    fn each_call_is_remembered_with_its_bytes() {
        let store = Calls::new(MemoryStore::default());
        put_bytes(&store, &Key::manifest(), b"abc").expect("put");
        get_bytes(&store, &Key::manifest(), 2).expect("get");
        let calls: Vec<_> = store.take().into_iter().map(|call| (call.verb, call.bytes)).collect();
        assert_eq!(calls, [(Verb::Put, 3), (Verb::Get, 2)]);
        assert_eq!(store.take(), []);
    }
}
