//! Redis answers, and refuses what is published: told from an outage, and one log line, not one per publication.

use fanway_testkit::node::Node;
use fanway_testkit::redis::RedisOptions;
use fanway_testkit::{http, wait};
use serde_json::{Value, json};

use super::clients::{Client, Transport};
use super::fleet;

async fn broker_health(node: &Node) -> (u16, Value) {
    let answer = http::get(node.url("/health/broker"), &[]).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_is_told_from_an_outage() {
    let redis = RedisOptions::default().config("maxmemory 8mb").config("maxmemory-policy noeviction").start().await;
    let node = fleet(&redis).set("default_namespace.history_size", 1000).start().await;
    let client = Client::join(&node, Transport::WebSocket, "full", None).await;
    let data = "x".repeat(50_000);
    let publish = async || node.api("publish", json!({"channel": "full", "data": data})).await;
    let mut done = 0;
    let refused = loop {
        let answer = publish().await;
        if answer.status != 200 {
            break answer;
        }
        done += 1;
        assert!(done < 10_000, "it never was full");
    };
    // Until now there was room for something smaller.
    redis.command("CONFIG SET maxmemory 1mb").await;
    let body = refused.json();
    assert_eq!((refused.status.as_u16(), &body["outcome"]), (503, &json!("refused")), "{body}");
    assert_eq!((&body["error"]["reason"], &body["error"]["code"]), (&json!("broker_full"), &json!(100)), "{body}");
    assert!(refused.header("retry-after").is_some());
    let broadcast = node.api("broadcast", json!({"channels": ["full", "other"], "data": data})).await;
    assert_eq!((broadcast.status.as_u16(), &broadcast.json()["error"]["reason"]), (503, &json!("broker_full")));

    for _ in 0..3 {
        let (status, health) = broker_health(&node).await;
        assert_eq!(
            (status, &health["status"], &health["refused"]),
            (503, &json!("failing"), &json!("full")),
            "{health}"
        );
        assert_eq!((&health["commands"], &health["echo"]), (&json!(true), &json!(true)), "{health}");
        assert_eq!(publish().await.status, 503);
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(http::get(node.url(path), &[]).await.status, 200, "{path}: no other node would do better");
    }
    let metric = async |name, labels: &[(&str, &str)]| node.metric(name, labels).await;
    assert_eq!(metric("fanway_broker_publishes_refused", &[("cause", "full")]).await, Some(1.0));
    assert_eq!(metric("fanway_broker_up", &[]).await, Some(1.0));
    let errors = metric("fanway_broker_errors_total", &[("operation", "publish"), ("reason", "full")]).await;
    assert!(errors.is_some_and(|errors| errors >= 6.0), "{errors:?}");
    // What is there is still given to those who resume.
    let mut again = Client::join(&node, Transport::Sse, "full", Some(&client.stand)).await;
    assert_eq!(again.publications(&node, 10).await.len(), 10);

    redis.command("CONFIG SET maxmemory 64mb").await;
    assert_eq!(publish().await.status, 200);
    wait::until_async("health", || async { (broker_health(&node).await.0 == 200).then_some(()) }).await;
    assert_eq!(metric("fanway_broker_publishes_refused", &[("cause", "full")]).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_publishes_and_announcements_are_one_line_each_and_a_count() {
    let redis = RedisOptions::default().user("fanway on >secret ~* &* +@all").start().await;
    let node = fleet(&redis).set("redis.user", "fanway").set("redis.password", "secret").start().await;
    // Logs are written, and nothing is announced but what the node says to itself.
    redis.command("ACL SETUSER fanway resetchannels &fw:test:e:* &fw:test:n").await;
    wait::until_async("an announcement to be refused", || async {
        let answer = node.api("publish", json!({"channel": "news", "data": 0})).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let unannounced = async || node.metric("fanway_broker_unannounced_total", &[]).await.unwrap();
    while unannounced().await < 100.0 {
        node.api("publish", json!({"channel": "news", "data": 0})).await;
    }
    redis.command("CONFIG SET maxmemory 1").await;
    for _ in 0..100 {
        assert_eq!(node.api("publish", json!({"channel": "news", "data": 0})).await.status, 503);
    }
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains("redis refuses publishes"));
    assert_eq!(lines.count(), 2, "{log}");
    let warnings = log.lines().filter(|line| line.contains("WARN")).count();
    assert!(warnings < 20, "{warnings} warnings for 200 publications: {log}");
}
