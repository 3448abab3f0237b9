//! The codes and reasons with which the server ends connections, as far as [`super`]'s other files have none of them.

use std::time::Duration;

use fanway_testkit::node::Setting;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::token::Claims;
use serde_json::json;

use super::connected;
use crate::scene::Scene;
use crate::{fleet, node};

#[tokio::test(flavor = "multi_thread")]
async fn drain() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(&connected(
            r#"
            > {"id":2,"subscribe":{"channel":"news"}}
            <
            term
            <
            end
            "#,
        ))
        .await;
    scene.compare("client_close_drain");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale() {
    let node = node().set("client.connect_timeout", "400ms").start().await;
    let mut scene = Scene::new(&node);
    scene.play("socket a\n<\nend").await;
    scene.compare("client_close_stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn expired() {
    let node = node().set("client.expiry_grace", "1s").start().await;
    let brief = Claims::user("alice").expires_in(Duration::from_secs(1));
    let mut scene = Scene::new(&node).token("brief", &brief);
    scene.play(&connected("<\nend").replace("<alice>", "<brief>")).await;
    scene.compare("client_close_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn max_age() {
    let jitter = Setting::toml("0.0");
    let node = node().set("rebalance.max_connection_age", "1s").set("rebalance.max_connection_age_jitter", jitter);
    let node = node.start().await;
    let mut scene = Scene::new(&node);
    scene.play(&connected("<\nend")).await;
    scene.compare("client_close_max_age");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_commands() {
    let burst = 8;
    let node = node().set("client.command_burst", burst).set("client.command_rate", 1);
    let node = node.set("client.channel_limit", burst).start().await;
    let mut scene = Scene::new(&node);
    let commands: Vec<_> = (2..20).map(|id| format!(r#"{{"id":{id},"ping":{{}}}}"#)).collect();
    scene.play(&connected(&format!("> {}\n<\nend", commands.join("⏎")))).await;
    scene.compare("client_close_too_many_commands");
}

/// A message to a back end is not supported; earlier commands are answered.
#[tokio::test(flavor = "multi_thread")]
async fn message_to_a_back_end() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(&connected(
            r#"
            > {"id":2,"publish":{"channel":"news","data":1}}⏎{"send":{"data":1}}⏎{"id":3,"ping":{}}
            <
            <
            end
            "#,
        ))
        .await;
    scene.compare("client_close_message");
}

/// A subscription without positions cannot catch up.
#[tokio::test(flavor = "multi_thread")]
async fn slow() {
    let node = node().set("server.send_buffer", "64 KiB").start().await;
    let mut scene = Scene::new(&node);
    scene.play(&connected(r#"> {"id":2,"subscribe":{"channel":"plain:a"}}"#).replace("socket", "narrow\nsocket")).await;
    scene.play("<").await;
    for _ in 0..40 {
        node.publish("plain:a", json!("x".repeat(60_000))).await;
    }
    scene.record("# forty publications of 60 kB");
    scene.play("until close\nend").await;
    scene.compare("client_close_slow");
}

/// The test takes the part of another node, which has no connections.
#[tokio::test(flavor = "multi_thread")]
async fn rebalance() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).set("rebalance.heartbeat_interval", "400ms").set("rebalance.settle_time", "1s");
    let node = node.set("rebalance.shed_threshold", 1).start().await;
    let mut scene = Scene::new(&node);
    for name in ["b", "c", "d"] {
        scene.play(&connected("").replace("socket a", &format!("socket {name}"))).await;
    }
    let heartbeats = async {
        let heartbeat =
            r#"{"v":1,"heartbeat":{"node":"other","connections":0,"limit":100,"free":100,"draining":false}}"#;
        loop {
            redis.command(&format!("PUBLISH fw:test:n {heartbeat}")).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // The oldest goes first.
    tokio::select! {
        () = heartbeats => {}
        () = scene.play("on b\n<\nend") => {}
    }
    scene.compare("client_close_rebalance");
}
