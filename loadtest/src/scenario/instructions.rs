//! `instructions`: instructions of a connect, a publication and a delivery, from runs of the server under valgrind that
//! differ in one thing each.
//!
//! Nothing overlaps: one connection opens at a time, the next publication follows when all have received the last, and the
//! server ends when its connections are gone. Two readings of one build then differ by less than 1 %.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Stage;
use super::connect_storm::AT_ONCE;
use super::environment::Environment;
use crate::options::Instructions;
use crate::publisher::rounds::{self, Batch, Rounds};
use crate::report::{Figure, Table, Unit, grouped};
use crate::rounds::{Measured, Outcome, run as in_rounds};
use crate::subject::{Layout, Spec};

/// How long anything may take: valgrind slows the server down fifty times.
const PATIENCE: Duration = Duration::from_secs(60);
/// Settings of the server: no ping is due before its end, however long the run takes.
const SETTINGS: [(&str, &str); 2] = [("client.ping_interval", "1h"), ("client.connect_timeout", "1m")];

/// One run of the server.
#[derive(Clone, Copy)]
struct Load {
    connections: u32,
    publications: u32,
}

fn title(options: &Instructions) -> String {
    format!(
        "instructions over {}: {} connects, {} publications to one, and to {} subscribers",
        options.common.transport,
        grouped(options.connects.into()),
        grouped(options.publications.into()),
        options.subscribers
    )
}

pub(super) fn run(stage: &Stage<'_>, options: &Instructions) -> anyhow::Result<Outcome> {
    stage.refuse_baseline("instructions are those of Fanway")?;
    if options.common.tls {
        bail!("instructions are counted without --tls");
    }
    let mut cases = stage.contestants(Layout::ALONE)?;
    for case in &mut cases {
        if case.spec.binary.is_none() {
            bail!("instructions are counted of a server that --spawn starts");
        }
        case.spec.counted = true;
        // Threads that wait for each other execute a different number of instructions each time.
        case.spec.worker_threads = Some(1);
        case.spec.settings.extend(SETTINGS.map(|(path, value)| (path.to_owned(), value.to_owned())));
    }
    stage.progress.say(&title(options));
    in_rounds(title(options), stage.common.rounds, &cases, |round, turns| {
        let mut found: Vec<Option<Measured>> = cases.iter().map(|_| None).collect();
        for turn in turns {
            stage.tell_round(round, &cases[*turn].label);
            found[*turn] = Some(measure(stage, &cases[*turn].spec, options)?);
        }
        found.into_iter().map(|measured| measured.context("a case that had no turn")).collect()
    })
}

fn measure(stage: &Stage<'_>, spec: &Spec, options: &Instructions) -> anyhow::Result<Measured> {
    let count = |connections, publications| count(stage, spec, options, Load { connections, publications });
    let (subscribers, publications) = (options.subscribers, options.publications);
    let idle = count(1, 0)?;
    let connected = count(1 + options.connects, 0)?;
    let published = count(1, publications)?;
    let delivered = count(subscribers, publications)?;
    let connect = (connected - idle) / f64::from(options.connects);
    let publication = (published - idle) / f64::from(publications);
    let more = f64::from(subscribers - 1);
    let delivery = (delivered - published - connect * more) / (more * f64::from(publications));

    let figure = |name, value| Figure { name, unit: Unit::Count, value };
    let figures = vec![
        figure("instructions per delivery", delivery),
        figure("instructions per publication", publication),
        figure("instructions per connect", connect),
    ];
    let mut table = Table::new(title(options));
    for Figure { name, value, .. } in &figures {
        table.row(name, Unit::Count.show(*value));
    }
    table.row("start and end of the server", grouped(idle as u64));
    let json = serde_json::json!({
        "scenario": "instructions",
        "transport": options.common.transport,
        "connects": options.connects,
        "publications": publications,
        "subscribers": subscribers,
        "counts": {"idle": idle, "connected": connected, "published": published, "delivered": delivered},
        "figures": figures,
        "failures": [],
    });
    Ok(Measured { figures, latencies: Vec::new(), table, json, failures: Vec::new() })
}

/// Instructions of a server from its start to its end with a load in between.
fn count(stage: &Stage<'_>, spec: &Spec, options: &Instructions, load: Load) -> anyhow::Result<f64> {
    stage.check()?;
    let mut environment = stage.environment(spec)?;
    let node = environment.subject.nodes.pop().context("no node")?;
    let open_files = open_files(node.process.id())?;
    let channels = environment.channels(1, 1)?;
    let mut plan = environment.plan(channels.clone(), load.publications.into());
    plan.connections = load.connections as usize;
    plan.connect_rate = AT_ONCE;
    plan.opening_at_once = 1;
    plan.ready_within = PATIENCE;
    let (fleet, connections) = environment.open(plan)?;
    let plan = environment.publications(channels, options.payload_bytes);
    let delivered = || fleet.delivered();
    let rounds = Rounds {
        batch: Batch::Burst(1),
        rounds: load.publications.into(),
        receivers: f64::from(load.connections),
        delivered: &delivered,
        patience: PATIENCE,
    };
    let published = rounds::run(&plan, &rounds, environment.interrupted);
    let findings = fleet.close(&published.attempted)?;
    let mut failures = Vec::new();
    connections.failures(&mut failures);
    failures.extend(findings.faults.iter().chain(published.faults.iter()).map(|(kind, _)| kind.to_owned()));
    if !failures.is_empty() || !findings.verdict.is_clean() {
        bail!("not every client received every publication once and in order: {}", failures.join("; "));
    }
    wait_until_gone(&environment, node.process.id(), open_files)?;
    node.instructions(PATIENCE, environment.interrupted)
}

/// Waits until the server has closed the files of its connections. To ask the server itself would cost it instructions.
fn wait_until_gone(environment: &Environment<'_>, process: u32, files: usize) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while open_files(process)? > files {
        if Instant::now() > end || environment.is_interrupted() {
            bail!("the server still has connections after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn open_files(process: u32) -> anyhow::Result<usize> {
    let folder = Path::new("/proc").join(process.to_string()).join("fd");
    Ok(std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?.count())
}
