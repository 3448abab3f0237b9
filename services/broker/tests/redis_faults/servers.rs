//! Which server the address leads to: one that is no single primary, or two that both say they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanway_broker::{Broker, Event, HistoryQuery, PageLimit, RedisSettings};
use fanway_testkit::redis::{RedisOptions, RedisServer};
use fanway_testkit::wait::{until, until_async};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{KEEP, Node, channel, publish_all, publish_when_possible, settings};

#[tokio::test]
async fn a_node_of_a_cluster_and_a_sentinel_are_refused_by_name() {
    let cluster = RedisOptions::default().config("cluster-enabled yes").start().await;
    let sentinel = RedisOptions::default().sentinel().start().await;
    for (server, named) in [(&cluster, "a node of a Redis Cluster"), (&sentinel, "a Sentinel")] {
        for database in [0, 1] {
            let node = Node::begin(RedisSettings { database, ..settings(&server.url()) });
            let detail = node.until_detail(named).await;
            assert!(detail.contains("redis.url must lead to"), "{detail}");
            assert!(!node.health().started && !node.health().commands);
        }
    }
}

/// An address behind which there are two servers.
struct Address {
    address: SocketAddr,
    /// Where the next connections go: to the first, to the second, or in turn.
    leads_to: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

const IN_TURN: usize = 2;

impl Address {
    async fn start(servers: [SocketAddr; 2], leads_to: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let leads_to = Arc::new(AtomicUsize::new(leads_to));
        let chosen = leads_to.clone();
        let accepting = tokio::spawn(async move {
            for number in 0.. {
                let Ok((mut client, _)) = listener.accept().await else { return };
                let to = Some(chosen.load(Ordering::Relaxed)).filter(|to| *to < IN_TURN).unwrap_or(number % 2);
                let server = servers[to];
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, leads_to, accepting }
    }

    fn lead_to(&self, server: usize) {
        self.leads_to.store(server, Ordering::Relaxed);
    }

    fn settings(&self) -> RedisSettings {
        settings(&format!("redis://{}", self.address))
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Number of connections that a node has to a server.
async fn connections(server: &RedisServer) -> usize {
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut server.admin().await).await.unwrap();
    // The kit's own come through a unix socket.
    list.lines().filter(|line| line.contains("addr=127.0.0.1:")).count()
}

#[tokio::test]
async fn connections_that_are_sent_to_two_servers_in_turn_end_at_one() {
    let servers = [RedisServer::start().await, RedisServer::start().await];
    let address = Address::start([servers[0].address(), servers[1].address()], IN_TURN).await;
    let (node, news) = (Node::start(address.settings()).await, channel("news"));
    until_async("connections to one server only", || async {
        let [one, other] = [connections(&servers[0]).await, connections(&servers[1]).await];
        (one.min(other) == 0).then_some(())
    })
    .await;
    node.until_well().await;
    assert!(!node.health().split);
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    publish_all(&node.broker, &news, 1..=3).await;
    node.ears.hear(&news, 3).await;
    // Also over the connections of the pool, those that are made later among them.
    let query = HistoryQuery { since: None, limit: PageLimit::entries(10), reverse: false };
    let pages = futures_util::future::join_all((0..8).map(|_| node.history(&news, query, KEEP))).await;
    for page in pages {
        assert_eq!(page.unwrap().publications.len(), 3);
    }
}

#[tokio::test]
async fn a_connection_that_comes_to_another_primary_is_this_nodes_trouble_until_all_do() {
    let servers = [RedisServer::start().await, RedisServer::start().await];
    let address = Address::start([servers[0].address(), servers[1].address()], 0).await;
    let (node, news) = (Node::start(address.settings()).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    publish_all(&node.broker, &news, 1..=2).await;
    node.ears.hear(&news, 2).await;
    assert_eq!(node.metrics.broker_split_total.get(), 0);

    // As when a name gets another address: what is connected stays where it is.
    address.lead_to(1);
    servers[0].command("CLIENT KILL TYPE pubsub").await;
    let split = until("a split that is named", || Some(node.health()).filter(|health| health.split)).await;
    assert!(split.detail.unwrap().contains("run_id"), "both servers are named");
    node.until_well().await;
    assert!(node.metrics.broker_split_total.get() > 0 && !node.health().split);
    until_async("no connection to the first server", || async { (connections(&servers[0]).await == 0).then_some(()) })
        .await;
    // Whoever hears is told of the interruption, and reads the log that is there now.
    node.ears.until("Interrupted", |event| matches!(event, Event::Interrupted)).await;
    node.ears.until_restored(&news).await;
    node.ears.forget();
    assert_eq!(publish_when_possible(&node.broker, &news, 3).await.position.unwrap().offset, 1);
    node.ears.hear(&news, 1).await;
}
