//! Stores a file: as the reference and a delta on it, as a delta, or as it is.
//!
//! read → look → reference → encode → prove → put → look again.
//!
//! What surprises: once a name has a whole file, later versions under that name stay whole. Other tools prefer a whole
//! file to a delta of the same name, so a newer delta beside it would never be seen; and nothing is ever deleted here.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use super::metadata::{About, AboutDelta, Facts};
use super::{DeltaSpace, Error, Hashing, LOOKS_MAX, REFERENCE, Reference, Result, buffered};
use crate::clock;
use crate::codec::{self, vcdiff};
use crate::disk::{Bytes, Fingerprint};
use crate::model::limits::DELTA_MAX_PERCENT;
use crate::model::{FileName, Oid};
use crate::plan;
use crate::store::artefacts::{Found, Metadata, Placing};
use crate::store::{self, Body, Source};

/// What files begin with that stock `xdelta3` decompresses before it uses them as a base: bzip2, gzip, compress, xz.
const OPENED_BY_XDELTA3: [&[u8]; 4] = [b"BZh", b"\x1f\x8b", b"\x1f\x9d", b"\xfd7"];

/// Whether stock `xdelta3` would decompress a base before it uses it.
fn is_opened_by_xdelta3(bytes: &[u8]) -> bool {
    OPENED_BY_XDELTA3.iter().any(|start| bytes.starts_with(start))
}

/// A file of this machine, read in one piece.
pub struct Local {
    path: PathBuf,
    bytes: Bytes,
    sha256: Oid,
    md5: [u8; 16],
}

/// How a file was stored.
#[derive(Debug, Clone)]
pub struct Put {
    /// The file that was written.
    pub name: FileName,
    /// The bytes of the file.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Oid,
    /// The delta, where it is one.
    pub delta: Option<PutDelta>,
    /// Why there is no delta, where there is none.
    pub why_whole: Option<String>,
    /// Whether another version had the name.
    pub replaced: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A delta that was stored.
#[derive(Debug, Clone, Copy)]
pub struct PutDelta {
    /// Its bytes.
    pub size: u64,
    /// The SHA-256 of its reference.
    pub reference: Oid,
    /// Whether the file became the reference.
    pub is_first: bool,
    /// Whether the reference was at hand.
    pub was_cached: bool,
}

impl Put {
    /// Returns what share of the file its delta takes.
    pub fn ratio(&self) -> Option<f64> {
        let delta = self.delta?;
        Some(if self.size == 0 { 0.0 } else { delta.size as f64 / self.size as f64 })
    }
}

/// What a DeltaSpace has when a file is to be stored.
struct Seen {
    reference: Option<Found>,
    whole: Option<Found>,
    delta: Option<Found>,
    created_at: String,
}

/// What deltas are made against, and how it was come by.
struct Base {
    reference: Reference,
    /// Whether the file itself just became it.
    is_first: bool,
    was_cached: bool,
}

/// What is to be done.
enum Plan {
    /// Nothing else will do, and why.
    Whole(String),
    /// Nothing else will do because of damage that the user should know of.
    WholeWarned(String),
    Delta(Base),
    /// Others changed what was seen.
    LookAgain,
}

/// A delta that was proven, in a temporary file.
struct Draft {
    file: tempfile::NamedTempFile,
    size: u64,
    digest: Oid,
}

impl DeltaSpace<'_> {
    /// Reads a file of this machine.
    ///
    /// # Errors
    /// `LocalMissing`, `LocalChanged`, `Usage` for what is no file, and what the disk says.
    pub fn read(&self, path: &Path) -> Result<Local> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::Usage(format!("there is no file {}", path.display())),
            _ => Error::disk(format!("read {}", path.display()), source),
        };
        let mut file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::Usage(format!("{} is no file", path.display())));
        }
        let before = Fingerprint::of(&file).map_err(failed)?;
        let mut md5 = Md5::new();
        let (bytes, sha256) =
            self.machine.gather(&mut file, &mut |bytes| md5.update(bytes)).map_err(failed)?;
        if Fingerprint::of(&file).map_err(failed)? != before {
            return Err(Error::LocalChanged { path: path.to_owned() });
        }
        Ok(Local { path: path.to_owned(), bytes, sha256, md5: md5.finalize().into() })
    }

    /// Stores a file under a name; a delta beyond `ratio_max` is warned about.
    ///
    /// # Errors
    /// What the place or the disk says; `Crowded`, `LocalChanged`.
    pub fn put(&self, local: &Local, name: &FileName, ratio_max: f64) -> Result<Put> {
        for _ in 0..LOOKS_MAX {
            let seen = self.look(name)?;
            let done = match self.plan(local, name, &seen)? {
                Plan::Whole(why) => Some(self.put_whole(local, name, &seen, why)?),
                Plan::WholeWarned(why) => {
                    let mut put = self.put_whole(local, name, &seen, why.clone())?;
                    put.warnings.push(why);
                    Some(put)
                }
                Plan::Delta(base) => self.put_delta(local, name, &seen, &base)?,
                Plan::LookAgain => None,
            };
            if let Some(mut done) = done {
                if let Some(ratio) = done.ratio().filter(|ratio| *ratio > ratio_max && !is_first(&done)) {
                    done.warnings
                        .push(format!("the delta takes {ratio:.2} of the file, more than {ratio_max}"));
                }
                return Ok(done);
            }
            self.observer.step("others changed the DeltaSpace: looking again");
        }
        Err(Error::Crowded { key: self.key(&FileName::reference()) })
    }

    fn look(&self, name: &FileName) -> Result<Seen> {
        let delta = self.find(&self.delta_name(name)?)?;
        // A newer file must not look older because a clock is behind: readers take the later of two.
        let now = clock::utc_text(clock::now());
        let before = delta.as_ref().and_then(|delta| Facts::read(&delta.metadata).created_at);
        let created_at =
            before.map(|before| format!("{before}Z")).filter(|before| *before > now).unwrap_or(now);
        let (reference, whole) = (self.find(&FileName::reference())?, self.find(name)?);
        Ok(Seen { reference, whole, delta, created_at })
    }

    fn delta_name(&self, name: &FileName) -> Result<FileName> {
        name.delta().map_err(|error| Error::Usage(error.to_string()))
    }

    fn plan(&self, local: &Local, name: &FileName, seen: &Seen) -> Result<Plan> {
        if seen.whole.is_some() {
            return Ok(Plan::Whole("the name has a whole file already, which hides a delta".into()));
        }
        if local.bytes.is_empty() {
            return Ok(Plan::Whole("it is empty".into()));
        }
        let Some(found) = &seen.reference else { return self.become_reference(local, name, seen) };
        let facts = Facts::read(&found.metadata);
        if let Some(size) = facts.size.filter(|size| *size != found.size) {
            let found = found.size;
            return Ok(Plan::WholeWarned(format!(
                "{REFERENCE} is damaged: it has {found} bytes instead of {size}"
            )));
        }
        let said = facts.sha256;
        if let Some(at_hand) = said.map(|said| self.reference_at_hand(said)).transpose()?.flatten() {
            return Ok(self.judge(at_hand, true));
        }
        let Some(reference) = self.read_reference(&self.folder, found)? else { return Ok(Plan::LookAgain) };
        if said.is_some_and(|said| said != reference.sha256) {
            let found = reference.sha256;
            return Ok(Plan::WholeWarned(format!(
                "{REFERENCE} is damaged: its SHA-256 is {found}, not what is said of it"
            )));
        }
        Ok(self.judge(reference, false))
    }

    /// Decides whether deltas on a reference can be decoded by all who may come.
    fn judge(&self, reference: Reference, was_cached: bool) -> Plan {
        if is_opened_by_xdelta3(&reference.bytes) {
            return Plan::Whole(format!(
                "{REFERENCE} is compressed, and stock xdelta3 would decode no delta on it"
            ));
        }
        Plan::Delta(Base { reference, is_first: false, was_cached })
    }

    /// Makes a file the reference, unless somebody else was faster.
    fn become_reference(&self, local: &Local, name: &FileName, seen: &Seen) -> Result<Plan> {
        if is_opened_by_xdelta3(&local.bytes) {
            return Ok(Plan::Whole("it is compressed, and stock xdelta3 would decode no delta on it".into()));
        }
        self.observer.step("there is no reference: the file becomes it");
        let metadata = local.about(&seen.created_at).reference(name);
        match self.send(&FileName::reference(), local.source(), local.sha256, &metadata, Placing::Create) {
            Ok(()) => {}
            Err(store::Error::AlreadyExists { .. }) => return Ok(Plan::LookAgain),
            Err(error) => return Err(self.put_failed(error, local)),
        }
        self.machine.keep(&local.sha256, &local.bytes);
        // Conditional writes are ignored by some services: only what is seen now is the reference.
        let found = self.find(&FileName::reference())?;
        let said = found.and_then(|found| Facts::read(&found.metadata).sha256);
        if said != Some(local.sha256) {
            return Ok(Plan::LookAgain);
        }
        let Some(reference) = self.reference_at_hand(local.sha256)? else {
            // The cache keeps nothing, or nothing so large: the bytes are here all the same.
            let copied = self.machine.gather(&mut &local.bytes[..], &mut |_| ());
            let (bytes, sha256) = copied.map_err(|source| Error::disk("write a temporary file", source))?;
            return Ok(Plan::Delta(Base {
                reference: self.remember(bytes, sha256),
                is_first: true,
                was_cached: true,
            }));
        };
        Ok(Plan::Delta(Base { reference, is_first: true, was_cached: true }))
    }

    fn put_whole(&self, local: &Local, name: &FileName, seen: &Seen, why: String) -> Result<Put> {
        self.observer.step(&format!("storing it whole: {why}"));
        let metadata = local.about(&seen.created_at).whole(name);
        self.send(name, local.source(), local.sha256, &metadata, Placing::Replace)
            .map_err(|error| self.put_failed(error, local))?;
        let replaced = seen.whole.is_some() || seen.delta.is_some();
        Ok(local.stored(name.clone(), None, Some(why), replaced))
    }

    /// Stores a delta, or the whole file where the delta does not pay; `None` where the reference changed meanwhile.
    fn put_delta(&self, local: &Local, name: &FileName, seen: &Seen, base: &Base) -> Result<Option<Put>> {
        let draft = self.encode(local, &base.reference)?;
        let size = local.bytes.len() as u64;
        self.observer.step(&format!("a delta of {} bytes for {size}, proven", draft.size));
        if !base.is_first && draft.size > plan::percent(size, DELTA_MAX_PERCENT) {
            let why = format!("a delta would take {} of {size} bytes", draft.size);
            return self.put_whole(local, name, seen, why).map(Some);
        }
        let reference_key = self.key(&FileName::reference());
        let delta = AboutDelta {
            name,
            reference: reference_key.as_str(),
            reference_sha256: base.reference.sha256,
            size: draft.size,
            is_zero: base.reference.sha256 == local.sha256,
        };
        let metadata = local.about(&seen.created_at).delta(delta);
        let (delta_name, source) =
            (self.delta_name(name)?, Source::File { path: draft.file.path(), size: draft.size });
        self.send(&delta_name, source, draft.digest, &metadata, Placing::Replace)
            .map_err(|error| self.failed(error))?;
        // The base must have been there, and the same, once the delta was.
        let after = self.find(&FileName::reference())?;
        let said = after.as_ref().and_then(|after| Facts::read(&after.metadata).sha256);
        let is_same = match said {
            Some(said) => said == base.reference.sha256,
            None => after.is_some() && after.map(|after| after.version) == seen.version_of_reference(),
        };
        let put = PutDelta {
            size: draft.size,
            reference: base.reference.sha256,
            is_first: base.is_first,
            was_cached: base.was_cached,
        };
        Ok(is_same.then(|| local.stored(delta_name, Some(put), None, seen.delta.is_some())))
    }

    /// Encodes a file against a reference and proves the delta by decoding it.
    fn encode(&self, local: &Local, reference: &Reference) -> Result<Draft> {
        let failed = |source| Error::disk("write a temporary file", source);
        let _permit = self.machine.budget.wait(local.bytes.len() as u64, &self.machine.cancel)?;
        let mut sink = Hashing::new(buffered(self.machine.workspace.file().map_err(failed)?));
        let check = || self.machine.step();
        vcdiff::encode(&reference.bytes, &local.bytes, self.machine.effort, &mut sink, &check)
            .map_err(encoding)?;
        let (writer, digest) = sink.finish().map_err(failed)?;
        let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        let mut delta = File::open(file.path()).map_err(failed)?;
        let mut proof = Hashing::new(io::sink());
        let size = local.bytes.len() as u64;
        let decoded = vcdiff::decode(&reference.bytes, &mut delta, size, &mut proof, &check);
        let (_, found) = proof.finish().map_err(failed)?;
        if decoded.map_err(encoding)? != size || found != local.sha256 {
            return Err(Error::Internal("a delta that was just made does not yield the file".into()));
        }
        let size = delta.metadata().map_err(failed)?.len();
        Ok(Draft { file, size, digest })
    }

    fn send(
        &self,
        name: &FileName,
        source: Source<'_>,
        digest: Oid,
        metadata: &Metadata,
        placing: Placing,
    ) -> store::Result<()> {
        let key = self.key(name);
        self.observer.step(&format!("storing {key}, {} bytes", source.size()));
        let body = Body { source, digest, sent: &|bytes| self.observer.moved(bytes) };
        self.store.put(&key, &body, metadata, placing)
    }

    /// Sorts an error of storing the file itself.
    fn put_failed(&self, error: store::Error, local: &Local) -> Error {
        match error {
            store::Error::Digest { .. } => Error::LocalChanged { path: local.path.clone() },
            error => self.failed(error),
        }
    }
}

fn is_first(put: &Put) -> bool {
    put.delta.is_some_and(|delta| delta.is_first)
}

fn encoding(error: codec::Error) -> Error {
    match error {
        codec::Error::Io(source) => Error::disk("encode", source),
        error => error.into(),
    }
}

impl Seen {
    fn version_of_reference(&self) -> Option<Option<String>> {
        self.reference.as_ref().map(|reference| reference.version.clone())
    }
}

impl Local {
    fn about<'a>(&self, created_at: &'a str) -> About<'a> {
        About { sha256: self.sha256, md5: self.md5, size: self.bytes.len() as u64, created_at }
    }

    /// Returns what is sent: the file itself where it is large, so that it goes in parts.
    fn source(&self) -> Source<'_> {
        match &self.bytes {
            Bytes::Memory(bytes) => Source::Bytes(bytes),
            _ => Source::File { path: &self.path, size: self.bytes.len() as u64 },
        }
    }

    fn stored(
        &self,
        name: FileName,
        delta: Option<PutDelta>,
        why_whole: Option<String>,
        replaced: bool,
    ) -> Put {
        let (size, sha256) = (self.bytes.len() as u64, self.sha256);
        Put { name, size, sha256, delta, why_whole, replaced, warnings: Vec::new() }
    }
}
