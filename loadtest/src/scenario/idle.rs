//! `idle`: what a silent subscribed connection costs.

use std::time::Instant;

use anyhow::Context;

use super::environment::{Connections, Environment, fault_rows, per_connection};
use super::slices::Sliced;
use crate::check::Attempted;
use crate::clients::Fleet;
use crate::options::{Idle, Spread};
use crate::report::{Figure, Table, Unit, bytes, grouped};
use crate::rounds::Measured;
use crate::subject::Usage;

pub(super) fn title(options: &Idle) -> String {
    let spread = if options.channels == Spread::Shared { "on one channel" } else { "with a channel each" };
    let common = &options.common;
    let tls = if common.tls { " with TLS" } else { "" };
    let connections = grouped(u64::from(common.connections));
    format!("idle over {}{tls}: {connections} connections {spread}", common.transport)
}

/// Connections that are open and do nothing.
pub(super) struct Idling<'a> {
    options: &'a Idle,
    before: Usage,
    held: Usage,
    fleet: Fleet,
    connections: Connections,
    /// The first slice's beginning: connections, the server's usage, the time.
    begun: Option<(usize, Usage, Instant)>,
}

impl<'a> Idling<'a> {
    pub(super) fn open(environment: &mut Environment<'_>, options: &'a Idle) -> anyhow::Result<Self> {
        let common = &options.common;
        let channels = match options.channels {
            Spread::Shared => environment.channels(1, 1)?,
            Spread::Own => environment.channels(common.connections, 1)?,
        };
        let before = environment.subject.gauge.read_settled()?;
        let (fleet, connections) = environment.open(environment.plan(channels, 0))?;
        let held = environment.subject.gauge.read_settled()?;
        Ok(Self { options, before, held, fleet, connections, begun: None })
    }
}

impl Sliced for Idling<'_> {
    /// Holds the connections for a share of the time. Idle connections cost in the slices of others too: their CPU time
    /// is taken from the first slice to the end.
    fn slice(&mut self, environment: &mut Environment<'_>, _number: u64, slices: u64) -> anyhow::Result<()> {
        if self.begun.is_none() {
            environment.say(&format!("holding them for {:?}", self.options.duration));
            self.begun = Some((self.fleet.counts().held(), environment.subject.gauge.read()?, Instant::now()));
        }
        environment.hold(self.options.duration / u32::try_from(slices).unwrap_or(u32::MAX));
        Ok(())
    }

    fn finish(self, environment: &mut Environment<'_>) -> anyhow::Result<Measured> {
        let Self { options, before, held, fleet, mut connections, begun } = self;
        let common = &options.common;
        let (holding, start, begun) = begun.context("idle connections without a slice")?;
        let after = environment.subject.gauge.read()?;
        let seconds = begun.elapsed().as_secs_f64();

        connections.counts = fleet.counts();
        let findings = fleet.close(&Attempted::default())?;
        let memory = per_connection(before.rss, held.rss, holding);
        let memory_at_end = per_connection(before.rss, after.rss, connections.counts.held());
        let cpu_micros = (after.cpu - start.cpu) * 1e6 / (holding as f64 * seconds);

        let mut table = Table::new(format!("{}, held for {seconds:.1} s", title(options)));
        connections.rows(&mut table);
        table.row(
            "memory per connection",
            format!("{} at the start, {} at the end", bytes(memory), bytes(memory_at_end)),
        );
        table.row(
            "server memory",
            format!("{} before, {} at the end", bytes(before.rss as f64), bytes(after.rss as f64)),
        );
        table.row("CPU per connection", format!("{cpu_micros:.2} us per second"));
        table.row("measured by", environment.subject.gauge.source());
        fault_rows(&mut table, &findings.faults);

        let mut failures = Vec::new();
        connections.failures(&mut failures);
        if environment.is_interrupted() {
            failures.push("interrupted".to_owned());
        }
        let figures = vec![
            Figure { name: "memory per connection", unit: Unit::Bytes, value: memory_at_end },
            Figure { name: "CPU per connection and second", unit: Unit::Micros, value: cpu_micros },
        ];
        let json = serde_json::json!({
            "scenario": "idle",
            "transport": common.transport,
            "tls": environment.subject.doors.iter().any(|door| door.tls),
            "channels": options.channels,
            "connections": connections,
            "held_seconds": seconds,
            "rss_before": before.rss,
            "rss_held": held.rss,
            "rss_after": after.rss,
            "rss_per_connection": memory,
            "rss_per_connection_at_end": memory_at_end,
            "cpu_us_per_connection_second": cpu_micros,
            "measured_by": environment.subject.gauge.source(),
            "figures": figures,
            "faults": findings.faults,
            "failures": failures,
        });
        Ok(Measured { figures, latencies: vec![("connect", findings.connected)], table, json, failures })
    }
}
