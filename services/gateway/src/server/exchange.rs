//! What one HTTP connection is doing, as its parts see it: the socket below hyper and the service above it.
//!
//! From this the driver tells which deadline holds, and the service tells whether a takeover may happen. hyper itself
//! says neither. Short locks, never held across an await; on HTTP/1.1 only the connection's own task takes them, save
//! for bodies that a handler moved elsewhere.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus::IntGauge;

use super::answer::Refusal;
use super::boundaries::Seen;
use super::head::Announced;
use super::held::{self, ConnectionBytes};
use super::paced::Progress;
use super::visitor::StreamShare;

/// Shared by the parts of one connection.
#[derive(Debug)]
pub(super) struct Exchange {
    http2: bool,
    /// Bytes of the listener's large answers.
    answers: IntGauge,
    /// Those of this connection. Over HTTP/1.1 from its first large answer on.
    held: OnceLock<Arc<ConnectionBytes>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests begun so far.
    requests: u64,
    /// Requests whose answer's body has not ended.
    open: u32,
    /// Answers given to hyper whose body has not ended.
    answering: u32,
    /// Bytes of a next request were read.
    begun: bool,
    /// hyper may hold bytes of answers that the socket did not take.
    unsent: bool,
    /// A takeover waits for `unsent` to end.
    takeover_waits: bool,
    /// The socket takes no more at the moment.
    blocked: bool,
    /// Writes that the socket took.
    writes: u64,
    /// The head that hyper is to call the service with.
    seen: Option<Seen>,
    /// Bodies that the pipelined requests after it announce, in order.
    pipelined: VecDeque<Announced>,
    /// A block that hyper called the service with: it was a head, and announces this body.
    was_head: Option<Announced>,
    /// Waits for the end of the open request, or for its answer to be sent.
    reader: Option<Waker>,
    /// Of the request that hyper has called the service with, for the task that it spawns next.
    progress: Option<Arc<Progress>>,
}

/// What the connection is doing, and when it began to: equal as long as it does the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pulse {
    pub(super) phase: Phase,
    /// Differs between two times of the same phase.
    round: u64,
}

/// Which deadline holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A head is expected (the first on HTTP/2) or has begun.
    Head,
    /// A request is worked on.
    Busy,
    /// The client does not read.
    Stalled,
    /// No request.
    Idle,
}

impl Exchange {
    /// `answers` counts the bytes of the listener's large answers.
    pub(super) fn http1(answers: IntGauge) -> Arc<Self> {
        Arc::new(Self { http2: false, answers, held: OnceLock::new(), state: Mutex::default() })
    }

    /// The same.
    pub(super) fn http2(answers: IntGauge) -> Arc<Self> {
        Arc::new(Self { http2: true, answers, held: OnceLock::new(), state: Mutex::default() })
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    fn held(&self) -> &Arc<ConnectionBytes> {
        self.held.get_or_init(|| ConnectionBytes::new(self.answers.clone()))
    }

    /// Time after which to look again at a socket that has taken nothing for `stalled`. `None` once patience is over.
    pub(super) fn look_again(&self, stalled: Duration, write_timeout: Duration) -> Option<Duration> {
        match self.held.get() {
            Some(held) => held.look_again(stalled, write_timeout),
            None => write_timeout.checked_sub(stalled).filter(|left| !left.is_zero()),
        }
    }

    /// Progress of the answer to the request that began last, once.
    pub(super) fn take_progress(&self) -> Option<Arc<Progress>> {
        self.state().progress.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pulse(&self) -> Pulse {
        let state = self.state();
        if state.blocked {
            Pulse { phase: Phase::Stalled, round: state.writes }
        } else if state.open > 0 {
            Pulse { phase: Phase::Busy, round: state.requests }
        } else if state.begun || state.requests == 0 {
            Pulse { phase: Phase::Head, round: state.requests }
        } else {
            Pulse { phase: Phase::Idle, round: state.requests }
        }
    }

    /// Begins a request; it ends with the drop of what this returns. `length` is that of its body as hyper understands
    /// the head. Refused if the head did not pass the rules, or if they understood it differently.
    pub(super) fn begin(self: &Arc<Self>, head_only: bool, length: Option<u64>) -> (OpenRequest, Result<(), Refusal>) {
        let mut state = self.state();
        state.requests += 1;
        state.open += 1;
        state.begun = false;
        let progress = self.http2.then(|| Arc::new(Progress::new(Arc::clone(self.held()))));
        let agreed = if self.is_http2() { Ok(()) } else { state.agree(length) };
        state.progress.clone_from(&progress);
        (OpenRequest { exchange: Arc::clone(self), answering: false, head_only, progress, share: None }, agreed)
    }

    /// A head that hyper is about to be handed, or a block that may be one.
    pub(super) fn saw(&self, seen: Seen) {
        let mut state = self.state();
        match (&state.seen, seen) {
            (Some(Seen::Head(_)), Seen::Head(body)) => state.pipelined.push_back(body),
            (_, seen) => state.seen = Some(seen),
        }
    }

    /// The body that the last block announces, if hyper took it for a head.
    pub(super) fn take_was_head(&self) -> Option<Announced> {
        self.state().was_head.take()
    }

    /// Whether a request is under way.
    pub(super) fn is_open(&self) -> bool {
        self.state().open > 0
    }

    /// Wakes this task when no request is under way any more. Whether one still is.
    pub(super) fn wake_when_over(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        if state.open > 0 {
            state.reader = Some(cx.waker().clone());
        }
        state.open > 0
    }

    /// Wakes this task when everything that was answered is with the socket. Whether something is not yet.
    pub(super) fn wake_when_sent(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        let waits = state.open > 0 || state.unsent;
        if waits {
            state.reader = Some(cx.waker().clone());
        }
        waits
    }

    /// True while what hyper writes is an answer of its own, to a head that it cannot read.
    pub(super) fn is_unasked(&self) -> bool {
        let state = self.state();
        state.open == 0 && !state.unsent
    }

    /// Waits until everything that was answered before is with the socket.
    pub(super) async fn all_sent(&self) {
        std::future::poll_fn(|_cx| {
            // No waker is kept: the connection's task polls this whenever it polls, and `flushed` makes it poll.
            let mut state = self.state();
            state.takeover_waits = state.unsent;
            if state.unsent { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Bytes were read.
    pub(super) fn read(&self) {
        let mut state = self.state();
        // On HTTP/2 bytes between requests are pings and window updates.
        if !self.is_http2() && state.open == 0 {
            state.begun = true;
        }
    }

    pub(super) fn wrote<T>(&self, outcome: &Poll<io::Result<T>>) {
        let mut state = self.state();
        state.blocked = outcome.is_pending();
        state.writes += u64::from(outcome.is_ready());
    }

    /// The socket has all that hyper had for it.
    pub(super) fn flushed(&self, cx: &Context<'_>) {
        let mut state = self.state();
        state.blocked = false;
        if state.answering == 0 && std::mem::take(&mut state.unsent) {
            if std::mem::take(&mut state.takeover_waits) {
                cx.waker().wake_by_ref();
            }
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
        }
    }
}

impl State {
    fn agree(&mut self, length: Option<u64>) -> Result<(), Refusal> {
        let next = self.pipelined.pop_front().map(Seen::Head);
        let announced = match std::mem::replace(&mut self.seen, next) {
            Some(Seen::Head(announced)) => announced,
            Some(Seen::Block(checked)) => *self.was_head.insert(checked?),
            None => return Err(Refusal::Malformed("the request head was not checked")),
        };
        let agreed = match announced {
            Announced::Length(announced) => length == Some(announced),
            Announced::Chunked => length.is_none(),
        };
        if agreed { Ok(()) } else { Err(Refusal::Malformed("the length of the request body is ambiguous")) }
    }
}

/// A request that has not been answered to the end.
#[derive(Debug)]
pub(super) struct OpenRequest {
    exchange: Arc<Exchange>,
    answering: bool,
    /// A HEAD: its answer has no content.
    head_only: bool,
    /// Over HTTP/2.
    progress: Option<Arc<Progress>>,
    /// Of a client's request, over HTTP/2.
    share: Option<StreamShare>,
}

impl OpenRequest {
    /// Holds a share of the connection limit until the answer has ended.
    pub(super) fn hold(&mut self, share: StreamShare) {
        self.share = Some(share);
    }

    /// The answer goes to hyper; the request ends with the answer's body.
    pub(super) fn answer(mut self, body: AxumBody) -> Answer {
        let body = match &self.progress {
            // hyper drops the content of an answer to a HEAD over HTTP/1.1 only.
            Some(_) if self.head_only => AxumBody::empty(),
            Some(progress) => progress.pace(body),
            None => held::count(body, || Arc::clone(self.exchange.held())),
        };
        let mut state = self.exchange.state();
        state.answering += 1;
        state.unsent = true;
        drop(state);
        self.answering = true;
        Answer { body, _open: self }
    }

    /// Progress of the answer, over HTTP/2.
    pub(super) fn progress(&self) -> Option<&Progress> {
        self.progress.as_deref()
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.exchange.state();
        state.open -= 1;
        state.answering -= u32::from(self.answering);
        if state.open == 0
            && let Some(reader) = state.reader.take()
        {
            drop(state);
            reader.wake();
        }
    }
}

/// The body of an answer, which keeps its request open.
#[derive(Debug)]
pub(super) struct Answer {
    body: AxumBody,
    _open: OpenRequest,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
