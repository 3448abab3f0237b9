//! What one user, or one client address, may cost a node: the limits hold over all connections together, and each transport
//! is told in its own way.

use std::time::{Duration, Instant};

use fanway_testkit::http::Response;
use fanway_testkit::node::{Builder, Node};
use fanway_testkit::sse::Silence;
use fanway_testkit::token::Claims;
use fanway_testkit::websocket::{Client, Closed};
use fanway_testkit::{http, poll, sse};
use serde_json::json;

use super::{PATIENCE, node};

fn token_of(node: &Node, user: &str) -> String {
    node.token(&Claims::user(user))
}

async fn connect(node: &Node, user: &str) -> Client {
    Client::connect(node.websocket_url(), &token_of(node, user)).await
}

async fn poll_once(node: &Node, user: &str, channels: &[&str]) -> Response {
    let bearer = format!("Bearer {}", token_of(node, user));
    let headers = [("authorization", bearer.as_str())];
    poll::try_poll(node.url("/poll"), channels, None, Duration::ZERO, &headers).await.unwrap()
}

/// A stream that says when to come back, and ends: the milliseconds.
async fn come_back(node: &Node, user: &str, query: &str) -> Option<u64> {
    let request = sse::Request::to(node.url(&format!("/sse?{query}"))).bearer(&token_of(node, user));
    let mut stream = request.send().await.unwrap_or_else(|refused| panic!("{}", refused.status));
    assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
    match stream.next_event_within(PATIENCE).await {
        Ok(event) => {
            assert_eq!(event.event, "ready");
            None
        }
        Err(silence) => {
            assert!(!matches!(silence, Silence::TimedOut), "{silence:?}");
            Some(stream.retry().expect("it says when"))
        }
    }
}

async fn limited(node: &Node, limit: &str) -> f64 {
    node.metric("fanway_limited_total", &[("limit", limit)]).await.unwrap()
}

fn assert_too_many(answer: &Response) -> u64 {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.json()["error"]["reason"], "too_many_requests");
    let seconds = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    seconds
}

/// The node does not read from a user's connections while the user is in debt, so that all of them together stay within the
/// rate. Nobody is closed, nothing is lost, and other users notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn publications_of_all_connections_count_together() {
    const CONNECTIONS: usize = 8;
    const EACH: usize = 20;
    let node = node().set("limits.user.publish_rate", 50).set("limits.user.publish_burst", 30).start().await;
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut client = connect(&node, "mallory").await;
        tasks.spawn(async move {
            for n in 0..EACH {
                client.publish("news", json!(n)).await.unwrap();
            }
            assert_eq!(client.closed_within(Duration::ZERO).await, None);
        });
    }
    let mut other = connect(&node, "bob").await;
    other.subscribe("mine").await;
    for n in 0..20 {
        other.publish("mine", json!(n)).await.unwrap();
    }
    let others = began.elapsed();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    // All but the burst and the last publication of each connection have waited for their tokens.
    let least = Duration::from_millis(20) * (CONNECTIONS * EACH - 30 - CONNECTIONS) as u32;
    assert!(began.elapsed() >= least, "{:?} instead of {least:?}", began.elapsed());
    assert!(others < least, "{others:?}");
    assert!(limited(&node, "user_publishes").await >= 1.0);
    assert!(node.metric("fanway_limited_subjects", &[]).await.unwrap() >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_commands_have_rates_of_their_own() {
    let node = node()
        .set("limits.user.publish_bytes_rate", "64 KiB")
        .set("limits.user.publish_bytes_burst", "64 KiB")
        .set("limits.user.command_rate", 20)
        .set("limits.user.command_burst", 200)
        .start()
        .await;
    let mut client = connect(&node, "alice").await;
    let began = Instant::now();
    // 160 KiB, of which 64 are free and the last 32 are paid for later.
    for _ in 0..5 {
        client.publish("news", json!("x".repeat(32 * 1024))).await.unwrap();
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(limited(&node, "user_published_bytes").await >= 1.0);
    let (began, mut sent) = (Instant::now(), 0);
    let mut clients = [connect(&node, "bob").await, connect(&node, "bob").await];
    while sent < 240 {
        for client in &mut clients {
            client.command(json!({"ping": {}})).await;
            sent += 1;
        }
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(limited(&node, "user_commands").await >= 1.0);
}

/// The bucket belongs to the user, not to the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_refills_nothing() {
    let node = node().set("limits.user.publish_rate", 2).set("limits.user.publish_burst", 2).start().await;
    let began = Instant::now();
    for n in 0..7 {
        connect(&node, "alice").await.publish("news", json!(n)).await.unwrap();
    }
    // Each connection reads one more before it pauses, and is dropped then: the debt remains.
    let mut last = connect(&node, "alice").await;
    last.publish("news", json!(7)).await.unwrap();
    last.publish("news", json!(8)).await.unwrap();
    // Nine publications, of which two were free and the last is paid for later.
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

/// A new connection brings no free frame: it waits for the debt that the user has, and other connections do.
#[tokio::test(flavor = "multi_thread")]
async fn a_debt_holds_back_every_connection_of_the_user() {
    const BATCH: u32 = 40;
    let node = node()
        .set("limits.user.publish_rate", 20)
        .set("limits.user.publish_burst", 20)
        .set("client.connect_timeout", "20s")
        .start()
        .await;
    let mut idle = connect(&node, "alice").await;
    let began = Instant::now();
    for round in 1..=3 {
        let mut client = Client::open(node.websocket_url()).await;
        let connect = json!({"id": 1, "connect": {"token": token_of(&node, "alice")}});
        let publish = |n: u32| json!({"id": n, "publish": {"channel": "news", "data": n}}).to_string();
        let publishes: Vec<String> = (2..BATCH + 2).map(publish).collect();
        client.send_text(&format!("{connect}\n{}", publishes.join("\n"))).await;
        assert!(client.reply_to(BATCH + 1).await["publish"].is_object());
        // Each batch but the last has been paid for, less the burst.
        let least = Duration::from_millis(50) * (BATCH * (round - 1)).saturating_sub(20);
        assert!(began.elapsed() >= least, "{:?} after batch {round}", began.elapsed());
    }
    idle.publish("news", json!("last")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(50) * (BATCH * 3 - 20), "{:?}", began.elapsed());
    assert_eq!(idle.closed_within(Duration::ZERO).await, None);
    let mut other = connect(&node, "bob").await;
    other.publish("news", json!("at once")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_and_streams_say_when_to_come_back() {
    let node = node()
        .set("limits.user.poll_rate", 1)
        .set("limits.user.poll_burst", 3)
        .set("limits.user.stream_rate", 1)
        .set("limits.user.stream_burst", 2)
        .start()
        .await;
    let refused = loop {
        let answer = poll_once(&node, "alice", &["news"]).await;
        if answer.status != 200 {
            break answer;
        }
    };
    let seconds = assert_too_many(&refused);
    assert_eq!(poll_once(&node, "bob", &["news"]).await.status, 200);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(poll_once(&node, "alice", &["news"]).await.status, 200, "who waits as long as told passes");
    let retry = loop {
        if let Some(retry) = come_back(&node, "alice", "channel=news").await {
            break retry;
        }
    };
    assert!((1..=3000).contains(&retry), "{retry}");
    assert_eq!(come_back(&node, "bob", "channel=news").await, None);
    assert!(limited(&node, "user_polls").await >= 1.0 && limited(&node, "user_streams").await >= 1.0);
}

/// A connect above the rate waits as long as a connection may take to connect, and not longer.
#[tokio::test(flavor = "multi_thread")]
async fn connects_wait_for_their_turn() {
    let node = node().set("limits.user.connect_rate", 1).set("limits.user.connect_burst", 1);
    let patient = node.start().await;
    let began = Instant::now();
    let claims = Claims::user("alice").channels(&["server-side"]);
    for _ in 0..3 {
        let mut client = Client::open(patient.websocket_url()).await;
        // Along with it, as SDKs do.
        let connect = json!({"id": 1, "connect": {"token": patient.token(&claims)}});
        let subscribe = json!({"id": 2, "subscribe": {"channel": "news"}});
        client.send_text(&format!("{connect}\n{subscribe}")).await;
        assert!(client.reply_to(1).await["connect"]["subs"]["server-side"].is_object());
        assert!(client.reply_to(2).await["subscribe"].is_object());
    }
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    assert!(limited(&patient, "user_connects").await >= 1.0);

    let hasty = super::node().set("limits.user.connect_rate", 1).set("limits.user.connect_burst", 1);
    let hasty = hasty.set("client.connect_timeout", "100ms").start().await;
    let _first = connect(&hasty, "alice").await;
    let mut second = Client::open(hasty.websocket_url()).await;
    let closed = second.try_command(json!({"connect": {"token": token_of(&hasty, "alice")}})).await.unwrap_err();
    assert!(matches!(closed, Closed::Frame { code: 3013, .. }), "{closed:?}");
    connect(&hasty, "bob").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_sessions_at_once() {
    let node = node().set("limits.user.connections", 2).start().await;
    let first = connect(&node, "alice").await;
    let _second = connect(&node, "alice").await;
    let mut third = Client::open(node.websocket_url()).await;
    let closed = third.try_command(json!({"connect": {"token": token_of(&node, "alice")}})).await.unwrap_err();
    assert!(matches!(closed, Closed::Frame { code: 3013, .. }), "{closed:?}");
    assert_too_many(&poll_once(&node, "alice", &["news"]).await);
    assert!(come_back(&node, "alice", "channel=news").await.is_some());
    assert_eq!(limited(&node, "user_connections").await, 3.0);
    connect(&node, "bob").await;
    first.close().await;
    // The node may see the end a moment later.
    let again = fanway_testkit::wait::within(PATIENCE, "there is room again", async || {
        let answer = poll_once(&node, "alice", &["news"]).await;
        (answer.status == 200).then_some(())
    });
    again.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_channels_are_limited_and_those_in_use_are_not() {
    let limited_channels = |node: Builder| {
        node.set("client.channel_limit", 8)
            .set("limits.user.new_channel_burst", 8)
            .set("limits.user.new_channel_rate", 1)
    };
    let node = limited_channels(node()).start().await;
    let mut other = connect(&node, "bob").await;
    other.subscribe("in-use").await;
    let mut client = connect(&node, "alice").await;
    let refused = 'refused: {
        for n in 0..40 {
            if let Err(error) = client.try_subscribe(&format!("c{n}")).await {
                break 'refused error;
            }
            client.unsubscribe(&format!("c{n}")).await.unwrap();
        }
        panic!("forty new channels at once");
    };
    assert_eq!(refused.code, 111);
    client.subscribe("in-use").await;
    let refused = 'refused: {
        for n in 0..40 {
            if let Err(error) = client.history(&format!("h{n}"), 0).await {
                break 'refused error;
            }
        }
        panic!("forty new channels at once");
    };
    assert_eq!(refused.code, 111);
    client.history("in-use", 0).await.unwrap();
    assert_too_many(&poll_once(&node, "alice", &["p1", "p2", "p3", "p4"]).await);
    assert!(come_back(&node, "alice", "channel=s1&channel=s2&channel=s3&channel=s4").await.is_some());
    assert_eq!(poll_once(&node, "alice", &["in-use"]).await.status, 200);
    assert!(limited(&node, "user_new_channels").await >= 4.0);
    // What its issuer has signed counts for nothing.
    let signed = Claims::user("alice").channels(&["x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8"]);
    let signed = node.token(&signed);
    Client::connect(node.websocket_url(), &signed).await;
    let stream =
        sse::Request::to(node.url("/sse?channel=x9")).bearer(&node.token(&Claims::user("alice").channels(&["x9"])));
    assert_eq!(stream.send().await.unwrap().next_event_within(PATIENCE).await.unwrap().event, "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_so_many_channels() {
    let node = node().set("limits.channels", 3).set("client.channel_linger", "100ms").start().await;
    let mut client = connect(&node, "alice").await;
    for channel in ["a", "b", "c"] {
        client.subscribe(channel).await;
    }
    assert_eq!(client.try_subscribe("d").await.unwrap_err().code, 111);
    assert_too_many(&poll_once(&node, "bob", &["d"]).await);
    assert!(come_back(&node, "bob", "channel=d").await.is_some());
    assert_eq!(poll_once(&node, "bob", &["a"]).await.status, 200);
    assert!(limited(&node, "node_channels").await >= 3.0);
    client.unsubscribe("a").await.unwrap();
    let room =
        fanway_testkit::wait::within(PATIENCE, "there is room again", async || client.try_subscribe("d").await.ok());
    room.await;
}

/// Anonymous clients are many people: they share nothing, unless their address is known.
#[tokio::test(flavor = "multi_thread")]
async fn anonymous_clients_share_no_bucket() {
    let anonymous = |node: Builder| {
        node.set("auth.allow_anonymous", true)
            .set("default_namespace.subscribe", "anyone")
            .set("limits.user.connect_rate", 1)
            .set("limits.user.connect_burst", 1)
            .set("limits.user.connections", 1)
            .set("limits.address.connect_rate", 1)
            .set("limits.address.connect_burst", 5)
    };
    let unknown = anonymous(node()).start().await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(Client::connect(unknown.websocket_url(), "").await);
    }
    for client in &mut clients {
        client.subscribe("news").await;
    }
    let direct = anonymous(node()).set("server.direct", true).set("client.connect_timeout", "100ms").start().await;
    let refused = 'refused: {
        for _ in 0..20 {
            let mut client = Client::open(direct.websocket_url()).await;
            if let Err(closed) = client.try_command(json!({"connect": {}})).await {
                break 'refused closed;
            }
        }
        panic!("twenty at once");
    };
    assert!(matches!(refused, Closed::Frame { code: 3013, .. }), "{refused:?}");
    let polled = poll::try_poll(direct.url("/poll"), &["news"], None, Duration::ZERO, &[]).await.unwrap();
    assert_too_many(&polled);
    assert!(limited(&direct, "address_connects").await >= 2.0);
    // A school behind one address: who has a user pays for itself.
    connect(&direct, "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_may_present_so_many_bad_tokens() {
    let node = node()
        .set("server.trusted_proxies", fanway_testkit::node::Setting::toml("['127.0.0.1']"))
        .set("limits.address.failed_token_rate", 1)
        .set("limits.address.failed_token_burst", 3)
        .start()
        .await;
    let ask = async |address: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", address)];
        http::get(node.url("/poll?channel=news&timeout=0"), &headers).await
    };
    let refused = 'refused: {
        for _ in 0..20 {
            let answer = ask("192.0.2.1", "bad").await;
            if answer.status != 401 {
                break 'refused answer;
            }
        }
        panic!("twenty bad tokens");
    };
    assert_too_many(&refused);
    assert_eq!(ask("192.0.2.2", "bad").await.status, 401, "another address");
    assert_eq!(ask("192.0.2.1", &token_of(&node, "alice")).await.status, 200, "a good token");
    let headers = [("x-forwarded-for", "192.0.2.1")];
    let mut client = Client::try_open(node.websocket_url(), &headers).await.unwrap();
    let closed = client.try_command(json!({"connect": {"token": "bad"}})).await.unwrap_err();
    assert!(matches!(closed, Closed::Frame { code: 3013 | 3500, .. }), "{closed:?}");
    assert!(limited(&node, "address_failed_tokens").await >= 1.0);
}
