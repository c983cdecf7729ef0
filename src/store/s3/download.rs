//! Downloads: bodies that go on where they broke, and large files over several connections at once.
//!
//! The first request of a file says which version of it is there; whatever is asked for later is asked of that
//! version alone (`If-Match`). Bytes are handed out in order. What is fetched ahead waits in memory, at most
//! `PIECES_AHEAD_MAX` pieces for the whole process: whoever gets no such slot streams piece after piece, so that
//! readers never wait for each other.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::fault::Fault;
use super::flow::Flow;
use super::watch::Trickle;
use super::{Error, Result, S3Options, Verb, retry};
use crate::cancel::{Cancel, cancelled};
use crate::model::limits::{PIECE_BYTES, RESUME_PROGRESS_MIN_BYTES};
use crate::model::{Key, Oid, S3Location};

/// What all requests for one file share.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) client: Client,
    pub(super) location: S3Location,
    pub(super) options: S3Options,
}

/// Which bytes are asked for, and of which version of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pub(super) start: u64,
    /// Behind the last byte; else to the end of the file.
    pub(super) end: Option<u64>,
    pub(super) etag: Option<String>,
}

/// An answer whose body is still to come.
struct Opened {
    etag: Option<String>,
    length: Option<u64>,
    /// Size of the whole file, where the answer is a part of it.
    total: Option<u64>,
    body: ByteStream,
}

impl Part {
    /// The first bytes, or all of them.
    pub(super) const fn first(limit: Option<u64>) -> Self {
        Self { start: 0, end: limit, etag: None }
    }

    fn header(&self) -> Option<String> {
        match self.end {
            Some(end) => Some(format!("bytes={}-{}", self.start, end.saturating_sub(1))),
            None => (self.start > 0).then(|| format!("bytes={}-", self.start)),
        }
    }
}

impl Wanted {
    async fn ask(&self, part: &Part) -> Result<Opened> {
        let sent = self
            .client
            .get_object()
            .bucket(&self.location.bucket)
            .key(self.location.full_key(self.key.as_str()))
            .set_range(part.header())
            .set_if_match(part.etag.clone())
            .set_request_payer(self.options.access.payer())
            .send()
            .await;
        let file = Some((&self.key, Oid::of(b"")));
        let answer =
            sent.map_err(|error| Fault::from(error).into_error(Verb::Get, self.key.as_str(), file))?;
        let range = answer.content_range().and_then(parse_content_range);
        // A service that ignores the range begins anew: its bytes would be the wrong ones.
        if range.map_or(0, |(start, _)| start) != part.start {
            return Err(self.unavailable("the service does not resume downloads".into()));
        }
        Ok(Opened {
            // A weak tag does not say that the bytes are the same, and never matches.
            etag: answer.e_tag().filter(|tag| !tag.starts_with("W/")).map(str::to_owned),
            length: answer.content_length().and_then(|length| u64::try_from(length).ok()),
            total: range.and_then(|(_, total)| total),
            body: answer.body,
        })
    }

    fn unavailable(&self, reason: String) -> Error {
        Error::Unavailable { verb: Verb::Get, key: self.key.to_string(), reason }
    }
}

/// Reads `bytes 0-99/1234`: where it starts, and the size of the whole unless that is `*`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}

/// One body, resumed where it breaks.
pub(super) struct Stream {
    wanted: Wanted,
    /// What is still to come; a resumed body is of the version that the first one was of.
    part: Part,
    /// Bytes that are still to come, where the service said so.
    left: Option<u64>,
    body: ByteStream,
    trickle: Trickle,
    /// Breaks with hardly a byte between them.
    breaks: u32,
    since_break: u64,
}

impl Stream {
    /// Asks for a part; returns its body, and the size of the whole file where the answer is a part of it.
    pub(super) async fn open(wanted: Wanted, mut part: Part) -> Result<(Self, Option<u64>)> {
        let opened = wanted.ask(&part).await?;
        if opened.total.is_none() && part.start == 0 {
            // All of it came, whatever was asked for.
            part.end = None;
        }
        part.etag = part.etag.or(opened.etag);
        let (body, left) = (opened.body, opened.length);
        let trickle = Trickle::new(wanted.options.stall_timeout);
        Ok((Self { wanted, part, left, body, trickle, breaks: 0, since_break: 0 }, opened.total))
    }

    /// Waits for the next bytes; none at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let reason = match self.piece().await {
                Ok(Some(bytes)) => {
                    self.count(bytes.len() as u64);
                    if let Some(pace) = &self.wanted.options.download_pace {
                        pace.clone().pass(bytes.len()).await;
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) if self.left.is_none_or(|left| left == 0) => return Ok(None),
                Ok(None) => "the answer ended early".to_owned(),
                Err(reason) => reason,
            };
            self.resume(reason).await.map_err(io::Error::other)?;
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, String> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let begun = tokio::time::Instant::now();
        match tokio::time::timeout(self.trickle.left(), self.body.next()).await {
            Ok(Some(Ok(bytes))) => {
                self.trickle.note(begun.elapsed(), bytes.len() as u64);
                Ok(Some(bytes))
            }
            Ok(Some(Err(error))) => Err(error.to_string()),
            Ok(None) => Ok(None),
            Err(_) => Err(self.trickle.reason()),
        }
    }

    fn count(&mut self, bytes: u64) {
        self.part.start += bytes;
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        self.since_break += bytes;
        if self.since_break >= RESUME_PROGRESS_MIN_BYTES {
            self.breaks = 0;
        }
    }

    async fn resume(&mut self, reason: String) -> Result<()> {
        self.breaks += 1;
        self.since_break = 0;
        if self.breaks >= self.wanted.options.attempts {
            return Err(self.wanted.unavailable(reason));
        }
        tracing::debug!(key = %self.wanted.key, offset = self.part.start, reason, "a download broke: resuming");
        tokio::time::sleep(retry::pause(self.wanted.options.backoff, self.breaks)).await;
        self.body = self.wanted.ask(&self.part).await?.body;
        self.trickle = Trickle::new(self.wanted.options.stall_timeout);
        Ok(())
    }

    async fn collect(mut self) -> io::Result<Bytes> {
        let mut all = BytesMut::with_capacity(usize::try_from(PIECE_BYTES).unwrap_or_default());
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    /// Reads all of it: for small files.
    pub(super) async fn collect_small(self, key: &Key) -> Result<Bytes> {
        self.collect().await.map_err(|error| Error::from_read(key, error))
    }
}

/// A piece that is fetched ahead, or was. Whoever lets go of it gives it up.
struct Ahead {
    task: JoinHandle<io::Result<Bytes>>,
    // Held for as long as the piece takes memory.
    _slot: OwnedSemaphorePermit,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What follows the piece that is being read.
struct Rest {
    wanted: Wanted,
    etag: Option<String>,
    /// Where the first piece begins that nobody has asked for yet.
    next: u64,
    total: u64,
    ahead: VecDeque<Ahead>,
    slots: Arc<Semaphore>,
    flow: Flow,
}

impl Rest {
    fn next_part(&mut self) -> Option<Part> {
        let start = self.next;
        self.next = self.total.min(start.saturating_add(PIECE_BYTES));
        (start < self.next).then(|| Part { start, end: Some(self.next), etag: self.etag.clone() })
    }

    /// Asks for pieces ahead while there are slots, and while the service is not too busy for more than one request.
    fn fetch_ahead(&mut self) {
        while self.next < self.total && self.ahead.len() + 1 < self.flow.width() {
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
            let Some(part) = self.next_part() else { return };
            let wanted = self.wanted.clone();
            let task = tokio::spawn(async move {
                let (stream, _) = Stream::open(wanted, part).await.map_err(io::Error::other)?;
                stream.collect().await
            });
            self.ahead.push_back(Ahead { task, _slot: slot });
        }
    }
}

/// A download as a blocking reader.
pub(super) struct Download {
    runtime: Handle,
    cancel: Cancel,
    front: Stream,
    rest: Option<Rest>,
    chunk: Bytes,
    /// Where `chunk` came from, if it was fetched ahead.
    held: Option<Ahead>,
}

impl Download {
    /// Reads one body.
    pub(super) const fn new(front: Stream, runtime: Handle, cancel: Cancel) -> Self {
        Self { runtime, cancel, front, rest: None, chunk: Bytes::new(), held: None }
    }

    /// Reads what follows the first body too, up to `total` bytes, some of it ahead where there are `slots`.
    pub(super) fn followed(mut self, total: u64, slots: &Arc<Semaphore>, flow: &Flow) -> Self {
        self.rest = Some(Rest {
            wanted: self.front.wanted.clone(),
            etag: self.front.part.etag.clone(),
            next: self.front.part.end.unwrap_or(total),
            total,
            ahead: VecDeque::new(),
            slots: Arc::clone(slots),
            flow: flow.clone(),
        });
        self
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(rest) = &mut self.rest {
                rest.fetch_ahead();
            }
            if let Some(bytes) = self.front.next().await? {
                return Ok(Some(bytes));
            }
            let Some(rest) = &mut self.rest else { return Ok(None) };
            if let Some(mut ahead) = rest.ahead.pop_front() {
                let bytes = (&mut ahead.task).await.map_err(io::Error::other)??;
                self.held = Some(ahead);
                return Ok(Some(bytes));
            }
            let Some(part) = rest.next_part() else { return Ok(None) };
            (self.front, _) = Stream::open(rest.wanted.clone(), part).await.map_err(io::Error::other)?;
        }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && !buffer.is_empty() {
            self.held = None;
            let (runtime, cancel) = (self.runtime.clone(), self.cancel.clone());
            let next = runtime.block_on(async {
                tokio::select! {
                    next = self.next_chunk() => next,
                    () = cancel.raised() => Err(cancelled()),
                }
            });
            match next? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_says_where_it_starts_and_how_much_there_is() {
        assert_eq!(parse_content_range("bytes 5-9/100"), Some((5, Some(100))));
        assert_eq!(parse_content_range("bytes 0-9/*"), Some((0, None)));
        assert_eq!(parse_content_range("bytes */100"), None);
        assert_eq!(parse_content_range("lines 1-2/3"), None);
    }

    #[test]
    fn a_whole_file_is_asked_for_without_a_range() {
        assert_eq!(Part::first(None).header(), None);
        assert_eq!(Part::first(Some(10)).header().as_deref(), Some("bytes=0-9"));
        assert_eq!(Part { start: 7, ..Part::default() }.header().as_deref(), Some("bytes=7-"));
    }
}
