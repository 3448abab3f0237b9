//! `server.public_metrics`: who can reach the listener of clients learns nothing of the node's inside unless it is set.

use fanway_testkit::node::{API_KEY, Node};
use fanway_testkit::{http, wait};
use serde_json::json;

use super::{PATIENCE, node};

/// Status and body of a path.
async fn ask(node: &Node, path: &str) -> (u16, String) {
    let answer = http::get(format!("http://127.0.0.1:{}{path}", node.port()), &[]).await;
    (answer.status.as_u16(), answer.text())
}

/// Lines of the log that say where metrics are.
fn said(node: &Node) -> Vec<String> {
    node.log().lines().filter(|line| line.contains("metrics served")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn off_hides_metrics_and_details_and_leaves_the_status_codes() {
    let node = node().set("server.public_metrics", false).set("drain.propagation_delay", "60s").start().await;
    let metrics = http::get(node.url("/metrics"), &[]).await;
    assert_eq!((metrics.status.as_u16(), metrics.json()["error"]["reason"].as_str()), (404, Some("not_found")));
    assert_eq!(ask(&node, "/health/live").await, (200, r#"{"status":"live"}"#.to_owned()));
    assert_eq!(ask(&node, "/health/ready").await, (200, r#"{"status":"ready"}"#.to_owned()));
    assert_eq!(ask(&node, "/health/broker").await, (200, r#"{"status":"ok"}"#.to_owned()));
    let info = http::post_json(node.url("/api/info"), &[("x-api-key", API_KEY)], &json!({})).await;
    assert_eq!(info.status, 200, "the server API is where it was");
    let said = said(&node);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("WARN") && said[0].contains("server.internal_listen"), "{said:?}");
    assert!(said[0].contains("server.public_metrics"), "{said:?}");
    node.term();
    wait::until_async("the node says that it is not ready, and no more", || async {
        let (status, body) = ask(&node, "/health/ready").await;
        assert!(!body.contains("reasons"), "{body}");
        (status == 503).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_shows_both() {
    let node = node().set("server.public_metrics", true).start().await;
    assert!(ask(&node, "/metrics").await.1.contains("fanway_connections"));
    assert!(ask(&node, "/health/broker").await.1.contains(r#""commands":true"#));
    let said = said(&node);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("INFO") && said[0].contains(&format!("127.0.0.1:{}", node.port())), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_apart_shows_both_and_is_named() {
    let node = node().internal_listener().start().await;
    assert_eq!(ask(&node, "/metrics").await.0, 404);
    assert_eq!(ask(&node, "/health/ready").await.0, 404);
    let metrics = http::get(node.url("/metrics"), &[]).await;
    assert!(metrics.text().contains("fanway_connections"));
    let said = said(&node);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("INFO") && !said[0].contains(&format!("127.0.0.1:{}", node.port())), "{said:?}");
}

/// A scraper outside and one inside.
#[tokio::test(flavor = "multi_thread")]
async fn on_beside_a_listener_apart_shows_both_on_both() {
    let node = node().internal_listener().set("server.public_metrics", true).start().await;
    for target in [format!("http://127.0.0.1:{}/metrics", node.port()).into(), node.url("/metrics")] {
        let answer = http::request(::http::Method::GET, &target, &[], bytes::Bytes::new(), PATIENCE).await.unwrap();
        assert_eq!(answer.status, 200, "{}", target.uri);
    }
    assert!(ask(&node, "/health/broker").await.1.contains(r#""commands":true"#));
    assert_eq!(ask(&node, "/api/info").await.0, 404);
}
