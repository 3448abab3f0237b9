//! Connect: the client presents its credential, and joins the channels that it is subscribed to by its token.

use std::collections::BTreeMap;
use std::task::{Context, Poll};
use std::time::Instant;

use fanway_broker::log_limited;
use fanway_broker::trace::Begun;
use fanway_protocol::ErrorCode;
use fanway_protocol::command::{ConnectRequest, SubscribeRequest};
use fanway_protocol::reply::{ConnectResult, Outcome, Reply};

use super::queue::{Failure, Op, Turned};
use super::subscribe::{Joining, Requested, check_supported};
use super::{ClientSession, Phase};
use crate::attach::Terms;
use crate::close_reason::CloseReason;
use crate::hub::unix_now;
use crate::identity::{AuthFailure, Identity};
use crate::quota::{CHARGED, Kind, Payer};

/// A connect whose token is verified.
pub(super) struct Connect {
    /// Until its turn.
    pub(super) identity: Option<Identity>,
    /// Subscriptions that the server makes.
    pub(super) joining: Vec<Joining>,
    /// Set while its user has used up its quota of connects.
    held: Option<Box<Held>>,
}

/// Wait of a connect for its user's quota.
struct Held {
    /// Subscriptions that the server will make.
    requested: Vec<Requested>,
    /// When it is tried again.
    until: Instant,
    /// End of the wait.
    deadline: Instant,
}

impl Connect {
    /// When it is tried again, if it waits for its quota.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.until)
    }

    /// Waits for the quota, where that is used up; subscribes what was joined, and answers. On an error nothing is answered
    /// yet.
    pub(super) fn run(&mut self, id: u32, session: &mut ClientSession, cx: &mut Context<'_>, now: Instant) -> Turned {
        if !self.is_admitted(session, cx, now) {
            return Poll::Pending;
        }
        Poll::Ready(self.answer(id, session, now))
    }

    /// Whether the quota has room and the channels are joined.
    fn is_admitted(&mut self, session: &mut ClientSession, cx: &mut Context<'_>, now: Instant) -> bool {
        let (Some(mut held), Some(identity)) = (self.held.take(), &self.identity) else { return true };
        if now >= held.until {
            let payer = session.core.hub.payer(identity, session.protocol.rare.address());
            let quotas = &session.core.hub.quotas;
            let debt = quotas.debt(payer, &CHARGED, now).map_or(Ok(()), Err);
            match debt.and_then(|()| quotas.take(payer, Kind::Connects, 1, now)) {
                Ok(()) => {
                    self.joining = session.join_all(&held.requested, now);
                    // Each of them, not only the first that waits.
                    return self.joining.iter_mut().filter_map(|it| it.poll(cx).is_pending().then_some(())).count()
                        == 0;
                }
                Err(limited) => held.until = now + limited.wait,
            }
        }
        if held.until > held.deadline {
            session.core.close(CloseReason::TooManyRequests);
        }
        self.held = Some(held);
        false
    }

    fn answer(&mut self, id: u32, session: &mut ClientSession, now: Instant) -> Result<(), Failure> {
        let Some(identity) = self.identity.take() else { return Ok(()) };
        let mut subs = BTreeMap::new();
        for mut joining in std::mem::take(&mut self.joining) {
            let result = session.joined(&mut joining, true)?;
            subs.insert(joining.channel.as_str().to_owned(), result);
        }
        let client = session.id().to_string();
        let ping = session.core.hub.limits.ping_interval.as_secs().max(1) as u32;
        let result = ConnectResult {
            client: &client,
            version: session.core.hub.version,
            ttl: identity.ttl(unix_now()),
            subs,
            ping,
            pong: true,
        };
        session.reply(&Reply::ok(id, Outcome::Connect(result)));
        session.activate(identity, now);
        Ok(())
    }
}

impl ClientSession {
    /// Begins a connect: the token is verified at once, and what it subscribes to is joined.
    pub(super) fn on_connect(&mut self, id: u32, request: &ConnectRequest<'_>, sampled: Option<Begun>, now: Instant) {
        let Phase::Unauthenticated { presented, deadline } = &mut self.protocol.phase else {
            return self.core.close(CloseReason::BadRequest);
        };
        let deadline = *deadline;
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
        if let Err(failure) = &verified {
            // Counted; what the client is answered is as final as it would be otherwise, so that it does not come back.
            let _ = hub.admit_failure(self.protocol.rare.address(), failure);
        }
        match verified {
            Ok(identity) => {
                log_limited!(DEBUG, client = %self.id(), sdk = %request.name.escape_debug(), "connecting");
                // Without a token the session is found by what came with the HTTP request already, or by nothing.
                if !request.token.is_empty() {
                    self.core.identify(&identity);
                }
                self.core.check_connections(&identity);
                if self.core.closing.is_some() {
                    return;
                }
                // No deadline is added: mostly the connect is done in a moment, and then activation has those that follow.
                self.protocol.phase = Phase::Connecting;
                match self.server_side(&identity, request) {
                    Ok(requested) => {
                        let connect = self.admit(identity, requested, deadline, now);
                        let held = connect.held.is_some();
                        self.protocol.ops.push_back(id, Op::Connect(connect), sampled);
                        if held {
                            self.reschedule();
                        }
                    }
                    Err(code) => {
                        sampled.iter().for_each(|sampled| sampled.failed(code.message()));
                        self.connect_failed(id, code, now);
                    }
                }
            }
            // The client may come back with a new token, so it is answered and not closed.
            Err(AuthFailure::Expired) => self.connect_failed(id, ErrorCode::TokenExpired, now),
            Err(AuthFailure::Missing) => self.connect_failed(id, ErrorCode::Unauthorized, now),
            Err(AuthFailure::Invalid { .. }) => self.core.close(CloseReason::InvalidToken),
        }
    }

    /// A connect that begins at once, or waits where its user has connected too often, or is in debt for what other
    /// connections have sent.
    fn admit(&self, identity: Identity, requested: Vec<Requested>, deadline: Instant, now: Instant) -> Connect {
        let payer = self.core.hub.payer(&identity, self.protocol.rare.address());
        let hub = &self.core.hub;
        let debt = hub.quotas.debt(payer, &CHARGED, now).map_or(Ok(()), Err);
        let (joining, held) = match debt.and_then(|()| hub.take(payer, Kind::Connects, 1, now)) {
            Ok(()) => (self.join_all(&requested, now), None),
            Err(limited) => (Vec::new(), Some(Box::new(Held { requested, until: now + limited.wait, deadline }))),
        };
        Connect { identity: Some(identity), joining, held }
    }

    /// Begins to join the channels that the server subscribes the client to. What its issuer signed counts against no quota.
    fn join_all(&self, requested: &[Requested], now: Instant) -> Vec<Joining> {
        let terms = Terms { payer: Payer::Nobody, ..self.terms(requested.len()) };
        let joins = (0..).zip(requested).map(|(index, requested)| self.join(requested, index, terms, now));
        joins.collect()
    }

    /// Subscriptions that the token asks the server to make.
    fn server_side(&mut self, identity: &Identity, request: &ConnectRequest<'_>) -> Result<Vec<Requested>, ErrorCode> {
        let limits = &self.core.hub.limits;
        if identity.channels.len() > limits.channel_limit {
            return Err(ErrorCode::LimitExceeded);
        }
        let none = SubscribeRequest::default();
        for resume in request.subs.values() {
            check_supported(resume).map_err(|error| error.code)?;
        }
        let mut requested = Vec::with_capacity(identity.channels.len());
        for channel in &identity.channels {
            let namespace = self.core.hub.namespaces.of(channel).ok_or(ErrorCode::UnknownChannel)?.clone();
            let resume = request.subs.get(channel.as_str()).unwrap_or(&none);
            requested.push(Requested::new(channel.clone(), namespace, resume));
        }
        Ok(requested)
    }

    /// Answers a connect with an error, and leaves the session unusable: SDKs send subscribes along with connect and come
    /// back with a new token, so what follows is ignored. The session ends as stale unless the client leaves first.
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
}
