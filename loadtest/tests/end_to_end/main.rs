//! The binary against a server that delivers well, and against ones that do not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod builds;
mod floor;
mod stand_in;

use std::process::Command;

use serde_json::Value;
use stand_in::{Mischief, StandIn};

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    json: Value,
}

async fn loadtest(arguments: String) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("result.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanway-loadtest"));
    let (scenario, options) = arguments.split_once(' ').unwrap();
    command.args([scenario, "--json"]).arg(&json).args(options.split(' '));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        json: std::fs::read(&json).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap()),
    }
}

async fn fanout(transport: &str, mischief: Mischief) -> Run {
    let server = StandIn::start(mischief).await;
    let arguments = format!(
        "fanout --url {} --api-key key --transport {transport} --connections 20 --publications 30 --rate 300 --settle 1s",
        server.url
    );
    loadtest(arguments).await
}

#[tokio::test]
async fn a_good_server_passes_over_every_transport() {
    for transport in ["websocket", "sse", "plain"] {
        let Run { code, stdout, stderr, json } = fanout(transport, Mischief::None).await;
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        assert_eq!(json["integrity"]["delivered"], 600, "{json}");
        assert_eq!(json["received"]["count"], 600);
        assert_eq!(json["confirmed"], 30);
        assert!(json["delivered_per_second"].as_f64().unwrap() > 1000.0, "{json}");
        assert!(stdout.contains("every client, every publication, once, in order"), "{stdout}");
    }
}

#[tokio::test]
async fn every_kind_of_wrong_delivery_fails_the_run() {
    for (transport, mischief, kind) in [
        ("websocket", Mischief::Lose, "missing"),
        ("sse", Mischief::Lose, "missing"),
        ("websocket", Mischief::Repeat, "duplicates"),
        ("sse", Mischief::Repeat, "duplicates"),
        ("websocket", Mischief::Swap, "reordered"),
        ("sse", Mischief::Swap, "reordered"),
        ("plain", Mischief::Lose, "missing"),
    ] {
        let Run { code, stdout, stderr, json } = fanout(transport, mischief).await;
        assert_eq!(code, Some(1), "{mischief:?}: {stdout}{stderr}");
        for counted in ["missing", "duplicates", "reordered", "unknown"] {
            assert_eq!(json["integrity"][counted], u64::from(counted == kind), "{mischief:?}: {json}");
        }
        assert!(stderr.contains("not every client received every publication"), "{stderr}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_early_fails_the_run_and_misses_the_rest() {
    for transport in ["websocket", "sse"] {
        let Run { code, json, .. } = fanout(transport, Mischief::Close).await;
        assert_eq!(code, Some(1));
        assert_eq!(json["connections"]["ended"], 1, "{json}");
        assert_eq!(json["integrity"]["missing"], 27, "{json}");
    }
}

#[tokio::test]
async fn idle_connections_are_held_and_counted() {
    let server = StandIn::start(Mischief::None).await;
    for channels in ["shared", "own"] {
        let arguments = format!("idle --url {} --connections 300 --channels {channels} --duration 300ms", server.url);
        let Run { code, stdout, stderr, json } = loadtest(arguments).await;
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        assert_eq!(json["connections"]["ready"], 300);
        assert_eq!(json["rss_per_connection"], 0.0);
        assert_eq!(json["measured_by"], "/metrics");
    }
}

#[tokio::test]
async fn what_cannot_be_done_says_so() {
    let server = StandIn::start(Mischief::None).await;
    for (arguments, reason) in [
        (format!("fanout --url {} --api-key wrong", server.url), "see --api-key"),
        ("fanout --url http://192.0.2.1:80".to_owned(), "--allow-remote"),
        ("idle --url http://127.0.0.1:1".to_owned(), "/metrics"),
        ("idle --spawn /bin/false".to_owned(), "the server ended"),
        ("idle --spawn /bin/false --transport plain".to_owned(), "for servers that run already"),
        (format!("many-channels --transport plain --url {}", server.url), "one channel per connection"),
        (format!("fanout --transport pusher --url {}", server.url), "ID:KEY:SECRET"),
        (format!("resume-storm --slices 2 --url {}", server.url), "--slices is for idle"),
        ("instructions --transport sse".to_owned(), "that --spawn starts"),
        ("compare --transport sse".to_owned(), "compare is over WebSocket"),
    ] {
        let Run { code, stderr, .. } = loadtest(arguments).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(reason), "{reason} in {stderr}");
    }
}
