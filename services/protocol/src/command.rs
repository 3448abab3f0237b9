//! Commands of the client protocol, free of codec and framing.
//!
//! A codec decodes what a client sends to a [`Command`]: an id and one [`Method`] with its request. Texts and payloads are
//! borrowed from the received frame where the codec allows it.
//!
//! A member that asks for what Fanway does not have is named (`unsupported`), so that the command is refused: a client
//! that relies on a filter must not get what it filtered out. Members that merely offer something are not decoded.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// A command of a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Echoed in the reply; 0 for commands without one ([`Method::Send`], [`Method::Pong`]).
    pub id: u32,
    /// The request.
    pub method: Method<'a>,
}

/// A client command and its request. Requests of methods that Fanway does not have are not decoded.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "methods are the protocol's own words")]
pub enum Method<'a> {
    Connect(ConnectRequest<'a>),
    Subscribe(SubscribeRequest<'a>),
    Unsubscribe(UnsubscribeRequest<'a>),
    Publish(PublishRequest<'a>),
    Presence,
    PresenceStats,
    History(HistoryRequest<'a>),
    Ping,
    Send,
    Rpc,
    Refresh(RefreshRequest<'a>),
    SubRefresh,
    /// The answer to a ping of the server: a command without id and method.
    Pong,
    /// An id without any method that this build has.
    Unknown,
}

impl Method<'_> {
    /// The protocol's name of the method.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Publish(_) => "publish",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::History(_) => "history",
            Self::Ping => "ping",
            Self::Send => "send",
            Self::Rpc => "rpc",
            Self::Refresh(_) => "refresh",
            Self::SubRefresh => "sub_refresh",
            Self::Pong => "pong",
            Self::Unknown => "unknown",
        }
    }
}

/// The first command of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// A connection token; empty if there is none.
    pub token: Cow<'a, str>,
    /// Name of the SDK; only logged.
    pub name: Cow<'a, str>,
    /// Positions of server-side subscriptions to resume, by channel.
    pub subs: BTreeMap<Cow<'a, str>, SubscribeRequest<'a>>,
}

/// Subscribe, with the position to resume from when `recover` is set.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct SubscribeRequest<'a> {
    pub channel: Cow<'a, str>,
    /// A subscription token; empty if there is none.
    pub token: Cow<'a, str>,
    pub recover: bool,
    pub epoch: Cow<'a, str>,
    pub offset: u64,
    pub positioned: bool,
    pub recoverable: bool,
    /// An unrecoverable position is error 112 instead of a fresh subscription.
    pub error_if_unrecovered: bool,
    /// The member that asks for what Fanway does not have, if one does.
    pub unsupported: Option<&'static str>,
}

/// Leave a channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UnsubscribeRequest<'a> {
    /// The channel's name.
    pub channel: Cow<'a, str>,
}

/// Publish to a channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PublishRequest<'a> {
    /// The channel's name.
    pub channel: Cow<'a, str>,
    /// JSON text: any value but `null`.
    pub data: Option<&'a str>,
    /// The member that asks for what Fanway does not have, if one does.
    pub unsupported: Option<&'static str>,
}

/// Read a page of a channel's history.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HistoryRequest<'a> {
    /// The channel's name.
    pub channel: Cow<'a, str>,
    /// Most publications of the page; 0 asks for the position alone, negative for as many as allowed.
    pub limit: i32,
    /// Only publications after this position.
    pub since: Option<StreamPosition<'a>>,
    /// Newest first.
    pub reverse: bool,
}

/// A position as a client sends it, not validated.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct StreamPosition<'a> {
    pub offset: u64,
    pub epoch: Cow<'a, str>,
}

/// A new token for a live connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RefreshRequest<'a> {
    /// The token.
    pub token: Cow<'a, str>,
}
