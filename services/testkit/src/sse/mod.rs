//! Server-sent events over HTTP/1.1 and HTTP/2, read as a browser's `EventSource` reads them.
//!
//! Unlike `EventSource` a client here never reconnects by itself: the test says when, and with which `Last-Event-ID`.

mod parser;

use std::collections::VecDeque;
use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::dial::{Target, dial};
use crate::http::Response;
pub use crate::poll::{Gap, Publication};
pub use parser::{Event, Parser};

/// What a stream is asked for with.
#[derive(Clone, Debug)]
pub struct Request {
    target: Target,
    headers: Vec<(String, String)>,
    http2: bool,
}

impl Request {
    /// A request over HTTP/1.1.
    pub fn to(target: impl Into<Target>) -> Self {
        let headers = vec![("accept".to_owned(), "text/event-stream".to_owned())];
        Self { target: target.into(), headers, http2: false }
    }

    /// Resumes after an id.
    pub fn last_event_id(self, id: &str) -> Self {
        self.header("last-event-id", id)
    }

    /// Authenticates with a connection token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds any header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses HTTP/2: by ALPN over TLS, by prior knowledge without.
    pub fn over_http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Opens the stream; any status but 200 comes back as the whole response.
    pub async fn send(self) -> Result<Client, Box<Response>> {
        if self.http2 {
            let target = self.target.clone();
            return Connection::open(target).await.send(self).await;
        }
        let stream = dial(&self.target, &["http/1.1"]).await.unwrap_or_else(|error| self.fail(&error));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.unwrap_or_else(|error| self.fail(&error));
        let mut driver = JoinSet::new();
        // What breaks the connection also breaks the body, which is where it is reported.
        driver.spawn(async { drop(connection.await) });
        let request = self.build(false);
        let response = within(sender.send_request(request)).await.unwrap_or_else(|error| self.fail(&error));
        Client::from(response, driver).await
    }

    fn build(&self, http2: bool) -> ::http::Request<Empty<Bytes>> {
        let uri = if http2 { self.target.uri.to_string() } else { self.target.path().to_owned() };
        let mut request = ::http::Request::get(uri);
        if !http2 {
            request = request.header("host", self.target.authority());
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Empty::new()).expect("the test's headers are legal")
    }

    fn fail(&self, error: &dyn std::fmt::Display) -> ! {
        panic!("GET {}: {error}", self.target.uri)
    }
}

/// Opens a stream over HTTP/1.1; panics when it is refused.
pub async fn open(target: impl Into<Target>) -> Client {
    Request::to(target).send().await.unwrap_or_else(|refused| panic!("{}: {}", refused.status, refused.text()))
}

/// One HTTP/2 connection for several streams.
pub struct Connection {
    sender: http2::SendRequest<Empty<Bytes>>,
    driver: JoinSet<()>,
}

impl Connection {
    /// Connects.
    pub async fn open(target: impl Into<Target>) -> Self {
        let target = target.into();
        let stream = dial(&target, &["h2"]).await.unwrap_or_else(|error| panic!("{}: {error}", target.uri));
        let (sender, connection) = within(http2::handshake(TokioExecutor::new(), TokioIo::new(stream)))
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", target.uri));
        let mut driver = JoinSet::new();
        driver.spawn(async { drop(connection.await) });
        Self { sender, driver }
    }

    /// Opens a stream as the connection's only one, which ends with it.
    async fn send(mut self, request: Request) -> Result<Client, Box<Response>> {
        let response =
            within(self.sender.send_request(request.build(true))).await.unwrap_or_else(|error| request.fail(&error));
        Client::from(response, self.driver).await
    }

    /// Opens one of several streams; all end when the connection is dropped.
    pub async fn stream(&mut self, request: Request) -> Result<Client, Box<Response>> {
        let response =
            within(self.sender.send_request(request.build(true))).await.unwrap_or_else(|error| request.fail(&error));
        Client::from(response, JoinSet::new()).await
    }
}

/// Why no event came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The stream ended cleanly.
    Ended,
    /// The stream broke.
    Broken(String),
    /// Nothing came within the deadline.
    TimedOut,
}

/// An open stream.
pub struct Client {
    headers: HeaderMap,
    body: Incoming,
    parser: Parser,
    events: VecDeque<Event>,
    bytes: Vec<u8>,
    over: Option<Silence>,
    /// Aborted with the client: nothing outlives it.
    _driver: JoinSet<()>,
}

impl Client {
    async fn from(response: ::http::Response<Incoming>, driver: JoinSet<()>) -> Result<Self, Box<Response>> {
        let (head, body) = response.into_parts();
        if head.status != 200 {
            let body = within(body.collect()).await.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(Box::new(Response { status: head.status, headers: head.headers, body }));
        }
        Ok(Self {
            headers: head.headers,
            body,
            parser: Parser::default(),
            events: VecDeque::new(),
            bytes: Vec::new(),
            over: None,
            _driver: driver,
        })
    }

    /// The response's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Everything received so far, byte by byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The `id` that a reconnecting `EventSource` would send.
    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }

    /// The reconnection time the server set, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.parser.retry()
    }

    /// Comments received so far, heartbeats among them.
    pub fn comments(&self) -> &[String] {
        self.parser.comments()
    }

    /// The next event; panics when none comes.
    pub async fn next_event(&mut self) -> Event {
        self.next_event_within(PATIENCE).await.unwrap_or_else(|silence| panic!("no event: {silence:?}"))
    }

    /// The next event, or why there is none.
    pub async fn next_event_within(&mut self, deadline: Duration) -> Result<Event, Silence> {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.read(end).await?;
        }
    }

    /// The next event, which must be a publication.
    pub async fn next_publication(&mut self) -> Publication {
        let event = self.next_event().await;
        assert_eq!(event.event, "message", "not a publication: {event:?}");
        event.json()
    }

    /// The next event, which must be a gap.
    pub async fn next_gap(&mut self) -> Gap {
        let event = self.next_event().await;
        assert_eq!(event.event, "gap", "not a gap: {event:?}");
        event.json()
    }

    /// Reads on until a comment comes.
    pub async fn next_comment_within(&mut self, deadline: Duration) -> Result<String, Silence> {
        let end = tokio::time::Instant::now() + deadline;
        let known = self.parser.comments().len();
        loop {
            if let Some(comment) = self.parser.comments().get(known) {
                return Ok(comment.clone());
            }
            self.read(end).await?;
        }
    }

    /// Reads until the stream is over, and says how; events that come meanwhile stay readable.
    pub async fn ended_within(&mut self, deadline: Duration) -> Silence {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            if let Err(silence) = self.read(end).await {
                return silence;
            }
        }
    }

    async fn read(&mut self, end: tokio::time::Instant) -> Result<(), Silence> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        let over = match tokio::time::timeout_at(end, self.body.frame()).await {
            Err(_) => return Err(Silence::TimedOut),
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes.extend_from_slice(data);
                    self.events.extend(self.parser.feed(data));
                }
                return Ok(());
            }
            Ok(Some(Err(error))) => Silence::Broken(error.to_string()),
            Ok(None) => Silence::Ended,
        };
        self.over = Some(over.clone());
        Err(over)
    }
}

async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.expect("the server answers in time")
}

#[cfg(test)]
mod tests;
