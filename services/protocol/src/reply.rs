//! Replies and pushes of the client protocol, free of codec and framing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codes::ErrorCode;
use crate::position::{Epoch, Position};
use crate::publication::Publication;

/// A reply to the command with the same id.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The command's id.
    pub id: u32,
    /// Result of the command.
    pub result: Result<Outcome<'a>, ErrorBody>,
}

impl<'a> Reply<'a> {
    /// A success.
    pub fn ok(id: u32, outcome: Outcome<'a>) -> Self {
        Self { id, result: Ok(outcome) }
    }

    /// An error.
    pub fn error(id: u32, error: impl Into<ErrorBody>) -> Self {
        Self { id, result: Err(error.into()) }
    }
}

/// Result of a successful command, by its method.
#[derive(Debug)]
#[allow(missing_docs, reason = "methods are the protocol's own words")]
pub enum Outcome<'a> {
    Connect(ConnectResult<'a>),
    Subscribe(SubscribeResult),
    Unsubscribe,
    Publish,
    History(HistoryResult),
    Ping,
    Refresh(RefreshResult<'a>),
}

/// Body of an error reply.
#[derive(Debug)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct ErrorBody {
    pub code: u32,
    /// The protocol's text for the code, or a more specific one.
    pub message: Cow<'static, str>,
    /// The same command may succeed later.
    pub temporary: bool,
}

impl From<ErrorCode> for ErrorBody {
    fn from(code: ErrorCode) -> Self {
        Self { code: code.code(), message: code.message().into(), temporary: code.temporary() }
    }
}

/// Result of connect.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct ConnectResult<'a> {
    pub client: &'a str,
    pub version: &'a str,
    /// Seconds until the token expires, if it does.
    pub ttl: Option<u32>,
    /// Server-side subscriptions made by this connect.
    pub subs: BTreeMap<String, SubscribeResult>,
    /// Seconds between the server's pings.
    pub ping: u32,
    /// Pings expect an answer.
    pub pong: bool,
}

/// Result of subscribe.
///
/// Recovered: `offset` is the position recovered from, `epoch` the current one, then the missed publications. Not
/// recovered: the current position.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct SubscribeResult {
    pub recoverable: bool,
    pub epoch: Option<Epoch>,
    pub publications: Vec<(Position, Arc<Publication>)>,
    pub recovered: bool,
    pub offset: u64,
    pub positioned: bool,
    pub was_recovering: bool,
}

/// Result of history.
#[derive(Debug)]
pub struct HistoryResult {
    /// Publications in the order requested.
    pub publications: Vec<(Position, Arc<Publication>)>,
    /// The newest position of the channel.
    pub top: Position,
}

/// Result of refresh.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct RefreshResult<'a> {
    pub client: &'a str,
    pub version: &'a str,
    /// Seconds until the new token expires, if it does.
    pub ttl: Option<u32>,
}

/// A message that the server sends without a command.
#[derive(Debug)]
pub enum Push<'a> {
    /// A publication in a channel.
    Publication {
        /// The channel's name.
        channel: &'a str,
        /// The publication.
        publication: &'a Publication,
        /// Its position; `None` in a channel without history.
        position: Option<Position>,
        /// First publication of its epoch: carries the epoch, so that the client's next resume names the right timeline.
        first_of_epoch: bool,
    },
    /// The server ended a subscription.
    Unsubscribe {
        /// The channel's name.
        channel: &'a str,
        /// A number of [`crate::UnsubscribeCode`].
        code: u32,
        /// The protocol's text for the code, or a more specific one.
        reason: Cow<'static, str>,
    },
}
