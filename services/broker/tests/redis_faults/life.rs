//! How long logs live in Redis.

use std::time::Duration;

use fanway_broker::{Broker, HistoryQuery, PageLimit, Retention};
use fanway_testkit::redis::RedisServer;

use crate::support::{Node, channel, request};

const DAY: Duration = Duration::from_secs(86_400);
/// As by default.
const MONTH: Retention = Retention { count: 10, ttl: Duration::from_secs(60), meta_ttl: DAY.saturating_mul(30) };

/// The lifetime left to the meta data of a channel's log.
async fn life(server: &RedisServer, channel: &str) -> Duration {
    let key = format!("fw:fanway:m:{{{channel}}}");
    let left: i64 = redis::cmd("PTTL").arg(key).query_async(&mut server.admin().await).await.unwrap();
    Duration::from_millis(left.try_into().expect("a key with a lifetime"))
}

#[tokio::test]
async fn an_unpublished_log_lives_for_an_hour_at_a_time_and_a_published_one_for_its_meta_ttl() {
    let server = RedisServer::start().await;
    let node = Node::on(&server).await;
    let hour = Duration::from_secs(3600);
    let about = |left: Duration, whole: Duration| left <= whole && left > whole - Duration::from_secs(600);
    let (read, joined) = (channel("read"), channel("joined"));
    node.history(&read, HistoryQuery { since: None, limit: PageLimit::entries(0), reverse: false }, MONTH)
        .await
        .unwrap();
    node.create(&joined, MONTH).await.unwrap();
    for (name, channel) in [("read", &read), ("joined", &joined)] {
        assert!(about(life(&server, name).await, hour), "{name}");
        // Nodes with subscribers refresh it.
        server.command(&format!("PEXPIRE fw:fanway:m:{{{name}}} 60000")).await;
        node.tops(std::slice::from_ref(channel), true).await.unwrap();
        assert!(about(life(&server, name).await, hour), "{name} refreshed");
        node.publish(request(channel, 1, MONTH)).await.unwrap();
        assert!(about(life(&server, name).await, MONTH.meta_ttl), "{name} published to");
        server.command(&format!("PEXPIRE fw:fanway:m:{{{name}}} 60000")).await;
        node.tops(std::slice::from_ref(channel), true).await.unwrap();
        assert!(about(life(&server, name).await, MONTH.meta_ttl), "{name} refreshed");
    }
}

#[tokio::test]
async fn a_meta_ttl_below_an_hour_is_kept_to() {
    let server = RedisServer::start().await;
    let (node, brief) = (Node::on(&server).await, Duration::from_secs(120));
    let retention = Retention { meta_ttl: brief, ..MONTH };
    node.create(&channel("news"), retention).await.unwrap();
    assert!(life(&server, "news").await <= brief);
}
