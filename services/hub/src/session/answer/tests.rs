#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use fanway_broker::{Broker, Publish};
use fanway_protocol::{Channel, ChannelHash, Cursor, Payload, Position, Publication};

use super::*;
use crate::hub::Hub;
use crate::session::{PollError, Resume, poll};
use crate::testing::hub;
use crate::{Identity, Limits};

const LARGE: usize = 30 * 1024;

async fn publish(hub: &Hub, channel: &str, bytes: usize, count: usize) {
    let channel = Channel::new(channel).unwrap();
    let retention = hub.namespaces().of(&channel).unwrap().retention();
    for _ in 0..count {
        let data = Payload::Json(format!("\"{}\"", "x".repeat(bytes)).into());
        let publication = Arc::new(Publication { data, ..Publication::default() });
        hub.broker.publish(Publish { channel: &channel, publication, retention, idempotency: None }).await.unwrap();
    }
}

/// The cursor before everything that was published.
async fn beginning(hub: &Hub, channels: &[&str]) -> String {
    let mut items = Vec::new();
    for channel in channels {
        let channel = Channel::new(channel).unwrap();
        let top = hub.broker.read(&channel, None, crate::pages::page(0)).await.unwrap().unwrap().top;
        items.push((ChannelHash::of(&channel), Some(Position { offset: 0, ..top })));
    }
    Cursor::text(items)
}

async fn ask(hub: &Arc<Hub>, channels: &[&str], cursor: &str) -> Result<PollAnswer, PollError> {
    let channels = channels.iter().map(|channel| Channel::new(channel).unwrap()).collect();
    let resume = Resume::new(hub.namespaces(), channels, Some(cursor));
    poll(hub, Identity::anonymous(), &resume, Duration::ZERO).await
}

/// Offsets of an answer's publications of a channel.
fn offsets(answer: &PollAnswer, channel: &str) -> Vec<u64> {
    let list = format!("[{}]", std::str::from_utf8(&answer.publications).unwrap());
    let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
    let of = list.iter().filter(|publication| publication["channel"] == channel);
    of.map(|publication| publication["offset"].as_u64().unwrap()).collect()
}

/// All memory for answers but so much.
fn all_but(hub: &Hub, bytes: usize) -> Grant {
    hub.answers.try_cost(ANSWER_BYTES as usize - bytes).unwrap()
}

/// Memory for four pages and for one answer: everybody gets everything, in order.
#[tokio::test]
async fn polls_that_wait_for_memory_get_everything() {
    const COUNT: u64 = 20;
    let limits =
        Limits { node_page_bytes: ByteSize::kib(256), command_timeout: Duration::from_secs(30), ..Limits::default() };
    let hub = hub(limits);
    for channel in ["a", "b"] {
        publish(&hub, channel, LARGE, COUNT as usize).await;
    }
    let (beginning, _others) = (beginning(&hub, &["a", "b"]).await, all_but(&hub, 2 * LARGE));
    let polls: Vec<_> = (0..20)
        .map(|_| {
            let (hub, mut cursor) = (hub.clone(), beginning.clone());
            tokio::spawn(async move {
                let mut received = [Vec::new(), Vec::new()];
                while received.iter().any(|offsets| offsets.last() != Some(&COUNT)) {
                    let answer = ask(&hub, &["a", "b"], &cursor).await.unwrap();
                    assert!(answer.gaps.is_empty() && answer.memory.is_some() && !answer.publications.is_empty());
                    received[0].extend(offsets(&answer, "a"));
                    received[1].extend(offsets(&answer, "b"));
                    assert!(hub.metrics.poll_answer_bytes.get() as u64 <= ANSWER_BYTES);
                    tokio::task::yield_now().await;
                    cursor = answer.cursor;
                }
                received
            })
        })
        .collect();
    for poll in polls {
        let received =
            tokio::time::timeout(Duration::from_secs(60), poll).await.expect("nobody waits for ever").unwrap();
        let all: Vec<u64> = (1..=COUNT).collect();
        assert_eq!(received, [all.clone(), all]);
    }
}

#[tokio::test]
async fn without_memory_small_answers_are_given_and_large_ones_wait_with_nothing() {
    let hub = hub(Limits { command_timeout: Duration::from_secs(30), ..Limits::default() });
    publish(&hub, "large", LARGE, 5).await;
    publish(&hub, "small", 100, 5).await;
    let (large, small) = (beginning(&hub, &["large"]).await, beginning(&hub, &["small"]).await);
    let all = all_but(&hub, 0);
    let answer = ask(&hub, &["small"], &small).await.unwrap();
    assert_eq!((offsets(&answer, "small"), answer.memory.is_none()), (vec![1, 2, 3, 4, 5], true));
    let asked = tokio::spawn({
        let hub = hub.clone();
        async move { ask(&hub, &["large"], &large).await }
    });
    let began = Instant::now();
    while hub.metrics.pages_dropped_total.get() == 0 || hub.metrics.page_bytes.get() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} bytes of pages", hub.metrics.page_bytes.get());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!asked.is_finished());
    drop(all);
    let answer = asked.await.unwrap().unwrap();
    let received = offsets(&answer, "large");
    assert_eq!(received, (1..=received.len() as u64).collect::<Vec<_>>());
    assert!(!received.is_empty());
    assert_eq!(
        hub.metrics.poll_answer_bytes.get(),
        answer.publications.len() as i64 + 1,
        "and the comma after the last"
    );
    drop(answer);
    assert_eq!(hub.metrics.poll_answer_bytes.get(), 0);
}

/// It must not be answered that there is nothing.
#[tokio::test]
async fn a_poll_that_gets_no_memory_in_time_is_refused() {
    let hub = hub(Limits { command_timeout: Duration::from_millis(200), ..Limits::default() });
    publish(&hub, "large", LARGE, 1).await;
    let (large, _all) = (beginning(&hub, &["large"]).await, all_but(&hub, 0));
    let began = Instant::now();
    assert!(ask(&hub, &["large"], &large).await.is_err());
    assert!(began.elapsed() > Duration::from_millis(300), "{:?}", began.elapsed());
}
