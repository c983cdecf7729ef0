//! Bodies of uploads, which say how far they are.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

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
