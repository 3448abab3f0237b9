//! The bytes of the exchange: as long as Fanway's, made with as little as possible.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanway_protocol::framing::{chunk, websocket};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use sha1::{Digest, Sha1};

/// As long as Fanway's epochs.
const EPOCH: &str = "26YQpm8bglUPu2-hhxOM";
/// As long as the beginning of Fanway's cursors of one channel.
const CURSOR: &str = "2~x7wN";
const DATE: &str = "date: Sat, 21 Nov 2026 16:32:32 GMT\r\n";

/// How a connection receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    WebSocket,
    EventStream,
    Poll,
}

/// A request's form and channels (those of a WebSocket come later), and the offset a poll goes on from.
pub(super) fn request(head: &str) -> Option<(Form, Vec<String>, Option<u64>)> {
    let target = head.strip_prefix("GET ")?.split(' ').next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let form = match path {
        "/connection/websocket" => Form::WebSocket,
        "/sse" => Form::EventStream,
        "/poll" => Form::Poll,
        _ => return None,
    };
    let values =
        |name: &'static str| query.split('&').filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix('='));
    let offset = values("cursor").next().and_then(|cursor| cursor.rsplit_once('.')?.1.parse().ok());
    Some((form, values("channel").map(str::to_owned).collect(), offset))
}

/// The value of a header; names are compared as the load clients write them.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The answer to a WebSocket handshake.
pub(super) fn upgrade(key: &str) -> Vec<u8> {
    let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let accept = STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n{DATE}\r\n"
    )
    .into_bytes()
}

/// The opening of an event stream.
pub(super) fn stream_open() -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache, no-transform\r\n\
         x-accel-buffering: no\r\ntransfer-encoding: chunked\r\nvary: origin\r\n{DATE}connection: close\r\n\r\n"
    )
    .into_bytes();
    chunk::write(b": fanway\nretry: 1928\n", &mut out);
    let cursor = format!("{CURSOR}{EPOCH}.0");
    chunk::write(format!("event: ready\ndata: {{\"cursor\":\"{cursor}\"}}\nid: {cursor}\n\n").as_bytes(), &mut out);
    out
}

/// What a client says first over WebSocket, unmasked: its token and its channels.
pub(super) fn commands(text: &[u8]) -> Option<(String, Vec<String>)> {
    #[derive(Deserialize)]
    struct Command {
        connect: Option<Connect>,
        subscribe: Option<Subscribe>,
    }
    #[derive(Deserialize)]
    struct Connect {
        #[serde(default)]
        token: String,
    }
    #[derive(Deserialize)]
    struct Subscribe {
        channel: String,
    }
    let mut found = (String::new(), Vec::new());
    for line in text.split(|byte| *byte == b'\n') {
        let command: Command = serde_json::from_slice(line).ok()?;
        found.0 = command.connect.map_or(found.0, |connect| connect.token);
        found.1.extend(command.subscribe.map(|subscribe| subscribe.channel));
    }
    Some(found)
}

/// The replies to the commands, a frame each.
pub(super) fn replies(channels: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let connect = r#"{"id":1,"connect":{"client":"6dbf82a4-20e4-424f-b758-2def914ac78c","version":"0.1.0","ping":25,"pong":true}}"#;
    frame(connect.as_bytes(), &mut out);
    for id in 2..channels + 2 {
        let reply = format!(r#"{{"id":{id},"subscribe":{{"recoverable":true,"epoch":"{EPOCH}","positioned":true}}}}"#);
        frame(reply.as_bytes(), &mut out);
    }
    out
}

/// Whether a token is good: its signature, and that it has not expired.
pub(super) fn verify(token: &str, key: &DecodingKey) -> bool {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(rename = "sub")]
        _sub: String,
    }
    jsonwebtoken::decode::<Claims>(token, key, &Validation::new(Algorithm::HS256)).is_ok()
}

/// A publication as it is sent: the whole of a frame or event, or, for a poll, a member of its answer.
pub(super) fn publication(form: Form, channel: &str, offset: u64, data: &str) -> Vec<u8> {
    const TIME: &str = "1795278752510";
    let mut out = Vec::new();
    let event =
        || format!(r#"{{"channel":"{channel}","offset":{offset},"epoch":"{EPOCH}","data":{data},"time":{TIME}}}"#);
    match form {
        Form::WebSocket => {
            let push = format!(
                r#"{{"push":{{"channel":"{channel}","pub":{{"data":{data},"offset":{offset},"time":{TIME}}}}}}}"#
            );
            frame(push.as_bytes(), &mut out);
        }
        Form::EventStream => {
            chunk::write(format!("data: {}\nid: {CURSOR}{EPOCH}.{offset}\n\n", event()).as_bytes(), &mut out);
        }
        Form::Poll => out = event().into_bytes(),
    }
    out
}

/// A poll's answer.
pub(super) fn answer(publications: &[Vec<u8>], offset: u64) -> Vec<u8> {
    let publications: Vec<&str> =
        publications.iter().filter_map(|publication| std::str::from_utf8(publication).ok()).collect();
    let body =
        format!(r#"{{"publications":[{}],"gaps":[],"cursor":"{CURSOR}{EPOCH}.{offset}"}}"#, publications.join(","));
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\nvary: origin\r\n\
         content-length: {}\r\n{DATE}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn frame(payload: &[u8], out: &mut Vec<u8>) {
    websocket::frame::write(out, websocket::Opcode::Text, payload);
}

/// The payload of a masked frame and the length of the whole; `None` while it is incomplete.
pub(super) fn unmask(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (length, start) = match bytes.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?, 10),
        length => (usize::from(length), 2),
    };
    let key = bytes.get(start..start + 4)?;
    let masked = bytes.get(start + 4..(start + 4).checked_add(length)?)?;
    Some((masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect(), start + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        let head = "GET /poll?channel=a&channel=b&timeout=25&cursor=1~x.3 HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(request(head), Some((Form::Poll, vec!["a".into(), "b".into()], Some(3))));
        assert_eq!(header(head, "Host"), Some("h"));
        assert_eq!(request("GET /metrics HTTP/1.1"), None);
        let mut masked = vec![0x81, 0x83, 1, 2, 3, 4];
        masked.extend([b'a' ^ 1, b'b' ^ 2, b'c' ^ 3]);
        assert_eq!(unmask(&masked), Some((b"abc".to_vec(), 9)));
        assert_eq!(unmask(&masked[..8]), None);
        assert!(String::from_utf8_lossy(&upgrade("dGhlIHNhbXBsZSBub25jZQ==")).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn a_token_is_verified() {
        let token = crate::token::mint("secret", "ann").unwrap();
        assert!(verify(&token, &DecodingKey::from_secret(b"secret")));
        assert!(!verify(&token, &DecodingKey::from_secret(b"another")));
        let text = format!(
            "{{\"id\":1,\"connect\":{{\"token\":\"{token}\"}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"a\"}}}}"
        );
        assert_eq!(commands(text.as_bytes()), Some((token, vec!["a".into()])));
    }
}
