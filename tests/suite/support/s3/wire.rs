//! The parts of the connection that faults act on: the socket, the request's and the answer's body.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use s3s::StdError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::faults::Fault;
use super::log::Meter;

const UP: u8 = 0;
const CLOSE_WHEN_FLUSHED: u8 = 1;
const RESET: u8 = 2;

/// Says what is to become of one connection.
#[derive(Clone, Default)]
pub struct Line(Arc<AtomicU8>);

impl Line {
    /// The client sees `connection reset`.
    pub fn reset(&self) {
        self.0.store(RESET, Ordering::SeqCst);
    }

    /// The client gets all that was written so far, then end of file.
    fn close_when_flushed(&self) {
        self.0.store(CLOSE_WHEN_FLUSHED, Ordering::SeqCst);
    }

    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::SeqCst) == state
    }

    fn check(&self) -> io::Result<()> {
        if self.is(RESET) { Err(torn()) } else { Ok(()) }
    }
}

/// The error inside the server when it tears a connection on purpose.
pub fn torn() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "torn by plan")
}

/// A socket that obeys its `Line`.
pub struct Socket {
    pub stream: TcpStream,
    pub line: Line,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.line.is(RESET) {
            let _ = self.stream.set_zero_linger(); // makes the close a reset
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    // hyper asks for a flush once its own buffer is empty: all bytes before a cut are with the
    // kernel then, and the client will see exactly those.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        if self.line.is(CLOSE_WHEN_FLUSHED) {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            return Poll::Ready(Err(torn()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.is(RESET) {
            return Poll::Ready(Ok(())); // no polite goodbye before a reset
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A request's body that counts its bytes.
pub struct Counted {
    pub inner: Incoming,
    pub meter: Arc<Meter>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.meter.add_in(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that counts its bytes and may be cut, stalled or damaged.
pub struct Outgoing {
    pub inner: s3s::Body,
    pub meter: Arc<Meter>,
    pub line: Line,
    pub fault: Option<Fault>,
    pub sent: u64,
    pub drops: Drops,
}

/// What is held back of a body that drips.
#[derive(Default)]
pub struct Drops {
    rest: Bytes,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Outgoing {
    /// The next byte of a body that drips, after its pause.
    fn poll_drop(&mut self, pause: Duration, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.drops.rest.is_empty() {
            return Poll::Ready(None);
        }
        let timer = self.drops.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        ready!(timer.as_mut().poll(context));
        self.drops.pause = None;
        Poll::Ready(Some(self.drops.rest.split_to(1)))
    }
}

impl Outgoing {
    /// What to do instead of sending more, once the fault's offset is reached.
    fn stopped(&self) -> bool {
        match self.fault {
            Some(Fault::CutBody(at)) if self.sent >= at => {
                self.line.close_when_flushed();
                true
            }
            Some(Fault::StallBody(at)) => self.sent >= at,
            _ => false,
        }
    }

    fn damaged(&self, mut bytes: Bytes) -> Bytes {
        let end = self.sent + bytes.len() as u64;
        match self.fault {
            Some(Fault::CutBody(at) | Fault::StallBody(at)) if end > at => {
                bytes.truncate((at - self.sent) as usize);
                bytes
            }
            Some(Fault::FlipByte(at)) if (self.sent..end).contains(&at) => {
                let mut changed = bytes.to_vec();
                changed[(at - self.sent) as usize] ^= 1;
                changed.into()
            }
            _ => bytes,
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        if let Some(Fault::Drip(pause)) = self.fault
            && let Some(byte) = ready!(self.poll_drop(pause, context))
        {
            return Poll::Ready(Some(Ok(Frame::data(byte))));
        }
        if self.stopped() {
            return Poll::Pending; // never woken: the connection ends, or the client gives up
        }
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)?) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(bytes) if matches!(self.fault, Some(Fault::Drip(_))) => {
                self.drops.rest = bytes;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Ok(bytes) => {
                let bytes = self.damaged(bytes);
                self.sent += bytes.len() as u64;
                self.meter.add_out(bytes.len());
                Frame::data(bytes)
            }
            Err(other) => other,
        })))
    }

    // The true size, whatever the fault: a client can tell a cut from an end by `Content-Length`.
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
