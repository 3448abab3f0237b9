//! The fleet of load clients: threads with an epoll loop each, so that thousands of connections cost little.
//!
//! The fleet opens its connections at a set rate, holds them, answers pings, checks what they receive, and resets them
//! when it is closed. A connection that ends is not opened again: it is an error of the run.

mod connection;
mod socket;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use fanway_protocol::Channel;

use crate::check::Verdict;
use crate::report::Latencies;
use crate::schedule::Schedule;
use crate::target::Target;
use crate::transport::Transport;
use worker::{Tally, Worker};

/// A connection that is not subscribed after so long has failed.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// What the fleet is to do.
pub struct Plan {
    /// The server.
    pub target: Target,
    /// How clients receive.
    pub transport: Transport,
    /// A connection token; empty for anonymous clients.
    pub token: String,
    /// How many connections.
    pub connections: usize,
    /// Connections opened per second.
    pub connect_rate: f64,
    /// The channels; connection number n has channel n modulo their number.
    pub channels: Vec<Channel>,
    /// Threads.
    pub workers: usize,
    /// Publications of other runs are not counted.
    pub run: u64,
    /// How many publications there will be at most.
    pub publications: u64,
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Connections that were subscribed, those that ended since included.
    ready: AtomicUsize,
    /// Connections that never were.
    failed: AtomicUsize,
    /// Connections that were and have ended.
    ended: AtomicUsize,
    /// Publications received by all clients, each once per client.
    delivered: AtomicU64,
    /// When publications are due; set before the first one is made.
    publishing: OnceLock<Schedule>,
}

/// How many things went wrong, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Faults(BTreeMap<String, u64>);

impl Faults {
    /// Notes one.
    pub fn note(&mut self, kind: &str) {
        match self.0.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(kind.to_owned(), 1)),
        }
    }

    /// Kinds and counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(kind, count)| (kind.as_str(), *count))
    }

    fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind.clone()).or_default() += count;
        }
    }
}

/// Where the fleet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Connections that were subscribed at some time.
    pub ready: usize,
    /// Connections that never were.
    pub failed: usize,
    /// Connections that ended before their time.
    pub ended: usize,
}

impl Counts {
    /// Connections subscribed now.
    pub fn held(&self) -> usize {
        self.ready - self.ended
    }
}

/// What the fleet found.
pub struct Findings {
    /// The integrity of all clients together.
    pub verdict: Verdict,
    /// Publication due to received.
    pub latencies: Latencies,
    /// When the last publication came.
    pub last: Option<Instant>,
    /// What went wrong, by kind.
    pub faults: Faults,
}

/// Open connections.
pub struct Fleet {
    shared: Arc<Shared>,
    connections: usize,
    threads: Vec<JoinHandle<io::Result<Tally>>>,
}

impl Fleet {
    /// Begins to open the connections.
    pub fn open(plan: Plan) -> anyhow::Result<Self> {
        let (plan, shared) = (Arc::new(plan), Arc::new(Shared::default()));
        let opened_by = Schedule::new(Instant::now(), plan.connect_rate);
        let mut fleet = Self { shared: shared.clone(), connections: plan.connections, threads: Vec::new() };
        for index in 0..plan.workers {
            let worker = Worker::new(index, plan.clone(), shared.clone())?;
            let thread = std::thread::Builder::new().name(format!("clients-{index}"));
            fleet.threads.push(thread.spawn(move || worker.run(opened_by))?);
        }
        Ok(fleet)
    }

    /// Where it stands.
    pub fn counts(&self) -> Counts {
        // `ended` first: it never exceeds a `ready` read after it.
        let ended = self.shared.ended.load(Relaxed);
        Counts { ready: self.shared.ready.load(Relaxed), failed: self.shared.failed.load(Relaxed), ended }
    }

    /// Whether every connection has been opened or has failed, or a thread is gone.
    pub fn is_settled(&self) -> bool {
        let Counts { ready, failed, .. } = self.counts();
        ready + failed >= self.connections || self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Publications received so far by all clients, each once per client.
    pub fn delivered(&self) -> u64 {
        self.shared.delivered.load(Relaxed)
    }

    /// Says when publications are due. To be called once, before the first is made.
    pub fn expect(&self, publishing: Schedule) {
        let _ = self.shared.publishing.set(publishing);
    }

    /// Closes all connections and says what they received, given what was published.
    pub fn close(mut self, attempted: u64, doubtful: &BTreeSet<u64>) -> anyhow::Result<Findings> {
        self.shared.stop.store(true, Relaxed);
        let mut findings = Findings {
            verdict: Verdict::default(),
            latencies: Latencies::new(),
            last: None,
            faults: Faults::default(),
        };
        for thread in self.threads.drain(..) {
            let tally = thread.join().map_err(|_| anyhow!("a thread of load clients panicked"))??;
            for checker in &tally.checkers {
                findings.verdict += checker.finish(attempted, doubtful);
            }
            findings.latencies.merge(&tally.latencies);
            findings.last = findings.last.max(tally.last);
            findings.faults.merge(&tally.faults);
        }
        Ok(findings)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
