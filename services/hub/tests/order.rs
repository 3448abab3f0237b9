//! Order on one connection: commands racing with publications on many channels, over a socket that takes any number of
//! bytes at a time. Replies and publications must come in the promised order, nothing stale, no half-written frame
//! overtaken.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanway_hub::{CloseReason, Limits};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use support::{Socket, fast, hub, publish};

const CHANNELS: usize = 50;

/// Checks the promises on everything heard; returns the last offset by channel.
fn check(heard: &[Value], asked: &HashMap<u64, (String, bool)>) -> HashMap<String, u64> {
    let mut at: HashMap<String, Option<u64>> = HashMap::new();
    let mut last = HashMap::new();
    for value in heard {
        if let Some(push) = value.get("push") {
            let channel = push["channel"].as_str().unwrap();
            let offset = push["pub"]["offset"].as_u64().unwrap();
            let before = at.get(channel).copied().flatten();
            let before = before.unwrap_or_else(|| panic!("{channel}: publication {offset} without a subscription"));
            assert_eq!(offset, before + 1, "{channel}: order");
            at.insert(channel.to_owned(), Some(offset));
            last.insert(channel.to_owned(), offset);
            continue;
        }
        let Some((channel, subscribes)) = value["id"].as_u64().and_then(|id| asked.get(&id)) else { continue };
        assert!(value.get("error").is_none(), "{value}");
        if *subscribes {
            let reply = &value["subscribe"];
            let mut offset = reply["offset"].as_u64().unwrap_or(0);
            for publication in reply["publications"].as_array().into_iter().flatten() {
                assert_eq!(publication["offset"].as_u64().unwrap(), offset + 1, "{channel}: recovered order");
                offset += 1;
            }
            at.insert(channel.clone(), Some(offset));
            last.insert(channel.clone(), offset);
        } else {
            at.insert(channel.clone(), None);
        }
    }
    last
}

async fn race(seed: u64, take: fn(&mut StdRng, usize) -> usize) {
    let (hub, broker) = hub(10_000, fast());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut socket = Socket::new(&hub);
    let mut asked = HashMap::new();
    let mut subscribed = [false; CHANNELS];
    let mut published = [0u64; CHANNELS];
    for id in 2..600u64 {
        let which = rng.random_range(0..CHANNELS);
        let channel = format!("c{which}");
        let on = !subscribed[which];
        subscribed[which] = on;
        socket.say(&match on {
            true => format!(r#"{{"id":{id},"subscribe":{{"channel":"{channel}"}}}}"#),
            false => format!(r#"{{"id":{id},"unsubscribe":{{"channel":"{channel}"}}}}"#),
        });
        asked.insert(id, (channel, on));
        for _ in 0..rng.random_range(0..6) {
            let which = rng.random_range(0..CHANNELS);
            published[which] += 1;
            let filler = "x".repeat(rng.random_range(0..300));
            publish(&broker, &hub, &format!("c{which}"), format!(r#"{{"n":{},"f":"{filler}"}}"#, published[which]))
                .await;
        }
        if rng.random_bool(0.7) {
            socket.poll().await;
            socket.write(|all| take(&mut rng, all));
        }
    }
    // Everybody hears everything to the end of each channel that is still subscribed.
    let open: Vec<usize> = (0..CHANNELS).filter(|which| subscribed[*which]).collect();
    let wanted = published;
    socket
        .settle(|socket| {
            socket.session.closing().is_some()
                || !socket.session.has_output() && {
                    let last = check(&socket.heard(), &asked);
                    open.iter().all(|which| last.get(&format!("c{which}")).copied() == Some(wanted[*which]))
                }
        })
        .await;
    assert_eq!(socket.session.closing(), None);
}

#[tokio::test]
async fn a_socket_that_takes_everything() {
    race(1, |_, all| all).await;
}

#[tokio::test]
async fn a_socket_that_takes_any_part() {
    for seed in 2..6 {
        race(seed, |rng, all| rng.random_range(0..=all)).await;
    }
}

#[tokio::test]
async fn a_socket_that_takes_single_bytes_and_often_none() {
    for seed in 6..9 {
        race(seed, |rng, _| usize::from(rng.random_bool(0.6))).await;
    }
}

/// A client that does not read while its channel moves on past the ring catches up from the log, in order.
#[tokio::test]
async fn a_slow_reader_catches_up_from_the_log() {
    let (hub, broker) = hub(10_000, Limits { ring_entries: 8, ..fast() });
    let mut socket = Socket::new(&hub);
    socket.say(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    let asked = HashMap::from([(2, ("a".to_owned(), true))]);
    socket.settle(|socket| socket.heard().len() == 2).await;
    for n in 0..300 {
        publish(&broker, &hub, "a", format!("{n}")).await;
        socket.poll().await;
        socket.write(|all| usize::from(all > 0 && n % 7 == 0));
    }
    socket.settle(|socket| socket.heard_upto(&asked, "a") == 300).await;
    assert_eq!(socket.session.closing(), None);
}

/// Without history a loss cannot be made good, and this transport has no word for it: the connection is closed.
#[tokio::test]
async fn a_slow_reader_without_history_is_told_by_a_close() {
    let (hub, broker) = hub(0, Limits { ring_entries: 8, ..fast() });
    let mut socket = Socket::new(&hub);
    socket.say(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    socket.settle(|socket| socket.heard().len() == 2).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while socket.session.closing().is_none() {
        assert!(Instant::now() < deadline);
        publish(&broker, &hub, "a", "1".to_owned()).await;
        socket.poll().await;
        socket.write(|_| 0);
        // A blocked connection is not gathered for; each write asks anew.
    }
    assert_eq!(socket.session.closing(), Some(CloseReason::Slow));
}

/// What comes while the socket is blocked is found by the write that unblocks it: nobody wakes the task for it later.
#[tokio::test]
async fn what_came_while_blocked_follows_the_write_that_unblocks() {
    let (hub, broker) = hub(100, fast());
    let mut socket = Socket::new(&hub);
    socket.say(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    socket.say(r#"{"id":3,"subscribe":{"channel":"b"}}"#);
    socket.settle(|socket| socket.heard().len() == 3).await;
    let mut other = Socket::new(&hub);
    other.say(r#"{"id":2,"subscribe":{"channel":"b"}}"#);
    other.settle(|other| other.heard().len() == 2).await;

    publish(&broker, &hub, "a", "1".to_owned()).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.session.has_output() {
        assert!(Instant::now() < deadline);
        socket.poll().await;
    }
    socket.write(|_| 3);
    // Marked in the order of subscribing, so once the other one has heard it, the blocked one is marked.
    publish(&broker, &hub, "b", "1".to_owned()).await;
    other.settle(|other| other.heard().len() == 3).await;

    // As the driver does it: one look at the signals, then writes as long as there is something.
    socket.poll().await;
    while socket.session.has_output() {
        socket.write(|all| all);
    }
    let channels: Vec<_> = socket.heard()[3..].iter().map(|heard| heard["push"]["channel"].clone()).collect();
    assert_eq!(channels, ["a", "b"]);
}

impl Socket {
    fn heard_upto(&self, asked: &HashMap<u64, (String, bool)>, channel: &str) -> u64 {
        if self.session.has_output() {
            return 0;
        }
        check(&self.heard(), asked).get(channel).copied().unwrap_or(0)
    }
}
