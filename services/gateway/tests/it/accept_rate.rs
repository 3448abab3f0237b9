//! `server.accept_rate`: a storm of new connections is told to come back, and those who are connected notice nothing.

use std::time::{Duration, Instant};

use fanway_testkit::{http, poll, sse, websocket};
use serde_json::json;

use super::{PATIENCE, node, token};

/// How each transport is refused; by asking until it is, for a token comes back every second.
#[tokio::test(flavor = "multi_thread")]
async fn each_transport_is_told_in_its_own_way() {
    let node = node().set("server.accept_rate", 1).set("server.accept_burst", 3).start().await;
    let token = token(&node);
    let mut connected = websocket::Client::connect(node.websocket_url(), &token).await;
    connected.subscribe("news").await;
    let end = Instant::now() + PATIENCE;
    let in_time = || assert!(Instant::now() < end, "refused at last");

    let refused = loop {
        in_time();
        if let Err(refused) = websocket::Client::try_open(node.websocket_url(), &[]).await {
            break refused;
        }
    };
    assert_eq!(refused.status, 503);
    assert!((1..=10).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));

    let bearer = format!("Bearer {token}");
    let refused = loop {
        in_time();
        let headers = [("authorization", bearer.as_str())];
        let answer = poll::try_poll(node.url("/poll"), &["news"], None, Duration::ZERO, &headers).await.unwrap();
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.status, 503);
    assert!((1..=10).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));

    // What an EventSource sees is an open stream that ends, and when to come back.
    loop {
        in_time();
        let target = node.url("/sse").with_query("channel=news");
        let mut stream = sse::Request::to(target).bearer(&token).send().await.unwrap();
        if stream.next_event_within(PATIENCE).await == Err(sse::Silence::Ended) {
            assert!((1000..=10_000).contains(&stream.retry().unwrap()), "{:?}", stream.retry());
            break;
        }
    }

    // The operations of the node are exempt, and who is connected stays.
    for path in ["/health/live", "/health/ready", "/metrics"] {
        for _ in 0..5 {
            assert_eq!(http::get(node.url(path), &[]).await.status, 200, "{path}");
        }
    }
    node.publish("news", json!("all the same")).await;
    assert_eq!(connected.next_publication().await.data, json!("all the same"));
    let refusals = node.metric("fanway_connections_rejected_total", &[("reason", "rate")]).await.unwrap();
    assert!(refusals >= 3.0, "{refusals}");
}

/// Where the operations have a listener of their own, all who come to the other one are clients.
#[tokio::test(flavor = "multi_thread")]
async fn paths_of_the_internal_listener_are_not_exempt_on_the_public_one() {
    let node = node().internal_listener().set("server.accept_rate", 1).set("server.accept_burst", 3).start().await;
    let public = format!("http://127.0.0.1:{}/health/live", node.port());
    let end = Instant::now() + PATIENCE;
    while http::get(public.as_str(), &[]).await.status != 503 {
        assert!(Instant::now() < end, "refused at last");
    }
    for _ in 0..10 {
        assert_eq!(http::get(node.url("/health/live"), &[]).await.status, 200);
    }
}

/// What is refused later than at the door is counted too.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_reasons() {
    let node = node().set("server.max_connections", 500).start().await;
    let rejected = async |reason: &str| {
        node.metric("fanway_connections_rejected_total", &[("reason", reason)]).await.unwrap_or_default()
    };
    assert_eq!(http::get(node.url("/sse").with_query("channel=news"), &[]).await.status, 401);
    let foreign = [("origin", "https://elsewhere.example")];
    assert_eq!(websocket::Client::try_open(node.websocket_url(), &foreign).await.err().unwrap().status, 403);
    assert!(!http::get(node.url("/connection/websocket"), &[]).await.status.is_success());
    assert_eq!((rejected("auth").await, rejected("origin").await, rejected("bad_request").await), (1.0, 1.0, 1.0));
    assert_eq!((rejected("limit").await, rejected("rate").await), (0.0, 0.0));
    assert_eq!(node.metric("fanway_connections_limit", &[]).await, Some(500.0));
}
