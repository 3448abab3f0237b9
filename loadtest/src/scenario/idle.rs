//! `idle`: what a silent subscribed connection costs.

use std::time::Instant;

use super::{Connections, Environment, Outcome, fault_rows, per_connection};
use crate::options::{Idle, Spread};
use crate::report::{Table, bytes, grouped};

pub(super) fn run(options: &Idle, mut environment: Environment<'_>) -> anyhow::Result<Outcome> {
    let common = &options.common;
    let channels = match options.channels {
        Spread::Shared => 1,
        Spread::Own => common.connections as usize,
    };
    let channels = (0..channels).map(|index| environment.channel(index)).collect::<anyhow::Result<Vec<_>>>()?;
    let before = environment.gauge.read_settled()?;
    let (fleet, took) = environment.open(channels, 0)?;
    let held = environment.gauge.read_settled()?;
    let (begun, holding) = (Instant::now(), fleet.counts().held());
    environment.say(&format!("holding them for {:?}", options.duration));
    environment.hold(options.duration);
    let after = environment.gauge.read()?;
    let seconds = begun.elapsed().as_secs_f64();

    let connections =
        Connections { wanted: common.connections, counts: fleet.counts(), opened_in_seconds: took.as_secs_f64() };
    let findings = fleet.close(0, &Default::default())?;
    let memory = per_connection(before.rss, held.rss, holding);
    let memory_at_end = per_connection(before.rss, after.rss, connections.counts.held());
    let cpu_micros = (after.cpu - held.cpu) * 1e6 / (holding as f64 * seconds);

    let spread = if options.channels == Spread::Shared { "on one channel" } else { "with a channel each" };
    let mut table = Table::new(format!(
        "idle over {}: {} connections {spread}, held for {seconds:.1} s",
        common.transport,
        grouped(u64::from(common.connections))
    ));
    connections.rows(&mut table);
    table.row("memory per connection", format!("{} at the start, {} at the end", bytes(memory), bytes(memory_at_end)));
    table.row("server memory", format!("{} before, {} at the end", bytes(before.rss as f64), bytes(after.rss as f64)));
    table.row("CPU per connection", format!("{cpu_micros:.2} us per second"));
    table.row("measured by", environment.gauge.source());
    fault_rows(&mut table, &findings.faults);

    let mut failures = Vec::new();
    connections.failures(&mut failures);
    if environment.is_interrupted() {
        failures.push("interrupted".to_owned());
    }
    let json = serde_json::json!({
        "scenario": "idle",
        "transport": common.transport,
        "channels": options.channels,
        "connections": connections,
        "held_seconds": seconds,
        "rss_before": before.rss,
        "rss_held": held.rss,
        "rss_after": after.rss,
        "rss_per_connection": memory,
        "rss_per_connection_at_end": memory_at_end,
        "cpu_us_per_connection_second": cpu_micros,
        "measured_by": environment.gauge.source(),
        "faults": findings.faults,
        "failures": failures,
    });
    Ok(Outcome { table, json, failures })
}
