//! Long and short polling.

use std::time::Duration;

use fanway_testkit::redis::RedisServer;
use fanway_testkit::token::Claims;
use fanway_testkit::{http, wait};

use crate::scene::Scene;
use crate::{fleet, node};

#[tokio::test(flavor = "multi_thread")]
async fn poll() {
    let node = node().set("client.recovery_limit", 2).start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            # without a cursor
            GET /poll?channel=plain:a&channel=news HTTP/1.1 | Authorization: Bearer <alice>
            # A poll is answered from where the node's subscription is: that is known by what this client receives.
            socket a
            > {"id":1,"connect":{"token":"<alice>"}}
            <
            > {"id":2,"subscribe":{"channel":"news"}}
            <
            > {"id":3,"subscribe":{"channel":"short:a"}}
            <
            # short polling, nothing new
            GET /poll?channel=news&timeout=0&cursor=2~x7wN<epoch-1>.0 HTTP/1.1 | Authorization: Bearer <alice>
            # long polling, nothing new
            GET /poll?channel=news&timeout=0.2&cursor=2~x7wN<epoch-1>.0 HTTP/1.1 | Authorization: Bearer <alice>
            # without positions
            GET /poll?channel=plain:a&timeout=0&cursor=2~87Yc- HTTP/1.1 | Authorization: Bearer <alice>
            # answered by the publication that it waits for
            later GET /poll?channel=news&timeout=50&cursor=2~x7wN<epoch-1>.0 HTTP/1.1 | Authorization: Bearer <alice>
            connections 2
            api publish {"channel":"news","data":[1, 2.50],"tags":{"b":"2","a":"1"}}
            <
            on a
            <
            publish news 2
            <
            publish short:a "a"
            <
            # several publications, two channels
            GET /poll?channel=news&channel=short:a&timeout=0&cursor=2~x7wN<epoch-1>.0~bFvk<epoch-2>.0 HTTP/1.1 | Authorization: Bearer <alice>
            # version 1
            GET /poll?channel=news&timeout=0&cursor=1~<epoch-1>.1 HTTP/1.1 | Authorization: Bearer <alice>
            on a
            publish short:a "b"
            <
            publish short:a "c"
            <
            # a gap, and publications of a channel without one
            GET /poll?channel=news&channel=short:a&timeout=0&cursor=2~x7wN<epoch-1>.1~bFvk<epoch-2>.0 HTTP/1.1 | Authorization: Bearer <alice>
            GET /poll?channel=news&channel=short:a&timeout=0&cursor=2~x7wNaaaaaaaaaaaaaaaaaaaa.1~bFvk- HTTP/1.1 | Authorization: Bearer <alice>
            on a
            publish news 3
            <
            # more than a poll may carry
            GET /poll?channel=news&timeout=0&cursor=2~x7wN<epoch-1>.0 HTTP/1.1 | Authorization: Bearer <alice>
            # HTTP/1.0
            GET /poll?channel=news&timeout=0&cursor=2~x7wN<epoch-1>.3 HTTP/1.0 | Authorization: Bearer <alice>
            "#,
        )
        .await;
    scene.compare("poll");
}

#[tokio::test(flavor = "multi_thread")]
async fn drain() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            GET /poll?channel=news HTTP/1.1 | Authorization: Bearer <alice>
            later GET /poll?channel=news&timeout=50&cursor=2~x7wN<epoch-1>.0 HTTP/1.1 | Authorization: Bearer <alice> | Connection: close
            connections 1
            term
            <
            end
            "#,
        )
        .await;
    scene.compare("poll_drain");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let node = node().start().await;
    let expired = Claims::user("alice").expired_since(Duration::from_secs(120));
    let mut scene = Scene::new(&node).token("expired", &expired);
    let channels: Vec<_> = (0..65).map(|n| format!("channel=c{n}")).collect();
    let bearer = "Authorization: Bearer <alice>";
    for request in [
        "GET /poll?channel=news HTTP/1.1".to_owned(),
        "GET /poll?channel=news HTTP/1.1 | Authorization: Bearer wrong".to_owned(),
        "GET /poll?channel=news HTTP/1.1 | Authorization: Bearer <expired>".to_owned(),
        format!("GET /poll?channel=news HTTP/1.1 | {bearer} | Origin: https://other.example"),
        format!("GET /poll HTTP/1.1 | {bearer}"),
        format!("GET /poll?channel= HTTP/1.1 | {bearer}"),
        format!("GET /poll?channel=closed:a HTTP/1.1 | {bearer}"),
        format!("GET /poll?channel=unknown:a HTTP/1.1 | {bearer}"),
        format!("GET /poll?{} HTTP/1.1 | {bearer}", channels.join("&")),
        format!("GET /poll?channel=news&cursor=x HTTP/1.1 | {bearer}"),
        format!("GET /poll?channel=news&cursor=stop HTTP/1.1 | {bearer}"),
        format!("GET /poll?channel=news&timeout=x HTTP/1.1 | {bearer}"),
        format!("GET /poll?channel=news HTTP/1.1 | {bearer} || x"),
        format!("HEAD /poll?channel=news HTTP/1.1 | {bearer}"),
        format!("POST /poll?channel=news HTTP/1.1 | {bearer}"),
        "OPTIONS /poll?channel=news HTTP/1.1 | Origin: https://other.example".to_owned(),
    ] {
        scene.play(&request).await;
    }
    scene.compare("poll_refusals");
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_outage() {
    let mut redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    redis.stop().await;
    wait::until_async("the outage is noticed", || async {
        (http::get(node.url("/health/broker"), &[]).await.status == 503).then_some(())
    })
    .await;
    let mut scene = Scene::new(&node);
    scene.play("GET /poll?channel=news&timeout=0 HTTP/1.1 | Authorization: Bearer <alice>").await;
    scene.compare("poll_broker_outage");
}
