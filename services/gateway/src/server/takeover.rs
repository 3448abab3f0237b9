//! Handing a socket over to a transport.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use super::{ConnectionGuard, Io};

/// What is done with the socket, once.
trait Start: Send + Sync {
    fn start(&self, taken: Taken, tracker: &TaskTracker);
}

impl<F: FnOnce(Taken, &TaskTracker) + Send> Start for Mutex<Option<F>> {
    fn start(&self, taken: Taken, tracker: &TaskTracker) {
        let start = self.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(start) = start {
            start(taken, tracker);
        }
    }
}

/// Put into the extensions of a response to an HTTP/1.1 request, it asks for the bare socket behind the response.
///
/// The server encodes status line and headers (adding `date`, and `connection: close` unless there is a `connection`
/// header; removing `content-length`), ignores the body, drops everything of HTTP, and calls `start`, which writes them
/// together with what it has to say at once. It must not block: it spawns its own, small task on the tracker.
///
/// It is not called when the client is gone before. On HTTP/2 there is no socket to take: there a takeover is answered
/// with 500, and transports answer with a body instead. The same holds for a request whose body was not read to its
/// end. A `HEAD` request is answered with the head alone, and with 204 in place of 101.
#[derive(Clone)]
pub struct Takeover(Arc<dyn Start>);

/// A socket that was taken over, to which the response's head is still to be written.
#[derive(Debug)]
pub struct Taken {
    /// The socket.
    pub io: Io,
    /// The response's head: must be written before anything else.
    pub head: Vec<u8>,
    /// What the client sent after its request and was read already: comes before anything that `io` has to read.
    pub early: Bytes,
    /// To be kept as long as the socket.
    pub guard: ConnectionGuard,
}

impl Takeover {
    /// A takeover by `start`.
    pub fn new(start: impl FnOnce(Taken, &TaskTracker) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(start))))
    }

    /// Does it, the first time.
    pub(super) fn start(&self, taken: Taken, tracker: &TaskTracker) {
        self.0.start(taken, tracker);
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Takeover")
    }
}

/// How the service tells hyper to stop: the socket gets another owner.
#[derive(Debug, thiserror::Error)]
#[error("the socket is taken over")]
pub(super) struct TakenOver;
