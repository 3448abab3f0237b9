//! A protocol in one file, for which nothing else was changed: lines of text over TCP.
//!
//! A client sends `sub CHANNEL [EPOCH.OFFSET]` and receives `sub CHANNEL POSITION ok`, or the reason of the gap where it
//! cannot have what it missed; then `pub CHANNEL POSITION DATA`, `gap CHANNEL POSITION REASON` if something is lost, and at
//! the end `bye`, or `bye again` if it should come back.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use fanway_hub::driver::{Driver, Socket};
use fanway_hub::encoding::Encoder;
use fanway_hub::entry::{Entry, Kind};
use fanway_hub::session::{Join, Output, Protocol, Session};
use fanway_hub::{CloseReason, From, Hub, Identity};
use fanway_protocol::{Channel, Epoch, Position, Right};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, Lines, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use support::{fast, hub, publish};

/// Lines of text, from the side of one connection.
struct TextLines {
    identity: Identity,
    /// Beginning of a command that is incomplete.
    line: Vec<u8>,
    /// Channels that are being joined, in the order of the commands.
    joins: VecDeque<Join>,
    /// Subscriptions so far.
    count: u32,
}

impl Protocol for TextLines {
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

    fn identity(&self) -> Option<&Identity> {
        Some(&self.identity)
    }

    fn on_input(session: &mut Session<Self>, input: &mut [u8], _now: Instant) {
        session.protocol.line.extend_from_slice(input);
        while let Some(end) = session.protocol.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = session.protocol.line.drain(..=end).collect();
            if on_command(session, std::str::from_utf8(&line).unwrap_or_default()).is_none() {
                session.core.close(CloseReason::BadRequest);
            }
        }
    }

    fn poll(session: &mut Session<Self>, cx: &mut Context<'_>, now: Instant) {
        while let Some(first) = session.protocol.joins.front_mut()
            && first.poll(cx).is_ready()
            && let Some(join) = session.protocol.joins.pop_front()
        {
            joined(session, join, now);
        }
    }

    fn on_tick(session: &mut Session<Self>, now: Instant) {
        session.core.schedule(now + Duration::from_secs(10));
    }

    fn on_close(session: &mut Session<Self>, reason: CloseReason) {
        session.core.outbox().extend_from_slice(if reason.reconnects() { b"bye again\n" } else { b"bye\n" });
    }
}

fn on_command(session: &mut Session<TextLines>, line: &str) -> Option<()> {
    let mut words = line.split_whitespace();
    let (Some("sub"), Some(channel), position) = (words.next(), words.next(), words.next()) else { return None };
    let channel = Channel::new(channel).ok()?;
    let from = position.map_or(Some(From::Head), |text| parse(text).map(From::Position))?;
    let namespace = session.core.hub().namespaces().of(&channel)?;
    let allowed = namespace.allows(Right::Subscribe, &channel, &session.protocol.identity, false);
    let join = allowed.then(|| session.core.join(&channel, from, session.protocol.count))?;
    session.protocol.count += 1;
    session.protocol.joins.push_back(join);
    Some(())
}

fn joined(session: &mut Session<TextLines>, join: Join, now: Instant) {
    let (channel, index) = (join.channel().clone(), join.index());
    let Ok(gap) = session.core.subscribe(join, now) else { return session.core.close(CloseReason::Internal) };
    let (position, outcome) = (text(session.core.position(index)), gap.map_or("ok", |reason| reason.as_str()));
    writeln!(session.core.outbox(), "sub {channel} {position} {outcome}").unwrap();
}

fn parse(text: &str) -> Option<Position> {
    let (epoch, offset) = text.split_once('.')?;
    Some(Position { epoch: Epoch::parse(epoch)?, offset: offset.parse().ok()? })
}

fn text(position: Option<Position>) -> String {
    position.map_or("-".to_owned(), |position| format!("{}.{}", position.epoch, position.offset))
}

struct Encoding;

impl Encoder for Encoding {
    fn encode(&self, channel: &Channel, entry: &Entry, out: &mut Vec<u8>) {
        match &entry.kind {
            Kind::Publication { publication, .. } => {
                let data = String::from_utf8_lossy(publication.data.bytes());
                writeln!(out, "pub {channel} {} {data}", text(entry.position)).unwrap();
            }
            Kind::Gap { reason, .. } => {
                writeln!(out, "gap {channel} {} {}", text(entry.position), reason.as_str()).unwrap();
            }
        }
    }
}

struct Tcp(TcpStream);

impl Socket for Tcp {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.0.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn serve(hub: Arc<Hub>, listener: TcpListener) {
    let transport = hub.transport("lines").unwrap();
    let encoding = hub.encodings().intern("text lines", || Box::new(Encoding)).unwrap();
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(Driver::new(Tcp(socket), &mut [], |handle| {
            let (identity, now) = (Identity::anonymous(), Instant::now());
            let protocol = TextLines { identity, line: Vec::new(), joins: VecDeque::new(), count: 0 };
            Session::open(hub.clone(), handle, Output::new(transport, encoding), protocol, now, now)
        }));
    }
}

struct Client(Lines<BufReader<TcpStream>>);

impl Client {
    async fn new(address: SocketAddr, command: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(command.as_bytes()).await.unwrap();
        Self(BufReader::new(socket).lines())
    }

    async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(Duration::from_secs(20), self.0.next_line()).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_protocol_of_one_file_subscribes_receives_resumes_and_is_drained() {
    let (hub, broker) = hub(100, fast());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(hub.clone(), listener));

    let mut client = Client::new(address, "sub news\n").await;
    let subscribed = client.line().await.unwrap();
    let epoch = subscribed.strip_prefix("sub news ").and_then(|rest| rest.strip_suffix(".0 ok")).unwrap();
    publish(&broker, &hub, "news", "1".to_owned()).await;
    assert_eq!(client.line().await, Some(format!("pub news {epoch}.1 1")));
    drop(client);
    publish(&broker, &hub, "news", "2".to_owned()).await;
    publish(&broker, &hub, "news", "3".to_owned()).await;

    let mut client = Client::new(address, &format!("sub news {epoch}.1\n")).await;
    assert_eq!(client.line().await, Some(format!("sub news {epoch}.1 ok")));
    assert_eq!(client.line().await, Some(format!("pub news {epoch}.2 2")));
    assert_eq!(client.line().await, Some(format!("pub news {epoch}.3 3")));
    let mut other = Client::new(address, &format!("sub news {}.1\n", "x".repeat(20))).await;
    assert_eq!(other.line().await, Some(format!("sub news {epoch}.3 unknown_epoch")));
    publish(&broker, &hub, "news", "4".to_owned()).await;
    assert_eq!(client.line().await, Some(format!("pub news {epoch}.4 4")));

    hub.drain(Duration::ZERO).await;
    assert_eq!((client.line().await.as_deref(), client.line().await), (Some("bye again"), None));
}
