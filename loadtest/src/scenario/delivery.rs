//! Publishing to a fleet and measuring what each delivery costs: the middle of most scenarios.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::environment::{Environment, fault_rows, per_connection};
use crate::channels::Channels;
use crate::clock;
use crate::options::Delivery;
use crate::publisher::{self, Published, rate, rounds};
use crate::report::{Figure, Table, Unit, bytes, grouped};
use crate::rounds::Measured;
use crate::schedule::Schedule;
use crate::subject::Gauge;
use crate::subject::affinity::stay_on;

/// From the decision to publish to the first publication.
const LEAD: Duration = Duration::from_millis(50);

/// How publications follow one another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// So many per second, so many in all.
    Rate(f64, u64),
    /// In so many rounds.
    Rounds(rounds::Batch, u64),
}

impl Pace {
    /// How many publications there will be in all.
    fn publications(self, channels: u32) -> u64 {
        match self {
            Self::Rate(_, publications) => publications,
            Self::Rounds(batch, rounds) => rounds * batch.publications(channels),
        }
    }

    /// The most that one channel gets.
    fn per_channel(self, channels: u32) -> u64 {
        match self {
            Self::Rate(_, publications) => publications.div_ceil(u64::from(channels)),
            Self::Rounds(batch, rounds) => batch.per_channel(rounds, channels),
        }
    }
}

/// What is to be delivered.
pub(super) struct Order {
    /// The scenario's name.
    pub(super) scenario: &'static str,
    /// What the result is called.
    pub(super) title: String,
    pub(super) channels: Channels,
    pub(super) connections: usize,
    /// Of those, how many never read.
    pub(super) stalled: usize,
    pub(super) pace: Pace,
    pub(super) delivery: Delivery,
    /// Looks at the server at the end, with all connections open, and finds further figures.
    pub(super) inspect: Option<Inspect>,
}

/// See [`Order::inspect`]; is given how much memory the server has gained since the connections were opened.
pub(super) type Inspect = fn(&Environment<'_>, f64) -> anyhow::Result<Vec<Figure>>;

/// Opens the fleet, publishes, waits for the deliveries, checks them, and says what they cost.
pub(super) fn deliver(environment: &mut Environment<'_>, order: Order) -> anyhow::Result<Measured> {
    let Order { scenario, title, channels, connections: wanted, stalled, pace, delivery, inspect } = order;
    let publications = pace.publications(channels.count);
    let plan = environment.publications(channels.clone(), delivery.payload_bytes);
    publisher::rehearse(&plan)?;
    let idle = environment.subject.gauge.read_settled()?;
    let mut fleet_plan = environment.plan(channels.clone(), pace.per_channel(channels.count));
    fleet_plan.connections = wanted;
    fleet_plan.stalled = stalled;
    let (fleet, mut connections) = environment.open(fleet_plan)?;
    let before = environment.subject.gauge.read_settled()?;
    let reading = connections.counts.held().saturating_sub(stalled);
    // Of each publication, on average over the channels.
    let receivers = reading as f64 * f64::from(channels.per_connection.min(channels.count)) / f64::from(channels.count);
    let expected = (publications as f64 * receivers) as u64;

    let mut own = Gauge::Processes([fleet.processes(), vec![std::process::id()]].concat());
    let own_before = own.read()?.cpu;
    let mut others_before = Vec::new();
    for (_, gauge) in &mut environment.subject.others {
        others_before.push(gauge.read()?.cpu);
    }
    let begun = Instant::now() + LEAD;
    let started = clock::at(begun);
    let published = std::thread::scope(|scope| -> anyhow::Result<Published> {
        let core = environment.common.pin_clients;
        let (plan, fleet, interrupted) = (&plan, &fleet, environment.interrupted);
        let publisher = scope.spawn(move || {
            stay_on(core)?;
            anyhow::Ok(match pace {
                Pace::Rate(per_second, publications) => {
                    rate::run(plan, publications, Schedule::new(begun, per_second), interrupted)
                }
                Pace::Rounds(batch, count) => {
                    let delivered = || fleet.delivered();
                    let patience = delivery.settle;
                    let rounds = rounds::Rounds { batch, rounds: count, receivers, delivered: &delivered, patience };
                    rounds::run(plan, &rounds, interrupted)
                }
            })
        });
        let mut bar = environment.progress.bar("deliveries", expected);
        while !publisher.is_finished() {
            bar.tell(fleet.delivered());
            std::thread::sleep(Duration::from_millis(5));
        }
        publisher.join().map_err(|_| anyhow!("the publisher panicked"))?
    })?;
    // Rounds may have fewer than planned; what kept them from going on is a fault.
    let publications = match pace {
        Pace::Rate(..) => publications,
        Pace::Rounds(..) => published.attempted.total(),
    };
    let expected = (publications as f64 * receivers).round() as u64;
    let end = Instant::now() + delivery.settle;
    while fleet.delivered() < expected && Instant::now() < end && !environment.is_interrupted() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let after = environment.subject.gauge.read()?;
    let mut others = Vec::new();
    for ((name, gauge), before) in environment.subject.others.iter_mut().zip(others_before) {
        others.push((*name, gauge.read()?.cpu - before));
    }
    let own_cpu = own.read()?.cpu - own_before;
    // One that comes twice or out of nowhere would come late: give it a moment before the verdict.
    environment.hold(Duration::from_millis(200).min(delivery.settle).max(delivery.rest));
    let rested = environment.subject.gauge.read()?;
    let inspected = match inspect {
        Some(inspect) => inspect(environment, rested.rss as f64 - before.rss as f64)?,
        None => Vec::new(),
    };

    connections.counts = fleet.counts();
    let findings = fleet.close(&published.attempted)?;
    let verdict = findings.verdict;
    let span = findings.last.map_or(Duration::ZERO, |last| clock::since(started, last));
    let per_second = |count: f64, span: Duration| if span.is_zero() { 0.0 } else { count / span.as_secs_f64() };
    let rate = per_second(verdict.delivered as f64, span);
    let cpu = after.cpu - before.cpu;
    let cpu_per_delivery = cpu * 1e6 / verdict.delivered.max(1) as f64;
    let memory = per_connection(idle.rss, before.rss, connections.counts.held());
    let confirmed = published.attempted.confirmed();
    let published_rate = per_second(confirmed as f64, published.span);
    let latencies = findings.latencies.summary();

    let mut table = Table::new(title);
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
    let including = if environment.subject.others.is_empty() { ", publishing included" } else { "" };
    table.row("CPU per delivery", format!("{cpu_per_delivery:.3} us ({cpu:.2} s in all{including})"));
    for (name, cpu) in &others {
        table.row(&format!("CPU of {name}"), format!("{:.2} us per publication", cpu * 1e6 / publications as f64));
    }
    table.row("load generator", format!("{own_cpu:.2} s of CPU"));
    table.row("memory per connection", format!("{} while idle", bytes(memory)));
    table.row("server memory", format!("{} before, {} at the end", bytes(idle.rss as f64), bytes(rested.rss as f64)));
    for Figure { name, unit, value } in &inspected {
        table.row(name, unit.show(*value));
    }
    table.row("measured by", environment.subject.gauge.source());
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
    if failures.is_empty() && !(findings.faults.is_empty() && published.faults.is_empty()) {
        failures.push("errors on connections".to_owned());
    }
    if environment.is_interrupted() {
        failures.push("interrupted".to_owned());
    }
    let millis = |latency: Duration| latency.as_secs_f64() * 1e3;
    let figure = |name, unit, value| Figure { name, unit, value };
    let mut figures = vec![
        figure("CPU per delivery", Unit::Micros, cpu_per_delivery),
        figure("deliveries per CPU second", Unit::PerSecond, verdict.delivered as f64 / cpu),
        figure("latency p50", Unit::Millis, millis(latencies.p50)),
        figure("latency p99", Unit::Millis, millis(latencies.p99)),
        figure("delivered rate", Unit::PerSecond, rate),
        figure("CPU per publication", Unit::Micros, cpu * 1e6 / publications as f64),
        figure("memory with connections", Unit::Bytes, before.rss as f64),
        figure("memory at the end", Unit::Bytes, rested.rss as f64),
    ];
    figures.extend(inspected);
    for (name, cpu) in &others {
        let name = if *name == "Redis" { "Redis CPU per publication" } else { "publishing CPU per publication" };
        figures.push(figure(name, Unit::Micros, cpu * 1e6 / publications as f64));
    }
    let json = serde_json::json!({
        "scenario": scenario,
        "transport": environment.common.transport,
        "tls": environment.subject.doors.iter().any(|door| door.tls),
        "connections": connections,
        "channels": channels.count,
        "channels_per_connection": channels.per_connection,
        "publications": publications,
        "confirmed": confirmed,
        "payload_bytes": delivery.payload_bytes,
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
        "rss_after": rested.rss,
        "rss_per_connection": memory,
        "measured_by": environment.subject.gauge.source(),
        "figures": figures,
        "faults": findings.faults,
        "publish_faults": published.faults,
        "failures": failures,
    });
    let latencies = vec![("due to received", findings.latencies), ("due to confirmed", published.confirmed)];
    Ok(Measured { figures, latencies, table, json, failures })
}
