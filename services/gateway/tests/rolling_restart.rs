//! A rolling restart as people do it, without Kubernetes: three nodes with Redis behind a real HAProxy with the published
//! configuration, thousands of connections over all transports, somebody who publishes all the time, and one node after
//! the other replaced by a new one.
//!
//! Nothing may be lost, doubled or out of order, nobody left behind, no connect refused, and connections must come back no
//! faster than the drain window has them go: so says a real Prometheus that scrapes the nodes. A last node, which gives
//! its connections away all at once, shows that it would say otherwise.
#![allow(clippy::unwrap_used, missing_docs)]

mod rolling;

use std::time::{Duration, Instant};

use fanway_testkit::node::{Node, free_port};
use fanway_testkit::redis::RedisServer;

use rolling::balancer::Balancer;
use rolling::crowd::Crowd;
use rolling::prometheus::Prometheus;
use rolling::publisher::Publisher;

/// Nodes at work at any time.
const NODES: usize = 3;
/// Connections: WebSocket, server-sent events, polls.
const CONNECTIONS: [usize; 3] = [1_400, 1_400, 200];
/// Over which a node gives its connections away.
const WINDOW: Duration = Duration::from_secs(15);
/// A rate is taken over so long: what a busy machine delays and does at once afterwards is no storm.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Connections go evenly over the window, but for what a busy machine does.
const SLACK: f64 = 1.3;
/// For a node to end.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn connections_glide_from_node_to_node() {
    rolling::allow_many_files();
    let redis = RedisServer::start().await;
    // The first ones, their successors, and the successor of the control.
    let ports: Vec<u16> = (0..2 * NODES + 1).map(|_| free_port()).collect();
    let (balancer, prometheus) = (Balancer::start(&ports), Prometheus::start(&ports));
    let mut fleet = Fleet { redis: &redis, balancer: &balancer, ports: &ports, nodes: Vec::new(), gone: 0 };
    for _ in 0..NODES {
        fleet.add(WINDOW).await;
    }
    fleet.all_serve().await;
    let began = Instant::now();
    let publisher = Publisher::start(fleet.api(0));
    let crowd = Crowd::open(balancer.port(), CONNECTIONS).await;
    println!("{} connections in {:.1?}", CONNECTIONS.iter().sum::<usize>(), began.elapsed());

    let glide = prometheus.now();
    let mut most = 0.0_f64;
    for replaced in 0..NODES {
        // The first new node is the control: it will give its connections away at once.
        fleet.add(if replaced == 0 { Duration::ZERO } else { WINDOW }).await;
        most = most.max(fleet.replace_oldest(&publisher).await);
    }
    let bound = most / WINDOW.as_secs_f64();
    crowd.catch_up(&publisher).await;
    let peak = prometheus.peak_of_reconnects(glide, RATE_OVER).await;
    println!("{most} connections over {WINDOW:?} are {bound:.0}/s; at most {peak:.0}/s came back");

    let control = prometheus.now();
    fleet.add(WINDOW).await;
    let at_once = fleet.replace_oldest(&publisher).await;
    crowd.catch_up(&publisher).await;
    let storm = prometheus.peak_of_reconnects(control, RATE_OVER).await;
    println!("{at_once} connections at once: {storm:.0}/s came back");

    let published = publisher.stop().await;
    let reconnects = crowd.finish(&published).await;
    println!("{} publications, {reconnects} reconnects, {:.0?}", published.iter().sum::<u64>(), began.elapsed());
    assert!(peak <= SLACK * bound, "{peak:.0}/s came back; the window allows {bound:.0}/s");
    assert!(peak > bound / 3.0, "{peak:.0}/s is hardly all that came back");
    assert!(storm > SLACK * bound, "{storm:.0}/s at once are not more than {bound:.0}/s: this shows nothing");
}

/// Nodes that come and go, the oldest first.
struct Fleet<'a> {
    redis: &'a RedisServer,
    balancer: &'a Balancer,
    /// Of all nodes that there will be.
    ports: &'a [u16],
    nodes: Vec<Node>,
    /// How many have gone.
    gone: usize,
}

impl Fleet<'_> {
    /// Starts a node that gives its connections away over this time, when it goes.
    async fn add(&mut self, window: Duration) {
        let node = Node::builder(env!("CARGO_BIN_EXE_fanway"))
            .redis(&self.redis.url(), "rolling")
            .port(self.ports[self.nodes.len()])
            .set("drain.propagation_delay", "3s")
            .set("drain.window", format!("{}s", window.as_secs()))
            // Here everybody is moved by a drain, however long the balancer needs to see a node.
            .set("rebalance.shed", false)
            .start();
        self.nodes.push(node.await);
    }

    /// Where a back end publishes on the node with this number.
    fn api(&self, number: usize) -> fanway_testkit::dial::Target {
        self.nodes[number].url("/api/publish")
    }

    /// Until new connections go to all of them, and to no others.
    async fn all_serve(&self) {
        self.balancer.serves_with(self.gone..self.nodes.len()).await;
    }

    /// Takes the oldest node away once its successor serves. Returns how many streams it had.
    async fn replace_oldest(&mut self, publisher: &Publisher) -> f64 {
        self.all_serve().await;
        // The back end is on the node that goes, and is to leave it for the one that goes next.
        publisher.turn_to(self.api(self.gone + 1));
        let oldest = &mut self.nodes[self.gone];
        let mut held = 0.0;
        for transport in ["websocket", "sse"] {
            held += oldest.metric("fanway_connections", &[("transport", transport)]).await.unwrap_or(0.0);
        }
        oldest.term();
        let status = oldest.exited(PATIENCE).await;
        assert!(status.success(), "{status}");
        self.gone += 1;
        assert_eq!(publisher.told(), self.gone, "the back end was told to go, by each node that went");
        self.all_serve().await;
        held
    }
}
