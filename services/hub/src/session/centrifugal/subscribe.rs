//! Subscribe: begins at once where nothing before it can change that it will be granted, else in its turn.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use fanway_broker::log_limited;
use fanway_protocol::command::SubscribeRequest;
use fanway_protocol::reply::{Outcome, Reply, SubscribeResult};
use fanway_protocol::{Channel, Epoch, ErrorCode, GapReason, Position, Right};
use futures_util::FutureExt;

use super::ClientSession;
use super::authorization::RightCheck;
use super::command::CommandError;
use super::queue::{Op, Turned};
use crate::attach::{AttachError, From, Joined, Terms};
use crate::channel::Trait;
use crate::identity::Identity;
use crate::namespace::Namespace;
use crate::pages::PAGE_BYTES;
use crate::quota::Payer;
use crate::session::join::Attaching;
use crate::session::subscription::Subscription;

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
    asked: Asked,
    pub(super) attaching: Attaching,
}

impl Joining {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.attaching.poll_unpin(cx)
    }
}

/// A subscribe that has not begun.
pub(super) struct Requested {
    pub(super) channel: Channel,
    pub(super) namespace: Arc<Namespace>,
    pub(super) from: From,
    asked: Asked,
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

/// Progress of a subscribe.
pub(super) enum Subscribing {
    /// It begins in its turn: what waits before it decides whether it may.
    Requested(Requested),
    /// It has begun.
    Joining(Joining),
}

impl Subscribing {
    fn channel(&self) -> &Channel {
        match self {
            Self::Requested(requested) => &requested.channel,
            Self::Joining(joining) => &joining.channel,
        }
    }
}

/// A waiting subscribe.
pub(super) struct Subscribe {
    pub(super) subscribing: Subscribing,
    right: RightCheck,
}

impl Subscribe {
    pub(super) fn new(
        session: &ClientSession,
        request: &SubscribeRequest<'_>,
        now: Instant,
    ) -> Result<Self, CommandError> {
        let channel = Channel::new(&request.channel)?;
        check_supported(request)?;
        let namespace = session.namespace(&channel)?;
        let mut requested = Requested::new(channel, namespace, request);
        if requested.asked.recover && session.protocol.owed_gaps.has(&requested.channel) {
            requested.from = From::Nonsense(GapReason::Truncated);
        }
        let subscribing = match session.will_be_granted(&requested) {
            true => {
                let under_way = session.protocol.ops.len() + 1;
                Subscribing::Joining(session.join(&requested, session.free_index(), session.terms(under_way), now))
            }
            false => Subscribing::Requested(requested),
        };
        Ok(Self { subscribing, right: RightCheck::Open })
    }

    pub(super) fn channel(&self) -> &Channel {
        self.subscribing.channel()
    }

    pub(super) fn run(&mut self, id: u32, session: &mut ClientSession, cx: &mut Context<'_>, now: Instant) -> Turned {
        let Self { subscribing, right } = self;
        let channel = subscribing.channel();
        // Until it is answered the right may be lost.
        ready!(right.poll(session, cx, Right::Subscribe, channel, &*session.namespace(channel)?))?;
        if let Subscribing::Requested(requested) = subscribing {
            session.check_subscribe(requested)?;
            *subscribing = Subscribing::Joining(session.join(requested, session.free_index(), session.terms(1), now));
        }
        let Subscribing::Joining(joining) = subscribing else { return Poll::Ready(Ok(())) };
        ready!(joining.poll(cx));
        let result = session.joined(joining, false)?;
        if let Some(Some(sub)) = session.core.subs.get_mut(joining.index as usize) {
            sub.set(Trait::ByBackEnd, right.by_back_end());
        }
        session.reply(&Reply::ok(id, Outcome::Subscribe(result)));
        Poll::Ready(Ok(()))
    }
}

impl ClientSession {
    /// Checks what commands before a subscribe may have changed, besides its right.
    fn check_subscribe(&self, requested: &Requested) -> Result<(), ErrorCode> {
        if self.core.sub(requested.channel.as_str()).is_some() {
            return Err(ErrorCode::AlreadySubscribed);
        }
        if self.core.subs.iter().flatten().count() >= self.core.hub.limits.channel_limit {
            return Err(ErrorCode::LimitExceeded);
        }
        Ok(())
    }

    /// Begins to join a channel.
    pub(super) fn join(&self, requested: &Requested, index: u32, terms: Terms, now: Instant) -> Joining {
        let Requested { channel, from, asked, .. } = requested;
        let deadline = now + self.core.hub.limits.command_timeout;
        let attaching = self.core.attach(channel, *from, index, Some(deadline), terms);
        Joining { channel: channel.clone(), index, asked: *asked, attaching }
    }

    /// What a subscribe may be given with its reply, of so many that are under way. Nothing while the client does not take
    /// the replies before it.
    pub(super) fn terms(&self, of: usize) -> Terms {
        let first_page = match self.core.blocked() || self.core.outbox.len() > PAGE_BYTES {
            true => 0,
            // Few sizes, as clients share reads of the same size.
            false => PAGE_BYTES / of.max(1).next_power_of_two(),
        };
        Terms { missed: self.core.hub.limits.recovery_limit, first_page, payer: self.payer() }
    }

    /// Whether nothing that waits can change that a subscribe will be granted, so that it may begin at once.
    fn will_be_granted(&self, requested: &Requested) -> bool {
        let Requested { channel, namespace, .. } = requested;
        let identity = || self.waiting_identity();
        !self.protocol.ops.iter().any(|op| matches!(op, Op::Refresh(_)))
            && identity().is_some_and(|identity| namespace.allows(Right::Subscribe, channel, identity, false))
            && !self.will_be_subscribed(channel.as_str())
            && !self.is_full()
    }

    /// The identity that the client has or is about to have: the connected one, or the one whose connect is still waiting.
    fn waiting_identity(&self) -> Option<&Identity> {
        self.identity().or_else(|| self.protocol.ops.iter().find_map(Op::admitted))
    }

    /// Owner of the quotas that commands count against.
    pub(super) fn payer(&self) -> Payer {
        self.waiting_identity()
            .map_or(Payer::Nobody, |identity| self.core.hub.payer(identity, self.protocol.rare.address()))
    }

    /// Whether there is room for no further channel once every waiting command has had its turn.
    fn is_full(&self) -> bool {
        let limit = self.core.hub.limits.channel_limit;
        let subscribed = self.core.subs.iter().flatten().map(|sub| sub.channel().as_str());
        let joining = self.protocol.ops.iter().filter_map(|op| match op {
            Op::Subscribe(subscribe) => Some(subscribe.channel().as_str()),
            _ => None,
        });
        let channels = subscribed.chain(joining);
        // Nearly always there is room even for all of them; who leaves meanwhile is looked at only if there is not.
        channels.clone().count() >= limit
            && channels.filter(|channel| self.will_be_subscribed(channel)).collect::<BTreeSet<_>>().len() >= limit
    }

    /// Whether the channel is subscribed once every waiting command has had its turn.
    fn will_be_subscribed(&self, channel: &str) -> bool {
        let waiting = self.protocol.ops.iter().rev().find_map(|op| op.will_subscribe(channel));
        waiting.unwrap_or_else(|| self.core.sub(channel).is_some())
    }

    /// Puts a joined subscription in its place and says what to tell the client.
    pub(super) fn joined(&mut self, joining: &mut Joining, server_side: bool) -> Result<SubscribeResult, ErrorCode> {
        let attached = match Pin::new(&mut joining.attaching).take_output() {
            Some(Ok(attached)) => attached,
            Some(Err(AttachError::UnknownNamespace)) => return Err(ErrorCode::UnknownChannel),
            Some(Err(AttachError::Limited(_))) => return Err(ErrorCode::TooManyRequests),
            Some(Err(error)) => {
                log_limited!(DEBUG, client = %self.id(), channel = %joining.channel, %error, "subscribe failed");
                return Err(ErrorCode::Internal);
            }
            None => return Err(ErrorCode::Internal),
        };
        // Told by what is answered now; a subscribe that fails leaves it owed.
        self.protocol.owed_gaps.take(&joining.channel);
        let Asked { recover, offset, error_if_unrecovered } = joining.asked;
        let (mut sub, joined) = Subscription::new(attached);
        let mut behind = false;
        sub.set(Trait::ServerSide, server_side);
        let mut result = SubscribeResult { was_recovering: recover, ..SubscribeResult::default() };
        if let Some(head) = sub.position {
            sub.set(Trait::Labelled, true);
            result.recoverable = true;
            result.positioned = true;
            result.epoch = Some(head.epoch);
            result.offset = head.offset;
        }
        match joined {
            Joined::Recovered(mut page) => {
                result.recovered = true;
                result.offset = offset;
                if !page.whole {
                    behind = true;
                    sub.position = sub.position.map(|head| {
                        let reached = page.publications.last().map_or(offset, |(last, _)| last.offset);
                        Position { offset: reached, ..head }
                    });
                }
                // The last of them has been looked at: the client has reached it, whether it is sent it or not.
                page.publications.retain(|(_, publication)| !self.core.is_excluded(publication));
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

    /// An index for a subscription under way: neither in use nor reserved by a waiting command.
    fn free_index(&self) -> u32 {
        let joining = self.protocol.ops.iter().flat_map(Op::joining);
        let reserved: Vec<u32> = joining.map(|joining| joining.index).collect();
        (0..)
            .find(|index| !reserved.contains(index) && self.core.subs.get(*index as usize).is_none_or(Option::is_none))
            .unwrap_or(u32::MAX)
    }
}

/// Refuses a subscribe, also one within connect, that asks for what Fanway does not have.
pub(super) fn check_supported(request: &SubscribeRequest<'_>) -> Result<(), CommandError> {
    if let Some(member) = request.unsupported {
        return Err(CommandError::unsupported(member));
    }
    if !request.token.is_empty() {
        // A credential that is presented but not supported is refused, never ignored.
        return Err(ErrorCode::PermissionDenied.into());
    }
    Ok(())
}
