//! Session whose transport does the writing itself and asks for more output (a response body over HTTP/2).

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::time::Sleep;

use crate::session::{Protocol, Session};
use crate::turn::with_turn;

/// Bytes that one batch gathers, give or take an entry. The transport may hold two batches of a client that takes nothing.
const BATCH_BYTES: usize = 8 * 1024;
/// Bytes that are handed over at once, where an entry is large.
const MOST_BYTES: usize = 16 * 1024;

/// Session whose transport pulls output, and its deadlines.
///
/// The transport calls [`Pulled::poll_bytes`] when it has passed on everything that it was given, and
/// [`Pulled::poll_blocked`] while the client takes nothing of it. The session is blocked meanwhile, as on a full socket:
/// its pages are dropped, and it ends at a stall, at the expiry of its credential, at the age of a connection, in a drain.
pub struct Pulled<P: Protocol>(Mutex<Inner<P>>);

struct Inner<P> {
    session: Session<P>,
    /// End of the time that the client has for the last bytes.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<P: Protocol> std::fmt::Debug for Pulled<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulled").finish_non_exhaustive()
    }
}

impl<P: Protocol> Pulled<P> {
    /// Output of a session.
    pub fn new(session: Session<P>) -> Self {
        Self(Mutex::new(Inner { session, deadline: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next bytes, or `None` after the last. The transport has passed on all that it was given before.
    pub fn poll_bytes(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let (session, now) = (&mut self.lock().session, Instant::now());
        session.stuck(false, true, now);
        session.poll(cx, now);
        while session.has_output() {
            let bytes = take_bytes(session);
            if !bytes.is_empty() {
                return Poll::Ready(Some(bytes));
            }
            // Gathering may have found that the session must end: its last bytes are output too.
            session.end();
        }
        if session.ended() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Runs the session while its client takes nothing of what the transport has. `Ready` when that has lasted too long,
    /// or the session has ended: the transport must drop what it has.
    pub fn poll_blocked(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (mut inner, now) = (self.lock(), Instant::now());
        let Inner { session, deadline } = &mut *inner;
        session.stuck(true, false, now);
        session.poll(cx, now);
        if !session.ended() {
            return Poll::Pending;
        }
        deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(P::CLOSE_TIMEOUT))).as_mut().poll(cx)
    }
}

/// Gathers a batch, and commits what of it is handed over at once.
fn take_bytes<P: Protocol>(session: &mut Session<P>) -> Bytes {
    with_turn(|turn| {
        turn.limited(BATCH_BYTES, |turn| session.gather(turn));
        let length = turn.bytes().len().min(MOST_BYTES);
        let taken = Bytes::copy_from_slice(&turn.bytes()[..length]);
        session.wrote(turn, length, Instant::now());
        taken
    })
}
