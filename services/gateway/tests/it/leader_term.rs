//! After a change of leader term (another primary, or the same under a new replication id) each channel's next
//! publication opens an epoch. Clients that learn epochs from subscribe replies subscribe anew.

use std::time::{Duration, Instant};

use fanway_testkit::redis::RedisServer;
use fanway_testkit::websocket;
use serde_json::json;

use super::clients::{Client, Transport};
use super::{fleet, token};

/// As a failover does, without the failover.
async fn change(redis: &RedisServer) {
    redis.command("DEBUG CHANGE-REPL-ID").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_publications_of_a_leader_term_are_not_late_when_they_are_few() {
    const CHANNELS: usize = 25;
    let redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    let mut clients = Vec::new();
    for n in 0..CHANNELS {
        let channel = format!("term-{n}");
        let mut client = Client::join(&node, Transport::WebSocket, &channel, None).await;
        node.publish(&channel, json!("before")).await;
        client.publications(&node, 1).await;
        clients.push((channel, client));
    }
    change(&redis).await;
    let mut late = Vec::new();
    for (channel, client) in &mut clients {
        node.publish(channel, json!("after")).await;
        let published = Instant::now();
        assert_eq!(client.publications(&node, 1).await, [json!("after")]);
        late.push(published.elapsed());
    }
    late.sort();
    // Half a second is far more than a round trip takes, and half of what a spread over two seconds took.
    assert!(late[CHANNELS / 2] < Duration::from_millis(500), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_epoch_recovers_only_within_one_leader_term() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    let mut socket = websocket::Client::connect(node.websocket_url(), &token(&node)).await;
    for n in 1..=2 {
        node.publish("whole", json!(n)).await;
        node.publish("broken", json!(n)).await;
    }
    let subscribed = socket.subscribe_recover("whole", "", 0).await;
    assert!(subscribed.recovered);
    assert_eq!(subscribed.publications.iter().map(|one| one.offset).collect::<Vec<_>>(), [1, 2]);
    change(&redis).await;
    node.publish("broken", json!(3)).await;
    let subscribed = socket.subscribe_recover("broken", "", 0).await;
    assert!(!subscribed.recovered && subscribed.publications.is_empty(), "{subscribed:?}");
    assert_eq!(subscribed.offset, 3);
}
