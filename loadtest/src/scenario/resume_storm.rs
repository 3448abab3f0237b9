//! `resume-storm`: two nodes; one is killed, publications go on, and all its clients resume on the other from where they
//! were, while those connected there already must hardly notice.
//!
//! A third node has clients of its own and nothing to do with the storm: what those see is what the machine's load alone
//! does, the load generator's included.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use super::connect_storm::AT_ONCE;
use super::environment::{Environment, fault_rows};
use crate::channels::Channels;
use crate::check::Attempted;
use crate::clients::{Findings, Fleet, Plan};
use crate::options::ResumeStorm;
use crate::publisher::{self, Published, rate};
use crate::report::{Figure, Spread, Table, Unit, grouped};
use crate::rounds::Measured;
use crate::schedule::Schedule;
use crate::subject::{Layout, Node};
use crate::target::Target;
use crate::transport::Position;

/// One that dies, one where its clients resume, and one beside.
pub(super) const LAYOUT: Layout = Layout { nodes: 3, publisher: false, redis: true };
/// How many times the connect of all is measured, and the pause between.
const CONNECTS: usize = 3;
const REST: Duration = Duration::from_millis(500);
/// Fast, and in each channel one after another.
const PUBLISH_RATE: f64 = 2_000.0;
/// How long those who are connected already are measured beforehand.
const BEFORE: Duration = Duration::from_secs(3);

pub(super) fn title(options: &ResumeStorm) -> String {
    format!(
        "resume storm over {}: {} clients of a killed node, {} channels, {} publications missed in each",
        options.common.transport,
        grouped(options.common.connections.into()),
        grouped(options.channels.into()),
        options.missed
    )
}

pub(super) fn measure(environment: &mut Environment<'_>, options: &ResumeStorm) -> anyhow::Result<Measured> {
    let node = |number: usize| environment.subject.nodes.get(number).context("a resume storm needs --spawn");
    let (dying, living) = (node(0)?.door.clone(), Bystanding::new(node(1)?));
    let aside = Bystanding::new(node(2)?);
    environment.subject.publish = living.internal.clone();
    let channels = environment.channels(options.channels, 1)?;
    let plan = |environment: &Environment<'_>, target| Plan {
        targets: vec![target],
        connect_rate: AT_ONCE,
        opening_at_once: options.at_once as usize,
        ready_within: options.settle,
        ..environment.plan(channels.clone(), 2 * options.missed)
    };

    // As many connect at once as will resume: what that takes is what the storm is compared with. The last stay.
    let mut connect_times = Vec::new();
    let fleet = loop {
        let (fleet, connected) = environment.open(plan(environment, dying.clone()))?;
        connect_times.push(connected.opened_in_seconds);
        if connect_times.len() == CONNECTS {
            break fleet;
        }
        fleet.close(&Attempted::default())?;
        environment.hold(REST);
    };
    let expected_seconds = Spread::of(connect_times).map_or(0.0, |spread| spread.median);
    let first = publish(environment, &channels, options.missed, Attempted::default())?;
    let position = position(&first, options)?;
    wait(environment, &fleet, &channels, options.missed, options.settle);
    let calm = bystanders(environment, options, &living, |environment| {
        environment.hold(BEFORE);
        Ok(())
    })?;

    environment.say("killing the node");
    environment.subject.nodes[0].process.kill();
    let before_death = fleet.close(&first.attempted)?;
    let second = publish(environment, &channels, options.missed, first.attempted.clone())?;
    let redis = environment.subject.redis.as_ref().context("no Redis")?;
    let mut calls_before = Vec::new();
    let mut storm = None;
    let mut stormy = None;
    let beside = bystanders(environment, options, &aside, |environment| {
        stormy = Some(bystanders(environment, options, &living, |environment| {
            let mut plan = plan(environment, living.door.clone());
            plan.resume = Some(position.clone());
            plan.from = options.missed;
            // Those who stay are there already: what they ask of Redis is not the storm's.
            calls_before = redis.calls()?;
            let begun = Instant::now();
            let (fleet, connections) = environment.open(plan)?;
            wait(environment, &fleet, &channels, options.missed, options.settle);
            storm = Some((fleet, connections, begun.elapsed()));
            Ok(())
        })?);
        Ok(())
    })?;
    let stormy = stormy.context("no storm")?;
    let calls_after = redis.calls()?;
    let (fleet, mut resumed, took) = storm.context("no storm")?;
    // What comes twice comes late.
    environment.hold(Duration::from_millis(200));
    resumed.counts = fleet.counts();
    let findings = fleet.close(&second.attempted)?;

    let clients = resumed.counts.ready.max(1) as f64;
    let calls: Vec<(String, u64)> = calls_after
        .into_iter()
        .map(|(name, after)| {
            let before = calls_before.iter().find(|(other, _)| *other == name).map_or(0, |(_, before)| *before);
            (name, after.saturating_sub(before))
        })
        .filter(|(name, calls)| *calls > 0 && name != "info")
        .collect();
    let called = |names: &[&str]| -> f64 {
        calls.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, calls)| *calls as f64).sum()
    };
    let reads = called(&["evalsha_ro", "fcall_ro", "eval_ro"]);
    let subscribes = called(&["subscribe", "ssubscribe"]);
    let millis = |findings: &Findings| findings.latencies.summary().p99.as_secs_f64() * 1e3;

    let mut table = Table::new(title(options));
    resumed.rows(&mut table);
    let clean = findings.verdict.is_clean() && before_death.verdict.is_clean();
    table.row("integrity", if clean { "every client, every publication, once, in order" } else { "FAILED" });
    table.row("connect of all", format!("{expected_seconds:.2} s, the median of {CONNECTS}"));
    table.row("all resumed, nothing missing", format!("{:.2} s", took.as_secs_f64()));
    table.row("begun to subscribed", findings.connected.summary());
    table.row("others before", calm.latencies.summary());
    table.row("others meanwhile", stormy.latencies.summary());
    table.row("on the third node", beside.latencies.summary());
    let told: Vec<String> = calls.iter().map(|(name, calls)| format!("{} {name}", grouped(*calls))).collect();
    table.row("Redis commands", told.join(", "));
    fault_rows(&mut table, &findings.faults);
    let mut failures = Vec::new();
    resumed.failures(&mut failures);
    if !clean || !findings.faults.is_empty() {
        failures.push("not every client received every publication once and in order".to_owned());
    }
    if ![&calm, &stormy, &beside].iter().all(|findings| findings.verdict.is_clean()) {
        failures.push("those who stayed did not receive every publication once and in order".to_owned());
    }
    let figure = |name, unit, value| Figure { name, unit, value };
    let figures = vec![
        figure("resume time / connect time", Unit::Plain, took.as_secs_f64() / expected_seconds),
        figure("resume time", Unit::Seconds, took.as_secs_f64()),
        figure("connect time", Unit::Seconds, expected_seconds),
        figure("Redis subscribes per 100 resumes", Unit::Plain, subscribes * 100.0 / clients),
        figure("history reads per channel", Unit::Plain, reads / f64::from(options.channels)),
        figure("p99 of others meanwhile / before", Unit::Plain, millis(&stormy) / millis(&calm)),
        figure("p99 of others meanwhile / on the third node", Unit::Plain, millis(&stormy) / millis(&beside)),
        figure("p99 of others before", Unit::Millis, millis(&calm)),
        figure("p99 of others meanwhile", Unit::Millis, millis(&stormy)),
    ];
    let json = serde_json::json!({
        "scenario": "resume-storm",
        "transport": options.common.transport,
        "connections": resumed,
        "integrity": findings.verdict,
        "integrity_before": before_death.verdict,
        "redis_calls": calls,
        "figures": figures,
        "faults": findings.faults,
        "failures": failures,
    });
    let latencies = vec![
        ("begun to subscribed", findings.connected),
        ("others before", calm.latencies),
        ("others meanwhile", stormy.latencies),
        ("on the third node meanwhile", beside.latencies),
    ];
    Ok(Measured { figures, latencies, table, json, failures })
}

/// Publishes to every channel so many times.
fn publish(
    environment: &Environment<'_>,
    channels: &Channels,
    each: u64,
    begun: Attempted,
) -> anyhow::Result<Published> {
    let plan = publisher::Plan { begun, ..environment.publications(channels.clone(), 128) };
    publisher::rehearse(&plan)?;
    let schedule = Schedule::new(Instant::now(), PUBLISH_RATE);
    let published = rate::run(&plan, each * u64::from(channels.count), schedule, environment.interrupted);
    if let Some((fault, _)) = published.faults.iter().next() {
        bail!("{fault}");
    }
    Ok(published)
}

/// Where each channel stands after the first publications.
fn position(published: &Published, options: &ResumeStorm) -> anyhow::Result<Position> {
    let epochs = (0..options.channels).map(|channel| match published.places.get(&channel) {
        Some(place) if place.offset == options.missed => Ok(place.epoch.clone()),
        _ => bail!("a channel is not where it should be: does it keep history?"),
    });
    Ok(Position { epochs: epochs.collect::<anyhow::Result<_>>()?, offset: options.missed })
}

/// Waits until all have all.
fn wait(environment: &Environment<'_>, fleet: &Fleet, channels: &Channels, each: u64, patience: Duration) {
    let per_connection = u64::from(channels.per_connection) * each;
    let expected = fleet.counts().held() as u64 * per_connection;
    let end = Instant::now() + patience;
    while fleet.delivered() < expected && Instant::now() < end && !environment.is_interrupted() {
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// A node with clients that stay, and where it is published to them.
struct Bystanding {
    door: Target,
    internal: Target,
}

impl Bystanding {
    fn new(node: &Node) -> Self {
        Self { door: node.door.clone(), internal: node.internal.clone() }
    }
}

/// What those see who are connected to a node while something happens.
fn bystanders(
    environment: &Environment<'_>,
    options: &ResumeStorm,
    node: &Bystanding,
    mut meanwhile: impl FnMut(&Environment<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Findings> {
    let most = (options.settle.as_secs_f64() * 2.0 * options.bystander_rate) as u64 + 1_000;
    let prefix = format!("{}{:08x}", options.common.channel_prefix, rand::random::<u32>());
    let channels = Channels { prefix, count: 1, per_connection: 1 };
    let mut plan = environment.plan(channels.clone(), most);
    plan.targets = vec![node.door.clone()];
    plan.connections = options.bystanders as usize;
    let (fleet, _) = environment.open(plan)?;
    let publications = publisher::Plan { target: node.internal.clone(), ..environment.publications(channels, 128) };
    let stop = AtomicBool::new(false);
    let schedule = Schedule::new(Instant::now(), options.bystander_rate);
    let published = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| rate::run(&publications, most, schedule, &stop));
        let outcome = meanwhile(environment);
        stop.store(true, Ordering::Relaxed);
        let published = publisher.join().map_err(|_| anyhow!("the publisher panicked"))?;
        outcome.map(|()| published)
    })?;
    let end = Instant::now() + options.settle;
    let expected = published.attempted.confirmed() * fleet.counts().held() as u64;
    while fleet.delivered() < expected && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    fleet.close(&published.attempted)
}
