//! `connect-storm`: connections made as fast as they go - upgrade or request, token, subscribe - and dropped.

use std::time::Duration;

use super::environment::{Environment, allowed_memory, fault_rows, per_connection};
use super::slices::{Sliced, share};
use crate::channels::Channels;
use crate::check::Attempted;
use crate::clients::Findings;
use crate::options::ConnectStorm;
use crate::report::{Figure, Spread, Table, Unit, bytes, grouped};
use crate::rounds::Measured;
use crate::subject::Usage;

/// Faster than anything accepts: what limits are the connections on their way at once.
pub(super) const AT_ONCE: f64 = 1_000_000.0;

pub(super) fn title(options: &ConnectStorm) -> String {
    let common = &options.common;
    let connections = grouped(common.connections.into());
    format!("connect storm over {}: {} times {connections} connections", common.transport, options.storms)
}

/// Storms against an open server.
pub(super) struct Storms<'a> {
    options: &'a ConnectStorm,
    channels: Channels,
    before: Usage,
    /// Of each storm: CPU per connect, connects per second, memory per connection.
    costs: Vec<f64>,
    rates: Vec<f64>,
    memories: Vec<f64>,
    all: Findings,
    table: Table,
    failures: Vec<String>,
}

impl<'a> Storms<'a> {
    pub(super) fn open(environment: &mut Environment<'_>, options: &'a ConnectStorm) -> anyhow::Result<Self> {
        Ok(Self {
            options,
            channels: environment.channels(1, 1)?,
            before: environment.subject.gauge.read_settled()?,
            costs: Vec::new(),
            rates: Vec::new(),
            memories: Vec::new(),
            all: Findings::default(),
            table: Table::new(title(options)),
            failures: Vec::new(),
        })
    }

    fn storm(&mut self, environment: &mut Environment<'_>) -> anyhow::Result<()> {
        let mut plan = environment.plan(self.channels.clone(), 0);
        plan.connect_rate = AT_ONCE;
        plan.opening_at_once = self.options.at_once as usize;
        let start = environment.subject.gauge.read()?;
        let (fleet, mut connections) = environment.open(plan)?;
        let end = environment.subject.gauge.read()?;
        let made = connections.counts.ready;
        self.costs.push((end.cpu - start.cpu) * 1e6 / made as f64);
        self.rates.push(made as f64 / connections.opened_in_seconds);
        self.memories.push(per_connection(self.before.rss, end.rss, made));
        connections.counts = fleet.counts();
        connections.failures(&mut self.failures);
        connections.rows(&mut self.table);
        self.all.merge(&fleet.close(&Attempted::default())?);
        // So that the end of these is not charged to the next.
        environment.hold(Duration::from_millis(500));
        Ok(())
    }
}

impl Sliced for Storms<'_> {
    fn slice(&mut self, environment: &mut Environment<'_>, number: u64, slices: u64) -> anyhow::Result<()> {
        for _ in 0..share(self.options.storms.into(), number, slices) {
            if environment.is_interrupted() {
                self.failures.push("interrupted".to_owned());
                break;
            }
            self.storm(environment)?;
        }
        Ok(())
    }

    fn finish(self, environment: &mut Environment<'_>) -> anyhow::Result<Measured> {
        let Self { options, before, costs, rates, memories, all, mut table, failures, .. } = self;
        environment.hold(options.rest);
        let after = environment.subject.gauge.read_settled()?;
        let median = |readings: &[f64]| Spread::of(readings.iter().copied()).map_or(0.0, |spread| spread.median);
        let cost = median(&costs);
        let allowed = allowed_memory(before);

        let latencies = all.connected.summary();
        table.row("begun to subscribed", latencies);
        table.row("CPU per connect", format!("{cost:.2} us, the median of {} storms", costs.len()));
        table.row("connects", format!("{}/s", grouped(median(&rates) as u64)));
        table.row(
            "server memory",
            format!("{} before, {} afterwards", bytes(before.rss as f64), bytes(after.rss as f64)),
        );
        table.row("memory allowed", format!("{} (1.25 x before + 8 MiB)", bytes(allowed)));
        table.row("measured by", environment.subject.gauge.source());
        fault_rows(&mut table, &all.faults);
        let figure = |name, unit, value| Figure { name, unit, value };
        let figures = vec![
            figure("CPU per connect", Unit::Micros, cost),
            figure("connects per second", Unit::PerSecond, median(&rates)),
            figure("connect latency p99", Unit::Millis, latencies.p99.as_secs_f64() * 1e3),
            figure("memory before", Unit::Bytes, before.rss as f64),
            figure("memory after the storms", Unit::Bytes, after.rss as f64),
            figure("memory after / allowed", Unit::Plain, after.rss as f64 / allowed),
        ];
        let json = serde_json::json!({
            "scenario": "connect-storm",
            "transport": options.common.transport,
            "connections": options.common.connections,
            "storms": costs.len(),
            "cpu_us_per_connect": costs,
            "connects_per_second": rates,
            "rss_per_connection": memories,
            "rss_before": before.rss,
            "rss_after": after.rss,
            "connected": latencies,
            "measured_by": environment.subject.gauge.source(),
            "figures": figures,
            "faults": all.faults,
            "failures": failures,
        });
        Ok(Measured { figures, latencies: vec![("begun to subscribed", all.connected)], table, json, failures })
    }
}
