//! The scenarios, one module each, and what they share.
//!
//! A further scenario is a module with `title` and `measure`, its options, and an arm of [`run`]: how its nodes are laid
//! out, and [`compare`] or, where it compares cases of its own, a list of [`Case`]s for [`rounds`].

mod burst;
mod connect_storm;
mod delivery;
mod environment;
mod fanout;
mod growth;
mod idle;
mod many_channels;
mod progress;
mod resume_storm;
mod slow_consumers;
mod soak;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::{Against, Common, Scenario};
use crate::rounds::{self, Case, Measured, Outcome};
use crate::subject::{Layout, Spec};
use environment::Environment;
use progress::Progress;

/// Files that are open besides the connections.
const OTHER_FILES: u64 = 64;

/// Runs the scenario that was asked for.
pub fn run(scenario: &Scenario, common: &Common, interrupted: Arc<AtomicBool>) -> anyhow::Result<Outcome> {
    raise_file_limit(u64::from(common.connections) / u64::from(common.processes) + OTHER_FILES)?;
    let stage = Stage { common, interrupted: &interrupted, progress: Progress::new(common.quiet) };
    match scenario {
        Scenario::Idle(options) => {
            let measure = |environment: &mut Environment<'_>| idle::measure(environment, options);
            stage.compare(idle::title(options), Layout::ALONE, measure)
        }
        Scenario::Fanout(options) => {
            let measure = |environment: &mut Environment<'_>| fanout::measure(environment, options);
            stage.compare(fanout::title(options), Layout::ALONE, measure)
        }
        Scenario::Burst(options) => {
            let measure = |environment: &mut Environment<'_>| burst::measure(environment, options);
            stage.compare(burst::title(options), Layout::ALONE, measure)
        }
        Scenario::ManyChannels(options) => {
            let measure = |environment: &mut Environment<'_>| many_channels::measure(environment, options);
            stage.compare(many_channels::title(options), Layout::APART, measure)
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
        Scenario::Floor | Scenario::Clients => bail!("that is no scenario"),
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

    /// Measures the server, and in turn with it what it is to be compared with.
    fn compare(
        &self,
        title: String,
        layout: Layout,
        measure: impl Fn(&mut Environment<'_>) -> anyhow::Result<Measured>,
    ) -> anyhow::Result<Outcome> {
        let spec = Spec::new(self.common, layout);
        let case =
            |label: &str, spec: Spec, base| Case { label: label.to_owned(), spec, base, point: None, parameters: () };
        let cases = match self.common.baseline() {
            None => vec![case("fanway", spec, None)],
            Some(Against::Floor) => vec![case("fanway", spec.clone(), Some(1)), case("floor", spec.floor(), None)],
            Some(Against::Plain) => {
                if !self.common.tls {
                    bail!("--against plain compares with TLS: say --tls");
                }
                let plain = Spec { tls: false, ..spec.clone() };
                vec![case("tls", spec, Some(1)), case("plain", plain, None)]
            }
        };
        self.cases(title, cases, |environment, ()| measure(environment))
    }

    /// Measures cases in turn, each with a fresh server.
    fn cases<P>(
        &self,
        title: String,
        cases: Vec<Case<P>>,
        measure: impl Fn(&mut Environment<'_>, &P) -> anyhow::Result<Measured>,
    ) -> anyhow::Result<Outcome> {
        let alone = cases.len() == 1 && self.common.rounds == 1;
        self.progress.say(&title);
        rounds::run(title, self.common.rounds, cases, |round, case| {
            if !alone {
                self.progress.say(&format!("round {} of {}: {}", round + 1, self.common.rounds, case.label));
            }
            let mut environment = Environment::prepare(&case.spec, self.common, self.interrupted, &self.progress)?;
            measure(&mut environment, &case.parameters)
        })
    }
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
