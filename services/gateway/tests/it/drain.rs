//! SIGTERM: connections are closed over the window, with advice, and nothing is lost.

use std::time::Duration;

use fanway_testkit::redis::RedisServer;
use fanway_testkit::{http, sse, wait, websocket};
use serde_json::json;

use super::{PATIENCE, fleet, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_gives_its_connections_away() {
    let redis = RedisServer::start().await;
    let mut node = fleet(&redis).set("drain.propagation_delay", "2s").set("drain.window", "1s").start().await;
    let token = token(&node);
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = websocket::Client::connect(node.websocket_url(), &token).await;
        socket.subscribe("news").await;
        sockets.push(socket);
    }
    let target = node.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&token).send().await.unwrap();
    stream.next_event().await;
    let poll = {
        let target = node.url("/poll").with_query("channel=news&timeout=50&cursor=1~");
        let bearer = format!("Bearer {token}");
        tokio::spawn(async move { http::get(target, &[("authorization", &bearer)]).await.status })
    };
    node.term();
    wait::until_async("not ready", || async {
        (http::get(node.url("/health/ready"), &[]).await.status == 503).then_some(())
    })
    .await;
    // Until the load balancers have heard it, it still serves.
    let mut late = websocket::Client::connect(node.websocket_url(), &token).await;
    node.publish("news", json!("to the last")).await;
    for socket in &mut sockets {
        assert_eq!(socket.next_publication().await.data, json!("to the last"));
    }
    for socket in &mut sockets {
        assert_eq!(socket.closed().await.code(), Some(3001));
    }
    assert_eq!(late.closed().await.code(), Some(3001));
    stream.ended_within(PATIENCE).await;
    assert!(stream.retry().is_some(), "told when to come back");
    assert_eq!(poll.await.unwrap(), 200);
    let status = node.exited(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
}
