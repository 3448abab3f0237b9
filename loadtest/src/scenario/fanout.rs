//! `fanout`: one channel, many subscribers, publications at a set rate.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::{Connections, Environment, Outcome, fault_rows, per_connection};
use crate::options::Fanout;
use crate::publisher::{self, Published};
use crate::report::{Table, bytes, grouped};
use crate::schedule::Schedule;
use crate::server::Gauge;

/// From the decision to publish to the first publication, so that its schedule is known everywhere.
const LEAD: Duration = Duration::from_millis(50);

pub(super) fn run(options: &Fanout, mut environment: Environment<'_>) -> anyhow::Result<Outcome> {
    let common = &options.common;
    let publications = match options.duration {
        Some(duration) => ((duration.as_secs_f64() * options.rate) as u64).max(1),
        None => options.publications,
    };
    let channel = environment.channel(0)?;
    let plan = publisher::Plan {
        target: environment.target.clone(),
        api_key: environment.api_key.clone(),
        channel: channel.clone(),
        run: environment.run,
        publications,
        payload_bytes: options.payload_bytes as usize,
    };
    publisher::rehearse(&plan)?;
    let idle = environment.gauge.read_settled()?;
    let (fleet, took) = environment.open(vec![channel], publications)?;
    let before = environment.gauge.read_settled()?;
    let subscribers = fleet.counts().held();
    let expected = publications * subscribers as u64;

    let mut own = Gauge::Process(std::process::id());
    let own_before = own.read()?.cpu;
    environment.say(&format!("publishing {} at {}/s", grouped(publications), options.rate));
    let schedule = Schedule::new(Instant::now() + LEAD, options.rate);
    fleet.expect(schedule);
    let published = std::thread::scope(|scope| -> anyhow::Result<Published> {
        let publisher = scope.spawn(|| publisher::run(&plan, schedule, &environment.interrupted));
        let mut told = Instant::now();
        while !publisher.is_finished() {
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                environment.say(&format!("  {} of {} deliveries", grouped(fleet.delivered()), grouped(expected)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        publisher.join().map_err(|_| anyhow!("the publisher panicked"))
    })?;
    let end = Instant::now() + options.settle;
    while fleet.delivered() < expected && Instant::now() < end && !environment.is_interrupted() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let after = environment.gauge.read()?;
    let own_cpu = own.read()?.cpu - own_before;
    // One that comes twice or out of nowhere would come late: give it a moment before the verdict.
    environment.hold(Duration::from_millis(200).min(options.settle));

    let connections =
        Connections { wanted: common.connections, counts: fleet.counts(), opened_in_seconds: took.as_secs_f64() };
    let findings = fleet.close(published.attempted, &published.doubtful)?;
    let verdict = findings.verdict;
    let span = findings.last.map_or(Duration::ZERO, |last| last.saturating_duration_since(schedule.start()));
    let rate = if span.is_zero() { 0.0 } else { verdict.delivered as f64 / span.as_secs_f64() };
    let cpu = after.cpu - before.cpu;
    let cpu_per_delivery = cpu * 1e6 / verdict.delivered.max(1) as f64;
    let memory = per_connection(idle.rss, before.rss, subscribers);
    let confirmed = published.attempted - published.doubtful.len() as u64;
    let published_rate = if published.span.is_zero() { 0.0 } else { confirmed as f64 / published.span.as_secs_f64() };
    let latencies = findings.latencies.summary();

    let mut table = Table::new(format!(
        "fanout over {}: {} connections, {} publications of {} B at {}/s",
        common.transport,
        grouped(u64::from(common.connections)),
        grouped(publications),
        options.payload_bytes,
        options.rate
    ));
    connections.rows(&mut table);
    table.row(
        "published",
        format!("{} confirmed of {}, at {published_rate:.1}/s", grouped(confirmed), grouped(publications)),
    );
    let integrity = if verdict.is_clean() { "every client, every publication, once, in order" } else { "FAILED" };
    table.row("integrity", integrity);
    table.row("delivered", format!("{} of {}", grouped(verdict.delivered), grouped(expected)));
    if !verdict.is_clean() {
        table.row("missing", grouped(verdict.missing));
        table.row("duplicates", grouped(verdict.duplicates));
        table.row("reordered", grouped(verdict.reordered));
        table.row("never published", grouped(verdict.unknown));
    }
    table.row("delivered rate", format!("{}/s", grouped(rate as u64)));
    table.row("due to received", latencies);
    table.row("due to confirmed", published.confirmed.summary());
    table.row("due to sent", published.lag.summary());
    table.row("CPU per delivery", format!("{cpu_per_delivery:.2} us ({cpu:.2} s in all, publishing included)"));
    table.row("load generator", format!("{own_cpu:.2} s of CPU"));
    table.row("memory per connection", format!("{} while idle", bytes(memory)));
    table.row("server memory", format!("{} before, {} at the end", bytes(idle.rss as f64), bytes(after.rss as f64)));
    table.row("measured by", environment.gauge.source());
    fault_rows(&mut table, &findings.faults);
    fault_rows(&mut table, &published.faults);

    let mut failures = Vec::new();
    connections.failures(&mut failures);
    if !verdict.is_clean() {
        failures.push("not every client received every publication once and in order".to_owned());
    }
    if confirmed < publications {
        failures.push(format!("{} publications were not confirmed", grouped(publications - confirmed)));
    }
    if findings.faults.iter().next().is_some() && failures.is_empty() {
        failures.push("errors on connections".to_owned());
    }
    if environment.is_interrupted() {
        failures.push("interrupted".to_owned());
    }
    let json = serde_json::json!({
        "scenario": "fanout",
        "transport": common.transport,
        "connections": connections,
        "publications": publications,
        "confirmed": confirmed,
        "rate": options.rate,
        "payload_bytes": options.payload_bytes,
        "integrity": verdict,
        "expected": expected,
        "delivered_per_second": rate,
        "received": latencies,
        "confirmations": published.confirmed.summary(),
        "send_lag": published.lag.summary(),
        "published_per_second": published_rate,
        "load_generator_cpu_seconds": own_cpu,
        "cpu_seconds": cpu,
        "cpu_us_per_delivery": cpu_per_delivery,
        "rss_idle": idle.rss,
        "rss_before": before.rss,
        "rss_after": after.rss,
        "rss_per_connection": memory,
        "measured_by": environment.gauge.source(),
        "faults": findings.faults,
        "publish_faults": published.faults,
        "failures": failures,
    });
    Ok(Outcome { table, json, failures })
}
