//! Handshake, connect and refresh.

use std::time::Duration;

use fanway_testkit::token::Claims;

use crate::node;
use crate::scene::Scene;

/// The headers of an upgrade.
const UPGRADE: &str = "Connection: Upgrade | Upgrade: websocket | Sec-WebSocket-Version: 13 | \
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

#[tokio::test(flavor = "multi_thread")]
async fn handshake() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    for request in [
        format!("GET /connection/websocket HTTP/1.1 | {UPGRADE}"),
        format!("GET /connection/websocket HTTP/1.1 | {UPGRADE} | Sec-WebSocket-Protocol: centrifuge-json"),
        format!("GET /connection/websocket HTTP/1.1 | {UPGRADE} | Sec-WebSocket-Extensions: permessage-deflate"),
        format!("GET /connection/websocket HTTP/1.1 | {}", UPGRADE.replace(": 13", ": 8")),
        format!("GET /connection/websocket HTTP/1.1 | {UPGRADE} | Origin: https://other.example"),
        format!("GET /connection/websocket HTTP/1.1 | {UPGRADE} | Authorization: Bearer wrong"),
        "GET /connection/websocket HTTP/1.1".to_owned(),
        format!("POST /connection/websocket HTTP/1.1 | {UPGRADE}"),
    ] {
        scene.play(&request).await;
    }
    // The server ends this one at once.
    scene.play(&format!("GET /connection/websocket?format=protobuf HTTP/1.1 | {UPGRADE}\n<\nend")).await;
    scene.compare("client_handshake");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect() {
    let node = node().start().await;
    let expired = Claims::user("alice").expired_since(Duration::from_secs(120));
    let forever = Claims::user("alice").without("exp").set("info", "hello");
    let anonymous = Claims::user("").channels(&["news"]);
    let subscribed = Claims::user("alice").channels(&["news", "plain:a"]);
    let unknown = Claims::user("alice").channels(&["unknown:a"]);
    let mut scene = Scene::new(&node).token("expired", &expired).token("forever", &forever);
    scene = scene.token("anonymous", &anonymous).token("subscribed", &subscribed).token("unknown", &unknown);
    scene
        .play(
            r#"
            socket token
            > {"id":1,"connect":{"token":"<alice>","name":"js","version":"5"}}
            <
            # a token that does not expire
            socket forever
            > {"id":1,"connect":{"token":"<forever>"}}
            <
            socket none
            > {"id":1,"connect":{}}
            <
            # nothing follows a refused connect
            > {"id":2,"ping":{}}
            socket expired
            > {"id":1,"connect":{"token":"<expired>"}}
            <
            socket wrong
            > {"id":1,"connect":{"token":"wrong"}}
            <
            end
            socket anonymous
            > {"id":1,"connect":{"token":"<anonymous>"}}
            <
            end
            # subscriptions by the server
            socket subscribed
            > {"id":1,"connect":{"token":"<subscribed>"}}
            <
            publish news 1
            <
            publish plain:a 2
            <
            # resumed
            socket again
            > {"id":1,"connect":{"token":"<subscribed>","subs":{"news":{"recover":true,"epoch":"<epoch-1>","offset":0}}}}
            <
            # not resumed: at an offset that does not exist
            socket ahead
            > {"id":1,"connect":{"token":"<subscribed>","subs":{"news":{"recover":true,"epoch":"<epoch-1>","offset":9}}}}
            <
            socket unknown
            > {"id":1,"connect":{"token":"<unknown>"}}
            <
            socket filter
            > {"id":1,"connect":{"token":"<subscribed>","subs":{"news":{"tf":{"key":"a"}}}}}
            <
            "#,
        )
        .await;
    scene.compare("client_connect");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_anonymously() {
    let node = node().set("auth.allow_anonymous", true).set("default_namespace.subscribe", "anyone").start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            socket a
            > {"id":1,"connect":{}}
            <
            > {"id":2,"subscribe":{"channel":"news"}}
            <
            > {"id":3,"subscribe":{"channel":"plain:a"}}
            <
            > {"id":4,"publish":{"channel":"news","data":1}}
            <
            # a token that is refused does not make a client anonymous
            socket wrong
            > {"id":1,"connect":{"token":"wrong"}}
            <
            end
            "#,
        )
        .await;
    scene.compare("client_connect_anonymously");
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh() {
    let node = node().start().await;
    let expired = Claims::user("alice").expired_since(Duration::from_secs(120));
    let forever = Claims::user("alice").without("exp");
    let scene = Scene::new(&node).token("bob", &Claims::user("bob")).token("expired", &expired);
    let mut scene = scene.token("forever", &forever);
    scene
        .play(&super::connected(
            r#"
            > {"id":2,"refresh":{"token":"<alice>"}}
            <
            > {"id":3,"refresh":{"token":"<forever>"}}
            <
            > {"id":4,"refresh":{"token":"<expired>"}}
            <
            # of another user
            > {"id":5,"refresh":{"token":"<bob>"}}
            <
            end
            socket wrong
            > {"id":1,"connect":{"token":"<alice>"}}
            <
            > {"id":2,"refresh":{"token":"wrong"}}
            <
            end
            socket empty
            > {"id":1,"connect":{"token":"<alice>"}}
            <
            > {"id":2,"refresh":{}}
            <
            end
            "#,
        ))
        .await;
    scene.compare("client_refresh");
}
