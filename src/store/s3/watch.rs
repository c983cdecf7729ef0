//! Deadlines of requests: until a connection stands, and for silence; and bounds of answers.
//!
//! The SDK's read time-out runs from the first byte of a request to the first of its answer, so that a
//! large upload over a slow line is always too slow. Here the time runs anew with every piece of the body that goes
//! out: only a request in which nothing moves is given up, and then tried again as usual.
//!
//! What surprises: an answer that comes byte by byte is as good as none. While bytes are waited for as long as
//! the patience lasts, `ANSWER_PROGRESS_MIN_BYTES` of them must come. Time in which nobody asks does not count.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::Error as BodyError;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::model::limits::{ANSWER_MAX_BYTES, ANSWER_PROGRESS_MIN_BYTES};

/// An HTTP client whose read time-out is one for silence.
#[derive(Debug)]
pub(super) struct Watched(pub(super) SharedHttpClient);

impl HttpClient for Watched {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let mut connecting = HttpConnectorSettings::builder();
        connecting.set_connect_timeout(settings.connect_timeout());
        let inner = self.0.http_connector(&connecting.build(), components);
        match settings.read_timeout() {
            Some(patience) => SharedHttpConnector::new(Watching { inner, patience }),
            None => inner,
        }
    }
}

#[derive(Debug)]
struct Watching {
    inner: SharedHttpConnector,
    patience: Duration,
}

impl HttpConnector for Watching {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let moved = Moved::default();
        if request.body().content_length() != Some(0) {
            let inner = request.take_body();
            *request.body_mut() = SdkBody::from_body_1_x(Noting { inner, moved: moved.clone() });
        }
        let asks_for_a_file = asks_for_a_file(&request);
        let (call, patience) = (self.inner.call(request), self.patience);
        HttpConnectorFuture::new(async move {
            tokio::pin!(call);
            loop {
                let deadline = moved.last() + patience;
                tokio::select! {
                    answer = &mut call => {
                        return answer.map(|answer| if asks_for_a_file { answer } else { bounded(answer, patience) });
                    }
                    () = tokio::time::sleep_until(deadline) => {}
                }
                if moved.last() + patience <= Instant::now() {
                    let silence = format!("nothing was sent or answered for {} ms", patience.as_millis());
                    return Err(ConnectorError::timeout(silence.into()));
                }
            }
        })
    }
}

/// Whether the answer may be as long as a file: those are read piece by piece, and watched there.
fn asks_for_a_file(request: &HttpRequest) -> bool {
    request.method() == "GET" && !request.uri().contains("list-type=")
}

/// Bounds an answer that is read into memory as a whole.
fn bounded(mut answer: HttpResponse, patience: Duration) -> HttpResponse {
    let inner = answer.take_body();
    let bounded = Bounded { inner, left: ANSWER_MAX_BYTES, trickle: Trickle::new(patience), waiting: None };
    *answer.body_mut() = SdkBody::from_body_1_x(bounded);
    answer
}

/// Tells a slow answer from one that is as good as dead.
#[derive(Debug)]
pub(super) struct Trickle {
    patience: Duration,
    waited: Duration,
    bytes: u64,
}

impl Trickle {
    pub(super) const fn new(patience: Duration) -> Self {
        Self { patience, waited: Duration::ZERO, bytes: 0 }
    }

    /// Returns how long the next bytes may still be waited for.
    pub(super) const fn left(&self) -> Duration {
        self.patience.saturating_sub(self.waited)
    }

    /// Notes bytes that came, and how long they were waited for.
    pub(super) fn note(&mut self, waited: Duration, bytes: u64) {
        self.waited += waited;
        self.bytes += bytes;
        if self.bytes >= ANSWER_PROGRESS_MIN_BYTES {
            *self = Self::new(self.patience);
        }
    }

    /// Says what is wrong once nothing is left.
    pub(super) fn reason(&self) -> String {
        format!("no more than {} bytes came in {} ms", self.bytes, self.patience.as_millis())
    }
}

/// The body of an answer that is short and comes in time, or fails.
struct Bounded {
    inner: SdkBody,
    left: u64,
    trickle: Trickle,
    /// Since when a frame is waited for, and until when.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Bounded {
    /// Waits for the next frame, and fails when that has lasted too long.
    fn poll_in_time(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut self.inner), context) {
            return Poll::Ready(frame);
        }
        let left = self.trickle.left();
        let (_, timer) =
            self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        timer.as_mut().poll(context).map(|()| Some(Err(self.trickle.reason().into())))
    }

    fn note(&mut self, bytes: u64) -> Result<(), BodyError> {
        let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        self.trickle.note(waited, bytes);
        self.left = self.left.checked_sub(bytes).ok_or("the answer is longer than any that was asked for")?;
        Ok(())
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(self.poll_in_time(context));
        if let Some(Ok(frame)) = &frame
            && let Err(error) = self.note(frame.data_ref().map_or(0, Bytes::len) as u64)
        {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.inner)
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.inner)
    }
}

/// When something moved last.
#[derive(Debug, Clone)]
struct Moved(Arc<Mutex<Instant>>);

impl Default for Moved {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Moved {
    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// The body of a request that notes when it is read.
struct Noting {
    inner: SdkBody,
    moved: Moved,
}

impl http_body::Body for Noting {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = http_body::Body::poll_frame(Pin::new(&mut self.inner), context);
        if frame.is_ready() {
            self.moved.note();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_runs_out_of_time_and_a_flow_does_not() {
        let second = Duration::from_secs(1);
        let mut trickle = Trickle::new(second * 60);
        (0..60).for_each(|_| trickle.note(second, 1));
        assert_eq!(trickle.left(), Duration::ZERO);
        let mut trickle = Trickle::new(second * 60);
        (0..1000).for_each(|_| trickle.note(second, 20));
        assert!(trickle.left() > Duration::ZERO);
    }
}
