//! Failovers from a primary to its replica, with real replication: what the replica had not received is lost, and everybody
//! who is concerned learns of it; what it had received is nobody's gap.

use fanway_testkit::chaos::ChaosProxy;
use fanway_testkit::node::Node;
use fanway_testkit::redis::{RedisOptions, RedisServer};
use fanway_testkit::wait::until_async;
use serde_json::json;

use super::clients::{Client, Heard, Stand, Transport};
use super::lost_tail::{is_gap, publish_when_possible, recorded};
use super::node;

/// A primary, its replica, and nodes that know one address.
struct Pair {
    primary: RedisServer,
    replica: RedisServer,
    /// Between the two.
    link: ChaosProxy,
    /// The address that the nodes know.
    door: ChaosProxy,
    nodes: Vec<Node>,
}

impl Pair {
    async fn start(count: usize) -> Self {
        let server = || RedisOptions::default().config("repl-diskless-sync-delay 0").start();
        let (primary, replica) = (server().await, server().await);
        let link = ChaosProxy::start(primary.address()).await;
        let door = ChaosProxy::start(primary.address()).await;
        replica.command(&format!("REPLICAOF 127.0.0.1 {}", link.address().port())).await;
        let mut nodes = Vec::new();
        for _ in 0..count {
            let url = format!("redis://{}", door.address());
            nodes.push(node().redis(&url, "test").set("redis.probe_interval", "500ms").start().await);
        }
        let pair = Self { primary, replica, link, door, nodes };
        pair.in_step().await;
        pair
    }

    /// Waits until the replica has all that was written.
    async fn in_step(&self) {
        until_async("the replica to have everything", || async {
            let replicas = redis::from_redis_value::<i64>(self.primary.command("WAIT 1 100").await).unwrap();
            (replicas == 1).then_some(())
        })
        .await;
    }

    /// Makes the replica a primary, and leads the nodes there.
    async fn promote(&self) {
        self.replica.command("REPLICAOF NO ONE").await;
        self.door.lead_to(self.replica.address());
    }

    fn all(&self) -> Vec<&Node> {
        self.nodes.iter().collect()
    }

    /// Everybody who had not had all that was lost gets a gap, one node records the loss, and who comes new gets none.
    async fn a_loss_is_told(&self, knows: &mut Client, before: &Stand, transport: Transport) {
        assert!(is_gap(&knows.next(&self.nodes[0]).await), "{transport:?}: it has what the log lacks");
        until_async("the record of the loss", || async { (recorded(&self.all()).await > 0.0).then_some(()) }).await;
        for node in &self.nodes[1..] {
            let mut behind = Client::join(node, transport, "news", Some(before)).await;
            assert!(is_gap(&behind.next(node).await), "{transport:?}: two publications were passed on to others");
        }
        let last = &self.nodes[self.nodes.len() - 1];
        let mut fresh = Client::join(last, transport, "news", None).await;
        publish_when_possible(&self.nodes[1], "news", json!("new")).await;
        assert_eq!(fresh.next(last).await, Heard::Publication(json!("new")), "{transport:?}: it lost nothing");
        assert_eq!(knows.next(&self.nodes[0]).await, Heard::Publication(json!("new")), "{transport:?}: told once");
        assert_eq!(recorded(&self.all()).await, 1.0, "{transport:?}: one loss");
    }
}

/// A follower of the channel on the first node, and where it stood after one publication that both servers have.
async fn follower(pair: &Pair, transport: Transport) -> (Client, Stand) {
    let mut knows = Client::join(&pair.nodes[0], transport, "news", None).await;
    pair.nodes[1].publish("news", json!(1)).await;
    knows.publications(&pair.nodes[0], 1).await;
    pair.in_step().await;
    let before = knows.stand.clone();
    (knows, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_that_lags_is_a_gap_for_all_concerned() {
    for transport in [Transport::WebSocket, Transport::Sse] {
        let mut pair = Pair::start(5).await;
        let (mut knows, before) = follower(&pair, transport).await;
        pair.link.refuse();
        pair.link.cut();
        for number in 2..=3 {
            pair.nodes[1].publish("news", json!(number)).await;
        }
        knows.publications(&pair.nodes[0], 2).await;
        pair.primary.kill().await;
        pair.promote().await;
        pair.a_loss_is_told(&mut knows, &before, transport).await;
    }
}

/// The old primary comes back after the replica has taken over, and is taken for the primary once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_primary_is_a_gap_for_all_concerned() {
    for transport in [Transport::WebSocket, Transport::Sse] {
        let pair = Pair::start(3).await;
        let (mut knows, before) = follower(&pair, transport).await;
        pair.promote().await;
        for number in 2..=3 {
            publish_when_possible(&pair.nodes[1], "news", json!(number)).await;
        }
        knows.publications(&pair.nodes[0], 2).await;
        pair.door.lead_to(pair.primary.address());
        pair.a_loss_is_told(&mut knows, &before, transport).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_is_nobodys_gap() {
    for transport in [Transport::WebSocket, Transport::Sse] {
        let pair = Pair::start(2).await;
        let (mut knows, before) = follower(&pair, transport).await;
        pair.promote().await;
        for number in 2..=3 {
            publish_when_possible(&pair.nodes[1], "news", json!(number)).await;
        }
        assert_eq!(knows.publications(&pair.nodes[0], 2).await, [json!(2), json!(3)], "{transport:?}");
        let mut behind = Client::join(&pair.nodes[1], transport, "news", Some(&before)).await;
        assert_eq!(behind.publications(&pair.nodes[1], 2).await, [json!(2), json!(3)], "{transport:?}");
        assert_eq!(recorded(&pair.all()).await, 0.0, "{transport:?}");
    }
}
