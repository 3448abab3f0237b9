//! The scenarios, one module each, and what they share.
//!
//! A further scenario is a module, its options, and an arm of [`run`], which says how its nodes are laid out and which way
//! it goes: one that delivers publications gives an `Order` to `Stage::compare_deliveries`; one that measures something
//! else gives what it [`Measured`] to `Stage::compare`; one that compares cases of its own lists them for
//! `Stage::cases`.

mod burst;
pub mod compare;
mod connect_storm;
mod delivery;
mod environment;
mod fanout;
mod growth;
mod idle;
mod latency;
mod many_channels;
mod progress;
mod publish;
mod replay;
mod resume_storm;
mod slow_consumers;
mod soak;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::{Against, Common, Scenario};
use crate::rounds::{self, Case, Measured, Outcome};
use crate::subject::{Layout, Spec};
use delivery::{Order, Round, deliver};
use environment::Environment;
use progress::Progress;

/// Files that are open besides the connections.
const OTHER_FILES: u64 = 64;

/// Runs the scenario that was asked for.
pub fn run(scenario: &Scenario, common: &Common, interrupted: Arc<AtomicBool>) -> anyhow::Result<Outcome> {
    raise_file_limit(files(common))?;
    let delivers = matches!(scenario, Scenario::Fanout(_) | Scenario::Burst(_) | Scenario::ManyChannels(_));
    if common.slices > 1 && !delivers {
        bail!("--slices is for fanout, burst and many-channels");
    }
    let stage = Stage { common, interrupted: &interrupted, progress: Progress::new(common.quiet) };
    match scenario {
        Scenario::Idle(options) => {
            let measure = |environment: &mut Environment<'_>| idle::measure(environment, options);
            stage.compare(idle::title(options), Layout::ALONE, measure)
        }
        Scenario::Fanout(options) => {
            let order = |environment: &Environment<'_>| fanout::order(environment, options);
            stage.compare_deliveries(fanout::title(options), Layout::ALONE, order)
        }
        Scenario::Burst(options) => {
            let order = |environment: &Environment<'_>| burst::order(environment, options);
            stage.compare_deliveries(burst::title(options), Layout::ALONE, order)
        }
        Scenario::ManyChannels(options) => {
            let order = |environment: &Environment<'_>| many_channels::order(environment, options);
            stage.compare_deliveries(many_channels::title(options), Layout::APART, order)
        }
        Scenario::Publish(options) => {
            let measure = |environment: &mut Environment<'_>| publish::measure(environment, options);
            stage.compare_with_endpoint(publish::title(options), publish::LAYOUT, measure)
        }
        Scenario::Latency(options) => {
            stage.refuse_baseline("latency compares with bare pub/sub of the same Redis")?;
            let measure = |environment: &mut Environment<'_>| latency::measure(environment, options);
            stage.compare(latency::title(options), Layout::APART, measure)
        }
        Scenario::ConnectStorm(options) => {
            let measure = |environment: &mut Environment<'_>| connect_storm::measure(environment, options);
            stage.compare(connect_storm::title(options), Layout::ALONE, measure)
        }
        Scenario::ResumeStorm(options) => {
            stage.refuse_baseline("resume-storm compares with the first connect of the same clients")?;
            let measure = |environment: &mut Environment<'_>| resume_storm::measure(environment, options);
            stage.compare(resume_storm::title(options), resume_storm::LAYOUT, measure)
        }
        Scenario::SlowConsumers(options) => {
            stage.refuse_baseline("slow-consumers compares with all clients reading")?;
            slow_consumers::run(&stage, options)
        }
        Scenario::Growth(options) => growth::run(&stage, options),
        Scenario::Soak(options) => {
            let measure = |environment: &mut Environment<'_>| soak::measure(environment, options);
            stage.compare(soak::title(options), Layout::ALONE, measure)
        }
        Scenario::Compare(_) | Scenario::Floor | Scenario::Endpoint | Scenario::Clients => bail!("that is no scenario"),
    }
}

/// What all measurements of a run have in common.
struct Stage<'a> {
    common: &'a Common,
    interrupted: &'a AtomicBool,
    progress: Progress,
}

impl Stage<'_> {
    /// For scenarios that have their own comparison.
    fn refuse_baseline(&self, why: &str) -> anyhow::Result<()> {
        match self.common.baseline() {
            Some(_) => bail!("neither --floor nor --against: {why}"),
            None => Ok(()),
        }
    }

    /// The server, and what it is to be compared with.
    fn contestants(&self, layout: Layout) -> anyhow::Result<Vec<Case<()>>> {
        let spec = Spec::new(self.common, layout);
        let case =
            |label: &str, spec: Spec, base| Case { label: label.to_owned(), spec, base, point: None, parameters: () };
        Ok(match self.common.baseline() {
            None => vec![case("fanway", spec, None)],
            Some(Against::Floor) => vec![case("fanway", spec.clone(), Some(1)), case("floor", spec.floor(), None)],
            Some(Against::Plain) => {
                if !self.common.tls {
                    bail!("--against plain compares with TLS: say --tls");
                }
                let plain = Spec { tls: false, ..spec.clone() };
                vec![case("tls", spec, Some(1)), case("plain", plain, None)]
            }
        })
    }

    /// Measures the server, and in turn with it what it is to be compared with.
    fn compare(
        &self,
        title: String,
        layout: Layout,
        measure: impl Fn(&mut Environment<'_>) -> anyhow::Result<Measured>,
    ) -> anyhow::Result<Outcome> {
        self.cases(title, &self.contestants(layout)?, |environment, ()| measure(environment))
    }

    /// The same where the floor is the endpoint that only parses.
    fn compare_with_endpoint(
        &self,
        title: String,
        layout: Layout,
        measure: impl Fn(&mut Environment<'_>) -> anyhow::Result<Measured>,
    ) -> anyhow::Result<Outcome> {
        let mut cases = self.contestants(layout)?;
        if self.common.baseline() == Some(Against::Floor)
            && let [fanway, endpoint] = cases.as_mut_slice()
        {
            (endpoint.label, endpoint.spec) = ("only parsed".to_owned(), fanway.spec.endpoint());
        }
        self.cases(title, &cases, |environment, ()| measure(environment))
    }

    /// The same for deliveries, in slices if it is asked for: all are open at once, and publications go to one for a
    /// moment and then to another, so that whatever else the machine does meets both alike.
    fn compare_deliveries(
        &self,
        title: String,
        layout: Layout,
        order: impl Fn(&Environment<'_>) -> anyhow::Result<Order>,
    ) -> anyhow::Result<Outcome> {
        let (cases, slices) = (self.contestants(layout)?, u64::from(self.common.slices));
        if slices == 1 {
            return self.cases(title, &cases, |environment, ()| {
                let order = order(environment)?;
                deliver(environment, order)
            });
        }
        raise_file_limit(files(self.common) * cases.len() as u64)?;
        self.progress.say(&title);
        rounds::run(title, self.common.rounds, &cases, |round, turns| {
            self.tell_round(round, "all in turn");
            let mut contestants = Vec::new();
            for case in &cases {
                let mut environment = self.environment(&case.spec)?;
                let order = order(&environment)?;
                let pace = order.pace;
                let round = Round::open(&mut environment, order)?;
                contestants.push((environment, round, pace));
            }
            for slice in 0..slices {
                for turn in turns {
                    let (environment, round, pace) = &mut contestants[*turn];
                    round.publish(environment, pace.slice(slice, slices))?;
                }
            }
            contestants.into_iter().map(|(mut environment, round, _)| round.finish(&mut environment)).collect()
        })
    }

    /// Measures cases in turn, each with a fresh server.
    fn cases<P>(
        &self,
        title: String,
        cases: &[Case<P>],
        measure: impl Fn(&mut Environment<'_>, &P) -> anyhow::Result<Measured>,
    ) -> anyhow::Result<Outcome> {
        let alone = cases.len() == 1 && self.common.rounds == 1;
        self.progress.say(&title);
        rounds::run(title, self.common.rounds, cases, |round, turns| {
            let mut found: Vec<Option<Measured>> = cases.iter().map(|_| None).collect();
            for turn in turns {
                let case = &cases[*turn];
                if !alone {
                    self.tell_round(round, &case.label);
                }
                let mut environment = self.environment(&case.spec)?;
                found[*turn] = Some(measure(&mut environment, &case.parameters)?);
            }
            found.into_iter().map(|measured| measured.context("a case that had no turn")).collect()
        })
    }

    fn tell_round(&self, round: u32, what: &str) {
        self.progress.say(&format!("round {} of {}: {what}", round + 1, self.common.rounds));
    }

    fn environment(&self, spec: &Spec) -> anyhow::Result<Environment<'_>> {
        Environment::prepare(spec, self.common, self.interrupted, &self.progress)
    }
}

/// Files that this process needs.
fn files(common: &Common) -> u64 {
    u64::from(common.connections) / u64::from(common.processes) + OTHER_FILES
}

/// How many files this process may open, raised as far as needed and allowed. What it starts inherits it.
fn raise_file_limit(needed: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!(
            "{needed} files are needed and the limit is {}: more --processes, fewer --connections, or raise it (ulimit -Hn)",
            limit.maximum.unwrap_or(0)
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
