//! The endpoint that only parses as a process of its own: see [`crate::floor::endpoint`].

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail};

use super::affinity::on_core;

/// A running endpoint; it ends with this.
pub(super) struct Endpoint {
    child: Child,
    /// Its end tells the process to end.
    _input: ChildStdin,
    /// Where it is.
    pub(super) address: SocketAddr,
}

impl Endpoint {
    pub(super) fn start(worker_threads: Option<u8>, core: Option<usize>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.arg("endpoint").stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(threads) = worker_threads {
            command.env("TOKIO_WORKER_THREADS", threads.to_string());
        }
        let mut child = on_core(core, || command.spawn().context("cannot start the endpoint"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without its pipes");
        };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = serde_json::from_str(&line).context("the endpoint did not start")?;
        Ok(Self { child, _input: input, address })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
