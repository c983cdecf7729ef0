//! S3 and whatever speaks it: the only asynchronous code of the program.
//!
//! The client is built by the first call, never before: an agent must answer `init` at once, and a
//! credential chain may wait for a network that is not there. Bodies go up with their SHA-256, so that a
//! service that checks it refuses anything else.
//!
//! What surprises: every PUT asks for `If-None-Match: *` although names are unique. Where the answer of a
//! stored file was lost, the repeated request then fails with 412, and the file is looked at, not believed lost.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, StorageClass};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::artefacts::{Checksum, Metadata, Placing};
use super::{Body, Error, Listed, ReadStore, Result, Source, Unfinished, Verb, Visit, WriteStore};
use crate::cancel::{Cancel, cancelled};
use crate::disk;
use crate::model::limits::{
    BUFFER_BYTES, PARTS_IN_FLIGHT, PIECE_BYTES, PIECES_AHEAD_MAX, RANGES_MIN_BYTES, SINGLE_PUT_MAX_BYTES,
};
use crate::model::{Key, KeyPrefix, Oid, S3Location};

mod artefacts;
mod body;
mod connect;
mod credentials;
mod download;
mod fault;
mod flow;
mod journal;
mod options;
mod pace;
mod pages;
mod parts;
mod retry;
mod watch;

use download::{Download, Part, Stream, Wanted};
use fault::Fault;
use flow::Flow;
use journal::Journals;
pub use options::{Access, Anonymous, Certificates, Class, Encryption, Keeping, S3Options, Tags};
pub use pace::Pace;
use pages::Pages;
use parts::Resumable;

/// A store in a bucket, or below a prefix of one.
#[derive(Debug)]
pub struct S3Store {
    location: S3Location,
    options: S3Options,
    cancel: Cancel,
    service: OnceLock<Service>,
    /// Cleared when the service says that it does not know conditional writes.
    conditional: AtomicBool,
    /// Cleared when it says that it does not know checksums.
    checksums: AtomicBool,
    /// Cleared when it turns out that it knows no uploads in parts.
    parts: AtomicBool,
    flow: Flow,
    journals: Journals,
    resumable: Mutex<Resumable>,
    /// Set once uploads that are too old were looked for.
    swept: AtomicBool,
    /// One permit for each piece of a download that may be fetched ahead.
    pieces: Arc<Semaphore>,
}

#[derive(Debug)]
struct Service {
    /// For requests that are made one after the other, and of which nothing goes on behind their answer.
    serial: Way,
    /// For all others.
    parallel: Way,
    /// Set once the service has refused the first style.
    uses_other: AtomicBool,
    /// Whether it is asked without credentials.
    anonymous: bool,
}

/// How a service is asked: clients, and the runtime that their connections live in.
#[derive(Debug)]
struct Way {
    // Declared before the runtime, so that they go first. Made when they are needed: that reads all certificates.
    clients: OnceLock<Clients>,
    config: aws_sdk_s3::config::Builder,
    /// Whether the bucket goes into the path of an address.
    path_style: bool,
    /// Whether nothing but a guess says so.
    is_guess: bool,
    runtime: Runtime,
}

#[derive(Debug)]
struct Clients {
    client: Client,
    /// The same with the bucket elsewhere in the address, where it may belong there.
    other_style: Option<Client>,
}

impl Way {
    fn clients(&self) -> &Clients {
        let client = |path_style| Client::from_conf(self.config.clone().force_path_style(path_style).build());
        self.clients.get_or_init(|| Clients {
            client: client(self.path_style),
            other_style: self.is_guess.then(|| client(!self.path_style)),
        })
    }
}

impl Service {
    fn client(&self) -> &Client {
        self.client_of(&self.parallel)
    }

    fn client_of<'a>(&self, way: &'a Way) -> &'a Client {
        match way.clients() {
            Clients { other_style: Some(other), .. } if self.uses_other.load(Ordering::Relaxed) => other,
            clients => &clients.client,
        }
    }
}

impl S3Store {
    /// Names a store; nothing is contacted and no credentials are looked for.
    pub fn new(location: S3Location, options: S3Options, cancel: Cancel) -> Self {
        Self {
            journals: Journals::new(options.uploads.clone(), options.upload_age),
            location,
            options,
            cancel,
            service: OnceLock::new(),
            conditional: AtomicBool::new(true),
            checksums: AtomicBool::new(true),
            parts: AtomicBool::new(true),
            flow: Flow::new(PARTS_IN_FLIGHT.max(PIECES_AHEAD_MAX + 1)),
            resumable: Mutex::default(),
            swept: AtomicBool::new(false),
            pieces: Arc::new(Semaphore::new(PIECES_AHEAD_MAX)),
        }
    }

    fn service(&self) -> Result<&Service> {
        if let Some(service) = self.service.get() {
            return Ok(service);
        }
        let service = self.connect()?;
        Ok(self.service.get_or_init(|| service))
    }

    /// Runs a call to its end, or until the process is cancelled.
    fn run<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.run_in(&self.service()?.parallel.runtime, call)
    }

    /// Runs a call by the client that does one thing after the other: no other thread is woken for it, which a small
    /// request would wait for longer than for all else.
    fn run_alone<T>(&self, call: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
        let service = self.service()?;
        self.run_in(&service.serial.runtime, async {
            // Nobody has looked at the connections since the last call. Those that the service has closed are seen
            // to be so by the first turn, and let go of by the second.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            call(service.client_of(&service.serial)).await
        })
    }

    fn run_in<T>(&self, runtime: &Runtime, call: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = call => outcome,
                () = self.cancel.raised() => Err(Error::Cancelled),
            }
        });
        outcome.map_err(|error| self.explain(error))
    }

    /// Says of a refusal that nobody was asking, where that is so.
    fn explain(&self, error: Error) -> Error {
        let is_anonymous = self.service.get().is_some_and(|service| service.anonymous);
        match error {
            Error::Denied { verb, key, reason } if is_anonymous => {
                let why = match self.options.access.anonymous {
                    Anonymous::Always => "lfs-delta.anonymous is set",
                    _ => "no credentials were found",
                };
                Error::Credentials {
                    verb,
                    key,
                    reason: format!("{why}, and the service wants some ({reason})"),
                }
            }
            error => error,
        }
    }

    fn sends_checksums(&self) -> bool {
        self.checksums.load(Ordering::Relaxed)
    }

    fn resumable(&self) -> MutexGuard<'_, Resumable> {
        self.resumable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from a refusal what the service does not know; returns whether the same call may work without.
    fn goes_without(&self, reason: &str) -> bool {
        let (what, known) = if is_about_checksums(reason) {
            ("checksums", &self.checksums)
        } else if reason.starts_with(fault::NO_PARTS) {
            ("uploads in parts", &self.parts)
        } else if reason.starts_with(fault::NOT_IMPLEMENTED) {
            ("conditional writes", &self.conditional)
        } else {
            return false;
        };
        let is_new = known.swap(false, Ordering::Relaxed);
        if is_new {
            tracing::info!(reason, "the service knows no {what}: going on without");
        }
        is_new
    }

    /// Learns from a refusal where the service wants the bucket; returns whether the same call may work so.
    fn takes_other_style(&self, error: &Error) -> bool {
        let wants_it = matches!(error, Error::Settings { reason } if reason.starts_with(fault::OTHER_STYLE));
        let service = self.service.get().filter(|service| wants_it && service.serial.is_guess);
        let is_new = service.is_some_and(|service| !service.uses_other.swap(true, Ordering::Relaxed));
        if is_new {
            tracing::info!("the service wants the bucket elsewhere in its address");
        }
        is_new
    }

    /// Returns whether a file goes up in parts: because of its size, or because it was begun so.
    fn takes_parts(&self, key: &Key, size: u64) -> bool {
        let is_large = size > self.options.single_put_max_bytes() && self.parts.load(Ordering::Relaxed);
        is_large || self.resumable().has(key)
    }

    /// Stores a file in one request, or in parts where it is large.
    fn store_once(&self, order: &Order<'_>) -> Result<()> {
        let Order { key, body, .. } = *order;
        let service = self.service()?;
        let size = body.source.size();
        match body.source {
            Source::File { path, .. } if self.takes_parts(key, size) => {
                // Looks at the cancellation by itself: it has parts to give up.
                service
                    .parallel
                    .runtime
                    .block_on(self.put_parts(service.client(), order, path, size))
                    .map_err(|error| self.explain(error))
            }
            _ if size > SINGLE_PUT_MAX_BYTES => Err(Error::Settings {
                reason: format!(
                    "this service knows no uploads in parts, and no more than 5 GiB in one: {key}"
                ),
            }),
            _ => self.run_alone(async |client| self.put_single(client, order).await),
        }
    }

    async fn head(&self, client: &Client, key: &Key) -> std::result::Result<Option<Seen>, Fault> {
        let sent = client
            .head_object()
            .bucket(&self.location.bucket)
            .key(self.location.full_key(key.as_str()))
            .checksum_mode(ChecksumMode::Enabled)
            .set_request_payer(self.options.access.payer())
            .send()
            .await;
        match sent.map_err(Fault::from) {
            Ok(seen) => Ok(Some(Seen {
                size: seen.content_length().and_then(|size| u64::try_from(size).ok()),
                digest: seen.checksum_sha256().map(str::to_owned),
                version: seen.e_tag().map(str::to_owned),
                metadata: lower_case(seen.metadata()),
                is_by_key: seen.ssekms_key_id().or(seen.sse_customer_algorithm()).is_some(),
            })),
            Err(fault) if fault.status() == Some(404) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Stores a file, without what the service turns out not to know.
    fn store(&self, order: &Order<'_>) -> Result<()> {
        loop {
            match self.store_once(order) {
                Err(Error::Unavailable { reason, .. }) if self.goes_without(&reason) => {}
                outcome => return outcome,
            }
        }
    }

    /// Returns the condition under which a file is stored.
    fn condition(&self, order: &Order<'_>) -> Option<String> {
        let asked = order.placing == Placing::Create && self.conditional.load(Ordering::Relaxed);
        asked.then(|| "*".into())
    }

    async fn put_single(&self, client: &Client, order: &Order<'_>) -> Result<()> {
        let Order { key, body, .. } = *order;
        check_digest(key, body)?;
        let sent = body::Sent::new(self.options.upload_pace.clone());
        let request = client
            .put_object()
            .bucket(&self.location.bucket)
            .key(self.location.full_key(key.as_str()))
            .content_length(i64::try_from(body.source.size()).unwrap_or(i64::MAX))
            .set_checksum_sha256(self.sends_checksums().then(|| STANDARD.encode(body.digest.as_bytes())))
            .set_content_type(order.content_type())
            .set_metadata(order.user_metadata())
            .set_server_side_encryption(self.options.keeping.encryption())
            .set_ssekms_key_id(self.options.keeping.kms_key())
            .set_storage_class(order.class.clone())
            .set_tagging(self.options.keeping.tagging(key))
            .set_request_payer(self.options.access.payer())
            .set_if_none_match(self.condition(order))
            .body(sent.count(stream(key, body.source).await?));
        let outcome = sent.report(body.sent, request.send()).await.map_err(Fault::from);
        match outcome.and_then(|answer| Fault::unless_tagged(answer.e_tag())) {
            Err(fault) => self.settle(client, order, fault).await,
            Ok(()) => Ok(()),
        }
    }

    /// Finds out what became of a PUT whose answer does not say that it worked.
    async fn settle(&self, client: &Client, order: &Order<'_>, fault: Fault) -> Result<()> {
        let Order { key, body, .. } = *order;
        if fault.says_nothing_was_stored() {
            return Err(fault.into_error(Verb::Put, key.as_str(), Some((key, body.digest))));
        }
        let is_refused_as_taken = matches!(fault.status(), Some(409 | 412));
        let seen = match self.head(client, key).await {
            Ok(Some(seen)) => seen,
            // It is not there, or nobody says: the name is given up.
            _ if is_refused_as_taken => {
                let reason = "the service refused the name as taken, and shows no such file".into();
                return Err(Error::Unavailable { verb: Verb::Put, key: key.to_string(), reason });
            }
            _ => return Err(fault.into_error(Verb::Put, key.as_str(), Some((key, body.digest)))),
        };
        if self.is_ours(client, order, &seen).await? {
            tracing::debug!(%key, "the answer of a finished upload was lost");
            return Ok(());
        }
        if is_refused_as_taken {
            return Err(Error::AlreadyExists { key: key.clone() });
        }
        Err(fault.into_error(Verb::Put, key.as_str(), Some((key, body.digest))))
    }

    async fn is_ours(&self, client: &Client, order: &Order<'_>, seen: &Seen) -> Result<bool> {
        let Order { key, body, .. } = *order;
        if seen.size != Some(body.source.size()) {
            return Ok(false);
        }
        if let Some(metadata) = order.metadata {
            // Others use the same name: theirs have another hash, or were made at another moment.
            return Ok(metadata.iter().all(|(name, text)| seen.metadata.get(name) == Some(text)));
        }
        if let Some(digest) = &seen.digest
            && !digest.contains('-')
        {
            return Ok(*digest == STANDARD.encode(body.digest.as_bytes()));
        }
        // The service tells no SHA-256: small files are read back. Large ones have names that only this
        // upload knows, so their size is proof enough.
        if body.source.size() > BUFFER_BYTES as u64 {
            return Ok(true);
        }
        let (stored, _) = Stream::open(self.wanted_of(client, key), Part::first(None)).await?;
        Ok(Oid::of(&stored.collect_small(key).await?) == body.digest)
    }

    fn wanted(&self, key: &Key) -> Result<Wanted> {
        Ok(self.wanted_of(self.service()?.client(), key))
    }

    fn wanted_of(&self, client: &Client, key: &Key) -> Wanted {
        let (location, options) = (self.location.clone(), self.options.clone());
        Wanted { key: key.clone(), client: client.clone(), location, options }
    }

    /// Returns which part of a file of this size is asked for first, and whether that is not all of it.
    fn first_part(&self, size: u64, etag: Option<String>) -> (bool, Part) {
        let large = size >= RANGES_MIN_BYTES && self.options.download_pace.is_none();
        (large, Part { etag, ..Part::first(large.then_some(PIECE_BYTES)) })
    }

    /// Reads what follows the first part too.
    fn follow(&self, (front, total): (Stream, Option<u64>)) -> Result<Box<dyn Read + Send>> {
        let reader = self.reader(front)?;
        Ok(match total {
            Some(total) => Box::new(reader.followed(total, &self.pieces, &self.flow)),
            None => Box::new(reader),
        })
    }

    fn reader(&self, front: Stream) -> Result<Download> {
        Ok(Download::new(front, self.service()?.parallel.runtime.handle().clone(), self.cancel.clone()))
    }

    async fn list_page(&self, client: &Client, prefix: &KeyPrefix, pages: &mut Pages) -> Result<Vec<Listed>> {
        let sent = client
            .list_objects_v2()
            .bucket(&self.location.bucket)
            .prefix(self.location.full_key(prefix.as_str()))
            .set_continuation_token(pages.token())
            .set_request_payer(self.options.access.payer())
            .send()
            .await;
        let answer =
            sent.map_err(|error| Fault::from(error).into_error(Verb::List, prefix.as_str(), None))?;
        let root = self.location.full_key("");
        let listed = answer.contents().iter().filter_map(|object| {
            let key = object.key()?.strip_prefix(&root)?.to_owned();
            Some(Listed { key, size: u64::try_from(object.size()?).ok()? })
        });
        let listed = listed.collect();
        pages.turn(&answer, prefix)?;
        Ok(listed)
    }
}

/// A file that is to be stored.
struct Order<'a> {
    key: &'a Key,
    body: &'a Body<'a>,
    /// What is kept beside it; `None` for names that nobody else uses.
    metadata: Option<&'a Metadata>,
    placing: Placing,
    class: Option<StorageClass>,
}

impl Order<'_> {
    fn user_metadata(&self) -> Option<HashMap<String, String>> {
        let pairs = self.metadata?.iter();
        Some(pairs.map(|(name, text)| (name.clone(), text.clone())).collect())
    }

    /// Returns what deltaglider calls all its files.
    fn content_type(&self) -> Option<String> {
        self.metadata.map(|_| "application/octet-stream".into())
    }
}

/// What a HEAD shows.
struct Seen {
    size: Option<u64>,
    digest: Option<String>,
    version: Option<String>,
    metadata: Metadata,
    /// Whether it is encrypted with a key of the user's, so that its ETag is no MD5.
    is_by_key: bool,
}

impl Seen {
    /// Returns what the service knows of all bytes of the file.
    fn checksum(&self) -> Option<Checksum> {
        let sha256 = self.digest.as_deref().and_then(|digest| STANDARD.decode(digest).ok());
        let sha256 = sha256.and_then(|bytes| bytes.try_into().ok()).map(Oid::from_bytes);
        let md5 = || artefacts::md5_of(self.version.as_deref()?).filter(|_| !self.is_by_key);
        sha256.map(Checksum::Sha256).or_else(md5)
    }
}

fn lower_case(metadata: Option<&HashMap<String, String>>) -> Metadata {
    let pairs = metadata.into_iter().flatten();
    pairs.map(|(name, text)| (name.to_ascii_lowercase(), text.clone())).collect()
}

impl ReadStore for S3Store {
    fn get(&self, key: &Key, limit: Option<u64>) -> Result<Box<dyn Read + Send>> {
        let opened = match self.run(Stream::open(self.wanted(key)?, Part::first(limit))) {
            // The first bytes of an empty file are a range that cannot be satisfied.
            Err(error) if limit.is_some() && is_out_of_range(&error) => return Ok(Box::new(io::empty())),
            opened => opened?,
        };
        let reader = self.reader(opened.0)?;
        Ok(match limit {
            // A service that ignores ranges sends more.
            Some(limit) => Box::new(reader.take(limit)),
            None => Box::new(reader),
        })
    }

    fn get_large(&self, key: &Key, size: u64) -> Result<Box<dyn Read + Send>> {
        let (large, part) = self.first_part(size, None);
        if !large {
            return self.get(key, None);
        }
        match self.run(Stream::open(self.wanted(key)?, part)) {
            Err(error) if is_out_of_range(&error) => self.get(key, None),
            opened => self.follow(opened?),
        }
    }

    fn list(&self, prefix: &KeyPrefix, visit: &mut dyn FnMut(Listed) -> Visit) -> Result<()> {
        let mut pages = Pages::default();
        while !pages.is_over() {
            let mut turn = || self.run_alone(async |client| self.list_page(client, prefix, &mut pages).await);
            let listed = match turn() {
                // The first request of every process is a listing: so all others know.
                Err(error) if self.takes_other_style(&error) => turn()?,
                listed => listed?,
            };
            for listed in listed {
                if visit(listed) == Visit::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.location.to_string()
    }
}

impl WriteStore for S3Store {
    fn put(&self, key: &Key, body: &Body<'_>) -> Result<()> {
        let class = self.options.keeping.class(key);
        self.store(&Order { key, body, metadata: None, placing: Placing::Create, class })
    }

    fn unfinished(&self, oid: &Oid) -> Result<Option<Unfinished>> {
        if self.journals.are_none() {
            return Ok(None);
        }
        let client = self.service()?.client();
        self.run(async { Ok(self.find_unfinished(client, oid).await) })
    }

    fn give_up(&self, key: &Key) {
        if let Some(service) = self.service.get() {
            service.parallel.runtime.block_on(self.give_up_unfinished(key));
        }
    }
}

/// Refuses a body that is not what it should be before a byte goes out.
fn check_digest(key: &Key, body: &Body<'_>) -> Result<()> {
    let found = match body.source {
        Source::Bytes(bytes) => Oid::of(bytes),
        Source::File { path, .. } => {
            let found = File::open(path).and_then(|mut file| disk::hash(&mut file, &|_| Ok(())));
            found.map_err(|error| Error::from_io(Verb::Put, key.as_str(), error))?
        }
    };
    if found != body.digest {
        return Err(Error::Digest { key: key.clone(), expected: body.digest });
    }
    Ok(())
}

async fn stream(key: &Key, source: Source<'_>) -> Result<ByteStream> {
    match source {
        // What is handed over in one piece would be hashed once more, to be signed.
        Source::Bytes(bytes) => Ok(body::Pieces::stream(Bytes::copy_from_slice(bytes))),
        Source::File { path, .. } => {
            let stream = ByteStream::read_from().path(path).buffer_size(BUFFER_BYTES).build().await;
            stream.map_err(|error| Error::from_io(Verb::Put, key.as_str(), io::Error::other(error)))
        }
    }
}

fn is_out_of_range(error: &Error) -> bool {
    matches!(error, Error::Unavailable { reason, .. } if reason.starts_with(fault::RANGE))
}

/// Returns whether a service refuses checksums as such, not for being wrong.
fn is_about_checksums(reason: &str) -> bool {
    let refuses = ["NotImplemented", "Invalid", "Unsupported"].iter().any(|word| reason.starts_with(word));
    refuses && reason.to_ascii_lowercase().contains("checksum")
}

fn no_service() -> Error {
    Error::from_io(Verb::Get, "", cancelled())
}
