//! Prometheus, scraping the nodes every second: what it says of reconnects is what people see.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanway_testkit::node::free_port;
use fanway_testkit::{http, poll, wait};
use serde_json::Value;
use tempfile::TempDir;

use super::Process;

pub(crate) struct Prometheus {
    port: u16,
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    /// Scrapes nodes on these ports, as soon as they are there.
    pub(crate) fn start(ports: &[u16]) -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let targets: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let configuration = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs: [{{ job_name: fanway, static_configs: [{{ targets: {targets:?} }}] }}]\n"
        );
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, configuration).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let process = command.spawn().expect("prometheus is installed: deploy/scripts/setup.sh");
        Self { port, _process: Process(process), _directory: directory }
    }

    /// Now, in seconds since 1970.
    pub(crate) fn now(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    }

    /// The highest rate of streams opened anywhere since then. Polls come back all the time, and are not among them.
    pub(crate) async fn peak_of_reconnects(&self, since: f64, over: Duration) -> f64 {
        // A rate needs as long to show all that happened, and the first one ends that long after the beginning.
        let until = self.now().max(since + over.as_secs_f64() + 1.0);
        wait::until_async("all that happened is scraped", async || {
            let oldest = self.query("query", "min(timestamp(fanway_draining))", "").await?;
            (number(&oldest[0]["value"][1])? > until).then_some(())
        })
        .await;
        let opened = "fanway_connections_opened_total{transport=~\"websocket|sse\"}";
        let rate = format!("sum(rate({opened}[{}s]))", over.as_secs());
        let range = format!("&start={}&end={}&step=1", since + over.as_secs_f64(), self.now());
        let answer = self.query("query_range", &rate, &range).await.expect("the nodes were scraped");
        let values = answer[0]["values"].as_array().unwrap_or_else(|| panic!("{answer}"));
        values.iter().filter_map(|sample| number(&sample[1])).fold(0.0, f64::max)
    }

    async fn query(&self, kind: &str, query: &str, more: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/{kind}?query={}{more}", self.port, poll::escape(query));
        let target = url.into();
        let answer = http::request(::http::Method::GET, &target, &[], Default::default(), wait::PATIENCE).await.ok()?;
        let result = answer.json()["data"]["result"].take();
        result.as_array().is_some_and(|series| !series.is_empty()).then_some(result)
    }
}

/// A sample's value, which is a text.
fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}
