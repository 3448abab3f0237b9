//! The floor as a process of its own: see [`crate::floor`].

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, bail};

use super::affinity::on_core;
use crate::floor::{Place, SECRET};

/// A running floor; it ends with this.
pub(super) struct Floor {
    child: Child,
    /// Its end tells the process to end.
    _input: ChildStdin,
    /// Where it is.
    pub(super) place: Place,
}

impl Floor {
    pub(super) fn start(secret: &str, core: Option<usize>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.arg("floor").env(SECRET, secret).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = on_core(core, || command.spawn().context("cannot start the floor"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without its pipes");
        };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let place = serde_json::from_str(&line).context("the floor did not start")?;
        Ok(Self { child, _input: input, place })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
