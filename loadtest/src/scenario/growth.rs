//! `growth`: the same measurement at several sizes; the first is what the others are compared with.

use std::time::Duration;

use anyhow::{Context, bail};

use super::Stage;
use super::compare_builds::Build;
use super::delivery::{Order, Pace, deliver};
use super::environment::Environment;
use super::replay::Replay;
use crate::channels::Channels;
use crate::check::Attempted;
use crate::options::{Against, Growing, Growth};
use crate::publisher::rounds::Batch;
use crate::report::{Figure, Unit, grouped};
use crate::rounds::{Case, Measured, Outcome};
use crate::subject::{Gauge, Layout, Spec};

/// Channels that one connection of those with other channels has; below the usual limit of 128.
const PER_CONNECTION: u32 = 100;
/// Connections of those opened per second, and on their way at once: a hundred channels each are work for the server.
const OTHERS_RATE: f64 = 50.0;
const OTHERS_AT_ONCE: usize = 10;
/// Publications at once, each to a channel of its own, where the cost of Redis is looked for.
const IN_FLIGHT: u32 = 64;
/// And how long one may take.
const OTHERS_WITHIN: Duration = Duration::from_secs(30);

/// Measures every point, and the floor at every point if it is asked for.
pub(super) fn run(stage: &Stage<'_>, options: &Growth) -> anyhow::Result<Outcome> {
    let common = &options.common;
    let (axis, default): (&str, &[u32]) = match options.with {
        Growing::Subscribers => ("subscribers", &[1_000, 10_000]),
        Growing::Channels => ("other channels", &[0, 100_000]),
        Growing::Payload => ("bytes of a publication", &[128, 1_024, 4_096, 16_384]),
        Growing::Workers => ("threads", &[1, 2]),
        Growing::Nodes => ("interested nodes", &[1, 2, 4, 8]),
        Growing::Bystanders => ("nodes, one of them interested", &[1, 2, 4, 8]),
    };
    let points = if options.points.is_empty() { default } else { &options.points };
    if options.with != Growing::Channels && points.contains(&0) {
        bail!("--points: 0 {axis} cannot be measured");
    }
    let fleet = matches!(options.with, Growing::Nodes | Growing::Bystanders);
    if fleet && points.iter().any(|point| *point > 16) {
        bail!("--points: at most 16 nodes");
    }
    let spec = |point: u32| {
        let nodes = u8::try_from(point).ok().filter(|_| fleet).unwrap_or(1);
        let layout = Layout { nodes, publisher: fleet, redis: fleet || options.with == Growing::Channels };
        let spec = Spec::new(common, layout);
        let workers = u8::try_from(point).ok().filter(|_| options.with == Growing::Workers);
        Spec { worker_threads: workers.or(spec.worker_threads), ..spec }
    };
    let mut products = vec![("fanway", false)];
    if common.baseline() == Some(Against::Floor) {
        if matches!(options.with, Growing::Channels | Growing::Workers | Growing::Nodes | Growing::Bystanders) {
            bail!("the floor has no channels of its own, no threads and no Redis: growth by {axis} is its own measure");
        }
        products.push(("floor", true));
    }
    let mut cases = Vec::new();
    if let Some([before, after]) = stage.builds {
        for point in points {
            let case = |build: &Build, base| Case {
                label: format!("{}, {} {axis}", build.label, grouped(u64::from(*point))),
                spec: build.spec(&spec(*point)),
                base,
                point: None,
                parameters: *point,
            };
            cases.extend([case(after, Some(cases.len() + 1)), case(before, None)]);
        }
        products.clear();
    }
    for (name, is_floor) in products {
        let first = cases.len();
        for (index, point) in points.iter().enumerate() {
            cases.push(Case {
                label: format!("{name}, {} {axis}", grouped(u64::from(*point))),
                spec: if is_floor { spec(*point).floor() } else { spec(*point) },
                base: (index > 0).then_some(first),
                point: Some((name.to_owned(), f64::from(*point))),
                parameters: *point,
            });
        }
    }
    let title = format!("growth by {axis} over {}", common.transport);
    let mut outcome = stage.cases(title, &cases, |environment, point| measure(environment, options, axis, *point))?;
    outcome.axis = Some(axis.to_owned());
    Ok(outcome)
}

fn measure(environment: &mut Environment<'_>, options: &Growth, axis: &str, point: u32) -> anyhow::Result<Measured> {
    let mut delivery = options.delivery;
    let mut connections = options.common.connections;
    match options.with {
        Growing::Subscribers => connections = point,
        Growing::Payload => delivery.payload_bytes = u64::from(point),
        Growing::Workers => {}
        Growing::Channels => return beside_others(environment, options, point),
        Growing::Nodes | Growing::Bystanders => return on_nodes(environment, options, axis, point),
    }
    let publications = options.deliveries.div_ceil(u64::from(connections)).max(20);
    let order = Order {
        scenario: "growth",
        title: format!("{} {axis}", grouped(point.into())),
        channels: environment.channels(1, 1)?,
        connections: connections as usize,
        transports: environment.transports(),
        stalled: 0,
        pace: Pace::Rounds(Batch::Burst(1), publications),
        delivery,
        inspect: None,
    };
    deliver(environment, order)
}

/// Publishes to channels that a client on each node has, or on the first alone: what a node costs Redis.
fn on_nodes(environment: &mut Environment<'_>, options: &Growth, axis: &str, nodes: u32) -> anyhow::Result<Measured> {
    let interested = if options.with == Growing::Nodes { nodes } else { 1 };
    let mut bystanders = None;
    if interested < nodes {
        let mut plan = environment.plan(environment.channels(IN_FLIGHT, IN_FLIGHT)?, 0);
        plan.connections = nodes as usize;
        bystanders = Some(environment.open(plan)?.0);
        // Another run: its channels are others than those.
        environment.run += 1;
    }
    let publications = (options.deliveries / 4).max(1000);
    let order = Order {
        scenario: "growth",
        title: format!("{} {axis}", grouped(nodes.into())),
        channels: environment.channels(IN_FLIGHT, IN_FLIGHT)?,
        connections: interested as usize,
        transports: environment.transports(),
        stalled: 0,
        // Each in a request of its own, so that as many come to Redis at once.
        pace: Pace::Rounds(Batch::Apart(IN_FLIGHT), publications.div_ceil(u64::from(IN_FLIGHT))),
        delivery: options.delivery,
        inspect: None,
    };
    let channels = order.channels.clone();
    let mut measured = deliver(environment, order)?;
    let at = measured.figures.iter().position(|figure| figure.name == "Redis CPU per publication").unwrap_or(0);
    measured.figures[..=at].rotate_right(1);
    let value = replayed(environment, channels, options, interested as usize, publications)?;
    if let Some(fleet) = bystanders {
        fleet.close(&Attempted::default())?;
    }
    let figure = Figure { name: "Redis CPU per replayed command", unit: Unit::Micros, value };
    measured.table.row(figure.name, figure.unit.show(figure.value));
    measured.json[figure.name] = value.into();
    measured.figures.insert(0, figure);
    Ok(measured)
}

/// What one publication costs Redis while nothing else is for it to do: the same command again and again, with the same
/// subscribers, whom nobody asks what they received.
fn replayed(
    environment: &mut Environment<'_>,
    channels: Channels,
    options: &Growth,
    subscribers: usize,
    count: u64,
) -> anyhow::Result<f64> {
    let mut plan = environment.plan(channels.clone(), 0);
    plan.connections = subscribers;
    let (fleet, _) = environment.open(plan)?;
    let plan = environment.publications(Channels { count: 1, ..channels }, options.delivery.payload_bytes);
    let redis = environment.subject.redis.as_ref().context("nodes without Redis")?;
    let mut replay = Replay::prepare(redis, &plan)?;
    let mut gauge = Gauge::new(Some(redis.process.id()), &plan.target);
    replay.send(count / 10)?;
    let before = gauge.read()?.cpu;
    replay.send(count)?;
    let spent = gauge.read()?.cpu - before;
    fleet.close(&Attempted::default())?;
    Ok(spent * 1e6 / count as f64)
}

/// Publishes to one subscriber while others hold so many channels on the same node.
fn beside_others(environment: &mut Environment<'_>, options: &Growth, others: u32) -> anyhow::Result<Measured> {
    let used = |environment: &Environment<'_>| -> anyhow::Result<u64> {
        environment.subject.redis.as_ref().map_or(Ok(0), |redis| redis.figure("memory", "used_memory"))
    };
    let before = environment.subject.gauge.read_settled()?;
    let redis_before = used(environment)?;
    let (mut held, mut figures) = (None, Vec::new());
    if others > 0 {
        let per_connection = PER_CONNECTION.min(others);
        let mut plan = environment.plan(environment.channels(others, per_connection)?, 0);
        plan.connections = others.div_ceil(per_connection) as usize;
        plan.connect_rate = plan.connect_rate.min(OTHERS_RATE);
        plan.opening_at_once = OTHERS_AT_ONCE;
        plan.ready_within = OTHERS_WITHIN;
        let (fleet, connections) = environment.open(plan)?;
        if connections.counts.failed > 0 {
            let faults = fleet.close(&Attempted::default())?.faults;
            bail!("those with other channels: {}", faults.iter().map(|(kind, _)| kind).collect::<Vec<_>>().join("; "));
        }
        let after = environment.subject.gauge.read_settled()?;
        let per_channel = |bytes: f64| bytes / f64::from(others);
        let gained = after.rss as f64 - before.rss as f64;
        let redis = used(environment)? as f64 - redis_before as f64;
        figures = vec![
            Figure { name: "gateway memory per channel", unit: Unit::Bytes, value: per_channel(gained) },
            Figure { name: "Redis memory per channel", unit: Unit::Bytes, value: per_channel(redis) },
        ];
        held = Some(fleet);
    }
    // Another run: its channels are others than those that are held.
    environment.run += 1;
    let order = Order {
        scenario: "growth",
        title: format!("{} other channels", grouped(others.into())),
        channels: environment.channels(1, 1)?,
        connections: 1,
        transports: environment.transports(),
        stalled: 0,
        pace: Pace::Rounds(Batch::Burst(1), (options.deliveries / 50).max(200)),
        delivery: options.delivery,
        inspect: None,
    };
    let mut measured = deliver(environment, order)?;
    for Figure { name, unit, value } in &figures {
        measured.table.row(name, unit.show(*value));
        measured.json[*name] = (*value).into();
    }
    // The most telling first: here that is what a publication costs.
    let at = measured.figures.iter().position(|figure| figure.name == "CPU per publication").unwrap_or(0);
    measured.figures[..=at].rotate_right(1);
    measured.figures.extend(figures);
    if let Some(fleet) = held {
        let lost = fleet.counts().ended;
        if lost > 0 {
            measured.failures.push(format!("{lost} connections with other channels ended before their time"));
        }
        fleet.close(&Attempted::default())?;
    }
    Ok(measured)
}
