//! Upload: an object to the store, as the smallest thing from which everybody can rebuild it.
//!
//! names → candidates → plan → encode → prove → put copy → confirm base → remember → cache.
//!
//! What surprises: a delta whose base was condemned meanwhile stays where it is, unused. The object is then
//! stored whole under a new name, and only that is relied upon.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::{self, ScopedJoinHandle};

use super::draft::{Begun, Draft};
use super::progress::Meter;
use super::{Error, Permit, Result, Transfer, check};
use crate::clock::Stopwatch;
use crate::codec::{self, Effort, Encoded, Header, Pair};
use crate::depot::{self, Base, Presence, Settled};
use crate::disk::{Bytes, Fingerprint, Hashing, Workspace};
use crate::git::Version;
use crate::model::limits::{LOOK_AGAIN_MIN_BYTES, SMALL_OBJECT_MAX_BYTES, TRANSFER_AGE_MAX};
use crate::model::{Chain, CopyId, CopyName, Link, Shape};
use crate::plan::{self, Bounds, DeltaCost, Verdict};
use crate::store::{self, Body, Source};
use crate::threads;

/// How an object came to be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was there.
    Already,
    /// As a delta.
    Delta {
        /// Bytes that went to the store.
        size: u64,
        /// Copies that a reader with an empty disk fetches.
        depth: usize,
        /// What it was made against.
        base: CopyId,
    },
    /// As a whole.
    Whole {
        /// Bytes that went to the store.
        size: u64,
    },
}

/// An object that somebody wants to have stored.
pub(super) struct Given<'a> {
    pub(super) version: Version,
    pub(super) path: &'a Path,
    /// The versions before it, nearest first; `None` where git is to be asked.
    pub(super) earlier: Option<Vec<Version>>,
    pub(super) owner: Owner,
}

/// Whose file an object is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// git-lfs: it never changes, so that the cache may share its bytes.
    GitLfs,
    /// The user, who may change it at any time.
    User,
}

/// An object that is to be stored: proven to be what its oid says, and watched for changes.
pub(super) struct Target<'a> {
    pub(super) version: Version,
    pub(super) path: &'a Path,
    fingerprint: Fingerprint,
    owner: Owner,
    /// Of a small one the bytes, once they were read and proven.
    bytes: OnceCell<Rc<Bytes>>,
}

impl<'a> Target<'a> {
    const fn new(version: Version, path: &'a Path, fingerprint: Fingerprint, owner: Owner) -> Self {
        Self { version, path, fingerprint, owner, bytes: OnceCell::new() }
    }

    pub(super) const fn is_small(&self) -> bool {
        self.version.size <= SMALL_OBJECT_MAX_BYTES
    }
}

/// What came of a delta.
enum Tried {
    /// It is in the store.
    Stored(Stored),
    /// It would have taken this much, on a chain that is too deep for it.
    TooDeep {
        /// Bytes of the copy.
        stored_size: u64,
    },
    /// It does not pay, or its base is of no use.
    Unfit,
}

/// A copy that was decoded and yields its object. Only such are published.
struct Proven(Draft);

impl Transfer {
    /// Stores one object and returns how it is stored.
    ///
    /// `path` is where git-lfs says that the object is; where that is not so, its own folder is looked at.
    ///
    /// # Errors
    /// `LocalCorrupt`, `LocalMissing`, and what the store or the disk says. Nothing is published then that is
    /// not whole.
    pub fn upload(&self, version: Version, path: &Path, meter: &Meter) -> Result<Stored> {
        self.upload_given(Given { version, path, earlier: None, owner: Owner::GitLfs }, meter)
    }

    pub(super) fn upload_given(&self, given: Given<'_>, meter: &Meter) -> Result<Stored> {
        let watch = Stopwatch::start();
        let version = given.version;
        let stored = self.in_time(|| self.upload_inner(given, meter));
        let stored = stored.map_err(|error| error.about("upload", version.oid))?;
        if self.depot.rules().hold("R6") && watch.elapsed() > TRANSFER_AGE_MAX {
            // What was seen two weeks ago may have been collected since (R6).
            return Err(Error::Expired.about("upload", version.oid));
        }
        meter.finish();
        Ok(stored)
    }

    fn upload_inner(&self, given: Given<'_>, meter: &Meter) -> Result<Stored> {
        let Given { version, path, earlier, owner } = given;
        self.register()?;
        let presence = self.presence(version)?;
        if presence == Presence::Stored && !self.needs_repair(version)? {
            return Ok(Stored::Already);
        }
        let path = if path.is_file() { path.to_path_buf() } else { self.own_path(version) };
        let fingerprint = self.look_at_local(&path, version)?;
        let target = Target::new(version, &path, fingerprint, owner);
        if presence != Presence::Absent {
            return self.store_beside(&target, meter);
        }
        if !plan::is_worth_a_delta(version.size) {
            return self.store_locked(&target, &[], meter);
        }
        let earlier = earlier.unwrap_or_else(|| self.earlier(version));
        tracing::debug!("{} earlier versions of the path are known", earlier.len());
        self.settle_history(version, &earlier, meter)?;
        self.store_locked(&target, &earlier, meter)
    }

    /// Stores an object whole, beside copies that cannot be relied upon.
    ///
    /// Where one chain has a gap, the chain of the version before may have the same: only this repairs for sure.
    fn store_beside(&self, target: &Target<'_>, meter: &Meter) -> Result<Stored> {
        let _lock = self.lock(target.version)?;
        let stored = self.store_whole(target, meter)?;
        self.offer(target, stored);
        Ok(stored)
    }

    /// Returns whether this push is to repair what is stored, and the store does not yield this object.
    fn needs_repair(&self, version: Version) -> Result<bool> {
        Ok(self.repair && !self.store_yields(version)?)
    }

    fn own_path(&self, version: Version) -> PathBuf {
        crate::git::place::object_path(&self.lfs_folder, &version.oid)
    }

    /// Records where this push comes from, once per process.
    fn register(&self) -> Result<()> {
        if let Some(url) = &self.registration
            && self.registered.get().is_none()
        {
            self.depot.register(url).map_err(|error| self.depot_error(error))?;
            self.registered.get_or_init(|| ());
        }
        Ok(())
    }

    fn is_known(&self, version: Version) -> Result<bool> {
        let oid = &version.oid;
        if self.depot.remembers(oid) {
            return Ok(true);
        }
        let is_worth_a_look = version.size > LOOK_AGAIN_MIN_BYTES;
        Ok(is_worth_a_look && self.depot.is_seen(oid).map_err(|error| self.depot_error(error))?)
    }

    fn presence(&self, version: Version) -> Result<Presence> {
        self.depot.presence(&version.oid).map_err(|error| self.depot_error(error))
    }

    /// Stores an earlier version that is locked, unless somebody did so meanwhile.
    pub(super) fn store_once(&self, version: Version, earlier: &[Version], meter: &Meter) -> Result<Stored> {
        let path = self.own_path(version);
        let fingerprint = self.look_at_local(&path, version)?;
        self.store_unless_known(&Target::new(version, &path, fingerprint, Owner::GitLfs), earlier, meter)
    }

    fn store_locked(&self, target: &Target<'_>, earlier: &[Version], meter: &Meter) -> Result<Stored> {
        let version = target.version;
        let _lock = if target.is_small() {
            // It takes milliseconds, and shares its lock with others: to look for something else to do takes longer.
            self.lock(version)?
        } else {
            self.lock_usefully(version, version)?
        };
        self.store_unless_known(target, earlier, meter)
    }

    /// Stores an object that is locked.
    fn store_unless_known(&self, target: &Target<'_>, earlier: &[Version], meter: &Meter) -> Result<Stored> {
        // Another process may have stored it while this one waited, or another machine since the last listing.
        if self.is_known(target.version)? && self.presence(target.version)? == Presence::Stored {
            return Ok(Stored::Already);
        }
        let stored = self.store(target, earlier, meter)?;
        self.offer(target, stored);
        self.leave_hint(target)?;
        Ok(stored)
    }

    fn offer(&self, target: &Target<'_>, stored: Stored) {
        if target.owner == Owner::GitLfs {
            self.cache.offer(&target.version.oid, target.path);
        }
        tracing::info!(oid = %target.version.oid, size = target.version.size, ?stored, "stored");
    }

    fn store(&self, target: &Target<'_>, earlier: &[Version], meter: &Meter) -> Result<Stored> {
        if let Some(stored) = self.resume(target, meter)? {
            return Ok(stored);
        }
        if let Some(base) = self.find_base(target, earlier)?
            && let Some(stored) = self.store_on_chain(target, &base, meter)?
        {
            return Ok(stored);
        }
        self.store_whole(target, meter)
    }

    /// Stores the object as a delta on a copy or on one lower down its chain; `None` when none of them will do.
    fn store_on_chain(&self, target: &Target<'_>, tip: &Settled, meter: &Meter) -> Result<Option<Stored>> {
        let size = target.version.size;
        let last = tip.chain.depth() - 1;
        let bounds = self.bounds(target.version);
        let mut next = bounds.first_base(&tip.chain, size);
        while let Some(at) = next {
            meter.again();
            let tried = match self.find_link(tip, at)? {
                Some(base) => self.store_delta(target, &base, bounds, meter)?,
                None => Tried::Unfit,
            };
            next = match tried {
                Tried::Stored(stored) => return Ok(Some(stored)),
                Tried::TooDeep { stored_size } => bounds.lower_base(&tip.chain, size, at, stored_size),
                Tried::Unfit => (at < last).then_some(last),
            };
        }
        Ok(None)
    }

    /// Finds what a delta should be built on: the version before, else something that probably resembles.
    fn find_base(&self, target: &Target<'_>, earlier: &[Version]) -> Result<Option<Settled>> {
        if !plan::is_worth_a_delta(target.version.size) {
            return Ok(None);
        }
        match self.nearest_base(earlier)? {
            Some(base) => Ok(Some(base)),
            None => self.likely_base(target),
        }
    }

    /// Finds the nearest earlier version that a delta may be built on.
    fn nearest_base(&self, earlier: &[Version]) -> Result<Option<Settled>> {
        for version in earlier {
            let base = self.depot.find_base(&version.oid).map_err(|error| self.depot_error(error))?;
            if let Some(base) = base {
                let depth = base.chain.depth();
                tracing::debug!(base = %base.id(), depth, "the nearest earlier version that can be built on");
                return Ok(Some(base));
            }
            tracing::debug!(oid = %version.oid, "passed over: no copy of this earlier version can be built on");
        }
        tracing::debug!("no base");
        Ok(None)
    }

    /// Finds a copy of the object of link `at` of a chain that may be built on, and that is no deeper.
    fn find_link(&self, tip: &Settled, at: usize) -> Result<Option<Settled>> {
        if at == 0 {
            return Ok(Some(tip.clone()));
        }
        let below = tip.chain.below(at);
        let Some(link) = below.links.first() else { return Ok(None) };
        let found = self.depot.find_base(&link.id.oid).map_err(|error| self.depot_error(error))?;
        Ok(found.filter(|found| found.chain.depth() <= below.depth()))
    }

    /// Stores the object as a delta, if that works out and pays.
    fn store_delta(
        &self,
        target: &Target<'_>,
        base: &Settled,
        bounds: Bounds,
        meter: &Meter,
    ) -> Result<Tried> {
        let size = target.version.size;
        if !bounds.may_extend(&base.chain, size) {
            tracing::debug!(base = %base.id(), "refused: its chain is as long as a cold reader may pay for");
            return Ok(Tried::Unfit);
        }
        let Some((bytes, target_bytes)) = meter.part(15, || self.read_pair(target, base, meter))? else {
            return Ok(Tried::Unfit);
        };
        let id = self.new_id(target)?;
        meter.stage(65, size);
        let held = [&bytes, &*target_bytes];
        let drafted = unless_wanted(self.draft_delta(target, id, base, held, meter), &held)?;
        drop(target_bytes);
        let Some(draft) = drafted else { return Ok(Tried::Unfit) };
        match self.verdict(target, base, bounds, &draft, meter)? {
            Verdict::Keep => {}
            Verdict::TooDeep => return Ok(Tried::TooDeep { stored_size: draft.stored_size }),
            Verdict::Measure | Verdict::TooLarge => return Ok(Tried::Unfit),
        }
        meter.stage(90, size);
        let proven = self.prove(draft, target, Some(&bytes), meter);
        let Some(proven) = unless_wanted(proven, &[&bytes])? else { return Ok(Tried::Unfit) };
        drop(bytes);
        let name = CopyName { id, shape: Shape::Delta { base: base.id(), codec: proven.0.encoded.codec } };
        self.publish_proven(name, &proven, meter)?;
        let confirmed = self.depot.base_of(&base.id()).map_err(|error| self.depot_error(error))?;
        if confirmed == Base::Condemned {
            tracing::warn!(base = %base.id(), "the base is condemned or gone: storing the object whole");
            self.depot.distrust(&base.id());
            return Ok(Tried::Unfit);
        }
        let chain = chain_with(&name, target.version.size, &proven, &base.chain);
        let depth = chain.depth();
        self.remember(chain);
        Ok(Tried::Stored(Stored::Delta { size: proven.0.stored_size, depth, base: base.id() }))
    }

    /// Reads the base and the object, each into one piece; `None` when no source has the right base.
    fn read_pair(
        &self,
        target: &Target<'_>,
        base: &Settled,
        meter: &Meter,
    ) -> Result<Option<(Bytes, Rc<Bytes>)>> {
        if target.is_small() {
            let Some(bytes) = self.base_bytes(base, meter)? else { return Ok(None) };
            return Ok(Some((bytes, self.target_bytes(target, meter)?)));
        }
        let (path, size) = (target.path, target.version.size);
        // It is not hashed here: the proof of the delta is one of the object as well.
        let hold = || self.workspace.hold(&mut File::open(path)?, size, &mut |_| self.cancel.check());
        let (base, held) = thread::scope(|scope| {
            let holding = threads::start_in(scope, hold);
            let base = self.base_bytes(base, meter);
            let join =
                |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            (base, holding.map_or_else(|_| hold(), join))
        });
        let Some(base) = base? else { return Ok(None) };
        Ok(Some((base, Rc::new(self.read_or_why(target, held)?))))
    }

    /// Reads the object into one piece, whose bytes cannot change any more; a small one once only.
    pub(super) fn target_bytes(&self, target: &Target<'_>, meter: &Meter) -> Result<Rc<Bytes>> {
        if let Some(held) = target.bytes.get() {
            return Ok(Rc::clone(held));
        }
        let read = self.read_proven(Workspace::copy_of, target.path, target.version, meter);
        let bytes = Rc::new(self.read_or_why(target, read)?);
        if target.is_small() {
            target.bytes.get_or_init(|| Rc::clone(&bytes));
        }
        Ok(bytes)
    }

    /// Returns what was read of an object, or says why that is not the object.
    fn read_or_why(&self, target: &Target<'_>, read: io::Result<Option<Bytes>>) -> Result<Bytes> {
        if let Some(bytes) = read.map_err(|source| Error::disk("read the object", source))? {
            return Ok(bytes);
        }
        // Read again, to say what it is instead.
        self.prove_local(target.path, target.version)?;
        Err(Error::Internal(format!("{} changes while it is read", target.path.display())))
    }

    /// Returns the bytes of a small object; larger ones are read piece by piece.
    pub(super) fn small_bytes(&self, target: &Target<'_>) -> Result<Option<Rc<Bytes>>> {
        target.is_small().then(|| self.target_bytes(target, &Meter::silent())).transpose()
    }

    /// Gets the bytes of a base, from this machine if they are here; `None` when no source has the right ones.
    fn base_bytes(&self, base: &Settled, meter: &Meter) -> Result<Option<Bytes>> {
        let Some(link) = base.chain.links.first() else { return Ok(None) };
        let version = Version { oid: link.id.oid, size: link.object_size };
        meter.stage(50, version.size);
        if let Some(bytes) = self.read_at_hand_by(Workspace::hold, version, meter)? {
            return Ok(Some(bytes));
        }
        meter.again();
        match self.fetch_bytes(version, meter) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error @ (Error::Damaged { .. } | Error::NotStored { .. } | Error::CodecUnknown { .. })) => {
                tracing::warn!(oid = %version.oid, %error, "no base");
                self.depot.distrust(&base.id());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn new_id(&self, target: &Target<'_>) -> Result<CopyId> {
        let nonce = self.depot.nonce().map_err(|error| self.depot_error(error))?;
        Ok(CopyId { oid: target.version.oid, nonce })
    }

    fn draft_delta(
        &self,
        target: &Target<'_>,
        id: CopyId,
        base: &Settled,
        held: [&Bytes; 2],
        meter: &Meter,
    ) -> Result<Option<Draft>> {
        let permit = self.budget.wait(target.version.size, &self.cancel)?;
        let [base_bytes, target_bytes] = held;
        let pair = Pair { base: base_bytes, target: target_bytes };
        self.draft(target, id, &base.chain, |sink| {
            check(&held)?;
            let watch = |done| self.step_on(&held, meter, done);
            codec::encode_delta(pair, &self.work(&permit, &watch), sink).map(Some)
        })
    }

    /// Writes header and payload of a copy into a file.
    fn draft(
        &self,
        target: &Target<'_>,
        id: CopyId,
        chain: &Chain,
        encode: impl FnOnce(&mut dyn Write) -> codec::Result<Option<Encoded>>,
    ) -> Result<Option<Draft>> {
        let begun = Begun { id, object_size: target.version.size, chain };
        unless_faulty(Draft::write(&begun, &self.workspace, encode), target.version)
    }

    fn verdict(
        &self,
        target: &Target<'_>,
        base: &Settled,
        bounds: Bounds,
        draft: &Draft,
        meter: &Meter,
    ) -> Result<Verdict> {
        let size = target.version.size;
        let cost = DeltaCost { stored_size: draft.stored_size, written_size: draft.encoded.written_size };
        let verdict = match bounds.judge(&base.chain, size, cost, None) {
            Verdict::Measure => {
                let whole_size = self.measure_whole(target, meter)?;
                bounds.judge(&base.chain, size, cost, Some(whole_size))
            }
            verdict => verdict,
        };
        tracing::debug!(oid = %target.version.oid, base = %base.id(), ?cost, ?verdict, "judged a delta");
        Ok(verdict)
    }

    /// Returns what a whole copy would take.
    fn measure_whole(&self, target: &Target<'_>, meter: &Meter) -> Result<u64> {
        let held = self.small_bytes(target)?;
        let mut reader = self.reader(target, held.as_deref())?;
        let mut counter = Counter(0);
        let size = target.version.size;
        meter.stage(70, size);
        let watch = |done| self.step(meter, done);
        codec::encode_whole(&mut *reader, size, &self.work(&Permit::small(), &watch), &mut counter)?;
        Ok(counter.0.min(size))
    }

    /// Decodes a draft and compares: `None` when it does not yield the object, which is a fault of a codec.
    fn prove(
        &self,
        draft: Draft,
        target: &Target<'_>,
        base: Option<&Bytes>,
        meter: &Meter,
    ) -> Result<Option<Proven>> {
        if !self.depot.rules().hold("R2") {
            return Ok(Some(Proven(draft)));
        }
        let failed = |source| Error::disk("read a temporary file", source);
        let mut payload = draft.open().map_err(failed)?;
        let header = Header::read(&mut *payload)?;
        let mut sink = Hashing::new(io::sink());
        let size = target.version.size;
        let held = base.as_slice();
        let watch = |done| self.step_on(held, meter, done);
        let permit = self.permit(draft.encoded.codec, size)?;
        let (work, bytes) = (self.work(&permit, &watch), base.map(Deref::deref));
        let decoded = codec::decode(draft.encoded.codec, bytes, &mut *payload, size, &work, &mut sink);
        // That nobody wanted to write to the base until now says that it still has the bytes that were hashed.
        check(held).map_err(|source| Error::disk("read the base", source))?;
        drop(payload);
        if let Err(codec::Error::Io(source)) = decoded {
            return Err(failed(source));
        }
        if decoded.is_err()
            || sink.into_parts().1 != target.version.oid
            || header.id.oid != target.version.oid
        {
            // Also what happens when the local file is not the object.
            self.prove_local(target.path, target.version)?;
            tracing::error!(oid = %target.version.oid, ?decoded, "an encoded copy does not decode: not used");
            return Ok(None);
        }
        Ok(Some(Proven(draft)))
    }

    fn publish_proven(&self, name: CopyName, proven: &Proven, meter: &Meter) -> Result<()> {
        let size = proven.0.stored_size;
        meter.stage(92, size);
        let digest = proven.0.hash(&|done| self.step(meter, done));
        let digest = digest.map_err(|source| Error::disk("read a temporary file", source))?;
        meter.stage(100, size);
        let body = Body { source: proven.0.source(), digest, sent: &|count| meter.add(count) };
        self.depot.publish(&name, &body).map_err(|error| self.depot_error(error))?;
        Ok(())
    }

    fn store_whole(&self, target: &Target<'_>, meter: &Meter) -> Result<Stored> {
        let id = self.new_id(target)?;
        for pack in [Self::draft_opened, Self::draft_packed] {
            meter.again();
            meter.stage(55, target.version.size);
            let draft = pack(self, target, id, meter)?;
            let pays = |draft: &Draft| plan::is_worth_packing(target.version.size, draft.stored_size);
            let Some(draft) = draft.filter(pays) else { continue };
            meter.stage(75, target.version.size);
            if let Some(proven) = self.prove(draft, target, None, meter)? {
                return self.publish_packed(target, id, &proven, meter);
            }
        }
        self.publish_raw(target, meter)
    }

    /// Packs an object with its deflate streams opened, where that is worth the slower restore to the user.
    fn draft_opened(&self, target: &Target<'_>, id: CopyId, meter: &Meter) -> Result<Option<Draft>> {
        if self.effort != Effort::Max {
            return Ok(None);
        }
        let bytes = self.target_bytes(target, meter)?;
        let permit = self.budget.wait(target.version.size, &self.cancel)?;
        self.draft(target, id, &Chain::default(), |sink| {
            codec::encode_whole_opened(&bytes, &self.work(&permit, &|done| self.step(meter, done)), sink)
        })
    }

    fn draft_packed(&self, target: &Target<'_>, id: CopyId, meter: &Meter) -> Result<Option<Draft>> {
        if !self.looks_packable(target)? {
            return Ok(None);
        }
        let size = target.version.size;
        let held = self.small_bytes(target)?;
        let mut reader = self.reader(target, held.as_deref())?;
        self.draft(target, id, &Chain::default(), |sink| {
            let watch = |done| self.step(meter, done);
            codec::encode_whole(&mut *reader, size, &self.work(&Permit::small(), &watch), sink).map(Some)
        })
    }

    fn publish_packed(
        &self,
        target: &Target<'_>,
        id: CopyId,
        proven: &Proven,
        meter: &Meter,
    ) -> Result<Stored> {
        let name = CopyName { id, shape: Shape::Full { codec: Some(proven.0.encoded.codec) } };
        self.publish_proven(name, proven, meter)?;
        self.remember(chain_with(&name, target.version.size, proven, &Chain::default()));
        Ok(Stored::Whole { size: proven.0.stored_size })
    }

    /// Stores exactly the object's bytes.
    fn publish_raw(&self, target: &Target<'_>, meter: &Meter) -> Result<Stored> {
        let Version { oid, size } = target.version;
        meter.stage(100, size);
        let name = CopyName { id: self.new_id(target)?, shape: Shape::Full { codec: None } };
        let held = self.small_bytes(target)?;
        let source = match &held {
            Some(bytes) => Source::Bytes(bytes),
            None => Source::File { path: target.path, size },
        };
        let body = Body { source, digest: oid, sent: &|count| meter.add(count) };
        let published = self.depot.publish(&name, &body);
        if matches!(published, Err(depot::Error::Store(store::Error::Digest { .. }))) {
            self.prove_local(target.path, target.version)?;
        }
        if held.is_none() {
            // A file that changed under our hands is the better reason for whatever went wrong.
            self.check_unchanged(target)?;
        }
        published.map_err(|error| self.depot_error(error))?;
        let own = Link { id: name.id, codec: None, object_size: size, stored_size: size, written_size: size };
        self.remember(Chain { links: vec![own] });
        Ok(Stored::Whole { size })
    }

    /// Fails when the local file is not the one any more that was proven.
    pub(super) fn check_unchanged(&self, target: &Target<'_>) -> Result<()> {
        let now = File::open(target.path).and_then(|file| Fingerprint::of(&file));
        if now.map_err(|source| Error::disk("read the object", source))? == target.fingerprint {
            return Ok(());
        }
        self.prove_local(target.path, target.version)
    }

    /// Opens the object, or reads what is held of it.
    fn reader<'b>(&self, target: &Target<'_>, held: Option<&'b Bytes>) -> Result<Box<dyn io::Read + 'b>> {
        Ok(match held {
            Some(bytes) => Box::new(&bytes[..]),
            None => {
                Box::new(File::open(target.path).map_err(|source| Error::disk("read the object", source))?)
            }
        })
    }

    /// Compresses a few samples, so that nothing incompressible is packed in vain.
    fn looks_packable(&self, target: &Target<'_>) -> Result<bool> {
        if target.is_small() {
            // All of it would be one sample.
            return Ok(true);
        }
        let failed = |source| Error::disk("read the object", source);
        let mut file = File::open(target.path).map_err(failed)?;
        let (mut taken, mut packed) = (0, Counter(0));
        for sample in sample_places(target.version.size) {
            let bytes = read_at(&mut file, sample).map_err(failed)?;
            let mut reader = &bytes[..];
            codec::encode_whole(
                &mut reader,
                bytes.len() as u64,
                &self.work(&Permit::small(), &|_| Ok(())),
                &mut packed,
            )?;
            taken += bytes.len() as u64;
        }
        Ok(plan::is_worth_packing(taken, packed.0))
    }
}

/// Returns the chain of a copy that was just stored on top of another chain.
fn chain_with(name: &CopyName, object_size: u64, proven: &Proven, below: &Chain) -> Chain {
    let own = Link {
        id: name.id,
        codec: name.codec(),
        object_size,
        stored_size: proven.0.stored_size,
        written_size: proven.0.encoded.written_size,
    };
    Chain { links: std::iter::once(own).chain(below.links.iter().copied()).collect() }
}

const SAMPLE_BYTES: u64 = 128 * 1024;
const SAMPLES: u64 = 8;

/// Returns where samples of an object begin: all of a small one.
fn sample_places(size: u64) -> Vec<u64> {
    if size <= SAMPLE_BYTES * SAMPLES {
        return (0..size).step_by(SAMPLE_BYTES as usize).collect();
    }
    (0..SAMPLES).map(|index| (size - SAMPLE_BYTES) / (SAMPLES - 1) * index).collect()
}

fn read_at(file: &mut File, start: u64) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(SAMPLE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Counts bytes and keeps none.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes a fault of a codec, which costs bytes but not the push, for nothing to be gained.
fn unless_faulty<T>(outcome: codec::Result<Option<T>>, version: Version) -> Result<Option<T>> {
    match outcome {
        Err(error) if !matches!(error, codec::Error::Io(_)) => {
            tracing::error!(oid = %version.oid, %error, "a codec failed: not used");
            Ok(None)
        }
        outcome => Ok(outcome?),
    }
}

/// Takes a failure for nothing to be gained where somebody else wants to write to one of the files that were held: what
/// they write shows when the object is stored whole.
fn unless_wanted<T>(outcome: Result<Option<T>>, held: &[&Bytes]) -> Result<Option<T>> {
    match outcome {
        Err(error) if !matches!(error, Error::Cancelled) && check(held).is_err() => {
            tracing::warn!(%error, "no delta");
            Ok(None)
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Oid;

    #[test]
    fn a_fault_of_a_codec_does_not_fail_the_push_and_a_full_disk_does() {
        let version = Version { oid: Oid::of(b"abc"), size: 3 };
        let fault = codec::Error::Corrupt { reason: "segments overlap".into() };
        assert!(matches!(unless_faulty::<Encoded>(Err(fault), version), Ok(None)));
        let full = codec::Error::Io(io::ErrorKind::StorageFull.into());
        assert!(unless_faulty::<Encoded>(Err(full), version).is_err());
    }
}
