//! `publish`: what a publish over HTTP costs the server and Redis, as fast as it is answered.
//!
//! The floor of the server's cost is an endpoint that only parses ([`crate::floor::endpoint`]). The floor of Redis's cost
//! is found in the same measurement: the very command that a publish came to in Redis is overheard, and sent again as
//! often, to the same channels, a hundred in one write, as `redis-benchmark -P 100` does.

use super::environment::{Environment, fault_rows};
use super::replay::Replay;
use super::slices::{Sliced, share};
use crate::options::Publish;
use crate::publisher::{self, Published, closed};
use crate::report::{Figure, Table, Unit, grouped};
use crate::rounds::Measured;
use crate::subject::affinity::on_core;
use crate::subject::{Layout, Usage};

/// The server publishes through Redis, as a fleet does.
pub(super) const LAYOUT: Layout = Layout { redis: true, ..Layout::ALONE };
/// Of the publications that are measured, so many are made before.
const WARM_UP: u64 = 10;
/// Server and replay take turns, so many each.
const TURNS: u64 = 4;

pub(super) fn title(options: &Publish) -> String {
    let (publications, in_flight) = (grouped(options.publications), options.in_flight);
    format!("publish over HTTP: {publications} publications of {} B, {in_flight} in flight", options.payload_bytes)
}

/// Publications to an open server.
pub(super) struct Publishing<'a> {
    options: &'a Publish,
    plan: publisher::Plan,
    replay: Option<Replay>,
    published: Published,
    spent: Spent,
    confirmed: u64,
}

impl<'a> Publishing<'a> {
    /// Opens connections and warms up: logs are then as long as they get.
    pub(super) fn open(environment: &mut Environment<'_>, options: &'a Publish) -> anyhow::Result<Self> {
        let channels = environment.channels(options.channels, 1)?;
        let plan = environment.publications(channels, options.payload_bytes);
        let redis = environment.subject.redis.as_ref().filter(|_| !options.no_replay);
        let replay = redis.map(|redis| Replay::prepare(redis, &plan)).transpose()?;
        let published = Published::new(&plan);
        let mut this = Self { options, plan, replay, published, spent: Spent::default(), confirmed: 0 };
        let (warm_up, _) = this.publish(environment, options.publications / WARM_UP)?;
        this.published.attempted = warm_up.attempted;
        Ok(this)
    }

    /// Publishes, and replays as much.
    fn publish(&mut self, environment: &mut Environment<'_>, count: u64) -> anyhow::Result<(Published, Spent)> {
        let (core, interrupted) = (environment.common.pin_clients, environment.interrupted);
        self.plan.begun = self.published.attempted.clone();
        let before = Spent::read(environment)?;
        let part = on_core(core, || closed::run(&self.plan, self.options.in_flight, count, interrupted))?;
        let after = Spent::read(environment)?;
        if let Some(replay) = &mut self.replay {
            replay.send(count)?;
        }
        Ok((part, Spent::between(&before, &after, &Spent::read(environment)?)))
    }
}

impl Sliced for Publishing<'_> {
    fn slice(&mut self, environment: &mut Environment<'_>, number: u64, slices: u64) -> anyhow::Result<()> {
        let publications = share(self.options.publications, number, slices);
        let turns = if slices == 1 { TURNS } else { 1 };
        let bar = environment.progress.bar("publications", self.options.publications);
        for turn in 0..turns {
            let count = share(publications, turn, turns);
            let (part, spent) = self.publish(environment, count)?;
            self.spent.add(&spent);
            self.published.go_on(part);
            self.confirmed += count;
            bar.set(self.confirmed);
            if environment.is_interrupted() {
                break;
            }
        }
        Ok(())
    }

    fn finish(self, environment: &mut Environment<'_>) -> anyhow::Result<Measured> {
        let Self { options, replay, published, spent, confirmed, .. } = self;
        let per_publish = |cpu: f64| cpu * 1e6 / confirmed.max(1) as f64;
        let (latencies, rate) = (published.confirmed.summary(), confirmed as f64 / published.span.as_secs_f64());
        let figure = |name, unit, value| Figure { name, unit, value };
        let mut figures = vec![
            figure("CPU per publication", Unit::Micros, per_publish(spent.server)),
            figure("publications per second", Unit::PerSecond, rate),
            figure("publish latency p50", Unit::Millis, latencies.p50.as_secs_f64() * 1e3),
            figure("publish latency p99", Unit::Millis, latencies.p99.as_secs_f64() * 1e3),
        ];
        if environment.subject.redis.is_some() {
            figures.push(figure("Redis CPU per publication", Unit::Micros, per_publish(spent.redis)));
        }
        if replay.is_some() {
            figures.extend([
                figure("Redis CPU per replayed command", Unit::Micros, per_publish(spent.replay)),
                figure("Redis CPU / of the replay", Unit::Plain, spent.redis / spent.replay),
            ]);
        }
        let mut table = Table::new(title(options));
        for Figure { name, unit, value } in &figures {
            table.row(name, unit.show(*value));
        }
        table.row("sent to answered", latencies);
        if let Some(replay) = &replay {
            table.row("replayed", &replay.what);
        }
        table.row("measured by", environment.subject.gauge.source());
        fault_rows(&mut table, &published.faults);
        let mut failures = Vec::new();
        if !published.faults.is_empty() {
            failures.push("not every publication was confirmed".to_owned());
        }
        if environment.is_interrupted() {
            failures.push("interrupted".to_owned());
        }
        let json = serde_json::json!({
            "scenario": "publish",
            "publications": confirmed,
            "in_flight": options.in_flight,
            "channels": options.channels,
            "payload_bytes": options.payload_bytes,
            "answered": latencies,
            "replayed": replay.map(|replay| replay.what),
            "measured_by": environment.subject.gauge.source(),
            "figures": figures,
            "faults": published.faults,
            "failures": failures,
        });
        Ok(Measured { figures, latencies: vec![("sent to answered", published.confirmed)], table, json, failures })
    }
}

/// CPU seconds.
#[derive(Default)]
struct Spent {
    server: f64,
    redis: f64,
    replay: f64,
}

impl Spent {
    fn read(environment: &mut Environment<'_>) -> anyhow::Result<Self> {
        let mut redis = 0.0;
        for (name, gauge) in &mut environment.subject.others {
            if *name == "Redis" {
                redis = gauge.read()?.cpu;
            }
        }
        let Usage { cpu: server, .. } = environment.subject.gauge.read()?;
        Ok(Self { server, redis, replay: 0.0 })
    }

    /// Of a turn, from the readings before it, after its publications and after their replay.
    fn between(before: &Self, after: &Self, replayed: &Self) -> Self {
        Self {
            server: after.server - before.server,
            redis: after.redis - before.redis,
            replay: replayed.redis - after.redis,
        }
    }

    fn add(&mut self, other: &Self) {
        self.server += other.server;
        self.redis += other.redis;
        self.replay += other.replay;
    }
}
