//! A node: the gateway's own binary as a process.
//!
//! The caller names the binary (`env!("CARGO_BIN_EXE_fanway")`). A node never outlives its [`Node`]; when a test fails,
//! the end of the node's log is printed.

mod builder;
mod metrics;

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::dial::{Certificate, Target};
use crate::token::{Claims, mint};
use crate::{http, wait};
pub use builder::{Builder, Setting};

/// How long a node may take to become ready. Generous: debug builds on a loaded machine.
const STARTUP: Duration = Duration::from_secs(30);
/// How many lines of log a failed test prints.
const PRINTED_LINES: usize = 200;

/// The secret of HS256 tokens, unless the builder sets another key.
pub const SECRET: &str = "testkit-secret-of-at-least-32-bytes";
/// The key of the server API, unless the builder sets another.
pub const API_KEY: &str = "testkit-api-key-of-at-least-32-bytes";

/// A running node.
pub struct Node {
    child: Child,
    command: Launch,
    /// Holds the configuration, certificate and log.
    directory: TempDir,
    port: u16,
    /// Where the server API, metrics and health are, if not on `port`.
    internal_port: Option<u16>,
    certificate: Option<Certificate>,
    api_key: String,
}

/// What starts the process, again if need be.
struct Launch {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Launch {
    fn spawn(&self, log: File) -> Child {
        Command::new(&self.binary)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()))
    }
}

impl Node {
    /// A node of a binary, to be configured.
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        Builder::new(binary.into())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://...` or `https://...` of a path.
    pub fn url(&self, path: &str) -> Target {
        self.target("http", path)
    }

    /// `ws://...` or `wss://...` of the client protocol.
    pub fn websocket_url(&self) -> Target {
        self.target("ws", "/connection/websocket")
    }

    /// The file with the settings.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("fanway.toml")
    }

    fn target(&self, scheme: &str, path: &str) -> Target {
        let internal = ["/api", "/health/", "/metrics"].iter().any(|beginning| path.starts_with(beginning));
        if let Some(port) = self.internal_port.filter(|_| internal) {
            return Target::from(format!("{scheme}://127.0.0.1:{port}{path}"));
        }
        match &self.certificate {
            None => Target::from(format!("{scheme}://127.0.0.1:{}{path}", self.port)),
            Some(certificate) => {
                Target::from(format!("{scheme}s://127.0.0.1:{}{path}", self.port)).trusting(certificate.der.clone())
            }
        }
    }

    /// A token with [`SECRET`].
    pub fn token(&self, claims: &Claims) -> String {
        mint(SECRET, claims)
    }

    /// A request of the server API: `api("publish", json!({...}))`.
    pub async fn api(&self, method: &str, body: Value) -> http::Response {
        http::post_json(self.url(&format!("/api/{method}")), &[("x-api-key", &self.api_key)], &body).await
    }

    /// Publishes over the server API and returns offset and epoch; panics unless it succeeds.
    pub async fn publish(&self, channel: &str, data: Value) -> (u64, String) {
        let response = self.api("publish", serde_json::json!({"channel": channel, "data": data})).await;
        assert_eq!(response.status, 200, "publish: {}", response.text());
        let body = response.json();
        let result = body.get("result").unwrap_or_else(|| panic!("publish: {body}"));
        (result["offset"].as_u64().unwrap_or(0), result["epoch"].as_str().unwrap_or_default().to_owned())
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes.
    pub fn rss(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the node runs");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("VmRSS is a number") * 1024
    }

    /// The sum of a metric's series that have these labels; `None` when there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        metrics::sum(&http::get(self.url("/metrics"), &[]).await.text(), name, labels)
    }

    /// Waits until the node answers its readiness probe with 200.
    pub async fn ready(&mut self) {
        if let Err(reason) = self.try_ready().await {
            panic!("the node is not ready: {reason}");
        }
    }

    async fn try_ready(&mut self) -> Result<(), String> {
        let target = self.url("/health/ready");
        let end = std::time::Instant::now() + STARTUP;
        let mut last = String::from("no answer yet");
        while std::time::Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("the node is a child") {
                return Err(format!("it exited with {status}: {}", self.log_tail()));
            }
            let step = Duration::from_secs(1);
            match http::request(::http::Method::GET, &target, &[], bytes::Bytes::new(), step).await {
                Ok(response) if response.status == 200 => return Ok(()),
                Ok(response) => last = format!("{} {}", response.status, response.text()),
                Err(failure) => last = format!("{failure:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(last)
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM; [`Node::exited`] waits for the end.
    pub fn term(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the process to end by itself.
    pub async fn exited(&mut self, deadline: Duration) -> ExitStatus {
        let child = &mut self.child;
        wait::within(deadline, "the node exits", async || child.try_wait().expect("the node is a child")).await
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the node is a child").is_none()
    }

    /// Freezes the process (SIGSTOP).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts the process again after its end, with the same settings on the same port, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = self.command.spawn(log_file(&self.directory));
        self.ready().await;
    }

    /// Everything the node has written to stdout and stderr.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.directory.path().join("log")).expect("the log can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(PRINTED_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the node on port {} ---\n{}\n---", self.port, self.log_tail());
        }
    }
}

fn log_file(directory: &TempDir) -> File {
    let path = directory.path().join("log");
    File::options().create(true).append(true).open(path).expect("the log can be written")
}

/// A port that is free now. Another process may take it before its use; whoever uses it tries again then.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

#[cfg(test)]
mod tests;
