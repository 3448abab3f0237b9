//! A part of the fleet in a process of its own: files are limited per process, and so is the work of one.
//!
//! The parent writes the [`Plan`] as one line of JSON, and what was published as another when the fleet is to close. The
//! child writes where it stands whenever that changes, and its [`Findings`] at the end. A parent that is gone ends it.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::{Counts, Findings, Plan, Shared, Threads};
use crate::check::Attempted;

/// How often the child looks whether something changed. A closed loop of publications waits so long for its end.
const LOOK: Duration = Duration::from_micros(500);

/// What a child says.
#[derive(Serialize, Deserialize)]
enum Line {
    Stands(Counts, u64),
    Found(Box<Findings>),
    Failed(String),
}

/// The parent's side.
pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    pub(super) shared: Arc<Shared>,
    /// Reads what the child says, until its end.
    reader: Option<JoinHandle<anyhow::Result<Findings>>>,
}

impl Process {
    pub(super) fn open(plan: &Plan) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .arg("clients")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process of load clients")?;
        let shared = Arc::new(Shared::default());
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a process without its pipes");
        };
        let told = shared.clone();
        let reader = std::thread::Builder::new().name("fleet".to_owned()).spawn(move || listen(output, &told))?;
        let outcome = writeln!(input, "{}", serde_json::to_string(plan)?);
        let process = Self { child, input, shared, reader: Some(reader) };
        outcome.context("a process of load clients does not listen")?;
        Ok(process)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_over(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Tells it to close; the findings come from [`Self::findings`].
    pub(super) fn close(&mut self, attempted: &Attempted) -> anyhow::Result<()> {
        writeln!(self.input, "{}", serde_json::to_string(attempted)?).context("a process of load clients has ended")
    }

    pub(super) fn findings(mut self) -> anyhow::Result<Findings> {
        let reader = self.reader.take().context("a process that was closed before")?;
        reader.join().map_err(|_| anyhow!("the reader of a process panicked"))?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After its findings it has ended, or is about to.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn listen(output: impl io::Read, shared: &Shared) -> anyhow::Result<Findings> {
    for line in BufReader::new(output).lines() {
        match serde_json::from_str(&line?).context("a process of load clients speaks nonsense")? {
            Line::Stands(counts, delivered) => {
                // In the order that [`Counts`] relies on.
                shared.failed.store(counts.failed, Relaxed);
                shared.ready.store(counts.ready, Relaxed);
                shared.ended.store(counts.ended, Relaxed);
                shared.delivered.store(delivered, Relaxed);
            }
            Line::Found(findings) => return Ok(*findings),
            Line::Failed(why) => bail!("a process of load clients failed: {why}"),
        }
    }
    bail!("a process of load clients ended without a word")
}

/// The child's whole life.
pub fn serve() -> anyhow::Result<()> {
    let (sender, orders) = channel();
    let mut plan = String::new();
    io::stdin().read_line(&mut plan)?;
    let plan: Plan = serde_json::from_str(&plan).context("no plan")?;
    // Ends with the parent, whose end closes the pipe.
    let reader = std::thread::spawn(move || {
        if let Some(Ok(line)) = io::stdin().lines().next() {
            let _ = sender.send(line);
        }
    });
    let line = match hold(plan, &orders) {
        Ok(Some(findings)) => Line::Found(Box::new(findings)),
        Ok(None) => return Ok(()),
        Err(error) => Line::Failed(format!("{error:#}")),
    };
    say(&line)?;
    // The parent has what it wanted and closes the pipe, or kills this process.
    let _ = reader.join();
    Ok(())
}

/// `None` if the parent is gone.
fn hold(plan: Plan, orders: &Receiver<String>) -> anyhow::Result<Option<Findings>> {
    let fleet = Threads::open(plan)?;
    let mut told = None;
    loop {
        match orders.recv_timeout(LOOK) {
            Ok(line) => return fleet.close(&serde_json::from_str(&line)?).map(Some),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if fleet.is_over() {
            return fleet.close(&Attempted::default()).map(Some);
        }
        let stands = (fleet.shared.counts(), fleet.shared.delivered.load(Relaxed));
        if told != Some(stands) {
            told = Some(stands);
            say(&Line::Stands(stands.0, stands.1))?;
        }
    }
}

fn say(line: &Line) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(line)?)?;
    Ok(output.flush()?)
}
