//! Commands waiting for their turn, and what they do when it comes.
//!
//! Whether a client may do what it asks for is decided in the command's turn ([`ClientSession::refusal`]), by the
//! credential and the subscriptions that it has then.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use fanway_broker::trace::Begun;
use fanway_broker::{Broker, BrokerError, History, HistoryQuery, Publish, Published, log_limited};
use fanway_protocol::command::SubscribeRequest;
use fanway_protocol::reply::{ConnectResult, HistoryResult, Outcome, Reply, SubscribeResult};
use fanway_protocol::{Channel, Epoch, ErrorCode, GapReason, Payload, Position, Publication, Right};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, MaybeDone};

use super::client::{ClientSession, Phase};
use super::commands::CommandError;
use super::join::Attaching;
use super::subscription::Subscription;
use crate::attach::{AttachError, Attached, From, Joined};
use crate::close_reason::CloseReason;
use crate::hub::{Hub, unix_now};
use crate::identity::Identity;
use crate::namespace::Namespace;

/// What a subscribe asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// Resume from a position.
    pub(super) recover: bool,
    /// The offset named, echoed in the reply when recovered.
    pub(super) offset: u64,
    /// Wants error 112 instead of a subscription that could not be recovered.
    pub(super) error_if_unrecovered: bool,
}

/// A subscription being made.
pub(super) struct Joining {
    pub(super) channel: Channel,
    pub(super) index: u32,
    pub(super) asked: Asked,
    pub(super) attaching: Attaching,
}

/// A subscribe that has not begun.
pub(super) struct Requested {
    pub(super) channel: Channel,
    pub(super) namespace: Arc<Namespace>,
    pub(super) from: From,
    pub(super) asked: Asked,
}

impl Requested {
    pub(super) fn new(channel: Channel, namespace: Arc<Namespace>, request: &SubscribeRequest<'_>) -> Self {
        let recover = request.recover && namespace.recovery;
        let from = match (recover, Epoch::parse(&request.epoch)) {
            (false, _) => From::Head,
            (true, Some(epoch)) => From::Position(Position { epoch, offset: request.offset }),
            (true, None) if request.epoch.is_empty() && request.offset == 0 => From::Beginning,
            (true, None) => From::Nonsense(GapReason::BadPosition),
        };
        let asked = Asked {
            recover,
            offset: request.offset,
            error_if_unrecovered: request.error_if_unrecovered && request.recover,
        };
        Self { channel, namespace, from, asked }
    }
}

/// How far a subscribe is.
pub(super) enum Subscribing {
    /// It begins in its turn: what waits before it decides whether it may.
    Requested(Requested),
    /// It has begun.
    Joining(Joining),
}

impl Subscribing {
    pub(super) fn channel(&self) -> &Channel {
        match self {
            Self::Requested(requested) => &requested.channel,
            Self::Joining(joining) => &joining.channel,
        }
    }
}

/// A waiting command.
pub(super) enum Op {
    Connect { id: u32, identity: Option<Identity>, joining: Vec<Joining> },
    Subscribe { id: u32, subscribing: Subscribing },
    Unsubscribe { id: u32, channel: String },
    Publish { id: u32, channel: Channel, namespace: Arc<Namespace>, data: Payload, run: Run<Published> },
    History { id: u32, channel: Channel, namespace: Arc<Namespace>, query: Query, run: Run<History> },
    Refresh { id: u32, token: String },
    Ping { id: u32 },
    Send,
    Error { id: u32, error: CommandError },
}

/// Waiting commands, in order. Nearly always there are none, and then it holds no memory.
#[derive(Default)]
#[allow(clippy::box_collection, reason = "three words less in each idle session")]
pub(super) struct Queue(Option<Box<VecDeque<Waiting>>>);

/// A waiting command, and its span if it is sampled.
pub(super) struct Waiting {
    op: Op,
    sampled: Option<Begun>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ops| ops.len())
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Op> + Clone {
        self.0.iter().flat_map(|ops| ops.iter()).map(|waiting| &waiting.op)
    }

    pub(super) fn push_back(&mut self, op: Op, sampled: Option<Begun>) {
        self.0.get_or_insert_default().push_back(Waiting { op, sampled });
    }

    /// The first of them, which may be put back.
    fn take_first(&mut self) -> Option<Waiting> {
        let first = self.0.as_mut()?.pop_front();
        if first.is_none() {
            self.clear();
        }
        first
    }

    fn put_back(&mut self, waiting: Waiting) {
        self.0.get_or_insert_default().push_front(waiting);
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

/// A read of history, or what is wrong with its position.
pub(super) type Query = Result<HistoryQuery, ErrorCode>;

/// A broker call that begins when its turn comes.
pub(super) type Run<T> = Option<BoxFuture<'static, Result<T, BrokerError>>>;

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Op")
    }
}

impl Op {
    /// The identity of a connect that is under way.
    pub(super) fn connecting(&self) -> Option<&Identity> {
        match self {
            Self::Connect { identity, .. } => identity.as_ref(),
            _ => None,
        }
    }

    /// Indexes of subscriptions that this command will fill.
    pub(super) fn reserved(&self) -> Option<Vec<u32>> {
        match self {
            Self::Connect { joining, .. } => Some(joining.iter().map(|joining| joining.index).collect()),
            Self::Subscribe { subscribing: Subscribing::Joining(joining), .. } => Some(vec![joining.index]),
            _ => None,
        }
    }

    /// Whether the channel will be subscribed once this command has had its turn; `None` if it does not touch it.
    pub(super) fn will_subscribe(&self, channel: &str) -> Option<bool> {
        match self {
            Self::Subscribe { subscribing, .. } if subscribing.channel().as_str() == channel => Some(true),
            Self::Unsubscribe { channel: left, .. } if left == channel => Some(false),
            Self::Connect { joining, .. } => {
                joining.iter().any(|joining| joining.channel.as_str() == channel).then_some(true)
            }
            _ => None,
        }
    }

    /// Lets what may run side by side run; true once its turn may come.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        let ready = |joining: &mut Joining, cx: &mut Context<'_>| joining.attaching.poll_unpin(cx).is_ready();
        match self {
            Self::Connect { joining, .. } => {
                // Each of them is polled, not only the first that waits.
                let waiting = joining.iter_mut().filter_map(|one| (!ready(one, cx)).then_some(())).count();
                waiting == 0
            }
            Self::Subscribe { subscribing: Subscribing::Joining(joining), .. } => ready(joining, cx),
            _ => true,
        }
    }
}

impl ClientSession {
    /// Gives each waiting command its turn, in order, until one has to wait.
    pub(super) fn poll_ops(&mut self, cx: &mut Context<'_>, now: Instant) {
        for waiting in self.protocol.ops.0.iter_mut().flat_map(|ops| ops.iter_mut()) {
            // Whether it is its turn is seen below.
            let _ = waiting.op.advance(cx);
        }
        if self.core.blocked() {
            self.forget_pages();
        }
        while self.core.closing.is_none() {
            if !self.replies_fit() {
                return self.forget_pages();
            }
            let Some(mut first) = self.protocol.ops.take_first() else { return };
            if !first.op.advance(cx) || !self.run(&mut first, cx, now) {
                self.protocol.ops.put_back(first);
                return;
            }
        }
        self.protocol.ops.clear();
    }

    /// Lets go of what subscribes have read whose turn does not come yet: the client does not take its replies. It is read
    /// again after the reply.
    fn forget_pages(&mut self) {
        for waiting in self.protocol.ops.0.iter_mut().flat_map(|ops| ops.iter_mut()) {
            let joining: &mut [Joining] = match &mut waiting.op {
                Op::Connect { joining, .. } => joining,
                Op::Subscribe { subscribing: Subscribing::Joining(joining), .. } => std::slice::from_mut(joining),
                _ => &mut [],
            };
            for joining in joining {
                if let MaybeDone::Done(Ok(Attached { joined: Joined::Recovered(page), .. })) = &mut joining.attaching {
                    page.forget();
                }
            }
        }
    }

    /// Why a command must not be carried out, as things are in its turn; asked until it has begun. Whatever depends on the
    /// client's rights or subscriptions is decided here, because the commands before it may have changed them.
    fn refusal(&self, op: &Op) -> Option<(u32, ErrorCode)> {
        let (id, refusal) = match op {
            Op::Subscribe { id, subscribing: Subscribing::Requested(requested) } => {
                (id, self.subscribe_refusal(requested))
            }
            Op::Subscribe { id, subscribing: Subscribing::Joining(Joining { channel, .. }) } => {
                (id, self.right_refusal(Right::Subscribe, channel, self.core.hub.namespaces.of(channel)?))
            }
            Op::Publish { id, channel, namespace, run: None, .. } => {
                (id, self.right_refusal(Right::Publish, channel, namespace))
            }
            Op::History { id, channel, namespace, query, run: None } => {
                let unkept = || (!namespace.retention().keeps_log()).then_some(ErrorCode::NotAvailable);
                let denied = self.right_refusal(Right::History, channel, namespace);
                (id, denied.or_else(unkept).or_else(|| query.err()))
            }
            _ => return None,
        };
        Some((*id, refusal?))
    }

    fn subscribe_refusal(&self, requested: &Requested) -> Option<ErrorCode> {
        let Requested { channel, namespace, .. } = requested;
        let subscribed = || self.core.sub(channel.as_str()).map(|_| ErrorCode::AlreadySubscribed);
        let full = || {
            let count = self.core.subs.iter().flatten().count();
            (count >= self.core.hub.limits.channel_limit).then_some(ErrorCode::LimitExceeded)
        };
        self.right_refusal(Right::Subscribe, channel, namespace).or_else(subscribed).or_else(full)
    }

    fn right_refusal(&self, right: Right, channel: &Channel, namespace: &Namespace) -> Option<ErrorCode> {
        let subscribed = self.core.sub(channel.as_str()).is_some();
        let allowed = self.identity().is_some_and(|identity| namespace.allows(right, channel, identity, subscribed));
        (!allowed).then_some(ErrorCode::PermissionDenied)
    }

    /// A command's turn. False if it has to wait.
    fn run(&mut self, waiting: &mut Waiting, cx: &mut Context<'_>, now: Instant) -> bool {
        let Waiting { op, sampled } = waiting;
        let failed = |reason: &'static str| sampled.iter().for_each(|sampled| sampled.failed(reason));
        if let Some((id, code)) = self.refusal(op) {
            failed(code.message());
            self.error(id, code);
            return true;
        }
        match op {
            Op::Connect { id, identity, joining } => {
                if let Err(code) = self.connected(*id, identity.take(), std::mem::take(joining), now) {
                    failed(code.message());
                    self.connect_failed(*id, code, now);
                }
            }
            Op::Subscribe { id, subscribing } => {
                if let Subscribing::Requested(requested) = subscribing {
                    *subscribing = Subscribing::Joining(self.join(requested, self.free_index(), 1, now));
                }
                let Subscribing::Joining(joining) = subscribing else { return true };
                if joining.attaching.poll_unpin(cx).is_pending() {
                    return false;
                }
                match self.joined(joining, false) {
                    Ok(result) => self.reply(&Reply::ok(*id, Outcome::Subscribe(result))),
                    Err(code) => {
                        failed(code.message());
                        self.error(*id, code);
                    }
                }
            }
            Op::Unsubscribe { id, channel } => {
                if let Some(index) = self.core.sub(channel) {
                    self.core.remove(index);
                }
                self.reply(&Reply::ok(*id, Outcome::Unsubscribe));
            }
            Op::Publish { id, channel, namespace, data, run } => {
                let call = run.get_or_insert_with(|| {
                    let publication = self.publication(data.clone(), sampled.as_ref());
                    publish(self.core.hub.clone(), channel.clone(), namespace.clone(), publication).boxed()
                });
                let Poll::Ready(published) = call.poll_unpin(cx) else { return false };
                match published {
                    Ok(_) => self.reply(&Reply::ok(*id, Outcome::Publish)),
                    Err(error) => {
                        failed(error.metric_label());
                        self.broker_failed(*id, &error);
                    }
                }
            }
            Op::History { id, channel, namespace, query, run } => {
                let Ok(query) = *query else { return true };
                let (hub, channel, retention) = (self.core.hub.clone(), channel.clone(), namespace.retention());
                let call = run
                    .get_or_insert_with(|| async move { hub.broker.history(&channel, query, retention).await }.boxed());
                let Poll::Ready(history) = call.poll_unpin(cx) else { return false };
                match history {
                    Ok(History { publications, top, since_valid: true }) => {
                        let result = HistoryResult { publications, top };
                        self.reply(&Reply::ok(*id, Outcome::History(result)));
                    }
                    Ok(_) => {
                        failed(ErrorCode::UnrecoverablePosition.message());
                        self.error(*id, ErrorCode::UnrecoverablePosition);
                    }
                    Err(error) => {
                        failed(error.metric_label());
                        self.broker_failed(*id, &error);
                    }
                }
            }
            Op::Refresh { id, token } => self.refresh(*id, token),
            // Nothing takes messages to the back end, and they have no reply to say so in.
            Op::Send => self.core.close(CloseReason::NotAvailable),
            Op::Ping { id } => self.reply(&Reply::ok(*id, Outcome::Ping)),
            Op::Error { id, error } => {
                failed(error.code.message());
                self.reply(&Reply::error(*id, error.body()));
            }
        }
        true
    }

    /// What the server subscribed the client to is in place, and it is told that it is connected. An error is for the
    /// caller to tell.
    fn connected(
        &mut self,
        id: u32,
        identity: Option<Identity>,
        joining: Vec<Joining>,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let Some(identity) = identity else { return Ok(()) };
        let mut subs = BTreeMap::new();
        for mut joining in joining {
            let result = self.joined(&mut joining, true)?;
            subs.insert(joining.channel.as_str().to_owned(), result);
        }
        let client = self.id().to_string();
        let ping = self.core.hub.limits.ping_interval.as_secs().max(1) as u32;
        let result = ConnectResult {
            client: &client,
            version: self.core.hub.version,
            ttl: identity.ttl(unix_now()),
            subs,
            ping,
            pong: true,
        };
        self.reply(&Reply::ok(id, Outcome::Connect(result)));
        self.activate(identity, now);
        Ok(())
    }

    /// The client is told, and the session left unusable: SDKs send subscribes along with connect and come back with a new
    /// token, so what follows is ignored. It ends as stale unless the client leaves first.
    pub(super) fn connect_failed(&mut self, id: u32, code: ErrorCode, now: Instant) {
        self.error(id, code);
        self.protocol.ops.clear();
        for index in (0..self.core.subs.len() as u32).rev() {
            self.core.remove(index);
        }
        self.core.forget_identity();
        self.protocol.phase = Phase::Refused { deadline: now + self.core.hub.limits.connect_timeout };
        self.reschedule();
    }

    /// Puts a joined subscription in its place and says what to tell the client.
    fn joined(&mut self, joining: &mut Joining, server_side: bool) -> Result<SubscribeResult, ErrorCode> {
        let attached = match std::pin::Pin::new(&mut joining.attaching).take_output() {
            Some(Ok(attached)) => attached,
            Some(Err(AttachError::UnknownNamespace)) => return Err(ErrorCode::UnknownChannel),
            Some(Err(error)) => {
                log_limited!(DEBUG, client = %self.id(), channel = %joining.channel, %error, "subscribe failed");
                return Err(ErrorCode::Internal);
            }
            None => return Err(ErrorCode::Internal),
        };
        let Asked { recover, offset, error_if_unrecovered } = joining.asked;
        let (mut sub, joined) = Subscription::new(attached);
        let mut behind = false;
        sub.server_side = server_side;
        let mut result = SubscribeResult { was_recovering: recover, ..SubscribeResult::default() };
        if let Some(head) = sub.position {
            sub.labelled = true;
            result.recoverable = true;
            result.positioned = true;
            result.epoch = Some(head.epoch);
            result.offset = head.offset;
        }
        match joined {
            Joined::Recovered(page) => {
                result.recovered = true;
                result.offset = offset;
                if !page.whole {
                    behind = true;
                    sub.position = sub.position.map(|head| {
                        let reached = page.publications.last().map_or(offset, |(last, _)| last.offset);
                        Position { offset: reached, ..head }
                    });
                }
                result.publications = page.publications;
            }
            Joined::Gap(_) if error_if_unrecovered => return Err(ErrorCode::UnrecoverablePosition),
            Joined::Gap(_) | Joined::Fresh => {}
        }
        self.core.insert(joining.index, sub);
        if behind {
            self.core.fall_behind(joining.index);
        }
        Ok(result)
    }

    fn broker_failed(&mut self, id: u32, error: &BrokerError) {
        log_limited!(DEBUG, client = %self.id(), %error, "broker call failed");
        self.error(id, ErrorCode::Internal);
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        match &self.protocol.phase {
            Phase::Active(identity) => Some(identity),
            _ => None,
        }
    }
}

async fn publish(
    hub: Arc<Hub>,
    channel: Channel,
    namespace: Arc<Namespace>,
    publication: Arc<Publication>,
) -> Result<Published, BrokerError> {
    let retention = namespace.retention();
    hub.broker.publish(Publish { channel: &channel, publication, retention, idempotency: None }).await
}
