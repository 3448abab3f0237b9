//! Memory that large answers occupy until clients take them, and the patience with clients meanwhile.
//!
//! An answer (or a frame of a body of unknown end) above [`LARGE_ANSWER`] counts whole, from when hyper has asked for it
//! until the last reference to it is dropped, by h2 as a rule. It counts for its own request, for its connection and for
//! the listener (`fanway_large_answer_bytes`). Smaller ones are not counted. Over HTTP/1.1 one counts until the socket has
//! taken it, if its length is known; event streams do not pass here.
//!
//! Patience is the longest time that a client may take nothing: of the answer on a stream, or of what the socket of its
//! connection has for it. It is `write_timeout`. For a request or connection that holds counted bytes, it shrinks in
//! proportion to the bytes that the listener holds, down to [`SHORTEST`] from [`HELD_BYTES`] on. So what clients that take
//! nothing hold is more than that for a second at most, and nobody else is cut early for it. A client that takes a little
//! keeps its answer: over HTTP/1.1 any byte, over HTTP/2 a frame of 16 KiB of each stream, within patience.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus::IntGauge;

/// Largest answer that is not counted.
const LARGE_ANSWER: usize = 16 * 1024;
/// Bytes of large answers of a listener from which on patience with those who hold them is shortest.
const HELD_BYTES: i64 = 16 * 1024 * 1024;
/// Shortest patience, and how often a deadline is compared with the patience of the moment.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);

/// Bytes of large answers of one connection, and of its listener.
#[derive(Debug)]
pub(super) struct ConnectionBytes {
    connection: AtomicUsize,
    listener: IntGauge,
}

impl ConnectionBytes {
    pub(super) fn new(listener: IntGauge) -> Arc<Self> {
        Arc::new(Self { connection: AtomicUsize::new(0), listener })
    }

    /// Time after which to look again at a socket that has taken nothing for `stalled`. `None` once patience is over.
    pub(super) fn look_again(&self, stalled: Duration, write_timeout: Duration) -> Option<Duration> {
        look_again(&self.connection, &self.listener, stalled, write_timeout)
    }
}

/// Bytes of large answers of one request.
#[derive(Debug)]
pub(super) struct RequestBytes {
    request: AtomicUsize,
    connection: Arc<ConnectionBytes>,
}

impl RequestBytes {
    pub(super) fn new(connection: Arc<ConnectionBytes>) -> Self {
        Self { request: AtomicUsize::new(0), connection }
    }

    /// Counts bytes of a large answer until the last reference to them is dropped.
    pub(super) fn count(self: &Arc<Self>, data: Bytes) -> Bytes {
        self.request.fetch_add(data.len(), Ordering::Relaxed);
        self.connection.connection.fetch_add(data.len(), Ordering::Relaxed);
        self.connection.listener.add(data.len() as i64);
        Bytes::from_owner(Counted { data, bytes: Arc::clone(self) })
    }

    /// Counts bytes no longer.
    fn release(&self, bytes: usize) {
        self.request.fetch_sub(bytes, Ordering::Relaxed);
        self.connection.connection.fetch_sub(bytes, Ordering::Relaxed);
        self.connection.listener.sub(bytes as i64);
    }

    /// Time after which to look again at a client that has taken nothing of the answer for `stalled`. `None` once patience
    /// is over.
    pub(super) fn look_again(&self, stalled: Duration, write_timeout: Duration) -> Option<Duration> {
        look_again(&self.request, &self.connection.listener, stalled, write_timeout)
    }
}

/// Whether an answer, or a frame of a body of unknown end, is counted.
pub(super) fn is_large(bytes: usize) -> bool {
    bytes > LARGE_ANSWER
}

/// A body over HTTP/1.1, which counts from when hyper asks for it if it is large and of a known length.
pub(super) fn count(body: AxumBody, connection: impl FnOnce() -> Arc<ConnectionBytes>) -> AxumBody {
    if body.size_hint().exact().is_none_or(|bytes| bytes <= LARGE_ANSWER as u64) {
        return body;
    }
    AxumBody::new(CountedBody { body, bytes: Arc::new(RequestBytes::new(connection())) })
}

/// Body over HTTP/1.1 whose frames count until they are dropped.
struct CountedBody {
    body: AxumBody,
    bytes: Arc<RequestBytes>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(|data| self.bytes.count(data)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that count until they are dropped.
struct Counted {
    data: Bytes,
    bytes: Arc<RequestBytes>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.bytes.release(self.data.len());
    }
}

fn look_again(held: &AtomicUsize, listener: &IntGauge, stalled: Duration, write_timeout: Duration) -> Option<Duration> {
    let holds = held.load(Ordering::Relaxed) > 0;
    let free = if holds { 1.0 - listener.get() as f64 / HELD_BYTES as f64 } else { 1.0 };
    let patience = write_timeout.mul_f64(free.clamp(0.0, 1.0)).max(SHORTEST.min(write_timeout));
    let left = patience.saturating_sub(stalled);
    (!left.is_zero()).then(|| left.min(SHORTEST))
}
