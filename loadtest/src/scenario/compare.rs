//! `compare`: the same deliveries by Fanway, by the floor and by other products, in turn, on the same core.
//!
//! A peer that cannot be had, does not start or cannot go on is a row that says so; only Fanway and the floor must not fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;

use super::delivery::{Order, Pace, Round};
use super::environment::Environment;
use super::progress::Progress;
use super::slices::Sliced;
use super::{Stage, files, raise_file_limit};
use crate::options::{Comparable, Compare};
use crate::peers::install::{install, said};
use crate::publisher::rounds::Batch;
use crate::report::comparison::{Comparison, Entry, Result as Compared};
use crate::report::grouped;
use crate::rounds::{CaseOutcome, Measured, Outcome};
use crate::subject::{Layout, Spec};
use crate::transport::Transport;

/// Places of those that are always there.
const FANWAY: usize = 0;
const FLOOR: usize = 1;

/// One that takes part.
struct Contestant {
    entry: Entry,
    /// What is started for it; `None` if it is not there, or no longer.
    spec: Option<Spec>,
}

impl Contestant {
    fn new(label: impl ToString, version: String, spec: Spec) -> Self {
        Self { entry: Entry { label: label.to_string(), version, absent: None }, spec: Some(spec) }
    }

    fn absent(label: impl ToString, why: &anyhow::Error) -> Self {
        let entry = Entry { label: label.to_string(), version: String::new(), absent: Some(format!("{why:#}")) };
        Self { entry, spec: None }
    }
}

/// Gets the peers and compares.
pub fn run(options: &Compare, interrupted: Arc<AtomicBool>) -> anyhow::Result<Comparison> {
    let common = &options.common;
    if common.transport != Transport::Websocket || common.tls || common.nodes > 1 {
        bail!("compare is over WebSocket, with one node and without TLS: that is what all peers have");
    }
    let stage = Stage { common, builds: None, interrupted: &interrupted, progress: Progress::new(common.quiet) };
    stage.refuse_baseline("compare always measures the floor")?;
    let mut contestants = contestants(&stage, options)?;
    raise_file_limit(files(common) * contestants.len() as u64)?;
    let mut results = Vec::new();
    for what in [Comparable::Fanout, Comparable::Burst] {
        if options.scenario.contains(&what) {
            results.push(Compared { what, outcome: measure(&stage, options, what, &mut contestants)? });
        }
    }
    let entries = contestants.into_iter().map(|contestant| contestant.entry).collect();
    Ok(Comparison { conditions: conditions(options), entries, results })
}

fn contestants(stage: &Stage<'_>, options: &Compare) -> anyhow::Result<Vec<Contestant>> {
    let spec = Spec::new(stage.common, Layout::ALONE);
    let version = match &stage.common.spawn {
        Some(binary) => said(&binary.to_string_lossy(), &["--version"])?,
        None => String::new(),
    };
    let version = version.trim_start_matches("fanway ").to_owned();
    let mut contestants = vec![
        Contestant::new("Fanway", version, spec.clone()),
        Contestant::new("floor", "a bare send() loop".to_owned(), spec.floor()),
    ];
    for peer in options.wanted() {
        stage.progress.say(&format!("getting {peer}"));
        contestants.push(match install(peer, &options.peers_dir, stage.interrupted) {
            Ok(installed) => Contestant::new(peer, installed.version.clone(), spec.peer(installed)),
            Err(why) => Contestant::absent(peer, &why),
        });
        stage.check()?;
    }
    Ok(contestants)
}

impl Stage<'_> {
    /// Ends the run if it is to end.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// What each found in its turn, by its place.
type Turns = Vec<(usize, anyhow::Result<Measured>)>;

fn measure(
    stage: &Stage<'_>,
    options: &Compare,
    what: Comparable,
    contestants: &mut [Contestant],
) -> anyhow::Result<Outcome> {
    let title = title(options, what);
    stage.progress.say(&title);
    let mut found: Vec<Vec<Measured>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..stage.common.rounds {
        stage.progress.say(&format!("round {} of {}", round + 1, stage.common.rounds));
        let present = contestants.iter().enumerate();
        let mut turns: Vec<(usize, Spec)> =
            present.filter_map(|(place, contestant)| Some((place, contestant.spec.clone()?))).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        let outcomes = if stage.common.slices > 1 {
            together(stage, options, what, &turns)
        } else {
            apart(stage, options, what, &turns)
        };
        stage.check()?;
        for (place, outcome) in outcomes {
            match outcome {
                Ok(measured) => found[place].push(measured),
                Err(why) if place == FANWAY || place == FLOOR => {
                    return Err(why.context(contestants[place].entry.label.clone()));
                }
                Err(why) => {
                    let gone = &mut contestants[place];
                    gone.spec = None;
                    gone.entry.absent = Some(format!("{why:#}"));
                }
            }
        }
    }
    let cases = contestants.iter().zip(found).enumerate().map(|(place, (contestant, rounds))| CaseOutcome {
        label: contestant.entry.label.clone(),
        base: (place != FLOOR).then_some(FLOOR),
        point: None,
        rounds,
    });
    Ok(Outcome { title, axis: None, cases: cases.collect() })
}

/// Each alone, with a fresh server.
fn apart(stage: &Stage<'_>, options: &Compare, what: Comparable, turns: &[(usize, Spec)]) -> Turns {
    let one = |spec: &Spec| {
        let (mut environment, mut round) = open(stage, options, what, spec)?;
        round.publish(&mut environment, pace(options, what))?;
        round.finish(&mut environment)
    };
    turns.iter().map(|(place, spec)| (*place, one(spec))).collect()
}

/// All open at once, published to in turn, in slices.
fn together(stage: &Stage<'_>, options: &Compare, what: Comparable, turns: &[(usize, Spec)]) -> Turns {
    let slices = u64::from(stage.common.slices);
    let mut opened: Vec<_> = turns.iter().map(|(place, spec)| (*place, open(stage, options, what, spec))).collect();
    for slice in 0..slices {
        for (_, contestant) in &mut opened {
            let Ok((environment, round)) = contestant else { continue };
            if let Err(why) = round.publish(environment, pace(options, what).slice(slice, slices)) {
                *contestant = Err(why);
            }
        }
    }
    let finish = |(place, contestant): (usize, anyhow::Result<(Environment<'_>, Round)>)| {
        (place, contestant.and_then(|(mut environment, round)| round.finish(&mut environment)))
    };
    opened.into_iter().map(finish).collect()
}

fn open<'a>(
    stage: &'a Stage<'_>,
    options: &Compare,
    what: Comparable,
    spec: &Spec,
) -> anyhow::Result<(Environment<'a>, Round)> {
    stage.check()?;
    let mut environment = stage.environment(spec)?;
    let order = Order {
        scenario: match what {
            Comparable::Fanout => "fanout",
            Comparable::Burst => "burst",
        },
        title: title(options, what),
        channels: environment.channels(1, 1)?,
        transports: environment.transports(),
        connections: options.common.connections as usize,
        stalled: 0,
        pace: pace(options, what),
        delivery: options.delivery,
        inspect: None,
    };
    let round = Round::open(&mut environment, order)?;
    Ok((environment, round))
}

fn pace(options: &Compare, what: Comparable) -> Pace {
    match what {
        Comparable::Fanout => Pace::Rounds(Batch::Burst(1), options.publications),
        Comparable::Burst => Pace::Rounds(Batch::Burst(options.in_flight), options.bursts),
    }
}

fn title(options: &Compare, what: Comparable) -> String {
    let (connections, bytes) = (grouped(options.common.connections.into()), options.delivery.payload_bytes);
    match what {
        Comparable::Fanout => {
            let publications = grouped(options.publications);
            format!("fan-out: {connections} connections, {publications} publications of {bytes} B, one at a time")
        }
        Comparable::Burst => {
            let (bursts, in_flight) = (grouped(options.bursts), options.in_flight);
            format!("burst: {connections} connections, {bursts} times {in_flight} publications of {bytes} B at once")
        }
    }
}

/// What a reader must know to judge the figures.
fn conditions(options: &Compare) -> Vec<String> {
    let common = &options.common;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo").lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    let release = read("/proc/sys/kernel/osrelease");
    let release: Vec<&str> = release.split(['.', '-']).take(2).collect();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let turns = match common.slices {
        1 => "each alone, with a fresh server".to_owned(),
        slices => format!("all open at once, in {slices} slices"),
    };
    let pinned = match (common.pin_server, common.pin_clients) {
        (Some(server), Some(clients)) if server != clients => "servers on one core, clients on another",
        (Some(_), _) => "servers on one core",
        _ => "servers and clients where the system puts them",
    };
    let redis = if common.redis { "with Redis where a product has it" } else { "without Redis" };
    vec![
        format!("{}, {cores} cores, Linux {}", processor.unwrap_or_default(), release.join(".")),
        format!("rounds in turn: {}, {turns}; medians; ratios are of the same round", common.rounds),
        format!("{pinned}; {redis}"),
        "CPU and memory are the server's, publishing included; Fanway alone authenticates its clients (JWT) and, with \
         nchan, keeps history"
            .to_owned(),
    ]
}
