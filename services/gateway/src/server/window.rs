//! Deadlines of answers over HTTP/2 that clients do not take.
//!
//! The frames of a body go from the handler to hyper, which has at most one, then to h2, then to the socket. hyper asks the
//! body for a frame, and hands it over once h2 has room for a byte beyond what it has of the stream already: the client
//! has granted window for that, of the stream and of the connection, and no more than `http2.send_buffer` waits for the
//! socket. Until then hyper does not poll the body. h2 takes a frame whole for that one byte. So:
//! * A request is *blocked* while hyper has a frame ([`Progress`]). The client takes nothing then, or not enough for what
//!   h2 has.
//! * An answer of known length above 1 KiB ends in a frame of a single byte ([`super::paced`]). Once h2 has that, the client
//!   has granted window for the whole.
//! * Frames above 1 KiB of other bodies, as of event streams, are observed: h2 drops them when the socket has taken them. If
//!   h2 has had some for a second ([`SHORTEST`]) and let go of none, the body is not asked for more until it does, and does
//!   not end before it has let go of all. The request is blocked meanwhile too.
//! * A client may take window back (SETTINGS, RFC 9113, section 6.9.2), and leave in h2 all that it had granted window for.
//!   Frames of large answers are therefore observed as well, and the last byte waits until h2 has let go of them.
//! * So what h2 has of a request without a deadline is 1 KiB behind a closed window, or an answer of 16 KiB whose window was
//!   taken back. Before a blocked request, h2 has at most a frame of 16 KiB behind a closed window.
//!
//! hyper's task of each request is wrapped ([`RequestTask`]), and sees after each poll whether the request is blocked. A
//! blocked request ends with its connection, or sooner:
//! * When the client has taken nothing for as long as patience lasts ([`super::held`]): `write_timeout`, less if the
//!   request holds a large answer. The time begins anew with each frame that hyper hands over, and with each observed frame
//!   that h2 lets go of.
//! * If the response came with a [`WhenBlocked`]: when that is ready, and not by patience. Event streams bring one, and end
//!   at a stall, at the expiry of a token, at the age of a connection, in a drain.
//!
//! The end of the task is that of the stream: h2 sends RST_STREAM with CANCEL and discards what it has. The connection and
//! its other streams go on. If its socket is full, h2 does so only once the socket takes something. So a connection whose
//! socket takes nothing ends by patience too (`connection::drive`), less if h2 has a large answer for it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::connection::Shared;
use super::held::SHORTEST;
use super::paced::Progress;

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

/// A request whose client takes nothing.
struct Blocked {
    /// Steps of its progress.
    steps: u32,
    /// When the last of them was seen.
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Blocked {
    /// How long the client has taken nothing, at so many steps.
    fn lasts(&mut self, steps: u32) -> Duration {
        if self.steps != steps {
            (self.steps, self.since) = (steps, Instant::now());
        }
        self.since.elapsed()
    }
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
        let (progress, write_timeout) = (&**this.progress, this.shared.settings.write_timeout);
        match progress.deadline() {
            Some(WhenBlocked(poll)) if progress.is_blocked() => return poll(cx),
            _ if progress.is_blocked() || progress.is_queued() => (),
            _ => {
                // An idle stream keeps no timer.
                this.blocked.take_if(|blocked| blocked.timer.is_elapsed());
                return Poll::Pending;
            }
        }
        let blocked = this.blocked.get_or_insert_with(|| {
            let timer = Box::pin(tokio::time::sleep(SHORTEST.min(write_timeout)));
            Box::new(Blocked { steps: progress.steps(), since: Instant::now(), timer })
        });
        blocked.lasts(progress.steps());
        loop {
            ready!(blocked.timer.as_mut().poll(cx));
            let stalled = blocked.lasts(progress.steps());
            let is_blocked = progress.is_blocked() || (stalled >= SHORTEST && progress.block(blocked.steps, cx));
            let wait = match progress.deadline() {
                Some(WhenBlocked(poll)) if is_blocked => return poll(cx),
                None if is_blocked => progress.held().look_again(stalled, write_timeout),
                _ if !progress.is_queued() => return Poll::Pending,
                _ => Some(SHORTEST.saturating_sub(stalled)),
            };
            let Some(wait) = wait else {
                this.shared.rejected("write_timeout");
                return Poll::Ready(());
            };
            blocked.timer.as_mut().reset(Instant::now() + wait);
        }
    }
}
