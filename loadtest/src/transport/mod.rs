//! How clients receive: one module per transport, each a parser without I/O that turns bytes into [`Signal`]s.
//!
//! A further transport, another product's included, is a module, a variant of [`Transport`] and a variant of [`Wire`].
//! What it receives must carry the [`crate::publisher::data`] of a publication unchanged.

mod chunked;
mod data;
mod frame;
mod memo;
mod plain;
mod poll;
mod pusher;
mod socket;
mod socketio;
mod sse;
mod websocket;

use std::borrow::Cow;
use std::fmt;

use fanway_protocol::{Channel, ChannelHash};

use crate::channels::Channels;
use crate::target::Target;
pub use memo::Memo;

/// The transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// The client protocol over WebSocket.
    Websocket,
    /// Plain server-sent events over HTTP/1.1.
    Sse,
    /// Long polling over a kept connection.
    Poll,
    /// Bare WebSocket of other servers: a channel is the path /sub/NAME, published to with POST /pub/NAME
    Plain,
    /// Socket.IO's protocol, for the server in loadtest/peers/socketio
    Socketio,
    /// The Pusher protocol: --token is the application's key, --api-key its ID:KEY:SECRET
    Pusher,
}

impl Transport {
    /// Whether it is one of Fanway's own.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Websocket | Self::Sse | Self::Poll)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Websocket => "websocket",
            Self::Sse => "sse",
            Self::Poll => "poll",
            Self::Plain => "plain WebSocket",
            Self::Socketio => "Socket.IO",
            Self::Pusher => "the Pusher protocol",
        })
    }
}

/// What a connection is opened with.
pub struct Opening<'a> {
    /// The server.
    pub target: &'a Target,
    /// A connection token; empty for an anonymous client.
    pub token: &'a str,
    /// The channels to receive; at least one.
    pub channels: &'a [Channel],
    /// Where to go on in each of them; `None` begins at the head.
    pub resume: Option<&'a Position>,
}

/// A place in a channel's history. Those who resume in several channels at once are all at the same place in each.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The epochs of the channels, in the order of their numbers.
    pub epochs: Vec<String>,
    /// The offset.
    pub offset: u64,
}

impl Position {
    /// The epoch of a channel by its number.
    fn epoch(&self, channel: &Channel) -> &str {
        let number = Channels::number(channel.as_str()).unwrap_or(0) as usize;
        self.epochs.get(number).map_or("", String::as_str)
    }

    /// The cursor over channels: one item each, in byte order of their names.
    fn cursor(&self, channels: &[Channel]) -> String {
        let mut names: Vec<&Channel> = channels.iter().collect();
        names.sort_by_key(|channel| channel.as_str());
        let item = |channel: &&Channel| format!("~{}{}.{}", ChannelHash::of(channel), self.epoch(channel), self.offset);
        std::iter::once("2".to_owned()).chain(names.iter().map(item)).collect()
    }
}

/// What a message means to the load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Subscribed: every later publication must come.
    Ready,
    /// A publication of a run (see [`crate::publisher::data`]).
    Publication {
        /// The run's number.
        run: u64,
        /// The channel's number.
        channel: u32,
        /// The publication's number in that channel.
        sequence: u64,
        /// When it was due (see [`crate::clock`]).
        due: u64,
    },
    /// A publication that no load generator made.
    Foreign,
    /// The server says that publications were lost.
    Gap,
    /// The server wants to know whether the client lives.
    Ping,
    /// Nothing to act upon.
    Other,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The handshake or request got another status than it needs.
    #[error("refused with HTTP status {0}")]
    Status(u16),
    /// A command was answered with an error of the client protocol.
    #[error("refused with error {0}")]
    Refused(u32),
    /// The server closed the connection with a code.
    #[error("closed with code {0} ({reason})", reason = reason(*.0))]
    Closed(u16),
    /// The server ended a subscription.
    #[error("unsubscribed with code {0}")]
    Unsubscribed(u32),
    /// The server ended the stream.
    #[error("the stream ended")]
    Ended,
    /// The server broke the rules of the transport.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// The connection could not be made or broke.
    #[error("connection: {0}")]
    Io(std::io::ErrorKind),
    /// The connection was not subscribed in time.
    #[error("not subscribed in time")]
    TimedOut,
}

fn reason(code: u16) -> Cow<'static, str> {
    use fanway_protocol::DisconnectCode as D;
    let known = [
        D::Shutdown,
        D::Slow,
        D::NoPong,
        D::InvalidToken,
        D::Stale,
        D::ConnectionLimit,
        D::BadRequest,
        D::PermissionDenied,
    ];
    known.iter().find(|known| known.code() == code).map_or("-".into(), |known| known.reason().into())
}

/// The receiving state of one connection.
pub enum Wire {
    /// See [`Transport::Websocket`].
    Websocket(websocket::Wire),
    /// See [`Transport::Sse`].
    Sse(sse::Wire),
    /// See [`Transport::Poll`].
    Poll(Box<poll::Wire>),
    /// See [`Transport::Plain`].
    Plain(plain::Wire),
    /// See [`Transport::Socketio`].
    Socketio(socketio::Wire),
    /// See [`Transport::Pusher`].
    Pusher(pusher::Wire),
}

impl Wire {
    /// A fresh connection's state, and the bytes to send first.
    pub fn open(transport: Transport, opening: &Opening<'_>, out: &mut Vec<u8>) -> Self {
        match transport {
            Transport::Websocket => Self::Websocket(websocket::Wire::open(opening, out)),
            Transport::Sse => Self::Sse(sse::Wire::open(opening, out)),
            Transport::Poll => Self::Poll(Box::new(poll::Wire::open(opening, out))),
            Transport::Plain => Self::Plain(plain::Wire::open(opening, out)),
            Transport::Socketio => Self::Socketio(socketio::Wire::open(opening, out)),
            Transport::Pusher => Self::Pusher(pusher::Wire::open(opening, out)),
        }
    }

    /// Takes received bytes and returns how many it used; the rest must be given again with what follows.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        memo: &mut Memo,
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Signal),
    ) -> Result<usize, Fault> {
        match self {
            Self::Websocket(wire) => wire.receive(bytes, memo, out, take),
            Self::Sse(wire) => wire.receive(bytes, memo, take),
            Self::Poll(wire) => wire.receive(bytes, memo, out, take),
            Self::Plain(wire) => wire.receive(bytes, memo, out, take),
            Self::Socketio(wire) => wire.receive(bytes, memo, out, take),
            Self::Pusher(wire) => wire.receive(bytes, memo, out, take),
        }
    }
}

/// Parses the head of an HTTP response; `None` while it is incomplete. Gives its length to `read` with the response.
fn head<T>(
    bytes: &[u8],
    read: impl FnOnce(&httparse::Response<'_, '_>, usize) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => read(&response, length).map(Some),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Fault::Protocol("a response head that is none")),
    }
}

/// Whether a header's value contains a word, in any case.
fn header_has(response: &httparse::Response<'_, '_>, name: &str, word: &str) -> bool {
    response
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name))
        .any(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase().contains(word))
}

/// Appends the query parameters that name the channels.
fn channel_query(channels: &[Channel], out: &mut Vec<u8>) {
    for (at, channel) in channels.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"?channel=" } else { b"&channel=" });
        escape(channel.as_str(), out);
    }
}

/// A path that ends in a name.
pub(crate) fn channel_path(folder: &str, name: &str) -> String {
    let mut path = folder.as_bytes().to_vec();
    escape(name, &mut path);
    String::from_utf8_lossy(&path).into_owned()
}

/// Appends a name as a part of a URL.
fn escape(name: &str, out: &mut Vec<u8>) {
    for byte in name.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b':' => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_in_the_order_of_names() {
        let channels: Vec<Channel> = (0..11).map(|number| Channel::new(&format!("c-{number}")).unwrap()).collect();
        let position = Position { epochs: (0..11).map(|number| format!("e{number}")).collect(), offset: 7 };
        let hash = |at: usize| ChannelHash::of(&channels[at]);
        assert_eq!(position.cursor(&channels[..1]), format!("2~{}e0.7", hash(0)));
        let (second, last) = (hash(2), hash(10));
        assert_eq!(
            position.cursor(&[channels[2].clone(), channels[10].clone()]),
            format!("2~{last}e10.7~{second}e2.7")
        );
    }
}
