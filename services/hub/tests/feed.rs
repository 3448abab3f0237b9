//! A feed that breaks: what a node does that hears of it at an unlucky moment.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use fanway_broker::{Event, Sink};
use fanway_hub::Inbox;

use support::{Socket, fast, hub_at, publish};

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
