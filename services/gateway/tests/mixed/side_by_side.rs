//! Both binaries in one fleet.

use fanway_testkit::node::Node;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::{sse, websocket};
use serde_json::{Value, json};

use super::recording::older;
use super::{BYTES, current, node, poll_from, publish_bytes, publish_bytes_soon, token, until_fleet_of};

/// A WebSocket client and an event stream of the channel `news` on one node.
struct Subscribers {
    socket: websocket::Client,
    stream: sse::Client,
}

impl Subscribers {
    async fn of(node: &Node) -> Self {
        let token = token(node);
        let mut socket = websocket::Client::connect(node.websocket_url(), &token).await;
        socket.subscribe("news").await;
        let mut stream = sse::Request::to(node.url("/sse?channel=news")).bearer(&token).send().await.unwrap();
        assert_eq!(stream.next_event().await.event, "ready");
        Self { socket, stream }
    }

    async fn receive(&mut self, data: &Value) {
        assert_eq!(self.socket.next_publication().await.data, *data);
        assert_eq!(self.stream.next_publication().await.data, *data);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the older binary: make test-mixed OLD=path"]
async fn a_rollout_delivers_everything_to_everybody() {
    let redis = RedisServer::start().await;
    let (old, new) = (node(&older(), &redis).start().await, current(&redis).start().await);
    let (mut before, mut after) = (Subscribers::of(&old).await, Subscribers::of(&new).await);
    for n in 0..20 {
        let publisher = if n % 2 == 0 { &old } else { &new };
        publisher.publish("news", json!(n)).await;
        before.receive(&json!(n)).await;
        after.receive(&json!(n)).await;
    }
    // Positions are of the fleet, not of a build.
    let (offset, epoch) = old.publish("news", json!("last")).await;
    for node in [&old, &new] {
        let mut late = websocket::Client::connect(node.websocket_url(), &token(node)).await;
        let resumed = late.subscribe_recover("news", &epoch, offset - 3).await;
        assert_eq!((resumed.recovered, resumed.data()), (true, vec![json!(18), json!(19), json!("last")]));
    }
    before.receive(&json!("last")).await;
    after.receive(&json!("last")).await;

    // Both know each other; the new one sends nothing that the old one cannot read.
    until_fleet_of(&old, 2.0).await;
    until_fleet_of(&new, 2.0).await;
    assert_eq!(publish_bytes(&new, "news").await, (503, json!("fleet_version")));
    old.term();
    publish_bytes_soon(&new, "news").await;
    assert_eq!(after.socket.next_publication().await.data, json!(BYTES));
    assert_eq!(after.stream.next_publication().await.b64data.as_deref(), Some(BYTES));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the older binary: make test-mixed OLD=path"]
async fn after_a_rollback_bytes_are_a_gap_and_never_misread() {
    let redis = RedisServer::start().await;
    let new = current(&redis).start().await;
    let (_, epoch) = new.publish("news", json!("one")).await;
    publish_bytes_soon(&new, "news").await;
    let (offset, _) = new.publish("news", json!("three")).await;
    assert_eq!(offset, 3);

    let old = node(&older(), &redis).start().await;
    let over = poll_from(&old, &epoch, 1).await;
    assert_eq!((over.gaps.len(), over.data().contains(&json!(BYTES))), (1, false), "{over:?}");
    let past = poll_from(&old, &epoch, 2).await;
    assert_eq!((past.gaps.len(), past.data()), (0, vec![json!("three")]));
    let mut client = websocket::Client::connect(old.websocket_url(), &token(&old)).await;
    assert!(!client.subscribe_recover("news", &epoch, 1).await.recovered);

    until_fleet_of(&new, 2.0).await;
    assert_eq!(publish_bytes(&new, "news").await, (503, json!("fleet_version")));
    let mut of_new = websocket::Client::connect(new.websocket_url(), &token(&new)).await;
    let resumed = of_new.subscribe_recover("news", &epoch, 1).await;
    assert_eq!((resumed.recovered, resumed.data()), (true, vec![json!(BYTES), json!("three")]));
}
