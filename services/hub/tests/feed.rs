//! A feed that breaks: what a node does that hears of it at an unlucky moment.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use fanway_broker::{Event, Sink};
use fanway_hub::Inbox;

use fanway_protocol::Channel;
use support::{Socket, fast, hub_at, hub_counting, publish};

/// The broker may confirm a subscription on its new connection before the hub has come to hear that the old one was
/// lost. Nothing says afterwards that the feed is whole, so the hub asks.
#[tokio::test]
async fn a_break_heard_after_its_mending_does_not_leave_the_channel_deaf() {
    let inbox = Inbox::new();
    let (hub, broker) = hub_at(100, fast(), inbox.clone());
    let mut socket = Socket::new(&hub);
    socket.say(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    socket.settle(|socket| socket.heard().len() == 2).await;
    inbox.on_events(vec![Event::Interrupted]);
    publish(&broker, &hub, "a", "1".to_owned()).await;
    // Long before the log is compared.
    let deadline = Instant::now() + Duration::from_secs(7);
    while socket.heard().len() < 3 {
        assert!(Instant::now() < deadline, "deaf");
        tokio::time::sleep(Duration::from_millis(20)).await;
        socket.poll().await;
        socket.write(|all| all);
    }
}

/// When the feed of many channels is whole again, only the logs that moved meanwhile are read.
#[tokio::test]
async fn after_a_break_only_what_moved_is_read() {
    const CHANNELS: usize = 20;
    let inbox = Inbox::new();
    let (hub, broker, registry) = hub_counting(100, fast(), inbox.clone());
    let reads = || {
        let families = registry.gather();
        let counter = families.iter().find(|family| family.name() == "fanway_repair_reads_total").unwrap();
        counter.get_metric()[0].get_counter().get_value() as usize
    };
    let mut socket = Socket::new(&hub);
    for n in 0..CHANNELS {
        socket.say(&format!(r#"{{"id":{},"subscribe":{{"channel":"c{n}"}}}}"#, n + 2));
    }
    socket.settle(|socket| socket.heard().len() == 1 + CHANNELS).await;
    assert_eq!(reads(), CHANNELS, "each was read once to begin with");

    inbox.on_events(vec![Event::Interrupted]);
    publish(&broker, &hub, "c3", "\"missed\"".to_owned()).await;
    let restored = |n| Event::Restored(Channel::new(&format!("c{n}")).unwrap());
    inbox.on_events((0..CHANNELS).map(restored).collect());
    socket.settle(|socket| socket.heard().len() == 2 + CHANNELS).await;
    assert_eq!(socket.heard()[1 + CHANNELS]["push"]["channel"], "c3");
    assert_eq!(reads(), CHANNELS + 1);

    // All of them are live again.
    for n in 0..CHANNELS {
        publish(&broker, &hub, &format!("c{n}"), "1".to_owned()).await;
    }
    socket.settle(|socket| socket.heard().len() == 2 + 2 * CHANNELS).await;
    assert_eq!(reads(), CHANNELS + 1);
}
