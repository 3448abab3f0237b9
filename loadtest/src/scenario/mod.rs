//! The scenarios, one module each, and what they share.
//!
//! A further scenario is a module, its options, and an arm of [`run`], which says how its nodes are laid out and which way
//! it goes: one that delivers publications gives an `Order` to `Stage::compare_deliveries`; one whose work can be cut
//! into slices implements `Sliced` for `Stage::compare_in_slices`; one that cannot gives what it [`Measured`] to
//! `Stage::compare`; one that compares cases of its own lists them for `Stage::cases`.

mod burst;
pub mod compare;
pub mod compare_builds;
mod connect_storm;
mod delivery;
mod encodings;
mod environment;
mod fanout;
mod growth;
mod idle;
mod instructions;
mod latency;
mod many_channels;
mod progress;
mod publish;
mod replay;
mod resume_storm;
mod slices;
mod slow_consumers;
mod soak;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::{Against, Common, Scenario};
use crate::rounds::{self, Case, Measured, Outcome};
use crate::subject::{Layout, Spec};
use compare_builds::Build;
use delivery::{Order, Round};
use environment::Environment;
use progress::Progress;

/// Files that are open besides the connections.
const OTHER_FILES: u64 = 64;

/// Runs the scenario that was asked for.
pub fn run(scenario: &Scenario, common: &Common, interrupted: Arc<AtomicBool>) -> anyhow::Result<Outcome> {
    let stage = Stage { common, builds: None, interrupted: &interrupted, progress: Progress::new(common.quiet) };
    stage.run(scenario)
}

/// What all measurements of a run have in common.
struct Stage<'a> {
    common: &'a Common,
    /// Compared with each other, in place of the server of the options and its floor.
    builds: Option<&'a [Build; 2]>,
    interrupted: &'a AtomicBool,
    progress: Progress,
}

impl Stage<'_> {
    fn run(&self, scenario: &Scenario) -> anyhow::Result<Outcome> {
        raise_file_limit(files(self.common))?;
        let in_slices = matches!(
            scenario,
            Scenario::Idle(_)
                | Scenario::Fanout(_)
                | Scenario::Burst(_)
                | Scenario::ManyChannels(_)
                | Scenario::Encodings(_)
                | Scenario::Publish(_)
                | Scenario::ConnectStorm(_)
        );
        if self.common.slices > 1 && !in_slices {
            bail!("--slices is for idle, fanout, burst, many-channels, encodings, publish and connect-storm");
        }
        match scenario {
            Scenario::Idle(options) => {
                let open = |environment: &mut Environment<'_>| idle::Idling::open(environment, options);
                self.compare_in_slices(idle::title(options), Layout::ALONE, open)
            }
            Scenario::Fanout(options) => {
                let order = |environment: &Environment<'_>| fanout::order(environment, options);
                self.compare_deliveries(fanout::title(options), Layout::ALONE, order)
            }
            Scenario::Burst(options) => {
                let order = |environment: &Environment<'_>| burst::order(environment, options);
                self.compare_deliveries(burst::title(options), Layout::ALONE, order)
            }
            Scenario::ManyChannels(options) => {
                let order = |environment: &Environment<'_>| many_channels::order(environment, options);
                self.compare_deliveries(many_channels::title(options), Layout::APART, order)
            }
            Scenario::Encodings(options) => {
                self.refuse_baseline("encodings compares with the same clients in channels of one encoding each")?;
                encodings::run(self, options)
            }
            Scenario::Publish(options) => {
                let open = |environment: &mut Environment<'_>, (): &()| publish::Publishing::open(environment, options);
                let cases = self.contestants_with_endpoint(publish::LAYOUT)?;
                self.cases_in_slices(publish::title(options), &cases, open)
            }
            Scenario::Latency(options) => {
                self.refuse_baseline("latency compares with bare pub/sub of the same Redis")?;
                let measure = |environment: &mut Environment<'_>| latency::measure(environment, options);
                self.compare(latency::title(options), Layout::APART, measure)
            }
            Scenario::ConnectStorm(options) => {
                let open = |environment: &mut Environment<'_>| connect_storm::Storms::open(environment, options);
                self.compare_in_slices(connect_storm::title(options), Layout::ALONE, open)
            }
            Scenario::ResumeStorm(options) => {
                self.refuse_baseline("resume-storm compares with the first connect of the same clients")?;
                let measure = |environment: &mut Environment<'_>| resume_storm::measure(environment, options);
                self.compare(resume_storm::title(options), resume_storm::LAYOUT, measure)
            }
            Scenario::SlowConsumers(options) => {
                self.refuse_baseline("slow-consumers compares with all clients reading")?;
                slow_consumers::run(self, options)
            }
            Scenario::Growth(options) => growth::run(self, options),
            Scenario::Instructions(options) => instructions::run(self, options),
            Scenario::Soak(options) => {
                let measure = |environment: &mut Environment<'_>| soak::measure(environment, options);
                self.compare(soak::title(options), Layout::ALONE, measure)
            }
            Scenario::Compare(_)
            | Scenario::CompareBuilds(_)
            | Scenario::Floor
            | Scenario::Endpoint
            | Scenario::Clients => {
                bail!("that is no scenario")
            }
        }
    }

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
        if let Some([before, after]) = self.builds {
            return Ok(vec![case("after", after.spec(&spec), Some(1)), case("before", before.spec(&spec), None)]);
        }
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

    /// The same as [`Self::contestants`] where the floor is the endpoint that only parses.
    fn contestants_with_endpoint(&self, layout: Layout) -> anyhow::Result<Vec<Case<()>>> {
        let mut cases = self.contestants(layout)?;
        if self.common.baseline() == Some(Against::Floor)
            && let [fanway, endpoint] = cases.as_mut_slice()
        {
            (endpoint.label, endpoint.spec) = ("only parsed".to_owned(), fanway.spec.endpoint());
        }
        Ok(cases)
    }

    /// The same for deliveries, in slices if `--slices` asks for it.
    fn compare_deliveries(
        &self,
        title: String,
        layout: Layout,
        order: impl Fn(&Environment<'_>) -> anyhow::Result<Order>,
    ) -> anyhow::Result<Outcome> {
        self.compare_in_slices(title, layout, |environment| {
            let order = order(environment)?;
            Round::open(environment, order)
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
