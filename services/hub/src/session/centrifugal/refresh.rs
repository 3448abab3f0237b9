//! Refresh: the client presents a new token.

use fanway_protocol::reply::{Outcome, RefreshResult, Reply};
use fanway_protocol::{ErrorCode, Right, UnsubscribeCode};

use super::{ClientSession, Phase};
use crate::channel::Trait;
use crate::close_reason::CloseReason;
use crate::hub::unix_now;
use crate::identity::AuthFailure;

/// A waiting refresh.
pub(super) struct Refresh {
    pub(super) token: String,
}

impl Refresh {
    pub(super) fn run(&self, id: u32, session: &mut ClientSession) {
        let verified = session.core.hub.verify(&self.token);
        let identity = match verified {
            Ok(identity) => identity,
            Err(AuthFailure::Expired) => return session.error(id, ErrorCode::TokenExpired),
            Err(_) => return session.core.close(CloseReason::InvalidToken),
        };
        let Phase::Active(current) = &mut session.protocol.phase else {
            return session.core.close(CloseReason::BadRequest);
        };
        if current.user != identity.user {
            session.core.hub.credential_refused(&AuthFailure::invalid("sub", "not the user of the connection"));
            return session.core.close(CloseReason::InvalidToken);
        }
        let ttl = identity.ttl(unix_now());
        session.core.identify(&identity);
        **current = identity;
        session.drop_disallowed();
        session.reschedule();
        let client = session.id().to_string();
        let result = RefreshResult { client: &client, version: session.core.hub.version, ttl };
        session.reply(&Reply::ok(id, Outcome::Refresh(result)));
    }
}

impl ClientSession {
    /// Ends the subscriptions that the current credential does not allow any more.
    fn drop_disallowed(&mut self) {
        let Phase::Active(identity) = &self.protocol.phase else { return };
        let disallowed: Vec<u32> = (0..self.core.subs.len() as u32)
            .filter(|index| {
                let Some(Some(sub)) = self.core.subs.get(*index as usize) else { return false };
                let namespace = &sub.attachment.channel.shared.namespace;
                let by_server = sub.is(Trait::ServerSide) && identity.channels.contains(sub.channel());
                !by_server
                    && !sub.is(Trait::ByBackEnd)
                    && !namespace.allows(Right::Subscribe, sub.channel(), identity, false)
            })
            .collect();
        for index in disallowed {
            self.unsubscribe_push(index, UnsubscribeCode::Server, UnsubscribeCode::Server.reason().into());
        }
    }
}
