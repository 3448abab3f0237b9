//! `fanway drain`: has the node on this machine give its connections away, for preStop hooks.
//!
//! By a signal to the process, not by an HTTP request: nobody on the network can send one, whatever proxies stand before
//! the node, and the kernel lets only the node's own user (or root) do it. The process is found by its program, which is
//! this one, and not taken to be number 1: in a pod whose containers share their processes that is another. SIGUSR1
//! rather than SIGTERM, so that the node stays until Kubernetes stops it: a container that ends during its preStop hook
//! takes the hook with it, which Kubernetes reports as a failure.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::args::DrainArgs;
use super::exchange::{exchange, reachable};
use crate::config::{DrainSettings, LoadError, Settings, Sources};

/// How often the node is asked how far it is.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a drain may take beyond the times that are set for it.
const MARGIN: Duration = Duration::from_secs(10);

/// A drain to be asked for.
#[derive(Debug)]
pub struct DrainRequest {
    pid: Option<i32>,
    /// Where the node tells of its health to the end; without it, there is only time to go by.
    health: Option<SocketAddr>,
    drain: DrainSettings,
    timeout: Option<Duration>,
}

impl DrainRequest {
    pub(super) fn new(args: DrainArgs) -> Result<Self, LoadError> {
        // Not validated: what is wrong with them, the node has said when it started.
        let settings = Settings::read(&Sources::of_process(args.config, Vec::new()))?;
        let health = settings.server.internal_listen.map(reachable);
        Ok(Self { pid: args.pid, health, drain: settings.drain, timeout: args.timeout })
    }

    /// Asks for it, and waits until it is done.
    pub async fn send(self) -> anyhow::Result<String> {
        let pid = self.pid.map_or_else(find_node, Ok)?;
        let process = Pid::from_raw(pid).filter(|_| pid > 0).context("--pid: not a process id")?;
        check(pid)?;
        kill_process(process, Signal::USR1).with_context(|| format!("process {pid} cannot be told to drain"))?;

        let longest = longest(&self.drain);
        let timeout = self.timeout.unwrap_or(longest.saturating_add(MARGIN));
        let begun = Instant::now();
        loop {
            if !runs(pid) {
                return Ok(format!("process {pid} has ended"));
            }
            match self.health {
                Some(address) if is_drained(address).await => return Ok(format!("process {pid} is drained")),
                // A second for what is not waited for in the drain itself.
                None if begun.elapsed() >= longest.saturating_add(Duration::from_secs(1)) => {
                    return Ok(format!("process {pid} had the time to drain ({longest:?})"));
                }
                _ => {}
            }
            if begun.elapsed() >= timeout {
                bail!("process {pid} is not drained after {timeout:?}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What the settings allow a drain to take. They are as they were read: any sum must do.
fn longest(drain: &DrainSettings) -> Duration {
    drain.propagation_delay.saturating_add(drain.window).saturating_add(drain.close_timeout)
}

/// Whether the node says that it has no clients' connections left. No answer is none: then it has ended, or it will answer.
async fn is_drained(address: SocketAddr) -> bool {
    let request = Request::get("/health/ready").header(header::HOST, address.to_string());
    let Ok(request) = request.body(Full::new(Bytes::new())) else { return false };
    match tokio::time::timeout(PATIENCE, exchange(&address.to_string(), request)).await {
        Ok(Ok((_, body))) => {
            let ready: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            ready["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|reason| reason == "drained"))
        }
        _ => false,
    }
}

/// The one process that runs a node with this program.
fn find_node() -> anyhow::Result<i32> {
    let program = program(Path::new("/proc/self")).context("/proc cannot be read")?;
    let processes = std::fs::read_dir("/proc").context("/proc cannot be read")?;
    let nodes: Vec<i32> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| is_node(*pid, program))
        .collect();
    match nodes[..] {
        [pid] => Ok(pid),
        [] => bail!("no node of this program and this user runs here"),
        _ => bail!("several nodes run here ({nodes:?}): say which by --pid"),
    }
}

fn is_node(pid: i32, of: (u64, u64)) -> bool {
    runs_node(pid) && program(&process(pid)).is_some_and(|program| program == of)
}

/// Refuses a process that the signal would not drain but kill: another program, or a node that has just begun to start.
///
/// Not asked whether it is this very program: in another container, or after an update, the same one is another file.
fn check(pid: i32) -> anyhow::Result<()> {
    let status = std::fs::read_to_string(process(pid).join("status"))
        .with_context(|| format!("there is no process {pid} that this user can see"))?;
    if !runs_node(pid) {
        bail!("process {pid} does not run a node (fanway serve or fanway dev)");
    }
    if !catches(&status, Signal::USR1) {
        bail!("process {pid} is no node, or has not started yet: it would not drain, but end");
    }
    Ok(())
}

/// Whether a process has the command line of a node.
fn runs_node(pid: i32) -> bool {
    let command = std::fs::read(process(pid).join("cmdline")).unwrap_or_default();
    matches!(command.split(|byte| *byte == 0).nth(1), Some(b"serve" | b"dev"))
}

/// Whether a process with this `status` in `/proc` handles a signal.
fn catches(status: &str, signal: Signal) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    caught >> (signal.as_raw() - 1) & 1 == 1
}

fn process(pid: i32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// Which file a process runs: device and inode.
fn program(process: &Path) -> Option<(u64, u64)> {
    let file = std::fs::metadata(process.join("exe")).ok()?;
    Some((file.dev(), file.ino()))
}

/// Whether a process has not ended. One that its parent has not asked about yet has.
fn runs(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(process(pid).join("status")) else { return false };
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    !state.is_some_and(|state| state.trim_start().starts_with('Z'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_is_asked_where_it_listens() {
        for (listen, reached) in
            [("0.0.0.0:9000", "127.0.0.1:9000"), ("[::]:9000", "[::1]:9000"), ("10.1.2.3:9000", "10.1.2.3:9000")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }

    #[test]
    fn processes_are_told_apart() {
        let me = i32::try_from(std::process::id()).unwrap();
        let program = program(Path::new("/proc/self")).unwrap();
        assert!(runs(me) && !is_node(me, program), "a test is no node");
        let mut child = std::process::Command::new("sleep").arg("0").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while runs(pid) {
            assert!(std::time::Instant::now() < deadline, "a process that nobody asked about has ended all the same");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn what_the_signal_would_kill_is_refused() {
        let caught =
            |mask: &str| catches(&format!("Name:\tfanway\nSigIgn:\tffffffffffffffff\nSigCgt:\t{mask}\n"), Signal::USR1);
        assert!(caught("0000000000000200") && caught("ffffffffffffffff"));
        assert!(
            !caught("0000000000000100") && !caught("fffffffffffffdff") && !caught("") && !catches("", Signal::USR1)
        );

        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(other.id()).unwrap();
        let refused = check(pid).unwrap_err().to_string();
        assert!(refused.contains("does not run a node"), "{refused}");
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(check(pid).unwrap_err().to_string().contains("no process"));
    }

    #[test]
    fn times_that_no_node_would_start_with_are_added_all_the_same() {
        let drain = DrainSettings { window: Duration::MAX, ..DrainSettings::default() };
        assert_eq!(longest(&drain), Duration::MAX);
    }
}
