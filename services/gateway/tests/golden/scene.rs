//! Scenes: scripts of exchanges, and their recordings.
//!
//! A script has one step per line:
//!
//! ```text
//! # text                     a comment
//! socket NAME                opens a WebSocket connection; later lines are about it
//! on NAME                    goes on with an earlier connection
//! GET /path HTTP/1.1 | Header: value || body
//!                            opens a connection, sends the request (any method) and reads the response's head and body
//! later GET ...              sends the request and does not wait for the response
//! > {"id":1}                 sends a text frame
//! >hex 89 80 00 00 00 00     sends bytes
//! <                          reads a frame, chunk, block of an event stream or response
//! until TEXT                 the same until one has this text, and records only that
//! narrow                     the next connection has small buffers
//! end                        reads until the server ends the connection
//! api publish {...}          a request of the server API
//! publish CHANNEL JSON       a publication over the server API, whose answer is not recorded
//! connections N              waits until the node has so many client connections
//! term                       SIGTERM
//! ```
//!
//! The recording repeats the lines. A received frame is written as its header in hexadecimal and its payload, a chunk as
//! its first line and its content.

use std::collections::BTreeMap;
use std::fmt::Write;

use ::http::Method;
use bytes::Bytes;
use fanway_testkit::node::{API_KEY, Node};
use fanway_testkit::token::Claims;
use fanway_testkit::websocket::Frame;
use fanway_testkit::{PATIENCE, http, wait};

use crate::names::{Names, hex, printable};
use crate::wire::{Mode, Unit, Wire};

/// The masking key of every client frame.
const MASK: [u8; 4] = [1, 2, 3, 4];

/// A scene with a node.
pub(crate) struct Scene<'a> {
    node: &'a Node,
    pub(crate) names: Names,
    connections: BTreeMap<String, Wire>,
    current: String,
    narrow: bool,
    recording: String,
}

impl<'a> Scene<'a> {
    /// A scene in which `<alice>` is a token of the user alice and `<key>` the API key.
    pub(crate) fn new(node: &'a Node) -> Self {
        let mut names = Names::default();
        names.give("alice", &node.token(&Claims::user("alice")));
        names.give("key", API_KEY);
        let (current, recording) = (String::new(), String::new());
        Self { node, names, connections: BTreeMap::new(), current, narrow: false, recording }
    }

    /// Adds a token by its name.
    pub(crate) fn token(mut self, name: &str, claims: &Claims) -> Self {
        self.names.give(name, &self.node.token(claims));
        self
    }

    /// Adds a line of the caller's to the recording.
    pub(crate) fn record(&mut self, line: &str) {
        let line = self.names.hide(line);
        writeln!(self.recording, "{}", line.trim_end()).unwrap();
    }

    /// Plays the steps of a script.
    pub(crate) async fn play(&mut self, script: &str) {
        for line in script.trim().lines() {
            let line = line.trim();
            if line != "<" {
                writeln!(self.recording, "{line}").unwrap();
            }
            let (step, rest) = line.split_once(' ').unwrap_or((line, ""));
            let revealed = self.names.reveal(rest);
            match step {
                "" | "#" => {}
                "socket" => self.socket(rest).await,
                "on" => self.current = rest.to_owned(),
                ">" => {
                    let frame = Frame { mask: Some(MASK), ..Frame::text(&revealed) };
                    self.write(&frame.bytes()).await;
                }
                ">hex" => {
                    let bytes = rest.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap());
                    self.write(&bytes.collect::<Vec<_>>()).await;
                }
                "<" => self.read().await,
                "until" => self.read_until(&revealed).await,
                "narrow" => self.narrow = true,
                "end" => self.end().await,
                "api" => self.api(&revealed).await,
                "publish" => {
                    let (channel, data) = revealed.split_once(' ').unwrap();
                    self.node.publish(channel, serde_json::from_str(data).unwrap()).await;
                }
                "connections" => self.wait_for_connections(rest.parse().unwrap()).await,
                "term" => self.node.term(),
                "later" => self.request(rest).await,
                _ => {
                    self.request(line).await;
                    self.read().await;
                }
            }
        }
    }

    /// Compares the recording with its snapshot.
    pub(crate) fn compare(self, name: &str) {
        crate::compare(name, &self.recording);
    }

    fn connection(&mut self) -> &mut Wire {
        self.connections.get_mut(&self.current).unwrap_or_else(|| panic!("no connection {:?}", self.current))
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.connection().write(bytes).await;
    }

    async fn socket(&mut self, name: &str) {
        let mut wire = Wire::open(self.node.port(), std::mem::take(&mut self.narrow)).await;
        wire.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
        wire.read().await;
        assert_eq!(wire.mode, Mode::Frames, "the handshake succeeds");
        self.current = name.to_owned();
        self.connections.insert(name.to_owned(), wire);
    }

    /// Sends `GET /path HTTP/1.1 | Header: value || body` over a connection of its own.
    async fn request(&mut self, line: &str) {
        let (head, body) = line.split_once(" || ").unwrap_or((line, ""));
        let body = self.names.reveal(body);
        let mut head = format!("{}\r\nHost: a\r\n", self.names.reveal(&head.replace(" | ", "\r\n")));
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let port = self.node.url(head.split(' ').nth(1).unwrap()).uri.port_u16().unwrap();
        let mut wire = Wire::open(port, std::mem::take(&mut self.narrow)).await;
        if head.starts_with("HEAD ") {
            wire.mode = Mode::Head;
        }
        wire.write(format!("{head}\r\n{body}").as_bytes()).await;
        self.current = format!("request {}", self.connections.len());
        self.connections.insert(self.current.clone(), wire);
    }

    async fn api(&mut self, call: &str) {
        let (method, body) = call.split_once(' ').unwrap();
        let target = self.node.url(&format!("/api/{method}"));
        let headers = [("x-api-key", API_KEY), ("content-type", "application/json")];
        let response = http::request(Method::POST, &target, &headers, Bytes::from(body.to_owned()), PATIENCE).await;
        let response = response.unwrap();
        self.record(&format!("= {} {}", response.status.as_u16(), printable(&response.body)));
    }

    async fn next(&mut self) -> Unit {
        let current = self.current.clone();
        let unit = self.connection().read().await;
        unit.unwrap_or_else(|| panic!("{current} ended; recorded so far:\n{}", self.recording))
    }

    async fn read(&mut self) {
        match self.next().await {
            Unit::Response(head, body) => self.record_response(&head, &body),
            unit => self.record(&written(&unit)),
        }
    }

    async fn read_until(&mut self, text: &str) {
        loop {
            let unit = written(&self.next().await);
            if unit.contains(text) {
                return self.record(&unit);
            }
        }
    }

    fn record_response(&mut self, head: &str, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        // Numbers whose count of digits differs from run to run.
        let random_length = ["\"retry\":", "\"uptime\":", "\"echo_age_ms\":"].iter().any(|key| text.contains(key));
        for line in head.trim_end_matches("\r\n").split("\r\n") {
            match line.split_once(": ") {
                Some(("date", _)) => self.record("< date: <date>"),
                Some(("content-length", _)) if random_length => self.record("< content-length: <length>"),
                _ => self.record(&format!("< {line}")),
            }
        }
        if !body.is_empty() {
            self.record(&format!("< {}", printable(body)));
        }
    }

    async fn end(&mut self) {
        let rest = self.connection().rest().await;
        if !rest.is_empty() {
            self.record(&lines("< ", &rest));
        }
    }

    async fn wait_for_connections(&self, count: u32) {
        wait::until_async("the node has so many connections", || async {
            (self.node.metric("fanway_connections", &[]).await == Some(f64::from(count))).then_some(())
        })
        .await;
    }
}

/// A unit as it is recorded.
fn written(unit: &Unit) -> String {
    match unit {
        Unit::Frame(header, Frame::CLOSE, payload) if payload.len() >= 2 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            format!("< {} close {code} {}", hex(header), printable(&payload[2..]))
        }
        Unit::Frame(header, _, payload) => format!("< {} {}", hex(header), printable(payload)),
        Unit::Chunk(first, content) => lines(&format!("< {first} "), content),
        Unit::Block(block) => lines("< ", block),
        Unit::Response(head, _) => panic!("a response is recorded header by header: {head}"),
    }
}

/// Text one line under the other.
fn lines(prefix: &str, text: &[u8]) -> String {
    let indent = format!("\n{}", " ".repeat(prefix.len()));
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(printable).collect();
    format!("{prefix}{}", lines.join(&indent))
}
