//! `fanway dev`: every line it prints to try works as it is printed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanway_testkit::redis::RedisServer;

use super::PATIENCE;

/// A development node and what it said.
struct Dev {
    child: Child,
    said: Vec<String>,
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let port = fanway_testkit::node::free_port();
        Self::spawn(
            Command::new(env!("CARGO_BIN_EXE_fanway"))
                .args(["dev", "--listen", &format!("127.0.0.1:{port}")])
                .args(arguments),
        )
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = Vec::new();
        // The token line is the last of its block; the node says everything at once.
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let last = line.contains(" dev --redis-url ") && !line.ends_with('&');
            said.push(line);
            if last {
                break;
            }
        }
        assert!(said.iter().any(|line| line.starts_with("Fanway is running")), "{said:?}");
        Self { child, said }
    }

    fn line(&self, with: &str) -> &str {
        self.said.iter().map(|line| line.trim()).find(|line| line.contains(with)).unwrap()
    }
}

fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a line until it has printed a text, then ends it.
fn until_printed(line: &str, text: &str, meanwhile: impl FnOnce()) {
    let mut child = Command::new("sh").args(["-c", &format!("exec {line}")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let deadline = Instant::now() + PATIENCE;
    let mut before = lines.by_ref().take_while(|line| !line.starts_with("event: ready"));
    while before.next().is_some() {
        assert!(Instant::now() < deadline);
    }
    meanwhile();
    assert!(lines.any(|line| line.contains(text)), "{text} is printed");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn every_printed_line_works() {
    let node = Dev::start(&[]);
    let publish = node.line("/api/publish").to_owned();
    until_printed(node.line("curl -N"), r#""data":{"hello":"world"}"#, || {
        assert!(shell(&publish).contains(r#""offset":1"#));
    });
    assert!(shell(node.line(" publish --url ")).contains('2'));
    let polled = shell(node.line("/poll?channel=news"));
    assert!(polled.contains(r#""cursor":"2~"#), "{polled}");
    let token = shell(node.line(" token --user alice"));
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let page = shell(&format!("curl -sf {}", node.line("Console").trim_start_matches("Console").trim()));
    assert!(page.contains("<html"), "the console");
}

/// The status that curl is answered with, and the body. `host` is what the URL of a page would name.
fn asked_as(url: &str, host: &str, version: &str) -> (u16, String) {
    let line = format!("curl -s --max-time 20 {version} -H 'Host: {host}' -w '\\n%{{http_code}}' '{url}'");
    let answer = shell(&line);
    let (body, status) = answer.rsplit_once('\n').unwrap();
    (status.trim().parse().unwrap(), body.to_owned())
}

/// A page whose name resolves to this machine must not read the console's secrets, nor anything else.
#[test]
fn only_hosts_of_this_machine_and_allowed_ones_are_answered() {
    let node = Dev::start(&["--allow-host", "dev.example.test"]);
    let url = node.line("Console").trim_start_matches("Console").trim().trim_end_matches('/').to_owned();
    let port = url.rsplit(':').next().unwrap().to_owned();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for path in
            ["/", "/sse?channel=news", "/poll?channel=news&timeout=0", "/api/info", "/health/live", "/metrics", "/x"]
        {
            let (status, body) = asked_as(&format!("{url}{path}"), "evil.example", version);
            assert_eq!(status, 421, "{version} {path}: {body}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["error"]["reason"], "host_not_allowed", "{version} {path}");
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains("--allow-host evil.example"), "{message}");
        }
        for host in ["localhost", "127.0.0.1", "[::1]", "dev.example.test"] {
            for host in [host.to_owned(), format!("{host}:{port}")] {
                let (status, body) = asked_as(&format!("{url}/"), &host, version);
                assert_eq!(status, 200, "{version} {host}");
                assert!(body.contains("<html"), "{version} {host}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_joins_as_printed() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    tokio::task::spawn_blocking(move || {
        let first = Dev::start(&["--redis-url", &url]);
        let join = first.line(" dev --redis-url ").to_owned();
        // Its port is the first one's successor, which may be taken on a busy machine: any other will do.
        let (join, _) = join.rsplit_once(':').unwrap();
        let join = format!("exec env {join}:{}", fanway_testkit::node::free_port());
        let second = Dev::spawn(Command::new("sh").args(["-c", &join]));
        until_printed(second.line("curl -N"), "world", || {
            shell(first.line("/api/publish"));
        });
    })
    .await
    .unwrap();
    // The nodes are gone; nothing of them waits for Redis.
    tokio::time::timeout(Duration::from_secs(5), redis.flush()).await.unwrap();
}
