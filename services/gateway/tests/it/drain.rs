//! SIGTERM: connections are closed over the window, with advice, and nothing is lost. SIGUSR1: the same, and the node stays.

use std::collections::HashSet;
use std::process::{Command, Output};
use std::time::Duration;

use fanway_testkit::node::{API_KEY, Node};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::{http, sse, wait, websocket};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, fleet, node, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_gives_its_connections_away() {
    let redis = RedisServer::start().await;
    let mut node = fleet(&redis).set("drain.propagation_delay", "2s").set("drain.window", "1s").start().await;
    let token = token(&node);
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = websocket::Client::connect(node.websocket_url(), &token).await;
        socket.subscribe("news").await;
        sockets.push(socket);
    }
    let target = node.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&token).send().await.unwrap();
    stream.next_event().await;
    let poll = {
        let target = node.url("/poll").with_query("channel=news&timeout=50&cursor=2~");
        let bearer = format!("Bearer {token}");
        tokio::spawn(async move { http::get(target, &[("authorization", &bearer)]).await.status })
    };
    node.term();
    wait::until_async("not ready", || async {
        (http::get(node.url("/health/ready"), &[]).await.status == 503).then_some(())
    })
    .await;
    // Until the load balancers have heard it, it still serves.
    let mut late = websocket::Client::connect(node.websocket_url(), &token).await;
    node.publish("news", json!("to the last")).await;
    for socket in &mut sockets {
        assert_eq!(socket.next_publication().await.data, json!("to the last"));
    }
    for socket in &mut sockets {
        assert_eq!(socket.closed().await.code(), Some(3001));
    }
    assert_eq!(late.closed().await.code(), Some(3001));
    stream.ended_within(PATIENCE).await;
    assert!(stream.retry().is_some(), "told when to come back");
    assert_eq!(poll.await.unwrap(), 200);
    let status = node.exited(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
}

/// Event streams are told different times to come back, and a client that comes while the node drains is told too.
#[tokio::test(flavor = "multi_thread")]
async fn advice_is_spread() {
    let mut node = node().set("drain.window", "500ms").start().await;
    let token = token(&node);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let target = node.url("/sse").with_query("channel=news");
        let mut stream = sse::Request::to(target).bearer(&token).send().await.unwrap();
        stream.next_event().await;
        streams.push(stream);
    }
    let bearer = format!("Bearer {token}");
    let first = http::get(node.url("/poll").with_query("channel=news"), &[("authorization", &bearer)]).await.json();
    let query = format!("channel=news&timeout=50&cursor={}", first["cursor"].as_str().unwrap());
    let polls: Vec<_> = (0..20)
        .map(|_| {
            let (target, bearer) = (node.url("/poll").with_query(&query), bearer.clone());
            tokio::spawn(async move { http::get(target, &[("authorization", &bearer)]).await.json() })
        })
        .collect();
    wait::until_async("all poll", || async {
        (node.metric("fanway_connections", &[]).await == Some(40.0)).then_some(())
    })
    .await;
    node.term();
    let mut times = HashSet::new();
    for stream in &mut streams {
        stream.ended_within(PATIENCE).await;
        times.insert(stream.retry().unwrap());
    }
    assert!(times.len() > 10 && times.iter().all(|retry| (1000..=3000).contains(retry)), "{times:?}");
    let mut times = HashSet::new();
    for poll in polls {
        times.insert(poll.await.unwrap()["retry"].as_u64().unwrap());
    }
    assert!(times.len() > 10 && times.iter().all(|retry| (500..=2000).contains(retry)), "{times:?}");
    node.exited(PATIENCE).await;
}

/// Who comes too late is counted once, by what they were refused for; a poll is answered, and counts as nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_too_late_is_counted_once() {
    let node = node().internal_listener().set("drain.propagation_delay", "1s").set("drain.window", "60s").start().await;
    let token = token(&node);
    // As long as they are there the drain goes on, ...
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(websocket::Client::connect(node.websocket_url(), &token).await);
    }
    // ... and new connections are no longer taken then; but these have asked half, which the delay leaves time to read.
    let ask = async |path: &str, token: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n");
        let mut asking = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
        asking.write_all(head.as_bytes()).await.unwrap();
        asking
    };
    let mut stream = ask("/sse?channel=news", &token).await;
    let mut stranger = ask("/sse?channel=news", "nonsense").await;
    let mut poll = ask("/poll?channel=news&timeout=50&cursor=2~", &token).await;
    let open = async || node.metric("fanway_sockets_open", &[("listener", "public")]).await;
    wait::until_async("all are there", || async { (open().await == Some(8.0)).then_some(()) }).await;
    node.term();
    wait::until_async("it drains", || async { (node.metric("fanway_draining", &[]).await == Some(1.0)).then_some(()) })
        .await;
    for (asking, answer) in [(&mut stream, "200 OK"), (&mut stranger, "401 "), (&mut poll, "200 OK")] {
        asking.write_all(b"\r\n").await.unwrap();
        let answered = rest(asking).await;
        assert!(answered.starts_with(&format!("HTTP/1.1 {answer}")), "{answered}");
    }
    let rejected = async |reason| node.metric("fanway_connections_rejected_total", &[("reason", reason)]).await;
    assert_eq!((rejected("draining").await, rejected("auth").await), (Some(1.0), Some(1.0)));
}

const JSON: &str = "Content-Type: application/json\r\n";

/// A back end that is in the middle of a request when the node ends loses no answer, and one that is not sees a connection
/// that ends between two requests.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_requests_of_back_ends_are_answered() {
    let mut node = node().internal_listener().set("drain.window", "0s").start().await;
    let target = node.url("/api/publish");
    let (mut busy, mut idle) =
        (TcpStream::connect(target.authority()).await.unwrap(), TcpStream::connect(target.authority()).await.unwrap());
    idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut idle, r#""live"}"#).await;
    let body = json!({ "channel": "news", "data": "the last" }).to_string();
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\n{JSON}Content-Length: {}",
        body.len()
    );
    busy.write_all(format!("{head}\r\nExpect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    until(&mut busy, "HTTP/1.1 100 Continue\r\n\r\n").await;

    node.term();
    assert_eq!(rest(&mut idle).await, "");
    wait::until_async("the listener is closed", || async {
        TcpStream::connect(target.authority()).await.is_err().then_some(())
    })
    .await;
    busy.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains(r#""offset":1"#), "{answer}");
    assert!(node.exited(PATIENCE).await.success());
}

/// Reads until this has come.
async fn until(stream: &mut TcpStream, end: &str) {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end.as_bytes()) {
            read.push(stream.read_u8().await.unwrap());
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "{end} has come");
}

/// What comes until the connection ends, which it does without a reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut rest)).await.expect("it ends").unwrap();
    rest
}

fn drain(node: &Node, arguments: &[String]) -> tokio::task::JoinHandle<Output> {
    let config = node.config();
    let arguments = arguments.to_vec();
    tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanway"));
        command.arg("drain").arg("--config").arg(config).args(arguments).output().unwrap()
    })
}

/// `fanway drain`: unready, drained, and still there until it is stopped; looked at to the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_drains_on_command_and_stays() {
    let mut node = node().internal_listener().set("drain.propagation_delay", "1s").start().await;
    let token = token(&node);
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(websocket::Client::connect(node.websocket_url(), &token).await);
    }
    let drained = drain(&node, &["--pid".to_owned(), node.pid().to_string()]);
    let reasons = async || http::get(node.url("/health/ready"), &[]).await.json()["reasons"].clone();
    wait::until_async("it drains", || async { (reasons().await == json!(["draining"])).then_some(()) }).await;
    for socket in &mut sockets {
        assert_eq!(socket.closed().await.code(), Some(3001));
    }
    let output = drained.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("is drained"), "{output:?}");
    // Its own listener is open to the end, that of the clients is not.
    assert_eq!(reasons().await, json!(["drained"]));
    assert_eq!(http::get(node.url("/health/live"), &[]).await.status, 200);
    assert_eq!(node.metric("fanway_draining", &[]).await, Some(1.0));
    assert_eq!(node.metric("fanway_connections", &[]).await, Some(0.0));
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", node.port())).await.is_err());
    assert!(node.runs());
    node.term();
    assert!(node.exited(PATIENCE).await.success());

    let nobody = drain(&node, &["--pid".to_owned(), node.pid().to_string()]).await.unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

/// A process that is no node would be killed by the signal.
#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_are_told_to_drain() {
    let node = node().start().await;
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let refused = drain(&node, &["--pid".to_owned(), other.id().to_string()]).await.unwrap();
    let alive = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(alive);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("does not run a node"), "{refused:?}");
}

/// Whoever does not go by itself is cut, or has deadlines; not before that the node is drained.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_has_no_connection_left() {
    let node = node()
        .internal_listener()
        .set("server.header_timeout", "60s")
        .set("drain.window", "100ms")
        .set("drain.close_timeout", "100ms")
        .start()
        .await;
    let _silent = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    // It does not see that it is closed.
    let _deaf = websocket::Client::connect(node.websocket_url(), &token(&node)).await;
    let open = async || node.metric("fanway_sockets_open", &[("listener", "public")]).await;
    wait::until_async("both are there", || async { (open().await == Some(2.0)).then_some(()) }).await;
    let arguments = ["--pid", &node.pid().to_string(), "--timeout", "60s"];
    let output = drain(&node, &arguments.map(str::to_owned)).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("is drained"), "{output:?}");
    assert_eq!(open().await, Some(0.0));
}

/// The node is found by its program; without a listener of its own there is only time to go by, or its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_found_by_its_program() {
    // A copy, which no other test runs.
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("fanway");
    // By another process: one that another test starts meanwhile must not inherit the file while it is being written.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_fanway")).arg(&binary).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(&binary);
    let nobody = command.arg("drain").output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no node"), "{nobody:?}");

    let mut node = Node::builder(&binary)
        .set("drain.propagation_delay", "0s")
        .set("drain.window", "100ms")
        .set("drain.close_timeout", "100ms")
        .start()
        .await;
    let mut socket = websocket::Client::connect(node.websocket_url(), &token(&node)).await;
    let config = node.config();
    let output = tokio::task::spawn_blocking(move || {
        Command::new(&binary).arg("drain").arg("--config").arg(config).output().unwrap()
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(socket.closed().await.code(), Some(3001));
    assert!(node.runs());
    node.term();
    assert!(node.exited(PATIENCE).await.success());
}
