//! What a server uses: memory and CPU time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::http::Client;
use crate::target::Target;

/// Where the server's usage is read.
pub enum Gauge {
    /// `/proc` of processes of this machine, added up.
    Processes(Vec<u32>),
    /// `/proc` of a process of which only one thread's time counts: process and thread id.
    Thread(u32, u32),
    /// Its own `/metrics`.
    Metrics(Box<Client>),
}

/// What the server uses at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// CPU time since its start, in seconds: exact from `/proc`, in steps of 10 ms from `/metrics`.
    pub cpu: f64,
}

impl Gauge {
    /// Of a process, if its id is known, or else of the server's metrics.
    pub fn new(pid: Option<u32>, target: &Target) -> Self {
        match pid {
            Some(pid) => Self::Processes(vec![pid]),
            None => Self::Metrics(Box::new(Client::new(target, Duration::from_secs(5)))),
        }
    }

    /// Where the figures come from.
    pub fn source(&self) -> String {
        match self {
            Self::Processes(_) | Self::Thread(..) => "/proc".to_owned(),
            Self::Metrics(_) => "/metrics".to_owned(),
        }
    }

    /// Reads now.
    pub fn read(&mut self) -> anyhow::Result<Usage> {
        match self {
            Self::Processes(ids) => {
                let mut sum = Usage { rss: 0, cpu: 0.0 };
                for id in ids {
                    let usage = process(*id)?;
                    sum = Usage { rss: sum.rss + usage.rss, cpu: sum.cpu + usage.cpu };
                }
                Ok(sum)
            }
            Self::Thread(id, thread) => {
                let nanos = nanos(&folder(*id).join("task").join(thread.to_string())).context("no such thread")?;
                Ok(Usage { cpu: nanos as f64 / 1e9, ..process(*id)? })
            }
            Self::Metrics(client) => {
                let response = client.get("/metrics").context("/metrics")?;
                if response.status != 200 {
                    bail!(
                        "/metrics answers {}: set server.public_metrics, name the server's internal listener by --api-url, or \
                         give --server-pid",
                        response.status
                    );
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

fn folder(id: u32) -> PathBuf {
    Path::new("/proc").join(id.to_string())
}

fn process(id: u32) -> anyhow::Result<Usage> {
    let folder = folder(id);
    let status = std::fs::read_to_string(folder.join("status"))
        .with_context(|| format!("process {id} cannot be looked at: it has ended, or is another user's"))?;
    let rss = rss(&status).context("no VmRSS: the process has ended")?;
    // The times of threads that have ended are lost, but the threads of a server stay.
    let threads = std::fs::read_dir(folder.join("task"))?.flatten();
    let nanos: u64 = threads.filter_map(|thread| nanos(&thread.path())).sum();
    Ok(Usage { rss, cpu: nanos as f64 / 1e9 })
}

/// A thread's time on a core, in nanoseconds; `None` once it has ended.
fn nanos(thread: &Path) -> Option<u64> {
    std::fs::read_to_string(thread.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
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
        assert_eq!(rss("Name:\tx\nVmRSS:\t    2048 kB\nVmData:\t1 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(rss("Name:\tx\nState:\tZ (zombie)\n"), None);
        let usage = Gauge::Processes(vec![std::process::id()]).read().unwrap();
        assert!(usage.rss > 100_000 && usage.cpu > 0.0);
    }

    #[test]
    fn metrics_are_read_by_their_whole_name() {
        let text = "# HELP process_cpu_seconds_total x\nprocess_cpu_seconds_total 1.5\nprocess_resident_memory_bytes_max 9\n\
                    process_resident_memory_bytes 4096\n";
        assert_eq!(metrics(text).unwrap(), Usage { rss: 4096, cpu: 1.5 });
        assert!(metrics("process_cpu_seconds_total 1\n").is_err());
    }
}
