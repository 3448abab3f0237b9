//! How clients receive: one module per transport, each a parser without I/O that turns bytes into [`Signal`]s.
//!
//! A further transport is a module, a variant of [`Transport`] and a variant of [`Wire`].

mod chunked;
mod frame;
mod memo;
mod sse;
mod websocket;

use std::borrow::Cow;
use std::fmt;

use fanway_protocol::Channel;

use crate::target::Target;
pub use memo::Memo;

/// The transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// The client protocol over WebSocket.
    Websocket,
    /// Plain server-sent events over HTTP/1.1.
    Sse,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Websocket => "websocket",
            Self::Sse => "sse",
        })
    }
}

/// What a connection is opened with.
pub struct Opening<'a> {
    /// The server.
    pub target: &'a Target,
    /// A connection token; empty for an anonymous client.
    pub token: &'a str,
    /// The channel to receive.
    pub channel: &'a Channel,
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
        /// The publication's number in it.
        sequence: u64,
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
}

impl Wire {
    /// A fresh connection's state, and the bytes to send first.
    pub fn open(transport: Transport, opening: &Opening<'_>, out: &mut Vec<u8>) -> Self {
        match transport {
            Transport::Websocket => Self::Websocket(websocket::Wire::open(opening, out)),
            Transport::Sse => Self::Sse(sse::Wire::open(opening, out)),
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

/// The data of publications that load generators make.
#[derive(serde::Deserialize)]
struct Data {
    run: u64,
    n: u64,
}

impl Data {
    fn signal(raw: &serde_json::value::RawValue) -> Signal {
        serde_json::from_str(raw.get())
            .map_or(Signal::Foreign, |Data { run, n }| Signal::Publication { run, sequence: n })
    }
}
