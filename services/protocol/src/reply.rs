//! What servers say: replies and pushes of the client protocol in its JSON form.
//!
//! Members that hold their zero value are left out, as the SDKs expect, but for the few that the protocol always writes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::channel::Channel;
use crate::codes::ErrorCode;
use crate::position::{Epoch, GapReason, Position};
use crate::publication::{ClientInfo, Publication, Tags, raw_json};

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A reply to the command with the same id.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct Reply<'a> {
    pub id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectResult<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<SubscribeResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribe: Option<Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshResult<'a>>,
}

/// `{}`.
#[derive(Debug, Default, Serialize)]
pub struct Empty {}

/// An error reply's body.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct ErrorBody {
    pub code: u32,
    /// The protocol's text for the code, or one that says more.
    pub message: Cow<'static, str>,
    #[serde(skip_serializing_if = "is_zero")]
    pub temporary: bool,
}

impl From<ErrorCode> for ErrorBody {
    fn from(code: ErrorCode) -> Self {
        Self { code: code.code(), message: code.message().into(), temporary: code.temporary() }
    }
}

/// The answer to connect.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct ConnectResult<'a> {
    pub client: &'a str,
    pub version: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub expires: bool,
    /// Seconds until the token expires.
    #[serde(skip_serializing_if = "is_zero")]
    pub ttl: u32,
    /// Server-side subscriptions made by this connect.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subs: BTreeMap<String, SubscribeResult>,
    /// Seconds between the server's pings.
    #[serde(skip_serializing_if = "is_zero")]
    pub ping: u32,
    /// Whether pings want an answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub pong: bool,
}

/// The answer to subscribe.
///
/// Recovered: `offset` is the position recovered from, `epoch` the current one, then the missed publications. Not
/// recovered: the current position.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct SubscribeResult {
    #[serde(skip_serializing_if = "is_zero")]
    pub recoverable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publications: Vec<WirePublication>,
    #[serde(skip_serializing_if = "is_zero")]
    pub recovered: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub positioned: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub was_recovering: bool,
}

/// The answer to history.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct HistoryResult {
    pub publications: Vec<WirePublication>,
    pub epoch: Epoch,
    pub offset: u64,
}

/// The answer to refresh.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct RefreshResult<'a> {
    pub client: &'a str,
    pub version: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub expires: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub ttl: u32,
}

/// A publication as the client protocol writes it.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct WirePublication {
    #[serde(serialize_with = "raw_json")]
    pub data: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<std::sync::Arc<ClientInfo>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    #[serde(skip_serializing_if = "is_zero")]
    pub time: u64,
    /// Only on the first publication of an epoch, so that the client's next resume names the right line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

impl WirePublication {
    /// The wire form of a publication at a place in the log, if it has one.
    pub fn new(publication: &Publication, position: Option<Position>) -> Self {
        Self {
            data: Some(publication.data.clone()),
            info: publication.info.clone(),
            offset: position.map_or(0, |position| position.offset),
            tags: publication.tags.clone(),
            time: publication.time,
            epoch: None,
        }
    }
}

/// Something the server says unasked: `{"push":{...}}`.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct Push<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<&'a str>,
    #[serde(rename = "pub", skip_serializing_if = "Option::is_none")]
    pub publication: Option<WirePublication>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribe: Option<CodeReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnect: Option<CodeReason>,
}

/// Why the server ended something.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct CodeReason {
    pub code: u32,
    pub reason: Cow<'static, str>,
}

/// The envelope of a push.
#[derive(Debug, Serialize)]
pub struct PushFrame<'a> {
    /// The push.
    pub push: Push<'a>,
}

/// A publication as SSE, polling and the history page write it: everything a client needs to go on over any transport.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    /// The channel's name.
    pub channel: &'a str,
    /// Offset on the line; absent for channels without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The line; absent for channels without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The published JSON value.
    #[serde(serialize_with = "raw_json")]
    pub data: Option<Bytes>,
    /// Tags, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// Who published, when a client did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<std::sync::Arc<ClientInfo>>,
    /// When the publishing node took it, in milliseconds since 1970.
    pub time: u64,
}

impl<'a> Event<'a> {
    /// The event form of a publication.
    pub fn new(channel: &'a str, publication: &Publication, position: Option<Position>) -> Self {
        Self {
            channel,
            offset: position.map(|position| position.offset),
            epoch: position.map(|position| position.epoch),
            data: Some(publication.data.clone()),
            tags: publication.tags.clone(),
            info: publication.info.clone(),
            time: publication.time,
        }
    }
}

/// A gap as SSE and polling write it.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Gap<'a> {
    /// The channel's name.
    pub channel: &'a str,
    /// A word of [`crate::GapReason`].
    pub reason: &'static str,
    /// Where the stream goes on; absent for channels without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Where the stream goes on; absent for channels without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

impl<'a> Gap<'a> {
    /// The gap after which a channel's stream continues at a position.
    pub fn new(channel: &'a Channel, reason: GapReason, position: Option<Position>) -> Self {
        Self {
            channel: channel.as_str(),
            reason: reason.as_str(),
            offset: position.map(|position| position.offset),
            epoch: position.map(|position| position.epoch),
        }
    }
}
