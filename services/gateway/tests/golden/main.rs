//! Golden recordings: the bytes that clients, back ends and other nodes receive, as snapshots.
//!
//! Each test plays scenes against the real binary and compares the whole exchange with `snapshots/*.snap`. A scene is a
//! script ([`scene`] lists its lines); the recording repeats the script and adds each received frame, chunk and response.
//! Values that differ from run to run (epochs, ids, times, tokens) are replaced by placeholders ([`names`]); everything
//! else is compared byte by byte. One file per surface:
//!
//! | File | Surface |
//! |---|---|
//! | [`client`] | client protocol over WebSocket: frames, commands, closes |
//! | [`event_stream`] | server-sent events over HTTP/1.1, HTTP/1.0 and HTTP/2 |
//! | [`poll`] | long and short polling |
//! | [`server_api`] | server API |
//! | [`operations`] | health endpoints, help texts of the metrics (their names, types and labels are in `metrics.txt`) |
//! | [`redis`] | keys, envelopes and control messages in Redis |
//!
//! A difference or a missing snapshot fails the test and writes nothing (`.config/insta.yaml`). To review changes one by
//! one: `cargo insta test --workspace --test golden`, then `cargo insta review`. To accept all of them:
//! `INSTA_UPDATE=always cargo test --workspace --test golden`, then read the diff. A changed snapshot is a changed
//! protocol: its commit names who is affected.
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod event_stream;
mod names;
mod operations;
mod poll;
mod redis;
mod scene;
mod server_api;
mod wire;

use fanway_testkit::node::{Builder, Node};
use fanway_testkit::redis::RedisServer;

/// A node to be configured, with short clocks and one namespace of each kind.
fn node() -> Builder {
    Node::builder(env!("CARGO_BIN_EXE_fanway"))
        .set("drain.propagation_delay", "0s")
        .set("drain.window", "1s")
        .set("client.position_check", "1s")
        // Without history.
        .namespace("plain", "subscribe", "authenticated")
        .namespace("plain", "publish", "authenticated")
        // Two publications kept.
        .namespace("short", "subscribe", "authenticated")
        .namespace("short", "history_size", 2)
        .namespace("short", "history_ttl", "5m")
        // For tokens with grants.
        .namespace("closed", "history_size", 10)
        .namespace("closed", "history_ttl", "5m")
}

/// The same, in the fleet `test` on this Redis.
fn fleet(redis: &RedisServer) -> Builder {
    node().redis(&redis.url(), "test").set("redis.probe_interval", "500ms")
}

/// Compares a recording with its snapshot.
fn compare(name: &str, recording: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, recording));
}
