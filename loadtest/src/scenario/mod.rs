//! The scenarios, one module each, and what they share.

mod fanout;
mod idle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fanway_protocol::Channel;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::clients::{Counts, Faults, Fleet, Plan};
use crate::options::{Common, Scenario};
use crate::report::{Table, grouped};
use crate::server::{Gauge, Server};
use crate::target::Target;
use crate::token;

/// Files that are open besides the connections.
const OTHER_FILES: u64 = 64;

/// What every scenario ends with.
pub struct Outcome {
    /// For people.
    pub table: Table,
    /// For programs.
    pub json: serde_json::Value,
    /// Why the run is not a success; empty if it is.
    pub failures: Vec<String>,
}

/// Runs the scenario that was asked for.
pub fn run(scenario: &Scenario, interrupted: Arc<AtomicBool>) -> anyhow::Result<Outcome> {
    match scenario {
        Scenario::Idle(options) => idle::run(options, Environment::prepare(&options.common, interrupted)?),
        Scenario::Fanout(options) => fanout::run(options, Environment::prepare(&options.common, interrupted)?),
    }
}

/// The server under load and how to reach it.
struct Environment<'a> {
    common: &'a Common,
    target: Target,
    token: String,
    api_key: String,
    gauge: Gauge,
    /// Told by a signal: the run ends early, what it started is stopped.
    interrupted: Arc<AtomicBool>,
    /// Tells this run's publications from all others.
    run: u64,
    /// The server, if this run started it.
    _server: Option<Server>,
}

impl<'a> Environment<'a> {
    fn prepare(common: &'a Common, interrupted: Arc<AtomicBool>) -> anyhow::Result<Self> {
        raise_file_limit(u64::from(common.connections) + OTHER_FILES)?;
        let run = rand::random();
        let (server, target, secret, api_key) = match &common.spawn {
            Some(binary) => {
                say(common, &format!("starting {}", binary.display()));
                let (secret, key) =
                    (format!("{:064x}", rand::random::<u128>()), format!("{:064x}", rand::random::<u128>()));
                let server = Server::start(binary, &secret, &key, &interrupted)?;
                let target = server.target.clone();
                (Some(server), target, Some(secret), key)
            }
            None => {
                let target = Target::parse(&common.url, common.allow_remote)?;
                (None, target, common.secret.clone(), common.api_key.clone())
            }
        };
        let given = common.token.clone().filter(|_| server.is_none());
        let token = match (given, secret) {
            (Some(token), _) => token,
            (None, Some(secret)) => token::mint(&secret)?,
            (None, None) => String::new(),
        };
        let pid = server.as_ref().map(Server::pid).or(common.server_pid);
        let gauge = Gauge::new(pid, &target);
        Ok(Self { common, target, token, api_key, gauge, interrupted, run, _server: server })
    }

    fn channel(&self, index: usize) -> anyhow::Result<Channel> {
        // The run's number keeps history of earlier runs away.
        let name = format!("{}{:08x}-{index}", self.common.channel_prefix, self.run as u32);
        Channel::new(&name).with_context(|| format!("--channel-prefix: {name}"))
    }

    fn say(&self, text: &str) {
        say(self.common, text);
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Opens the fleet and waits until each connection is subscribed or has failed. Returns how long that took.
    fn open(&self, channels: Vec<Channel>, publications: u64) -> anyhow::Result<(Fleet, Duration)> {
        let connections = self.common.connections as usize;
        self.say(&format!("opening {} connections", grouped(connections as u64)));
        let begun = Instant::now();
        let fleet = Fleet::open(Plan {
            target: self.target.clone(),
            transport: self.common.transport,
            token: self.token.clone(),
            connections,
            connect_rate: self.common.connect_rate,
            channels,
            workers: usize::from(self.common.workers),
            run: self.run,
            publications,
        })?;
        let mut told = Instant::now();
        while !fleet.is_settled() {
            if self.is_interrupted() {
                bail!("interrupted");
            }
            if told.elapsed() > Duration::from_secs(1) {
                told = Instant::now();
                self.say(&format!("  {} subscribed", grouped(fleet.counts().ready as u64)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = begun.elapsed();
        if fleet.counts().ready == 0 {
            let faults = fleet.close(0, &Default::default())?.faults;
            let reasons: Vec<String> = faults.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
            bail!("no connection was subscribed: {}", reasons.join("; "));
        }
        Ok((fleet, took))
    }

    /// Waits, unless the run is interrupted.
    fn hold(&self, duration: Duration) {
        let end = Instant::now() + duration;
        while !self.is_interrupted() && Instant::now() < end {
            std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
        }
    }
}

fn say(common: &Common, text: &str) {
    if !common.quiet {
        eprintln!("{text}");
    }
}

/// How many files this process may open, raised as far as needed and allowed. A server that it starts inherits it.
fn raise_file_limit(needed: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!(
            "{needed} files are needed and the limit is {}: fewer --connections, or raise it (ulimit -Hn)",
            limit.maximum.unwrap_or(0)
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// The connections' part of a result.
#[derive(Serialize)]
struct Connections {
    wanted: u32,
    #[serde(flatten)]
    counts: Counts,
    opened_in_seconds: f64,
}

impl Connections {
    fn rows(&self, table: &mut Table) {
        let Self { wanted, counts, opened_in_seconds } = self;
        let held = format!("{} of {}", grouped(counts.held() as u64), grouped(u64::from(*wanted)));
        table.row("connections held", held);
        let rate = counts.ready as f64 / opened_in_seconds;
        table.row("opened in", format!("{opened_in_seconds:.2} s ({}/s)", grouped(rate as u64)));
    }

    fn failures(&self, failures: &mut Vec<String>) {
        if self.counts.failed > 0 {
            failures.push(format!("{} connections could not be made", grouped(self.counts.failed as u64)));
        }
        if self.counts.ended > 0 {
            failures.push(format!("{} connections ended before their time", grouped(self.counts.ended as u64)));
        }
    }
}

/// Adds a row per kind of fault.
fn fault_rows(table: &mut Table, faults: &Faults) {
    for (kind, count) in faults.iter() {
        table.row("error", format!("{} x {kind}", grouped(count)));
    }
}

/// The signed difference of two readings of memory, per connection.
fn per_connection(before: u64, after: u64, connections: usize) -> f64 {
    (after as f64 - before as f64) / connections.max(1) as f64
}
