//! Writing a session's output to a socket, without a buffer per connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use fanway_hub::session::{ClientSession, EventSession};
use fanway_hub::turn::{Turn, with_turn};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::AsyncWrite;

use crate::server::Io;

/// Turns a connection writes before it lets others run.
const TURNS: usize = 8;

/// A session as its writer sees it.
pub(super) trait Output {
    /// Whether there is something to gather.
    fn has_output(&self) -> bool;
    /// Takes the marks, outside of the session's task.
    fn take_marks(&mut self);
    /// Whether the socket did not take all that was offered last.
    fn blocked(&self) -> bool;
    /// Whether the session ends.
    fn ends(&self) -> bool;
    /// Gathers a turn.
    fn gather(&mut self, turn: &mut Turn);
    /// Tells how much of it was taken.
    fn wrote(&mut self, turn: &mut Turn, written: usize, now: Instant) -> bool;
    /// Tells whether the transport itself holds bytes back, and whether the peer takes some of them.
    fn stuck(&mut self, stuck: bool, moving: bool, now: Instant);
}

macro_rules! output {
    ($session:ty) => {
        impl Output for $session {
            fn has_output(&self) -> bool {
                self.has_output()
            }
            fn take_marks(&mut self) {
                self.take_marks();
            }
            fn blocked(&self) -> bool {
                self.blocked()
            }
            fn ends(&self) -> bool {
                self.closing().is_some()
            }
            fn gather(&mut self, turn: &mut Turn) {
                self.gather(turn);
            }
            fn wrote(&mut self, turn: &mut Turn, written: usize, now: Instant) -> bool {
                self.wrote(turn, written, now)
            }
            fn stuck(&mut self, stuck: bool, moving: bool, now: Instant) {
                self.stuck(stuck, moving, now);
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
    if flush(io, session, cx)?.is_pending() {
        return Poll::Pending;
    }
    for _ in 0..TURNS {
        if !session.has_output() {
            return Poll::Ready(Ok(()));
        }
        match take_turn(session, |bytes| Pin::new(&mut *io).poll_write(cx, bytes)) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        if flush(io, session, cx)?.is_pending() {
            return Poll::Pending;
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Writes what the session has, outside of its task. False if the task must go on: the socket takes no more, the session
/// ends, or there is very much to write.
pub(super) fn write_now(io: &mut Io, session: &mut impl Output) -> bool {
    if session.blocked() {
        // The task waits for the socket, and takes the marks then.
        return true;
    }
    if session.ends() {
        return false;
    }
    session.take_marks();
    match io {
        Io::Tcp(tcp) => {
            // Straight to the kernel. When the socket turns out to be full the task tries it again, and then tokio hears of it.
            let send = |bytes: &[u8]| match rustix::net::send(&*tcp, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(written) => Poll::Ready(Ok(written)),
                Err(Errno::AGAIN) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            };
            for _ in 0..TURNS {
                if !session.has_output() {
                    return !session.ends();
                }
                if !matches!(take_turn(session, send), Poll::Ready(Ok(_))) || session.blocked() {
                    return false;
                }
            }
            false
        }
        Io::Tls(_) => {
            matches!(poll_write(io, session, &mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
                && !session.ends()
        }
    }
}

/// One turn: gathers, writes with `write`, and tells the session how much was taken, which is returned too.
fn take_turn(
    session: &mut impl Output,
    write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    with_turn(|turn| {
        session.gather(turn);
        // With nothing to write nothing is left of what the socket did not take: the session is not blocked any more.
        let taken = if turn.bytes().is_empty() { Poll::Ready(Ok(0)) } else { write(turn.bytes()) };
        let written = match &taken {
            Poll::Ready(Ok(written)) => *written,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        session.wrote(turn, written, Instant::now());
        taken
    })
}

/// Has TLS pass on what it holds back.
fn flush(io: &mut Io, session: &mut impl Output, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
    let idle = !io.holds_back() && !session.blocked();
    if idle || matches!(io, Io::Tcp(_)) {
        return Ok(Poll::Ready(()));
    }
    let flushed = Pin::new(&mut *io).poll_flush(cx);
    session.stuck(flushed.is_pending(), io.take_moved(), Instant::now());
    match flushed {
        Poll::Pending => Ok(Poll::Pending),
        Poll::Ready(done) => done.map(Poll::Ready),
    }
}

/// Gathers one turn for a transport that does the writing itself (HTTP/2), which asks only when it can take it.
pub(super) fn take_bytes(session: &mut impl Output) -> Bytes {
    let mut taken = Bytes::new();
    let _ = take_turn(session, |bytes| {
        taken = Bytes::copy_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    });
    taken
}
