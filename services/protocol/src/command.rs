//! Commands of the client protocol in its JSON form.
//!
//! A frame holds one or more commands separated by `\n`. A command has one request member; two are an error of the caller
//! ([`Command::methods`]). Unknown members are ignored; a member given twice makes the command undecodable. As in the
//! protocol's protobuf form, an optional member that is `null` or holds its zero value is absent.
//!
//! Members that ask for what Fanway does not have are read only to be refused ([`SubscribeRequest::unsupported`],
//! [`PublishRequest::unsupported`]): a client that believes in a filter must not get what it filtered out. Members that
//! merely offer something (`flag`, `dict`, `profile`, `headers`, `delta`) are not read at all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// One command. `{}` (no id, no request) is the answer to a ping.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct Command<'a> {
    /// Echoed in the reply; 0 only for `send` and the pong.
    #[serde(default, deserialize_with = "or_default")]
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

impl Command<'_> {
    /// How many requests the command makes. A client means one.
    pub fn methods(&self) -> usize {
        let methods = [
            self.connect.is_some(),
            self.subscribe.is_some(),
            self.unsubscribe.is_some(),
            self.publish.is_some(),
            self.presence.is_some(),
            self.presence_stats.is_some(),
            self.history.is_some(),
            self.ping.is_some(),
            self.send.is_some(),
            self.rpc.is_some(),
            self.refresh.is_some(),
            self.sub_refresh.is_some(),
        ];
        methods.into_iter().map(usize::from).sum()
    }

    /// Whether this is the answer to a ping.
    pub fn is_pong(&self) -> bool {
        self.id == 0 && self.methods() == 0
    }
}

/// The first command of a connection.
#[derive(Debug, Default, Deserialize)]
pub struct ConnectRequest<'a> {
    /// A connection token.
    #[serde(borrow, default, deserialize_with = "text")]
    pub token: Cow<'a, str>,
    /// What the SDK calls itself; only logged.
    #[serde(borrow, default, deserialize_with = "text")]
    pub name: Cow<'a, str>,
    /// Positions of server-side subscriptions to resume, by channel.
    #[serde(borrow, default)]
    pub subs: Option<BTreeMap<Cow<'a, str>, Option<SubscribeRequest<'a>>>>,
}

/// Subscribe, with the position to resume from when `recover` is set.
#[derive(Debug, Default, Deserialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct SubscribeRequest<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub channel: Cow<'a, str>,
    /// A subscription token; refused until those are supported, never ignored.
    #[serde(borrow, default, deserialize_with = "text")]
    pub token: Cow<'a, str>,
    #[serde(default, deserialize_with = "or_default")]
    pub recover: bool,
    #[serde(borrow, default, deserialize_with = "text")]
    pub epoch: Cow<'a, str>,
    #[serde(default, deserialize_with = "or_default")]
    pub offset: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub positioned: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub recoverable: bool,
    #[serde(default, deserialize_with = "or_default")]
    join_leave: bool,
    /// A filter by tags.
    #[serde(borrow)]
    tf: Option<&'a RawValue>,
    /// Another kind of subscription than a stream: a map, a shared poll.
    #[serde(default, deserialize_with = "or_default", rename = "type")]
    kind: i32,
    /// Bit 0: numeric channel ids understood (not used); bit 1: an unrecoverable position is error 112.
    #[serde(default, deserialize_with = "or_default")]
    pub flag: i64,
}

impl SubscribeRequest<'_> {
    /// The member that asks for what Fanway does not have, if one does.
    pub fn unsupported(&self) -> Option<&'static str> {
        let filters = |filter: &RawValue| {
            let members = filter.get().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
            members.is_none_or(|members| !members.trim_ascii().is_empty())
        };
        match self {
            _ if self.kind != 0 => Some("type"),
            _ if self.tf.is_some_and(filters) => Some("tf"),
            _ if self.join_leave => Some("join_leave"),
            _ => None,
        }
    }
}

/// A command about one channel.
#[derive(Debug, Deserialize)]
pub struct ChannelRequest<'a> {
    /// The channel's name.
    #[serde(borrow, default, deserialize_with = "text")]
    pub channel: Cow<'a, str>,
}

/// A client's publish.
#[derive(Debug, Deserialize)]
pub struct PublishRequest<'a> {
    /// The channel's name.
    #[serde(borrow, default, deserialize_with = "text")]
    pub channel: Cow<'a, str>,
    /// Any JSON value but `null`.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    /// The kind of channel: a stream, or a map.
    #[serde(default, deserialize_with = "or_default", rename = "type")]
    kind: i32,
    /// Of a map.
    #[serde(borrow, default, deserialize_with = "text")]
    key: Cow<'a, str>,
    /// Removes a key of a map.
    #[serde(default, deserialize_with = "or_default")]
    removed: bool,
}

impl PublishRequest<'_> {
    /// The member that asks for what Fanway does not have, if one does.
    pub fn unsupported(&self) -> Option<&'static str> {
        match self {
            _ if self.kind != 0 => Some("type"),
            _ if !self.key.is_empty() => Some("key"),
            _ if self.removed => Some("removed"),
            _ => None,
        }
    }
}

/// A read of a channel's history.
#[derive(Debug, Deserialize)]
pub struct HistoryRequest<'a> {
    /// The channel's name.
    #[serde(borrow, default, deserialize_with = "text")]
    pub channel: Cow<'a, str>,
    /// At most so many publications; 0 asks for the position alone, negative for as many as allowed.
    #[serde(default, deserialize_with = "or_default")]
    pub limit: i32,
    /// Only publications after this position.
    #[serde(borrow)]
    pub since: Option<StreamPosition<'a>>,
    /// Newest first.
    #[serde(default, deserialize_with = "or_default")]
    pub reverse: bool,
}

/// A position as clients write it: anything at all until checked.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct StreamPosition<'a> {
    #[serde(default, deserialize_with = "or_default")]
    pub offset: u64,
    #[serde(borrow, default, deserialize_with = "text")]
    pub epoch: Cow<'a, str>,
}

/// A new token for a live connection.
#[derive(Debug, Deserialize)]
pub struct RefreshRequest<'a> {
    /// The token.
    #[serde(borrow, default, deserialize_with = "text")]
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
        return Err(Error::custom("a command is a JSON object"));
    }
    serde_json::from_str(command)
}

/// Reads an optional member: `null` is absence.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The same for a text, which is borrowed where it has no escapes: inside of an `Option` serde would copy it.
fn text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    struct Text;

    impl<'de> Visitor<'de> for Text {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(""))
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_str(self)
        }
    }

    deserializer.deserialize_option(Text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn subscribe(member: &str) -> Option<&'static str> {
        let command = format!(r#"{{"id":1,"subscribe":{{"channel":"a",{member}}}}}"#);
        decode(&command).unwrap().subscribe.unwrap().unsupported()
    }

    fn publish(member: &str) -> Option<&'static str> {
        let command = format!(r#"{{"id":1,"publish":{{"channel":"a","data":1,{member}}}}}"#);
        decode(&command).unwrap().publish.unwrap().unsupported()
    }

    #[test]
    fn names_the_member_that_asks_for_what_there_is_not() {
        assert_eq!(subscribe(r#""type":1"#), Some("type"));
        assert_eq!(subscribe(r#""tf":{"op":"","key":"a","cmp":"eq","val":"b"}"#), Some("tf"));
        assert_eq!(subscribe(r#""tf":[]"#), Some("tf"));
        assert_eq!(subscribe(r#""join_leave":true"#), Some("join_leave"));
        assert_eq!(publish(r#""type":1"#), Some("type"));
        assert_eq!(publish(r#""key":"k""#), Some("key"));
        assert_eq!(publish(r#""removed":true"#), Some("removed"));
    }

    #[test]
    fn a_zero_value_asks_for_nothing() {
        for member in [r#""type":0"#, r#""tf":{ }"#, r#""join_leave":false"#, r#""delta":"fossil""#, r#""flag":1"#] {
            assert_eq!(subscribe(member), None, "{member}");
        }
        for member in [r#""type":0"#, r#""key":"""#, r#""removed":false"#, r#""future":{"a":[1]}"#] {
            assert_eq!(publish(member), None, "{member}");
        }
    }

    /// Every member of every request.
    #[test]
    fn null_is_absence() {
        let requests: [(&str, &[&str]); 6] = [
            ("connect", &["token", "name", "subs", "flag", "dict", "profile", "headers", "data", "version"]),
            (
                "subscribe",
                &[
                    "channel",
                    "token",
                    "recover",
                    "epoch",
                    "offset",
                    "positioned",
                    "recoverable",
                    "join_leave",
                    "tf",
                    "type",
                    "flag",
                    "delta",
                    "data",
                ],
            ),
            ("unsubscribe", &["channel"]),
            ("publish", &["channel", "data", "type", "key", "removed"]),
            ("history", &["channel", "limit", "since", "reverse"]),
            ("refresh", &["token"]),
        ];
        for (method, members) in requests {
            let all: Vec<String> = members.iter().map(|member| format!("\"{member}\":null")).collect();
            let command = format!(r#"{{"id":1,"{method}":{{{}}}}}"#, all.join(","));
            assert_eq!(format!("{:?}", decode(&command).unwrap()), format!("{:?}", bare(method)), "{command}");
        }
        let command = decode(r#"{"id":1,"history":{"since":{"offset":null,"epoch":null}}}"#).unwrap();
        let since = command.history.unwrap().since.unwrap();
        assert_eq!((since.offset, &*since.epoch), (0, ""));
        let none = r#"{"id":null,"connect":null,"subscribe":null,"unsubscribe":null,"publish":null,"presence":null,
            "presence_stats":null,"history":null,"ping":null,"send":null,"rpc":null,"refresh":null,"sub_refresh":null}"#;
        assert_eq!(decode(none).unwrap().methods(), 0);
        let subs = decode(r#"{"id":1,"connect":{"subs":{"a":null}}}"#).unwrap().connect.unwrap().subs.unwrap();
        assert!(subs["a"].is_none());
    }

    fn bare(method: &'static str) -> Command<'static> {
        let command = format!(r#"{{"id":1,"{method}":{{}}}}"#);
        decode(Box::leak(command.into_boxed_str())).unwrap()
    }

    #[test]
    fn texts_are_borrowed_where_they_can_be() {
        let decoded = |command: &'static str| decode(command).unwrap().unsubscribe.unwrap().channel;
        assert!(matches!(decoded(r#"{"unsubscribe":{"channel":"a"}}"#), Cow::Borrowed("a")));
        assert!(matches!(decoded(r#"{"unsubscribe":{"channel":"\u0061"}}"#), Cow::Owned(text) if text == "a"));
        assert!(decode(r#"{"unsubscribe":{"channel":1}}"#).is_err());
    }
}
