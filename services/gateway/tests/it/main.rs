//! The real binary, as processes, with real clients and a real redis-server.
#![allow(clippy::unwrap_used, missing_docs)]

mod accept_rate;
mod bad_input;
mod clients;
mod command_rate;
mod dev;
mod drain;
mod event_streams;
mod exclude;
mod failover;
mod fanout;
mod faults;
mod follow;
mod leader_term;
mod lost_tail;
mod max_age;
mod methods;
mod metrics;
mod order;
mod payload;
mod public_metrics;
mod quotas;
mod rebalance;
mod refusals;
mod resume;
mod retention;
mod server_api;
mod traces;
mod unfinished;
mod windows;

use std::time::Duration;

use fanway_testkit::node::{Builder, Node};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::token::Claims;

/// What a test waits for a thing that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node to be, with quick clocks.
fn node() -> Builder {
    Node::builder(env!("CARGO_BIN_EXE_fanway"))
        .set("drain.propagation_delay", "0s")
        .set("drain.window", "1s")
        .set("client.position_check", "1s")
}

/// A node to be, of the fleet `test` on this Redis.
fn fleet(redis: &RedisServer) -> Builder {
    node().redis(&redis.url(), "test").set("redis.probe_interval", "500ms")
}

/// So many nodes of one fleet.
async fn nodes(redis: &RedisServer, count: usize) -> Vec<Node> {
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        nodes.push(fleet(redis).start().await);
    }
    nodes
}

fn token(node: &Node) -> String {
    node.token(&Claims::user("alice"))
}
