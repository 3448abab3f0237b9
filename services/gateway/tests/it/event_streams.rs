//! Event streams as bytes: what a client that reads less leniently than a browser sees.

use std::time::{Duration, Instant};

use fanway_testkit::chaos::{ChaosProxy, Direction, Which};
use fanway_testkit::node::Node;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::token::Claims;
use fanway_testkit::{cursor, http, sse};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, node, token};

/// A connection on which a stream was requested, and all bytes of it.
pub(super) struct Raw {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    /// Requests a stream of the channels in `query`, in this version of HTTP.
    pub(super) async fn request(node: &Node, query: &str, version: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
        let token = token(node);
        let head = format!("GET /sse?{query} {version}\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        Self { socket, received: Vec::new() }
    }

    /// Reads until a text has come, and returns everything so far.
    pub(super) async fn until(&mut self, text: &str) -> String {
        let reading = async {
            while !self.text().contains(text) {
                assert!(self.socket.read_buf(&mut self.received).await.unwrap() > 0, "the stream ended");
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        assert!(read.is_ok(), "no {text:?} in {:?}", self.text());
        self.text()
    }

    /// Reads until the connection ends, and returns everything.
    pub(super) async fn until_end(&mut self) -> String {
        let read = tokio::time::timeout(PATIENCE, self.socket.read_to_end(&mut self.received)).await;
        read.expect("the connection ends").unwrap();
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

/// The chunks of a response that has come so far, and whether the last one has; panics on anything but chunks.
pub(super) fn chunks(response: &str) -> (Vec<&str>, bool) {
    let (head, mut coded) = response.split_once("\r\n\r\n").expect("a whole head");
    assert!(head.contains("\r\ntransfer-encoding: chunked") && head.contains("\r\nconnection: close"), "{head}");
    let mut chunks = Vec::new();
    while let Some((size, rest)) = coded.split_once("\r\n") {
        let length = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{size:?} in {response:?}"));
        let Some(content) = rest.get(..length) else { break };
        let Some(rest) = rest[length..].strip_prefix("\r\n") else { break };
        if length == 0 {
            assert_eq!(rest, "", "nothing follows the last chunk");
            return (chunks, true);
        }
        chunks.push(content);
        coded = rest;
    }
    (chunks, false)
}

/// The body of a response in chunks.
fn body(response: &str) -> String {
    chunks(response).0.concat()
}

/// The blocks of a body that a blank line ends, and what follows the last one.
fn blocks(body: &str) -> (Vec<&str>, &str) {
    let (blocks, rest) = body.rsplit_once("\n\n").expect("at least one block");
    (blocks.split("\n\n").collect(), rest)
}

/// Several clients (httpx-sse, fetch-event-source) deliver a message for every blank line, and applications parse it as
/// JSON: so each blank line ends an event that has data.
#[tokio::test(flavor = "multi_thread")]
async fn every_blank_line_ends_an_event_with_data() {
    let mut node = node().set("client.ping_interval", "1s").set("client.pong_timeout", "500ms").start().await;
    let mut raw = Raw::request(&node, "channel=news", "HTTP/1.1", "").await;
    raw.until("\nevent: ready\n").await;
    raw.until("\r\n:\n\r\n").await;
    node.publish("news", json!("a")).await;
    raw.until("\"a\"").await;
    node.term();
    let all = body(&raw.until_end().await);
    let (events, rest) = blocks(&all);
    let first: Vec<&str> = events[0].lines().collect();
    assert_eq!((first[0], first[2]), (": fanway", "event: ready"), "{all:?}");
    assert!(first[1].strip_prefix("retry: ").is_some_and(|retry| retry.parse::<u64>().is_ok()), "{all:?}");
    assert!(first[3].starts_with("data: {\"cursor\":\"") && first[4].starts_with("id: "), "{all:?}");
    assert_eq!(first.len(), 5, "{all:?}");
    for event in &events {
        assert!(event.lines().any(|line| line.starts_with("data: {")), "{event:?} of {all:?}");
    }
    assert!(events[1].starts_with(":\n") || rest.starts_with(":\n"), "a ping is a line: {all:?}");
    let last = rest.lines().last().unwrap();
    assert!(last.strip_prefix("retry: ").is_some_and(|retry| retry.parse::<u64>().is_ok()), "{all:?}");
    node.exited(PATIENCE).await;
}

/// The first bytes do not wait for Redis: a client, or a proxy before the node, would take silence for a dead node.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_outage_does_not_delay_the_first_bytes() {
    let redis = RedisServer::start().await;
    let proxy = ChaosProxy::start(redis.address()).await;
    let url = format!("redis://{}", proxy.address());
    let node =
        node().redis(&url, "test").set("client.ping_interval", "1s").set("client.pong_timeout", "500ms").start().await;
    proxy.stall(Direction::ToServer, Which::All);
    let mut raw = Raw::request(&node, "channel=news", "HTTP/1.1", "").await;
    let begin = raw.until("retry: ").await;
    assert!(begin.starts_with("HTTP/1.1 200 "), "{begin}");
    // It is kept alive meanwhile.
    raw.until("\r\n:\n\r\n").await;
    assert!(!raw.text().contains("event: "), "{}", raw.text());
    proxy.heal();
    let whole = raw.until("\nid: ").await;
    assert!(whole.contains("\nevent: ready\n"), "{whole}");
    let body = body(&whole);
    assert!(!body.split("event: ready").next().unwrap().contains("\n\n"), "one block: {body:?}");
}

/// Clients that read in blocks (`requests`, urllib3) get an event when its chunk ends, and each event is a chunk. The
/// connection is closed all the same: nothing else may follow on it.
#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_a_chunk_and_an_orderly_end_is_one_too() {
    let mut node = node().set("client.ping_interval", "1s").set("client.pong_timeout", "500ms").start().await;
    let mut raw = Raw::request(&node, "channel=news", "HTTP/1.1", "").await;
    raw.until("\nevent: ready\n").await;
    for n in 0..20 {
        node.publish("news", json!({"n": n, "pad": "x".repeat(n * n * n)})).await;
    }
    raw.until("\"n\":19").await;
    raw.until("\r\n:\n\r\n").await;
    node.term();
    let all = raw.until_end().await;
    let (chunks, last) = chunks(&all);
    assert!(last, "{chunks:?}");
    let events: Vec<&&str> = chunks.iter().filter(|chunk| chunk.starts_with("data: ")).collect();
    assert_eq!(events.len(), 20);
    for (n, event) in events.iter().enumerate() {
        assert!(event.contains(&format!("\"n\":{n},")) && event.find("\n\n") == Some(event.len() - 2), "{event:?}");
    }
    assert!(chunks.last().unwrap().starts_with("retry: "), "{chunks:?}");
    node.exited(PATIENCE).await;
}

/// HTTP/1.0 has no chunks: the end of the connection is the end of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_has_no_chunks() {
    let mut node = node().start().await;
    let mut raw = Raw::request(&node, "channel=news", "HTTP/1.0", "").await;
    let begin = raw.until("\nid: ").await;
    let (head, body) = begin.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("transfer-encoding") && head.contains("\r\nconnection: close"), "{head}");
    assert!(body.starts_with(": fanway\nretry: "), "{body}");
    node.publish("news", json!("a")).await;
    raw.until("\"a\"").await;
    node.term();
    let all = raw.until_end().await;
    let (_, body) = all.split_once("\r\n\r\n").unwrap();
    assert!(!body.contains('\r') && body.lines().last().unwrap().starts_with("retry: "), "{body}");
    node.exited(PATIENCE).await;
}

/// Over HTTP/2 a chunk header would be part of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn http_2_has_no_chunks() {
    let node = node().start().await;
    let target = node.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&token(&node)).over_http2().send().await.unwrap();
    assert_eq!(stream.next_event().await.event, "ready");
    node.publish("news", json!("a")).await;
    assert_eq!(stream.next_publication().await.data, json!("a"));
    let text = String::from_utf8_lossy(stream.bytes()).into_owned();
    assert!(stream.headers().get("transfer-encoding").is_none());
    assert!(text.starts_with(": fanway\nretry: ") && !text.contains('\r'), "{text}");
}

/// A client that adds and removes channels keeps its position in those that stay, over each transport.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_channel_set_keeps_the_positions_of_those_that_stay() {
    let node = node().start().await;
    let bearer = format!("Bearer {}", token(&node));
    let poll = async |query: &str| {
        let target = node.url("/poll").with_query(query);
        http::get(target, &[("authorization", &bearer)]).await.json()
    };
    for channel in ["a", "b", "c"] {
        node.publish(channel, json!(format!("{channel}1"))).await;
    }
    let cursor = poll("channel=a&channel=b").await["cursor"].as_str().unwrap().to_owned();
    for channel in ["a", "b", "c"] {
        node.publish(channel, json!(format!("{channel}2"))).await;
    }
    // `b` is removed, `c` is added: what it had before is not for this client.
    let query = format!("channel=c&channel=a&timeout=50&cursor={cursor}");
    let answer = poll(&query).await;
    assert_eq!((&answer["publications"][0]["data"], &answer["gaps"]), (&json!("a2"), &json!([])), "{answer}");
    assert_eq!(answer["publications"].as_array().unwrap().len(), 1, "{answer}");
    let target = node.url("/sse").with_query("channel=c&channel=a");
    let mut stream =
        sse::Request::to(target).header("authorization", &bearer).last_event_id(&cursor).send().await.unwrap();
    assert_eq!(stream.next_event().await.event, "ready");
    assert_eq!(stream.next_publication().await.data, json!("a2"));
    node.publish("c", json!("c3")).await;
    assert_eq!(stream.next_publication().await.data, json!("c3"));
    // And back: the cursor has `a` and `c` now, and `b` begins anew.
    let query = format!("channel=a&channel=b&channel=c&timeout=50&cursor={}", stream.last_event_id());
    let answer = poll(&query).await;
    assert_eq!((&answer["publications"], &answer["gaps"]), (&json!([]), &json!([])), "answered at once: {answer}");
    assert_eq!(
        cursor::read(answer["cursor"].as_str().unwrap()).iter().map(|item| item.1).collect::<Vec<_>>(),
        [2, 2, 3]
    );
}

/// Whoever may begin can come back: with the largest cursor there is, in any place, also one more in the URL.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_set_that_leaves_no_room_for_its_cursor_is_refused_at_once() {
    let node = node().start().await;
    let bearer = format!("Bearer {}", token(&node));
    let ask = async |path: &str, query: &str, headers: &[(&str, &str)]| {
        let headers = [&[("authorization", &*bearer)], headers].concat();
        let target = node.url(path).with_query(query);
        if path == "/poll" {
            return http::get(target.with_query("timeout=0"), &headers).await;
        }
        let request =
            headers.iter().fold(sse::Request::to(target), |request, (name, value)| request.header(name, value));
        match request.send().await {
            Ok(stream) => http::Response {
                status: 200.try_into().unwrap(),
                headers: stream.headers().clone(),
                body: Default::default(),
            },
            Err(refused) => *refused,
        }
    };
    let name = |n: usize| format!("{n:0>255}");
    let query = |count: usize| (0..count).map(|n| format!("channel={}", name(n))).collect::<Vec<_>>().join("&");
    let epoch = "a".repeat(20);
    for path in ["/sse", "/poll"] {
        let mut count = 57;
        let refused = ask(path, &query(count), &[]).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["reason"]), (400, &json!("no_room_for_cursor")));
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("server.max_head is 16384") && message.contains("fewer channels"), "{message}");
        while ask(path, &query(count), &[]).await.status != 200 {
            count -= 1;
        }
        assert!(count > 30, "{count}");
        let names: Vec<_> = (0..count).map(name).collect();
        let items: Vec<_> = names.iter().map(|name| (&**name, &*epoch, u64::MAX)).collect();
        let largest = cursor::write(&items);
        let escaped = largest.replace('~', "%7E");
        let (base, id) = (query(count), [("last-event-id", &*largest)]);
        for (query, headers) in [
            (base.clone(), &id[..]),
            (format!("{base}&cursor={escaped}"), &[]),
            (format!("{base}&lastEventId={escaped}"), &[]),
            (format!("{base}&cursor={escaped}&evs_last_event_id={escaped}"), &[]),
            (format!("{base}&cursor={escaped}"), &id),
        ] {
            assert_eq!(ask(path, &query, headers).await.status, 200, "{count} channels over {path}");
        }
    }
}

/// Whatever ends a stream in order: the client can tell that from a connection that broke.
#[tokio::test(flavor = "multi_thread")]
async fn expiry_ends_a_stream_in_order() {
    let node = node().set("client.expiry_grace", "1s").start().await;
    let end = Instant::now() + Duration::from_secs(3 + 1);
    let token = node.token(&Claims::user("alice").expires_in(Duration::from_secs(3)));
    let target = node.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&token).send().await.unwrap();
    assert_eq!(stream.next_event().await.event, "ready");
    assert_eq!(stream.next_event().await.event, "auth_expiring");
    assert_eq!(stream.ended_within(PATIENCE).await, sse::Silence::Ended);
    assert!(Instant::now() >= end, "not before the grace is over");
    assert!(stream.retry().is_some());
}
