//! The log does not grow with what clients without credentials send.

use std::time::Instant;

use super::*;

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0unfanway";
const PING_ACK: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0unasked!";

/// Acknowledgements that nobody asked for, over HTTP/2, and then a ping: its answer says that all were read.
async fn acknowledge_nothing(node: &Node, times: usize) {
    let mut socket = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat();
    socket.write_all(&[opening, PING_ACK.repeat(times), PING.to_vec()].concat()).await.unwrap();
    let answered = PING.iter().enumerate().map(|(at, byte)| if at == 4 { 1 } else { *byte }).collect::<Vec<_>>();
    let mut received = Vec::new();
    let answer = async {
        while !received.windows(answered.len()).any(|part| part == answered) {
            assert!(socket.read_buf(&mut received).await.unwrap() > 0, "closed after {received:?}");
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("the ping is answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_default_level_nothing_is_logged_per_input() {
    let node = node().start().await;
    let before = node.log().lines().count();
    acknowledge_nothing(&node, 5_000).await;
    let upgrade = "GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let stream = "GET /sse?channel=a HTTP/1.1\r\nHost: a\r\n";
    for _ in 0..20 {
        for head in [upgrade, stream] {
            for body in ["Content-Length: 1\r\n\r\na", "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"] {
                let answer = say(&node, format!("{head}{body}")).await.unwrap();
                assert_eq!((answer.status, answer.reason().as_deref()), (400, Some("unexpected_body")));
            }
        }
        for bytes in ["\x16\x03\x01\x02", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "PROXY UNKNOWN\r\n"] {
            assert_eq!(say(&node, bytes).await.unwrap().status, 400);
        }
    }
    let log = node.log();
    let lines: Vec<_> = log.lines().skip(before).collect();
    // That the node serves may have been logged after it was ready.
    assert!(lines.len() <= 1, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_debug_level_it_is_rate_limited() {
    let node = node().set("telemetry.log_level", "debug").start().await;
    let began = Instant::now();
    acknowledge_nothing(&node, 5_000).await;
    for _ in 0..100 {
        assert_eq!(say(&node, "GET / HTTP/1.1\r\nHost : a\r\n\r\n").await.unwrap().status, 400);
        let answer = say(&node, "PROXY TCP4 10.0.0.1 10.0.0.2 5 80\r\nGET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(answer.reason().as_deref(), Some("proxy_protocol"));
        let mut raw = Raw::open(node.websocket_url()).await;
        raw.write_frame(&Frame::new(Frame::TEXT, "no JSON")).await;
        ending(&mut raw).await.unwrap();
        let mut raw = Raw::open(node.websocket_url()).await;
        raw.write_frame(&Frame::new(3, "an opcode that is none")).await;
        ending(&mut raw).await.unwrap();
    }
    // A line per second, and the first.
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let log = node.log();
    assert!(!log.contains("h2::"), "libraries are silent: {log}");
    for line in ["HTTP/1.1 connection failed", "PROXY protocol header", "undecodable command", "websocket fault"] {
        let lines = log.lines().filter(|logged| logged.contains(line)).count();
        assert!((1..=most).contains(&lines), "{line}: {lines} lines in {:?}", began.elapsed());
    }
}
