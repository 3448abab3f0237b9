//! Health endpoints and the help texts of the metrics.

use fanway_testkit::redis::RedisServer;
use fanway_testkit::{http, wait};

use crate::scene::Scene;
use crate::{fleet, node};

/// Requests of all health endpoints.
const HEALTH: &str = "
    GET /health/live HTTP/1.1
    GET /health/ready HTTP/1.1
    GET /health/broker HTTP/1.1
";

#[tokio::test(flavor = "multi_thread")]
async fn health() {
    let node = node().set("server.public_metrics", false).start().await;
    let mut scene = Scene::new(&node);
    scene.play(HEALTH).await;
    scene.play("HEAD /health/live HTTP/1.1\nPOST /health/live HTTP/1.1\nGET /metrics HTTP/1.1").await;
    scene.compare("health_public");
}

/// With the details that only operators see, during an outage of Redis and a drain.
#[tokio::test(flavor = "multi_thread")]
async fn health_details() {
    let mut redis = RedisServer::start().await;
    let node = fleet(&redis).internal_listener().set("drain.propagation_delay", "60s").start().await;
    let mut scene = Scene::new(&node);
    scene.play(HEALTH).await;
    redis.stop().await;
    let broker = wait::until_async("the outage is noticed", || async {
        let broker = http::get(node.url("/health/broker"), &[]).await;
        // Echoes go on being awaited for a while.
        (broker.status == 503 && broker.json()["echo"] == false).then_some(broker)
    })
    .await;
    let mut body = broker.json();
    // The text is the operating system's.
    assert!(body["detail"].take().is_string(), "{body}");
    scene.record(&format!("# without Redis\n< {} {body}", broker.status));
    scene.play("GET /health/ready HTTP/1.1\nterm").await;
    wait::until_async("the drain", || async {
        (http::get(node.url("/health/ready"), &[]).await.status == 503).then_some(())
    })
    .await;
    scene.play("GET /health/live HTTP/1.1 | Connection: close\nGET /health/ready HTTP/1.1 | Connection: close").await;
    scene.compare("health_details");
}

/// Names, types and labels are in `metrics.txt`.
#[tokio::test(flavor = "multi_thread")]
async fn help_texts_of_metrics() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    // Metrics with labels appear with their first value.
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            socket a
            > {"id":1,"connect":{"token":"<alice>"}}
            <
            > {"id":2,"subscribe":{"channel":"news"}}
            <
            publish news 1
            <
            GET /sse?channel=news HTTP/1.1 | Authorization: Bearer <alice>
            <
            <
            GET /poll?channel=news&timeout=0 HTTP/1.1 | Authorization: Bearer <alice>
            "#,
        )
        .await;
    let metrics = http::get(node.url("/metrics"), &[]).await.text();
    let mut help: Vec<_> = metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
    help.sort_unstable();
    crate::compare("metrics_help", &help.join("\n"));
}
