//! Socket.IO over WebSocket (engine.io protocol 4): a channel is a room, joined with an acknowledged event `subscribe`; a
//! publication is an event `publication` with the channel and the data. The server is in `loadtest/peers/socketio`.

use std::borrow::Cow;

use fanway_protocol::Channel;
use serde_json::value::RawValue;

use super::frame;
use super::socket::{self, Event, Socket};
use super::{Fault, Memo, Opening, Signal, data};
use crate::channels::Channels;

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// One connection's state.
pub struct Wire {
    socket: Socket,
    /// The channels to join once the connection stands.
    channels: Box<[Channel]>,
    /// How many acknowledgements are still to come.
    awaited: usize,
}

impl Wire {
    pub(super) fn open(opening: &Opening<'_>, out: &mut Vec<u8>) -> Self {
        socket::request(opening.target, PATH, out);
        Self { socket: Socket::default(), channels: opening.channels.into(), awaited: opening.channels.len() }
    }

    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        memo: &mut Memo,
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Signal),
    ) -> Result<usize, Fault> {
        let Self { socket, channels, awaited } = self;
        socket.receive(bytes, out, |event, out| {
            let Event::Text(text) = event else { return Ok(()) };
            let signal = match text {
                [b'4', b'2', b'[', ..] => memo.signal(&text[2..], publication)?,
                // The session is open: connect to the main namespace.
                [b'0', ..] => {
                    frame::text(b"40", out);
                    Signal::Other
                }
                [b'4', b'0', ..] => {
                    for (number, channel) in std::mem::take(channels).iter().enumerate() {
                        let event = serde_json::json!(["subscribe", channel]);
                        frame::text(format!("42{number}{event}").as_bytes(), out);
                    }
                    Signal::Other
                }
                [b'4', b'3', ..] => {
                    *awaited = awaited.saturating_sub(1);
                    if *awaited == 0 { Signal::Ready } else { Signal::Other }
                }
                [b'2'] => {
                    frame::text(b"3", out);
                    Signal::Ping
                }
                [b'1'] | [b'4', b'1', ..] => return Err(Fault::Ended),
                [b'4', b'4', ..] => return Err(Fault::Protocol("a refused namespace")),
                [b'6'] => Signal::Other,
                _ => return Err(Fault::Protocol("a packet of an unknown kind")),
            };
            take(signal);
            Ok(())
        })
    }
}

fn publication(event: &[u8]) -> Result<Signal, Fault> {
    let event: (Cow<'_, str>, Cow<'_, str>, &RawValue) = match serde_json::from_slice(event) {
        Ok(event) => event,
        Err(_) => return Ok(Signal::Foreign),
    };
    Ok(match event {
        (name, channel, data) if name == "publication" => data::signal(Channels::number(&channel).unwrap_or(0), data),
        _ => Signal::Foreign,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Transport;
    use super::super::socket::testing::{HEAD, said, talk};
    use super::*;

    #[test]
    fn connects_joins_receives_and_answers_pings() {
        // As Socket.IO 4.8 says it.
        let stream = [
            HEAD,
            &said(r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#),
            &said(r#"40{"sid":"wZX3oN0bSVIhsaknAAAI"}"#),
            &said("430[]"),
            &said("2"),
            &said("431[]"),
            &said(r#"42["publication","c-1",{"run":5,"n":0,"at":6,"pad":"x"}]"#),
            &said(r#"42["hello"]"#),
        ]
        .concat();
        let (first, signals, said) = talk(Transport::Socketio, &["c-1", "c-2"], &stream);
        assert!(first.starts_with("GET /base/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"), "{first}");
        let publication = Signal::Publication { run: 5, channel: 1, sequence: 0, due: 6 };
        let other = Signal::Other;
        assert_eq!(signals, Ok(vec![other, other, other, Signal::Ping, Signal::Ready, publication, Signal::Foreign]));
        assert_eq!(said, ["40", r#"420["subscribe","c-1"]"#, r#"421["subscribe","c-2"]"#, "3"]);
    }

    #[test]
    fn refusals_and_ends_are_told_apart() {
        for (text, fault) in [
            (r#"44{"message":"Not authorized"}"#, Fault::Protocol("a refused namespace")),
            ("41", Fault::Ended),
            ("1", Fault::Ended),
            ("nonsense", Fault::Protocol("a packet of an unknown kind")),
        ] {
            let stream = [HEAD, &said(text)].concat();
            assert_eq!(talk(Transport::Socketio, &["c-0"], &stream).1, Err(fault), "{text}");
        }
    }
}
