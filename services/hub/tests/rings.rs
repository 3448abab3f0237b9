//! What the rings of a node hold together is bounded; who is behind gets the rest from the log.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use fanway_hub::{Inbox, Limits};

use support::{Socket, fast, hub_counting, publish};

const CHANNELS: usize = 40;
const PUBLICATIONS: usize = 8;

fn value(registry: &prometheus::Registry, name: &str) -> f64 {
    let families = registry.gather();
    let metric = &families.iter().find(|family| family.name() == name).unwrap().get_metric()[0];
    metric.get_gauge().get_value() + metric.get_counter().get_value()
}

#[tokio::test]
async fn rings_together_are_bounded() {
    let limits = Limits { node_ring_bytes: ByteSize::kib(256), ..fast() };
    let (hub, broker, registry) = hub_counting(100, limits, Inbox::new());
    let mut socket = Socket::new(&hub);
    for channel in 0..CHANNELS {
        socket.ask(channel as u64 + 2, &format!(r#""subscribe":{{"channel":"c{channel}"}}"#)).await;
    }
    // It takes nothing meanwhile.
    for n in 0..PUBLICATIONS {
        for channel in 0..CHANNELS {
            publish(&broker, &hub, &format!("c{channel}"), format!("[{n},\"{}\"]", "x".repeat(4096))).await;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while value(&registry, "fanway_ring_evictions_total") == 0.0
        || value(&registry, "fanway_inbox_bytes") > 0.0
        || value(&registry, "fanway_ring_bytes") > 256.0 * 1024.0
    {
        assert!(Instant::now() < deadline, "{} bytes", value(&registry, "fanway_ring_bytes"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(value(&registry, "fanway_inbox_dropped_total"), 0.0);
    socket.settle(|socket| socket.heard().len() == 1 + CHANNELS + CHANNELS * PUBLICATIONS).await;
    let mut last = HashMap::new();
    for push in socket.heard().iter().filter(|value| !value["push"].is_null()) {
        let channel = push["push"]["channel"].as_str().unwrap().to_owned();
        let offset = push["push"]["pub"]["offset"].as_u64().unwrap();
        assert_eq!(last.insert(channel, offset).unwrap_or(0) + 1, offset);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while value(&registry, "fanway_ring_bytes") > 256.0 * 1024.0 {
        assert!(Instant::now() < deadline, "{} bytes", value(&registry, "fanway_ring_bytes"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whatever the transports of its subscribers, what they share of a publication counts too.
#[tokio::test]
async fn encodings_count() {
    let (hub, broker, registry) = hub_counting(100, fast(), Inbox::new());
    let mut sockets = [Socket::new(&hub), Socket::new(&hub)];
    for socket in &mut sockets {
        socket.ask(2, r#""subscribe":{"channel":"a"}"#).await;
    }
    publish(&broker, &hub, "a", format!("\"{}\"", "x".repeat(50_000))).await;
    for (at, bytes) in [(0, 100_000.0), (1, 100_000.0)] {
        sockets[at].settle(|socket| socket.heard().len() == 3).await;
        let held = value(&registry, "fanway_ring_bytes");
        assert!(held >= bytes && held < bytes + 2000.0, "{held}");
    }
}
