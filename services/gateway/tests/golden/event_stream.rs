//! Server-sent events.

use std::time::Duration;

use fanway_testkit::sse;
use fanway_testkit::token::Claims;
use serde_json::json;

use crate::names::printable;
use crate::node;
use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn over_http1() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            GET /sse?channel=plain:a&channel=news HTTP/1.1 | Authorization: Bearer <alice>
            <
            <
            publish news {"text":"one"}
            <
            publish plain:a "two"
            <
            api publish {"channel":"news","data":[1, 2.50, "\n"],"tags":{"b":"2","a":"1"}}
            <
            api publish {"channel":"news","data":"not kept","skip_history":true}
            <
            term
            <
            <
            end
            "#,
        )
        .await;
    scene.compare("event_stream_http1");
}

/// Without chunks: the end of the connection ends the body.
#[tokio::test(flavor = "multi_thread")]
async fn over_http1_0() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            GET /sse?channel=news HTTP/1.0 | Authorization: Bearer <alice>
            <
            publish news 1
            <
            term
            end
            "#,
        )
        .await;
    scene.compare("event_stream_http1_0");
}

/// The boundaries of DATA frames are hyper's and not recorded.
#[tokio::test(flavor = "multi_thread")]
async fn over_http2() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    let token = node.token(&Claims::user("alice"));
    let target = node.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&token).over_http2().send().await.unwrap();
    stream.next_event().await;
    scene.play("publish news 1").await;
    stream.next_event().await;
    node.term();
    stream.ended_within(fanway_testkit::PATIENCE).await;
    for (name, value) in stream.headers() {
        let value = if name == "date" { "<date>" } else { value.to_str().unwrap() };
        scene.record(&format!("< {name}: {value}"));
    }
    for line in stream.bytes().split_inclusive(|byte| *byte == b'\n') {
        scene.record(&format!("< {}", printable(line)));
    }
    scene.compare("event_stream_http2");
}

#[tokio::test(flavor = "multi_thread")]
async fn resume() {
    let node = node().set("client.recovery_limit", 2).start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            api publish {"channel":"news","data":1}
            api publish {"channel":"short:a","data":1}
            publish news 2
            # by the header of EventSource
            GET /sse?channel=news HTTP/1.1 | Authorization: Bearer <alice> | Last-Event-ID: 2~x7wN<epoch-1>.1
            <
            <
            <
            # by the query, and a channel that was added
            GET /sse?channel=news&channel=other&cursor=2~x7wN<epoch-1>.1 HTTP/1.1 | Authorization: Bearer <alice>
            <
            <
            <
            # version 1
            GET /sse?channel=news HTTP/1.1 | Authorization: Bearer <alice> | Last-Event-ID: 1~<epoch-1>.1
            <
            <
            <
            # two gaps: of another epoch, and of no position
            GET /sse?channel=news&channel=short:a HTTP/1.1 | Authorization: Bearer <alice> | Last-Event-ID: 2~x7wNaaaaaaaaaaaaaaaaaaaa.1~bFvk-
            <
            <
            <
            <
            publish news 3
            <
            publish news 4
            <
            # more than a resume may carry
            GET /sse?channel=news HTTP/1.1 | Authorization: Bearer <alice> | Last-Event-ID: 2~x7wN<epoch-1>.1
            <
            <
            <
            # no cursor
            GET /sse?channel=news HTTP/1.1 | Authorization: Bearer <alice> | Last-Event-ID: 3~x
            <
            <
            <
            "#,
        )
        .await;
    scene.compare("event_stream_resume");
}

/// A channel without positions cannot catch up.
#[tokio::test(flavor = "multi_thread")]
async fn slow() {
    let node = node().set("server.send_buffer", "64 KiB").start().await;
    let mut scene = Scene::new(&node);
    scene.play("narrow\nGET /sse?channel=plain:a HTTP/1.1 | Authorization: Bearer <alice>\n<\n<").await;
    for _ in 0..40 {
        node.publish("plain:a", json!("x".repeat(60_000))).await;
    }
    scene.record("# forty publications of 60 kB");
    scene.play("until event: gap\npublish plain:a \"after\"\nuntil after").await;
    scene.compare("event_stream_slow");
}

#[tokio::test(flavor = "multi_thread")]
async fn pings() {
    let node = node().set("client.ping_interval", "1s").set("client.pong_timeout", "500ms").start().await;
    let mut scene = Scene::new(&node);
    scene.play("GET /sse?channel=news HTTP/1.1 | Authorization: Bearer <alice>\n<\n<\n<").await;
    scene.compare("event_stream_pings");
}

#[tokio::test(flavor = "multi_thread")]
async fn expiring_tokens() {
    let node = node().set("client.expiry_grace", "1s").start().await;
    let brief = Claims::user("alice").expires_in(Duration::from_secs(3));
    let mut scene = Scene::new(&node).token("brief", &brief);
    scene
        .play(
            r#"
            GET /sse?channel=news HTTP/1.1 | Authorization: Bearer <brief>
            <
            <
            # announced, then over
            <
            <
            <
            end
            "#,
        )
        .await;
    scene.compare("event_stream_expiring_tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let node = node().start().await;
    let expired = Claims::user("alice").expired_since(Duration::from_secs(120));
    let mut scene = Scene::new(&node).token("expired", &expired);
    let channels: Vec<_> = (0..65).map(|n| format!("channel=c{n}")).collect();
    let bearer = "Authorization: Bearer <alice>";
    for request in [
        "GET /sse?channel=news HTTP/1.1".to_owned(),
        "GET /sse?channel=news HTTP/1.1 | Authorization: Bearer wrong".to_owned(),
        "GET /sse?channel=news HTTP/1.1 | Authorization: Bearer <expired>".to_owned(),
        format!("GET /sse?channel=news HTTP/1.1 | {bearer} | Origin: https://other.example"),
        format!("GET /sse?channel=news HTTP/1.1 | {bearer} | Accept: text/html"),
        format!("GET /sse HTTP/1.1 | {bearer}"),
        format!("GET /sse?channel=a%20b HTTP/1.1 | {bearer}"),
        format!("GET /sse?channel=closed:a HTTP/1.1 | {bearer}"),
        format!("GET /sse?channel=unknown:a HTTP/1.1 | {bearer}"),
        format!("GET /sse?{} HTTP/1.1 | {bearer}", channels.join("&")),
        format!("GET /sse?channel=news&token=x HTTP/1.1 | {bearer}"),
        format!("GET /sse?channel=news HTTP/1.1 | {bearer} || x"),
        // Comes back though its last event said not to.
        "GET /sse?channel=news HTTP/1.1 | Last-Event-ID: stop".to_owned(),
        "GET /sse?channel=news&lastEventId=stop HTTP/1.1".to_owned(),
        format!("HEAD /sse?channel=news HTTP/1.1 | {bearer}"),
        format!("POST /sse?channel=news HTTP/1.1 | {bearer}"),
    ] {
        scene.play(&request).await;
    }
    scene.compare("event_stream_refusals");
}
