//! Bodies of answers over HTTP/2, in frames that show what clients take (see [`super::window`]), and their progress.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};

use super::held::{self, ConnectionBytes, RequestBytes};
use super::window::WhenBlocked;

/// Largest frame: the largest that every client takes as one (RFC 9113, section 4.2).
const FRAME_BYTES: usize = 16 * 1024;
/// Largest frame that may be with h2 unobserved. A larger answer ends in a frame of a single byte: when h2 takes that, the
/// client has granted window for everything before it.
const SMALL_ANSWER: usize = 1024;

/// Progress of an answer over HTTP/2: shared by its body, which hyper owns, and the request's task.
#[derive(Debug)]
pub(super) struct Progress {
    /// hyper has a frame, and has not handed it to h2; or the body waits for h2.
    pending: AtomicBool,
    /// Frames that hyper was given, and frames that h2 was seen to let go of.
    steps: AtomicU32,
    /// Observed frames that h2 has, and hyper.
    queued: AtomicU32,
    /// h2 has let go of none of them for a while: the body waits.
    lags: AtomicBool,
    when_blocked: OnceLock<WhenBlocked>,
    held: Arc<RequestBytes>,
    /// The task, if it waits until h2 lets go of a frame.
    waits: AtomicWaker,
}

impl Progress {
    pub(super) fn new(connection: Arc<ConnectionBytes>) -> Self {
        Self {
            pending: AtomicBool::new(false),
            steps: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            lags: AtomicBool::new(false),
            when_blocked: OnceLock::new(),
            held: Arc::new(RequestBytes::new(connection)),
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

    /// Whether the body is not asked for more, because h2 has enough of the answer.
    pub(super) fn is_blocked(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Whether h2 has observed frames.
    pub(super) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > 0
    }

    /// Blocks a body of which h2 has had observed frames for a while, since so many steps, until it lets go of one. Whether
    /// it has not done so meanwhile.
    pub(super) fn block(&self, steps: u32, cx: &Context<'_>) -> bool {
        self.lags.store(true, Ordering::Relaxed);
        self.waits.register(cx.waker());
        let lags = self.is_queued() && self.steps() == steps;
        if lags {
            self.pending.store(true, Ordering::Relaxed);
        } else {
            self.lags.store(false, Ordering::Relaxed);
        }
        lags
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
        let progress = Arc::clone(self);
        AxumBody::new(PacedBody { body, rest: Bytes::new(), large: false, ended: false, waits: false, progress })
    }

    /// A frame that is seen to be let go of.
    fn observe(self: &Arc<Self>, frame: Bytes) -> Bytes {
        self.queued.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Observed { frame, progress: Arc::clone(self) })
    }

    /// Whether h2 has observed frames. If so, the task is woken when it lets go of one.
    fn wait(&self, cx: &Context<'_>) -> bool {
        self.is_queued() && {
            self.waits.register(cx.waker());
            self.is_queued()
        }
    }
}

/// A frame whose drop is progress.
struct Observed {
    frame: Bytes,
    progress: Arc<Progress>,
}

impl AsRef<[u8]> for Observed {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.progress.queued.fetch_sub(1, Ordering::Relaxed);
        self.progress.steps.fetch_add(1, Ordering::Relaxed);
        self.progress.lags.store(false, Ordering::Relaxed);
        self.progress.waits.wake();
    }
}

/// A body in small frames, of which h2 has none without a deadline.
#[derive(Debug)]
struct PacedBody {
    body: AxumBody,
    /// Of the frame that the body returned last.
    rest: Bytes,
    /// That frame is a large answer.
    large: bool,
    /// The body has ended.
    ended: bool,
    /// The end waits until h2 has let go of everything before it.
    waits: bool,
    progress: Arc<Progress>,
}

impl PacedBody {
    /// The next frame of what is left.
    fn split(&mut self) -> Bytes {
        let (length, last) = (self.rest.len(), self.body.is_end_stream());
        let first = if length > FRAME_BYTES {
            // What is left is more than a small answer, so that it ends in a single byte too.
            FRAME_BYTES.min(length - SMALL_ANSWER - 1)
        } else if length > SMALL_ANSWER && last {
            length - 1
        } else {
            length
        };
        let frame = self.rest.split_to(first);
        if self.large && self.rest.len() == 1 {
            // The last byte does not keep the others in memory.
            self.rest = Bytes::copy_from_slice(&self.rest);
        }
        // Every frame of a large answer but the last byte keeps the whole in memory. What follows the end of an answer is not
        // asked for: an observed one costs a poll more.
        let observed = (self.large && !self.rest.is_empty()) || (frame.len() > SMALL_ANSWER && !last);
        if observed { self.progress.observe(frame) } else { frame }
    }

    /// Whether the end must wait for h2, or the next frame because h2 lags.
    fn must_wait(&mut self, cx: &Context<'_>) -> bool {
        let end = self.ended || (self.large && self.rest.len() == 1 && self.body.is_end_stream());
        if !(end || self.progress.lags.load(Ordering::Relaxed)) || !self.progress.wait(cx) {
            return false;
        }
        if end && !std::mem::replace(&mut self.waits, true) {
            // hyper has handed over the frame before.
            self.progress.steps.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.must_wait(cx) {
            this.progress.pending.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        this.progress.pending.store(false, Ordering::Relaxed);
        if this.ended {
            return Poll::Ready(None);
        }
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.large = held::is_large(data.len());
                        this.rest = if this.large { this.progress.held.count(data) } else { data };
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.ended = true;
                    return self.poll_frame(cx);
                }
            }
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn data(frame: Poll<Option<Result<Frame<Bytes>, axum::Error>>>) -> Option<Bytes> {
        match frame {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    /// A frame that h2 keeps has the whole answer in memory: the end waits for it, however small it is.
    #[test]
    fn the_end_of_a_large_answer_waits_for_every_frame() {
        let mut cx = Context::from_waker(Waker::noop());
        for size in [16_385, 16_386, 17_408, 17_409, 32_769, 65_536, 65_536 + 1_000] {
            let gauge = prometheus::IntGauge::new("held", "held").expect("a gauge");
            let progress = Arc::new(Progress::new(ConnectionBytes::new(gauge.clone())));
            let mut body = progress.pace(AxumBody::from(vec![b'x'; size]));
            let (mut taken, mut kept) = (0, Bytes::new());
            while taken < size - 1 {
                // h2 lets go of each frame once it has the next.
                kept = data(Pin::new(&mut body).poll_frame(&mut cx)).expect("a frame");
                taken += kept.len();
            }
            assert_eq!(taken, size - 1, "it ends in a single byte");
            assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending(), "{size}: of {} bytes", kept.len());
            assert_eq!(gauge.get(), size as i64);
            drop(kept);
            let last = data(Pin::new(&mut body).poll_frame(&mut cx)).expect("the last frame");
            assert_eq!((last.len(), gauge.get()), (1, 0), "{size}: the last byte keeps nothing");
        }
    }
}
