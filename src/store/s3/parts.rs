//! Uploads in parts, for files that are too large for one request.
//!
//! The file is read once, in order: each part is hashed for the whole and for itself, waits in memory until it is
//! sent, and is checked by the service. Nothing shows before the completion, and that waits until the SHA-256 of
//! everything that was read is the right one: no service checks it over parts.
//!
//! What surprises: an upload that breaks stays where it is, and a later process of this machine goes on with it
//! (`journal`). It is given up when somebody cancels, when it is refused, and when it is a day old.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Part as ListedPart, RequestPayer,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};

use super::body::{Pieces, Sent};
use super::fault::{self, Fault};
use super::flow::Pass;
use super::journal::{Begun, Done, Journal};
use super::{Error, Order, Result, S3Store, Verb};
use crate::disk;
use crate::model::limits::{BUFFER_BYTES, PART_MEMORY_MAX_BYTES, PARTS_IN_FLIGHT};
use crate::model::{Hasher, Key, Oid};
use crate::store::Unfinished;

/// The service's own bound; parts grow so that their number stays below.
const PARTS_MAX: u64 = 10_000;

/// How long a cancelled process waits for its parts to be given up.
const ABORT_PATIENCE: Duration = Duration::from_millis(500);

/// One upload in parts that has begun.
#[derive(Debug)]
struct Upload {
    target: Target,
    begun: Begun,
    /// Where it is remembered, if it is.
    journal: Option<Journal>,
    /// Parts that the service had when it was asked.
    held: HashMap<i32, Held>,
}

/// Where parts go.
#[derive(Debug, Clone)]
struct Target {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    payer: Option<RequestPayer>,
    checksums: bool,
}

/// Uploads that can go on, as soon as somebody puts their bytes.
#[derive(Debug, Default)]
pub(super) struct Resumable(HashMap<String, Upload>);

impl Resumable {
    pub(super) fn has(&self, key: &Key) -> bool {
        self.0.contains_key(key.as_str())
    }
}

impl S3Store {
    pub(super) async fn put_parts(
        &self,
        client: &Client,
        order: &Order<'_>,
        path: &Path,
        size: u64,
    ) -> Result<()> {
        let Order { key, body, .. } = *order;
        let resumed = self.resumable().0.remove(key.as_str());
        let mut upload = match resumed.filter(|upload| upload.begun.size == size) {
            Some(upload) => upload,
            None => tokio::select! {
                begun = self.begin(client, order, path) => begun?,
                () = self.cancel.raised() => return Err(Error::Cancelled),
            },
        };
        let sent = Sent::new(self.options.upload_pace.clone());
        let outcome = {
            let sending = self.send_parts(&mut upload, key, (path, body.digest), &sent);
            tokio::select! {
                outcome = sent.report(body.sent, sending) => outcome,
                () = self.cancel.raised() => Err(Error::Cancelled),
            }
        };
        match outcome {
            Ok(parts) => self.complete(upload, order, parts).await,
            Err(error) => {
                self.leave(upload, &error).await;
                Err(error)
            }
        }
    }

    async fn begin(&self, client: &Client, order: &Order<'_>, path: &Path) -> Result<Upload> {
        let Order { key, body, .. } = *order;
        self.give_up_old_uploads().await;
        let checksums = self.sends_checksums();
        let (bucket, full) = (self.location.bucket.clone(), self.location.full_key(key.as_str()));
        let payer = self.options.access.payer();
        let sent = client
            .create_multipart_upload()
            .bucket(&bucket)
            .key(&full)
            .set_checksum_algorithm(checksums.then_some(ChecksumAlgorithm::Crc32))
            .set_server_side_encryption(self.options.keeping.encryption())
            .set_ssekms_key_id(self.options.keeping.kms_key())
            .set_content_type(order.content_type())
            .set_metadata(order.user_metadata())
            .set_storage_class(order.class.clone())
            .set_tagging(self.options.keeping.tagging(key))
            .set_request_payer(payer.clone())
            .send()
            .await;
        let failed = |fault: Fault| fault.into_error(Verb::Put, key.as_str(), None);
        let unknown = |reason: &str| {
            let reason = format!("{}: {reason}", fault::NO_PARTS);
            Error::Unavailable { verb: Verb::Put, key: key.to_string(), reason }
        };
        let answer = match sent.map_err(Fault::from) {
            Err(fault) if fault.knows_no_parts() => return Err(unknown(fault.reason())),
            answer => answer.map_err(failed)?,
        };
        let id = answer.upload_id().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| unknown("the service began an upload without naming it"))?.to_owned();
        let size = body.source.size();
        let part_size = self.options.part_size.max(size.div_ceil(PARTS_MAX));
        let begun = Begun::now(key, id.clone(), body.digest, size, part_size, checksums);
        // A name that others use too is not gone on with: by then it may mean another file.
        let is_ours_alone = order.metadata.is_none();
        let journal = is_ours_alone.then(|| self.journals.begin(begun.clone(), path)).flatten();
        let target = Target { client: client.clone(), bucket, key: full, id, payer, checksums };
        Ok(Upload { target, begun, journal, held: HashMap::new() })
    }

    /// Reads the file part by part, and sends what the service does not have.
    async fn send_parts(
        &self,
        upload: &mut Upload,
        key: &Key,
        (path, digest): (&Path, Oid),
        sent: &Sent,
    ) -> Result<Vec<CompletedPart>> {
        let failed = |error| Error::from_io(Verb::Put, key.as_str(), error);
        let mut reading = Reading::open(path).map_err(failed)?;
        // Where a limit is the bottleneck, more connections would only be slower ones.
        let most = if sent.is_limited() { 1 } else { PARTS_IN_FLIGHT };
        let (mut tasks, mut parts) = (JoinSet::new(), Vec::new());
        for (number, start) in (1..).zip(upload.begun.starts()) {
            // Before it is read: parts wait in memory.
            let pass = loop {
                tokio::select! {
                    pass = self.flow.enter(most) => break pass,
                    Some(done) = tasks.join_next() => parts.push(upload.take(key, done)?),
                }
            };
            let length = upload.begun.part_size.min(upload.begun.size - start);
            let part;
            (reading, part) = reading.read(number, (start, length)).await.map_err(failed)?;
            if let Some(done) = upload.find(&part) {
                sent.skip(length);
                parts.push(upload.completed(&done));
                continue;
            }
            tasks.spawn(upload.target.clone().send(key.clone(), part, sent.clone(), pass));
        }
        // Dropping the set on the first error stops the other parts.
        while let Some(done) = tasks.join_next().await {
            parts.push(upload.take(key, done)?);
        }
        if !reading.yields(upload.begun.size, digest).map_err(failed)? {
            return Err(Error::Digest { key: key.clone(), expected: digest });
        }
        parts.sort_by_key(CompletedPart::part_number);
        Ok(parts)
    }

    async fn complete(&self, upload: Upload, order: &Order<'_>, parts: Vec<CompletedPart>) -> Result<()> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = upload.target.client.complete_multipart_upload();
        let request =
            request.bucket(&upload.target.bucket).key(&upload.target.key).upload_id(&upload.target.id);
        let request = request.multipart_upload(parts).set_request_payer(upload.target.payer.clone());
        let request = request.set_if_none_match(order.metadata.and_then(|_| self.condition(order)));
        let sent = tokio::select! {
            sent = request.send() => sent,
            () = self.cancel.raised() => {
                self.leave(upload, &Error::Cancelled).await;
                return Err(Error::Cancelled);
            }
        };
        let tagged = sent.map_err(Fault::from).and_then(|answer| Fault::unless_tagged(answer.e_tag()));
        let Err(fault) = tagged else {
            upload.forget();
            return Ok(());
        };
        let refused = fault.says_nothing_was_stored();
        let outcome = self.settle(&upload.target.client, order, fault).await;
        match &outcome {
            Ok(()) => upload.forget(),
            Err(error) if refused && !matches!(error, Error::Credentials { .. }) => {
                upload.give_up(self.options.read_timeout).await;
            }
            // Perhaps it is stored, perhaps its parts wait: a later push finds out.
            Err(_) => {}
        }
        outcome
    }

    /// Leaves an upload that did not work out: to a later process where it broke, else to nobody.
    async fn leave(&self, upload: Upload, error: &Error) {
        let broke = match error {
            // The same call is about to begin anew, without them.
            Error::Unavailable { reason, .. } => !super::is_about_checksums(reason),
            Error::Credentials { .. } => true,
            _ => self.cancel.is_late(),
        };
        if broke && upload.journal.is_some() {
            tracing::info!(key = upload.target.key, "an upload in parts broke: it can go on for a day");
            return;
        }
        // Whoever waits for the end of this process has no more than a second.
        let hurry = matches!(error, Error::Cancelled);
        upload.give_up(if hurry { ABORT_PATIENCE } else { self.options.read_timeout }).await;
    }

    /// Finds an upload of a copy of this object that broke on this machine, and asks what the service has of it.
    pub(super) async fn find_unfinished(&self, client: &Client, oid: &Oid) -> Option<Unfinished> {
        for journal in self.journals.left_behind() {
            let Some(unfinished) = journal.unfinished().filter(|found| found.name.id.oid == *oid) else {
                continue;
            };
            if let Some(upload) = self.pick_up(client, journal).await {
                self.resumable().0.insert(Key::copy(&unfinished.name).to_string(), upload);
                return Some(unfinished);
            }
        }
        None
    }

    async fn pick_up(&self, client: &Client, journal: Journal) -> Option<Upload> {
        let is_over = self.journals.is_over(&journal);
        let mut upload = self.opened(client, journal);
        let listed = if is_over { Ok(None) } else { upload.target.list().await.map(Some) };
        match listed {
            Ok(Some(held)) => {
                tracing::info!(
                    key = upload.target.key,
                    parts = held.len(),
                    "going on with an upload that broke"
                );
                upload.held = held;
                Some(upload)
            }
            // Too old, or the service does not have it, or does not say.
            Ok(None) => {
                upload.give_up(self.options.read_timeout).await;
                None
            }
            Err(fault) if fault.is_final() => {
                tracing::info!(
                    key = upload.target.key,
                    reason = fault.reason(),
                    "no going on with an upload"
                );
                upload.give_up(self.options.read_timeout).await;
                None
            }
            Err(_) => None,
        }
    }

    fn opened(&self, client: &Client, journal: Journal) -> Upload {
        let target = Target {
            client: client.clone(),
            bucket: self.location.bucket.clone(),
            key: self.location.full_key(journal.key()),
            id: journal.begun.id.clone(),
            payer: self.options.access.payer(),
            checksums: journal.begun.checksums,
        };
        Upload { target, begun: journal.begun.clone(), journal: Some(journal), held: HashMap::new() }
    }

    /// Gives up an upload that could go on.
    pub(super) async fn give_up_unfinished(&self, key: &Key) {
        let found = self.resumable().0.remove(key.as_str());
        if let Some(upload) = found {
            upload.give_up(self.options.read_timeout).await;
        }
    }

    /// Gives up what was begun more than a day ago, once per process.
    async fn give_up_old_uploads(&self) {
        let Some(service) = self.service.get().filter(|_| !self.swept.swap(true, super::Ordering::Relaxed))
        else {
            return;
        };
        for journal in self.journals.left_behind().filter(|journal| self.journals.is_over(journal)) {
            let upload = self.opened(service.client(), journal);
            upload.give_up(self.options.read_timeout).await;
        }
    }
}

impl Upload {
    /// Returns a part as the service has it, if it has these very bytes.
    fn find(&self, part: &Part) -> Option<Done> {
        let held = self.held.get(&part.number).filter(|held| held.size == part.length)?;
        let noted = self.journal.as_ref().and_then(|journal| journal.done.get(&part.number));
        // Where the service tells no checksum, ours counts for what we were told the part's tag is.
        let noted = noted.filter(|noted| plain(&noted.etag) == plain(&held.etag)).map(|noted| noted.crc);
        let done = Done { number: part.number, etag: held.etag.clone(), crc: part.crc };
        (held.crc.or(noted)? == part.crc).then_some(done)
    }

    /// Takes the outcome of sending a part.
    fn take(&mut self, key: &Key, outcome: Result<Result<Done>, JoinError>) -> Result<CompletedPart> {
        let failed = |error: JoinError| Error::Unavailable {
            verb: Verb::Put,
            key: key.to_string(),
            reason: error.to_string(),
        };
        let done = outcome.map_err(failed)??;
        let part = self.completed(&done);
        if let Some(journal) = &mut self.journal {
            journal.note(done);
        }
        Ok(part)
    }

    fn completed(&self, done: &Done) -> CompletedPart {
        CompletedPart::builder()
            .part_number(done.number)
            .e_tag(&done.etag)
            .set_checksum_crc32(self.target.checksums.then(|| to_base64(done.crc)))
            .build()
    }

    fn forget(self) {
        if let Some(journal) = self.journal {
            journal.close();
        }
    }

    /// Gives the parts up. Where that fails they stay, until a later process or the bucket's own rule removes them.
    async fn give_up(self, patience: Duration) {
        let request = self.target.client.abort_multipart_upload();
        let request = request.bucket(&self.target.bucket).key(&self.target.key).upload_id(&self.target.id);
        let aborted = request.set_request_payer(self.target.payer.clone()).send();
        let aborted = tokio::time::timeout(patience, aborted).await;
        let done =
            aborted.is_ok_and(|sent| sent.map_or_else(|error| Fault::from(error).is_final(), |_| true));
        tracing::debug!(key = self.target.key, done, "gave up an upload in parts");
        if done {
            self.forget();
        }
    }
}

impl Target {
    async fn send(self, key: Key, part: Part, sent: Sent, pass: Pass) -> Result<Done> {
        let failed = |error| Error::from_io(Verb::Put, key.as_str(), error);
        let answer = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(part.number)
            .set_request_payer(self.payer.clone())
            .content_length(i64::try_from(part.length).unwrap_or(i64::MAX))
            .set_checksum_crc32(self.checksums.then(|| to_base64(part.crc)))
            .body(sent.count(part.body().await.map_err(failed)?))
            .send()
            .await
            .map_err(|error| Fault::from(error).into_error(Verb::Put, key.as_str(), None))?;
        drop(pass);
        let etag = answer.e_tag().filter(|tag| !tag.is_empty()).ok_or_else(|| Error::Unavailable {
            verb: Verb::Put,
            key: key.to_string(),
            reason: "the service took a part and did not tag it".into(),
        })?;
        Ok(Done { number: part.number, etag: etag.to_owned(), crc: part.crc })
    }

    /// Asks which parts there are.
    async fn list(&self) -> Result<HashMap<i32, Held>, Fault> {
        let mut held = HashMap::new();
        let mut marker = None;
        loop {
            let request = self.client.list_parts().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
            let request = request.set_part_number_marker(marker).set_request_payer(self.payer.clone());
            let page = request.send().await?;
            held.extend(page.parts().iter().filter_map(Held::read));
            marker = page.next_part_number_marker().map(str::to_owned);
            // The number of pages is bound: each has parts, and there are no more than so many.
            let goes_on = page.is_truncated() == Some(true) && !page.parts().is_empty();
            if !goes_on || marker.is_none() || held.len() as u64 >= PARTS_MAX {
                return Ok(held);
            }
        }
    }
}

/// A part that the service has.
#[derive(Debug)]
struct Held {
    size: u64,
    etag: String,
    crc: Option<u32>,
}

impl Held {
    fn read(part: &ListedPart) -> Option<(i32, Self)> {
        let size = u64::try_from(part.size()?).ok()?;
        let crc = part.checksum_crc32().and_then(from_base64);
        Some((part.part_number()?, Self { size, etag: part.e_tag()?.to_owned(), crc }))
    }
}

/// A part that was read.
struct Part {
    number: i32,
    start: u64,
    length: u64,
    crc: u32,
    bytes: Result<Bytes, PathBuf>,
}

impl Part {
    async fn body(&self) -> io::Result<ByteStream> {
        match &self.bytes {
            Ok(bytes) => Ok(Pieces::stream(bytes.clone())),
            Err(path) => ByteStream::read_from()
                .path(path)
                .offset(self.start)
                .length(Length::Exact(self.length))
                .buffer_size(BUFFER_BYTES)
                .build()
                .await
                .map_err(io::Error::other),
        }
    }
}

/// A file that is read once, part by part.
struct Reading {
    file: File,
    path: PathBuf,
    hasher: Hasher,
}

impl Reading {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.to_path_buf(), hasher: Hasher::default() })
    }

    /// Reads the next part where it keeps nobody waiting.
    async fn read(mut self, number: i32, (start, length): (u64, u64)) -> io::Result<(Self, Part)> {
        let read = tokio::task::spawn_blocking(move || {
            let mut crc = crc32fast::Hasher::new();
            // Parts of files beyond all use are too large to wait in memory: they are read once more.
            let mut bytes = (length <= PART_MEMORY_MAX_BYTES)
                .then(|| Vec::with_capacity(usize::try_from(length).unwrap_or_default()));
            let (hasher, mut reader) = (&mut self.hasher, Read::take(&self.file, length));
            let mut watch = |piece: &[u8]| {
                hasher.update(piece);
                crc.update(piece);
                Ok(())
            };
            match &mut bytes {
                Some(bytes) => disk::copy(&mut reader, bytes, &mut watch)?,
                None => disk::copy(&mut reader, &mut io::sink(), &mut watch)?,
            };
            let bytes = bytes.map(Bytes::from).ok_or_else(|| self.path.clone());
            let length = bytes.as_ref().map_or(length, |bytes| bytes.len() as u64);
            Ok((self, Part { number, start, length, crc: crc.finalize(), bytes }))
        });
        read.await.map_err(io::Error::other)?
    }

    /// Returns whether all that was read, and no more, is what it should be.
    fn yields(self, size: u64, digest: Oid) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == size && self.hasher.finish() == digest)
    }
}

impl Begun {
    fn starts(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.size).step_by(usize::try_from(self.part_size).unwrap_or(usize::MAX))
    }
}

fn plain(etag: &str) -> &str {
    etag.trim_matches('"')
}

fn to_base64(crc: u32) -> String {
    STANDARD.encode(crc.to_be_bytes())
}

fn from_base64(text: &str) -> Option<u32> {
    Some(u32::from_be_bytes(STANDARD.decode(text).ok()?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_written_as_services_write_it() {
        // The check value of CRC-32, as the S3 documentation encodes it.
        let crc = crc32fast::hash(b"123456789");
        assert_eq!(to_base64(crc), "y/Q5Jg==");
        assert_eq!(from_base64("y/Q5Jg=="), Some(crc));
        assert_eq!(from_base64("y/Q5Jg==-2"), None);
    }
}
