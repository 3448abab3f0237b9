//! A server process of a run: started, waited for, stopped with it.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use super::affinity::on_core;

/// How long a server may take to become ready.
const STARTUP: Duration = Duration::from_secs(30);
/// How long it may take to end before it is killed: it keeps nothing, and nobody is connected any more.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// Lines of log shown when the server does not start.
const LOG_LINES: usize = 20;

/// A running process; it ends with this.
pub struct Process {
    child: Child,
    log: NamedTempFile,
}

impl Process {
    /// Starts it on a core, its output into a file.
    pub fn start(command: &mut Command, core: Option<usize>) -> anyhow::Result<Self> {
        let log = NamedTempFile::new().context("cannot make a file for the server's log")?;
        let file = log.reopen()?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = on_core(core, || command.spawn().with_context(|| format!("cannot start {program}")))?;
        Ok(Self { child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is ready.
    pub fn wait_until(&mut self, interrupted: &AtomicBool, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + STARTUP;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log_tail());
            }
            if ready() {
                return Ok(());
            }
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if Instant::now() > end {
                bail!("the server is not ready after {STARTUP:?}:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Waits for it to end well of its own accord.
    pub fn finish(&mut self, within: Duration, interrupted: &AtomicBool) -> anyhow::Result<()> {
        let end = Instant::now() + within;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("ended with {status}:\n{}", self.log_tail()),
                None if interrupted.load(Ordering::Relaxed) => bail!("interrupted"),
                None if Instant::now() > end => bail!("not done after {within:?}:\n{}", self.log_tail()),
                None => std::thread::sleep(Duration::from_millis(25)),
            }
        }
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // Fails when it has ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(self.log.path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
        }
        let end = Instant::now() + SHUTDOWN;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}
