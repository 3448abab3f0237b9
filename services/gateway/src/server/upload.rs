//! A request's body with a deadline, and what became of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const UNREAD: u8 = 0;
const READ: u8 = 1;
const LATE: u8 = 2;

/// What became of a body, for those who do not hold it; `None` if there was none.
#[derive(Clone, Debug)]
pub(super) struct Fate(Option<Arc<AtomicU8>>);

impl Fate {
    /// Somebody read it to its end, or there was none.
    pub(super) fn is_read(&self) -> bool {
        self.0.as_ref().is_none_or(|fate| fate.load(Ordering::Relaxed) == READ)
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
    deadline: Instant,
    /// There once the reader had to wait.
    timer: Option<Pin<Box<Sleep>>>,
    fate: Arc<AtomicU8>,
}

/// Gives a body a deadline. Most requests have no body, and nothing to watch.
pub(super) fn watch(body: Incoming, limit: Duration) -> (AxumBody, Fate) {
    if body.is_end_stream() {
        return (AxumBody::empty(), Fate(None));
    }
    let fate = Arc::new(AtomicU8::new(UNREAD));
    let upload = Upload { body, deadline: Instant::now() + limit, timer: None, fate: fate.clone() };
    (AxumBody::new(upload), Fate(Some(fate)))
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if frame.is_none() || this.body.is_end_stream() {
                this.fate.store(READ, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(this.deadline)));
        std::task::ready!(timer.as_mut().poll(cx));
        this.fate.store(LATE, Ordering::Relaxed);
        Poll::Ready(Some(Err("the request body did not arrive in time".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
