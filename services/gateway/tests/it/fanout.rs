//! What is published on one node is received on all, over every transport.

use fanway_testkit::redis::RedisServer;
use serde_json::{Value, json};

use super::clients::{Client, TRANSPORTS};
use super::{node, nodes};

async fn reaches_everybody(count: usize) {
    let redis = RedisServer::start().await;
    let nodes = nodes(&redis, count).await;
    let mut clients = Vec::new();
    for node in &nodes {
        for transport in TRANSPORTS {
            clients.push((node, Client::join(node, transport, "news", None).await));
        }
    }
    let mut expected = Vec::new();
    for (number, node) in nodes.iter().cycle().take(3 * count).enumerate() {
        let (offset, _) = node.publish("news", json!({ "n": number })).await;
        assert_eq!(offset, number as u64 + 1);
        expected.push(json!({ "n": number }));
    }
    for (node, client) in &mut clients {
        let heard: Vec<Value> = client.publications(node, expected.len()).await;
        assert_eq!(heard, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes() {
    reaches_everybody(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes() {
    reaches_everybody(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_with_the_memory_broker() {
    let node = node().start().await;
    for transport in TRANSPORTS {
        let channel = format!("memory-{transport:?}");
        let mut client = Client::join(&node, transport, &channel, None).await;
        node.publish(&channel, json!("hello")).await;
        assert_eq!(client.publications(&node, 1).await, [json!("hello")]);
    }
}
