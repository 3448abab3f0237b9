//! Plain server-sent events: `GET /sse?channel=a&channel=b`.
//!
//! Over HTTP/1 the socket is taken over, and the session writes the chunks of the body itself (HTTP/1.1) or none
//! (HTTP/1.0); over HTTP/2 the stream is a response body that hyper asks for when the client can take more.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use fanway_hub::session::EventSession;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::driver;
use super::output::{poll_write, take_bytes, write_now};
use crate::server::{ConnectionGuard, Io, Taken};

/// How long the last words may take.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The head of a stream: never cached, never transformed, never buffered by a proxy that listens to its backend.
pub(super) fn head<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A stream over a socket of its own.
pub(super) struct EventConnection {
    io: Io,
    session: EventSession,
    /// Set once the session has said its last words.
    ending: Option<Pin<Box<Sleep>>>,
    shut: bool,
    _guard: ConnectionGuard,
}

impl EventConnection {
    pub(super) fn new(taken: Taken, session: EventSession) -> Self {
        Self { io: taken.io, session, ending: None, shut: false, _guard: taken.guard }
    }

    /// A client of a stream says nothing more; whatever it says is thrown away. `Ready` when it is gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 256];
        for _ in 0..4 {
            let mut buffer = ReadBuf::new(&mut scratch);
            std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl driver::Connection for EventConnection {
    fn write(&mut self) -> bool {
        write_now(&mut self.io, &mut self.session)
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.poll(cx, Instant::now());
        if self.poll_gone(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let written = poll_write(&mut self.io, &mut self.session, cx)?;
        if !self.session.ended() {
            return Poll::Pending;
        }
        let ending = self.ending.get_or_insert_with(|| Box::pin(tokio::time::sleep(END_TIMEOUT)));
        if ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if written.is_ready() && !self.shut {
            std::task::ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            // From here until the peer closes too, or the time is over.
            self.shut = true;
        }
        Poll::Pending
    }
}

/// A stream as a response body.
pub(super) struct EventBody {
    session: EventSession,
}

impl EventBody {
    pub(super) fn of(session: EventSession) -> Body {
        Body::new(Self { session })
    }
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let session = &mut self.get_mut().session;
        session.poll(cx, Instant::now());
        if session.has_output() {
            let bytes = take_bytes(session);
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        if session.ended() { Poll::Ready(None) } else { Poll::Pending }
    }
}
