//! Commands waiting for their turn.
//!
//! Commands take effect in the order sent. Whether a client may do what it asks for is decided in the command's turn, by the
//! credential and the subscriptions that it has then: the commands before it may have changed them.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll};
use std::time::Instant;

use fanway_broker::trace::Begun;
use fanway_broker::{BrokerError, log_limited};
use fanway_protocol::ErrorCode;
use fanway_protocol::reply::{Outcome, Reply};

use super::ClientSession;
use super::command::CommandError;
use super::connect::Connect;
use super::history::History;
use super::publish::Publish;
use super::refresh::Refresh;
use super::subscribe::{Joining, Subscribe, Subscribing};
use super::unsubscribe::Unsubscribe;
use crate::close_reason::CloseReason;
use crate::identity::Identity;
use crate::metrics::HubMetrics;
use crate::pages::Page;
use crate::session::join::page_of;
use crate::session::page_life::PageLife;

/// A waiting command.
pub(super) enum Op {
    Connect(Connect),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Publish(Publish),
    History(History),
    Refresh(Refresh),
    Ping,
    Send,
    Refused(CommandError),
}

/// A waiting command, its number, and its span if it is sampled.
struct Waiting {
    id: u32,
    op: Op,
    sampled: Option<Begun>,
}

/// Reason for which a command failed in its turn.
pub(super) enum Failure {
    /// The client is answered with this code.
    Code(ErrorCode),
    /// The broker could not do its part.
    Broker(BrokerError),
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

/// Outcome of a command's turn: `Pending` where it has to wait, and with it all commands after it.
pub(super) type Turned = Poll<Result<(), Failure>>;

/// Waiting commands, in order. Nearly always there are none, and then it holds no memory.
#[derive(Default)]
pub(super) struct Queue(Option<Box<Commands>>);

/// Commands in order, and the life of the pages that subscribes have read whose turn does not come yet.
#[derive(Default)]
struct Commands {
    waiting: VecDeque<Waiting>,
    page_life: PageLife,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ops| ops.waiting.len())
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Op> + Clone {
        self.0.iter().flat_map(|ops| ops.waiting.iter()).map(|waiting| &waiting.op)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Op> {
        self.0.iter_mut().flat_map(|ops| ops.waiting.iter_mut()).map(|waiting| &mut waiting.op)
    }

    pub(super) fn push_back(&mut self, id: u32, op: Op, sampled: Option<Begun>) {
        self.0.get_or_insert_default().waiting.push_back(Waiting { id, op, sampled });
    }

    /// The first of them, which may be put back.
    fn take_first(&mut self) -> Option<Waiting> {
        let first = self.0.as_mut()?.waiting.pop_front();
        if first.is_none() {
            self.clear();
        }
        first
    }

    fn put_back(&mut self, waiting: Waiting) {
        self.0.get_or_insert_default().waiting.push_front(waiting);
    }

    /// Drops pages that have waited for the turn of their command for too long.
    fn poll_page_life(&mut self, metrics: &HubMetrics, cx: &mut Context<'_>) {
        let Some(Commands { waiting, page_life }) = self.0.as_deref_mut() else { return };
        let joining = waiting.iter_mut().flat_map(|waiting| waiting.op.joining_mut());
        page_life.poll(joining.filter_map(|joining| page_of(&mut joining.attaching)), metrics, cx);
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Op")
    }
}

impl Op {
    /// Identity of a connect that is under way.
    pub(super) fn connecting(&self) -> Option<&Identity> {
        match self {
            Self::Connect(connect) => connect.identity.as_ref(),
            _ => None,
        }
    }

    /// Identity of a connect that is under way and does not wait for its quota.
    pub(super) fn admitted(&self) -> Option<&Identity> {
        match self {
            Self::Connect(connect) if connect.held_until().is_none() => connect.identity.as_ref(),
            _ => None,
        }
    }

    /// When a connect that waits for its quota is tried again.
    pub(super) fn held_until(&self) -> Option<Instant> {
        match self {
            Self::Connect(connect) => connect.held_until(),
            _ => None,
        }
    }

    /// Subscriptions that this command is making.
    pub(super) fn joining(&self) -> &[Joining] {
        match self {
            Self::Connect(connect) => &connect.joining,
            Self::Subscribe(Subscribe { subscribing: Subscribing::Joining(joining), .. }) => {
                std::slice::from_ref(joining)
            }
            _ => &[],
        }
    }

    fn joining_mut(&mut self) -> &mut [Joining] {
        match self {
            Self::Connect(connect) => &mut connect.joining,
            Self::Subscribe(Subscribe { subscribing: Subscribing::Joining(joining), .. }) => {
                std::slice::from_mut(joining)
            }
            _ => &mut [],
        }
    }

    /// Whether the channel will be subscribed once this command has had its turn; `None` if it does not touch it.
    pub(super) fn will_subscribe(&self, channel: &str) -> Option<bool> {
        match self {
            Self::Subscribe(subscribe) => (subscribe.channel().as_str() == channel).then_some(true),
            Self::Unsubscribe(unsubscribe) => (unsubscribe.channel == channel).then_some(false),
            Self::Connect(Connect { joining, .. }) => {
                joining.iter().any(|joining| joining.channel.as_str() == channel).then_some(true)
            }
            _ => None,
        }
    }

    /// Lets what may run side by side run; true once its turn may come.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        // Each of them is polled, not only the first that waits.
        let joining = self.joining_mut().iter_mut();
        let waiting = joining.filter_map(|joining| joining.poll(cx).is_pending().then_some(())).count();
        waiting == 0
    }
}

impl ClientSession {
    /// Gives each waiting command its turn, in order, until one has to wait.
    pub(super) fn poll_ops(&mut self, cx: &mut Context<'_>, now: Instant) {
        for op in self.protocol.ops.iter_mut() {
            // Whether it is its turn is seen below.
            let _ = op.advance(cx);
        }
        if self.core.blocked() {
            self.forget_pages();
        }
        while self.core.closing.is_none() {
            if !self.replies_fit() {
                return self.forget_pages();
            }
            let Some(mut first) = self.protocol.ops.take_first() else { return };
            if !first.op.advance(cx) || self.run(&mut first, cx, now).is_pending() {
                self.protocol.ops.put_back(first);
                return self.protocol.ops.poll_page_life(&self.core.hub.metrics, cx);
            }
        }
        self.protocol.ops.clear();
    }

    /// Drops what subscribes have read whose turn does not come yet: the client does not take its replies. It is read again
    /// after the reply.
    fn forget_pages(&mut self) {
        let joining = self.protocol.ops.iter_mut().flat_map(Op::joining_mut);
        joining.filter_map(|joining| page_of(&mut joining.attaching)).for_each(Page::forget);
    }

    /// A command's turn: it is answered, unless it has to wait.
    fn run(&mut self, waiting: &mut Waiting, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Waiting { id, op, sampled } = waiting;
        let id = *id;
        let turned = match op {
            Op::Connect(connect) => connect.run(id, self, cx, now),
            Op::Subscribe(subscribe) => subscribe.run(id, self, cx, now),
            Op::Unsubscribe(unsubscribe) => {
                unsubscribe.run(id, self);
                Poll::Ready(Ok(()))
            }
            Op::Publish(publish) => publish.run(id, self, cx, sampled.as_ref()),
            Op::History(history) => history.run(id, self, cx),
            Op::Refresh(refresh) => {
                refresh.run(id, self);
                Poll::Ready(Ok(()))
            }
            Op::Ping => {
                self.reply(&Reply::ok(id, Outcome::Ping));
                Poll::Ready(Ok(()))
            }
            // Nothing takes messages to the back end, and they have no reply for an error.
            Op::Send => {
                self.core.close(CloseReason::NotAvailable);
                Poll::Ready(Ok(()))
            }
            Op::Refused(error) => {
                sampled.iter().for_each(|sampled| sampled.failed(error.code.message()));
                self.reply(&Reply::error(id, error.body()));
                Poll::Ready(Ok(()))
            }
        };
        let Poll::Ready(done) = turned else { return Poll::Pending };
        let Err(failure) = done else { return Poll::Ready(()) };
        let (label, code) = match failure {
            Failure::Code(code) => (code.message(), code),
            Failure::Broker(error) => {
                log_limited!(DEBUG, client = %self.id(), %error, "broker call failed");
                (error.metric_label(), ErrorCode::Internal)
            }
        };
        sampled.iter().for_each(|sampled| sampled.failed(label));
        match op {
            Op::Connect(_) => self.connect_failed(id, code, now),
            _ => self.error(id, code),
        }
        Poll::Ready(())
    }
}
