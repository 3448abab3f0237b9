//! Commands of the client protocol, read and put into the queue.
//!
//! What a command says by itself is checked here: names, members, forms. What the client may do is decided in the command's
//! turn (see [`super::ops`]), because commands before it may change that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::trace::Begun;
use fanway_broker::{HISTORY_BYTES, HistoryQuery, PageLimit, log_limited};
use fanway_protocol::command::{
    Command, ConnectRequest, HistoryRequest, Method, PublishRequest, StreamPosition, SubscribeRequest,
};
use fanway_protocol::publication::{LoneSurrogate, json_line, nests_too_deep};
use fanway_protocol::reply::{ErrorBody, Outcome, RefreshResult, Reply};
use fanway_protocol::{
    Channel, ChannelError, ClientInfo, Epoch, ErrorCode, Payload, Position, Publication, Right, UnsubscribeCode,
};

use super::client::{ClientSession, Phase};
use super::ops::{Joining, Op, Requested, Subscribing};
use crate::attach::Terms;
use crate::close_reason::CloseReason;
use crate::hub::unix_now;
use crate::identity::{AuthFailure, Identity};
use crate::pages::PAGE_BYTES;

impl ClientSession {
    pub(super) fn on_command(&mut self, command: Command<'_>, now: Instant) {
        if matches!(self.protocol.phase, Phase::Refused { .. }) {
            return;
        }
        let Command { id, method } = command;
        if let Method::Connect(request) = &method {
            let sampled = self.core.hub.trace_command(|| method.name());
            return self.on_connect(id, request, sampled, now);
        }
        if !matches!(self.protocol.phase, Phase::Active(_) | Phase::Connecting) {
            return self.core.close(CloseReason::BadRequest);
        }
        match method {
            Method::Send => return self.protocol.ops.push_back(Op::Send, None),
            Method::Pong => return self.on_pong(),
            _ if id == 0 => return self.core.close(CloseReason::BadRequest),
            _ => {}
        }
        let sampled = self.core.hub.trace_command(|| method.name());
        let op = match method {
            Method::Subscribe(request) => self.subscribe(id, &request, now),
            Method::Unsubscribe(request) => Ok(Op::Unsubscribe { id, channel: request.channel.into_owned() }),
            Method::Publish(request) => self.publish(id, &request),
            Method::History(request) => self.history_query(id, &request),
            Method::Ping => Ok(Op::Ping { id }),
            Method::Refresh(request) => Ok(Op::Refresh { id, token: request.token.into_owned() }),
            Method::Presence | Method::PresenceStats | Method::Rpc | Method::SubRefresh => {
                Err(ErrorCode::NotAvailable.into())
            }
            Method::Unknown | Method::Connect(_) | Method::Send | Method::Pong => Err(ErrorCode::MethodNotFound.into()),
        };
        self.protocol.ops.push_back(op.unwrap_or_else(|error| Op::Error { id, error }), sampled);
    }

    fn on_connect(&mut self, id: u32, request: &ConnectRequest<'_>, sampled: Option<Begun>, now: Instant) {
        let Phase::Unauthenticated { presented, .. } = &mut self.protocol.phase else {
            return self.core.close(CloseReason::BadRequest);
        };
        if id == 0 {
            return self.core.close(CloseReason::BadRequest);
        }
        let presented = presented.take();
        let hub = self.core.hub.clone();
        let verified = match (request.token.is_empty(), presented) {
            (false, _) => hub.verify(&request.token),
            (true, Some(identity)) => Ok(*identity),
            (true, None) if hub.allow_anonymous => Ok(Identity::anonymous()),
            (true, None) => Err(AuthFailure::Missing),
        };
        if let (Err(failure), Some(sampled)) = (&verified, &sampled) {
            sampled.failed(failure.metric_label());
        }
        match verified {
            Ok(identity) => {
                log_limited!(DEBUG, client = %self.id(), sdk = %request.name.escape_debug(), "connecting");
                self.core.identify(&identity);
                self.protocol.phase = Phase::Connecting;
                self.reschedule();
                match self.server_side(&identity, request, now) {
                    Ok(joining) => {
                        self.protocol.ops.push_back(Op::Connect { id, identity: Some(identity), joining }, sampled)
                    }
                    Err(code) => {
                        sampled.iter().for_each(|sampled| sampled.failed(code.message()));
                        self.connect_failed(id, code, now);
                    }
                }
            }
            // The client may come back with a new token, so it is told and not cut off.
            Err(AuthFailure::Expired) => self.connect_failed(id, ErrorCode::TokenExpired, now),
            Err(AuthFailure::Missing) => self.connect_failed(id, ErrorCode::Unauthorized, now),
            Err(AuthFailure::Invalid { .. }) => self.core.close(CloseReason::InvalidToken),
        }
    }

    /// Subscriptions that the token asks the server to make.
    fn server_side(
        &mut self,
        identity: &Identity,
        request: &ConnectRequest<'_>,
        now: Instant,
    ) -> Result<Vec<Joining>, ErrorCode> {
        let limits = &self.core.hub.limits;
        if identity.channels.len() > limits.channel_limit {
            return Err(ErrorCode::LimitExceeded);
        }
        let none = SubscribeRequest::default();
        for resume in request.subs.values() {
            check_supported(resume).map_err(|error| error.code)?;
        }
        let mut joining = Vec::with_capacity(identity.channels.len());
        for channel in &identity.channels {
            let namespace = self.core.hub.namespaces.of(channel).ok_or(ErrorCode::UnknownChannel)?.clone();
            let resume = request.subs.get(channel.as_str()).unwrap_or(&none);
            let requested = Requested::new(channel.clone(), namespace, resume);
            joining.push(self.join(&requested, joining.len() as u32, identity.channels.len(), now));
        }
        Ok(joining)
    }

    /// Begins to join a channel, one of so many.
    pub(super) fn join(&self, requested: &Requested, index: u32, of: usize, now: Instant) -> Joining {
        let Requested { channel, from, asked, .. } = requested;
        let deadline = now + self.core.hub.limits.command_timeout;
        let attaching = self.core.attach(channel, *from, index, Some(deadline), self.terms(of));
        Joining { channel: channel.clone(), index, asked: *asked, attaching }
    }

    /// What a subscribe may be given with its reply, of so many that are under way. Nothing while the client does not take
    /// the replies before it.
    fn terms(&self, of: usize) -> Terms {
        let first_page = match self.core.blocked() || self.core.outbox.len() > PAGE_BYTES {
            true => 0,
            // Few sizes, as clients share reads of the same size.
            false => PAGE_BYTES / of.max(1).next_power_of_two(),
        };
        Terms { missed: self.core.hub.limits.recovery_limit, first_page }
    }

    fn subscribe(&mut self, id: u32, request: &SubscribeRequest<'_>, now: Instant) -> Result<Op, CommandError> {
        let channel = Channel::new(&request.channel)?;
        check_supported(request)?;
        let namespace = self.core.hub.namespaces.of(&channel).ok_or(ErrorCode::UnknownChannel)?.clone();
        let requested = Requested::new(channel, namespace, request);
        let subscribing = match self.will_be_granted(&requested) {
            true => Subscribing::Joining(self.join(&requested, self.free_index(), self.protocol.ops.len() + 1, now)),
            false => Subscribing::Requested(requested),
        };
        Ok(Op::Subscribe { id, subscribing })
    }

    /// Whether nothing that waits can change that a subscribe will be granted, so that it may begin at once.
    fn will_be_granted(&self, requested: &Requested) -> bool {
        let Requested { channel, namespace, .. } = requested;
        let identity = || self.waiting_identity();
        !self.protocol.ops.iter().any(|op| matches!(op, Op::Refresh { .. }))
            && identity().is_some_and(|identity| namespace.allows(Right::Subscribe, channel, identity, false))
            && !self.will_be_subscribed(channel.as_str())
            && !self.is_full()
    }

    fn publish(&mut self, id: u32, request: &PublishRequest<'_>) -> Result<Op, CommandError> {
        let channel = Channel::new(&request.channel)?;
        if let Some(member) = request.unsupported {
            return Err(CommandError::unsupported(member));
        }
        let namespace = self.core.hub.namespaces.of(&channel).ok_or(ErrorCode::UnknownChannel)?.clone();
        let data = request.data.filter(|data| !nests_too_deep(data)).ok_or(ErrorCode::BadRequest)?;
        Ok(Op::Publish { id, channel, namespace, data: Payload::Json(json_line(data)?), run: None })
    }

    /// What a publish of this client carries.
    pub(super) fn publication(&self, data: Payload, sampled: Option<&Begun>) -> Arc<Publication> {
        let identity = self.identity();
        let info = ClientInfo {
            user: identity.map_or(String::new(), |identity| identity.user.as_ref().to_owned()),
            client: self.id().to_string(),
            conn_info: identity.and_then(|identity| identity.info.clone()),
        };
        Arc::new(Publication {
            data,
            info: Some(Arc::new(info)),
            time: unix_millis(),
            trace: sampled.map(|sampled| sampled.context.clone()),
            ..Publication::default()
        })
    }

    fn history_query(&mut self, id: u32, request: &HistoryRequest<'_>) -> Result<Op, CommandError> {
        let channel = Channel::new(&request.channel)?;
        let namespace = self.core.hub.namespaces.of(&channel).ok_or(ErrorCode::UnknownChannel)?.clone();
        let most = self.core.hub.limits.history_limit;
        let limit = usize::try_from(request.limit).map_or(most, |limit| limit.min(most));
        let since = request.since.as_ref().map_or(Ok(None), position);
        let limit = PageLimit::new(limit, HISTORY_BYTES);
        let query = since.map(|since| HistoryQuery { since, limit, reverse: request.reverse });
        Ok(Op::History { id, channel, namespace, query, run: None })
    }

    pub(super) fn refresh(&mut self, id: u32, token: &str) {
        let verified = self.core.hub.verify(token);
        let identity = match verified {
            Ok(identity) => identity,
            Err(AuthFailure::Expired) => return self.error(id, ErrorCode::TokenExpired),
            Err(_) => return self.core.close(CloseReason::InvalidToken),
        };
        let Phase::Active(current) = &mut self.protocol.phase else { return self.core.close(CloseReason::BadRequest) };
        if current.user != identity.user {
            self.core.hub.credential_refused(&AuthFailure::invalid("sub", "not the user of the connection"));
            return self.core.close(CloseReason::InvalidToken);
        }
        let ttl = identity.ttl(unix_now());
        self.core.identify(&identity);
        **current = identity;
        self.drop_disallowed();
        self.reschedule();
        let client = self.id().to_string();
        let result = RefreshResult { client: &client, version: self.core.hub.version, ttl };
        self.reply(&Reply::ok(id, Outcome::Refresh(result)));
    }

    /// Ends the subscriptions that the current credential does not allow any more.
    fn drop_disallowed(&mut self) {
        let Phase::Active(identity) = &self.protocol.phase else { return };
        let disallowed: Vec<u32> = (0..self.core.subs.len() as u32)
            .filter(|index| {
                let Some(Some(sub)) = self.core.subs.get(*index as usize) else { return false };
                let namespace = &sub.attachment.channel.shared.namespace;
                let by_server = sub.server_side && identity.channels.contains(sub.channel());
                !by_server && !namespace.allows(Right::Subscribe, sub.channel(), identity, false)
            })
            .collect();
        for index in disallowed {
            self.unsubscribe_push(index, UnsubscribeCode::Server, UnsubscribeCode::Server.reason().into());
        }
    }

    /// The identity that the client has or is about to have: the connected one, or the one whose connect is still waiting.
    fn waiting_identity(&self) -> Option<&Identity> {
        self.identity().or_else(|| self.protocol.ops.iter().find_map(Op::connecting))
    }

    /// Whether there is room for no further channel once every waiting command has had its turn.
    fn is_full(&self) -> bool {
        let limit = self.core.hub.limits.channel_limit;
        let subscribed = self.core.subs.iter().flatten().map(|sub| sub.channel().as_str());
        let joining = self.protocol.ops.iter().filter_map(|op| match op {
            Op::Subscribe { subscribing, .. } => Some(subscribing.channel().as_str()),
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
}

/// An error reply: the code, and a text that says more than the code's own where there is one.
#[derive(Debug)]
pub(super) struct CommandError {
    pub(super) code: ErrorCode,
    text: Option<String>,
}

impl CommandError {
    /// A member asks for what Fanway does not have.
    fn unsupported(member: &'static str) -> Self {
        let text = format!("{}: `{member}` is not supported", ErrorCode::NotAvailable.message());
        Self { code: ErrorCode::NotAvailable, text: Some(text) }
    }

    pub(super) fn body(&mut self) -> ErrorBody {
        let body = ErrorBody::from(self.code);
        match self.text.take() {
            Some(text) => ErrorBody { message: text.into(), ..body },
            None => body,
        }
    }
}

impl From<ErrorCode> for CommandError {
    fn from(code: ErrorCode) -> Self {
        Self { code, text: None }
    }
}

impl From<ChannelError> for CommandError {
    fn from(error: ChannelError) -> Self {
        Self { code: ErrorCode::BadRequest, text: Some(error.to_string()) }
    }
}

impl From<LoneSurrogate> for CommandError {
    fn from(error: LoneSurrogate) -> Self {
        Self { code: ErrorCode::BadRequest, text: Some(format!("data: {error}")) }
    }
}

/// Refuses a subscribe, also one within connect, that asks for what Fanway does not have.
fn check_supported(request: &SubscribeRequest<'_>) -> Result<(), CommandError> {
    if let Some(member) = request.unsupported {
        return Err(CommandError::unsupported(member));
    }
    if !request.token.is_empty() {
        // A credential that is presented but not supported is refused, never ignored.
        return Err(ErrorCode::PermissionDenied.into());
    }
    Ok(())
}

/// `{offset: 0}` without an epoch is how SDKs say "from the start"; any other text that is no epoch lies on no timeline.
fn position(position: &StreamPosition<'_>) -> Result<Option<Position>, ErrorCode> {
    if position.epoch.is_empty() && position.offset == 0 {
        return Ok(None);
    }
    let epoch = Epoch::parse(&position.epoch).ok_or(ErrorCode::UnrecoverablePosition)?;
    Ok(Some(Position { epoch, offset: position.offset }))
}

fn unix_millis() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_millis()
        .try_into()
        .unwrap_or(u64::MAX)
}
