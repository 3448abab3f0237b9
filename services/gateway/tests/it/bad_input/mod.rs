//! Bad input, end to end: tables of what clients must not send, and the answer each row must get.
//!
//! After each table the node still serves, nothing in it panicked, and no row holds a connection open.

mod alike;
mod commands;
mod deadlines;
mod frames;
mod handshake;
mod logs;
mod server_api;
mod streams;
mod tokens;

use std::time::Duration;

use fanway_testkit::node::Node;
use fanway_testkit::websocket::{Client, Frame, Incoming, Raw};
use fanway_testkit::{http, wait};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, node, token};

/// The outcome of every row; tells of all rows that failed, not only of the first.
#[derive(Default)]
struct Table {
    failures: Vec<String>,
    rows: usize,
}

impl Table {
    /// Notes a row. `wrong` says what is wrong with its answer, if anything is.
    fn row(&mut self, name: &str, wrong: Option<String>) {
        self.rows += 1;
        self.failures.extend(wrong.map(|wrong| format!("{name}: {wrong}")));
    }

    fn check(self) {
        assert!(
            self.failures.is_empty(),
            "{} of {} rows:\n{}",
            self.failures.len(),
            self.rows,
            self.failures.join("\n")
        );
    }
}

/// Whatever was sent to it, the node serves, and nothing is left of it.
async fn unharmed(node: &Node, token: &str) {
    assert_eq!(http::get(node.url("/health/live"), &[]).await.status, 200);
    let mut client = Client::connect(node.websocket_url(), token).await;
    client.subscribe("unharmed").await;
    node.publish("unharmed", json!("hello")).await;
    assert_eq!(client.next_publication().await.data, json!("hello"));
    client.close().await;
    assert!(!node.log().contains("panicked"), "something panicked");
    emptied(node).await;
}

/// Waits until no session is left, and no socket but the one that asks.
async fn emptied(node: &Node) {
    wait::until_async("no connection is held open", || async {
        let sessions = node.metric("fanway_connections", &[]).await;
        let sockets = node.metric("fanway_sockets_open", &[]).await;
        (sessions == Some(0.0) && sockets == Some(1.0)).then_some(())
    })
    .await;
}

/// An HTTP answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    fn reason(&self) -> Option<String> {
        Some(self.json()["error"]["reason"].as_str()?.to_owned())
    }
}

/// Sends bytes over a connection of their own and reads one answer; `None` if the connection ends without.
async fn say(node: &Node, bytes: impl AsRef<[u8]>) -> Option<Answer> {
    let mut socket = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    // A server that refuses early stops reading; its answer tells.
    let _ = tokio::time::timeout(PATIENCE, socket.write_all(bytes.as_ref())).await.expect("the node reads");
    answer(&mut socket).await
}

/// Reads one answer: the head, and as much body as it announces.
async fn answer(socket: &mut TcpStream) -> Option<Answer> {
    let mut received = Vec::new();
    loop {
        if let Some(answer) = parse(&received) {
            return Some(answer);
        }
        let mut piece = [0; 4096];
        match tokio::time::timeout(PATIENCE, socket.read(&mut piece)).await.expect("an answer, or the end") {
            Ok(0) | Err(_) => return None,
            Ok(length) => received.extend_from_slice(&piece[..length]),
        }
    }
}

fn parse(received: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(received);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().expect("a status");
    let mut answer = Answer { status, head: head.to_owned(), body: String::new() };
    let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    answer.body = body.get(..length)?.to_owned();
    Some(answer)
}

/// A connected session, on which a test says what it likes.
async fn session(node: &Node, token: &str) -> Raw {
    let mut raw = Raw::open(node.websocket_url()).await;
    raw.write_frame(&Frame::text(&json!({"id": 1, "connect": {"token": token}}).to_string())).await;
    let Incoming::Frame(reply) = raw.read_frame().await else { panic!("no reply to connect") };
    assert!(String::from_utf8_lossy(&reply.payload).contains("\"connect\""), "{reply:?}");
    raw
}

/// Reads until the end: the code of the close frame (1005 if it has none), or what is wrong with how it ended.
async fn ending(raw: &mut Raw) -> Result<u16, String> {
    loop {
        let incoming = raw.read_frame().await;
        if let Some((code, _)) = incoming.close() {
            let (rest, end) = raw.read_to_end(PATIENCE).await;
            return match (rest.as_slice(), &end) {
                ([], Incoming::End) => Ok(code),
                _ => Err(format!("close {code}, then {} bytes and {end:?}", rest.len())),
            };
        }
        match incoming {
            Incoming::Frame(frame) if frame.opcode == Frame::TEXT || frame.opcode == Frame::PONG => {}
            other => return Err(format!("{other:?} instead of a close frame")),
        }
    }
}

/// Whether a command is still answered; if not, what came instead.
async fn lives(raw: &mut Raw) -> Option<String> {
    raw.write_frame(&Frame::text(r#"{"id":999999,"ping":{}}"#)).await;
    loop {
        match raw.read_frame().await {
            Incoming::Frame(frame) if frame.payload == br#"{"id":999999,"ping":{}}"# => return None,
            Incoming::Frame(frame) if frame.opcode == Frame::TEXT || frame.opcode == Frame::PONG => {}
            other => return Some(format!("{other:?} instead of the answer to a ping")),
        }
    }
}

/// A clock that a row has to wait for, short.
const SHORT: Duration = Duration::from_millis(400);
