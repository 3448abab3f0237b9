//! A TCP proxy that breaks connections on command: cuts, stalls, refuses, heals.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client.
    ToClient,
    /// From the client to the server.
    ToServer,
}

/// Which connections are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every connection, also those to come.
    All,
    /// Those on which a `SUBSCRIBE` of Redis was seen, also those to come.
    Subscribers,
    /// Those on which a `SUBSCRIBE` was seen, but none accepted from now on.
    PresentSubscribers,
}

/// What the proxy does to its connections now.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// Connections with a number below this are closed.
    cut_below: usize,
    /// New connections are closed at once.
    refuse: bool,
    /// What is not forwarded: the direction, only subscribers, only connections with a number below this.
    stall: Option<(Direction, bool, usize)>,
    /// Where new connections are forwarded to, if not to the server that it began with.
    server: Option<SocketAddr>,
}

/// A proxy before one server.
pub struct ChaosProxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl ChaosProxy {
    /// Listens on a free port and forwards to `server`.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, seen) = watch::channel(Weather::default());
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = accepted.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let now = *seen.borrow();
                if !now.refuse {
                    tokio::spawn(serve(client, now.server.unwrap_or(server), number, seen.clone()));
                }
            }
        });
        Self { address, weather, accepted, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Closes every connection there is; new ones are welcome.
    pub fn cut(&self) {
        let now = self.accepted();
        self.weather.send_modify(|weather| weather.cut_below = now);
    }

    /// Closes every connection there is, and forwards new ones to another server: what a failover does to an address.
    pub fn lead_to(&self, server: SocketAddr) {
        self.weather.send_modify(|weather| weather.server = Some(server));
        self.cut();
    }

    /// Closes every new connection at once; those there are go on.
    pub fn refuse(&self) {
        self.weather.send_modify(|weather| weather.refuse = true);
    }

    /// Goes on accepting, but forwards nothing in one direction. What arrives meanwhile is kept, as a network does.
    pub fn stall(&self, direction: Direction, which: Which) {
        let below = if which == Which::PresentSubscribers { self.accepted() } else { usize::MAX };
        self.weather.send_modify(|weather| weather.stall = Some((direction, which != Which::All, below)));
    }

    /// Ends every trouble; what was kept is forwarded.
    pub fn heal(&self) {
        self.weather.send_modify(|weather| {
            *weather = Weather { cut_below: weather.cut_below, server: weather.server, ..Weather::default() };
        });
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.weather.send_modify(|weather| weather.cut_below = usize::MAX);
    }
}

/// One proxied connection; ends with either side, or when it is cut.
async fn serve(client: TcpStream, server: SocketAddr, number: usize, weather: watch::Receiver<Weather>) {
    let Ok(upstream) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = upstream.into_split();
    let subscriber = AtomicBool::new(false);
    let mut cut = weather.clone();
    tokio::select! {
        // What was held back and is cut now must not slip through.
        biased;
        _ = cut.wait_for(|weather| number < weather.cut_below) => {}
        () = pump(client_in, server_out, Direction::ToServer, number, weather.clone(), &subscriber) => {}
        () = pump(server_in, client_out, Direction::ToClient, number, weather, &subscriber) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    number: usize,
    mut weather: watch::Receiver<Weather>,
    subscriber: &AtomicBool,
) {
    const WORD: &[u8] = b"SUBSCRIBE";
    let mut buffer = vec![0; 64 * 1024];
    // The end of what was read before, in which the word may have begun.
    let mut tail = Vec::new();
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if direction == Direction::ToServer && !subscriber.load(Ordering::SeqCst) {
            tail.extend(buffer[..length].iter().map(u8::to_ascii_uppercase));
            subscriber.store(tail.windows(WORD.len()).any(|window| window == WORD), Ordering::SeqCst);
            tail.drain(..tail.len().saturating_sub(WORD.len() - 1));
        }
        let passes = |weather: &Weather| {
            weather.stall.is_none_or(|(stalled, only_subscribers, below)| {
                stalled != direction || number >= below || (only_subscribers && !subscriber.load(Ordering::SeqCst))
            })
        };
        if weather.wait_for(passes).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::RedisServer;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn ask(connection: &mut TcpStream, question: &str, answer: &str) {
        connection.write_all(format!("{question}\r\n").as_bytes()).await.unwrap();
        expect(connection, answer).await;
    }

    async fn expect(connection: &mut TcpStream, answer: &str) {
        let mut got = vec![0; answer.len()];
        timeout(Duration::from_secs(10), connection.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), answer);
    }

    async fn expect_end(connection: &mut TcpStream) {
        let read = timeout(Duration::from_secs(10), connection.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    #[tokio::test]
    async fn cuts_stalls_refuses_and_heals() {
        let server = RedisServer::start().await;
        let proxy = ChaosProxy::start(server.address()).await;
        let connect = || async { TcpStream::connect(proxy.address()).await.unwrap() };
        let (mut plain, mut subscribed) = (connect().await, connect().await);
        ask(&mut plain, "PING", "+PONG\r\n").await;
        ask(&mut subscribed, "SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;

        proxy.stall(Direction::ToClient, Which::PresentSubscribers);
        ask(&mut plain, "PUBLISH a x", ":1\r\n").await;
        let mut byte = [0];
        // The answer of the publisher came after the message was sent to the subscriber: it would be here by now.
        assert!(timeout(Duration::from_millis(50), subscribed.read(&mut byte)).await.is_err());
        let mut later = connect().await;
        ask(&mut later, "SUBSCRIBE b", "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:1\r\n").await;
        proxy.heal();
        expect(&mut subscribed, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n").await;

        proxy.refuse();
        expect_end(&mut connect().await).await;
        ask(&mut plain, "PING", "+PONG\r\n").await;
        proxy.cut();
        expect_end(&mut plain).await;
        expect_end(&mut subscribed).await;
        proxy.heal();
        ask(&mut connect().await, "PING", "+PONG\r\n").await;
    }
}
