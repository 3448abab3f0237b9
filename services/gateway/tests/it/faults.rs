//! Redis away, refusing writes, or heard no more.

use std::time::Duration;

use fanway_testkit::chaos::{ChaosProxy, Direction, Which};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::{http, wait};
use serde_json::json;

use super::clients::{Client, Heard, TRANSPORTS};
use super::{fleet, node, nodes};

async fn status(node: &fanway_testkit::node::Node, path: &str) -> u16 {
    http::get(node.url(path), &[]).await.status.as_u16()
}

/// Redis stopped for ten seconds and restarted empty: publishes say so meanwhile, health follows, every subscriber then
/// has everything or a gap, and nothing was restarted.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_and_heals() {
    let mut redis = RedisServer::start().await;
    let nodes = nodes(&redis, 2).await;
    let mut clients = Vec::new();
    for (number, transport) in TRANSPORTS.into_iter().enumerate() {
        let client = Client::join(&nodes[number % 2], transport, "news", None).await;
        clients.push((number % 2, client));
    }
    nodes[0].publish("news", json!("before")).await;
    for (at, client) in &mut clients {
        assert_eq!(client.publications(&nodes[*at], 1).await, [json!("before")]);
    }

    redis.stop().await;
    for node in &nodes {
        wait::until_async("health follows", || async { (status(node, "/health/broker").await == 503).then_some(()) })
            .await;
        let refused = node.api("publish", json!({"channel": "news", "data": 1})).await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").is_some());
        assert!(["unavailable", "outcome_unknown"].contains(&refused.json()["outcome"].as_str().unwrap()));
        assert_eq!(status(node, "/health/live").await, 200);
        assert_eq!(status(node, "/health/ready").await, 200, "an outage that all nodes share leaves them ready");
    }
    // The outage has a length, which is what this test is about.
    tokio::time::sleep(Duration::from_secs(10)).await;
    redis.restart().await;

    for node in &nodes {
        wait::until_async("health follows", || async { (status(node, "/health/broker").await == 200).then_some(()) })
            .await;
    }
    wait::until_async("publishes work again", || async {
        let answer = nodes[1].api("publish", json!({"channel": "news", "data": "after"})).await;
        (answer.status == 200).then_some(())
    })
    .await;
    for (at, client) in &mut clients {
        loop {
            match client.next(&nodes[*at]).await {
                Heard::Publication(data) if data == json!("after") => break,
                Heard::Gap(_) => {
                    // The log began anew: told. What comes now must arrive.
                    nodes[0].publish("news", json!("after")).await;
                }
                heard => panic!("{heard:?}"),
            }
        }
    }
}

/// Redis refuses writes for lack of replicas: publishes fail truthfully, resumes go on.
#[tokio::test(flavor = "multi_thread")]
async fn refused_writes_do_not_stop_resumes() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    let mut stands = Vec::new();
    for transport in TRANSPORTS {
        let channel = format!("writes-{transport:?}");
        let mut client = Client::join(&node, transport, &channel, None).await;
        node.publish(&channel, json!(0)).await;
        client.publications(&node, 1).await;
        stands.push((transport, channel.clone(), client.stand.clone()));
        drop(client);
        node.publish(&channel, json!(1)).await;
    }
    redis.command("CONFIG SET min-replicas-to-write 1").await;
    // A node that has none of it in memory.
    let other = fleet(&redis).start().await;
    let refused = other.api("publish", json!({"channel": "writes-Sse", "data": 2})).await;
    assert_eq!((refused.status.as_u16(), refused.json()["outcome"].as_str()), (503, Some("refused")));
    assert_eq!(refused.json()["error"]["reason"], "broker_refused");
    for (transport, channel, stand) in stands {
        let mut client = Client::join(&other, transport, &channel, Some(&stand)).await;
        assert_eq!(client.publications(&other, 1).await, [json!(1)], "{transport:?}");
    }
}

/// The subscriber connection is blocked while commands work: the node notices, says that it is not ready, and heals.
#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_node_notices_and_heals() {
    let redis = RedisServer::start().await;
    let proxy = ChaosProxy::start(redis.address()).await;
    let url = format!("redis://{}", proxy.address());
    let mut deaf =
        node().redis(&url, "test").set("redis.probe_interval", "300ms").set("redis.probe_timeout", "1s").start().await;
    let other = fleet(&redis).start().await;
    let mut client = Client::join(&deaf, TRANSPORTS[1], "news", None).await;
    other.publish("news", json!(1)).await;
    assert_eq!(client.publications(&deaf, 1).await, [json!(1)]);

    proxy.stall(Direction::ToClient, Which::Subscribers);
    other.publish("news", json!(2)).await;
    wait::until_async("it says that it is deaf", || async {
        (status(&deaf, "/health/ready").await == 503).then_some(())
    })
    .await;
    let accepted = deaf.api("publish", json!({"channel": "other", "data": 1})).await;
    assert_eq!(accepted.status, 200, "commands work: {}", accepted.text());
    proxy.heal();
    deaf.ready().await;
    other.publish("news", json!(3)).await;
    assert_eq!(client.publications(&deaf, 2).await, [json!(2), json!(3)], "nothing was lost");
}
