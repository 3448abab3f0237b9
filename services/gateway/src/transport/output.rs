//! Writing a session's output to a socket, without a buffer per connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use fanway_hub::outbox::Turn;
use fanway_hub::session::{ClientSession, EventSession};
use tokio::io::AsyncWrite;

use crate::server::Io;

thread_local! {
    /// The buffer of the connection whose turn it is on this thread.
    static TURN: RefCell<Turn> = RefCell::default();
}

/// Turns a connection writes before it lets others run.
const TURNS: usize = 8;

/// A session as its writer sees it.
pub(super) trait Output {
    /// Whether there is something to gather.
    fn has_output(&self) -> bool;
    /// Gathers a turn.
    fn gather(&mut self, turn: &mut Turn);
    /// Tells how much of it was taken.
    fn wrote(&mut self, turn: &Turn, written: usize, now: Instant) -> bool;
    /// Tells whether the transport itself holds bytes back.
    fn stuck(&mut self, stuck: bool, now: Instant);
}

macro_rules! output {
    ($session:ty) => {
        impl Output for $session {
            fn has_output(&self) -> bool {
                self.has_output()
            }
            fn gather(&mut self, turn: &mut Turn) {
                self.gather(turn);
            }
            fn wrote(&mut self, turn: &Turn, written: usize, now: Instant) -> bool {
                self.wrote(turn, written, now)
            }
            fn stuck(&mut self, stuck: bool, now: Instant) {
                self.stuck(stuck, now);
            }
        }
    };
}

output!(ClientSession);
output!(EventSession);

/// Writes what the session has. `Ready` when it has nothing more and everything is with the kernel; `Pending` when the
/// socket takes no more (or others should run): the task is woken when it makes sense to go on.
pub(super) fn poll_write(io: &mut Io, session: &mut impl Output, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    // TLS keeps sealed records of its own: as long as those wait, nothing more is gathered.
    let encrypted = matches!(io, Io::Tls(_));
    if encrypted && flush(io, session, cx)?.is_pending() {
        return Poll::Pending;
    }
    for _ in 0..TURNS {
        if !session.has_output() {
            return Poll::Ready(Ok(()));
        }
        let taken = TURN.with_borrow_mut(|turn| {
            session.gather(turn);
            if turn.bytes().is_empty() {
                // Nothing is left of what the socket did not take, so the session is not blocked any more.
                session.wrote(turn, 0, Instant::now());
                return Poll::Ready(Ok(()));
            }
            let taken = Pin::new(&mut *io).poll_write(cx, turn.bytes());
            let written = match &taken {
                Poll::Ready(Ok(written)) => *written,
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            session.wrote(turn, written, Instant::now());
            taken.map_ok(|_| ())
        });
        match taken {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        if encrypted && flush(io, session, cx)?.is_pending() {
            return Poll::Pending;
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn flush(io: &mut Io, session: &mut impl Output, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
    let flushed = Pin::new(io).poll_flush(cx);
    session.stuck(flushed.is_pending(), Instant::now());
    match flushed {
        Poll::Pending => Ok(Poll::Pending),
        Poll::Ready(done) => done.map(Poll::Ready),
    }
}

/// Gathers one turn for a transport that does the writing itself (HTTP/2), which asks only when it can take it.
pub(super) fn take_turn(session: &mut impl Output) -> bytes::Bytes {
    TURN.with_borrow_mut(|turn| {
        session.gather(turn);
        let bytes = bytes::Bytes::copy_from_slice(turn.bytes());
        session.wrote(turn, bytes.len(), Instant::now());
        bytes
    })
}
