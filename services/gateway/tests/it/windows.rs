//! Event streams over HTTP/2 whose client grants no more window: they end as those of a socket that is full.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanway_testkit::node::Node;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::token::Claims;
use fanway_testkit::{cursor, wait};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::Request;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{PATIENCE, fleet, node, token};

/// A client over HTTP/2 whose streams have windows of so many bytes.
struct Narrow {
    sender: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

impl Narrow {
    async fn connect(node: &Node, window: u32) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 30);
        let (sender, connection) = builder.handshake(socket).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async { drop(connection.await) });
        Self { sender, _connection: task }
    }

    async fn get(&self, path: &str, token: &str) -> RecvStream {
        let request = Request::get(format!("http://a{path}")).header("authorization", format!("Bearer {token}"));
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        response.into_body()
    }

    /// Whether a request is answered on the same connection.
    async fn goes_on(&self, token: &str) {
        let mut poll = self.get("/poll?channel=other&timeout=0", token).await;
        assert!(until(&mut poll, "}").await.starts_with("{\"publications\":[]"));
    }
}

/// Takes what comes until a text has.
async fn until(stream: &mut RecvStream, text: &str) -> String {
    let mut received = Vec::new();
    let reading = async {
        loop {
            let data = stream.data().await.expect("the stream goes on").unwrap();
            let new = received.len().saturating_sub(text.len());
            received.extend_from_slice(&data);
            stream.flow_control().release_capacity(data.len()).unwrap();
            if String::from_utf8_lossy(&received[new..]).contains(text) {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, reading).await;
    let received = String::from_utf8(received).unwrap();
    assert!(in_time.is_ok(), "no {text:?} in {} bytes, the last of them {:?}", received.len(), received.lines().last());
    received
}

/// Waits for the end of a stream, of which nothing more is taken. Returns why it was reset; `None` at an orderly end.
async fn end(stream: &mut RecvStream) -> Option<Reason> {
    let reading = async {
        loop {
            match stream.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(error.reason().expect("the connection goes on")),
                None => return None,
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the stream ends")
}

/// Waits until so many streams were closed for a reason.
async fn closed(node: &Node, reason: &str, count: f64) {
    wait::within(PATIENCE, "the streams are counted", async || {
        let labels = [("transport", "sse"), ("reason", reason)];
        (node.metric("fanway_connections_closed_total", &labels).await == Some(count)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_does_not_keep_a_stream_beyond_its_token() {
    let node = node().set("client.expiry_grace", "1s").start().await;
    let (valid, expiring) = (token(&node), node.token(&Claims::user("bob").expires_in(Duration::from_secs(2))));
    let expiry = Instant::now() + Duration::from_secs(2 + 1);
    let mut streams = Vec::new();
    for window in [0, 1, 1000] {
        let client = Narrow::connect(&node, window).await;
        let mut stream = client.get("/sse?channel=news", &expiring).await;
        let other = client.get("/sse?channel=news", &valid).await;
        if window == 1000 {
            until(&mut stream, "event: ready").await;
        }
        streams.push((window, client, stream, other));
    }
    // More than the window: what is left is with h2, with hyper and with the session.
    node.publish("news", json!("x".repeat(100_000))).await;
    for (window, client, mut stream, mut other) in streams {
        assert_eq!(end(&mut stream).await, Some(Reason::CANCEL));
        assert!(Instant::now() >= expiry, "not before the grace is over");
        if window > 0 {
            until(&mut other, "event: ready").await;
            client.goes_on(&valid).await;
        }
    }
    closed(&node, "expired", 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_is_a_stall() {
    let node = node().set("client.write_stall", "1s").start().await;
    let (client, token) = (Narrow::connect(&node, 5000).await, token(&node));
    let (mut takes, mut stalls) =
        (client.get("/sse?channel=news", &token).await, client.get("/sse?channel=news", &token).await);
    until(&mut takes, "event: ready").await;
    until(&mut stalls, "event: ready").await;
    for n in 0..5 {
        node.publish("news", json!({"n": n, "filler": "x".repeat(10_000)})).await;
        until(&mut takes, &format!("\"n\":{n}}}")).await;
    }
    assert_eq!(end(&mut stalls).await, Some(Reason::CANCEL));
    closed(&node, "slow", 1.0).await;
    client.goes_on(&token).await;
    node.publish("news", json!({"n": 5})).await;
    until(&mut takes, "\"n\":5}").await;
}

/// hyper passes a batch on as soon as there is window for its first byte, and asks for the next: the session has no output,
/// and must learn all the same that its client takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_closes_within_the_last_batch_does_not_keep_a_stream() {
    let second = Duration::from_secs(1);
    // Far from the heartbeat, which would be output.
    let soon = 10 * second;
    for (setting, value, expires_in, reason) in [
        ("client.write_stall", "1s", 600 * second, "slow"),
        ("client.expiry_grace", "1s", 2 * second, "expired"),
        ("rebalance.max_connection_age", "2s", 600 * second, "max_age"),
    ] {
        for size in [5000, 12_000] {
            let node = node().set(setting, value).start().await;
            let client = Narrow::connect(&node, 4000).await;
            let mut stream =
                client.get("/sse?channel=news", &node.token(&Claims::user("bob").expires_in(expires_in))).await;
            until(&mut stream, "event: ready").await;
            node.publish("news", json!("x".repeat(size))).await;
            let ended = tokio::time::timeout(soon, end(&mut stream)).await;
            assert_eq!(ended.expect("it ends soon"), Some(Reason::CANCEL), "{reason}, {size} bytes");
            closed(&node, reason, 1.0).await;
            client.goes_on(&token(&node)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_does_not_keep_a_stream_beyond_its_age_or_in_a_drain() {
    let mut node = node().set("rebalance.max_connection_age", "2s").start().await;
    let (client, token) = (Narrow::connect(&node, 1).await, token(&node));
    let mut old = client.get("/sse?channel=news", &token).await;
    assert_eq!(end(&mut old).await, Some(Reason::CANCEL));
    closed(&node, "max_age", 1.0).await;
    let mut drained = client.get("/sse?channel=news", &token).await;
    node.term();
    assert_eq!(end(&mut drained).await, Some(Reason::CANCEL));
    let status = node.exited(PATIENCE).await;
    assert!(status.success(), "{status}");
}

/// What was pending behind a closed window comes in order, each publication once.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_opens_again_loses_nothing() {
    let node = node().start().await;
    let token = token(&node);
    for window in [1000, 60_000] {
        let client = Narrow::connect(&node, window).await;
        let mut stream = client.get("/sse?channel=news&channel=other", &token).await;
        until(&mut stream, "event: ready").await;
        for n in 0..200 {
            let filler = "x".repeat([10, 3000, 40_000][n % 3]);
            node.publish(["news", "other"][n % 2], json!({"n": n, "filler": filler})).await;
        }
        let mut received = until(&mut stream, "\"n\":199}").await;
        if !received.contains("\"n\":198}") {
            received += &until(&mut stream, "\"n\":198}").await;
        }
        let events: Vec<&str> = received.split("\n\n").filter(|event| event.contains("\"n\":")).collect();
        let mut next = HashMap::from([("\"news\"", 0), ("\"other\"", 1)]);
        for event in &events {
            let channel = if event.contains("\"news\"") { "\"news\"" } else { "\"other\"" };
            let n = next.get_mut(channel).unwrap();
            assert!(event.contains(&format!("\"n\":{n}}}")), "{n} comes next in {channel}");
            *n += 2;
        }
        assert_eq!(next.values().sum::<i32>(), 200 + 201);
    }
}

/// Pages that a closed window keeps from being sent are dropped, and read again once it opens.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_holds_no_pages() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis)
        .set("default_namespace.history_size", 1000)
        .set("default_namespace.history_ttl", "5m")
        .set("client.write_stall", "1m")
        .start()
        .await;
    let mut epoch = String::new();
    for n in 1..=50 {
        epoch = node.publish("news", json!({"n": n, "filler": "x".repeat(10_000)})).await.1;
    }
    let (client, token) = (Narrow::connect(&node, 2000).await, token(&node));
    let path = format!("/sse?channel=news&cursor={}", cursor::write(&[("news", &epoch, 0)]));
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(client.get(&path, &token).await);
    }
    wait::within(PATIENCE, "each has dropped its page", async || {
        let dropped = node.metric("fanway_pages_dropped_total", &[]).await?;
        (dropped >= 20.0 && node.metric("fanway_page_bytes", &[]).await == Some(0.0)).then_some(())
    })
    .await;
    let received = until(&mut streams[7], "\"n\":50}").await;
    for n in 1..=50 {
        assert_eq!(received.matches(&format!("\"n\":{n}}}")).count(), 1, "{n}");
    }
}
