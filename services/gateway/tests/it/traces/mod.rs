//! Traces, as a real collector receives them from real nodes.

mod collector;

use std::collections::BTreeSet;
use std::time::Duration;

use fanway_testkit::http::{self, Response};
use fanway_testkit::node::{API_KEY, Builder, Node, Setting, free_port};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::{sse, wait, websocket};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{PATIENCE, fleet, node, token};
use collector::{Collector, Seen};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A node that exports soon, and by chance this part of what it does.
fn traced(builder: Builder, url: &str, ratio: &str) -> Builder {
    builder
        .set("telemetry.traces.endpoint", url)
        .set("telemetry.traces.sample_ratio", Setting::toml(ratio))
        .set("telemetry.traces.timeout", "2s")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
}

async fn publish(node: &Node, traceparent: Option<&str>, key: &str) -> Response {
    let mut headers = vec![("x-api-key", key)];
    headers.extend(traceparent.map(|text| ("traceparent", text)));
    let body = json!({ "channel": "news", "data": { "secret": "of the payload" } });
    http::post_json(node.url("/api/publish"), &headers, &body).await
}

async fn instance(node: &Node) -> String {
    let info: Value = node.api("info", json!({})).await.json();
    info["result"]["nodes"][0]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_one_trace_from_the_request_to_the_sockets_of_another_node() {
    let (redis, collector) = (RedisServer::start().await, Collector::start().await);
    let publisher = traced(fleet(&redis), &collector.url, "0.0").start().await;
    let receiver = traced(fleet(&redis), &collector.url, "0.0").start().await;
    let token = token(&receiver);
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = websocket::Client::connect(receiver.websocket_url(), &token).await;
        socket.subscribe("news").await;
        sockets.push(socket);
    }
    let target = receiver.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&token).send().await.unwrap();
    stream.next_event().await;

    // Nobody has decided for these, their caller has decided against, and this one has nothing to decide.
    let unsampled = format!("00-{}-{CALLER}-00", TRACE.replace('0', "1"));
    let unauthorised = format!("00-{}-{CALLER}-01", TRACE.replace('0', "2"));
    assert_eq!(publish(&publisher, None, API_KEY).await.status, 200);
    assert_eq!(publish(&publisher, Some(&unsampled), API_KEY).await.status, 200);
    assert_eq!(publish(&publisher, Some(&unauthorised), "a wrong key").await.status, 401);
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    assert_eq!(publish(&publisher, Some(&sampled), API_KEY).await.status, 200);
    for socket in &mut sockets {
        for _ in 0..3 {
            socket.next_publication().await;
        }
    }

    let delivery = collector.wait_for("the delivery's span", |span| span.name == "deliver").await;
    let request = collector.wait_for("the request's span", |span| span.name == "POST /api/publish").await;
    let redis_span = collector.wait_for("the command's span", |span| span.name == "redis publish").await;
    // What was done before was exported before.
    let all = collector.seen();
    let traces: BTreeSet<&str> = all.iter().map(|span| span.trace.as_str()).collect();
    assert_eq!((all.len(), traces), (3, BTreeSet::from([TRACE])), "{all:#?}");

    assert_eq!([&request.parent, &redis_span.parent, &delivery.parent], [CALLER, &request.id, &redis_span.id]);
    assert_eq!(
        [request.kind, redis_span.kind, delivery.kind],
        [SpanKind::Server, SpanKind::Client, SpanKind::Consumer]
    );
    assert_eq!(request.attributes["http.response.status_code"], "200 (number)");
    assert_eq!(request.attributes["http.route"], "/api/publish");
    assert_eq!(redis_span.attributes["db.system.name"], "redis");
    assert_eq!(delivery.attributes["fanway.connections"], "3 (number)");
    assert_eq!(delivery.attributes["fanway.namespace"], "default");
    let (publishes, receives) = (instance(&publisher).await, instance(&receiver).await);
    let of = |span: &Seen| span.resource["service.instance.id"].clone();
    assert_eq!([of(&request), of(&redis_span), of(&delivery)], [publishes.clone(), publishes, receives]);
    assert!(all.iter().all(|span| span.resource["service.name"] == "fanway"));
    assert!(request.times.0 <= redis_span.times.0 && redis_span.times.1 <= request.times.1, "one within the other");
    for span in &all {
        let told = format!("{:?}", span.attributes);
        for secret in ["news", "of the payload", &token, API_KEY, "alice"] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
    }
    // Counted when the collector has answered, which it may do for each of them apart.
    let exported = wait::until_async("both are counted", async || {
        publisher.metric("fanway_trace_spans_total", &[("outcome", "exported")]).await.filter(|spans| *spans >= 2.0)
    });
    assert_eq!(exported.await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_and_commands_are_spans_but_connections_are_not() {
    let (redis, collector) = (RedisServer::start().await, Collector::start().await);
    let builder = traced(fleet(&redis), &collector.url, "1.0").env("OTEL_SERVICE_NAME", "push");
    let node = builder.env("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=one,cloud.region=here").start().await;
    let token = token(&node);
    let mut socket = websocket::Client::connect(node.websocket_url(), &token).await;
    socket.subscribe("news").await;
    socket.publish("news", json!("from a client")).await.unwrap();
    socket.next_publication().await;
    let refused = socket.try_subscribe("nowhere:1").await.unwrap_err();
    let target = node.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&token).send().await.unwrap();
    stream.next_event().await;
    // One that is answered, and one that waits as long as it may.
    let bearer = format!("Bearer {token}");
    let url = node.url("/poll").with_query("channel=news");
    let first = http::get(url.clone(), &[("authorization", &bearer)]).await.json();
    let target = url.with_query(&format!("timeout=50&cursor={}", first["cursor"].as_str().unwrap()));
    let poll = tokio::spawn(async move { http::get(target, &[("authorization", &bearer)]).await.status });

    let named = async |name: &str| collector.wait_for(name, |span| span.name == name).await;
    // While all of them are open.
    for name in ["GET /connection/websocket", "connect", "subscribe", "GET /sse", "GET /poll"] {
        assert_eq!(named(name).await.parent, "", "{name} begins a trace");
    }
    let polls = || collector.seen().iter().filter(|span| span.name == "GET /poll").count();
    wait::until("both polls", || (polls() == 2).then_some(())).await;
    assert!(!poll.is_finished() && socket.closed_within(Duration::ZERO).await.is_none());
    assert_eq!(named("GET /connection/websocket").await.attributes["http.response.status_code"], "101 (number)");
    let command = named("publish").await;
    let redis_span = collector.wait_for("of the command", |span| span.parent == command.id).await;
    let delivery = collector.wait_for("of the publication", |span| span.parent == redis_span.id).await;
    assert_eq!([redis_span.name.as_str(), delivery.name.as_str()], ["redis publish", "deliver"]);
    assert!([&redis_span, &delivery].iter().all(|span| span.trace == command.trace));
    let failed = |span: &Seen| span.attributes.get("error.type").is_some_and(|reason| *reason == refused.message);
    collector.wait_for("a refused subscribe that says so", |span| span.name == "subscribe" && failed(span)).await;

    let resource = &command.resource;
    assert_eq!(
        [&resource["service.name"], &resource["service.instance.id"], &resource["cloud.region"]],
        ["push", "one", "here"]
    );
    poll.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_counted_spans_and_nothing_else() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap();
    // Nobody there; somebody who says nothing, also not in a TLS handshake.
    let urls = [format!("http://127.0.0.1:{}", free_port()), format!("http://{silent}"), format!("https://{silent}")];
    for url in urls {
        let builder = traced(node(), &url, "1.0").set("telemetry.traces.timeout", "1s");
        let mut node = builder.start().await;
        let mut socket = websocket::Client::connect(node.websocket_url(), &token(&node)).await;
        socket.subscribe("news").await;
        // More than one batch of them.
        let mut lost = 0.0;
        for round in 0..3 {
            node.publish("news", json!(round)).await;
            assert_eq!(socket.next_publication().await.data, json!(round));
            let more = wait::until_async("a batch is given up", async || {
                node.metric("fanway_trace_spans_total", &[("outcome", "lost")]).await.filter(|now| *now > lost)
            });
            lost = more.await;
        }
        node.publish("news", json!("left at the end")).await;
        node.term();
        let status = node.exited(PATIENCE).await;
        assert!(status.success(), "{status}");
        let log = node.log();
        assert_eq!(log.matches("the collector does not take spans").count(), 1, "said once: {log}");
        assert!(log.contains("stopped"), "{log}");
    }
}

/// A key in the URL is refused unless a setting allows it, and is written nowhere either way.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_query_works_by_a_setting_and_leaves_no_trace() {
    const WRONG: &str = "fw_wrong_0123456789abcdef";
    let collector = Collector::start().await;
    let mut seen = String::new();
    for (allowed, status) in [(false, 401), (true, 200)] {
        let builder = traced(node(), &collector.url, "1.0").set("telemetry.log_level", "trace");
        let mut node = builder.set("api.allow_key_in_query", allowed).start().await;
        let good = format!("api_key={API_KEY}");
        let wrong = format!("api_key={WRONG}");
        let twice = format!("{good}&{good}");
        let calls = [
            ("/api/publish", &good, r#"{"channel":"news","data":1}"#, status),
            ("/api", &good, r#"{"method":"info"}"#, status),
            ("/api/history", &good, r#"{"channel":"news"}"#, status),
            ("/api/publish", &good, "{", if allowed { 400 } else { 401 }),
            ("/api/nothing", &good, "{}", 404),
            ("/poll", &good, "{}", 405),
            ("/api/publish", &wrong, "{}", 401),
            ("/api/publish", &twice, "{}", 401),
        ];
        for (path, query, body, status) in calls {
            let target = node.url(path).with_query(query);
            let answer = http::request(::http::Method::POST, &target, &[], body.into(), PATIENCE).await.unwrap();
            assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
            seen.push_str(&answer.text());
        }
        let metrics = http::get(node.url("/metrics"), &[]).await.text();
        seen.push_str(&metrics);
        node.term();
        node.exited(PATIENCE).await;
        seen.push_str(&node.log());
    }
    seen.push_str(&format!("{:?}", collector.seen()));
    assert!(seen.contains("POST /api"), "traces were kept");
    for secret in [API_KEY, WRONG] {
        assert!(!seen.contains(secret), "a key was written down");
    }
}
