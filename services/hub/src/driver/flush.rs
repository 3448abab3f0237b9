//! Writing a session's output to a socket, without a buffer per connection.

use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::Socket;
use crate::session::{Protocol, Session};
use crate::turn::with_turn;

/// Batches that a connection writes before it lets others run.
const BATCHES: usize = 8;

/// Writes what the session has. `Ready` when it has nothing more and everything is with the kernel; `Pending` when the
/// socket takes no more (or others should run): the task is woken when it makes sense to go on.
pub(super) fn poll_flush<P: Protocol, S: Socket>(
    socket: &mut S,
    session: &mut Session<P>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    // As long as the socket holds bytes back, nothing more is gathered.
    if pass_on(socket, session, cx)?.is_pending() {
        return Poll::Pending;
    }
    for _ in 0..BATCHES {
        if !session.has_output() {
            return Poll::Ready(Ok(()));
        }
        match write_batch(session, |bytes| socket.poll_write(cx, bytes)) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        if pass_on(socket, session, cx)?.is_pending() {
            return Poll::Pending;
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Writes what the session has, outside of its task. False if the task must go on: the socket takes no more, the session
/// ends, or there is very much to write.
pub(super) fn write_now<P: Protocol, S: Socket>(socket: &mut S, session: &mut Session<P>) -> bool {
    if session.blocked() {
        // The task waits for the socket, and takes the dirty bits then.
        return true;
    }
    if session.closing().is_some() {
        return false;
    }
    session.take_marks();
    if socket.buffers() {
        let flushed = poll_flush(socket, session, &mut Context::from_waker(Waker::noop()));
        return matches!(flushed, Poll::Ready(Ok(()))) && session.closing().is_none();
    }
    for _ in 0..BATCHES {
        if !session.has_output() {
            return session.closing().is_none();
        }
        // When the socket turns out to be full the task tries it again, and is woken then.
        if !matches!(write_batch(session, |bytes| socket.try_write(bytes)), Poll::Ready(Ok(_))) || session.blocked() {
            return false;
        }
    }
    false
}

/// One batch: gathers, writes with `write`, and commits what was taken. Returns the bytes taken.
fn write_batch<P: Protocol>(
    session: &mut Session<P>,
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

/// Has the socket pass on what it holds back.
fn pass_on<P: Protocol, S: Socket>(
    socket: &mut S,
    session: &mut Session<P>,
    cx: &mut Context<'_>,
) -> io::Result<Poll<()>> {
    if !socket.buffers() || !socket.holds_back() && !session.blocked() {
        return Ok(Poll::Ready(()));
    }
    let flushed = socket.poll_flush(cx);
    session.stuck(flushed.is_pending(), socket.take_progress(), Instant::now());
    match flushed {
        Poll::Pending => Ok(Poll::Pending),
        Poll::Ready(done) => done.map(Poll::Ready),
    }
}
