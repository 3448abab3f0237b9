//! Resuming: on another node, over another transport, after the first node was killed.

use fanway_testkit::redis::RedisServer;
use serde_json::json;

use super::clients::{Client, Heard, TRANSPORTS};
use super::nodes;

/// Each pair of transports: leave over one, come back over the other, with exactly what was missed.
#[tokio::test(flavor = "multi_thread")]
async fn any_transport_takes_over_from_any_other_after_a_node_is_killed() {
    let redis = RedisServer::start().await;
    let mut nodes = nodes(&redis, 2).await;
    let mut left = Vec::new();
    for first in TRANSPORTS {
        for second in TRANSPORTS {
            let channel = format!("resume-{first:?}-{second:?}");
            let mut client = Client::join(&nodes[0], first, &channel, None).await;
            nodes[0].publish(&channel, json!("before")).await;
            assert_eq!(client.publications(&nodes[0], 1).await, [json!("before")]);
            left.push((channel, second, client.stand.clone()));
        }
    }
    nodes[0].kill();
    let other = &nodes[1];
    for (channel, second, stand) in left {
        for n in 0..3 {
            other.publish(&channel, json!(n)).await;
        }
        let mut client = Client::join(other, second, &channel, Some(&stand)).await;
        other.publish(&channel, json!("after")).await;
        let heard = client.publications(other, 4).await;
        assert_eq!(heard, [json!(0), json!(1), json!(2), json!("after")], "{channel}");
    }
}

/// A position whose log is gone is told as a gap, on every transport, and the stream goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_a_gap_for_who_resumes() {
    let redis = RedisServer::start().await;
    let nodes = nodes(&redis, 1).await;
    let node = &nodes[0];
    for transport in TRANSPORTS {
        let channel = format!("flush-{transport:?}");
        let mut client = Client::join(node, transport, &channel, None).await;
        node.publish(&channel, json!(1)).await;
        client.publications(node, 1).await;
        let stand = client.stand.clone();
        drop(client);
        redis.flush().await;
        // The same offsets are given out again, on another line.
        for n in [2, 3, 4] {
            node.publish(&channel, json!(n)).await;
        }
        let mut client = Client::join(node, transport, &channel, Some(&stand)).await;
        assert!(matches!(client.next(node).await, Heard::Gap(_)), "{transport:?}");
        node.publish(&channel, json!(5)).await;
        assert_eq!(client.publications(node, 1).await, [json!(5)], "{transport:?}");
    }
}

/// The same for who stays connected: never silence, never a publication of the new line as if it followed the old.
#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_is_a_gap_for_who_is_connected() {
    let redis = RedisServer::start().await;
    let nodes = nodes(&redis, 1).await;
    let node = &nodes[0];
    for transport in TRANSPORTS {
        let channel = format!("live-flush-{transport:?}");
        let mut client = Client::join(node, transport, &channel, None).await;
        node.publish(&channel, json!(1)).await;
        client.publications(node, 1).await;
        redis.flush().await;
        node.publish(&channel, json!(2)).await;
        node.publish(&channel, json!(3)).await;
        assert!(matches!(client.next(node).await, Heard::Gap(_)), "{transport:?}");
        // What the gap covers may include the two; what comes later must arrive.
        node.publish(&channel, json!(4)).await;
        while client.publications(node, 1).await != [json!(4)] {}
    }
}

/// More was missed than is kept: a gap with that reason.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_retention_is_a_gap() {
    let redis = RedisServer::start().await;
    let node = super::fleet(&redis).set("default_namespace.history_size", 5).start().await;
    for transport in TRANSPORTS {
        let channel = format!("retention-{transport:?}");
        let mut client = Client::join(&node, transport, &channel, None).await;
        node.publish(&channel, json!(0)).await;
        client.publications(&node, 1).await;
        let stand = client.stand.clone();
        drop(client);
        // Past the ring's memory of a channel without subscribers, only the log can tell.
        let other = super::fleet(&redis).set("default_namespace.history_size", 5).start().await;
        for n in 1..=20 {
            other.publish(&channel, json!(n)).await;
        }
        let mut client = Client::join(&other, transport, &channel, Some(&stand)).await;
        match client.next(&other).await {
            Heard::Gap(reason) => assert!(["retention", "not recovered"].contains(&reason.as_str()), "{reason}"),
            heard => panic!("{heard:?}"),
        }
    }
}
