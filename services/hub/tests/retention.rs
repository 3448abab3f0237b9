//! Who resumes gets what the log still has, never more, although the node's memory may hold more.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use fanway_broker::{AnyBroker, Broker, Event, PageLimit, Sink};
use fanway_hub::Inbox;
use fanway_protocol::Channel;
use serde_json::Value;

use support::{Socket, fast, hub, hub_keeping, publish};

/// A subscribe reply, as whether it recovered and the offsets that came with it.
fn recovered(reply: &Value) -> (bool, Vec<u64>) {
    let publications = reply["subscribe"]["publications"].as_array().into_iter().flatten();
    let offsets = publications.map(|publication| publication["offset"].as_u64().unwrap()).collect();
    (reply["subscribe"]["recovered"] == true, offsets)
}

async fn resume(hub: &std::sync::Arc<fanway_hub::Hub>, epoch: &str, offset: u64) -> (bool, Vec<u64>) {
    let mut socket = Socket::new(hub);
    let command = format!(r#""subscribe":{{"channel":"a","recover":true,"epoch":"{epoch}","offset":{offset}}}"#);
    recovered(&socket.ask(2, &command).await)
}

/// A client that follows the channel, so that its publications are in the ring; and its epoch.
async fn follower(hub: &std::sync::Arc<fanway_hub::Hub>) -> (Socket, String) {
    let mut socket = Socket::new(hub);
    let reply = socket.ask(2, r#""subscribe":{"channel":"a"}"#).await;
    (socket, reply["subscribe"]["epoch"].as_str().unwrap().to_owned())
}

async fn kept(broker: &AnyBroker) -> usize {
    broker.read(&Channel::new("a").unwrap(), Some(0), PageLimit::entries(100)).await.unwrap().unwrap().entries.len()
}

#[tokio::test]
async fn a_resume_gets_no_publications_beyond_the_history_size() {
    let (hub, broker) = hub(2, fast());
    let (mut socket, epoch) = follower(&hub).await;
    for n in 1..=5 {
        publish(&broker, &hub, "a", n.to_string()).await;
    }
    socket.settle(|socket| socket.heard().len() == 2 + 5).await;
    for offset in 0..3 {
        assert_eq!(resume(&hub, &epoch, offset).await, (false, vec![]), "{offset}");
    }
    assert_eq!(resume(&hub, &epoch, 3).await, (true, vec![4, 5]));
    assert_eq!(resume(&hub, &epoch, 5).await, (true, vec![]));
}

#[tokio::test]
async fn a_resume_gets_no_publications_beyond_the_history_ttl() {
    let ttl = Duration::from_secs(2);
    let (hub, broker, _) = hub_keeping(100, ttl, fast(), Inbox::new());
    let (mut socket, epoch) = follower(&hub).await;
    for n in 1..=5 {
        publish(&broker, &hub, "a", n.to_string()).await;
    }
    socket.settle(|socket| socket.heard().len() == 2 + 5).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while kept(&broker).await > 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(resume(&hub, &epoch, 0).await, (false, vec![]));
    assert_eq!(resume(&hub, &epoch, 4).await, (false, vec![]));
    assert_eq!(resume(&hub, &epoch, 5).await, (true, vec![]), "nothing was missed");
    // The next one starts the log's life anew; those before it stay gone.
    let published = Instant::now();
    publish(&broker, &hub, "a", "6".to_owned()).await;
    socket.settle(|socket| socket.heard().len() == 2 + 6).await;
    assert_eq!(resume(&hub, &epoch, 4).await, (false, vec![]));
    let newest = resume(&hub, &epoch, 5).await;
    // On a machine that was busy for so long it may have expired too.
    if published.elapsed() < ttl {
        assert_eq!(newest, (true, vec![6]));
    }
}

/// A publication that a repair has read from the log may be old already: its lifetime does not begin with the repair.
#[tokio::test]
async fn a_repaired_publication_is_not_served_beyond_the_history_ttl() {
    let ttl = Duration::from_secs(2);
    let inbox = Inbox::new();
    let (hub, broker, _) = hub_keeping(100, ttl, fast(), inbox.clone());
    let (mut socket, epoch) = follower(&hub).await;
    publish(&broker, &hub, "a", "1".to_owned()).await;
    socket.settle(|socket| socket.heard().len() == 2 + 1).await;
    inbox.on_events(vec![Event::Interrupted]);
    let published = Instant::now();
    publish(&broker, &hub, "a", "2".to_owned()).await;
    // It gets half of its lifetime old before this node reads it.
    while published.elapsed() < ttl / 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    inbox.on_events(vec![Event::Restored(Channel::new("a").unwrap())]);
    socket.settle(|socket| socket.heard().len() == 2 + 2).await;
    let early = resume(&hub, &epoch, 1).await;
    if published.elapsed() < ttl {
        assert_eq!(early, (true, vec![2]), "the log still has it");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while kept(&broker).await > 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // By now a view of the log that was kept for those who come together is too old.
    while published.elapsed() < ttl + Duration::from_millis(600) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(resume(&hub, &epoch, 1).await, (false, vec![]));
}

/// A read of the log is shared with those who come shortly after; what came meanwhile may have displaced its oldest.
#[tokio::test]
async fn a_shared_read_gives_no_more_than_the_log_has_now() {
    let (hub, broker) = hub(3, fast());
    let epoch = {
        for n in 1..=3 {
            publish(&broker, &hub, "a", n.to_string()).await;
        }
        follower(&hub).await.1
    };
    assert_eq!(resume(&hub, &epoch, 0).await, (true, vec![1, 2, 3]));
    let mut socket = follower(&hub).await.0;
    publish(&broker, &hub, "a", "4".to_owned()).await;
    socket.settle(|socket| socket.heard().len() == 3).await;
    assert_eq!(resume(&hub, &epoch, 0).await, (false, vec![]));
    assert_eq!(resume(&hub, &epoch, 1).await, (true, vec![2, 3, 4]));
}

/// A connected client that is slow is no resume: it reads on in the node's memory.
#[tokio::test]
async fn a_slow_client_still_reads_what_the_log_has_dropped() {
    let (hub, broker) = hub(2, fast());
    let (mut slow, _) = follower(&hub).await;
    publish(&broker, &hub, "a", "1".to_owned()).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !slow.session.has_output() {
        assert!(Instant::now() < deadline);
        slow.poll().await;
    }
    slow.write(|_| 1);
    for n in 2..=20 {
        publish(&broker, &hub, "a", n.to_string()).await;
    }
    slow.settle(|slow| !slow.session.has_output() && slow.heard().len() == 2 + 20).await;
    let offsets: Vec<_> =
        slow.heard()[2..].iter().map(|push| push["push"]["pub"]["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (1..=20).collect::<Vec<_>>());
}
