//! `soak`: for a while, everything at once - connections that stay and receive, others that come and go, some that stall -
//! with integrity checked throughout, and the server's memory at the end beside that at the beginning.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::delivery::{Order, Pace, deliver};
use super::environment::{Environment, fault_rows};
use crate::check::Verdict;
use crate::options::{Delivery, Soak};
use crate::publisher::rate;
use crate::publisher::rounds::Batch;
use crate::report::{Figure, Latencies, Table, Unit, bytes, grouped};
use crate::rounds::Measured;
use crate::schedule::Schedule;

pub(super) fn title(options: &Soak) -> String {
    let Soak { common, duration, rate, churn, stalled, .. } = options;
    format!(
        "soak over {}: {} connections that stay, {rate}/s to them, {churn} that come and go, {stalled} of them stalled, for {duration:?}",
        common.transport,
        grouped(common.connections.into())
    )
}

pub(super) fn measure(environment: &mut Environment<'_>, options: &Soak) -> anyhow::Result<Measured> {
    let channels = environment.channels(1, 1)?;
    let publications = ((options.duration.as_secs_f64() * options.rate) as u64).max(1);
    let plan = environment.publications(channels.clone(), options.delivery.payload_bytes);
    let (fleet, mut connections) = environment.open(environment.plan(channels, publications))?;
    // One round of everything belongs to the beginning: what a server keeps from its first is no leak.
    let mut churned = churn(environment, options)?;
    environment.hold(Duration::from_secs(2));
    let before = environment.subject.gauge.read_settled()?;
    let interrupted = environment.interrupted;
    let schedule = Schedule::new(Instant::now(), options.rate);
    let (mut verdict, mut latencies, mut cycles) = (Verdict::default(), Latencies::new(), 0);
    let mut failures = Vec::new();
    let published = std::thread::scope(|scope| -> anyhow::Result<_> {
        let publisher = scope.spawn(move || rate::run(&plan, publications, schedule, interrupted));
        while !publisher.is_finished() {
            for failure in churned.failures.drain(..).map(|failure| format!("those that come and go: {failure}")) {
                if !failures.contains(&failure) {
                    failures.push(failure);
                }
            }
            churned.latencies.iter().for_each(|(_, of)| latencies.merge(of));
            cycles += 1;
            churned = churn(environment, options)?;
        }
        publisher.join().map_err(|_| anyhow!("the publisher panicked"))
    })?;
    let expected = publications * connections.counts.held() as u64;
    let end = Instant::now() + options.delivery.settle;
    while fleet.delivered() < expected && Instant::now() < end && !environment.is_interrupted() {
        std::thread::sleep(Duration::from_millis(5));
    }
    environment.hold(Duration::from_secs(2));
    let after = environment.subject.gauge.read_settled()?;
    connections.counts = fleet.counts();
    let findings = fleet.close(&published.attempted)?;
    verdict += findings.verdict;

    let mut table = Table::new(title(options));
    connections.rows(&mut table);
    let integrity = if verdict.is_clean() { "every client, every publication, once, in order" } else { "FAILED" };
    table.row("integrity", integrity);
    table.row("delivered", format!("{} of {}", grouped(verdict.delivered), grouped(expected)));
    table.row("came and went", format!("{cycles} times"));
    table.row("due to received", findings.latencies.summary());
    table.row(
        "server memory",
        format!("{} at the beginning, {} at the end", bytes(before.rss as f64), bytes(after.rss as f64)),
    );
    fault_rows(&mut table, &findings.faults);
    fault_rows(&mut table, &published.faults);
    connections.failures(&mut failures);
    if !verdict.is_clean() || !findings.faults.is_empty() {
        failures.push("not every client that stayed received every publication once and in order".to_owned());
    }
    if published.attempted.confirmed() < publications {
        failures.push("publications were not confirmed".to_owned());
    }
    if environment.is_interrupted() {
        failures.push("interrupted".to_owned());
    }
    let figure = |name, unit, value| Figure { name, unit, value };
    let summary = findings.latencies.summary();
    let figures = vec![
        figure("memory at the end / at the beginning", Unit::Plain, after.rss as f64 / before.rss as f64),
        figure("memory at the end", Unit::Bytes, after.rss as f64),
        figure("latency p99", Unit::Millis, summary.p99.as_secs_f64() * 1e3),
        figure("cycles", Unit::Plain, f64::from(cycles)),
    ];
    let json = serde_json::json!({
        "scenario": "soak",
        "connections": connections,
        "integrity": verdict,
        "expected": expected,
        "cycles": cycles,
        "received": summary,
        "rss_before": before.rss,
        "rss_after": after.rss,
        "figures": figures,
        "faults": findings.faults,
        "publish_faults": published.faults,
        "failures": failures,
    });
    let latencies = vec![("those that stay", findings.latencies), ("those that come and go", latencies)];
    Ok(Measured { figures, latencies, table, json, failures })
}

/// Some connect, receive a few bursts, and go; some of them read nothing meanwhile.
fn churn(environment: &mut Environment<'_>, options: &Soak) -> anyhow::Result<Measured> {
    environment.run += 1;
    let order = Order {
        scenario: "soak",
        title: "those that come and go".to_owned(),
        channels: environment.channels(1, 1)?,
        transports: environment.transports(),
        connections: (options.churn + options.stalled) as usize,
        stalled: options.stalled as usize,
        pace: Pace::Rounds(Batch::Burst(4), 10),
        delivery: Delivery { rest: Duration::ZERO, ..options.delivery },
        inspect: None,
    };
    deliver(environment, order)
}
