//! Rights of clients on channels: decided by token and namespace, or asked of a back end where those do not grant them.

use std::fmt;

use fanway_protocol::{Channel, Right};
use futures_util::future::BoxFuture;

use crate::identity::Identity;
use crate::namespace::Namespace;

/// A right that a client needs, and that neither its token nor the namespace grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Right that is needed.
    pub right: Right,
    /// Channel that it is needed for.
    pub channel: Channel,
    /// Client that needs it.
    pub identity: Identity,
}

/// Answer of a back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The client may.
    Granted,
    /// The client may not.
    Denied,
    /// The back end gave no answer; the client may try again.
    Unavailable,
}

/// Asks a back end. Its answer may take time, and is waited for at most `client.command_timeout`.
pub type Ask = dyn Fn(Question) -> BoxFuture<'static, Decision> + Send + Sync;

/// Authorizer of client commands.
///
/// A right that token or namespace grant is decided without a future, and costs nothing more than the comparison. Only
/// the commands of the one connection wait for a back end, in their order.
#[derive(Default)]
pub enum Authorizer {
    /// What token and namespace do not grant is denied.
    #[default]
    Token,
    /// What token and namespace do not grant is decided by a back end.
    BackEnd(Box<Ask>),
}

/// Authorization of one command.
pub(crate) enum Authorization {
    /// Decided by token and namespace.
    Ready(Decision),
    /// To be decided by a back end.
    Waiting(BoxFuture<'static, Decision>),
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "Token",
            Self::BackEnd(_) => "BackEnd",
        })
    }
}

impl Authorizer {
    /// Decides on a right of a client, which is subscribed to the channel or not.
    pub(crate) fn authorize(
        &self,
        right: Right,
        channel: &Channel,
        namespace: &Namespace,
        identity: &Identity,
        subscribed: bool,
    ) -> Authorization {
        match self {
            _ if namespace.allows(right, channel, identity, subscribed) => Authorization::Ready(Decision::Granted),
            Self::Token => Authorization::Ready(Decision::Denied),
            Self::BackEnd(ask) => {
                let question = Question { right, channel: channel.clone(), identity: identity.clone() };
                Authorization::Waiting(ask(question))
            }
        }
    }
}
