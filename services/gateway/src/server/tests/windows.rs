//! HTTP/2 clients whose streams have no window, or a small one.

use std::time::Instant;

use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{Method, Request};
use tokio::io::AsyncWrite;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::*;

/// A client whose streams have windows of so many bytes, which stay closed unless a test opens them.
pub(super) struct Narrow {
    sender: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

impl Narrow {
    async fn connect(server: &Server, window: u32) -> Self {
        Self::over(server.connect().await, window).await
    }

    pub(super) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, window: u32) -> Self {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 30);
        let (sender, connection) = builder.handshake(io).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async { drop(connection.await) });
        Self { sender, _connection: task }
    }

    async fn send(&self, method: &str, path: &str, body: Option<Bytes>) -> RecvStream {
        let request = Request::builder().method(method).uri(format!("http://a{path}")).body(()).unwrap();
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (response, mut upload) = sender.send_request(request, body.is_none()).unwrap();
        if let Some(body) = body {
            upload.send_data(body, true).unwrap();
        }
        let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body()
    }

    /// An answer of which nothing was taken.
    pub(super) async fn get(&self, path: &str) -> RecvStream {
        self.send("GET", path, None).await
    }
}

/// Bytes of an answer, and the reason why its stream was reset; none at an orderly end. Takes what comes only if `takes`
/// does, which learns how many bytes came.
pub(super) async fn read(body: &mut RecvStream, mut takes: impl AsyncFnMut(usize) -> bool) -> (usize, Option<Reason>) {
    let mut bytes = 0;
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.data()).await.expect("the stream ends");
        match frame {
            Some(Ok(data)) => {
                bytes += data.len();
                if takes(bytes).await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
            }
            Some(Err(error)) => return (bytes, Some(error.reason().expect("the connection goes on"))),
            None => return (bytes, None),
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_reset_and_the_connection_goes_on() {
    for window in [0, 1, 20_000] {
        let server = Server::start(Settings { write_timeout: Duration::from_millis(500), ..patient() });
        let client = Narrow::connect(&server, window).await;
        // A request that is worked on has no deadline.
        let mut sender = client.sender.clone().ready().await.unwrap();
        let gated = Request::get("http://a/gated").body(()).unwrap();
        let (waiting, _) = sender.send_request(gated, true).unwrap();
        let mut bodies = Vec::new();
        for _ in 0..3 {
            bodies.push(client.get("/large").await);
        }
        for body in &mut bodies {
            let end = read(body, async |_| false).await;
            assert_eq!(end, (window as usize, Some(Reason::CANCEL)), "window of {window}");
        }
        assert_eq!(server.rejected("write_timeout"), 3);
        server.gate.add_permits(1);
        let answered = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert_eq!(answered.status(), StatusCode::OK);
        assert_eq!(server.open(), 1);
    }
}

/// The deadline is that of a client that takes nothing.
#[tokio::test]
async fn a_client_that_takes_an_answer_slowly_gets_all_of_it() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let server = Server::start(Settings { write_timeout: TIMEOUT, ..patient() });
    let client = Narrow::connect(&server, 40_000).await;
    let (mut body, began) = (client.get("/large").await, Instant::now());
    let mut slow = 0;
    let all = read(&mut body, async |bytes| {
        if bytes >= slow && began.elapsed() < 2 * TIMEOUT {
            slow += 40_000;
            tokio::time::sleep(TIMEOUT / 4).await;
        }
        true
    });
    assert_eq!(all.await, (LARGE, None));
    assert!(began.elapsed() >= 2 * TIMEOUT);
    assert_eq!(server.rejected("write_timeout"), 0);
}

#[tokio::test]
async fn answers_of_any_size_arrive_whole_through_any_window() {
    let server = Server::start(patient());
    for window in [1, 1000, 1 << 20] {
        let client = Narrow::connect(&server, window).await;
        for size in [0, 1, 2, 1000, 1024, 1025, 1026, 16_384, 16_385, 16_386, 17_408, 32_768, 32_769, 60_000] {
            if window == 1 && size > 2000 {
                continue; // A frame for each byte.
            }
            let sent: Bytes = (0..size).map(|n| n as u8).collect();
            let mut body = client.send("POST", "/echo", Some(sent.clone())).await;
            let mut received = Vec::new();
            while let Some(data) = tokio::time::timeout(PATIENCE, body.data()).await.unwrap() {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                received.extend_from_slice(&data);
            }
            assert_eq!(received, sent, "{size} bytes through a window of {window}");
        }
    }
}

/// However small the last part of an answer is, its client must have granted window for all of it.
#[tokio::test]
async fn an_answer_goes_on_until_its_last_byte_has_a_window() {
    for rest in [2, 500, 1024] {
        let server = Server::start(Settings { write_timeout: Duration::from_millis(500), ..patient() });
        let size = 2 * 16 * 1024 + rest;
        let window = size - rest + 1;
        let client = Narrow::connect(&server, window as u32).await;
        let mut body = client.send("POST", "/echo", Some(vec![b'x'; size].into())).await;
        assert_eq!(read(&mut body, async |_| false).await, (window, Some(Reason::CANCEL)), "{rest}");
        eventually("nothing is held", || held(&server) == 0).await;
    }
}

/// hyper hands over all that there is for the first byte of window, and polls a body of unknown end for more.
#[tokio::test]
async fn a_stream_has_a_deadline_for_all_that_h2_has() {
    let server = Server::start(Settings { write_timeout: Duration::from_secs(1), ..patient() });
    for path in ["/whole-stream", "/open-stream"] {
        for window in [0, 1, 1000, PART - 1] {
            let client = Narrow::connect(&server, window as u32).await;
            let mut body = client.get(path).await;
            assert_eq!(read(&mut body, async |_| false).await, (window, Some(Reason::CANCEL)), "{path}, {window}");
        }
    }
    let client = Narrow::connect(&server, 1000).await;
    let mut body = client.get("/whole-stream").await;
    assert_eq!(read(&mut body, async |_| true).await, (PART, None), "it ends in order");
    assert_eq!(server.rejected("write_timeout"), 8);
}

/// Bytes of large answers that the server holds.
fn held(server: &Server) -> i64 {
    server.metrics.large_answer_bytes.with_label_values(&["public"]).get()
}

/// A client that sends requests over HTTP/2 whose answers have any window, and never reads.
async fn unread(server: &Server, method: Method, path: &str, requests: u32) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(server.address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE, and WINDOW_UPDATE of the connection.
    bytes.extend_from_slice(b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff");
    bytes.extend_from_slice(b"\0\0\x04\x08\0\0\0\0\0\x7f\0\0\0");
    for request in 0..requests {
        // From the static table (RFC 7541, appendix A): the method, `http`, names of path and authority.
        let mut head = vec![if method == Method::POST { 0x83 } else { 0x82 }, 0x86, 0x04, path.len() as u8];
        head.extend_from_slice(path.as_bytes());
        head.extend_from_slice(b"\x01\x01a");
        // HEADERS with END_STREAM and END_HEADERS.
        bytes.extend_from_slice(&[0, 0, head.len() as u8, 1, 5]);
        bytes.extend_from_slice(&(1 + 2 * request).to_be_bytes());
        bytes.extend_from_slice(&head);
    }
    socket.write_all(&bytes).await.unwrap();
    socket
}

/// A client may keep a large answer in memory only while such answers are few. Others keep their own time meanwhile.
#[tokio::test]
async fn clients_that_hold_much_are_cut_and_no_others() {
    let server = Server::start(patient());
    let (client, bystander) = (Narrow::connect(&server, 1000).await, Narrow::connect(&server, 1000).await);
    let mut small = Vec::new();
    for client in [&client, &bystander] {
        small.push(client.send("POST", "/echo", Some(vec![b'x'; 5000].into())).await);
    }
    let (mut one, mut other) = (client.get("/large").await, client.get("/large").await);
    eventually("both are held", || held(&server) == 2 * LARGE as i64).await;
    // Far from the timeout, which is longer than this test may take.
    assert_eq!(read(&mut one, async |_| false).await, (1000, Some(Reason::CANCEL)));
    assert_eq!(read(&mut other, async |_| false).await, (1000, Some(Reason::CANCEL)));
    eventually("nothing is held", || held(&server) == 0).await;
    for mut body in small {
        assert_eq!(read(&mut body, async |_| true).await, (5000, None), "a small answer waits as long as ever");
    }
    assert_eq!(server.rejected("write_timeout"), 2);
}

/// A full socket keeps the answers of its connection in memory: it has a second if one of them is large.
#[tokio::test]
async fn a_full_socket_is_cut_early_only_if_it_holds_much() {
    const REQUESTS: u32 = 100;
    let server = Server::start(patient());
    let narrow = Narrow::connect(&server, 40_000).await;
    let mut taken = narrow.get("/large").await;
    // It takes enough not to be cut, and holds as much as a listener does without hurry.
    let takes = async |_| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        true
    };
    let mut taking = JoinSet::new();
    taking.spawn(async move { read(&mut taken, takes).await });
    eventually("much is held", || held(&server) == LARGE as i64).await;
    // Heads of 8,000 bytes, which no window bounds.
    let small = unread(&server, Method::POST, "/bulky", REQUESTS).await;
    for _ in 0..REQUESTS {
        server.waiting.acquire().await.unwrap().forget();
    }
    let holder = unread(&server, Method::GET, "/large", 1).await;
    eventually("more is held", || held(&server) == 2 * LARGE as i64).await;
    eventually("the holder is cut", || held(&server) == LARGE as i64).await;
    eventually("the others stay", || server.open() == 2).await;
    drop((small, holder));
}

/// A client may take back the window that it granted, when h2 has all of its answers and the socket has not.
#[tokio::test]
async fn a_window_that_is_taken_back_keeps_nothing_in_memory() {
    const REQUESTS: u32 = 100;
    let mut settings = Settings { write_timeout: Duration::from_secs(1), ..patient() };
    // The client answers no PING.
    settings.http2.ping_interval = PATIENCE * 2;
    let server = Server::start(settings);
    let mut client = unread(&server, Method::GET, "/page", REQUESTS).await;
    eventually("all are held", || held(&server) == i64::from(REQUESTS) * PAGE as i64).await;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    client.write_all(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0").await.unwrap();
    let mut reading = JoinSet::new();
    reading.spawn(async move { tokio::io::copy(&mut client, &mut tokio::io::sink()).await });
    eventually("nothing is held", || held(&server) == 0).await;
    assert_eq!(server.open(), 1, "the connection goes on");
}

/// What h2 has of the last of an answer may take a slow socket longer than the timeout.
#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_of_its_answers() {
    const REQUESTS: u32 = 10;
    const PER_SECOND: f64 = 100_000.0;
    let server = Server::start(Settings { write_timeout: Duration::from_secs(3), ..patient() });
    let mut client = unread(&server, Method::GET, "/page", REQUESTS).await;
    let (began, mut bytes, mut buffer) = (Instant::now(), 0, vec![0; 4096]);
    while bytes < REQUESTS as usize * PAGE {
        tokio::time::sleep_until((began + Duration::from_secs_f64(bytes as f64 / PER_SECOND)).into()).await;
        let read = tokio::time::timeout(PATIENCE, client.read(&mut buffer)).await.expect("more comes").unwrap();
        assert!(read > 0, "the connection goes on");
        bytes += read;
    }
    eventually("nothing is held", || held(&server) == 0).await;
    assert_eq!(server.rejected("write_timeout"), 0);
}
