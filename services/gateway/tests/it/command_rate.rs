//! A client above its rate of commands waits; only one that is far ahead of it is closed.

use std::time::{Duration, Instant};

use serde_json::json;

use fanway_testkit::node::Builder;
use fanway_testkit::websocket::{Client, Closed, Frame, Incoming, Push, Raw};

use super::token;

/// A node to be that takes so many commands a second from a client, and ten at once.
fn node(rate: i64) -> Builder {
    // A client may resume all its channels at once.
    super::node().set("client.channel_limit", 8).set("client.command_burst", 10).set("client.command_rate", rate)
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_awaited_one_by_one_pass_at_the_rate() {
    const PUBLISHES: u32 = 300;
    let node = node(100).start().await;
    let mut client = Client::connect(node.websocket_url(), &token(&node)).await;
    let began = Instant::now();
    for n in 0..PUBLISHES {
        client.publish("news", json!(n)).await.unwrap();
    }
    // Every one above the burst has waited for its token.
    let least = Duration::from_millis(10) * (PUBLISHES - 10);
    assert!(began.elapsed() >= least, "{:?} for {PUBLISHES} publishes", began.elapsed());
    assert!(node.metric("fanway_command_rate_waits_total", &[]).await.unwrap() >= 1.0);
    assert_eq!(client.closed_within(Duration::ZERO).await, None);
}

/// The pongs are behind commands that nobody reads yet: that is no reason to take the connection for dead, neither for the
/// node nor, because pings go on, for its client.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_ahead_is_not_taken_for_dead() {
    const AHEAD: usize = 60;
    let node = node(5).set("client.ping_interval", "1s").set("client.pong_timeout", "500ms").start().await;
    let mut client = Client::connect(node.websocket_url(), &token(&node)).await;
    client.subscribe("news").await;
    // A few of them fill what the node reads at once.
    let filler = "x".repeat(6000);
    let mut ids = Vec::new();
    for n in 0..AHEAD {
        ids.push(client.send_command(json!({"publish": {"channel": "news", "data": [n, filler]}})).await);
    }
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(client.reply_to(id).await, json!({"id": id, "publish": {}}));
        let Push::Publication(publication) = client.next_push().await else { panic!("no publication") };
        assert_eq!(publication.data[0], json!(n), "in order");
    }
    let pings = client.messages().iter().filter(|message| **message == json!({})).count();
    assert!(pings >= 3, "{pings} pings in ten seconds");
    // Nobody is ahead any more, so the pong of the next ping counts.
    client.ignore_pings();
    assert!(matches!(client.closed().await, Closed::Frame { code: 3012, .. }));
}

/// As many commands ahead as may come at once are too many, wherever they are cut into frames.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_far_ahead_is_closed() {
    let node = node(5).start().await;
    let ping = |id: usize| json!({"id": id, "ping": {}}).to_string();
    let mut patient = Client::connect(node.websocket_url(), &token(&node)).await;
    patient.send_text(&(2..20).map(ping).collect::<Vec<_>>().join("\n")).await;
    patient.reply_to(19).await;
    let mut hasty = Client::connect(node.websocket_url(), &token(&node)).await;
    hasty.send_text(&(2..40).map(ping).collect::<Vec<_>>().join("\n")).await;
    assert!(matches!(hasty.closed().await, Closed::Frame { code: 3013, .. }));
    assert_eq!(patient.closed_within(Duration::ZERO).await, None);
}

/// A message may take 30 s from its first byte to its last. Time in which the node does not read does not count.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_half_received_during_a_wait_is_not_too_late() {
    // Above the burst by so many commands that the node does not read for 34 s.
    const AHEAD: usize = 40 + 33;
    let node = node(1).set("client.command_burst", 40).start().await;
    let ping = |id: usize| json!({"id": id, "ping": {}}).to_string();
    let mut raw = Raw::open(node.websocket_url()).await;
    raw.write_frame(&Frame::text(&json!({"id": 1, "connect": {"token": token(&node)}}).to_string())).await;
    reply(&mut raw, 1).await;
    let ahead = Frame::text(&(2..2 + AHEAD).map(ping).collect::<Vec<_>>().join("\n")).bytes();
    let last = Frame::text(&ping(1000)).bytes();
    let (begin, end) = last.split_at(last.len() / 2);
    // In one write, so that one read takes both.
    raw.write([ahead.as_slice(), begin].concat()).await;
    reply(&mut raw, 1 + AHEAD).await;
    raw.write(end).await;
    let began = Instant::now();
    reply(&mut raw, 1000).await;
    assert!(began.elapsed() > Duration::from_secs(30), "{:?}", began.elapsed());
}

/// Reads up to the reply with an id.
async fn reply(raw: &mut Raw, id: usize) {
    let end = format!("{{\"id\":{id},");
    loop {
        match raw.read_frame_within(Duration::from_secs(60)).await {
            Incoming::Frame(frame) if frame.payload.starts_with(end.as_bytes()) => return,
            Incoming::Frame(frame) if frame.opcode == Frame::TEXT => {}
            other => panic!("{other:?} before the reply {id}"),
        }
    }
}
