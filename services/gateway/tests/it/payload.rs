//! Binary payloads: from the server API to every client, and in a fleet whose nodes cannot all read them.

use std::time::Duration;

use fanway_testkit::node::{Builder, Node};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::{poll, sse, wait, websocket};
use serde_json::{Value, json};

use super::{fleet, node, token};

/// 0x00 0xff CR LF in standard base64.
const BYTES: &str = "AP8NCg==";

async fn publish_bytes(node: &Node) -> Value {
    node.api("publish", json!({"channel": "news", "b64data": BYTES})).await.json()
}

/// Publishes bytes as soon as the fleet is known to read them.
async fn publish_bytes_soon(node: &Node) {
    wait::until_async("bytes are published", || async {
        let answer = publish_bytes(node).await;
        answer.get("result").map(drop)
    })
    .await;
}

async fn polled(node: &Node, token: &str, cursor: Option<&str>) -> poll::Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let response = poll::try_poll(node.url("/poll"), &["news"], cursor, Duration::ZERO, &headers).await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_value(response.json()).unwrap()
}

fn quick(redis: &RedisServer) -> Builder {
    fleet(redis).set("rebalance.heartbeat_interval", "200ms")
}

/// Subscribers of every kind on one node, publisher on another: live, recovered and from history.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_reach_every_client_in_base64() {
    let redis = RedisServer::start().await;
    let (publisher, node) = (quick(&redis).start().await, quick(&redis).start().await);
    let token = token(&node);

    let mut socket = websocket::Client::connect(node.websocket_url(), &token).await;
    let subscribed = socket.subscribe("news").await;
    let mut stream = sse::Request::to(node.url("/sse?channel=news")).bearer(&token).send().await.unwrap();
    assert_eq!(stream.next_event().await.event, "ready");
    let cursor = polled(&node, &token, None).await.cursor;

    publish_bytes_soon(&publisher).await;
    publisher.publish("news", json!("text")).await;
    assert_eq!(socket.next_publication().await.data, json!(BYTES));
    assert_eq!(socket.next_publication().await.data, json!("text"));
    let event = stream.next_publication().await;
    assert_eq!((event.b64data.as_deref(), event.data), (Some(BYTES), Value::Null));
    let event = stream.next_publication().await;
    assert_eq!((event.b64data, event.data), (None, json!("text")));

    let mut late = websocket::Client::connect(node.websocket_url(), &token).await;
    let recovered = late.subscribe_recover("news", &subscribed.epoch, subscribed.offset).await;
    assert_eq!((recovered.recovered, recovered.data()), (true, vec![json!(BYTES), json!("text")]));
    let history = late.history("news", 10).await.unwrap();
    assert_eq!(history["publications"][0]["data"], json!(BYTES));
    let answer = polled(&node, &token, Some(&cursor)).await;
    assert_eq!(answer.publications[0].b64data.as_deref(), Some(BYTES));
    assert_eq!((&answer.publications[1].b64data, answer.data()), (&None, vec![Value::Null, json!("text")]));
    let page = publisher.api("history", json!({"channel": "news", "limit": 10})).await.json();
    assert_eq!(page["result"]["publications"][0]["b64data"], json!(BYTES));
}

/// A heartbeat without `envelope` is of a build that reads the oldest only.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_refused_while_an_older_node_is_in_the_fleet() {
    let redis = RedisServer::start().await;
    let node = quick(&redis).start().await;
    publish_bytes_soon(&node).await;

    let older = r#"{"v":1,"heartbeat":{"node":"older","connections":0,"limit":9,"free":9,"draining":false}}"#;
    let refused = wait::until_async("bytes are refused", || async {
        redis.command(&format!("PUBLISH fw:test:n {older}")).await;
        let answer = node.api("publish", json!({"channel": "news", "b64data": BYTES})).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let body = refused.json();
    assert_eq!((&body["error"]["reason"], &body["outcome"]), (&json!("fleet_version"), &json!("unavailable")));
    let broadcast = node.api("broadcast", json!({"channels": ["a", "b"], "b64data": BYTES})).await;
    assert_eq!((broadcast.status.as_u16(), &broadcast.json()["error"]["reason"]), (503, &json!("fleet_version")));
    // Text is not concerned, and neither is JSON in base64.
    node.publish("news", json!(1)).await;
    assert!(node.api("publish", json!({"channel": "news", "b64data": "MQ=="})).await.json().get("result").is_some());
    // The older node has left.
    publish_bytes_soon(&node).await;
}

/// A single node has nobody to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_fleet_takes_bytes_at_once() {
    let node = node().start().await;
    assert_eq!(publish_bytes(&node).await["result"]["offset"], 1);
}
