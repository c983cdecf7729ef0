//! Bodies of uploads, which say how far they are.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_types::body::Error as BodyError;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::pace::Pace;
use crate::model::limits::BUFFER_BYTES;

/// How often an upload reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Counts the bytes of uploads that are on their way, and holds them to the limit that is set.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    count: Arc<AtomicU64>,
    pace: Option<Pace>,
}

impl Sent {
    pub(super) fn new(pace: Option<Pace>) -> Self {
        Self { count: Arc::default(), pace }
    }

    pub(super) const fn is_limited(&self) -> bool {
        self.pace.is_some()
    }

    /// Counts bytes that need not go out, because the service has them.
    pub(super) fn skip(&self, bytes: u64) {
        self.count.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Makes a body count what is read of it. It can still be sent again.
    pub(super) fn count(&self, stream: ByteStream) -> ByteStream {
        let sent = self.clone();
        let wrap = move |inner: SdkBody| {
            SdkBody::from_body_1_x(Counted { inner, sent: sent.clone(), rest: Bytes::new(), wait: None })
        };
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
            let count = self.count.swap(0, Ordering::Relaxed);
            if count > 0 {
                report(count);
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }
}

/// Bytes in memory that go out in pieces: what is handed over in one is seen to move once only, and a slow line
/// would be taken for a broken one.
pub(super) struct Pieces(Bytes);

impl Pieces {
    /// Makes a body that can be sent again.
    pub(super) fn stream(bytes: Bytes) -> ByteStream {
        ByteStream::new(SdkBody::retryable(move || SdkBody::from_body_1_x(Self(bytes.clone()))))
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.0.len().min(BUFFER_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(piece)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

struct Counted {
    inner: SdkBody,
    sent: Sent,
    /// What was read and waits for its turn.
    rest: Bytes,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Counted {
    /// Waits for the turn of the next slice of `rest`, and takes it.
    fn poll_slice(&mut self, pace: &Pace, context: &mut Context<'_>) -> Poll<Bytes> {
        let slice = self.rest.len().min(pace.slice());
        let wait = self.wait.get_or_insert_with(|| Box::pin(pace.clone().pass(slice)));
        ready!(wait.as_mut().poll(context));
        self.wait = None;
        Poll::Ready(self.rest.split_to(slice))
    }

    fn poll_inner(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(pace) = self.sent.pace.clone() else {
            return http_body::Body::poll_frame(Pin::new(&mut self.inner), context);
        };
        if self.rest.is_empty() {
            match ready!(http_body::Body::poll_frame(Pin::new(&mut self.inner), context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.rest = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        self.poll_slice(&pace, context).map(|bytes| Some(Ok(Frame::data(bytes))))
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = self.poll_inner(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let count = frame.data_ref().map_or(0, Bytes::len);
            self.sent.count.fetch_add(count as u64, Ordering::Relaxed);
        }
        frame
    }

    fn size_hint(&self) -> SizeHint {
        let inner = http_body::Body::size_hint(&self.inner);
        match inner.exact() {
            Some(exact) => SizeHint::with_exact(exact + self.rest.len() as u64),
            None => inner,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && http_body::Body::is_end_stream(&self.inner)
    }
}
