//! Bodies: uploads that say how far they are, downloads that go on where they broke.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::runtime::Handle;

use super::fault::Fault;
use super::{Error, Resume, Verb};
use crate::cancel::{Cancel, cancelled};
use crate::model::{Key, Oid, S3Location};

/// How often an upload reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Counts the bytes of uploads that are on their way.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Arc<AtomicU64>);

impl Sent {
    /// Makes a body count what is read of it. It can still be sent again.
    pub(super) fn count(&self, stream: ByteStream) -> ByteStream {
        let counter = self.clone();
        let wrap = move |inner: SdkBody| SdkBody::from_body_1_x(Counted { inner, sent: counter.clone() });
        ByteStream::new(stream.into_inner().map_preserve_contents(wrap))
    }

    /// Waits for `call` and reports meanwhile what was counted.
    pub(super) async fn report<T>(
        &self,
        report: &(dyn Fn(u64) + Send + Sync),
        call: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(call);
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        loop {
            let outcome = tokio::select! {
                outcome = &mut call => Some(outcome),
                _ = ticks.tick() => None,
            };
            let count = self.0.swap(0, Ordering::Relaxed);
            if count > 0 {
                report(count);
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }
}

struct Counted {
    inner: SdkBody,
    sent: Sent,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = http_body::Body::poll_frame(Pin::new(&mut self.inner), context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let count = frame.data_ref().map_or(0, Bytes::len);
            self.sent.0.fetch_add(count as u64, Ordering::Relaxed);
        }
        frame
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.inner)
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.inner)
    }
}

/// The body of a GET as a blocking reader.
pub(super) struct Download {
    pub(super) key: Key,
    pub(super) client: Client,
    pub(super) runtime: Handle,
    pub(super) location: S3Location,
    pub(super) resume: Resume,
    /// Bytes that are still to come, where the service said so.
    pub(super) left: Option<u64>,
    pub(super) body: ByteStream,
    pub(super) chunk: Bytes,
    pub(super) stall_timeout: Duration,
    /// Tries that are left when the body breaks.
    pub(super) attempts: u32,
    pub(super) backoff: Duration,
    pub(super) cancel: Cancel,
}

impl Download {
    fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let reason = match self.poll_chunk()? {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) if self.left.is_none_or(|left| left == 0) => return Ok(None),
                Ok(None) => "the answer ended early".to_owned(),
                Err(reason) => reason,
            };
            self.attempts = self.attempts.saturating_sub(1);
            if self.attempts == 0 {
                return Err(io::Error::other(self.unavailable(reason)));
            }
            tracing::debug!(key = %self.key, offset = self.resume.start, reason, "a download broke: resuming");
            self.reopen()?;
        }
    }

    /// Waits for the next piece; the inner error says how the body broke.
    fn poll_chunk(&mut self) -> io::Result<Result<Option<Bytes>, String>> {
        let Self { body, cancel, runtime, stall_timeout, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                piece = tokio::time::timeout(*stall_timeout, body.next()) => Ok(match piece {
                    Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
                    Ok(Some(Err(error))) => Err(error.to_string()),
                    Ok(None) => Ok(None),
                    Err(_) => Err(format!("no byte came for {} ms", stall_timeout.as_millis())),
                }),
                () = cancel.raised() => Err(cancelled()),
            }
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        let request = self
            .client
            .get_object()
            .bucket(&self.location.bucket)
            .key(self.location.full_key(self.key.as_str()))
            .range(self.resume.header())
            .set_if_match(self.resume.etag.clone());
        let sent = self.runtime.block_on(async {
            tokio::time::sleep(self.backoff).await;
            tokio::select! {
                sent = request.send() => Ok(sent),
                () = self.cancel.raised() => Err(cancelled()),
            }
        })?;
        let file = Some((&self.key, Oid::of(b"")));
        let answer = sent.map_err(|error| {
            io::Error::other(Fault::from(error).into_error(Verb::Get, self.key.as_str(), file))
        })?;
        // A service that ignores the range begins anew: its bytes would be the wrong ones.
        if self.resume.start > 0 && answer.content_range().is_none() {
            return Err(io::Error::other(self.unavailable("the service does not resume downloads".into())));
        }
        self.body = answer.body;
        Ok(())
    }

    fn unavailable(&self, reason: String) -> Error {
        Error::Unavailable { verb: Verb::Get, key: self.key.to_string(), reason }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && !buffer.is_empty() {
            match self.next_chunk()? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        self.resume.start += count as u64;
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        Ok(count)
    }
}
