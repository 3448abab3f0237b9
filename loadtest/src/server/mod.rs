//! The server's side of a measurement: what it uses, and starting it.

mod spawn;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::http::Client;
use crate::target::Target;
pub use spawn::Server;

/// Where the server's usage is read.
pub enum Gauge {
    /// `/proc` of a process of this machine.
    Process(u32),
    /// Its own `/metrics`.
    Metrics(Box<Client>),
}

/// What the server uses at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// CPU time since its start, in seconds. Advances in steps of 10 ms.
    pub cpu: f64,
}

impl Gauge {
    /// Of a process, if its id is known, or else of the server's metrics.
    pub fn new(pid: Option<u32>, target: &Target) -> Self {
        match pid {
            Some(pid) => Self::Process(pid),
            None => Self::Metrics(Box::new(Client::new(target, Duration::from_secs(5)))),
        }
    }

    /// Where the figures come from.
    pub fn source(&self) -> String {
        match self {
            Self::Process(pid) => format!("/proc/{pid}"),
            Self::Metrics(_) => "/metrics".to_owned(),
        }
    }

    /// Reads now.
    pub fn read(&mut self) -> anyhow::Result<Usage> {
        match self {
            Self::Process(pid) => process(&Path::new("/proc").join(pid.to_string())),
            Self::Metrics(client) => {
                let response = client.get("/metrics").context("/metrics")?;
                if response.status != 200 {
                    bail!("/metrics answers {} (give --server-pid instead)", response.status);
                }
                metrics(&String::from_utf8_lossy(&response.body))
            }
        }
    }

    /// Reads once memory has come to rest: two readings a quarter of a second apart within 0.1 %, or after 5 seconds.
    pub fn read_settled(&mut self) -> anyhow::Result<Usage> {
        let end = Instant::now() + Duration::from_secs(5);
        let mut last = self.read()?;
        loop {
            std::thread::sleep(Duration::from_millis(250));
            let usage = self.read()?;
            if usage.rss.abs_diff(last.rss) <= usage.rss / 1000 || Instant::now() > end {
                return Ok(usage);
            }
            last = usage;
        }
    }
}

fn process(directory: &Path) -> anyhow::Result<Usage> {
    let read = |name: &str| {
        std::fs::read_to_string(directory.join(name)).with_context(|| format!("{}/{name}", directory.display()))
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let (status, stat) = (read("status")?, read("stat")?);
    let rss = rss(&status).context("no VmRSS: the process has ended")?;
    let cpu = cpu_ticks(&stat).context("stat is not as proc(5) says")? as f64 / ticks;
    Ok(Usage { rss, cpu })
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// User and system time, the 14th and 15th fields. The second is the command's name in parentheses, with anything in it.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn metrics(text: &str) -> anyhow::Result<Usage> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).with_context(|| format!("/metrics has no {name}"))
    };
    Ok(Usage { rss: value("process_resident_memory_bytes")? as u64, cpu: value("process_cpu_seconds_total")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_it_is_documented() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 4 0 100 200 300";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert_eq!(rss("Name:\tx\nVmRSS:\t    2048 kB\nVmData:\t1 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(rss("Name:\tx\nState:\tZ (zombie)\n"), None);
        let usage = Gauge::Process(std::process::id()).read().unwrap();
        assert!(usage.rss > 100_000 && usage.cpu >= 0.0);
    }

    #[test]
    fn metrics_are_read_by_their_whole_name() {
        let text = "# HELP process_cpu_seconds_total x\nprocess_cpu_seconds_total 1.5\nprocess_resident_memory_bytes_max 9\n\
                    process_resident_memory_bytes 4096\n";
        assert_eq!(metrics(text).unwrap(), Usage { rss: 4096, cpu: 1.5 });
        assert!(metrics("process_cpu_seconds_total 1\n").is_err());
    }
}
