//! Takes connections and leads each request through log, plan and service.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::faults::{Fault, filled_in, refusal, written};
use super::log::{Call, Meter};
use super::wire::{Counted, Drops, Line, Outgoing, Socket, torn};
use super::{Goodbye, Shared};

/// Serves until the runtime ends; by TLS where there is an acceptor for it.
pub async fn accept(listener: std::net::TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a listener tokio can take");
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            let line = Line::default();
            let socket = Socket { stream, line: line.clone() };
            match tls {
                None => serve_connection(socket, line, shared).await,
                Some(tls) => {
                    // A client that does not trust us goes away here.
                    if let Ok(socket) = tls.accept(socket).await {
                        serve_connection(socket, line, shared).await;
                    }
                }
            }
        });
    }
}

async fn serve_connection(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    line: Line,
    shared: Arc<Shared>,
) {
    // Is there for as long as the connection: `S3Server::hang_up` counts them.
    let mut goodbyes = shared.goodbyes.subscribe();
    let own_line = line.clone();
    let service = hyper::service::service_fn(move |request| {
        let exchange = Exchange::begin(&request, shared.clone(), line.clone());
        exchange.run(request)
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    // An error here is a client that went away, or a fault we planned.
    tokio::select! {
        _ = connection.as_mut() => {}
        Ok(()) = goodbyes.changed() => {
            let goodbye = *goodbyes.borrow();
            match goodbye {
                Goodbye::Close => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
                Goodbye::Reset => own_line.reset(),
            }
        }
    }
}

type Answer = Result<http::Response<Outgoing>, std::io::Error>;

/// One request on its way through log, plan and service.
struct Exchange {
    shared: Arc<Shared>,
    line: Line,
    meter: Arc<Meter>,
    fault: Option<Fault>,
    released: watch::Receiver<u64>,
}

impl Exchange {
    fn begin(request: &http::Request<Incoming>, shared: Arc<Shared>, line: Line) -> Exchange {
        let mut head = http::Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.headers_mut() = request.headers().clone();
        let mut call = Call::of(&head.into_parts().0);
        let fault = shared.plan.next(&call);
        call.fault = fault.as_ref().map(|fault| format!("{fault:?}"));
        // Before the log shows the call: a test may release it at once.
        let released = shared.released.subscribe();
        let meter = shared.log.begin(call);
        Exchange { shared, line, meter, fault, released }
    }

    async fn run(mut self, request: http::Request<Incoming>) -> Answer {
        let request = request.map(|inner| Counted { inner, meter: self.meter.clone() });
        match &self.fault {
            Some(Fault::ResetBefore) => return self.tear(),
            Some(Fault::ResetInUpload(after)) => {
                return self.tear_in_upload(request.into_body(), *after).await;
            }
            Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
            Some(Fault::Hang) => self.hang().await,
            Some(Fault::Endless(text)) => {
                let text = Bytes::from(text.repeat(1 + (64 << 10) / text.len()));
                let frames = futures_util::stream::repeat_with(move || {
                    Ok::<_, s3s::StdError>(http_body::Frame::data(text.clone()))
                });
                let body = s3s::Body::http_body(http_body_util::StreamBody::new(frames));
                let answer = http::Response::builder().header("content-type", "application/xml");
                return self.answer(answer.body(body).expect("a valid answer"));
            }
            Some(fault) => {
                if let Some(answer) = refusal(fault) {
                    let _ = request.into_body().collect().await; // a client mid-body would see a reset
                    return self.answer(answer.map(s3s::Body::from));
                }
            }
            None => {}
        }
        let answer = self.shared.service.call(request.map(s3s::Body::http_body)).await;
        match (answer, &self.fault) {
            (Err(_), _) | (_, Some(Fault::ResetAfter)) => self.tear(),
            (Ok(answer), Some(Fault::WrittenAfter(text))) => {
                let text = filled_in(text, answer).await;
                self.answer(written(&text).map(s3s::Body::from))
            }
            (Ok(answer), Some(Fault::HangAfter)) => {
                self.shared.log.answered(&self.meter, answer.status().as_u16());
                self.hang().await;
                self.answer(answer)
            }
            (Ok(answer), _) => self.answer(answer),
        }
    }

    fn tear(&self) -> Answer {
        self.line.reset();
        Err(torn())
    }

    async fn tear_in_upload(&self, mut body: Counted, after: u64) -> Answer {
        let mut received = 0;
        while received < after {
            let Some(Ok(frame)) = body.frame().await else {
                break;
            };
            received += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        self.tear()
    }

    async fn hang(&mut self) {
        let _ = self.released.changed().await; // an error means the server is going down
    }

    fn answer(self, answer: http::Response<s3s::Body>) -> Answer {
        self.shared.log.answered(&self.meter, answer.status().as_u16());
        let Exchange { line, meter, fault, .. } = self;
        Ok(answer.map(|inner| Outgoing { inner, meter, line, fault, sent: 0, drops: Drops::default() }))
    }
}
