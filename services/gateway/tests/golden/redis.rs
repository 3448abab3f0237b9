//! Redis: keys with their types, contents and lifetimes, and the messages between nodes.

use std::time::{SystemTime, UNIX_EPOCH};

use fanway_testkit::node::Node;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::token::Claims;
use fanway_testkit::websocket::Client;
use fanway_testkit::{PATIENCE, wait};
use futures_util::StreamExt;
use redis::AsyncCommands;
use redis::aio::PubSub;
use serde_json::json;

use crate::fleet;
use crate::names::{Names, printable};

/// Lifetimes that keys have, in milliseconds.
const LIFETIMES: [(u64, &str); 3] = [(300_000, "5 min"), (3_600_000, "1 h"), (2_592_000_000, "30 d")];

/// A recording of Redis.
struct Recorder {
    names: Names,
    messages: PubSub,
    text: String,
}

impl Recorder {
    /// Receives every message of the fleet.
    async fn new(redis: &RedisServer) -> Self {
        let mut messages = redis::Client::open(redis.url()).unwrap().get_async_pubsub().await.unwrap();
        messages.psubscribe("fw:test:*").await.unwrap();
        Self { names: Names::default(), messages, text: String::new() }
    }

    fn record(&mut self, line: &str) {
        self.text += &format!("{}\n", self.names.hide(line).trim_end());
    }

    /// Records the next message on a pub/sub channel.
    async fn message(&mut self, topic: &str) {
        let mut stream = self.messages.on_message();
        let next = async {
            loop {
                let message = stream.next().await.expect("the subscription lasts");
                if message.get_channel_name().starts_with(topic) {
                    return (message.get_channel_name().to_owned(), message.get_payload_bytes().to_vec());
                }
            }
        };
        let (topic, payload) = tokio::time::timeout(PATIENCE, next).await.expect("a message comes");
        drop(stream);
        let mut payload = self.content(&payload);
        if let Some(node) = topic.strip_prefix("fw:test:e:{") {
            self.names.number("node", node.trim_end_matches('}'));
            payload = payload.parse::<u64>().map(|_| "<number>".to_owned()).unwrap();
        }
        self.record(&format!("message {topic} {payload}"));
    }

    /// Records every key.
    async fn keys(&mut self, redis: &RedisServer) {
        let mut connection = redis.admin().await;
        let mut keys: Vec<String> = connection.keys("*").await.unwrap();
        keys.sort();
        // The keys of the self-test expire within seconds.
        for key in keys.into_iter().filter(|key| !key.starts_with("fw:test:t:")) {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
            let left: u64 = connection.pttl(&key).await.unwrap();
            let lifetime = LIFETIMES.iter().find(|(lifetime, _)| (lifetime - 60_000..=*lifetime).contains(&left));
            let lifetime = lifetime.map_or(format!("{left} ms"), |(_, name)| (*name).to_owned());
            self.record(&format!("key {key} {kind}, lives {lifetime}"));
            if kind == "hash" {
                let mut fields: Vec<(u64, Vec<u8>)> = connection.hgetall(&key).await.unwrap();
                fields.sort();
                for (field, value) in fields {
                    let value = self.content(&value);
                    self.record(&format!("  {field} = {value}"));
                }
            } else {
                let value: Vec<u8> = connection.get(&key).await.unwrap();
                let value = self.content(&value);
                self.record(&format!("  {value}"));
            }
        }
    }

    /// A message or value: epochs get names, and a time of about now is written `<time>`.
    fn content(&mut self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        for field in text.split([':', ',']).filter(|field| field.len() == 20) {
            if field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
                self.names.number("epoch", field);
            }
        }
        match time_in(bytes) {
            Some(at) => format!("{}<time>{}", printable(&bytes[..at]), printable(&bytes[at + TIME..])),
            None => printable(bytes),
        }
    }
}

/// Bytes of a time in milliseconds since 1970, seven bits each.
const TIME: usize = 6;

/// The index of a time of the last minute, as envelopes encode it.
fn time_in(bytes: &[u8]) -> Option<usize> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    bytes.windows(TIME).position(|window| {
        let last = window[TIME - 1] & 0x80 == 0 && window[..TIME - 1].iter().all(|byte| byte & 0x80 != 0);
        let number = window.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f));
        last && (now - 60_000..=now).contains(&number)
    })
}

async fn publish(node: &Node, body: serde_json::Value) {
    let response = node.api("publish", body).await;
    assert_eq!(response.status, 200, "{}", response.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_envelopes() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    let mut recorder = Recorder::new(&redis).await;
    // A log that was subscribed to and never published to.
    let mut client = Client::connect(node.websocket_url(), &node.token(&Claims::user("alice").set("info", "x"))).await;
    client.subscribe("unused").await;
    for body in [
        json!({"channel": "news", "data": {"text": "one"}}),
        json!({"channel": "news", "data": 2, "tags": {"b": "2", "a": "1"}}),
        json!({"channel": "plain:a", "data": "without history"}),
        json!({"channel": "news", "data": "not kept", "skip_history": true}),
        json!({"channel": "news", "data": 3, "idempotency_key": "k"}),
        json!({"channel": "plain:a", "data": 4, "idempotency_key": "k"}),
    ] {
        recorder.record(&format!("publish {body}"));
        publish(&node, body).await;
        recorder.message("fw:test:c:").await;
    }
    for channel in ["news", "plain:a"] {
        recorder.record(&format!("publish by a client to {channel}"));
        client.publish(channel, json!([1])).await.unwrap();
        recorder.message("fw:test:c:").await;
    }
    for n in 1..=3 {
        publish(&node, json!({"channel": "short:a", "data": n})).await;
    }
    recorder.record("publish three times to short:a, which keeps two");
    recorder.keys(&redis).await;
    crate::compare("redis_keys_and_envelopes", &recorder.text);
}

/// Envelopes that are written once the fleet is known to read them.
#[tokio::test(flavor = "multi_thread")]
async fn newer_envelopes() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).set("rebalance.heartbeat_interval", "200ms").start().await;
    wait::until_async("the fleet is known to read them", || async {
        (node.api("publish", json!({"channel": "plain:b", "b64data": "/w=="})).await.status == 200).then_some(())
    })
    .await;
    let mut recorder = Recorder::new(&redis).await;
    let client = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff";
    for body in [
        json!({"channel": "news", "b64data": "/w=="}),
        json!({"channel": "news", "data": 1, "exclude": client}),
        json!({"channel": "plain:a", "b64data": "/w==", "tags": {"a": "1"}, "exclude": client}),
    ] {
        recorder.record(&format!("publish {body}"));
        publish(&node, body).await;
        recorder.message("fw:test:c:").await;
    }
    recorder.keys(&redis).await;
    crate::compare("redis_newer_envelopes", &recorder.text);
}

/// A change of the leader term, as a failover makes it: the next publication begins an epoch.
#[tokio::test(flavor = "multi_thread")]
async fn leader_terms() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    let mut recorder = Recorder::new(&redis).await;
    publish(&node, json!({"channel": "news", "data": 1})).await;
    recorder.message("fw:test:c:").await;
    redis.command("DEBUG CHANGE-REPL-ID").await;
    recorder.record("another leader term");
    for data in [2, 3] {
        publish(&node, json!({"channel": "news", "data": data})).await;
        recorder.message("fw:test:c:").await;
    }
    recorder.keys(&redis).await;
    crate::compare("redis_leader_terms", &recorder.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_between_nodes() {
    let redis = RedisServer::start().await;
    let mut recorder = Recorder::new(&redis).await;
    let _node = fleet(&redis).set("server.max_connections", 100).start().await;
    recorder.message("fw:test:n").await;
    recorder.message("fw:test:e:").await;
    let functions = text(&redis.command("FUNCTION LIST").await);
    // The digest of the source.
    let digest = functions.split("fanway_").nth(1).unwrap().split(' ').next().unwrap();
    recorder.record(&format!("functions {}", functions.replace(digest, "<digest>")));
    crate::compare("redis_messages_between_nodes", &recorder.text);
}

/// An answer of Redis as text; lists within a list are sorted.
fn text(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => printable(bytes),
        redis::Value::SimpleString(text) => text.clone(),
        redis::Value::Nil => "nil".to_owned(),
        redis::Value::Array(values) => {
            let mut texts: Vec<_> = values.iter().map(text).collect();
            if values.iter().all(|value| matches!(value, redis::Value::Array(_))) {
                texts.sort();
            }
            format!("[{}]", texts.join(" "))
        }
        other => panic!("{other:?}"),
    }
}
