//! The fleet of load clients: threads with an epoll loop each, so that thousands of connections cost little, in this
//! process or in several.
//!
//! The fleet opens its connections at a set rate, holds them, answers pings, checks what they receive, and resets them
//! when it is closed. A connection that ends is not opened again: it is an error of the run.

mod child;
mod connection;
mod link;
mod plan;
mod socket;
mod threads;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use serde::{Deserialize, Serialize};

use crate::check::{Attempted, Verdict};
use crate::report::Latencies;
pub use child::serve;
pub use plan::{Plan, Transports};
use threads::Threads;

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
}

impl Shared {
    fn counts(&self) -> Counts {
        // `ended` first: it never exceeds a `ready` read after it.
        let ended = self.ended.load(Relaxed);
        Counts { ready: self.ready.load(Relaxed), failed: self.failed.load(Relaxed), ended }
    }
}

/// How many things went wrong, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Whether nothing went wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind.clone()).or_default() += count;
        }
    }
}

/// Where the fleet stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
        self.ready.saturating_sub(self.ended)
    }
}

/// What the fleet found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Findings {
    /// The integrity of all clients together.
    pub verdict: Verdict,
    /// From the moment a connection was begun until it was subscribed.
    pub connected: Latencies,
    /// Publication due to received.
    pub latencies: Latencies,
    /// When the last publication came (see [`crate::clock`]).
    pub last: Option<u64>,
    /// What went wrong, by kind.
    pub faults: Faults,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            verdict: Verdict::default(),
            connected: Latencies::new(),
            latencies: Latencies::new(),
            last: None,
            faults: Faults::default(),
        }
    }
}

impl Findings {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.verdict += other.verdict;
        self.connected.merge(&other.connected);
        self.latencies.merge(&other.latencies);
        self.last = self.last.max(other.last);
        self.faults.merge(&other.faults);
    }
}

enum Part {
    Here(Threads),
    Child(child::Process),
}

impl Part {
    fn shared(&self) -> &Shared {
        match self {
            Self::Here(threads) => &threads.shared,
            Self::Child(process) => &process.shared,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Here(threads) => threads.is_over(),
            Self::Child(process) => process.is_over(),
        }
    }
}

/// Open connections.
pub struct Fleet {
    connections: usize,
    parts: Vec<Part>,
}

impl Fleet {
    /// Begins to open the connections, in this process if one is enough.
    pub fn open(plan: Plan, processes: usize) -> anyhow::Result<Self> {
        let connections = plan.connections;
        let parts = match processes {
            0 | 1 => vec![Part::Here(Threads::open(plan)?)],
            _ => {
                let parts = plan.split(processes);
                parts.iter().map(|part| child::Process::open(part).map(Part::Child)).collect::<anyhow::Result<_>>()?
            }
        };
        Ok(Self { connections, parts })
    }

    /// Where it stands.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for counts in self.parts.iter().map(|part| part.shared().counts()) {
            sum.ready += counts.ready;
            sum.failed += counts.failed;
            sum.ended += counts.ended;
        }
        sum
    }

    /// Whether every connection has been opened or has failed, or a part of the fleet is gone.
    pub fn is_settled(&self) -> bool {
        let Counts { ready, failed, .. } = self.counts();
        ready + failed >= self.connections || self.parts.iter().any(Part::is_over)
    }

    /// Publications received so far by all clients, each once per client.
    pub fn delivered(&self) -> u64 {
        self.parts.iter().map(|part| part.shared().delivered.load(Relaxed)).sum()
    }

    /// The processes that hold the connections, besides this one.
    pub fn processes(&self) -> Vec<u32> {
        let id = |part: &Part| match part {
            Part::Here(_) => None,
            Part::Child(process) => Some(process.id()),
        };
        self.parts.iter().filter_map(id).collect()
    }

    /// Closes all connections and says what they received, given what was published.
    pub fn close(self, attempted: &Attempted) -> anyhow::Result<Findings> {
        let mut parts = self.parts;
        for part in &mut parts {
            match part {
                Part::Here(threads) => threads.shared.stop.store(true, Relaxed),
                // If it has ended before its time, its findings say why.
                Part::Child(process) => drop(process.close(attempted)),
            }
        }
        let mut findings = Findings::default();
        for part in parts {
            findings.merge(&match part {
                Part::Here(threads) => threads.close(attempted)?,
                Part::Child(process) => process.findings()?,
            });
        }
        Ok(findings)
    }
}
