//! HAProxy with the published configuration: only the addresses are the test's own.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use fanway_testkit::node::free_port;
use fanway_testkit::{http, wait};
use tempfile::TempDir;

use super::Process;

const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/haproxy/haproxy.cfg");

pub(crate) struct Balancer {
    port: u16,
    metrics: u16,
    servers: usize,
    _process: Process,
    _directory: TempDir,
}

impl Balancer {
    /// In front of nodes on these ports, once they are ready.
    pub(crate) fn start(ports: &[u16]) -> Self {
        let (port, metrics) = (free_port(), free_port());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, configuration(port, metrics, ports)).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().expect("haproxy is installed: deploy/scripts/setup.sh");
        Self { port, metrics, servers: ports.len(), _process: Process(process), _directory: directory }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits until new connections go to these nodes and to no others.
    pub(crate) async fn serves_with(&self, wanted: Range<usize>) {
        let wanted: Vec<usize> = wanted.collect();
        wait::until_async(&format!("HAProxy serves with {wanted:?}"), async || {
            (self.up().await? == wanted).then_some(())
        })
        .await;
    }

    /// Numbers of the nodes that it has found ready.
    async fn up(&self) -> Option<Vec<usize>> {
        let target = format!("http://127.0.0.1:{}/metrics", self.metrics).into();
        let answer = http::request(::http::Method::GET, &target, &[], Default::default(), wait::PATIENCE).await.ok()?;
        let text = answer.text();
        let is_up = |number: &usize| {
            let series =
                format!("haproxy_server_status{{proxy=\"gateways\",server=\"gateway-{}\",state=\"UP\"}} 1", number + 1);
            text.lines().any(|line| line == series)
        };
        Some((0..self.servers).filter(is_up).collect())
    }
}

/// Debian has it where not everybody looks.
fn program() -> &'static str {
    const SYSTEM: &str = "/usr/sbin/haproxy";
    if Path::new(SYSTEM).exists() { SYSTEM } else { "haproxy" }
}

/// The published file with other addresses.
fn configuration(port: u16, metrics: u16, nodes: &[u16]) -> String {
    let published = std::fs::read_to_string(PUBLISHED).unwrap();
    let mut text = String::new();
    let mut servers =
        nodes.iter().enumerate().map(|(at, node)| format!("    server gateway-{} 127.0.0.1:{node}\n", at + 1));
    let mut replaced = 0;
    for line in published.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        match (word, line.trim()) {
            ("server", _) => text.extend(servers.by_ref()),
            (_, "bind :8080") => text += &format!("    bind 127.0.0.1:{port}\n"),
            (_, "bind :8404") => text += &format!("    bind 127.0.0.1:{metrics}\n"),
            _ => {
                text = text + line + "\n";
                continue;
            }
        }
        replaced += 1;
    }
    assert_eq!(replaced, 4, "two addresses and two servers in {PUBLISHED}");
    text
}
