//! Starting the server for a run, so that one command shows the figures.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::http::Client;
use crate::target::Target;

/// How long the server may take to become ready.
const STARTUP: Duration = Duration::from_secs(30);
/// How long it may take to end before it is killed: it keeps nothing, and nobody is connected any more.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// Lines of log shown when the server does not start.
const LOG_LINES: usize = 20;

/// A server of this run; it ends with it.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub target: Target,
    log: NamedTempFile,
}

impl Server {
    /// Starts `fanway dev` on a free port and waits until it is ready.
    pub fn start(binary: &Path, secret: &str, api_key: &str, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let log = NamedTempFile::new().context("cannot make a file for the server's log")?;
        let file = log.reopen()?;
        let child = Command::new(binary)
            .args(["dev", "--listen", &listen])
            // Not as flags: those are for all of the machine to read.
            .env("FANWAY_SECRET", secret)
            .env("FANWAY_API_KEY", api_key)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut server = Self { child, target: Target::parse(&format!("http://{listen}"), false)?, log };
        server.wait_ready(interrupted)?;
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_ready(&mut self, interrupted: &AtomicBool) -> anyhow::Result<()> {
        let end = Instant::now() + STARTUP;
        let mut client = Client::new(&self.target, Duration::from_secs(1));
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log_tail());
            }
            if client.get("/health/ready").is_ok_and(|response| response.status == 200) {
                return Ok(());
            }
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if Instant::now() > end {
                bail!("the server is not ready after {STARTUP:?}:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(self.log.path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + SHUTDOWN;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Fails when the server has ended already, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
