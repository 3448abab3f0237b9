//! Retention is what the settings say: what a node still has in its memory is not given to those who resume.

use std::time::Duration;

use fanway_testkit::node::Node;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::{wait, websocket};
use serde_json::{Value, json};

use super::clients::{Client, Heard, Stand, TRANSPORTS, Transport};
use super::{fleet, node, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_gets_neither_trimmed_nor_expired_publications_in_memory() {
    let node = node().set("default_namespace.history_size", 2).set("default_namespace.history_ttl", "2s").start().await;
    follows_the_settings(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_gets_neither_trimmed_nor_expired_publications_over_redis() {
    let redis = RedisServer::start().await;
    let node =
        fleet(&redis).set("default_namespace.history_size", 2).set("default_namespace.history_ttl", "2s").start().await;
    follows_the_settings(&node).await;
}

async fn follows_the_settings(node: &Node) {
    for transport in TRANSPORTS {
        let channel = format!("kept-{transport:?}");
        // Keeps the publications in the node's memory.
        let mut follower = Client::join(node, Transport::WebSocket, &channel, None).await;
        let beginning = follower.stand.clone();
        for n in 1..=5 {
            node.publish(&channel, json!(n)).await;
        }
        assert_eq!(follower.publications(node, 5).await.len(), 5);
        let three = Stand { offset: 3, ..beginning.clone() };
        let mut client = Client::join(node, transport, &channel, Some(&three)).await;
        assert_eq!(client.publications(node, 2).await, [json!(4), json!(5)], "{transport:?}");
        let mut client = Client::join(node, transport, &channel, Some(&beginning)).await;
        assert!(matches!(client.next(node).await, Heard::Gap(_)), "{transport:?}: trimmed");

        let kept = async || {
            let page = node.api("history", json!({"channel": channel, "limit": -1})).await.json();
            page["result"]["publications"].as_array().unwrap().len()
        };
        wait::until_async("the log to expire", || async { (kept().await == 0).then_some(()) }).await;
        wait::within(Duration::from_secs(1), "the resume to be refused what has expired", async || {
            let mut client = Client::join(node, transport, &channel, Some(&three)).await;
            matches!(client.next(node).await, Heard::Gap(_)).then_some(())
        })
        .await;
    }
}

/// Both histories create a log that was never used, for an hour, and name its epoch: nothing is missed from there on.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_channel_that_was_never_used_is_a_position_to_resume_from() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).set("default_namespace.history", "anyone").start().await;
    let mut socket = websocket::Client::connect(node.websocket_url(), &token(&node)).await;
    let by_client = socket.history("by-client", 10).await.unwrap();
    let by_api = node.api("history", json!({"channel": "by-api", "limit": 10})).await.json()["result"].clone();
    for (channel, page) in [("by-client", by_client), ("by-api", by_api)] {
        let epoch = page["epoch"].as_str().unwrap();
        assert_eq!((epoch.len(), page["offset"].as_u64().unwrap_or(0)), (20, 0), "{channel}: {page}");
        let life: i64 = redis::cmd("PTTL")
            .arg(format!("fw:test:m:{{{channel}}}"))
            .query_async(&mut redis.admin().await)
            .await
            .unwrap();
        assert!((1..=3_600_000).contains(&life), "{channel}: {life}");
        node.publish(channel, json!(1)).await;
        let subscribed = socket.subscribe_recover(channel, epoch, 0).await;
        assert!(subscribed.recovered && subscribed.epoch == epoch, "{channel}");
        assert_eq!(subscribed.publications.iter().map(|one| one.data.clone()).collect::<Vec<Value>>(), [json!(1)]);
    }
}

/// Anybody who may subscribe can begin logs: each is small, lives for an hour, and is kept alive by its subscribers alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_nobody_publishes_to_costs_little() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).set("default_namespace.meta_ttl", "30d").start().await;
    let name = format!("used-by-nobody-{}", "x".repeat(100));
    let mut client = websocket::Client::connect(node.websocket_url(), &token(&node)).await;
    client.subscribe(&name).await;
    let keys: Vec<String> = redis::from_redis_value(redis.command(&format!("KEYS *{name}*")).await).unwrap();
    let ask = async |command: &str| {
        let mut sum = 0;
        for key in &keys {
            sum += redis::from_redis_value::<i64>(redis.command(&format!("{command} {key}")).await).unwrap();
        }
        sum
    };
    let (bytes, life) = (ask("MEMORY USAGE").await, ask("PTTL").await);
    println!("{} keys, {bytes} bytes", keys.len());
    assert!(keys.len() == 1 && bytes <= 300, "{keys:?}: {bytes} bytes");
    assert!((1..=3_600_000).contains(&life), "{life} ms");
    // The node looks at silent channels once a second.
    redis.command(&format!("PEXPIRE {} 60000", keys[0])).await;
    wait::until_async("a subscriber to keep it", || async { (ask("PTTL").await > 3_000_000).then_some(()) }).await;
    client.unsubscribe(&name).await.unwrap();
    wait::until_async("the node to leave it", || async {
        (node.metric("fanway_channels", &[]).await == Some(0.0)).then_some(())
    })
    .await;
    redis.command(&format!("PEXPIRE {} 60000", keys[0])).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(ask("PTTL").await <= 60_000, "nobody keeps it");
}
