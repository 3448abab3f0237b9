//! Clients that learn the epoch from a subscribe reply are made to subscribe anew when it changes and after a gap.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::{Delivery, Event, Place, Sink};
use fanway_hub::handle::Handle;
use fanway_hub::session::ClientSession;
use fanway_hub::{CloseReason, Identity, Inbox, Limits};
use fanway_protocol::{Channel, Epoch, Payload, Position, Publication};
use serde_json::{Value, json};

use support::{Socket, fast, hub_at, hub_keeping, publish};

/// A publication as another leader term brings it, right after the position.
fn first_of_another_epoch(channel: &str, after: Position) -> Event {
    let position = Position { epoch: Epoch::parse("otherone0123456789ab").unwrap(), offset: after.offset + 1 };
    Event::Publication(Delivery {
        channel: Channel::new(channel).unwrap(),
        publication: Arc::new(Publication { data: Payload::Json("1".into()), ..Publication::default() }),
        place: Some(Place { position, previous_epoch: after.epoch }),
        received: Instant::now(),
    })
}

/// The codes and reasons with which subscriptions were ended.
fn unsubscribes(socket: &Socket) -> Vec<Value> {
    let pushes = socket.heard().into_iter().map(|heard| heard["push"]["unsubscribe"].clone());
    pushes.filter(Value::is_object).collect()
}

async fn subscribed(socket: &mut Socket, channels: u64) -> Vec<Position> {
    let mut positions = Vec::new();
    for n in 0..channels {
        let reply = socket.ask(2 + n, &format!(r#""subscribe":{{"channel":"c{n}"}}"#)).await;
        let epoch = Epoch::parse(reply["subscribe"]["epoch"].as_str().unwrap()).unwrap();
        positions.push(Position { epoch, offset: 0 });
    }
    positions
}

#[tokio::test]
async fn few_are_resubscribed_at_once() {
    const CHANNELS: u64 = 30;
    let inbox = Inbox::new();
    let (hub, _) = hub_at(10, fast(), inbox.clone());
    let mut socket = Socket::new(&hub);
    let positions = subscribed(&mut socket, CHANNELS).await;
    let began = Instant::now();
    inbox.on_events((0..).zip(positions).map(|(n, at)| first_of_another_epoch(&format!("c{n}"), at)).collect());
    socket.settle(|socket| unsubscribes(socket).len() as u64 == CHANNELS).await;
    // Were each of them delayed at random by up to two seconds, all would be this early once in ten million times.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(unsubscribes(&socket)[0], json!({"code": 2500, "reason": "insufficient state"}));
}

#[tokio::test]
async fn many_are_resubscribed_at_a_bounded_rate() {
    const CHANNELS: u64 = 30;
    let inbox = Inbox::new();
    let (hub, _) = hub_at(10, Limits { resubscribe_rate: 40, ..fast() }, inbox.clone());
    let mut socket = Socket::new(&hub);
    let positions = subscribed(&mut socket, CHANNELS).await;
    let began = Instant::now();
    inbox.on_events((0..).zip(positions).map(|(n, at)| first_of_another_epoch(&format!("c{n}"), at)).collect());
    let mut most = 0;
    socket
        .settle(|socket| {
            let count = unsubscribes(socket).len();
            let allowed = 4 + (began.elapsed().as_secs_f64() * 40.0) as usize + 1;
            assert!(count <= allowed, "{count} after {:?}", began.elapsed());
            most = most.max(count);
            count as u64 == CHANNELS
        })
        .await;
    assert!(began.elapsed() >= Duration::from_secs(26) / 40, "{:?}", began.elapsed());
}

/// A waiting subscription receives nothing, and its history expires meanwhile.
#[tokio::test]
async fn no_subscription_waits_longer_than_a_quarter_of_its_history() {
    const CHANNELS: u64 = 60;
    let inbox = Inbox::new();
    let limits = Limits { resubscribe_rate: 10, ..fast() };
    let (hub, _, _) = hub_keeping(10, Duration::from_secs(2), limits, inbox.clone());
    let mut socket = Socket::new(&hub);
    let positions = subscribed(&mut socket, CHANNELS).await;
    let began = Instant::now();
    inbox.on_events((0..).zip(positions).map(|(n, at)| first_of_another_epoch(&format!("c{n}"), at)).collect());
    socket.settle(|socket| unsubscribes(socket).len() as u64 == CHANNELS).await;
    // At the configured rate it would be six seconds.
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_millis(300) && elapsed < Duration::from_secs(3), "{elapsed:?}");
}

/// The first due server-side subscription closes the connection, so the others need no permits of their own.
#[tokio::test]
async fn the_server_side_subscriptions_of_a_connection_share_a_permit() {
    const CHANNELS: u64 = 9;
    let inbox = Inbox::new();
    let (hub, _) = hub_at(10, Limits { resubscribe_rate: 1, ..fast() }, inbox.clone());
    let mut by_client = Socket::new(&hub);
    let positions = subscribed(&mut by_client, CHANNELS + 1).await;
    for n in 0..CHANNELS {
        by_client.ask(100 + n, &format!(r#""unsubscribe":{{"channel":"c{n}"}}"#)).await;
    }
    let channels = (0..CHANNELS).map(|n| Channel::new(&format!("c{n}")).unwrap()).collect();
    let identity = Identity { channels, ..Identity::anonymous() };
    let mut by_server = Socket::silent(&hub);
    by_server.session = ClientSession::new(hub.clone(), Some(identity), Handle::by_task(), Instant::now());
    by_server.ask(1, r#""connect":{}"#).await;
    let began = Instant::now();
    inbox.on_events((0..).zip(positions).map(|(n, at)| first_of_another_epoch(&format!("c{n}"), at)).collect());
    by_server.settle(|socket| socket.session.closing().is_some()).await;
    assert_eq!(by_server.session.closing(), Some(CloseReason::InsufficientState));
    // The second permit is due after one second, the tenth after nine.
    by_client.settle(|socket| !unsubscribes(socket).is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_push_of_a_gap_carries_its_reason() {
    let inbox = Inbox::new();
    let (hub, broker) = hub_at(2, fast(), inbox.clone());
    let mut socket = Socket::new(&hub);
    subscribed(&mut socket, 1).await;
    inbox.on_events(vec![Event::Interrupted]);
    for n in 0..3 {
        publish(&broker, &hub, "c0", n.to_string()).await;
    }
    inbox.on_events(vec![Event::Restored(Channel::new("c0").unwrap())]);
    socket.settle(|socket| !unsubscribes(socket).is_empty()).await;
    assert_eq!(unsubscribes(&socket), [json!({"code": 2500, "reason": "insufficient state: retention"})]);
}
