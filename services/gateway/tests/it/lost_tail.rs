//! Publications that Redis acknowledged and lost: every client that had not all of what a node passed on learns of it once
//! a node that did has recorded the loss, and nobody else does.

use fanway_testkit::chaos::ChaosProxy;
use fanway_testkit::node::Node;
use fanway_testkit::redis::{RedisOptions, RedisServer};
use fanway_testkit::wait::until_async;
use serde_json::json;

use super::clients::{Client, Heard, TRANSPORTS, Transport};
use super::{fleet, node, nodes};

/// Sum of a counter over nodes and labels.
async fn sum(nodes: &[&Node], name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut sum = 0.0;
    for node in nodes {
        sum += node.metric(name, labels).await.unwrap_or(0.0);
    }
    sum
}

pub(super) async fn recorded(nodes: &[&Node]) -> f64 {
    sum(nodes, "fanway_losses_recorded_total", &[]).await
}

/// A publish as soon as the node has its Redis back.
pub(super) async fn publish_when_possible(node: &Node, channel: &str, data: serde_json::Value) {
    until_async("a publish that is done", || async {
        let answer = node.api("publish", json!({ "channel": channel, "data": data })).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

pub(super) fn is_gap(heard: &Heard) -> bool {
    matches!(heard, Heard::Gap(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_is_a_gap_for_all_who_resume_from_before_it() {
    for transport in TRANSPORTS {
        let mut redis = RedisServer::start().await;
        let nodes = nodes(&redis, 5).await;
        let all: Vec<&Node> = nodes.iter().collect();
        let mut knows = Client::join(&nodes[0], transport, "news", None).await;
        nodes[1].publish("news", json!(1)).await;
        knows.publications(&nodes[0], 1).await;
        let before = knows.stand.clone();
        redis.command("SAVE").await;
        for number in 2..=3 {
            nodes[1].publish("news", json!(number)).await;
        }
        knows.publications(&nodes[0], 2).await;
        redis.kill().await;
        redis.restart().await;

        assert!(is_gap(&knows.next(&nodes[0]).await), "{transport:?}: it has what the log lacks");
        until_async("the record of the loss", || async { (recorded(&all).await > 0.0).then_some(()) }).await;
        for node in &nodes[1..] {
            let mut behind = Client::join(node, transport, "news", Some(&before)).await;
            assert!(is_gap(&behind.next(node).await), "{transport:?}: two publications were passed on to others");
        }
        let mut fresh = Client::join(&nodes[4], transport, "news", None).await;
        publish_when_possible(&nodes[2], "news", json!("new")).await;
        assert_eq!(fresh.next(&nodes[4]).await, Heard::Publication(json!("new")), "{transport:?}");
        assert_eq!(knows.next(&nodes[0]).await, Heard::Publication(json!("new")), "{transport:?}: told once");
        assert_eq!(recorded(&all).await, 1.0, "{transport:?}: one loss");
    }
}

/// The second time the record of the loss is lost with what was published since; the node that knew remembers.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_snapshot_again_is_recorded_again() {
    let mut redis = RedisServer::start().await;
    let nodes = nodes(&redis, 2).await;
    let all: Vec<&Node> = nodes.iter().collect();
    let mut knows = Client::join(&nodes[0], Transport::Sse, "news", None).await;
    nodes[0].publish("news", json!(1)).await;
    knows.publications(&nodes[0], 1).await;
    let before = knows.stand.clone();
    redis.command("SAVE").await;
    nodes[0].publish("news", json!(2)).await;
    knows.publications(&nodes[0], 1).await;
    for times in 1..=2 {
        redis.kill().await;
        redis.restart().await;
        assert!(is_gap(&knows.next(&nodes[0]).await), "time {times}");
        until_async("the record of the loss", || async { (recorded(&all).await >= f64::from(times)).then_some(()) })
            .await;
        let mut behind = Client::join(&nodes[1], Transport::Sse, "news", Some(&before)).await;
        assert!(is_gap(&behind.next(&nodes[1]).await), "time {times}");
    }
}

/// The only node that knows of the loss comes back after the log has gone on.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_found_after_newer_publications_is_told_to_those_who_passed_over_it() {
    for transport in TRANSPORTS {
        let mut redis = RedisServer::start().await;
        let proxy = ChaosProxy::start(redis.address()).await;
        let url = format!("redis://{}", proxy.address());
        let knowing = node().redis(&url, "test").set("redis.probe_interval", "500ms").start().await;
        let other = fleet(&redis).start().await;
        let both = [&knowing, &other];
        let mut knows = Client::join(&knowing, transport, "news", None).await;
        knowing.publish("news", json!(1)).await;
        knows.publications(&knowing, 1).await;
        let before = knows.stand.clone();
        redis.command("SAVE").await;
        knowing.publish("news", json!(2)).await;
        knows.publications(&knowing, 1).await;
        proxy.refuse();
        proxy.cut();
        redis.kill().await;
        redis.restart().await;

        // Nobody who is there knows of the second publication.
        until_async("a node that is well", || async {
            (sum(&[&other], "fanway_broker_up", &[]).await > 0.0).then_some(())
        })
        .await;
        let mut passes = Client::join(&other, transport, "news", Some(&before)).await;
        publish_when_possible(&other, "news", json!("2, again")).await;
        assert_eq!(passes.next(&other).await, Heard::Publication(json!("2, again")), "{transport:?}");
        let mut fresh = Client::join(&other, transport, "news", None).await;

        proxy.heal();
        assert!(is_gap(&knows.next(&knowing).await), "{transport:?}: it has what the log lacks");
        until_async("the record of the loss", || async { (recorded(&both).await > 0.0).then_some(()) }).await;
        // A poll that is not under way is no client: the next one names its position.
        if transport != Transport::Poll {
            assert!(is_gap(&passes.next(&other).await), "{transport:?}: it has passed over the loss");
            assert_eq!(sum(&[&other], "fanway_loss_notices_total", &[("notice", "first")]).await, 1.0, "{transport:?}");
        }
        let mut behind = Client::join(&other, transport, "news", Some(&before)).await;
        assert!(is_gap(&behind.next(&other).await), "{transport:?}: it is from before the loss");
        publish_when_possible(&other, "news", json!(3)).await;
        assert_eq!(fresh.next(&other).await, Heard::Publication(json!(3)), "{transport:?}: it came after the loss");
        assert_eq!(passes.next(&other).await, Heard::Publication(json!(3)), "{transport:?}: told once");
        assert_eq!(knows.next(&knowing).await, Heard::Publication(json!(3)), "{transport:?}: told once");
        assert_eq!(recorded(&both).await, 1.0, "{transport:?}: one loss");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_lost_nothing_is_recorded() {
    let mut redis = RedisOptions::default().config("appendonly yes").config("appendfsync always").start().await;
    let nodes = nodes(&redis, 2).await;
    let all: Vec<&Node> = nodes.iter().collect();
    let mut client = Client::join(&nodes[0], Transport::Sse, "news", None).await;
    let before = client.stand.clone();
    nodes[1].publish("news", json!(0)).await;
    redis.command("DEBUG CHANGE-REPL-ID").await;
    nodes[1].publish("news", json!(1)).await;
    redis.restart().await;
    publish_when_possible(&nodes[1], "news", json!(2)).await;
    redis.kill().await;
    redis.restart().await;
    publish_when_possible(&nodes[1], "news", json!(3)).await;
    for number in 0..4 {
        assert_eq!(client.next(&nodes[0]).await, Heard::Publication(json!(number)));
    }
    let mut behind = Client::join(&nodes[1], Transport::Sse, "news", Some(&before)).await;
    for number in 0..4 {
        assert_eq!(behind.next(&nodes[1]).await, Heard::Publication(json!(number)));
    }
    // A log that begins anew is a gap, and no loss that could be recorded in it.
    redis.flush().await;
    publish_when_possible(&nodes[1], "news", json!("anew")).await;
    assert!(is_gap(&client.next(&nodes[0]).await));
    assert_eq!(recorded(&all).await, 0.0);
}
