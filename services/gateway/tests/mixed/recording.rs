//! Recordings of a build: the content of Redis and the messages between nodes, as bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanway_testkit::PATIENCE;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::websocket::Client;
use futures_util::StreamExt;
use redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{node, token};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mixed/before.json");

/// Path of the older binary.
pub(crate) fn older() -> String {
    std::env::var("FANWAY_OLD").expect("FANWAY_OLD is the path of the older binary: make test-mixed OLD=path")
}

/// Bytes, in base64 in the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Bytes(pub Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        STANDARD.encode(bytes.0)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Recording {
    pub(crate) strings: BTreeMap<String, Bytes>,
    pub(crate) hashes: BTreeMap<String, BTreeMap<String, Bytes>>,
    /// Messages by their topics, in order, sent after the content was recorded.
    pub(crate) messages: Vec<(String, Bytes)>,
}

impl Recording {
    pub(crate) fn load() -> Self {
        serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
    }

    /// Records a node of this binary: a log over two leader terms, results of idempotency keys, then one more
    /// publication to the log, one to a channel without history, and a heartbeat.
    pub(crate) async fn of(binary: &str) -> Self {
        let redis = RedisServer::start().await;
        let node = node(binary, &redis).start().await;
        let mut client = Client::connect(node.websocket_url(), &token(&node)).await;
        for body in [
            json!({"channel": "news", "data": {"text": "one"}}),
            json!({"channel": "news", "data": 2, "tags": {"b": "2", "a": "1"}}),
            json!({"channel": "news", "data": 3, "idempotency_key": "k"}),
        ] {
            assert_eq!(node.api("publish", body).await.status, 200);
        }
        client.publish("news", json!([4])).await.unwrap();
        redis.command("DEBUG CHANGE-REPL-ID").await;
        node.publish("news", json!("another term")).await;

        let mut recording = Self { strings: BTreeMap::new(), hashes: BTreeMap::new(), messages: Vec::new() };
        recording.content(&redis).await;
        let mut messages = redis::Client::open(redis.url()).unwrap().get_async_pubsub().await.unwrap();
        messages.psubscribe("fw:test:*").await.unwrap();
        node.publish("news", json!("live")).await;
        node.publish("plain:a", json!("without history")).await;
        let wanted = ["fw:test:c:{news}", "fw:test:c:{plain:a}", "fw:test:n"];
        let mut stream = messages.on_message();
        while recording.messages.len() < wanted.len() {
            let message = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
            let topic = message.get_channel_name().to_owned();
            let known = recording.messages.iter().any(|(known, _)| *known == topic);
            if wanted.contains(&topic.as_str()) && !known {
                recording.messages.push((topic, Bytes(message.get_payload_bytes().to_vec())));
            }
        }
        recording.messages.sort();
        recording
    }

    async fn content(&mut self, redis: &RedisServer) {
        let mut connection = redis.admin().await;
        let keys: Vec<String> = connection.keys("fw:test:[him]:*").await.unwrap();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
            if kind == "hash" {
                let fields: BTreeMap<String, Vec<u8>> = connection.hgetall(&key).await.unwrap();
                let fields = fields.into_iter().map(|(field, value)| (field, Bytes(value))).collect();
                self.hashes.insert(key, fields);
            } else {
                let value = connection.get(&key).await.unwrap();
                self.strings.insert(key, Bytes(value));
            }
        }
    }

    /// Puts the content into a Redis.
    pub(crate) async fn restore(&self, redis: &RedisServer) {
        let mut connection = redis.admin().await;
        for (key, value) in &self.strings {
            connection.set::<_, _, ()>(key, &value.0).await.unwrap();
        }
        for (key, fields) in &self.hashes {
            let fields: Vec<_> = fields.iter().map(|(field, value)| (field, &value.0)).collect();
            connection.hset_multiple::<_, _, _, ()>(key, &fields).await.unwrap();
        }
    }

    /// Sends the message of a topic.
    pub(crate) async fn send(&self, redis: &RedisServer, topic: &str) {
        let (_, Bytes(payload)) = self.messages.iter().find(|(known, _)| known == topic).unwrap();
        redis.admin().await.publish::<_, _, ()>(topic, payload).await.unwrap();
    }

    /// Epochs of the log `news`, oldest first, from its meta: `1:<epoch>:<top>:<life>:<first>,<older epoch>:<first>`.
    pub(crate) fn epochs(&self) -> Vec<String> {
        let meta = String::from_utf8(self.strings["fw:test:m:{news}"].0.clone()).unwrap();
        let epochs = meta.split([':', ',']).filter(|field| field.len() == 20).map(str::to_owned);
        let mut epochs: Vec<String> = epochs.collect();
        epochs.reverse();
        epochs
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes before.json: make record-mixed OLD=path"]
async fn record_the_older_binary() {
    let recording = Recording::of(&older()).await;
    std::fs::write(FILE, serde_json::to_string_pretty(&recording).unwrap() + "\n").unwrap();
}
