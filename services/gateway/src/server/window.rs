//! Deadlines of answers over HTTP/2 that clients do not take.
//!
//! The frames of a body go from the handler to hyper, which has at most one, then to h2, then to the socket. hyper asks the
//! body for a frame, and hands it over once h2 has room for a byte beyond what it has of the stream already: the client
//! has granted window for that, of the stream and of the connection, and no more than `http2.send_buffer` waits for the
//! socket. Until then hyper does not poll the body. h2 takes a frame whole for that one byte. So:
//! * A request is *blocked* while hyper has a frame ([`Progress::pending`]). The client takes nothing then, or not enough
//!   for what h2 has.
//! * Each frame of the handler's above [`SMALL_ANSWER`] ends in one of a single byte ([`PacedBody`]). Once h2 has that, the
//!   client has granted window for the whole. A request that is not blocked, or has ended, leaves no more than a small
//!   frame behind a closed window, and a request that is blocked one of [`FRAME_BYTES`].
//!
//! hyper's task of each request is wrapped ([`RequestTask`]), and sees after each poll whether the request is blocked. A
//! blocked request ends with its connection, or sooner:
//! * When the client has taken nothing for as long as patience lasts ([`super::held`]): `write_timeout`, less if the
//!   request holds a large answer. The time begins anew with each frame that hyper hands over.
//! * If the response came with a [`WhenBlocked`]: when that is ready, and not by patience. Event streams bring one, and end
//!   at a stall, at the expiry of a token, at the age of a connection, in a drain.
//!
//! The end of the task is that of the stream: h2 sends RST_STREAM with CANCEL and discards what it has. The connection and
//! its other streams go on. If its socket is full, h2 does so only once the socket takes something. So a connection whose
//! socket takes nothing ends by patience too (`connection::drive`), less if it holds a large answer.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::connection::Shared;
use super::held::{ConnectionBytes, LARGE_ANSWER, RequestBytes, SHORTEST};

/// Largest frame: the largest that every client takes as one (RFC 9113, section 4.2).
const FRAME_BYTES: usize = 16 * 1024;
/// Largest answer, or batch of a body of unknown end, that is handed over in one frame. The last frame of a larger one is
/// a single byte: when h2 takes that, the client has granted window for everything before it.
const SMALL_ANSWER: usize = 1024;

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
    held: RequestBytes,
}

impl Progress {
    pub(super) fn new(connection: Arc<ConnectionBytes>) -> Self {
        Self {
            pending: AtomicBool::new(false),
            frames: AtomicU32::new(0),
            when_blocked: OnceLock::new(),
            held: RequestBytes::new(connection),
        }
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

    /// Counts a large answer until it is dropped.
    fn hold(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        if bytes.len() <= LARGE_ANSWER {
            return bytes;
        }
        self.held.hold(bytes.len());
        Bytes::from_owner(Held { bytes, progress: Arc::clone(self) })
    }
}

/// A large answer, which counts as held until the last reference to it is dropped.
struct Held {
    bytes: Bytes,
    progress: Arc<Progress>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.progress.held.release(self.bytes.len());
    }
}

/// A body in small frames. Each frame of the body above [`SMALL_ANSWER`] ends in one of a single byte.
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
        } else if length > SMALL_ANSWER {
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
            let stalled = blocked.since.elapsed();
            let Some(wait) = this.progress.held.look_again(stalled, write_timeout) else {
                this.shared.rejected("write_timeout");
                return Poll::Ready(());
            };
            blocked.timer.as_mut().reset(Instant::now() + wait);
        }
    }
}
