//! A request's body with a deadline, and what became of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Sleep;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of at most so many bytes is asked for early. It is in the buffer already when the head is.
const SMALL: u64 = 4096;

const UNREAD: u8 = 0;
const READ: u8 = 1;
const LATE: u8 = 2;
const BROKEN: u8 = 3;

/// What became of a body, for those who do not hold it; `None` if there was none.
#[derive(Clone, Debug)]
pub(super) struct Fate(Option<Arc<AtomicU8>>);

impl Fate {
    /// Somebody read it to its end, or there was none.
    pub(super) fn is_read(&self) -> bool {
        self.0.as_ref().is_none_or(|fate| fate.load(Ordering::Relaxed) == READ)
    }

    /// It failed while somebody was reading it: an HTTP/1.1 connection cannot go on after it.
    pub(super) fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|fate| fate.load(Ordering::Relaxed) == BROKEN)
    }

    /// It did not arrive in time while somebody was reading it.
    pub(super) fn is_late(&self) -> bool {
        self.0.as_ref().is_some_and(|fate| fate.load(Ordering::Relaxed) == LATE)
    }
}

/// A request's body that fails when it has not arrived in time.
#[derive(Debug)]
struct Upload {
    body: Incoming,
    early: Early,
    /// How long the reader may have to wait.
    limit: Duration,
    /// There once the reader had to wait.
    timer: Option<Pin<Box<Sleep>>>,
    fate: Arc<AtomicU8>,
}

/// What was given of a body when it was asked for early: nothing.
///
/// Boxed, because it is nothing; and kept, because nobody promises it.
#[derive(Debug, Default)]
pub(super) struct Early(Option<Box<Result<Frame<Bytes>, hyper::Error>>>);

/// Tells hyper on HTTP/1.1 that a small body will be read, before anybody reads it. hyper then has it ready when the
/// handler asks, instead of being told so by the handler, and polled once more for it.
pub(super) fn ask_early(request: &mut Request<Incoming>) -> Early {
    let small = request.body().size_hint().exact().is_some_and(|length| (1..=SMALL).contains(&length));
    // A client that waits to be asked is asked by whoever wants the body.
    if !small || request.headers().contains_key(header::EXPECT) {
        return Early::default();
    }
    // Nobody needs to be woken: the request is about to be worked on.
    let mut nobody = Context::from_waker(Waker::noop());
    match Pin::new(request.body_mut()).poll_frame(&mut nobody) {
        Poll::Ready(Some(frame)) => Early(Some(Box::new(frame))),
        Poll::Ready(None) | Poll::Pending => Early::default(),
    }
}

/// As [`watch`], for a request that should have no body: waits for its first bytes, so that a chunked body without any
/// is seen to be none.
pub(super) async fn watch_first(mut body: Incoming, early: Early, limit: Duration) -> (AxumBody, Fate) {
    if early.0.is_some() {
        return watch(body, early, limit);
    }
    let first = async {
        loop {
            match body.frame().await {
                // Trailers, or a frame of HTTP/2 without bytes.
                Some(Ok(frame)) if frame.data_ref().is_none_or(Bytes::is_empty) => (),
                frame => return frame,
            }
        }
    };
    match tokio::time::timeout(limit, first).await {
        Ok(Some(frame)) => watch(body, Early(Some(Box::new(frame))), limit),
        Ok(None) => (AxumBody::empty(), Fate(None)),
        Err(_late) => (AxumBody::empty(), Fate(Some(Arc::new(AtomicU8::new(LATE))))),
    }
}

/// Gives a body a deadline. Most requests have no body, and nothing to watch.
pub(super) fn watch(body: Incoming, early: Early, limit: Duration) -> (AxumBody, Fate) {
    if early.0.is_none() && body.is_end_stream() {
        return (AxumBody::empty(), Fate(None));
    }
    let fate = Arc::new(AtomicU8::new(UNREAD));
    let upload = Upload { body, early, limit, timer: None, fate: fate.clone() };
    (AxumBody::new(upload), Fate(Some(fate)))
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match this.early.0.take() {
            Some(frame) => Poll::Ready(Some(*frame)),
            None => Pin::new(&mut this.body).poll_frame(cx),
        };
        if let Poll::Ready(frame) = frame {
            if matches!(frame, Some(Err(_))) {
                this.fate.store(BROKEN, Ordering::Relaxed);
            } else if frame.is_none() || this.body.is_end_stream() {
                this.fate.store(READ, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.limit)));
        std::task::ready!(timer.as_mut().poll(cx));
        this.fate.store(LATE, Ordering::Relaxed);
        Poll::Ready(Some(Err("the request body did not arrive in time".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.early.0.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
