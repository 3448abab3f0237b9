//! The socket as hyper sees it: what was read with the first head, then the socket itself.
//!
//! Over HTTP/1.1 hyper is handed each head only when it is whole, has passed the rules ([`super::boundaries`]), and the
//! request before is over or was handed over with it. A head that is refused never reaches hyper: for hyper the connection
//! ends there, and the owner of the socket sends the refusal.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Io;
use super::answer::Refusal;
use super::boundaries::{Boundaries, Seen, TooManyBlocks};
use super::exchange::Exchange;

/// The socket as hyper sees it.
#[derive(Debug)]
pub(super) struct HyperIo {
    io: Io,
    /// Bytes that were read and that hyper was not handed yet.
    held: BytesMut,
    /// Of an HTTP/1.1 connection.
    boundaries: Option<Boundaries>,
    stop: Option<Stop>,
    exchange: Arc<Exchange>,
}

/// Why the connection ends with an answer of the server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A head did not pass the rules.
    Refused(Refusal),
    /// hyper refused a head. Its answer, which has no body, was swallowed.
    Unreadable,
}

impl HyperIo {
    /// An HTTP/1.1 connection whose first head was checked.
    pub(super) fn http1(io: Io, first: Bytes, boundaries: Boundaries, exchange: Arc<Exchange>) -> Self {
        Self { io, held: first.into(), boundaries: Some(boundaries), stop: None, exchange }
    }

    /// An HTTP/2 connection.
    pub(super) fn http2(io: Io, first: Bytes, exchange: Arc<Exchange>) -> Self {
        Self { io, held: first.into(), boundaries: None, stop: None, exchange }
    }

    /// The socket, what hyper was not handed, and why the server stopped the connection, if it did.
    pub(super) fn into_parts(self) -> (Io, Bytes, Option<Stop>) {
        (self.io, self.held.freeze(), self.stop)
    }

    /// At a head: waits until it is whole and may be handed out. `Ready` with bytes in `buf`, or in `held`, or with
    /// neither at the end of the connection.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (Some(boundaries), before) = (&mut self.boundaries, buf.filled().len()) else { return Poll::Ready(Ok(())) };
        if self.exchange.is_open() {
            // hyper looks whether the client is still there.
            if self.held.is_empty() {
                ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
                if buf.filled().len() == before {
                    return Poll::Ready(Ok(()));
                }
                self.held.extend_from_slice(&buf.filled()[before..]);
                buf.set_filled(before);
            }
            if self.exchange.wake_when_over(cx) {
                return Poll::Pending;
            }
        }
        loop {
            // Mostly a head arrives at once: then it stays where hyper wants it.
            let bytes = if self.held.is_empty() { &buf.filled()[before..] } else { &self.held[..] };
            if !bytes.is_empty() {
                self.exchange.read();
                match boundaries.scan(bytes) {
                    Ok(None) => (),
                    Ok(Some(head)) => {
                        self.exchange.saw(head);
                        return Poll::Ready(Ok(()));
                    }
                    Err(refusal) => {
                        buf.set_filled(before);
                        self.stop = Some(Stop::Refused(refusal));
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            if buf.filled().len() > before {
                self.held.extend_from_slice(&buf.filled()[before..]);
                buf.set_filled(before);
            }
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                self.held.clear();
                return Poll::Ready(Ok(()));
            }
            if !self.held.is_empty() {
                self.held.extend_from_slice(&buf.filled()[before..]);
                buf.set_filled(before);
            }
        }
    }

    /// Hands out what may be of what was read.
    fn poll_request(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.boundaries.as_ref().is_some_and(Boundaries::at_head) {
            ready!(self.poll_head(cx, buf))?;
        } else if self.held.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            if buf.filled().len() > before {
                self.exchange.read();
            }
        }
        if self.stop.is_some() {
            return self.poll_stopped(cx);
        }
        let Some(boundaries) = &mut self.boundaries else { return Poll::Ready(Ok(())) };
        let bytes = match self.held.is_empty() {
            true => &buf.filled()[before..],
            false => &self.held[..self.held.len().min(buf.remaining())],
        };
        let (mut length, seen) = match boundaries.pass(bytes) {
            Ok(passed) => passed,
            Err(error) => {
                buf.set_filled(before);
                return self.poll_refused(cx, error);
            }
        };
        if let Some(seen) = seen {
            self.exchange.saw(seen);
        }
        while let Some((more, body)) = boundaries.look_ahead(&bytes[length..]) {
            self.exchange.saw(Seen::Head(body));
            length += more;
        }
        if !self.held.is_empty() {
            buf.put_slice(&self.held[..length]);
            self.held.advance(length);
            if self.held.is_empty() {
                // An empty rest would keep the memory of the whole.
                self.held = BytesMut::new();
            }
        } else if before + length < buf.filled().len() {
            self.held.extend_from_slice(&buf.filled()[before + length..]);
            buf.set_filled(before + length);
        }
        Poll::Ready(Ok(()))
    }

    /// Refuses a chunked body. While its request is open the body fails, and the handler answers; hyper reads no more.
    /// After that the server answers.
    fn poll_refused(&mut self, cx: &Context<'_>, error: TooManyBlocks) -> Poll<io::Result<()>> {
        if self.exchange.is_open() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        self.stop = Some(Stop::Refused(Refusal::Malformed(TooManyBlocks::MESSAGE)));
        self.poll_stopped(cx)
    }

    /// The end, as soon as hyper has nothing left to send: it would drop that.
    fn poll_stopped(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.exchange.wake_when_sent(cx) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Whether hyper writes an answer of its own, which is swallowed.
    fn swallows(&mut self) -> bool {
        let unasked = self.boundaries.is_some() && self.exchange.is_unasked();
        if unasked && self.stop.is_none() {
            self.stop = Some(Stop::Unreadable);
        }
        unasked
    }
}

impl AsyncRead for HyperIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(boundaries) = &mut this.boundaries {
            if this.stop.is_some() {
                return this.poll_stopped(cx);
            }
            if boundaries.in_blocks()
                && let Some(body) = this.exchange.take_was_head()
            {
                boundaries.was_head(body);
            }
            return this.poll_request(cx, buf);
        }
        if this.held.is_empty() {
            let before = buf.filled().len();
            let outcome = Pin::new(&mut this.io).poll_read(cx, buf);
            if buf.filled().len() > before {
                this.exchange.read();
            }
            return outcome;
        }
        let length = this.held.len().min(buf.remaining());
        buf.put_slice(&this.held[..length]);
        this.held.advance(length);
        if this.held.is_empty() {
            this.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HyperIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.swallows() {
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.exchange.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.swallows() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
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
        // The server's own answer comes after hyper's end.
        if self.stop.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
