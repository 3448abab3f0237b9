//! Clients that resume from the beginning of many channels and hardly read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fanway_testkit::cursor;
use fanway_testkit::node::Node;
use fanway_testkit::poll::{escape, try_poll};
use fanway_testkit::token::Claims;
use fanway_testkit::websocket::{Frame, Raw};
use h2::client::SendRequest;
use http::Request;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Bytes that a slow client takes every tenth of a second: 32 KB/s.
const SIP: usize = 3_200;
const SIPS: Duration = Duration::from_millis(100);
const RECEIVE_BUFFER: u32 = 8 * 1024;

/// What lies in the logs of the channels.
pub(crate) struct Backlog {
    /// Names and epochs, in byte order.
    pub(crate) channels: Vec<(String, String)>,
    /// Offset of the newest publication of each.
    pub(crate) last: u64,
}

impl Backlog {
    pub(crate) fn names(&self) -> Vec<&str> {
        self.channels.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The cursor before everything.
    pub(crate) fn beginning(&self) -> String {
        self.beginning_of(self.channels.len())
    }

    /// The same for the first so many channels.
    pub(crate) fn beginning_of(&self, count: usize) -> String {
        let items: Vec<_> = self.channels[..count].iter().map(|(name, epoch)| (&**name, &**epoch, 0)).collect();
        cursor::write(&items)
    }

    /// Path of an event stream of all channels from the beginning.
    pub(crate) fn stream(&self) -> String {
        format!("/sse?{}", self.query())
    }

    /// Path of a poll of the same that does not wait.
    pub(crate) fn poll(&self) -> String {
        format!("/poll?{}&timeout=0", self.query())
    }

    fn query(&self) -> String {
        let channels: String = self.names().iter().map(|name| format!("channel={name}&")).collect();
        format!("{channels}cursor={}", escape(&self.beginning()))
    }
}

/// All attackers at once.
pub(crate) struct Attack {
    tasks: JoinSet<()>,
    polls: Arc<AtomicUsize>,
}

impl Attack {
    pub(crate) async fn start(node: &Node, backlog: &Backlog) -> Self {
        let (mut tasks, polls) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        let token = node.token(&Claims::user("mallory"));
        tasks.spawn(closed_windows(node.port(), 1, backlog.stream(), 6, token.clone()));
        for window in [0, 20_000] {
            tasks.spawn(closed_windows(node.port(), window, backlog.poll(), 90, token.clone()));
        }
        for _ in 0..5 {
            tasks.spawn(slow_stream(node.port(), backlog.stream(), token.clone()));
        }
        for _ in 0..3 {
            let socket = Raw::connect_narrow(node.websocket_url(), RECEIVE_BUFFER).await;
            tasks.spawn(slow_socket(socket, commands(backlog, &token)));
        }
        for _ in 0..12 {
            let (url, names, cursor) = (node.url("/poll"), backlog.names(), backlog.beginning());
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let (header, polls) = (format!("Bearer {token}"), polls.clone());
            tasks.spawn(async move {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                loop {
                    let headers = [("authorization", header.as_str())];
                    let answer = try_poll(url.clone(), &names, Some(&cursor), Duration::ZERO, &headers).await.unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    polls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { tasks, polls }
    }

    /// Polls from the beginning of all channels, so many at once on each of so many connections, whose answers nobody takes.
    pub(crate) fn polls_that_take_nothing(node: &Node, backlog: &Backlog, connections: usize, polls: usize) -> Self {
        let (mut tasks, token) = (JoinSet::new(), node.token(&Claims::user("mallory")));
        for _ in 0..connections {
            tasks.spawn(closed_windows(node.port(), 0, backlog.poll(), polls, token.clone()));
        }
        Self { tasks, polls: Arc::default() }
    }

    /// Polls that were answered.
    pub(crate) fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }

    /// Ends it, and fails if a part of it did.
    pub(crate) async fn end(mut self) {
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next().await {
            assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
        }
    }
}

async fn connect(port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
}

/// One HTTP/2 connection with many requests at once, whose streams have room for so many bytes and no more. A request is
/// sent again when its stream ends, and the connection opened again when that ends.
async fn closed_windows(port: u16, window: u32, path: String, streams: usize, token: String) {
    loop {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 30);
        let (sender, connection) = builder.handshake::<_, Bytes>(connect(port).await).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        for _ in 0..streams {
            tasks.spawn(take_nothing(sender.clone(), format!("http://127.0.0.1:{port}{path}"), token.clone()));
        }
        tasks.join_next().await;
    }
}

/// Sends one request after the other, each when the answer before it has ended. Returns when the connection has.
async fn take_nothing(sender: SendRequest<Bytes>, uri: String, token: String) {
    while let Ok(mut ready) = sender.clone().ready().await {
        let request = Request::get(&uri).header("authorization", format!("Bearer {token}"));
        let Ok((response, _)) = ready.send_request(request.body(()).unwrap(), true) else { return };
        let Ok(response) = response.await else { continue };
        let mut body = response.into_body();
        while let Some(Ok(_)) = body.data().await {}
    }
}

/// An event stream over HTTP/1.1, read slowly.
async fn slow_stream(port: u16, path: String, token: String) {
    loop {
        let mut stream = connect(port).await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = [0; SIP];
        let length = stream.read(&mut bytes).await.unwrap();
        assert!(bytes[..length].starts_with(b"HTTP/1.1 200"));
        while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {
            tokio::time::sleep(SIPS).await;
        }
    }
}

/// A connect, and resumes of sixty channels.
fn commands(backlog: &Backlog, token: &str) -> Vec<Frame> {
    let connect = json!({"id": 1, "connect": {"token": token}});
    let resume = |(id, (channel, epoch)): (usize, &(String, String))| json!({"id": id, "subscribe": {"channel": channel, "recover": true, "epoch": epoch, "offset": 0}});
    let resumes = (2..).zip(&backlog.channels).take(60).map(resume);
    std::iter::once(connect).chain(resumes).map(|command| Frame::text(&command.to_string())).collect()
}

/// A WebSocket that resumes and reads slowly.
async fn slow_socket(mut socket: Raw, commands: Vec<Frame>) {
    socket.handshake(&[]).await;
    for command in commands {
        socket.write_frame(&command).await;
    }
    while socket.discard(SIP, Duration::from_secs(60)).await.is_ok() {
        tokio::time::sleep(SIPS).await;
    }
}
