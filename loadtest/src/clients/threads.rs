//! A part of the fleet in this process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::anyhow;

use super::worker::{Tally, Worker};
use super::{Findings, Plan, Shared};
use crate::check::Attempted;
use crate::schedule::Schedule;

/// The threads and what they share.
pub(super) struct Threads {
    plan: Arc<Plan>,
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<Tally>>>,
}

impl Threads {
    /// Begins to open the connections.
    pub(super) fn open(plan: Plan) -> anyhow::Result<Self> {
        let (plan, shared) = (Arc::new(plan), Arc::new(Shared::default()));
        let opened_by = Schedule::new(Instant::now(), plan.connect_rate);
        let mut this = Self { plan: plan.clone(), shared: shared.clone(), threads: Vec::new() };
        for index in 0..plan.workers {
            let worker = Worker::new(index, plan.clone(), shared.clone())?;
            let thread = std::thread::Builder::new().name(format!("clients-{index}"));
            this.threads.push(thread.spawn(move || worker.run(opened_by))?);
        }
        Ok(this)
    }

    /// Whether a thread is gone.
    pub(super) fn is_over(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Closes all connections and says what they received.
    pub(super) fn close(mut self, attempted: &Attempted) -> anyhow::Result<Findings> {
        self.shared.stop.store(true, Relaxed);
        let mut findings = Findings::default();
        for thread in self.threads.drain(..) {
            let tally = thread.join().map_err(|_| anyhow!("a thread of load clients panicked"))??;
            for (number, checkers) in tally.received.iter().filter(|(number, _)| *number >= self.plan.stalled) {
                for (channel, checker) in self.plan.channels.of(*number).zip(checkers) {
                    findings.verdict += attempted.judge(channel, checker);
                }
            }
            findings.connected.merge(&tally.connected);
            findings.latencies.merge(&tally.latencies);
            findings.last = findings.last.max(tally.last);
            findings.faults.merge(&tally.faults);
        }
        Ok(findings)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
