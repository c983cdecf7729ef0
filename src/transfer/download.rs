//! Download: an object from the store, proven before anybody sees it.
//!
//! at hand? → copies → copy, base → decode → prove → cache → temporary file.
//!
//! A chain that is fetched in passing is kept as it is, because the versions before may be wanted, too; and the second
//! time that one is, its objects are made one by one and kept. So a whole history costs each copy one GET per machine
//! and at most two decodings, in whatever order and by however many processes it is asked for: one in passing, and one
//! to make its object, by the one process that holds the lock for that.
//!
//! What surprises: it is tried twice. First as fast as possible: the chain is fetched at once by the
//! record in the header, with whatever is at hand as base, and only the result is hashed. When that is not the
//! object, every step is taken again by itself and hashed, so that one bad copy is found, named and gone
//! around (R7).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::path::PathBuf;

use super::progress::Meter;
use super::{Error, Result, Transfer, check, lock_file};
use crate::codec::{self, Header};
use crate::depot;
use crate::disk::{self, Bytes, Hashing, Spill, Workspace};
use crate::git::Version;
use crate::model::limits::{BUFFER_BYTES, CHAIN_DEPTH_MAX, RELISTS_MAX};
use crate::model::{Chain, CodecName, CopyId, CopyName, Key, KeyPrefix, Oid, StoredCopy};
use crate::store;
use crate::threads;

/// GETs of one chain that are on their way at once.
const LINKS_IN_FLIGHT: usize = 8;

/// Why one copy did not yield its object.
pub(super) enum Failure {
    /// Another copy, or another listing, may do better.
    Copy(String),
    /// Only a later version of this program can tell.
    Unknown(Key, CodecName),
    /// Trying anything else would fail alike.
    Fatal(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

pub(super) type Attempt<T> = std::result::Result<T, Failure>;

/// A copy of a chain, fetched.
struct Step {
    name: CopyName,
    payload: Bytes,
    /// The size of its object.
    size: u64,
}

impl Step {
    fn version(&self) -> Version {
        Version { oid: self.name.id.oid, size: self.size }
    }

    /// Returns the object of a copy that no codec made.
    fn raw(&self) -> Attempt<&[u8]> {
        let (found, size) = (self.payload.len() as u64, self.size);
        if found != size {
            let key = Key::copy(&self.name);
            return Err(Failure::Copy(format!("{key} has {found} bytes, not {size}")));
        }
        Ok(&self.payload)
    }
}

/// How a copy is taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Whatever is at hand serves as base; only the result is hashed.
    Swift,
    /// Every object on the way is hashed; what is not right is named.
    Thorough,
    /// The same, with nothing but what is in the store.
    Remote,
}

impl Transfer {
    /// Fetches one object into a temporary file that git-lfs may take away, and returns where it is.
    ///
    /// # Errors
    /// `NotStored`, `Damaged`, `CodecUnknown`, and what the store or the disk says. No file is left then.
    pub fn download(&self, version: Version, meter: &Meter) -> Result<PathBuf> {
        let file = self.in_time(|| self.download_inner(version, meter));
        let file = file.map_err(|error| error.about("download", version.oid))?;
        meter.finish();
        Ok(file)
    }

    fn download_inner(&self, version: Version, meter: &Meter) -> Result<PathBuf> {
        let failed = |source| Error::disk("write a temporary file", source);
        let mut file = self.workspace.file().map_err(failed)?;
        if !self.take_cached(version, file.as_file_mut(), meter)? {
            let mut write = |attempt: &mut dyn FnMut(&mut dyn Write) -> Attempt<()>| {
                disk::empty(file.as_file_mut()).map_err(failed)?;
                let mut sink = Hashing::new(io::BufWriter::with_capacity(BUFFER_BYTES, file.as_file_mut()));
                attempt(&mut sink)?;
                proven(sink, version.oid).map_err(failed).map_err(Failure::from)
            };
            let held = self.fetch(version, meter, &mut write)?;
            self.cache.offer(&version.oid, file.path());
            drop(held);
        }
        self.set_mode(file.as_file()).map_err(failed)?;
        let (_, path) = file.keep().map_err(|kept| failed(kept.error))?;
        Ok(path)
    }

    fn set_mode(&self, file: &File) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(mode) = self.file_mode {
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        Ok(())
    }

    /// Copies an object from the cache, or from git-lfs' own folder; `false` where it is in neither.
    fn take_cached(&self, version: Version, file: &mut File, meter: &Meter) -> Result<bool> {
        let Some(path) = self.at_hand(version) else { return Ok(false) };
        meter.stage(90, version.size);
        let mut sink = Hashing::new(io::BufWriter::with_capacity(BUFFER_BYTES, file));
        let copied = File::open(&path).and_then(|mut source| {
            disk::copy(&mut source, &mut sink, &mut |bytes| self.step(meter, bytes.len() as u64))
        });
        match copied.and_then(|_| proven(sink, version.oid)) {
            Ok(Proven::Yes) => Ok(true),
            Ok(Proven::No) => {
                self.cache.drop_wrong(&version.oid);
                Ok(false)
            }
            Err(error) if crate::cancel::is_cancelled(&error) => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot use what is at hand");
                Ok(false)
            }
        }
    }

    /// Fetches an object into one piece, proven, for all processes of the machine that want the same.
    pub(super) fn fetch_bytes(&self, version: Version, meter: &Meter) -> Result<Bytes> {
        let mut result = None;
        let held = self.fetch(version, meter, &mut |attempt| {
            let failed = |source| Failure::Fatal(Error::disk("write a temporary file", source));
            let mut sink = Hashing::new(Spill::new(&self.workspace));
            attempt(&mut sink)?;
            let (spill, found) = sink.into_parts();
            if found != version.oid {
                return Ok(Proven::No);
            }
            result = Some(spill.finish().map_err(failed)?);
            Ok(Proven::Yes)
        })?;
        let bytes = result.ok_or_else(|| Error::Internal("an object was fetched and is not there".into()))?;
        self.cache.offer_bytes(&version.oid, &bytes);
        drop(held);
        Ok(bytes)
    }

    /// Returns whether somebody who has nothing at hand would get an object.
    pub(super) fn store_yields(&self, version: Version) -> Result<bool> {
        for copy in self.copies(version.oid, 1)? {
            let mut sink = Hashing::new(io::sink());
            let silent = Meter::silent();
            match self.restore(&copy.name, version.size, Care::Remote, &silent, &mut sink) {
                Ok(()) if sink.into_parts().1 == version.oid => return Ok(true),
                Err(Failure::Fatal(error)) => return Err(error),
                _ => tracing::warn!(key = %Key::copy(&copy.name), "a copy does not yield its object"),
            }
        }
        Ok(false)
    }

    /// Returns whether a copy does not yield its object to somebody who has nothing at hand.
    pub(super) fn yields_wrong(&self, name: &CopyName, size: u64) -> Result<bool> {
        let mut sink = Hashing::new(io::sink());
        match self.restore(name, size, Care::Remote, &Meter::silent(), &mut sink) {
            Ok(()) => Ok(sink.into_parts().1 != name.id.oid),
            Err(Failure::Copy(_)) => Ok(true),
            Err(Failure::Unknown(..)) => Ok(false),
            Err(Failure::Fatal(error)) => Err(error),
        }
    }

    /// Tries the copies of an object until one yields it, lists again when one vanished meanwhile.
    ///
    /// `write` provides the place for the bytes, as often as it is tried, and says whether they are the object.
    /// Returns what keeps others from fetching the same, to be held until the object is in the cache.
    fn fetch(&self, version: Version, meter: &Meter, write: Place<'_>) -> Result<Option<disk::Lock>> {
        let mut reasons = Vec::new();
        let mut tried = HashSet::new();
        let mut unknown = None;
        let rounds = if self.depot.rules().hold("R7") { RELISTS_MAX } else { 0 };
        for round in 0..=rounds {
            let copies = self.copies(version.oid, round)?;
            let fresh: Vec<_> = copies.into_iter().filter(|copy| tried.insert(copy.name.id)).collect();
            if fresh.is_empty() {
                break;
            }
            for copy in fresh {
                match self.try_copy(&copy, version, meter, write) {
                    Ok(held) => return Ok(held),
                    Err(Failure::Fatal(error)) => return Err(error),
                    Err(Failure::Copy(reason)) => {
                        let key = Key::copy(&copy.name).to_string();
                        tracing::warn!(key, reason, "a copy does not yield its object");
                        // What is wrong may lie further down its chain.
                        let is_named = reason.contains(&key);
                        reasons.push(if is_named { reason } else { format!("{key}: {reason}") });
                    }
                    Err(Failure::Unknown(key, codec)) => unknown = Some((key, codec)),
                }
            }
        }
        let store = self.depot.name();
        match unknown {
            Some((key, codec)) => Err(Error::CodecUnknown { key, codec }),
            None if reasons.is_empty() => {
                Err(Error::NotStored { store, folder: KeyPrefix::folder(&version.oid).to_string() })
            }
            None => Err(Error::Damaged { store, reasons: reasons.join("; ") }),
        }
    }

    /// Lists the copies of an object, cheapest to read first.
    fn copies(&self, oid: Oid, round: usize) -> Result<Vec<StoredCopy>> {
        let recently =
            |round| if round == 0 { self.depot.look_recently(&oid) } else { self.depot.look(&oid) };
        let mut folder = recently(round).map_err(|error| self.depot_error(error))?;
        if folder.copies().is_empty() && round == 0 {
            // Nothing is called missing because of a listing that may be a minute old.
            folder = self.depot.look(&oid).map_err(|error| self.depot_error(error))?;
        }
        let mut copies = folder.copies().to_vec();
        copies.sort_by_key(|copy| (self.rank(&copy.name), copy.size));
        Ok(copies)
    }

    /// Orders copies: a delta whose base is at hand, a whole copy, any other delta.
    fn rank(&self, name: &CopyName) -> u8 {
        match name.base() {
            None => 1,
            Some(base) if self.has(&base.oid) => 0,
            Some(_) => 2,
        }
    }

    /// Returns whether an object seems to be at hand, whatever its size.
    pub(super) fn has(&self, oid: &Oid) -> bool {
        crate::git::place::object_path(&self.lfs_folder, oid).is_file()
    }

    fn try_copy(
        &self,
        copy: &StoredCopy,
        version: Version,
        meter: &Meter,
        write: Place<'_>,
    ) -> Attempt<Option<disk::Lock>> {
        meter.again();
        let mut held = None;
        if copy.name.base().is_none() {
            held = self.lock_chain(&copy.name.id, version.size)?;
            // Others may have fetched it meanwhile, as part of a chain.
            meter.stage(50, version.size);
            if let Some(bytes) = self.read_at_hand(version, meter)? {
                meter.stage(100, version.size);
                write(&mut |sink| self.write_object(&copy.name, &bytes, meter, sink))?;
                return Ok(held);
            }
        }
        let swift = write(&mut |sink| match copy.name.base() {
            None => self.restore(&copy.name, version.size, Care::Swift, meter, sink),
            Some(_) => self.restore_swiftly(&copy.name, version.size, meter, sink, &mut held),
        });
        match swift {
            Ok(Proven::Yes) => return Ok(held),
            Err(failure @ (Failure::Fatal(_) | Failure::Unknown(..))) => return Err(failure),
            Ok(Proven::No) => {}
            Err(Failure::Copy(reason)) => tracing::info!(reason, "trying again thoroughly"),
        }
        self.cache.drop_copy(&copy.name.id);
        meter.again();
        let thorough =
            write(&mut |sink| self.restore(&copy.name, version.size, Care::Thorough, meter, sink))?;
        match thorough {
            Proven::Yes => Ok(held),
            Proven::No => Err(Failure::Copy(format!("{} yields other bytes", Key::copy(&copy.name)))),
        }
    }

    /// Rebuilds an object from one copy into `sink`.
    fn restore(
        &self,
        name: &CopyName,
        size: u64,
        care: Care,
        meter: &Meter,
        sink: &mut dyn Write,
    ) -> Attempt<()> {
        self.restore_at(name, size, care, 1, meter, sink)
    }

    fn restore_at(
        &self,
        name: &CopyName,
        size: u64,
        care: Care,
        depth: usize,
        meter: &Meter,
        sink: &mut dyn Write,
    ) -> Attempt<()> {
        let key = Key::copy(name);
        let mut reading = if care == Care::Swift { self.read_kept(name)? } else { self.read(name)? };
        let Some(header) = reading.header.take() else {
            return self.copy_raw(&key, &mut *reading.payload, size, meter, sink);
        };
        check_size(&key, &header, size)?;
        if header.chain.links.is_empty() && name.codec() == Some(CodecName::ZSTD) {
            return self.decode(name, None, &mut *reading.payload, size, meter, sink);
        }
        meter.stage(10, size);
        let payload = self.spill(&key, &mut *reading.payload, meter)?;
        drop(reading);
        if header.chain.links.is_empty() {
            return self.decode(name, None, &mut &payload[..], size, meter, sink);
        }
        let base = meter.part(70, || self.base_thoroughly(&header.chain, care, depth, meter))?;
        self.decode(name, Some(&base), &mut &payload[..], size, meter, sink)
    }

    /// Rebuilds an object from a delta by its chain record; `held` keeps others from making the same.
    fn restore_swiftly(
        &self,
        name: &CopyName,
        size: u64,
        meter: &Meter,
        sink: &mut dyn Write,
        held: &mut Option<disk::Lock>,
    ) -> Attempt<()> {
        let key = Key::copy(name);
        meter.stage(5, size);
        let (header, payload) = self.fetch_copy(name, size, meter)?;
        let header = header.ok_or_else(|| Failure::Copy(format!("{key} has no header")))?;
        check_size(&key, &header, size)?;
        self.decode_chain(&header.chain, Step { name: *name, payload, size }, meter, sink, held)
    }

    pub(super) fn read(&self, name: &CopyName) -> Attempt<depot::Reading> {
        self.depot.read(name).map_err(|error| match error {
            depot::Error::Store(store::Error::NotFound { key }) => Failure::Copy(format!("{key} is gone")),
            depot::Error::Damaged { key, reason } => Failure::Copy(format!("{key}: {reason}")),
            error => Failure::Fatal(self.depot_error(error)),
        })
    }

    /// Opens a copy, the one that this machine keeps if there is one.
    fn read_kept(&self, name: &CopyName) -> Attempt<depot::Reading> {
        if let Some(file) = self.cache.find_copy(&name.id) {
            match self.depot.read_from(name, Box::new(io::BufReader::new(file))) {
                Ok(reading) => return Ok(reading),
                Err(error) => tracing::warn!(%error, "a cached copy was damaged and is dropped"),
            }
            self.cache.drop_copy(&name.id);
        }
        self.read(name)
    }

    fn copy_raw(
        &self,
        key: &Key,
        payload: &mut dyn Read,
        size: u64,
        meter: &Meter,
        sink: &mut dyn Write,
    ) -> Attempt<()> {
        meter.stage(100, size);
        let mut limited = payload.take(size.saturating_add(1));
        let mut source = Source::new(&mut limited);
        let copied = disk::copy(&mut source, sink, &mut |bytes| self.step(meter, bytes.len() as u64));
        match copied {
            Ok(copied) if copied == size => Ok(()),
            Ok(copied) => Err(Failure::Copy(format!("{key} has {copied} bytes or more, not {size}"))),
            Err(error) => Err(self.sort(key, source.failed, error)),
        }
    }

    pub(super) fn decode(
        &self,
        name: &CopyName,
        base: Option<&[u8]>,
        payload: &mut dyn Read,
        size: u64,
        meter: &Meter,
        sink: &mut dyn Write,
    ) -> Attempt<()> {
        let key = Key::copy(name);
        let Some(codec) = name.codec() else { return self.copy_raw(&key, payload, size, meter, sink) };
        meter.stage(100, size);
        let mut source = Source::new(payload);
        let watch = |done| self.step(meter, done);
        let permit = self.permit(codec, size)?;
        let decoded = codec::decode(codec, base, &mut source, size, &self.work(&permit, &watch), sink);
        match decoded {
            Ok(()) => Ok(()),
            Err(codec::Error::Unknown { codec }) => Err(Failure::Unknown(key, codec)),
            Err(codec::Error::Io(error)) => Err(self.sort(&key, source.failed, error)),
            Err(codec::Error::Corrupt { reason }) => match source.failed {
                true => Err(Failure::Fatal(self.unreadable(&key, io::Error::other(reason)))),
                false => Err(Failure::Copy(format!("{key}: {reason}"))),
            },
        }
    }

    /// Tells a store that failed from a disk that did.
    fn sort(&self, key: &Key, from_store: bool, error: io::Error) -> Failure {
        Failure::Fatal(match from_store {
            true => self.unreadable(key, error),
            false => Error::disk("write a temporary file", error),
        })
    }

    fn unreadable(&self, key: &Key, error: io::Error) -> Error {
        self.depot_error(store::Error::from_read(key, error).into())
    }

    /// Writes an object that is at hand.
    fn write_object(
        &self,
        name: &CopyName,
        object: &[u8],
        meter: &Meter,
        sink: &mut dyn Write,
    ) -> Attempt<()> {
        let mut written = object.chunks(BUFFER_BYTES).map(|piece| {
            sink.write_all(piece)?;
            self.step(meter, piece.len() as u64)
        });
        written.try_for_each(|piece| piece).map_err(|error| self.sort(&Key::copy(name), false, error))
    }

    /// Gathers a payload, because its base is needed before its first byte can be used.
    fn spill(&self, key: &Key, payload: &mut dyn Read, meter: &Meter) -> Attempt<Bytes> {
        let mut spill = Spill::new(&self.workspace);
        let mut source = Source::new(payload);
        let copied = disk::copy(&mut source, &mut spill, &mut |bytes| self.step(meter, bytes.len() as u64));
        copied.map_err(|error| self.sort(key, source.failed, error))?;
        spill.finish().map_err(|source| Failure::Fatal(Error::disk("write a temporary file", source)))
    }

    /// Rebuilds the object of a delta by its chain record: everything that is not at hand is fetched at once.
    ///
    /// Eight processes may want versions of one chain. Who comes later finds what the first has fetched, and waits for an
    /// object only where that very one is being made: `held` says so to the others.
    fn decode_chain(
        &self,
        chain: &Chain,
        last: Step,
        meter: &Meter,
        sink: &mut dyn Write,
        held: &mut Option<disk::Lock>,
    ) -> Attempt<()> {
        let (end, mut at_hand) = meter.part(15, || self.nearest_at_hand(chain, meter))?;
        let mut steps = Vec::new();
        if end > 0 {
            let reference = chain.reference();
            let _lock = reference.map(|link| self.lock_chain(&link.id, link.object_size)).transpose()?;
            if self.put_made(&last, meter, sink)? {
                return Ok(());
            }
            (steps, at_hand) = meter.part(80, || self.approach(chain, meter))?;
        }
        *held = self.lock_object(&last)?;
        if self.put_made(&last, meter, sink)? {
            return Ok(());
        }
        steps.push(last);
        let decoded = self.decode_steps(&steps, at_hand.as_ref(), meter, sink);
        if matches!(decoded, Err(Failure::Copy(_))) {
            chain.links.iter().for_each(|link| self.cache.drop_copy(&link.id));
        }
        decoded
    }

    /// Fetches what leads to the end of a chain: the steps that are left, and what they are made on. Those that were
    /// fetched before are made at once.
    fn approach(&self, chain: &Chain, meter: &Meter) -> Attempt<(Vec<Step>, Option<Bytes>)> {
        let (end, at_hand) = meter.part(20, || self.nearest_at_hand(chain, meter))?;
        let between = &chain.links[..end];
        let is_wanted_again = between.iter().any(|link| self.cache.has_copy(&link.id));
        meter.stage(60, between.iter().map(|link| link.stored_size).fold(0, u64::saturating_add));
        let steps = self.fetch_steps(chain, end, meter)?;
        if is_wanted_again {
            return Ok((Vec::new(), self.make_each(chain, &steps, at_hand, meter)?));
        }
        Ok((steps, at_hand))
    }

    /// Writes the object of a step if somebody has made it meanwhile.
    fn put_made(&self, step: &Step, meter: &Meter, sink: &mut dyn Write) -> Attempt<bool> {
        let Some(bytes) = self.read_at_hand(step.version(), &Meter::silent())? else { return Ok(false) };
        meter.stage(100, step.size);
        self.write_object(&step.name, &bytes, meter, sink)?;
        Ok(true)
    }

    /// Makes the objects of some steps one after the other, proves and keeps each, and returns the last.
    fn make_each(
        &self,
        chain: &Chain,
        steps: &[Step],
        base: Option<Bytes>,
        meter: &Meter,
    ) -> Attempt<Option<Bytes>> {
        let mut object = base;
        for (index, step) in steps.iter().enumerate() {
            let _lock = self.lock_object(step)?;
            let share = 100 * (index + 1) / steps.len();
            let made = match self.read_at_hand(step.version(), &Meter::silent())? {
                Some(made) => made,
                None => meter.part(share as u64, || self.make(chain, step, object.as_ref(), meter))?,
            };
            object = Some(made);
        }
        Ok(object)
    }

    /// Makes the object of a step, proves and keeps it.
    fn make(&self, chain: &Chain, step: &Step, base: Option<&Bytes>, meter: &Meter) -> Attempt<Bytes> {
        let mut made = Hashing::new(Spill::new(&self.workspace));
        self.decode_steps(std::slice::from_ref(step), base, meter, &mut made)?;
        let (spill, found) = made.into_parts();
        if found != step.name.id.oid {
            chain.links.iter().for_each(|link| self.cache.drop_copy(&link.id));
            return Err(Failure::Copy(format!("{} yields other bytes", Key::copy(&step.name))));
        }
        let bytes = spill.finish().map_err(|source| Error::disk("write a temporary file", source))?;
        self.cache.offer_bytes(&found, &bytes);
        Ok(bytes)
    }

    /// Decodes steps one against the other, the first against `base`.
    fn decode_steps<'a>(
        &self,
        steps: &'a [Step],
        held: Option<&'a Bytes>,
        meter: &Meter,
        sink: &mut dyn Write,
    ) -> Attempt<()> {
        let mut base = held.map(Deref::deref);
        let Some(last) = steps.last() else { return Err(Failure::Copy("a chain without copies".into())) };
        let (key, size) = (Key::copy(&last.name), last.size);
        let mut links = Vec::with_capacity(steps.len());
        for step in steps {
            tracing::debug!(copy = %Key::copy(&step.name), "decoding");
            match step.name.codec() {
                Some(codec) => links.push(codec::Link { codec, payload: &step.payload, size: step.size }),
                None => base = Some(step.raw()?),
            }
        }
        meter.stage(100, size);
        if links.is_empty() {
            return self.write_object(&last.name, base.unwrap_or_default(), meter, sink);
        }
        let held = held.as_slice();
        let watch = |done| self.step_on(held, meter, done);
        let permit = self.budget.wait(size, &self.cancel)?;
        let work = self.work(&permit, &watch);
        let held_so_far = check(held).map_err(codec::Error::from);
        match held_so_far.and_then(|()| codec::decode_chain(base, &links, &work, sink)) {
            Ok(()) => Ok(()),
            // Somebody writes to what is at hand: the thorough way reads it again.
            Err(codec::Error::Io(error)) if check(held).is_err() => {
                Err(Failure::Copy(format!("{key}: {error}")))
            }
            Err(codec::Error::Unknown { codec }) => {
                let unknown = steps.iter().find(|step| step.name.codec() == Some(codec));
                Err(Failure::Unknown(unknown.map_or(key, |step| Key::copy(&step.name)), codec))
            }
            Err(codec::Error::Io(error)) => Err(self.sort(&key, false, error)),
            // It may lie further down the chain; the thorough way tells.
            Err(codec::Error::Corrupt { reason }) => Err(Failure::Copy(format!("{key}: {reason}"))),
        }
    }

    /// Waits until no other process of this machine fetches a copy, or a chain on it.
    fn lock_chain(&self, id: &CopyId, size: u64) -> Result<Option<disk::Lock>> {
        self.lock_by_nonce("chains", id, size)
    }

    /// Waits until no other process of this machine fetches a copy. Nobody who holds this waits for anything else here.
    fn lock_copy(&self, id: &CopyId, size: u64) -> Result<Option<disk::Lock>> {
        self.lock_by_nonce("copies", id, size)
    }

    /// Waits until no other process of this machine makes the object of a copy. Nobody who holds this waits for another
    /// lock; who makes several holds one at a time.
    fn lock_object(&self, step: &Step) -> Result<Option<disk::Lock>> {
        self.lock_by_nonce("made", &step.name.id, step.size)
    }

    fn lock_by_nonce(&self, kind: &str, id: &CopyId, size: u64) -> Result<Option<disk::Lock>> {
        let Some(folder) = &self.lock_folder else { return Ok(None) };
        self.wait_for(&lock_file(&folder.join(kind), &id.nonce.to_string(), size))
    }

    /// Finds the first link of a chain whose object is at hand; else the chain's end.
    fn nearest_at_hand(&self, chain: &Chain, meter: &Meter) -> Attempt<(usize, Option<Bytes>)> {
        for (index, link) in chain.links.iter().enumerate() {
            let version = Version { oid: link.id.oid, size: link.object_size };
            meter.stage(100, version.size);
            if let Some(bytes) = self.read_at_hand_by(Workspace::hold, version, meter)? {
                return Ok((index, Some(bytes)));
            }
        }
        Ok((chain.depth(), None))
    }

    /// Fetches the copies of a chain's first `end` links, the lowest first.
    fn fetch_steps(&self, chain: &Chain, end: usize, meter: &Meter) -> Attempt<Vec<Step>> {
        let links = chain.links.iter().take(end).enumerate();
        let wanted: Vec<_> =
            links.filter_map(|(index, link)| Some((chain.name(index)?, link.object_size))).collect();
        if wanted.len() != end || chain.links.is_empty() {
            return Err(Failure::Copy("a chain record with a gap".into()));
        }
        let payloads = self.fetch_payloads(&wanted, meter)?;
        let steps = wanted.into_iter().zip(payloads);
        let mut steps: Vec<_> = steps.map(|((name, size), payload)| Step { name, payload, size }).collect();
        steps.reverse();
        Ok(steps)
    }

    /// Fetches copies, each with the size of its object.
    fn fetch_payloads(&self, wanted: &[(CopyName, u64)], meter: &Meter) -> Attempt<Vec<Bytes>> {
        let mut payloads = Vec::new();
        for group in wanted.chunks(LINKS_IN_FLIGHT) {
            let fetch = |(name, size): &(CopyName, u64)| -> Attempt<Bytes> {
                Ok(self.fetch_copy(name, *size, meter)?.1)
            };
            let Some((last, others)) = group.split_last() else { continue };
            let fetched: Vec<Attempt<Bytes>> = std::thread::scope(|scope| {
                let fetching: Vec<_> =
                    others.iter().map(|copy| (copy, threads::start_in(scope, move || fetch(copy)))).collect();
                // Most have one step: to start a thread for it would take as long as all else.
                let last = fetch(last);
                // What the system has no thread for is fetched here, after that.
                let take = |(copy, thread): (_, io::Result<_>)| thread.map_or_else(|_| fetch(copy), join);
                fetching.into_iter().map(take).chain([last]).collect()
            });
            for payload in fetched {
                payloads.push(payload?);
            }
        }
        Ok(payloads)
    }

    /// Fetches a copy and keeps it: others may want its object, or be made of it in passing, at this very moment.
    fn fetch_copy(&self, name: &CopyName, size: u64, meter: &Meter) -> Attempt<(Option<Header>, Bytes)> {
        let _lock = self.lock_copy(&name.id, size)?;
        let mut reading = self.read_kept(name)?;
        let bytes = self.spill(&Key::copy(name), &mut *reading.payload, meter)?;
        match &reading.header {
            Some(header) => self.cache.offer_copy(&name.id, &[&header.to_bytes(), &bytes]),
            // It is the object itself, if it is right.
            None if Oid::of(&bytes) == name.id.oid => self.cache.offer_bytes(&name.id.oid, &bytes),
            None => {}
        }
        Ok((reading.header, bytes))
    }

    /// Rebuilds the base of a delta from any copy of it that yields it, each step proven.
    fn base_thoroughly(&self, chain: &Chain, care: Care, depth: usize, meter: &Meter) -> Attempt<Bytes> {
        let Some(link) = chain.links.first() else {
            return Err(Failure::Copy("a delta without a chain".into()));
        };
        let version = Version { oid: link.id.oid, size: link.object_size };
        meter.stage(50, version.size);
        if care != Care::Remote
            && let Some(bytes) = self.read_at_hand(version, meter)?
        {
            return Ok(bytes);
        }
        if depth >= CHAIN_DEPTH_MAX {
            return Err(Failure::Copy(format!(
                "the chain is longer than {CHAIN_DEPTH_MAX} copies, or a circle"
            )));
        }
        let folder = self.depot.look(&version.oid).map_err(|error| self.depot_error(error))?;
        let mut copies: Vec<_> = folder.copies().iter().map(|copy| copy.name).collect();
        // The very copy that the delta was made on first; by content any other is as good.
        copies.sort_by_key(|name| name.id != link.id);
        let mut reasons = Vec::new();
        for name in &copies {
            let mut sink = Hashing::new(Spill::new(&self.workspace));
            meter.again();
            match self.restore_at(name, version.size, care, depth + 1, meter, &mut sink) {
                Ok(()) => {}
                Err(Failure::Copy(reason)) => {
                    reasons.push(reason);
                    continue;
                }
                Err(failure) => return Err(failure),
            }
            let (spill, found) = sink.into_parts();
            if found == version.oid {
                let bytes = spill.finish().map_err(|source| Error::disk("write a temporary file", source))?;
                return Ok(bytes);
            }
            reasons.push(format!("{} yields other bytes", Key::copy(name)));
        }
        if copies.is_empty() {
            reasons.push(format!("its base {} is gone", link.id));
        }
        Err(Failure::Copy(reasons.join("; ")))
    }
}

fn check_size(key: &Key, header: &Header, size: u64) -> Attempt<()> {
    if header.object_size != size {
        let found = header.object_size;
        return Err(Failure::Copy(format!("{key} is of an object of {found} bytes, not {size}")));
    }
    Ok(())
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Attempt<T>>) -> Attempt<T> {
    thread.join().unwrap_or_else(|_| Err(Failure::Fatal(Error::Internal("a download thread failed".into()))))
}

/// Provides a place for an object's bytes as often as it is tried.
type Place<'a> = &'a mut dyn FnMut(&mut dyn FnMut(&mut dyn Write) -> Attempt<()>) -> Attempt<Proven>;

/// Whether the bytes that were written are the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proven {
    Yes,
    No,
}

/// Returns whether what was written is the object.
fn proven<W: Write>(sink: Hashing<W>, expected: Oid) -> io::Result<Proven> {
    let (_, found) = sink.finish()?;
    Ok(if found == expected { Proven::Yes } else { Proven::No })
}

/// Remembers that reading failed, where the same error could come from writing.
struct Source<'a> {
    inner: &'a mut dyn Read,
    failed: bool,
}

impl<'a> Source<'a> {
    fn new(inner: &'a mut dyn Read) -> Self {
        Self { inner, failed: false }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        self.failed |= read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        read
    }
}
