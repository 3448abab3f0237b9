//! This build reads what the build before wrote and sent.

use fanway_testkit::redis::RedisServer;
use fanway_testkit::{wait, websocket};
use serde_json::{Value, json};

use super::recording::Recording;
use super::{current, poll_from, publish_bytes, publish_bytes_soon, token, until_fleet_of};

/// Data of the recorded log.
fn recorded() -> Vec<Value> {
    vec![json!({"text": "one"}), json!(2), json!(3), json!([4]), json!("another term")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_log_is_resumed_read_and_continued() {
    let (redis, recording) = (RedisServer::start().await, Recording::load());
    recording.restore(&redis).await;
    let node = current(&redis).start().await;
    let epochs = recording.epochs();
    assert_eq!(epochs.len(), 2, "the log has two epochs");

    let page = node.api("history", json!({"channel": "news", "limit": 10})).await.json();
    let publications = page["result"]["publications"].as_array().unwrap();
    assert_eq!(publications.iter().map(|publication| publication["data"].clone()).collect::<Vec<_>>(), recorded());
    assert_eq!(publications[1]["tags"], json!({"a": "1", "b": "2"}));
    assert_eq!(
        (&publications[3]["info"]["user"], &publications[3]["info"]["conn_info"]),
        (&json!("alice"), &json!({"name": "Alice"}))
    );
    assert_eq!((&publications[0]["epoch"], &publications[4]["epoch"]), (&json!(epochs[0]), &json!(epochs[1])));

    // From a position on the first epoch, over both.
    let mut client = websocket::Client::connect(node.websocket_url(), &token(&node)).await;
    let resumed = client.subscribe_recover("news", &epochs[0], 1).await;
    assert_eq!((resumed.recovered, resumed.data()), (true, recorded()[1..].to_vec()));
    let polled = poll_from(&node, &epochs[0], 3).await;
    assert_eq!((polled.data(), polled.gaps), (recorded()[3..].to_vec(), vec![]));

    // The stored result of the key, and the next offset.
    let again = node.api("publish", json!({"channel": "news", "data": 3, "idempotency_key": "k"})).await.json();
    assert_eq!(again["result"]["offset"], 3);
    let other = node.api("publish", json!({"channel": "news", "data": 4, "idempotency_key": "k"})).await;
    assert_eq!(other.status, 409);
    assert_eq!(node.publish("news", json!("next")).await.0, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_messages_are_delivered() {
    let (redis, recording) = (RedisServer::start().await, Recording::load());
    recording.restore(&redis).await;
    // The recorded publication is not in the recorded log, which a check of the position would find.
    let node = current(&redis).set("client.position_check", "1m").start().await;
    let mut client = websocket::Client::connect(node.websocket_url(), &token(&node)).await;
    assert_eq!(client.subscribe("news").await.offset, 5);
    client.subscribe("plain:a").await;
    recording.send(&redis, "fw:test:c:{news}").await;
    let publication = client.next_publication().await;
    assert_eq!((publication.channel.as_str(), publication.offset, publication.data), ("news", 6, json!("live")));
    recording.send(&redis, "fw:test:c:{plain:a}").await;
    let publication = client.next_publication().await;
    assert_eq!((publication.channel.as_str(), publication.data), ("plain:a", json!("without history")));
}

/// The node of the recorded heartbeat counts, and is not sent what it cannot read.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_heartbeat_is_of_a_node_that_reads_the_oldest_envelope() {
    let (redis, recording) = (RedisServer::start().await, Recording::load());
    let node = current(&redis).start().await;
    publish_bytes_soon(&node, "news").await;
    wait::until_async("bytes are refused", || async {
        recording.send(&redis, "fw:test:n").await;
        (publish_bytes(&node, "news").await == (503, json!("fleet_version"))).then_some(())
    })
    .await;
    until_fleet_of(&node, 2.0).await;
    until_fleet_of(&node, 1.0).await;
    publish_bytes_soon(&node, "news").await;
}
