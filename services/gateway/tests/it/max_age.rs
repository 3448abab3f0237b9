//! `rebalance.max_connection_age`: connections end one by one, come back anywhere, and miss nothing.

use fanway_testkit::redis::RedisServer;
use fanway_testkit::wait;

use super::clients::Transport;
use super::event_streams::{Raw, chunks};
use super::follow::Crowd;
use super::{PATIENCE, fleet};

const EACH: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_at_their_age_and_lose_nothing() {
    let redis = RedisServer::start().await;
    let old = || {
        fleet(&redis)
            .set("rebalance.max_connection_age", "2s")
            .set("rebalance.max_connection_age_jitter", fanway_testkit::node::Setting::toml("0.5"))
            .set("default_namespace.history_size", 10_000)
            .set("client.recovery_limit", 10_000)
    };
    let nodes = [old().start().await, old().start().await];
    let mut crowd = Crowd::new(&nodes[0], 50);
    nodes.iter().for_each(|node| crowd.balancer.add(node));
    crowd.join(Transport::WebSocket, EACH).await;
    crowd.join(Transport::Sse, EACH).await;

    // Each has been closed at least twice on average.
    wait::until("connections are closed", || (crowd.closed().len() >= EACH * 4).then_some(())).await;
    let closed = crowd.closed();
    crowd.all_have_everything().await;
    for transport in [Transport::WebSocket, Transport::Sse] {
        let of: Vec<_> = closed.iter().filter(|closed| closed.transport == transport).collect();
        assert!(of.len() > EACH, "{transport:?}: {}", of.len());
        match transport {
            // A code on which SDKs come back.
            Transport::WebSocket => assert!(of.iter().all(|closed| closed.code == Some(3011)), "{of:?}"),
            _ => assert!(of.iter().all(|closed| closed.retry.is_some_and(|retry| retry >= 1000)), "{of:?}"),
        }
    }
    let mut counted = 0.0;
    for node in &nodes {
        let reason = [("reason", "max_age")];
        counted += node.metric("fanway_connections_closed_total", &reason).await.unwrap_or_default();
        assert_eq!(node.metric("fanway_connections_closed_total", &[("reason", "shutdown")]).await, None);
    }
    assert!(counted >= (EACH * 4) as f64, "{counted}");
    // Drawn for each: those that came together do not leave together.
    let moments: std::collections::HashSet<_> =
        closed.iter().map(|one| (one.at - closed[0].at).as_millis() / 100).collect();
    assert!(moments.len() >= 5, "closed in {} different tenths of a second", moments.len());
}

/// A client that reads the coding of the body must not take the end for a broken connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_at_its_age_has_the_last_chunk() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).set("rebalance.max_connection_age", "1s").start().await;
    let mut stream = Raw::request(&node, "channel=news", "HTTP/1.1", "").await;
    let all = stream.until_end().await;
    let (chunks, last) = chunks(&all);
    assert!(last, "{chunks:?}");
    assert!(chunks.last().unwrap().starts_with("retry: "), "{chunks:?}");
    wait::within(PATIENCE, "it is counted", async || {
        let closed = node.metric("fanway_connections_closed_total", &[("reason", "max_age")]).await?;
        (closed == 1.0).then_some(())
    })
    .await;
}
