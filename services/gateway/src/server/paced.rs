//! Bodies of answers over HTTP/2, in frames that show what clients take (see [`super::window`]), and their progress.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};

use super::held::{ConnectionBytes, LARGE_ANSWER, RequestBytes};
use super::window::WhenBlocked;

/// Largest frame: the largest that every client takes as one (RFC 9113, section 4.2).
const FRAME_BYTES: usize = 16 * 1024;
/// Largest answer, or batch of a body of unknown end, that is handed over in one frame. The last frame of a larger one is
/// a single byte: when h2 takes that, the client has granted window for everything before it.
const SMALL_ANSWER: usize = 1024;

/// Progress of an answer over HTTP/2: shared by its body, which hyper owns, and the request's task.
#[derive(Debug)]
pub(super) struct Progress {
    /// hyper has a frame, and has not handed it to h2; or the body waits for h2.
    pending: AtomicBool,
    /// Frames that hyper was given, and frames of large answers that h2 has let go of.
    steps: AtomicU32,
    when_blocked: OnceLock<WhenBlocked>,
    held: RequestBytes,
    /// The body, if it waits until nothing is held.
    waits: AtomicWaker,
}

impl Progress {
    pub(super) fn new(connection: Arc<ConnectionBytes>) -> Self {
        Self {
            pending: AtomicBool::new(false),
            steps: AtomicU32::new(0),
            when_blocked: OnceLock::new(),
            held: RequestBytes::new(connection),
            waits: AtomicWaker::new(),
        }
    }

    /// Sets the deadline that the response came with.
    pub(super) fn when_blocked(&self, deadline: WhenBlocked) {
        let _ = self.when_blocked.set(deadline);
    }

    pub(super) fn deadline(&self) -> Option<&WhenBlocked> {
        self.when_blocked.get()
    }

    /// Whether h2 takes no more of the answer at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Number that grows whenever the client, or h2 for it, takes something.
    pub(super) fn steps(&self) -> u32 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn held(&self) -> &RequestBytes {
        &self.held
    }

    /// A body with this progress.
    pub(super) fn pace(self: &Arc<Self>, body: AxumBody) -> AxumBody {
        if body.is_end_stream() {
            return body;
        }
        AxumBody::new(PacedBody { body, rest: Bytes::new(), large: false, waits: false, progress: Arc::clone(self) })
    }

    /// Counts a large answer until it is dropped.
    fn hold(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        if bytes.len() <= LARGE_ANSWER {
            return bytes;
        }
        self.held.hold(bytes.len());
        Bytes::from_owner(Held { bytes, progress: Arc::clone(self) })
    }

    /// Whether bytes of a large answer are held. If so, the task is woken when they are not.
    fn holds(&self, cx: &Context<'_>) -> bool {
        self.held.any() && {
            self.waits.register(cx.waker());
            self.held.any()
        }
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
        self.progress.waits.wake();
    }
}

/// A frame of a large answer, whose drop is progress.
struct HeldFrame {
    frame: Bytes,
    progress: Arc<Progress>,
}

impl AsRef<[u8]> for HeldFrame {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for HeldFrame {
    fn drop(&mut self) {
        self.progress.steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// A body in small frames. Each frame of the body above [`SMALL_ANSWER`] ends in one of a single byte.
#[derive(Debug)]
struct PacedBody {
    body: AxumBody,
    /// Of the frame that the body returned last.
    rest: Bytes,
    /// That frame is a large answer.
    large: bool,
    /// The last byte waits until h2 has let go of the others.
    waits: bool,
    progress: Arc<Progress>,
}

impl PacedBody {
    /// The next frame of what is left.
    fn split(&mut self) -> Bytes {
        let length = self.rest.len();
        let first = if length > FRAME_BYTES {
            // What is left is more than a small answer, so that it ends in a single byte too.
            FRAME_BYTES.min(length - SMALL_ANSWER - 1)
        } else if length > SMALL_ANSWER {
            length - 1
        } else {
            return std::mem::take(&mut self.rest);
        };
        let frame = self.rest.split_to(first);
        if !self.large {
            return frame;
        }
        if self.rest.len() == 1 {
            // The last byte does not keep the others in memory.
            self.rest = Bytes::copy_from_slice(&self.rest);
        }
        Bytes::from_owner(HeldFrame { frame, progress: Arc::clone(&self.progress) })
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
                Ok(data) => {
                    this.large = data.len() > LARGE_ANSWER;
                    this.rest = this.progress.hold(data);
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        if this.large && this.rest.len() == 1 && this.body.is_end_stream() && this.progress.holds(cx) {
            this.progress.pending.store(true, Ordering::Relaxed);
            if !std::mem::replace(&mut this.waits, true) {
                // hyper has handed over the frame before.
                this.progress.steps.fetch_add(1, Ordering::Relaxed);
            }
            return Poll::Pending;
        }
        let frame = this.split();
        // hyper hands an empty frame over at once.
        this.progress.pending.store(!frame.is_empty(), Ordering::Relaxed);
        this.progress.steps.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
