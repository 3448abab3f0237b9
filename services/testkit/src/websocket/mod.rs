//! The client protocol over WebSocket.
//!
//! A [`Client`] reads in a task of its own: it answers pings and records what comes, in order, whatever the test is
//! waiting for. [`Raw`] speaks bytes and frames, for input that no proper client sends and for slow readers.

mod frame;
mod raw;
mod reply;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;
use crate::dial::{Stream, Target, dial};
use crate::http::Response;
pub use frame::{Frame, Opcode};
pub use raw::{Incoming, Raw};
pub use reply::{ErrorReply, Publication, Push, Subscribed};

/// More recorded messages than this is a runaway test.
const RECORD_LIMIT: usize = 1_000_000;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// With a close frame.
    Frame {
        /// The close code; 1005 stands for a close frame without one.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// Without one.
    Broken(String),
}

impl Closed {
    /// The close code, if there was a close frame.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Frame { code, .. } => Some(*code),
            Self::Broken(_) => None,
        }
    }
}

/// What a connection has received.
#[derive(Clone, Debug, Default)]
struct Record {
    frames: Vec<String>,
    messages: Vec<Value>,
    closed: Option<Closed>,
}

/// A client of the protocol.
pub struct Client {
    record: watch::Receiver<Record>,
    outgoing: mpsc::Sender<Message>,
    answers_pings: Arc<AtomicBool>,
    last_id: u32,
    /// Messages before this index were looked at for pushes.
    taken: usize,
    /// Aborted with the client: dropping it drops the connection without a close frame.
    _reader: JoinSet<()>,
}

impl Client {
    /// Opens the connection without sending a command; panics when the handshake is refused.
    pub async fn open(url: impl Into<Target>) -> Self {
        Self::try_open(url, &[]).await.unwrap_or_else(|refused| panic!("{}: {}", refused.status, refused.text()))
    }

    /// Opens the connection with headers of the caller's; a refusal is the HTTP response.
    pub async fn try_open(url: impl Into<Target>, headers: &[(&str, &str)]) -> Result<Self, Box<Response>> {
        let target = url.into();
        let stream = dial(&target, &["http/1.1"]).await.unwrap_or_else(|error| panic!("{}: {error}", target.uri));
        let mut request = target.uri.clone().into_client_request().expect("a ws or wss URL");
        for (name, value) in headers {
            let name: ::http::HeaderName = name.parse().expect("a legal header name");
            request.headers_mut().insert(name, value.parse().expect("a legal header value"));
        }
        let handshake = tokio::time::timeout(PATIENCE, client_async(request, stream)).await;
        match handshake.unwrap_or_else(|_| panic!("{}: no answer to the handshake", target.uri)) {
            Ok((socket, _)) => Ok(Self::start(socket)),
            Err(Error::Http(response)) => {
                let (head, body) = response.into_parts();
                let body = body.unwrap_or_default().into();
                Err(Box::new(Response { status: head.status, headers: head.headers, body }))
            }
            Err(error) => panic!("{}: {error}", target.uri),
        }
    }

    /// Opens the connection and connects with a token (`""` for none); panics when either is refused.
    pub async fn connect(url: impl Into<Target>, token: &str) -> Self {
        let mut client = Self::open(url).await;
        let reply = client.command(json!({"connect": {"token": token, "name": "testkit"}})).await;
        assert!(reply.get("connect").is_some(), "connect: {reply}");
        client
    }

    fn start(socket: WebSocketStream<Stream>) -> Self {
        let (recorder, record) = watch::channel(Record::default());
        let (outgoing, commands) = mpsc::channel(64);
        let answers_pings = Arc::new(AtomicBool::new(true));
        let mut reader = JoinSet::new();
        reader.spawn(run(socket, commands, recorder, answers_pings.clone()));
        Self { record, outgoing, answers_pings, last_id: 0, taken: 0, _reader: reader }
    }

    /// Stops answering the protocol's pings.
    pub fn ignore_pings(&self) {
        self.answers_pings.store(false, Ordering::Relaxed);
    }

    /// Sends text as one frame.
    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Sends any message.
    pub async fn send(&mut self, message: Message) {
        // After the end nobody takes messages; what a test then waits for tells it.
        let _ = tokio::time::timeout(PATIENCE, self.outgoing.send(message)).await;
    }

    /// Sends a command with a fresh id and returns the id, without waiting.
    pub async fn send_command(&mut self, mut command: Value) -> u32 {
        self.last_id += 1;
        command["id"] = self.last_id.into();
        self.send_text(&command.to_string()).await;
        self.last_id
    }

    /// Sends a command and returns the whole reply; panics when the connection ends or no reply comes.
    pub async fn command(&mut self, command: Value) -> Value {
        let text = command.to_string();
        self.try_command(command).await.unwrap_or_else(|closed| panic!("{closed:?} instead of a reply to {text}"))
    }

    /// The same, but the connection may end instead.
    pub async fn try_command(&mut self, command: Value) -> Result<Value, Closed> {
        let from = self.record.borrow().messages.len();
        let id = self.send_command(command).await;
        self.reply(id, from).await
    }

    /// Waits for the reply to a command sent earlier.
    pub async fn reply_to(&mut self, id: u32) -> Value {
        self.reply(id, 0).await.unwrap_or_else(|closed| panic!("{closed:?} instead of a reply to command {id}"))
    }

    async fn reply(&mut self, id: u32, from: usize) -> Result<Value, Closed> {
        let find = |record: &Record| {
            let reply = record.messages[from..].iter().find(|message| message["id"] == id).cloned();
            reply.map(Ok).or_else(|| record.closed.clone().map(Err))
        };
        self.wait(PATIENCE, find).await.unwrap_or_else(|| panic!("no reply to command {id}: {}", self.tail()))
    }

    /// Sends a command of one request and returns its result, or the reply's error.
    pub async fn request(&mut self, name: &str, request: Value) -> Result<Value, ErrorReply> {
        let mut reply = self.command(json!({name: request})).await;
        match reply.get("error") {
            Some(error) => Err(serde_json::from_value(error.clone()).expect("an error reply has a code")),
            None => Ok(reply.get_mut(name).unwrap_or_else(|| panic!("the reply has no {name}")).take()),
        }
    }

    /// Subscribes; panics on an error reply.
    pub async fn subscribe(&mut self, channel: &str) -> Subscribed {
        self.try_subscribe(channel).await.unwrap_or_else(|error| panic!("subscribe {channel}: {error:?}"))
    }

    /// Subscribes.
    pub async fn try_subscribe(&mut self, channel: &str) -> Result<Subscribed, ErrorReply> {
        self.request("subscribe", json!({"channel": channel, "flag": 1})).await.map(Subscribed::parse)
    }

    /// Subscribes, resuming from a position; panics on an error reply.
    pub async fn subscribe_recover(&mut self, channel: &str, epoch: &str, offset: u64) -> Subscribed {
        let request = json!({"channel": channel, "recover": true, "epoch": epoch, "offset": offset, "flag": 1});
        let result = self.request("subscribe", request).await;
        result.map(Subscribed::parse).unwrap_or_else(|error| panic!("subscribe {channel}: {error:?}"))
    }

    /// Unsubscribes.
    pub async fn unsubscribe(&mut self, channel: &str) -> Result<(), ErrorReply> {
        self.request("unsubscribe", json!({"channel": channel})).await.map(drop)
    }

    /// Publishes.
    pub async fn publish(&mut self, channel: &str, data: Value) -> Result<(), ErrorReply> {
        self.request("publish", json!({"channel": channel, "data": data})).await.map(drop)
    }

    /// Reads history: `{"publications":[...],"epoch":"...","offset":...}`. Negative `limit`: as many as allowed.
    pub async fn history(&mut self, channel: &str, limit: i32) -> Result<Value, ErrorReply> {
        self.request("history", json!({"channel": channel, "limit": limit})).await
    }

    /// Gives the connection a new token.
    pub async fn refresh(&mut self, token: &str) -> Result<Value, ErrorReply> {
        self.request("refresh", json!({"token": token})).await
    }

    /// The next push; panics when none comes.
    pub async fn next_push(&mut self) -> Push {
        self.next_push_within(PATIENCE).await.unwrap_or_else(|| panic!("no push: {}", self.tail()))
    }

    /// The next push, or `None` when none comes within the deadline or before the end.
    pub async fn next_push_within(&mut self, deadline: Duration) -> Option<Push> {
        let from = self.taken;
        let find = |record: &Record| {
            let next = record.messages[from..].iter().position(|message| message.get("push").is_some());
            match next {
                Some(ahead) => Some(Some((from + ahead + 1, record.messages[from + ahead]["push"].clone()))),
                None => record.closed.is_some().then_some(None),
            }
        };
        let (taken, push) = self.wait(deadline, find).await??;
        self.taken = taken;
        Some(Push::parse(push))
    }

    /// The next push, which must be a publication.
    pub async fn next_publication(&mut self) -> Publication {
        match self.next_push().await {
            Push::Publication(publication) => publication,
            other => panic!("not a publication: {other:?}"),
        }
    }

    /// Waits for the connection's end; panics when it stays.
    pub async fn closed(&mut self) -> Closed {
        self.closed_within(PATIENCE).await.unwrap_or_else(|| panic!("still connected: {}", self.tail()))
    }

    /// Waits for the connection's end.
    pub async fn closed_within(&mut self, deadline: Duration) -> Option<Closed> {
        self.wait(deadline, |record| record.closed.clone()).await
    }

    /// Sends a close frame and waits for the end.
    pub async fn close(mut self) -> Closed {
        self.send(Message::Close(None)).await;
        self.closed().await
    }

    /// All text frames so far, as received.
    pub fn frames(&self) -> Vec<String> {
        self.record.borrow().frames.clone()
    }

    /// All replies, pushes and pings (`{}`) so far, in the order received.
    pub fn messages(&self) -> Vec<Value> {
        self.record.borrow().messages.clone()
    }

    async fn wait<T>(&mut self, deadline: Duration, find: impl Fn(&Record) -> Option<T>) -> Option<T> {
        let mut found = None;
        let looked = self.record.wait_for(|record| {
            found = find(record);
            found.is_some()
        });
        // An error means the reader is gone; it leaves `closed` behind, which the last look has seen.
        let _ = tokio::time::timeout(deadline, looked).await;
        found
    }

    fn tail(&self) -> String {
        let record = self.record.borrow();
        let last: Vec<_> = record.messages.iter().rev().take(5).rev().map(Value::to_string).collect();
        format!("{} messages, closed {:?}, last {last:?}", record.messages.len(), record.closed)
    }
}

/// Reads until the end, answering pings and sending what the test sends.
async fn run(
    mut socket: WebSocketStream<Stream>,
    mut commands: mpsc::Receiver<Message>,
    record: watch::Sender<Record>,
    answers_pings: Arc<AtomicBool>,
) {
    let mut close = None;
    let closed = loop {
        tokio::select! {
            Some(message) = commands.recv() => {
                if let Err(error) = socket.send(message).await {
                    // What the server said before it closed is still to be read.
                    if !matches!(error, Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) | Error::Io(_)) {
                        break Closed::Broken(error.to_string());
                    }
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let pings = note(&record, &text);
                    if answers_pings.load(Ordering::Relaxed) {
                        for _ in 0..pings {
                            let _ = socket.send(Message::text("{}")).await;
                        }
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                        (frame.code.into(), frame.reason.as_str().to_owned())
                    });
                    close = Some(Closed::Frame { code, reason });
                }
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => {
                    break close.unwrap_or_else(|| Closed::Broken("end of stream".to_owned()));
                }
                Some(Err(error)) => break close.unwrap_or_else(|| Closed::Broken(error.to_string())),
            }
        }
    };
    record.send_modify(|record| record.closed = Some(closed));
}

/// Records a frame and returns how many pings it holds.
fn note(record: &watch::Sender<Record>, text: &str) -> usize {
    let messages: Vec<Value> = text
        .split('\n')
        .filter(|message| !message.is_empty())
        .map(|message| serde_json::from_str(message).unwrap_or_else(|_| Value::String(message.to_owned())))
        .collect();
    let pings = messages.iter().filter(|message| **message == json!({})).count();
    record.send_modify(|record| {
        assert!(record.messages.len() < RECORD_LIMIT, "more than {RECORD_LIMIT} messages on one connection");
        record.frames.push(text.to_owned());
        record.messages.extend(messages);
    });
    pings
}

#[cfg(test)]
mod tests;
