//! What one ordinary token, and one address without any, can do to others: nothing.
//!
//! The attackers ask for as many new channels as they can, over every transport, and come back at once when they are closed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanway_testkit::node::{Builder, Node};
use fanway_testkit::redis::{RedisOptions, RedisServer};
use fanway_testkit::token::Claims;
use fanway_testkit::websocket::Client;
use fanway_testkit::{poll, sse, wait};
use serde_json::json;
use tokio::task::JoinSet;

const MIB: u64 = 1024 * 1024;
/// Connections of the attackers, and as many event streams and polls at once.
const CONNECTIONS: usize = 16;
/// Channels of a stream or poll.
const CHANNELS: usize = 64;
/// For memory to be given back: the allocator keeps freed pages for ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn node() -> Builder {
    Node::builder(env!("CARGO_BIN_EXE_fanway")).set("client.channel_linger", "1s")
}

/// Asks for new channels, with a token or without.
struct Attack {
    tasks: JoinSet<()>,
    /// Channels asked for.
    asked: Arc<AtomicU64>,
}

impl Attack {
    fn start(node: &Node, token: &str) -> Self {
        let (mut tasks, asked) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for _ in 0..CONNECTIONS {
            tasks.spawn(over_websocket(node.websocket_url(), token.to_owned(), asked.clone()));
            tasks.spawn(over_sse(node.url("/sse"), token.to_owned(), asked.clone()));
            tasks.spawn(over_polls(node.url("/poll"), token.to_owned(), asked.clone()));
        }
        Self { tasks, asked }
    }

    /// Ends it, fails if a part of it did, and returns the number of channels asked for.
    async fn end(mut self) -> u64 {
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next().await {
            assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
        }
        self.asked.load(Ordering::Relaxed)
    }
}

/// Names of channels that nobody has asked for.
fn names(asked: &AtomicU64, count: usize) -> Vec<String> {
    let first = asked.fetch_add(count as u64, Ordering::Relaxed);
    (first..first + count as u64).map(|n| format!("attack-{n}-{}", "x".repeat(80))).collect()
}

async fn over_websocket(url: impl Into<fanway_testkit::dial::Target>, token: String, asked: Arc<AtomicU64>) {
    let url = url.into();
    loop {
        let Ok(mut client) = Client::try_open(url.clone(), &[]).await else { continue };
        if client.try_command(json!({"connect": {"token": token}})).await.is_err() {
            continue;
        }
        'connected: loop {
            for name in names(&asked, 20) {
                let subscribe = json!({"subscribe": {"channel": name}});
                let history = json!({"history": {"channel": format!("h{name}")}});
                let unsubscribe = json!({"unsubscribe": {"channel": name}});
                for command in [subscribe, history, unsubscribe] {
                    if client.try_command(command).await.is_err() {
                        break 'connected;
                    }
                }
            }
        }
    }
}

async fn over_sse(url: impl Into<fanway_testkit::dial::Target>, token: String, asked: Arc<AtomicU64>) {
    let url = url.into();
    loop {
        let query: Vec<_> = names(&asked, CHANNELS).iter().map(|name| format!("channel={name}")).collect();
        let mut request = sse::Request::to(url.clone().with_query(&query.join("&")));
        if !token.is_empty() {
            request = request.bearer(&token);
        }
        if let Ok(mut stream) = request.send().await {
            let _ = stream.next_event_within(Duration::from_secs(5)).await;
        }
    }
}

async fn over_polls(url: impl Into<fanway_testkit::dial::Target>, token: String, asked: Arc<AtomicU64>) {
    let (url, bearer) = (url.into(), format!("Bearer {token}"));
    let headers = [("authorization", bearer.as_str())];
    let headers = if token.is_empty() { &[][..] } else { &headers[..] };
    loop {
        let names = names(&asked, CHANNELS);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let _ = poll::try_poll(url.clone(), &names, None, Duration::ZERO, headers).await;
    }
}

/// Others: a back end and a client publish, a subscriber receives all of it, and new users connect.
struct Others {
    subscriber: Client,
    publisher: Client,
    sent: u64,
}

impl Others {
    async fn start(node: &Node) -> Self {
        let connect = async |user: &str| Client::connect(node.websocket_url(), &node.token(&Claims::user(user))).await;
        let (mut subscriber, publisher) = (connect("bob").await, connect("carol").await);
        subscriber.subscribe("news").await;
        Self { subscriber, publisher, sent: 0 }
    }

    /// One of each kind of thing. All of them succeed.
    async fn go_on(&mut self, node: &Node) {
        for _ in 0..2 {
            self.sent += 1;
            node.publish("news", json!(self.sent)).await;
            self.sent += 1;
            self.publisher.publish("news", json!(self.sent)).await.unwrap();
        }
        let user = format!("user-{}", self.sent);
        let mut newcomer = Client::connect(node.websocket_url(), &node.token(&Claims::user(&user))).await;
        newcomer.subscribe(&user).await;
        newcomer.publish(&user, json!("hello")).await.unwrap();
        assert_eq!(newcomer.next_publication().await.data, json!("hello"));
    }

    async fn end(mut self) {
        for n in 1..=self.sent {
            assert_eq!(self.subscriber.next_publication().await.data, json!(n));
        }
    }
}

/// One ordinary token, and as many clients without any, against a small Redis.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_does_not_fill_redis() {
    const ATTACK: Duration = Duration::from_secs(60);
    let small = RedisOptions::default().config("maxmemory 48mb").config("maxmemory-policy noeviction");
    let redis: RedisServer = small.start().await;
    let node = node().redis(&redis.url(), "test").set("default_namespace.meta_ttl", "30d");
    let node = node
        .set("auth.allow_anonymous", true)
        .set("default_namespace.subscribe", "anyone")
        .set("default_namespace.history", "anyone")
        .start()
        .await;
    let mut others = Others::start(&node).await;
    let attacks = [Attack::start(&node, &node.token(&Claims::user("mallory"))), Attack::start(&node, "")];
    let began = Instant::now();
    while began.elapsed() < ATTACK {
        others.go_on(&node).await;
    }
    let mut asked = 0;
    for attack in attacks {
        asked += attack.end().await;
    }
    let keys: u64 = redis::from_redis_value(redis.command("DBSIZE").await).unwrap();
    println!("{asked} channels asked for, {keys} keys in Redis, {} publications", others.sent);
    others.end().await;
    let newcomers = began.elapsed().as_secs() * 1000;
    assert!(asked > 50_000, "{asked}: no attack");
    assert!(keys < 20_000 + newcomers, "{keys}");
}

/// One token, and one address without any, against a node alone.
#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_fill_a_node() {
    const ATTACK: Duration = Duration::from_secs(20);
    let node = node()
        .set("auth.allow_anonymous", true)
        .set("default_namespace.subscribe", "anyone")
        .set("default_namespace.history", "anyone")
        // What nobody uses is past its time soon, and not in an hour.
        .set("client.position_check", "1s")
        .set("default_namespace.history_ttl", "5s")
        .set("default_namespace.meta_ttl", "5s")
        .start()
        .await;
    let mut others = Others::start(&node).await;
    let before = node.rss();
    let attacks = [Attack::start(&node, &node.token(&Claims::user("mallory"))), Attack::start(&node, "")];
    let (began, mut largest) = (Instant::now(), 0);
    while began.elapsed() < ATTACK {
        others.go_on(&node).await;
        largest = largest.max(node.rss());
    }
    let mut asked = 0;
    for attack in attacks {
        asked += attack.end().await;
    }
    others.end().await;
    println!("{asked} channels asked for; {} MiB before, {} MiB at most", before / MIB, largest / MIB);
    let after = wait::within(PATIENCE, "the node gives the memory back", async || {
        let after = node.rss();
        (after <= before / 4 * 5 + 16 * MIB).then_some(after)
    });
    println!("{} MiB after", after.await / MIB);
    assert!(asked > 20_000, "{asked}: no attack");
    assert!(largest <= 160 * MIB, "{} MiB", largest / MIB);
}
