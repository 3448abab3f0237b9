//! Decoder of commands.
//!
//! A frame holds one or more commands separated by `\n`. A command has one method member at most; a second one, or any
//! known member given twice, makes it undecodable. Unknown members are ignored. As in the protocol's protobuf codec, an
//! optional member that is `null` or holds its zero value is absent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::command::{
    Command, ConnectRequest, HistoryRequest, Method, PublishRequest, RefreshRequest, StreamPosition, SubscribeRequest,
    UnsubscribeRequest,
};

/// Bit of a subscribe's `flag`: an unrecoverable position is an error. (Bit 0, numeric channel ids, is not used.)
const ERROR_IF_UNRECOVERED: i64 = 2;

/// Splits a frame into its commands: one `\n` between them, one more allowed at the end.
///
/// # Errors
/// The frame is not of the protocol: empty, or with an undecodable command.
pub fn decode(frame: &str) -> impl Iterator<Item = Result<Command<'_>, serde_json::Error>> {
    let commands = frame.strip_suffix('\n').unwrap_or(frame).split('\n');
    commands.map(|command| serde_json::from_str(command).map(|Members(command)| command))
}

/// A member of a command.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Member {
    Id,
    Connect,
    Subscribe,
    Unsubscribe,
    Publish,
    Presence,
    PresenceStats,
    History,
    Ping,
    Send,
    Rpc,
    Refresh,
    SubRefresh,
    #[serde(other)]
    Unknown,
}

/// A command, read member by member.
struct Members<'a>(Command<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CommandVisitor).map(Self)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Command<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut id, mut method, mut seen) = (0, None, 0_u16);
        while let Some(member) = members.next_key::<Member>()? {
            let bit = 1 << member as u16;
            if seen & bit != 0 && member != Member::Unknown {
                return Err(Error::custom("a member is given twice"));
            }
            seen |= bit;
            let requested = match member {
                Member::Id => {
                    id = members.next_value::<Option<u32>>()?.unwrap_or_default();
                    None
                }
                Member::Unknown => {
                    members.next_value::<IgnoredAny>()?;
                    None
                }
                method => request(method, &mut members)?,
            };
            if requested.is_some() {
                if method.is_some() {
                    return Err(Error::custom("a command has two methods"));
                }
                method = requested;
            }
        }
        let method = method.unwrap_or(if id == 0 { Method::Pong } else { Method::Unknown });
        Ok(Command { id, method })
    }
}

/// Reads the value of a method member; `null` is absence.
fn request<'de, A: MapAccess<'de>>(member: Member, members: &mut A) -> Result<Option<Method<'de>>, A::Error> {
    fn read<'de, R: Deserialize<'de> + Into<Method<'de>>, A: MapAccess<'de>>(
        members: &mut A,
    ) -> Result<Option<Method<'de>>, A::Error> {
        Ok(members.next_value::<Option<R>>()?.map(R::into))
    }
    let method = match member {
        Member::Connect => return read::<Connect<'_>, A>(members),
        Member::Subscribe => return read::<Subscribe<'_>, A>(members),
        Member::Unsubscribe => return read::<Unsubscribe<'_>, A>(members),
        Member::Publish => return read::<Publish<'_>, A>(members),
        Member::History => return read::<History<'_>, A>(members),
        Member::Refresh => return read::<Refresh<'_>, A>(members),
        Member::Presence => Method::Presence,
        Member::PresenceStats => Method::PresenceStats,
        Member::Ping => Method::Ping,
        Member::Send => Method::Send,
        Member::Rpc => Method::Rpc,
        Member::SubRefresh => Method::SubRefresh,
        Member::Id | Member::Unknown => return Ok(None),
    };
    // The request of such a method is not read.
    Ok(members.next_value::<Option<IgnoredAny>>()?.map(|_| method))
}

#[derive(Deserialize)]
struct Connect<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    token: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    subs: Option<BTreeMap<Cow<'a, str>, Option<Subscribe<'a>>>>,
}

impl<'a> From<Connect<'a>> for Method<'a> {
    fn from(request: Connect<'a>) -> Self {
        let Connect { token, name, subs } = request;
        let subs = subs.into_iter().flatten();
        let subs = subs.filter_map(|(channel, request)| Some((channel, request?.into()))).collect();
        Self::Connect(ConnectRequest { token, name, subs })
    }
}

#[derive(Deserialize)]
struct Subscribe<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    channel: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    token: Cow<'a, str>,
    #[serde(default, deserialize_with = "or_default")]
    recover: bool,
    #[serde(borrow, default, deserialize_with = "text")]
    epoch: Cow<'a, str>,
    #[serde(default, deserialize_with = "or_default")]
    offset: u64,
    #[serde(default, deserialize_with = "or_default")]
    positioned: bool,
    #[serde(default, deserialize_with = "or_default")]
    recoverable: bool,
    #[serde(default, deserialize_with = "or_default")]
    join_leave: bool,
    /// A filter by tags.
    #[serde(borrow)]
    tf: Option<&'a RawValue>,
    /// Another kind of subscription than a stream: a map, a shared poll.
    #[serde(default, deserialize_with = "or_default", rename = "type")]
    kind: i32,
    #[serde(default, deserialize_with = "or_default")]
    flag: i64,
}

impl<'a> From<Subscribe<'a>> for Method<'a> {
    fn from(request: Subscribe<'a>) -> Self {
        Self::Subscribe(request.into())
    }
}

impl<'a> From<Subscribe<'a>> for SubscribeRequest<'a> {
    fn from(request: Subscribe<'a>) -> Self {
        let filters = |filter: &RawValue| {
            let members = filter.get().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
            members.is_none_or(|members| !members.trim_ascii().is_empty())
        };
        let unsupported = match &request {
            _ if request.kind != 0 => Some("type"),
            _ if request.tf.is_some_and(filters) => Some("tf"),
            _ if request.join_leave => Some("join_leave"),
            _ => None,
        };
        let Subscribe { channel, token, recover, epoch, offset, positioned, recoverable, flag, .. } = request;
        let error_if_unrecovered = flag & ERROR_IF_UNRECOVERED != 0;
        Self { channel, token, recover, epoch, offset, positioned, recoverable, error_if_unrecovered, unsupported }
    }
}

#[derive(Deserialize)]
struct Unsubscribe<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    channel: Cow<'a, str>,
}

impl<'a> From<Unsubscribe<'a>> for Method<'a> {
    fn from(request: Unsubscribe<'a>) -> Self {
        Self::Unsubscribe(UnsubscribeRequest { channel: request.channel })
    }
}

#[derive(Deserialize)]
struct Publish<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// The kind of channel: a stream, or a map.
    #[serde(default, deserialize_with = "or_default", rename = "type")]
    kind: i32,
    /// A key of a map.
    #[serde(borrow, default, deserialize_with = "text")]
    key: Cow<'a, str>,
    /// Removes a key of a map.
    #[serde(default, deserialize_with = "or_default")]
    removed: bool,
}

impl<'a> From<Publish<'a>> for Method<'a> {
    fn from(request: Publish<'a>) -> Self {
        let unsupported = match &request {
            _ if request.kind != 0 => Some("type"),
            _ if !request.key.is_empty() => Some("key"),
            _ if request.removed => Some("removed"),
            _ => None,
        };
        let data = request.data.map(RawValue::get);
        Self::Publish(PublishRequest { channel: request.channel, data, unsupported })
    }
}

#[derive(Deserialize)]
struct History<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    channel: Cow<'a, str>,
    #[serde(default, deserialize_with = "or_default")]
    limit: i32,
    #[serde(borrow)]
    since: Option<Since<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    reverse: bool,
}

#[derive(Deserialize)]
struct Since<'a> {
    #[serde(default, deserialize_with = "or_default")]
    offset: u64,
    #[serde(borrow, default, deserialize_with = "text")]
    epoch: Cow<'a, str>,
}

impl<'a> From<History<'a>> for Method<'a> {
    fn from(request: History<'a>) -> Self {
        let History { channel, limit, since, reverse } = request;
        let since = since.map(|Since { offset, epoch }| StreamPosition { offset, epoch });
        Self::History(HistoryRequest { channel, limit, since, reverse })
    }
}

#[derive(Deserialize)]
struct Refresh<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    token: Cow<'a, str>,
}

impl<'a> From<Refresh<'a>> for Method<'a> {
    fn from(request: Refresh<'a>) -> Self {
        Self::Refresh(RefreshRequest { token: request.token })
    }
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
mod tests;
