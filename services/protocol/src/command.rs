//! What clients say: commands of the client protocol in its JSON form.
//!
//! A frame holds one or more commands parted by `\n`. Of the request members only the first present one, in the order of
//! the protocol's numbers, is honoured. Unknown members are ignored; a member given twice makes the command undecodable.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One command. `{}` (no id, no request) is the answer to a ping.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct Command<'a> {
    /// Echoed in the reply; 0 only for `send` and the pong.
    #[serde(default)]
    pub id: u32,
    #[serde(borrow)]
    pub connect: Option<ConnectRequest<'a>>,
    #[serde(borrow)]
    pub subscribe: Option<SubscribeRequest<'a>>,
    #[serde(borrow)]
    pub unsubscribe: Option<ChannelRequest<'a>>,
    #[serde(borrow)]
    pub publish: Option<PublishRequest<'a>>,
    #[serde(borrow)]
    pub presence: Option<&'a RawValue>,
    #[serde(borrow)]
    pub presence_stats: Option<&'a RawValue>,
    #[serde(borrow)]
    pub history: Option<HistoryRequest<'a>>,
    #[serde(borrow)]
    pub ping: Option<&'a RawValue>,
    #[serde(borrow)]
    pub send: Option<&'a RawValue>,
    #[serde(borrow)]
    pub rpc: Option<&'a RawValue>,
    #[serde(borrow)]
    pub refresh: Option<RefreshRequest<'a>>,
    #[serde(borrow)]
    pub sub_refresh: Option<&'a RawValue>,
}

/// The first command of a connection.
#[derive(Debug, Default, Deserialize)]
pub struct ConnectRequest<'a> {
    /// A connection token.
    #[serde(borrow, default)]
    pub token: Cow<'a, str>,
    /// What the SDK calls itself; only logged.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// Positions of server-side subscriptions to resume, by channel.
    #[serde(borrow, default)]
    pub subs: Option<BTreeMap<Cow<'a, str>, SubscribeRequest<'a>>>,
}

/// Subscribe, with the position to resume from when `recover` is set.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct SubscribeRequest<'a> {
    #[serde(borrow, default)]
    pub channel: Cow<'a, str>,
    /// A subscription token; refused until those are supported, never ignored.
    #[serde(borrow, default)]
    pub token: Cow<'a, str>,
    #[serde(default)]
    pub recover: bool,
    #[serde(borrow, default)]
    pub epoch: Cow<'a, str>,
    #[serde(default)]
    pub offset: u64,
    #[serde(default)]
    pub positioned: bool,
    #[serde(default)]
    pub recoverable: bool,
    /// Bit 0: numeric channel ids understood (not used); bit 1: an unrecoverable position is error 112.
    #[serde(default)]
    pub flag: i64,
}

/// A command about one channel.
#[derive(Debug, Deserialize)]
pub struct ChannelRequest<'a> {
    /// The channel's name.
    #[serde(borrow, default)]
    pub channel: Cow<'a, str>,
}

/// A client's publish.
#[derive(Debug, Deserialize)]
pub struct PublishRequest<'a> {
    /// The channel's name.
    #[serde(borrow, default)]
    pub channel: Cow<'a, str>,
    /// Any JSON value.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
}

/// A read of a channel's history.
#[derive(Debug, Deserialize)]
pub struct HistoryRequest<'a> {
    /// The channel's name.
    #[serde(borrow, default)]
    pub channel: Cow<'a, str>,
    /// At most so many publications; 0 asks for the position alone, negative for as many as allowed.
    #[serde(default)]
    pub limit: i32,
    /// Only publications after this position.
    #[serde(borrow)]
    pub since: Option<StreamPosition<'a>>,
    /// Newest first.
    #[serde(default)]
    pub reverse: bool,
}

/// A position as clients write it: anything at all until checked.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct StreamPosition<'a> {
    #[serde(default)]
    pub offset: u64,
    #[serde(borrow, default)]
    pub epoch: Cow<'a, str>,
}

/// A new token for a live connection.
#[derive(Debug, Deserialize)]
pub struct RefreshRequest<'a> {
    /// The token.
    #[serde(borrow, default)]
    pub token: Cow<'a, str>,
}

/// Splits a frame into its commands: one `\n` between them, one more allowed at the end.
///
/// An error means the frame is not of the protocol (empty, or with something that is not a command).
pub fn decode_frame(frame: &str) -> impl Iterator<Item = Result<Command<'_>, serde_json::Error>> {
    frame.strip_suffix('\n').unwrap_or(frame).split('\n').map(decode)
}

fn decode(command: &str) -> Result<Command<'_>, serde_json::Error> {
    // Serde would take the members from an array as well, in their order here.
    if !command.trim_ascii_start().starts_with('{') {
        return Err(serde::de::Error::custom("a command is a JSON object"));
    }
    serde_json::from_str(command)
}
