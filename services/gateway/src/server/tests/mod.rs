//! The server over real sockets.
#![allow(clippy::unwrap_used)]

mod addresses;
mod bad_input;
mod cors;
mod deadlines;
mod encrypted;
mod hosts;
mod http2;
mod limits;
mod pipelining;
mod shutdown;
mod takeover;
mod windows;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{any, get, post};
use futures_util::{Stream, StreamExt};
use prometheus::Registry;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::*;

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Size of the answer of `/large`: more than the kernel takes for a client that does not read.
const LARGE: usize = 16 * 1024 * 1024;

/// Size of the answer of `/page`: as much as h2 takes of one at a time.
const PAGE: usize = 60_000;

/// Size of the streams of `/whole-stream` and `/open-stream`.
const PART: usize = 5000;

/// Limits that no test meets unless it means to.
fn patient() -> Settings {
    Settings {
        header_timeout: PATIENCE * 2,
        body_timeout: PATIENCE * 2,
        idle_timeout: PATIENCE * 2,
        write_timeout: PATIENCE * 2,
        tls_handshake_timeout: PATIENCE * 2,
        ..Settings::default()
    }
}

struct Server {
    address: SocketAddr,
    metrics: ServerMetrics,
    ending: Ending,
    /// Each permit lets one request to `/gated` be answered.
    gate: Arc<Semaphore>,
    /// Counts requests to `/gated`, which wait there, and to `/bulky`.
    waiting: Arc<Semaphore>,
    /// A number that the test counts up. `/count` lets other tasks run once, and answers with it.
    count: Arc<AtomicUsize>,
}

impl Server {
    fn start(settings: Settings) -> Self {
        Self::start_with(settings, None)
    }

    fn start_with(settings: Settings, tls: Option<Arc<ServerConfig>>) -> Self {
        settings.validate().unwrap();
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), &settings).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            metrics: ServerMetrics::register(&Registry::new()).unwrap(),
            ending: Ending::default(),
            gate: Arc::new(Semaphore::new(0)),
            waiting: Arc::new(Semaphore::new(0)),
            count: Arc::default(),
        };
        server.ending.tracker.spawn(serve(Endpoint {
            name: "public",
            listener,
            router: router(Arc::clone(&server.gate), Arc::clone(&server.waiting)).route("/count", {
                let count = Arc::clone(&server.count);
                post(move |_body: Bytes| async move {
                    let_others_run().await;
                    format!("<{}>", count.load(Ordering::SeqCst))
                })
            }),
            express: Some(express(Arc::clone(&server.waiting))),
            cors: Some(friends()),
            settings: Arc::new(settings),
            clients: Some(Clients { others: &["/echo"] }),
            tls,
            metrics: server.metrics.clone(),
            ending: server.ending.clone(),
        }));
        server
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What the server says to these bytes until it closes.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        // The server may refuse and close before all is sent.
        let _ = client.write_all(bytes.as_ref()).await;
        until_closed(&mut client).await
    }

    fn rejected(&self, reason: &str) -> u64 {
        self.metrics.sockets_rejected_total.with_label_values(&["public", reason]).get()
    }

    fn open(&self) -> i64 {
        self.metrics.sockets_open.with_label_values(&["public"]).get()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.stop_accepting.cancel();
        self.ending.close_now.cancel();
    }
}

/// Ends this poll, and begins the next one as soon as tasks that are ready have had theirs. `yield_now` also waits for the
/// I/O driver.
async fn let_others_run() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Pages of one origin may read answers, with cookies.
fn friends() -> Cors {
    Cors::new(|headers, _| match headers.get_all("origin").iter().collect::<Vec<_>>()[..] {
        [origin] if origin == "https://app.example" => {
            OriginAccess::Listed { origin: origin.clone(), credentials: true }
        }
        _ => OriginAccess::Foreign,
    })
}

/// A body of a length that is not known before, in one part.
fn part() -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::iter([Ok(Bytes::from(vec![b'x'; PART]))])
}

fn router(gate: Arc<Semaphore>, waiting: Arc<Semaphore>) -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/whose", any(addresses::whose))
        .route("/private", get(|| async { ([("cross-origin-resource-policy", "same-origin")], "private") }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/large", any(|| async { Body::from(vec![b'x'; LARGE]) }))
        .route("/whole-stream", get(|| async { Body::from_stream(part()) }))
        .route("/open-stream", get(|| async { Body::from_stream(part().chain(futures_util::stream::pending())) }))
        .route("/page", get(|| async { Body::from(vec![b'x'; PAGE]) }))
        .route("/socket", any(echo_socket))
        .route("/user-timeout", any(takeover::user_timeout))
        .route("/read-then-socket", post(|_body: Bytes| echo_socket()))
        .route("/stream", get(stream))
        .route("/lasting", get(|| async { Body::from_stream(part().chain(futures_util::stream::pending())) }))
        .route(
            "/bulky",
            post({
                let waiting = Arc::clone(&waiting);
                move || async move {
                    waiting.add_permits(1);
                    (StatusCode::NO_CONTENT, [("x-bulk", "x".repeat(8000))])
                }
            }),
        )
        .route(
            "/gated",
            get(move || async move {
                waiting.add_permits(1);
                gate.acquire().await.unwrap().forget();
                "through"
            }),
        )
}

/// Sends back what came, once all of it has.
fn express(waiting: Arc<Semaphore>) -> Express {
    Express::post("/express", move |request| {
        waiting.add_permits(1);
        async { Response::new(axum::body::to_bytes(request.into_body(), 1000).await.unwrap().into()) }
    })
}

/// Takes the socket over and sends back what comes.
async fn echo_socket() -> Response {
    let takeover = Takeover::new(|mut taken, tracker| {
        tracker.spawn(async move {
            let early = std::mem::take(&mut taken.early);
            taken.io.write_all(&taken.head).await?;
            taken.io.write_all(&early).await?;
            let (mut read, mut write) = tokio::io::split(taken.io);
            let copied = tokio::io::copy(&mut read, &mut write).await;
            write.shutdown().await?;
            drop(taken.guard);
            copied
        });
    });
    let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
    let response = response.header("sec-websocket-accept", "echo");
    response.extension(takeover).body(Body::empty()).unwrap()
}

/// Takes the socket over and writes an event with what it is like.
async fn stream() -> Response {
    let takeover = Takeover::new(|mut taken, tracker| {
        tracker.spawn(async move {
            let socket = socket2::SockRef::from(taken.io.tcp());
            let (unsent, nodelay) = (socket.tcp_notsent_lowat().unwrap(), socket.tcp_nodelay().unwrap());
            let event = format!("data: unsent={unsent} nodelay={nodelay}\n\n");
            taken.io.write_all(&taken.head).await?;
            taken.io.write_all(event.as_bytes()).await?;
            taken.io.shutdown().await
        });
    });
    let response = Response::builder().header("content-type", "text/event-stream").extension(takeover);
    response.body(Body::empty()).unwrap()
}

/// Everything the server still says until it closes. A reset after that counts as closing.
async fn until_closed(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, client.read_to_end(&mut bytes)).await;
    let _ = read.expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `end` has come, and returns everything so far.
async fn until(client: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !bytes.ends_with(end.as_bytes()) {
            bytes.push(client.read_u8().await.unwrap());
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, read).await;
    assert!(outcome.is_ok(), "{end:?} has not come after {:?}", String::from_utf8_lossy(&bytes));
    String::from_utf8(bytes).unwrap()
}

/// Waits until something is so.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "not so after all: {what}");
}

#[tokio::test]
async fn requests_are_answered_one_after_the_other_on_one_connection() {
    let server = Server::start(patient());
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = until(&mut client, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    client
        .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await
        .unwrap();
    until(&mut client, "abc").await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = until_closed(&mut client).await;
    assert!(answer.ends_with("hello"), "{answer}");
    eventually("nothing is open", || server.open() == 0).await;
    assert_eq!(server.metrics.sockets_accepted_total.with_label_values(&["public"]).get(), 1);
    assert_eq!(server.metrics.handshake_seconds.with_label_values(&["public"]).get_sample_count(), 1);
}

#[tokio::test]
async fn one_path_goes_by_express() {
    let server = Server::start(patient());
    let mut client = server.connect().await;
    for _ in 0..20 {
        client.write_all(b"POST /express?a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
        let answer = until(&mut client, "abc").await;
        assert!(answer.contains("\r\ncontent-length: 3\r\n"), "{answer}");
    }
    for path in ["GET /express", "POST /expres", "POST /express/"] {
        client.write_all(format!("{path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let answer = until(&mut client, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_comes_later_is_waited_for() {
    let server = Server::start(patient());
    let mut client = server.connect().await;
    let head = "POST /express HTTP/1.1\r\nHost: a\r\n";
    for (expect, asked) in [("", ""), ("Expect: 100-continue\r\n", "HTTP/1.1 100 Continue\r\n\r\n")] {
        for begin in ["", "abc"] {
            client.write_all(format!("{head}{expect}Content-Length: 6\r\n\r\n{begin}").as_bytes()).await.unwrap();
            server.waiting.acquire().await.unwrap().forget();
            assert_eq!(until(&mut client, asked).await, asked);
            client.write_all(&b"abcdef"[begin.len()..]).await.unwrap();
            let answer = until(&mut client, "abcdef").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    }
}
