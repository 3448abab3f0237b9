//! Messages that never end, of clients that have not connected.

use std::time::Duration;

use fanway_testkit::websocket::{Client, Frame, Incoming, Raw};

use super::{PATIENCE, node, token};

/// Beyond the bound of the node the oldest of them are closed, and clients that connect are not.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_unfinished_messages_are_dropped() {
    const PART: usize = 20 * 1024;
    let node = node().set("client.node_unfinished_bytes", "200 KiB").set("client.connect_timeout", "60s").start().await;
    let part = Frame::new(Frame::TEXT, "x".repeat(PART)).unfinished();
    let held = async || node.metric("fanway_unfinished_bytes", &[]).await.unwrap();
    let mut sockets: Vec<Raw> = Vec::new();
    for count in 1..=20 {
        let mut socket = Raw::open(node.websocket_url()).await;
        socket.write_frame(&part).await;
        // In order of their beginning.
        let before = fanway_testkit::wait::within(PATIENCE, "it is held", async || {
            let limited = node.metric("fanway_limited_total", &[("limit", "unfinished_messages")]).await.unwrap();
            let held = held().await;
            (limited > 0.0 || held >= (count * PART) as f64).then_some(held)
        });
        assert!(before.await <= 200.0 * 1024.0);
        sockets.push(socket);
    }
    let (code, _) = sockets[0].read_frame().await.close().expect("the oldest is closed");
    assert_eq!(code, 1013);
    let last = sockets.last_mut().unwrap();
    let nothing = last.read_frame_within(Duration::from_millis(500)).await;
    assert!(matches!(nothing, Incoming::TimedOut), "the youngest is not");
    // Who connects is not concerned, whatever it sends.
    let mut client = Client::connect(node.websocket_url(), &token(&node)).await;
    client.subscribe("news").await;
    let large = serde_json::json!("y".repeat(50 * 1024));
    client.publish("news", large).await.unwrap();
    assert!(held().await <= 200.0 * 1024.0);
    drop(sockets);
    let released =
        fanway_testkit::wait::within(PATIENCE, "all is released", async || (held().await == 0.0).then_some(()));
    released.await;
}
