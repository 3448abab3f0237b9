//! What one HTTP connection is doing, as its parts see it: the socket below hyper and the service above it.
//!
//! From this the driver tells which deadline holds, and the service tells whether a takeover may happen. hyper itself
//! says neither. Short locks, never held across an await; on HTTP/1.1 only the connection's own task takes them, save
//! for bodies that a handler moved elsewhere.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body as AxumBody;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Io;

/// Shared by the parts of one connection.
#[derive(Debug)]
pub(super) struct Exchange {
    http2: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests begun so far.
    requests: u64,
    /// Requests whose answer's body has not ended.
    open: u32,
    /// Answers given to hyper whose body has not ended.
    answering: u32,
    /// Bytes of a next request were read.
    begun: bool,
    /// hyper may hold bytes of answers that the socket did not take.
    unsent: bool,
    /// A takeover waits for `unsent` to end.
    takeover_waits: bool,
    /// The socket takes no more at the moment.
    blocked: bool,
    /// Writes that the socket took.
    writes: u64,
}

/// What the connection is doing, and when it began to: equal as long as it does the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pulse {
    pub(super) phase: Phase,
    /// Differs between two times of the same phase.
    round: u64,
}

/// Which deadline holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A head is expected (the first on HTTP/2) or has begun.
    Head,
    /// A request is worked on.
    Busy,
    /// The client does not read.
    Stalled,
    /// No request.
    Idle,
}

impl Exchange {
    pub(super) fn new(http2: bool) -> Arc<Self> {
        Arc::new(Self { http2, state: Mutex::default() })
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pulse(&self) -> Pulse {
        let state = self.state();
        if state.blocked {
            Pulse { phase: Phase::Stalled, round: state.writes }
        } else if state.open > 0 {
            Pulse { phase: Phase::Busy, round: state.requests }
        } else if state.begun || state.requests == 0 {
            Pulse { phase: Phase::Head, round: state.requests }
        } else {
            Pulse { phase: Phase::Idle, round: state.requests }
        }
    }

    /// A request begins; it ends with the drop of what this returns.
    pub(super) fn begin(self: &Arc<Self>) -> OpenRequest {
        let mut state = self.state();
        state.requests += 1;
        state.open += 1;
        state.begun = false;
        OpenRequest { exchange: Arc::clone(self), answering: false }
    }

    /// Waits until everything that was answered before is with the socket.
    pub(super) async fn all_sent(&self) {
        std::future::poll_fn(|_cx| {
            // No waker is kept: the connection's task polls this whenever it polls, and `flushed` makes it poll.
            let mut state = self.state();
            state.takeover_waits = state.unsent;
            if state.unsent { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn read(&self) {
        let mut state = self.state();
        // On HTTP/2 bytes between requests are pings and window updates.
        if !self.http2 && state.open == 0 {
            state.begun = true;
        }
    }

    fn wrote<T>(&self, outcome: &Poll<io::Result<T>>) {
        let mut state = self.state();
        state.blocked = outcome.is_pending();
        state.writes += u64::from(outcome.is_ready());
    }

    /// The socket has all that hyper had for it.
    fn flushed(&self, cx: &Context<'_>) {
        let mut state = self.state();
        state.blocked = false;
        if state.answering == 0 && std::mem::take(&mut state.unsent) && std::mem::take(&mut state.takeover_waits) {
            cx.waker().wake_by_ref();
        }
    }
}

/// A request that has not been answered to the end.
#[derive(Debug)]
pub(super) struct OpenRequest {
    exchange: Arc<Exchange>,
    answering: bool,
}

impl OpenRequest {
    /// The answer goes to hyper; the request ends with the answer's body.
    pub(super) fn answer(mut self, body: AxumBody) -> Answer {
        let mut state = self.exchange.state();
        state.answering += 1;
        state.unsent = true;
        drop(state);
        self.answering = true;
        Answer { body, _open: self }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.exchange.state();
        state.open -= 1;
        state.answering -= u32::from(self.answering);
    }
}

/// The body of an answer, which keeps its request open.
#[derive(Debug)]
pub(super) struct Answer {
    body: AxumBody,
    _open: OpenRequest,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket as hyper sees it: first what the door has read already, then the socket itself.
#[derive(Debug)]
pub(super) struct Wire {
    io: Io,
    first: Bytes,
    exchange: Arc<Exchange>,
}

impl Wire {
    pub(super) fn new(io: Io, first: Bytes, exchange: Arc<Exchange>) -> Self {
        Self { io, first, exchange }
    }

    /// The socket, and what of the door's bytes hyper did not take.
    pub(super) fn into_parts(self) -> (Io, Bytes) {
        (self.io, self.first)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            let before = buf.filled().len();
            let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
            if buf.filled().len() > before {
                self.exchange.read();
            }
            return outcome;
        }
        let length = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..length]);
        self.first.advance(length);
        if self.first.is_empty() {
            // An empty slice of the door's bytes would keep all of them.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.exchange.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.exchange.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        match &outcome {
            Poll::Ready(Ok(())) => self.exchange.flushed(cx),
            other => self.exchange.wrote(other),
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
