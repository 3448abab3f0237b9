//! Driver of a connection: a session and its socket behind one lock.
//!
//! The connection lives in its handle. Its task, which owns it, does everything: reading, commands, deadlines, closing,
//! and writing where the socket was full. The fan-out only ever tries the lock, and only writes; where it cannot, it wakes
//! the task. So there is one writer at a time, and bytes leave in program order.
//!
//! A connection keeps no buffer: reads and writes go through buffers of the thread, and what a socket does not take is
//! rolled back.

mod flush;
mod pull;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::Sleep;

use self::flush::{poll_flush, write_now};
pub use self::pull::Pulled;
use crate::handle::{Handle, Writer};
use crate::session::{Protocol, Session};

/// Size of a read.
const INPUT_BYTES: usize = 16 * 1024;
/// Reads of a connection before it writes and lets others run.
const READS: usize = 4;
/// Bytes that are read and dropped while closing, so that the last bytes are not lost to a reset.
const CLOSE_READ_BYTES: usize = 256 * 1024;

thread_local! {
    /// Buffer of the connection that reads on this thread.
    static INPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; INPUT_BYTES].into());
}

/// A bidirectional stream of bytes to a client.
pub trait Socket: Send + 'static {
    /// Reads into the buffer. 0 at the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some bytes, or wakes the task when the socket takes more.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Writes some bytes without waiting. `Pending` wakes nobody: the task will try again.
    fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Passes on bytes that the socket took and holds back, as TLS does. `Ready` once it holds none.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Whether the socket may hold back bytes that it took. One that does implements the methods around this one too.
    fn buffers(&self) -> bool {
        false
    }

    /// Whether the socket holds back bytes now.
    fn holds_back(&self) -> bool {
        false
    }

    /// Whether the socket has passed on bytes that it held back since the last call.
    fn take_progress(&mut self) -> bool {
        false
    }

    /// Ends the sending half.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A session on its socket.
struct Connection<P, S> {
    socket: S,
    session: Session<P>,
    closing: Option<Box<Closing>>,
}

/// End of a connection: everything pending, the last bytes, then until the peer is done too.
struct Closing {
    deadline: Pin<Box<Sleep>>,
    /// The last bytes are with the kernel, and the sending half is shut.
    shut: bool,
    /// Bytes read since.
    read: usize,
}

impl<P: Protocol, S: Socket> Connection<P, S> {
    /// Reads until the socket has no more, or enough for now. `Ready` when the peer is gone.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        INPUT.with_borrow_mut(|input| {
            for _ in 0..READS {
                // Commands that wait for their turn are answered first; their end wakes the task.
                if self.closing.is_none() && !self.session.wants_input() {
                    return Poll::Pending;
                }
                let length = ready!(self.socket.poll_read(cx, input))?;
                if length == 0 {
                    return Poll::Ready(Ok(()));
                }
                match &mut self.closing {
                    None => self.session.on_input(&mut input[..length], now),
                    Some(closing) => {
                        closing.read += length;
                        if closing.read > CLOSE_READ_BYTES {
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Begins to close if the session has queued its last bytes. Whether it has begun just now.
    fn begin_closing(&mut self) -> bool {
        if self.closing.is_some() || !self.session.ended() {
            return false;
        }
        let deadline = Box::pin(tokio::time::sleep(P::CLOSE_TIMEOUT));
        self.closing = Some(Box::new(Closing { deadline, shut: false, read: 0 }));
        true
    }

    /// Does what can be done now. `Ready` when the connection is over.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        self.session.poll(cx, now);
        if self.poll_read(cx, now)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let held_back = !self.session.wants_input();
        // What was read may be answered at once.
        self.session.poll(cx, now);
        // Nobody waits for the socket where there was no room for what it has. While closing it is read to see the client go.
        if self.begin_closing() || held_back && self.session.wants_input() {
            cx.waker().wake_by_ref();
        }
        let written = poll_flush(&mut self.socket, &mut self.session, cx)?;
        // Writing may have found that the session must end.
        self.session.end();
        if self.begin_closing() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(closing) = &mut self.closing else { return Poll::Pending };
        if closing.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if written.is_ready() && !closing.shut {
            ready!(self.socket.poll_shutdown(cx))?;
            closing.shut = true;
        }
        Poll::Pending
    }
}

/// Place of a connection as long as it lives.
struct Slot<P, S>(Mutex<Option<Connection<P, S>>>);

impl<P: Protocol, S: Socket> Writer for Slot<P, S> {
    fn write(&self) -> bool {
        let Ok(mut slot) = self.0.try_lock() else { return false };
        let Some(connection) = slot.as_mut() else { return true };
        // A fault in one connection must not end what serves all the others.
        let write = || connection.closing.is_none() && write_now(&mut connection.socket, &mut connection.session);
        catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| {
            *slot = None;
            false
        })
    }
}

/// Task of a connection. The connection ends with it.
pub struct Driver<P: Protocol, S: Socket>(Arc<Handle<Slot<P, S>>>);

impl<P: Protocol, S: Socket> Driver<P, S> {
    /// Drives a session, which `session` makes for its handle, on a socket. `early`: input that came before.
    pub fn new(socket: S, early: &mut [u8], session: impl FnOnce(Arc<Handle>) -> Session<P>) -> Self {
        let handle = Arc::new(Handle::new(Slot(Mutex::new(None))));
        let mut session = session(handle.clone());
        if !early.is_empty() && session.closing().is_none() {
            session.on_input(early, Instant::now());
        }
        let driver = Self(handle);
        driver.with(|slot| *slot = Some(Connection { socket, session, closing: None }));
        driver
    }

    fn with<R>(&self, work: impl FnOnce(&mut Option<Connection<P, S>>) -> R) -> R {
        work(&mut self.0.writer().0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<P: Protocol, S: Socket> std::fmt::Debug for Driver<P, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl<P: Protocol, S: Socket> Future for Driver<P, S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let done = ready!(self.with(|slot| match slot {
            Some(connection) => connection.poll_work(cx),
            None => Poll::Ready(Ok(())),
        }));
        if let Err(error) = done {
            tracing::trace!(%error, "connection ended");
        }
        Poll::Ready(())
    }
}

impl<P: Protocol, S: Socket> Drop for Driver<P, S> {
    fn drop(&mut self) {
        // The connection refers to its handle, and so to itself.
        let connection = self.with(Option::take);
        drop(connection);
    }
}
