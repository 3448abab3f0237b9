//! The process side, with a stand-in binary: a script that serves with Python what it was configured with.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A "gateway" that answers every GET with 200 and its configuration file, and ends on SIGTERM with code 7.
const STAND_IN: &str = r#"#!/usr/bin/env python3
import http.server, os, re, signal, sys
assert sys.argv[1:3] == ["serve", "--config"], sys.argv
config = open(sys.argv[3]).read()
host, port = re.search(r'server.listen = "(.*):(\d+)"', config).groups()
# Not sys.exit: an exception of a handler is lost if it comes while Python runs a callback of its own.
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"up 2\n" if self.path == "/metrics" else config.encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
print("serving", flush=True)
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"#;

#[tokio::test]
async fn a_node_starts_stops_freezes_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("stand-in");
    std::fs::write(&binary, STAND_IN).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();

    let mut node = Node::builder(&binary)
        .redis("redis://127.0.0.1:1/", "t1")
        .namespace("news", "history_size", 5)
        .set("client.ping_interval", "1s")
        .unset("api.keys")
        .start()
        .await;
    let config = http::get(node.url("/config"), &[]).await.text();
    for line in [
        "broker.engine = \"redis\"\n",
        "redis.fleet = \"t1\"\n",
        "namespaces.news.history_size = 5\n",
        "client.ping_interval = \"1s\"\n",
    ] {
        assert!(config.contains(line), "{line} in {config}");
    }
    assert!(!config.contains("api.keys"));
    assert_eq!(node.metric("up", &[]).await, Some(2.0));
    assert!(node.rss() > 1024 * 1024);

    node.pause();
    let root = node.url("/");
    let probe = http::request(::http::Method::GET, &root, &[], bytes::Bytes::new(), Duration::from_millis(200)).await;
    assert!(matches!(probe, Err(http::Failure::TimedOut)));
    node.resume();
    node.ready().await;

    node.term();
    assert_eq!(node.exited(Duration::from_secs(10)).await.code(), Some(7));
    let port = node.port();
    node.restart().await;
    assert_eq!(node.port(), port);
    assert_eq!(node.log().matches("serving").count(), 2);
    node.kill();
    assert!(!node.runs());
}

#[tokio::test]
#[should_panic(expected = "exited with exit status: 1")]
async fn a_node_that_does_not_start_fails_the_test_with_its_log() {
    Node::builder("/bin/false").start().await;
}
