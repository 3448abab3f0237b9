//! The client protocol over WebSocket, in its JSON form.

use std::borrow::Cow;

use fanway_protocol::Channel;
use serde::Deserialize;

use super::data::{self, Publication};
use super::frame::{self, Decoder, Received};
use super::{Fault, Memo, Opening, Signal, socket};
use crate::channels::Channels;

/// Id of the command that connects; those that subscribe follow.
const CONNECT: u32 = 1;

/// One connection's state.
pub struct Wire {
    stage: Stage,
    decoder: Decoder,
    replies: Replies,
}

/// What is known of the subscribe commands' replies.
struct Replies {
    /// How many are still to come.
    awaited: u32,
    /// The channels' numbers in the order of the commands, when resuming: a reply with publications does not say whose.
    resumed: Box<[u32]>,
}

enum Stage {
    /// The response to the handshake is still to come. Holds the commands to send then.
    Handshake(Box<[u8]>),
    Open,
}

impl Wire {
    pub(super) fn open(opening: &Opening<'_>, out: &mut Vec<u8>) -> Self {
        let Opening { target, token, channels, resume } = opening;
        socket::request(target, "/connection/websocket", out);
        let connect = match *token {
            "" => serde_json::json!({"id": CONNECT, "connect": {}}),
            token => serde_json::json!({"id": CONNECT, "connect": {"token": token}}),
        };
        let mut text = connect.to_string();
        for (id, channel) in (CONNECT + 1..).zip(*channels) {
            let subscribe = match resume {
                None => serde_json::json!({"channel": channel}),
                Some(position) => serde_json::json!({
                    "channel": channel, "recover": true, "epoch": position.epoch(channel), "offset": position.offset
                }),
            };
            text.push('\n');
            text.push_str(&serde_json::json!({"id": id, "subscribe": subscribe}).to_string());
        }
        let mut commands = Vec::new();
        frame::text(text.as_bytes(), &mut commands);
        let number = |channel: &Channel| Channels::number(channel.as_str()).unwrap_or(0);
        let replies = Replies {
            awaited: u32::try_from(channels.len()).unwrap_or(u32::MAX),
            resumed: resume.map(|_| channels.iter().map(number).collect()).unwrap_or_default(),
        };
        Self { stage: Stage::Handshake(commands.into()), decoder: Decoder::default(), replies }
    }

    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        memo: &mut Memo,
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Signal),
    ) -> Result<usize, Fault> {
        let mut used = 0;
        if let Stage::Handshake(commands) = &self.stage {
            let Some(length) = socket::upgraded(bytes)? else { return Ok(0) };
            used = length;
            out.extend_from_slice(commands);
            self.stage = Stage::Open;
        }
        let replies = &mut self.replies;
        let frames = self.decoder.decode(&bytes[used..], |received| {
            match received {
                Received::Text(text) => {
                    let text = text.strip_suffix(b"\n").unwrap_or(text);
                    for message in text.split(|byte| *byte == b'\n') {
                        if message.starts_with(b"{\"id\"") {
                            reply(message, replies, take)?;
                            continue;
                        }
                        let signal = memo.signal(message, push)?;
                        if signal == Signal::Ping {
                            frame::text(b"{}", out);
                        }
                        take(signal);
                    }
                }
                Received::Ping(payload) => frame::pong(payload, out),
                Received::Close(code) => return Err(Fault::Closed(code)),
            }
            Ok(())
        })?;
        Ok(used + frames)
    }
}

/// A reply: to the connect command or to one that subscribes.
#[derive(Deserialize)]
struct Reply<'a> {
    id: u32,
    error: Option<Code>,
    #[serde(borrow)]
    subscribe: Option<Subscribed<'a>>,
}

#[derive(Deserialize)]
struct Subscribed<'a> {
    /// What was missed, when resuming.
    #[serde(borrow, default)]
    publications: Vec<Publication<'a>>,
    #[serde(default)]
    was_recovering: bool,
    #[serde(default)]
    recovered: bool,
}

#[derive(Deserialize)]
struct Code {
    code: u32,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, rename = "pub")]
    publication: Option<Publication<'a>>,
    unsubscribe: Option<Code>,
    disconnect: Option<Code>,
}

fn reply(message: &[u8], replies: &mut Replies, take: &mut dyn FnMut(Signal)) -> Result<(), Fault> {
    let reply: Reply<'_> =
        serde_json::from_slice(message).map_err(|_| Fault::Protocol("a reply that is none of the protocol"))?;
    if let Some(error) = reply.error {
        return Err(Fault::Refused(error.code));
    }
    let Some(subscribed) = reply.subscribe else {
        take(Signal::Other);
        return Ok(());
    };
    if subscribed.was_recovering && !subscribed.recovered {
        take(Signal::Gap);
    }
    replies.awaited = replies.awaited.saturating_sub(1);
    if replies.awaited == 0 {
        take(Signal::Ready);
    }
    let place = reply.id.saturating_sub(CONNECT + 1) as usize;
    let channel = replies.resumed.get(place).copied().unwrap_or(0);
    for publication in &subscribed.publications {
        take(data::signal(channel, publication.data));
    }
    Ok(())
}

fn push(message: &[u8]) -> Result<Signal, Fault> {
    if message == b"{}" {
        return Ok(Signal::Ping);
    }
    let message: Message<'_> =
        serde_json::from_slice(message).map_err(|_| Fault::Protocol("a message that is none of the protocol"))?;
    Ok(match message.push {
        Some(Push { publication: Some(publication), channel, .. }) => {
            data::signal(Channels::number(&channel).unwrap_or(0), publication.data)
        }
        // Insufficient state: publications were lost, and a proper client would subscribe anew.
        Some(Push { unsubscribe: Some(end), .. }) => return Err(Fault::Unsubscribed(end.code)),
        Some(Push { disconnect: Some(end), .. }) => return Err(Fault::Closed(end.code.try_into().unwrap_or(0))),
        _ => Signal::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Position;
    use super::*;
    use crate::target::Target;

    const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";

    fn wire(out: &mut Vec<u8>) -> Wire {
        let target = Target::parse("http://127.0.0.1:1/base", false).unwrap();
        let channels = [Channel::new("news-7").unwrap(), Channel::new("news-8").unwrap()];
        Wire::open(&Opening { target: &target, token: "t", channels: &channels, resume: None }, out)
    }

    fn said(text: &str) -> Vec<u8> {
        let mut frame = vec![0x81, 126];
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    fn receive(wire: &mut Wire, bytes: &[u8]) -> (Result<usize, Fault>, Vec<Signal>, Vec<u8>) {
        let (mut signals, mut out) = (Vec::new(), Vec::new());
        let used = wire.receive(bytes, &mut Memo::default(), &mut out, &mut |signal| signals.push(signal));
        (used, signals, out)
    }

    #[test]
    fn connects_subscribes_receives_and_answers_pings() {
        let mut opening = Vec::new();
        let mut wire = wire(&mut opening);
        assert!(opening.starts_with(b"GET /base/connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"));
        assert_eq!(receive(&mut wire, &HEAD[..20]).0, Ok(0));
        let (used, signals, out) = receive(&mut wire, HEAD);
        assert_eq!((used, signals), (Ok(HEAD.len()), vec![]));
        assert_eq!(usize::from(out[1]), 0x80 | (out.len() - 6));
        let key = &out[2..6];
        let commands: Vec<u8> = out[6..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        let commands: Vec<serde_json::Value> =
            commands.split(|byte| *byte == b'\n').map(|command| serde_json::from_slice(command).unwrap()).collect();
        assert_eq!(commands[0]["connect"]["token"], "t");
        assert_eq!(commands[1]["subscribe"]["channel"], "news-7");
        assert_eq!((&commands[2]["id"], &commands[2]["subscribe"]["channel"]), (&3.into(), &"news-8".into()));

        let bytes = [
            said("{\"id\":1,\"connect\":{\"client\":\"c\",\"version\":\"1\",\"ping\":25,\"pong\":true}}"),
            said("{\"id\":2,\"subscribe\":{}}"),
            said("{\"id\":3,\"subscribe\":{}}\n{\"push\":{\"channel\":\"news-8\",\"pub\":{\"data\":{\"run\":5,\"n\":0,\"at\":6,\"pad\":\"x\"},\"offset\":8}}}\n"),
            said("{}"),
            said("{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":[1]}}}"),
        ]
        .concat();
        let (used, signals, out) = receive(&mut wire, &bytes);
        assert_eq!(used, Ok(bytes.len()));
        let publication = Signal::Publication { run: 5, channel: 8, sequence: 0, due: 6 };
        assert_eq!(signals, [Signal::Other, Signal::Ready, publication, Signal::Ping, Signal::Foreign]);
        assert_eq!((out.len(), out[0]), (8, 0x81));
    }

    #[test]
    fn a_resume_receives_what_was_missed_or_is_told_of_a_gap() {
        let target = Target::parse("http://127.0.0.1:1", false).unwrap();
        let channels = [Channel::new("news-1").unwrap()];
        let position = Position { epochs: vec!["e0".into(), "e1".into()], offset: 4 };
        let opening = Opening { target: &target, token: "", channels: &channels, resume: Some(&position) };
        let mut wire = Wire::open(&opening, &mut Vec::new());
        let Stage::Handshake(commands) = &wire.stage else { panic!() };
        let key = &commands[2..6];
        let commands: Vec<u8> = commands[6..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        let subscribe = r#"{"id":2,"subscribe":{"channel":"news-1","epoch":"e1","offset":4,"recover":true}}"#;
        assert!(String::from_utf8(commands).unwrap().ends_with(subscribe));
        wire.stage = Stage::Open;
        let (_, signals, _) = receive(
            &mut wire,
            &said(
                r#"{"id":2,"subscribe":{"was_recovering":true,"recovered":true,"publications":[{"data":{"run":5,"n":4,"at":6}}]}}"#,
            ),
        );
        assert_eq!(signals, [Signal::Ready, Signal::Publication { run: 5, channel: 1, sequence: 4, due: 6 }]);
        let (_, signals, _) = receive(&mut wire, &said(r#"{"id":2,"subscribe":{"was_recovering":true}}"#));
        assert_eq!(signals[0], Signal::Gap);
    }

    #[test]
    fn every_way_to_be_refused_is_told_apart() {
        let mut wire = wire(&mut Vec::new());
        let refused = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(receive(&mut wire, refused).0, Err(Fault::Status(503)));
        wire.stage = Stage::Open;
        for (text, fault) in [
            ("{\"id\":2,\"error\":{\"code\":103,\"message\":\"permission denied\"}}", Fault::Refused(103)),
            (
                "{\"push\":{\"channel\":\"a\",\"unsubscribe\":{\"code\":2500,\"reason\":\"\"}}}",
                Fault::Unsubscribed(2500),
            ),
            ("{\"push\":{\"disconnect\":{\"code\":3001,\"reason\":\"\"}}}", Fault::Closed(3001)),
            ("nonsense", Fault::Protocol("a message that is none of the protocol")),
        ] {
            assert_eq!(receive(&mut wire, &said(text)).0, Err(fault), "{text}");
        }
        assert_eq!(receive(&mut wire, &[0x88, 2, 0x0d, 0xac]).0, Err(Fault::Closed(3500)));
        assert_eq!(Fault::Closed(3500).to_string(), "closed with code 3500 (invalid token)");
    }
}
