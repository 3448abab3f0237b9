//! What a measurement runs in: the server it loads, and how clients reach it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::progress::Progress;
use crate::channels::Channels;
use crate::check::Attempted;
use crate::clients::{Counts, Faults, Fleet, Plan, Transports};
use crate::options::Common;
use crate::publisher;
use crate::report::{Table, grouped};
use crate::subject::affinity::on_core;
use crate::subject::{Spec, Subject, Usage};
use crate::transport::Transport;

/// Connections that may be on their way at once in one thread: fewer than any listen queue.
const OPENING_AT_ONCE: usize = 200;
/// A connection that is not subscribed after so long has failed.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A server under load, for one measurement.
pub(super) struct Environment<'a> {
    pub(super) common: &'a Common,
    pub(super) subject: Subject,
    /// Told by a signal: the run ends early, what it started is stopped.
    pub(super) interrupted: &'a AtomicBool,
    /// Tells this measurement's publications from all others.
    pub(super) run: u64,
    pub(super) progress: &'a Progress,
}

impl<'a> Environment<'a> {
    pub(super) fn prepare(
        spec: &Spec,
        common: &'a Common,
        interrupted: &'a AtomicBool,
        progress: &'a Progress,
    ) -> anyhow::Result<Self> {
        let subject = Subject::start(spec, common, interrupted)?;
        Ok(Self { common, subject, interrupted, run: u64::from(rand::random::<u32>()), progress })
    }

    /// Channels of this measurement alone. The run's number keeps history of earlier ones away.
    pub(super) fn channels(&self, count: u32, per_connection: u32) -> anyhow::Result<Channels> {
        let prefix = format!("{}{:08x}", self.common.channel_prefix, self.run);
        let channels = Channels { prefix, count, per_connection };
        if self.subject.transport == Transport::Plain && per_connection > 1 {
            bail!("such a server takes one channel per connection");
        }
        channels.channel(count.saturating_sub(1))?;
        Ok(channels)
    }

    /// How load clients are to be, as the options say; a scenario changes what it needs otherwise.
    pub(super) fn plan(&self, channels: Channels, publications: u64) -> Plan {
        Plan {
            targets: self.subject.doors.clone(),
            transports: self.transports(),
            tokens: self.subject.tokens.clone(),
            connections: self.common.connections as usize,
            first: 0,
            connect_rate: self.common.connect_rate,
            opening_at_once: OPENING_AT_ONCE,
            ready_within: READY_WITHIN,
            channels,
            workers: usize::from(self.common.workers),
            run: self.run,
            publications,
            resume: None,
            from: 0,
            stalled: 0,
        }
    }

    /// The transport that was asked for, on every connection.
    pub(super) fn transports(&self) -> Transports {
        Transports::all(self.subject.transport)
    }

    /// What the publisher publishes to those channels.
    pub(super) fn publications(&self, channels: Channels, payload_bytes: u64) -> publisher::Plan {
        publisher::Plan {
            target: self.subject.publish.clone(),
            api: self.subject.api.clone(),
            channels,
            run: self.run,
            payload_bytes: payload_bytes as usize,
            begun: Attempted::default(),
        }
    }

    pub(super) fn say(&self, text: &str) {
        self.progress.say(text);
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Opens a fleet and waits until each connection is subscribed or has failed.
    pub(super) fn open(&self, plan: Plan) -> anyhow::Result<(Fleet, Connections)> {
        let wanted = plan.connections;
        let begun = Instant::now();
        let fleet = on_core(self.common.pin_clients, || Fleet::open(plan, usize::from(self.common.processes)))?;
        let bar = self.progress.bar("connections", wanted as u64);
        while !fleet.is_settled() {
            if self.is_interrupted() {
                bail!("interrupted");
            }
            bar.set(fleet.counts().ready as u64);
            std::thread::sleep(Duration::from_millis(1));
        }
        let opened_in_seconds = begun.elapsed().as_secs_f64();
        drop(bar);
        if fleet.counts().ready == 0 {
            let faults = fleet.close(&Attempted::default())?.faults;
            let reasons: Vec<String> = faults.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
            bail!("no connection was subscribed: {}", reasons.join("; "));
        }
        let counts = fleet.counts();
        Ok((fleet, Connections { wanted, counts, opened_in_seconds }))
    }

    /// Waits, unless the run is interrupted.
    pub(super) fn hold(&self, duration: Duration) {
        let end = Instant::now() + duration;
        while !self.is_interrupted() && Instant::now() < end {
            std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
        }
    }
}

/// The connections' part of a result.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Connections {
    wanted: usize,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) opened_in_seconds: f64,
}

impl Connections {
    pub(super) fn rows(&self, table: &mut Table) {
        let Self { wanted, counts, opened_in_seconds } = self;
        let held = format!("{} of {}", grouped(counts.held() as u64), grouped(*wanted as u64));
        table.row("connections held", held);
        let rate = counts.ready as f64 / opened_in_seconds;
        table.row("opened in", format!("{opened_in_seconds:.2} s ({}/s)", grouped(rate as u64)));
    }

    pub(super) fn failures(&self, failures: &mut Vec<String>) {
        if self.counts.failed > 0 {
            failures.push(format!("{} connections could not be made", grouped(self.counts.failed as u64)));
        }
        if self.counts.ended > 0 {
            failures.push(format!("{} connections ended before their time", grouped(self.counts.ended as u64)));
        }
    }
}

/// Adds a row per kind of fault.
pub(super) fn fault_rows(table: &mut Table, faults: &Faults) {
    for (kind, count) in faults.iter() {
        table.row("error", format!("{} x {kind}", grouped(count)));
    }
}

/// What a server may hold once it has come to rest: a quarter more than before, and 8 MiB.
pub(super) fn allowed_memory(before: Usage) -> f64 {
    before.rss as f64 * 1.25 + 8.0 * 1024.0 * 1024.0
}

/// The signed difference of two readings of memory, per connection.
pub(super) fn per_connection(before: u64, after: u64, connections: usize) -> f64 {
    (after as f64 - before as f64) / connections.max(1) as f64
}
