//! Deadlines of requests: until a connection stands, and for silence.
//!
//! The SDK's read time-out runs from the first byte of a request to the first of its answer, so that a
//! large upload over a slow line is always too slow. Here the time runs anew with every piece of the body that goes
//! out: only a request in which nothing moves is given up, and then tried again as usual.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::Error as BodyError;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

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
        let (call, patience) = (self.inner.call(request), self.patience);
        HttpConnectorFuture::new(async move {
            tokio::pin!(call);
            loop {
                let deadline = moved.last() + patience;
                tokio::select! {
                    answer = &mut call => return answer,
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
