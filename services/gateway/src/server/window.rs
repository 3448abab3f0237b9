//! Answers over HTTP/2 whose client grants no window.
//!
//! hyper asks a body for a frame first, then waits until the client grants window for its first byte. While it waits, it
//! polls the body no more. So the task of each request is wrapped ([`RequestTask`]): if hyper still has the frame that
//! the body returned last ([`Progress`]), the client takes nothing. Such an answer has the deadline of a socket that is
//! full, or one of its own ([`WhenBlocked`]). After it the task is dropped: h2 discards what it has queued for the stream
//! and sends RST_STREAM with CANCEL. The connection and its other streams go on.
//!
//! Bodies are handed over in small frames ([`PacedBody`]), because h2 takes a whole frame as soon as there is window for
//! one byte, and a task ends when h2 has the last one.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use prometheus::IntGauge;
use tokio::time::{Instant, Sleep};

use super::connection::Shared;

/// Largest frame: the largest that every client takes as one (RFC 9113, section 4.2).
const FRAME_BYTES: usize = 16 * 1024;
/// Largest answer that h2 is handed in one frame. The last frame of a larger one is a single byte: when h2 takes that,
/// the client has granted window for everything before it.
const SMALL_ANSWER: usize = 1024;
/// Bytes of large answers that a listener holds for its clients as long as `write_timeout` allows. The more of this is
/// taken, the sooner an answer is reset whose client takes nothing.
const HELD_BYTES: i64 = 16 * 1024 * 1024;
/// Time that every client has to take a part of its answer, and how often the deadline is looked at.
const SHORTEST: Duration = Duration::from_secs(1);

/// Put into the extensions of a response, it takes the place of `write_timeout` over HTTP/2.
///
/// It is polled by the request's task, in place of the body, whenever the client grants no window for what the body
/// returned last. Once it is ready, the stream is reset.
#[derive(Clone)]
pub struct WhenBlocked(Arc<PollBlocked>);

type PollBlocked = dyn Fn(&mut Context<'_>) -> Poll<()> + Send + Sync;

impl WhenBlocked {
    /// A deadline that `poll` keeps.
    pub fn new(poll: impl Fn(&mut Context<'_>) -> Poll<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(poll))
    }
}

impl fmt::Debug for WhenBlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WhenBlocked")
    }
}

/// Progress of an answer over HTTP/2: shared by its body, which hyper owns, and the request's task.
#[derive(Debug)]
pub(super) struct Progress {
    /// hyper has a frame, and has not handed it to h2.
    pending: AtomicBool,
    /// Frames that hyper was given.
    frames: AtomicU32,
    when_blocked: OnceLock<WhenBlocked>,
    /// Bytes of large answers of this listener.
    held: IntGauge,
}

impl Progress {
    pub(super) fn new(held: IntGauge) -> Self {
        Self { pending: AtomicBool::new(false), frames: AtomicU32::new(0), when_blocked: OnceLock::new(), held }
    }

    /// Sets the deadline that the response came with.
    pub(super) fn when_blocked(&self, deadline: WhenBlocked) {
        let _ = self.when_blocked.set(deadline);
    }

    /// A body with this progress.
    pub(super) fn pace(self: &Arc<Self>, body: AxumBody) -> AxumBody {
        if body.is_end_stream() {
            return body;
        }
        AxumBody::new(PacedBody { body, rest: Bytes::new(), progress: Arc::clone(self) })
    }

    /// Holds a large answer until its last byte is with the socket.
    fn hold(&self, bytes: Bytes) -> Bytes {
        if bytes.len() <= FRAME_BYTES {
            return bytes;
        }
        self.held.add(bytes.len() as i64);
        Bytes::from_owner(Held { bytes, held: self.held.clone() })
    }
}

/// Longest time that a client may take nothing, while the listener holds so many bytes of large answers.
pub(super) fn patience(held: &IntGauge, write_timeout: Duration) -> Duration {
    let free = 1.0 - held.get() as f64 / HELD_BYTES as f64;
    write_timeout.mul_f64(free.clamp(0.0, 1.0)).max(SHORTEST.min(write_timeout))
}

/// Bytes of a large answer, which count as held until h2 lets go of the last of them.
struct Held {
    bytes: Bytes,
    held: IntGauge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.sub(self.bytes.len() as i64);
    }
}

/// A body in small frames, the last of which tells that the client has granted window for all before.
#[derive(Debug)]
struct PacedBody {
    body: AxumBody,
    /// Of the frame that the body returned last.
    rest: Bytes,
    progress: Arc<Progress>,
}

impl PacedBody {
    /// The next frame of what is left.
    fn split(&mut self) -> Bytes {
        let length = self.rest.len();
        if length > FRAME_BYTES {
            // What is left is more than a small answer, so that it ends in a single byte too.
            self.rest.split_to(FRAME_BYTES.min(length - SMALL_ANSWER - 1))
        } else if length > SMALL_ANSWER && self.body.is_end_stream() {
            self.rest.split_to(length - 1)
        } else {
            std::mem::take(&mut self.rest)
        }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.progress.pending.store(false, Ordering::Relaxed);
        if this.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => this.rest = this.progress.hold(data),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let frame = this.split();
        // hyper hands an empty frame over at once.
        this.progress.pending.store(!frame.is_empty(), Ordering::Relaxed);
        this.progress.frames.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Time since a client has taken nothing of its answer.
struct Blocked {
    /// The frame that hyper has not handed over.
    frame: u32,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

pin_project! {
    /// Task of one request over HTTP/2: hyper's, and the deadline of its answer.
    pub(super) struct RequestTask<F> {
        #[pin]
        request: F,
        progress: Arc<Progress>,
        shared: Arc<Shared>,
        blocked: Option<Box<Blocked>>,
    }
}

impl<F> RequestTask<F> {
    pub(super) fn new(request: F, progress: Arc<Progress>, shared: Arc<Shared>) -> Self {
        Self { request, progress, shared, blocked: None }
    }
}

impl<F: Future> Future for RequestTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.request.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !this.progress.pending.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        if let Some(WhenBlocked(poll)) = this.progress.when_blocked.get() {
            return poll(cx);
        }
        let (write_timeout, now) = (this.shared.settings.write_timeout, Instant::now());
        let frame = this.progress.frames.load(Ordering::Relaxed);
        let blocked = this.blocked.get_or_insert_with(|| {
            let timer = Box::pin(tokio::time::sleep(SHORTEST.min(write_timeout)));
            Box::new(Blocked { frame, since: now, timer })
        });
        if blocked.frame != frame {
            (blocked.frame, blocked.since) = (frame, now);
        }
        loop {
            ready!(blocked.timer.as_mut().poll(cx));
            let (now, patience) = (Instant::now(), patience(&this.progress.held, write_timeout));
            let left = patience.saturating_sub(now.saturating_duration_since(blocked.since));
            if left.is_zero() {
                this.shared.rejected("write_timeout");
                return Poll::Ready(());
            }
            blocked.timer.as_mut().reset(now + left.min(SHORTEST));
        }
    }
}
