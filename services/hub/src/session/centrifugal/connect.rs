//! Connect: the client presents its credential, and joins the channels that it is subscribed to by its token.

use std::collections::BTreeMap;
use std::time::Instant;

use fanway_broker::log_limited;
use fanway_broker::trace::Begun;
use fanway_protocol::ErrorCode;
use fanway_protocol::command::{ConnectRequest, SubscribeRequest};
use fanway_protocol::reply::{ConnectResult, Outcome, Reply};

use super::queue::{Failure, Op};
use super::subscribe::{Joining, Requested, check_supported};
use super::{ClientSession, Phase};
use crate::close_reason::CloseReason;
use crate::hub::unix_now;
use crate::identity::{AuthFailure, Identity};

/// A connect whose token is verified.
pub(super) struct Connect {
    /// Until its turn.
    pub(super) identity: Option<Identity>,
    /// Subscriptions that the server makes.
    pub(super) joining: Vec<Joining>,
}

impl Connect {
    /// Subscribes what was joined, and answers. On an error nothing is answered yet.
    pub(super) fn run(&mut self, id: u32, session: &mut ClientSession, now: Instant) -> Result<(), Failure> {
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
                // Without a token the session is found by what came with the HTTP request already, or by nothing.
                if !request.token.is_empty() {
                    self.core.identify(&identity);
                }
                // No deadline is added: mostly the connect is done in a moment, and then activation has those that follow.
                self.protocol.phase = Phase::Connecting;
                match self.server_side(&identity, request, now) {
                    Ok(joining) => {
                        let connect = Connect { identity: Some(identity), joining };
                        self.protocol.ops.push_back(id, Op::Connect(connect), sampled);
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
