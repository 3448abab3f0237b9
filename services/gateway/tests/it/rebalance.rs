//! Nodes that join get their share of the connections, and nobody misses anything by it.

use std::time::Duration;

use fanway_testkit::node::{Builder, Node};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::wait;

use super::clients::Transport;
use super::fleet;
use super::follow::Crowd;

/// Clients in all.
const CLIENTS: usize = 240;
/// A node is new for so long.
const SETTLE: Duration = Duration::from_secs(2);
/// Within so long a node that joins has its share: until it is not new any more, three heartbeats, then, at 20 a second,
/// what the others have too much; and as much again for a machine that is busy.
const SHARE_WITHIN: Duration = Duration::from_secs(30);

fn quick(redis: &RedisServer) -> Builder {
    fleet(redis)
        .set("rebalance.heartbeat_interval", "400ms")
        .set("rebalance.settle_time", format!("{}s", SETTLE.as_secs()))
        .set("rebalance.shed_threshold", 5)
        .set("rebalance.shed_rate", 20)
        .set("default_namespace.history_size", 10_000)
        .set("client.recovery_limit", 10_000)
}

async fn sum(nodes: &[Node], name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut sum = 0.0;
    for node in nodes {
        sum += node.metric(name, labels).await.unwrap_or_default();
    }
    sum
}

async fn closes(nodes: &[Node]) -> f64 {
    sum(nodes, "fanway_connections_closed_total", &[("reason", "rebalanced")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_gets_its_share() {
    let redis = RedisServer::start().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(quick(&redis).start().await);
    }
    let mut crowd = Crowd::new(&nodes[0], 20);
    nodes.iter().for_each(|node| crowd.balancer.add(node));
    crowd.join(Transport::WebSocket, CLIENTS * 3 / 4).await;
    crowd.join(Transport::Sse, CLIENTS / 4).await;
    assert_eq!(sum(&nodes, "fanway_connections", &[]).await, CLIENTS as f64);
    assert_eq!(closes(&nodes).await, 0.0, "nobody sheds while all are alike");

    nodes.push(quick(&redis).start().await);
    crowd.balancer.add(&nodes[3]);
    let average = CLIENTS as f64 / 4.0;
    wait::within(SHARE_WITHIN, "the new node has its share, and all are at rest", async || {
        let mut least = f64::INFINITY;
        for node in &nodes {
            let connections = node.metric("fanway_connections", &[]).await?;
            let at_rest = node.metric("fanway_shedding", &[]).await? == 0.0;
            let known = node.metric("fanway_fleet_nodes", &[]).await? == 4.0;
            if !at_rest || !known || connections > average * 1.2 {
                return None;
            }
            least = least.min(connections);
        }
        let all = sum(&nodes, "fanway_connections", &[]).await == CLIENTS as f64;
        (all && least >= average * 0.6).then_some(())
    })
    .await;

    // With everybody back and nobody above the bound, nobody may begin again.
    let rebalanced = closes(&nodes).await;
    let told = crowd.closed();
    let told_of_itself = [("operation", "announce")];
    let heartbeats = async || sum(&nodes, "fanway_broker_call_seconds_count", &told_of_itself).await;
    let before = heartbeats().await;
    wait::within(SHARE_WITHIN, "more heartbeats", async || (heartbeats().await >= before + 40.0).then_some(())).await;
    // Three of eighty each, down to 63, where every fourth close gives the new node one.
    let necessary = 3.0 * 17.0 * 4.0;
    assert!(rebalanced <= necessary * 1.5 + 60.0, "{rebalanced} closes where {necessary} were necessary");
    assert!(rebalanced >= 45.0, "{rebalanced}");
    assert!(told.iter().all(|closed| closed.code == Some(3011) || closed.retry.is_some()), "{told:?}");
    crowd.all_have_everything().await;
    assert_eq!(closes(&nodes).await, rebalanced, "it has stopped");
}

/// Without leave nobody sheds; the others are known all the same, and forgotten when they are gone.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_know_each_other() {
    let redis = RedisServer::start().await;
    let quiet = || quick(&redis).set("rebalance.shed", false);
    let mut nodes = [quiet().start().await, quiet().start().await];
    let other_fleet = quick(&redis).set("redis.fleet", "other").start().await;
    let mut crowd = Crowd::new(&nodes[0], 20);
    crowd.balancer.add(&nodes[0]);
    crowd.join(Transport::WebSocket, 20).await;
    let know = async |node: &Node, count: f64, average: f64| {
        wait::until_async("nodes know each other", || async {
            let nodes = node.metric("fanway_fleet_nodes", &[]).await?;
            let connections = node.metric("fanway_fleet_connections_average", &[]).await?;
            (nodes == count && connections == average).then_some(())
        })
        .await;
    };
    know(&nodes[0], 2.0, 10.0).await;
    know(&nodes[1], 2.0, 10.0).await;
    know(&other_fleet, 1.0, 0.0).await;
    let alone = other_fleet.metric("fanway_shedding_held", &[("reason", "alone")]).await;
    assert_eq!(alone, Some(1.0), "who sheds nothing says why");
    nodes[1].kill();
    know(&nodes[0], 1.0, 20.0).await;
    assert_eq!(closes(&nodes[..1]).await, 0.0);
    crowd.all_have_everything().await;
}
