//! The names of metrics are a contract: dashboards, alerts and autoscaling read them.

use fanway_testkit::http;
use fanway_testkit::redis::RedisServer;
use serde_json::json;

use super::clients::{Client, TRANSPORTS};
use super::fleet;

/// One line per metric: name, type, labels. `UPDATE_METRICS=1` renews it.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/metrics.txt");

#[tokio::test(flavor = "multi_thread")]
async fn names_types_and_labels_are_the_kept_ones() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    for transport in TRANSPORTS {
        let mut client = Client::join(&node, transport, "news", None).await;
        node.publish("news", json!(1)).await;
        client.publications(&node, 1).await;
    }
    let scraped = http::get(node.url("/metrics"), &[]).await.text();
    let mut lines: Vec<String> = scraped
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| format!("{line}{}", labels(&scraped, line.split(' ').next().unwrap())))
        .collect();
    lines.sort();
    let found = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE_METRICS").is_some() {
        std::fs::write(KEPT, &found).unwrap();
    }
    let kept = std::fs::read_to_string(KEPT).unwrap_or_default();
    assert_eq!(found, kept, "renew {KEPT} with UPDATE_METRICS=1 if the change is meant");
    for line in scraped.lines().filter(|line| line.starts_with("fanway_")) {
        assert!(!line.contains("news") && !line.contains("alice"), "no channel and no user in a label: {line}");
    }
}

/// The label names of a metric's first series.
fn labels(scraped: &str, name: &str) -> String {
    let series = scraped.lines().find(|line| {
        let end = line.find(['{', ' ']).unwrap_or(0);
        [name.to_owned(), format!("{name}_bucket")].contains(&line[..end].to_owned())
    });
    let inside = series.and_then(|line| line.split_once('{')).and_then(|(_, rest)| rest.split_once('}'));
    let names: Vec<&str> = inside
        .map(|(labels, _)| labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name).collect())
        .unwrap_or_default();
    let names: Vec<&str> = names.into_iter().filter(|name| *name != "le").collect();
    if names.is_empty() { String::new() } else { format!(" {}", names.join(",")) }
}
