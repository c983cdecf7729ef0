//! Restores a file: looks for it, fetches it and its reference, decodes, and proves what came out.
//!
//! look → at hand? → delta, reference → decode → prove.
//!
//! What surprises: a delta whose file is the reference is never decoded. That alone brings back the first file of
//! every DeltaSpace that deltaglider could store and not restore.

use std::fs::File;
use std::io::{self, Read, Write};

use md5::{Digest, Md5};

use super::metadata::{Facts, Kind};
use super::{DELTA, DeltaSpace, Error, Hashing, LOOKS_MAX, REFERENCE, Reference, Result, buffered, rescue};
use crate::codec::{self, vcdiff};
use crate::disk::{self, Bytes};
use crate::model::{FileName, Folder, Key, Oid};
use crate::store;
use crate::store::artefacts::{Checksum, Found};

/// Largest file whose size nobody knows: no service keeps a larger one.
const SIZE_MAX_BYTES: u64 = 5 << 40;

/// How a name is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locate {
    /// A file as it was put, or its delta: whichever is there, and the later of both.
    Either,
    /// What is stored under exactly this name.
    Exactly,
}

/// Something that is stored.
#[derive(Debug, Clone)]
pub struct Located {
    /// The name that it is stored under.
    pub name: FileName,
    /// What it is.
    pub kind: Kind,
    facts: Facts,
    found: Found,
}

impl Located {
    /// Returns the bytes that it takes.
    pub fn stored_size(&self) -> u64 {
        self.found.size
    }

    /// Returns the bytes of the file, where that is told.
    pub const fn size(&self) -> Option<u64> {
        self.facts.size
    }

    /// Returns whether anything is told of it at all.
    pub fn is_told(&self) -> bool {
        !self.found.metadata.is_empty()
    }

    /// Returns the name of the file itself.
    pub fn artefact(&self) -> FileName {
        let of_delta = || self.name.of_delta().filter(|_| self.kind == Kind::Delta);
        of_delta().unwrap_or_else(|| self.name.clone())
    }
}

/// A file that was restored and proven.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Its SHA-256.
    pub sha256: Oid,
    /// Its bytes.
    pub size: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What came out of one try.
enum Outcome {
    Done(Restored),
    /// Somebody changed what was found.
    Changed,
}

impl DeltaSpace<'_> {
    /// Looks for a file.
    ///
    /// # Errors
    /// `ArtefactMissing`, `ArtefactUnproven` for a delta that is no delta; what the place says.
    pub fn locate(&self, name: &FileName, how: Locate) -> Result<Located> {
        if how == Locate::Exactly || name.as_str() == REFERENCE {
            let found = self.find(name)?.ok_or_else(|| self.missing(name, name))?;
            return Ok(located(name.clone(), found));
        }
        let plain = name.of_delta().unwrap_or_else(|| name.clone());
        let delta = plain.delta().map_err(|error| Error::Usage(error.to_string()))?;
        let [at_plain, at_delta] = [&plain, &delta]
            .map(|name| self.find(name).map(|found| found.map(|found| located(name.clone(), found))));
        match (at_plain?, at_delta?) {
            (None, None) => {
                self.confirm_missing(&delta)?;
                Err(self.missing(&plain, &delta))
            }
            (Some(only), None) | (None, Some(only)) => Ok(only),
            (Some(plain), Some(at_delta)) => Ok(later(plain, at_delta, *name == delta)),
        }
    }

    fn missing(&self, plain: &FileName, delta: &FileName) -> Error {
        let (plain, delta) = (self.key(plain), self.key(delta));
        let looked = if plain == delta { plain.to_string() } else { format!("{plain} and no {delta}") };
        Error::ArtefactMissing { looked }
    }

    /// Asks in a way that tells a missing file from a missing bucket: the answer to a look has no words.
    fn confirm_missing(&self, name: &FileName) -> Result<()> {
        let none = Found { size: 0, version: None, metadata: Default::default(), checksum: None };
        match self.store.get(&self.key(name), &none) {
            Ok(_) | Err(store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Restores a file into `place`, which holds exactly the proven bytes afterwards.
    ///
    /// # Errors
    /// `ArtefactMissing`, `ArtefactDamaged`, `ArtefactUnproven`, `ArtefactForeign`; what place and disk say. What is
    /// in `place` then is nothing.
    pub fn restore(
        &self,
        name: &FileName,
        how: Locate,
        place: &mut Place<'_>,
    ) -> Result<(Located, Restored)> {
        for _ in 0..LOOKS_MAX {
            let located = self.locate(name, how)?;
            let outcome = self.try_restore(&located, place);
            match outcome {
                Ok(Outcome::Done(restored)) => return Ok((located, restored)),
                Ok(Outcome::Changed) => self.observer.step("others changed it: looking again"),
                Err(error) => {
                    // Whoever looks at it must not take it for the file.
                    place.restart()?;
                    // What changed under the reader is not damaged.
                    let now = self.find(&located.name)?;
                    if now.is_some_and(|now| now.version == located.found.version) {
                        return Err(error);
                    }
                }
            }
        }
        Err(Error::Crowded { key: self.key(name) })
    }

    fn try_restore(&self, located: &Located, place: &mut Place<'_>) -> Result<Outcome> {
        place.restart()?;
        let mut warnings = Vec::new();
        let missing = located.facts.missing(located.kind);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            warnings.push(format!("its metadata lacks {missing}: what is there was proven in another way"));
        }
        let outcome = match located.kind {
            Kind::Whole | Kind::Reference => self.restore_whole(located, place)?,
            Kind::Delta => self.restore_delta(located, place, &mut warnings)?,
        };
        Ok(outcome
            .map_or(Outcome::Changed, |(sha256, size)| Outcome::Done(Restored { sha256, size, warnings })))
    }

    /// Opens what was found; `None` where another version took its place.
    fn open(&self, located: &Located) -> Result<Option<Box<dyn Read + Send>>> {
        let key = self.key(&located.name);
        self.observer.step(&format!("reading {key}, {} bytes", located.found.size));
        match self.store.get(&key, &located.found) {
            Err(store::Error::NotFound { .. }) => Ok(None),
            opened => opened.map(Some).map_err(|error| self.failed(error)),
        }
    }

    fn restore_whole(&self, located: &Located, place: &mut Place<'_>) -> Result<Option<(Oid, u64)>> {
        let Some(mut reader) = self.open(located)? else { return Ok(None) };
        let mut md5 = Md5::new();
        let mut start = Vec::new();
        let mut sink = Hashing::new(buffered(place.writer()));
        let key = self.key(&located.name);
        let mut buffer = &mut reader as &mut dyn Read;
        let copied = disk::copy(&mut buffer, &mut sink, &mut |bytes| {
            md5.update(bytes);
            start.extend(bytes.iter().take(4_usize.saturating_sub(start.len())));
            self.observer.moved(bytes.len() as u64);
            self.machine.step()
        });
        let size = copied.map_err(|error| self.failed(store::Error::from_read(&key, error)))?;
        let (_, sha256) = sink.finish().map_err(writing)?;
        if located.facts.sha256.is_none() && vcdiff::is_vcdiff(&start) {
            let reason = "it is a delta, and neither name nor metadata say of what".into();
            return Err(Error::ArtefactUnproven { reason });
        }
        self.prove_whole(located, sha256, size, &md5.finalize().into())?;
        Ok(Some((sha256, size)))
    }

    /// Compares what was read with what is told of it.
    fn prove_whole(&self, located: &Located, sha256: Oid, size: u64, md5: &[u8; 16]) -> Result<()> {
        if located.facts.sha256.is_some() {
            return prove(&located.facts, sha256, size);
        }
        match &located.found.checksum {
            Some(Checksum::Sha256(expected)) if *expected == sha256 => Ok(()),
            Some(Checksum::Md5(expected)) if expected == md5 => Ok(()),
            Some(_) => Err(Error::ArtefactDamaged {
                reason: format!("{} has other bytes than the checksum of the service says", located.name),
            }),
            None => {
                let reason =
                    "nothing says which bytes it has: neither metadata nor a checksum of the service";
                Err(Error::ArtefactUnproven { reason: reason.into() })
            }
        }
    }

    fn restore_delta(
        &self,
        located: &Located,
        place: &mut Place<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<(Oid, u64)>> {
        let facts = &located.facts;
        if facts.is_encrypted {
            let reason = "it is encrypted with a key that only deltaglider_proxy has".into();
            return Err(Error::ArtefactForeign { reason });
        }
        if let Some(sha256) = facts.sha256.filter(|sha256| facts.reference == Some(*sha256)) {
            self.observer.step("it is the reference: no delta is decoded");
            let reference = self.reference_of(facts)?;
            place.writer().write_all(&reference.bytes).map_err(writing)?;
            return Ok(Some((sha256, reference.bytes.len() as u64)));
        }
        let Some(delta) = self.read_delta(located)? else { return Ok(None) };
        let info = vcdiff::inspect(&mut &delta[..]).map_err(|error| decoding(error, located))?;
        let reference = self.reference_of(facts)?;
        if info.is_external() {
            let restored =
                rescue::restore(self.machine, &reference.bytes, &delta, &info, facts.sha256, place)?;
            warnings.push(
                "deltaglider stored it in a way that often cannot be undone; this time it could".into(),
            );
            return Ok(Some(restored));
        }
        let mut sink = Hashing::new(buffered(place.writer()));
        let check = || self.machine.step();
        let size_max = facts.size.unwrap_or(SIZE_MAX_BYTES);
        // Where nobody tells the hash, the checksums inside of the delta are the only proof.
        let decode = if facts.sha256.is_some() { vcdiff::decode } else { vcdiff::decode_checked };
        let _permit = self.machine.budget.wait(located.found.size, &self.machine.cancel)?;
        let decoded = decode(&reference.bytes, &mut &delta[..], size_max, &mut sink, &check);
        let size = decoded.map_err(|error| decoding(error, located))?;
        let (_, sha256) = sink.finish().map_err(writing)?;
        prove(facts, sha256, size)?;
        Ok(Some((sha256, size)))
    }

    /// Reads a delta into one piece; `None` where another version took its place.
    fn read_delta(&self, located: &Located) -> Result<Option<Bytes>> {
        let Some(mut reader) = self.open(located)? else { return Ok(None) };
        let moved = &mut |bytes: &[u8]| self.observer.moved(bytes.len() as u64);
        let key = self.key(&located.name);
        let read = self.machine.gather(&mut reader, moved);
        let (delta, _) = read.map_err(|error| self.failed(store::Error::from_read(&key, error)))?;
        Ok(Some(delta))
    }

    /// Finds the reference of a delta: at hand, beside it, or where it was when the delta was made.
    fn reference_of(&self, facts: &Facts) -> Result<Reference> {
        if let Some(at_hand) =
            facts.reference.map(|sha256| self.reference_at_hand(sha256)).transpose()?.flatten()
        {
            return Ok(at_hand);
        }
        let folders = [Some(&self.folder), facts.reference_folder.as_ref()];
        let mut reasons = Vec::new();
        let mut looked: Vec<&Folder> = Vec::new();
        for folder in folders.into_iter().flatten() {
            if looked.contains(&folder) {
                continue;
            }
            looked.push(folder);
            let key = Key::artefact(folder, &FileName::reference());
            let Some(found) = self.find_at(&key)? else {
                reasons.push(format!("{key} is not there"));
                continue;
            };
            match (self.read_reference(folder, &found)?, facts.reference) {
                (Some(reference), Some(expected)) if reference.sha256 != expected => {
                    reasons.push(format!("{key} has the SHA-256 {}, not {expected}", reference.sha256));
                }
                (Some(reference), _) => return Ok(reference),
                (None, _) => reasons.push(format!("{key} went")),
            }
        }
        Err(Error::ArtefactDamaged { reason: format!("its reference is lost: {}", reasons.join("; ")) })
    }
}

/// Says what is stored under a name. What says nothing of itself is a delta by its name alone.
fn located(name: FileName, found: Found) -> Located {
    let facts = Facts::read(&found.metadata);
    let by_name = if name.as_str().ends_with(DELTA) { Kind::Delta } else { Kind::Whole };
    Located { kind: facts.kind.unwrap_or(by_name), name, facts, found }
}

/// Chooses between a whole file and a delta of the same name.
fn later(plain: Located, delta: Located, delta_was_named: bool) -> Located {
    match (&plain.facts.created_at, &delta.facts.created_at) {
        (Some(plain_time), Some(delta_time)) if delta_time > plain_time => delta,
        // Put there by another program, over a name that has a delta: whoever names the delta means that.
        (None, Some(_)) if delta_was_named => delta,
        _ => plain,
    }
}

fn prove(facts: &Facts, sha256: Oid, size: u64) -> Result<()> {
    let expected = facts.sha256.unwrap_or(sha256);
    if expected != sha256 {
        let reason = format!("what is stored yields {size} bytes with the SHA-256 {sha256}, not {expected}");
        return Err(Error::ArtefactDamaged { reason });
    }
    Ok(())
}

fn writing(source: io::Error) -> Error {
    Error::disk("write the file", source)
}

fn decoding(error: codec::Error, located: &Located) -> Error {
    match error {
        codec::Error::Io(source) => Error::disk("decode", source),
        error if located.facts.sha256.is_none() => Error::ArtefactUnproven {
            reason: format!("{} has no metadata that says what it is, and {error}", located.name),
        },
        error => Error::ArtefactDamaged { reason: format!("{}: {error}", located.name) },
    }
}

/// Where restored bytes go.
pub enum Place<'a> {
    /// Into a file that nobody else reads yet.
    File(&'a mut File),
    /// Nowhere: they are only to be proven.
    Nowhere(io::Sink),
}

impl Place<'_> {
    /// Forgets what was written.
    pub(super) fn restart(&mut self) -> Result<()> {
        match self {
            Self::File(file) => disk::empty(file).map_err(writing),
            Self::Nowhere(_) => Ok(()),
        }
    }

    pub(super) fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::File(file) => *file,
            Self::Nowhere(sink) => sink,
        }
    }
}
