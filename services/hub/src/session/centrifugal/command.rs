//! Commands of the client protocol: each is read here, and put into the queue.

use std::sync::Arc;
use std::time::Instant;

use fanway_protocol::command::{Command, Method};
use fanway_protocol::publication::LoneSurrogate;
use fanway_protocol::reply::ErrorBody;
use fanway_protocol::{Channel, ChannelError, ErrorCode};

use super::history::History;
use super::publish::Publish;
use super::queue::Op;
use super::refresh::Refresh;
use super::subscribe::Subscribe;
use super::unsubscribe::Unsubscribe;
use super::{ClientSession, Phase};
use crate::close_reason::CloseReason;
use crate::namespace::Namespace;

impl ClientSession {
    /// Takes a command: what it says by itself is checked here, what the client may do in the command's turn.
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
            Method::Send => return self.protocol.ops.push_back(id, Op::Send, None),
            Method::Pong => return self.on_pong(),
            _ if id == 0 => return self.core.close(CloseReason::BadRequest),
            _ => {}
        }
        let sampled = self.core.hub.trace_command(|| method.name());
        let op = match method {
            Method::Subscribe(request) => Subscribe::new(self, &request, now).map(Op::Subscribe),
            Method::Unsubscribe(request) => Ok(Op::Unsubscribe(Unsubscribe { channel: request.channel.into_owned() })),
            Method::Publish(request) => Publish::new(self, &request).map(Op::Publish),
            Method::History(request) => History::new(self, &request).map(Op::History),
            Method::Ping => Ok(Op::Ping),
            Method::Refresh(request) => Ok(Op::Refresh(Refresh { token: request.token.into_owned() })),
            Method::Presence | Method::PresenceStats | Method::Rpc | Method::SubRefresh => {
                Err(ErrorCode::NotAvailable.into())
            }
            Method::Unknown | Method::Connect(_) | Method::Send | Method::Pong => Err(ErrorCode::MethodNotFound.into()),
        };
        self.protocol.ops.push_back(id, op.unwrap_or_else(Op::Refused), sampled);
    }

    /// Namespace of a channel that a command names.
    pub(super) fn namespace(&self, channel: &Channel) -> Result<Arc<Namespace>, ErrorCode> {
        self.core.hub.namespaces.of(channel).cloned().ok_or(ErrorCode::UnknownChannel)
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
    pub(super) fn unsupported(member: &'static str) -> Self {
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
