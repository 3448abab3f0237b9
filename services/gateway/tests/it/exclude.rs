//! Publications that exclude one client, in a fleet.

use fanway_testkit::node::Node;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::{sse, wait, websocket};
use serde_json::{Value, json};

use super::{fleet, token};

/// A client that is subscribed, and its id.
async fn subscribed(node: &Node) -> (websocket::Client, String) {
    let mut client = websocket::Client::open(node.websocket_url()).await;
    let reply = client.request("connect", json!({"token": token(node)})).await.unwrap();
    client.subscribe("news").await;
    (client, reply["client"].as_str().unwrap().to_owned())
}

async fn publish(node: &Node, data: Value, exclude: &str) -> Value {
    node.api("publish", json!({"channel": "news", "data": data, "exclude": exclude})).await.json()
}

/// Clients on one node, the back end on another.
#[tokio::test(flavor = "multi_thread")]
async fn one_client_is_excluded_on_whatever_node_it_is() {
    let redis = RedisServer::start().await;
    let quick = || fleet(&redis).set("rebalance.heartbeat_interval", "200ms");
    let (node, publisher) = (quick().start().await, quick().start().await);
    let ((mut one, client), (mut other, _)) = (subscribed(&node).await, subscribed(&node).await);
    let mut stream = sse::Request::to(node.url("/sse?channel=news")).bearer(&token(&node)).send().await.unwrap();
    assert_eq!(stream.next_event().await.event, "ready");
    wait::until_async("the fleet is known to read it", || async {
        publish(&publisher, json!("others"), &client).await.get("result").map(drop)
    })
    .await;
    let answer = publisher
        .api("broadcast", json!({"channels": ["news", "sport"], "data": "too", "exclude": client.to_uppercase()}))
        .await;
    assert_eq!(answer.status, 200);
    publisher.publish("news", json!("all")).await;
    assert_eq!(one.next_publication().await.data, json!("all"));
    for data in ["others", "too", "all"] {
        assert_eq!(other.next_publication().await.data, json!(data));
        assert_eq!(stream.next_publication().await.data, json!(data));
    }
    let history = publisher.api("history", json!({"channel": "news", "limit": 10})).await.json();
    assert_eq!(history["result"]["publications"].as_array().unwrap().len(), 3);
}

/// A node of an older build would send it to everybody.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_refused_while_an_older_node_is_in_the_fleet() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).set("rebalance.heartbeat_interval", "200ms").start().await;
    let client = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff";
    wait::until_async("it is published", || async { publish(&node, json!(1), client).await.get("result").map(drop) })
        .await;
    let older =
        r#"{"v":1,"heartbeat":{"node":"older","connections":0,"limit":9,"free":9,"draining":false,"envelope":2}}"#;
    let refused = wait::until_async("it is refused", || async {
        redis.command(&format!("PUBLISH fw:test:n {older}")).await;
        let answer = publish(&node, json!(1), client).await;
        answer.get("error").cloned()
    })
    .await;
    assert_eq!(refused["reason"], "fleet_version");
    // The same build reads bytes.
    assert!(node.api("publish", json!({"channel": "news", "b64data": "/w=="})).await.json().get("result").is_some());
}
