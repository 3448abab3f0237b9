mod recorded;
mod recording;
mod side_by_side;

use std::time::Duration;

use fanway_testkit::node::{Builder, Node};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::token::Claims;
use fanway_testkit::{cursor, poll, wait};
use serde_json::{Value, json};

/// Four bytes that are no text, in base64.
pub(crate) const BYTES: &str = "AP8NCg==";

/// A node of the fleet `test` on this Redis, with short clocks.
pub(crate) fn node(binary: &str, redis: &RedisServer) -> Builder {
    Node::builder(binary)
        .redis(&redis.url(), "test")
        .set("drain.propagation_delay", "0s")
        .set("drain.window", "1s")
        .set("rebalance.heartbeat_interval", "200ms")
        .namespace("plain", "subscribe", "authenticated")
        .namespace("plain", "publish", "authenticated")
}

/// A node of this build.
pub(crate) fn current(redis: &RedisServer) -> Builder {
    node(env!("CARGO_BIN_EXE_fanway"), redis)
}

pub(crate) fn token(node: &Node) -> String {
    node.token(&Claims::user("alice").set("info", json!({"name": "Alice"})))
}

/// Polls the channel `news` once, from a position.
pub(crate) async fn poll_from(node: &Node, epoch: &str, offset: u64) -> poll::Answer {
    let (bearer, cursor) = (format!("Bearer {}", token(node)), cursor::write(&[("news", epoch, offset)]));
    let headers = [("authorization", bearer.as_str())];
    let response = poll::try_poll(node.url("/poll"), &["news"], Some(&cursor), Duration::ZERO, &headers).await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_value(response.json()).unwrap()
}

/// Publishes bytes: the status, and the reason of an error.
pub(crate) async fn publish_bytes(node: &Node, channel: &str) -> (u16, Value) {
    let answer = node.api("publish", json!({"channel": channel, "b64data": BYTES})).await;
    (answer.status.as_u16(), answer.json()["error"]["reason"].clone())
}

/// Publishes bytes until the node takes them.
pub(crate) async fn publish_bytes_soon(node: &Node, channel: &str) {
    wait::until_async("bytes are published", || async {
        (publish_bytes(node, channel).await == (200, Value::Null)).then_some(())
    })
    .await;
}

/// A condition about the number of nodes that a node has heartbeats of.
pub(crate) async fn until_fleet_of(node: &Node, nodes: f64) {
    wait::within(Duration::from_secs(20), "the fleet is known", async || {
        (node.metric("fanway_fleet_nodes", &[]).await == Some(nodes)).then_some(())
    })
    .await;
}
