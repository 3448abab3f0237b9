//! The binary: runs a scenario, shows what it found, and exits with 0 (all is well), 1 (the run failed) or 2 (it could
//! not be done).
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Parser;
use fanway_loadtest::options::{Common, Compare, CompareBuilds, Options, Scenario};
use fanway_loadtest::{clients, floor, report, scenario};

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match (&options.scenario, options.scenario.common()) {
        (Scenario::Floor, _) => floor::serve().map(|()| Vec::new()),
        (Scenario::Compare(options), _) => compare(options),
        (Scenario::CompareBuilds(options), _) => compare_builds(options),
        (Scenario::Endpoint, _) => floor::endpoint::serve().map(|()| Vec::new()),
        (Scenario::Clients, _) | (_, None) => clients::serve().map(|()| Vec::new()),
        (scenario, Some(common)) => run(scenario, common),
    };
    match outcome {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Compares with other products and returns why that is not a success.
fn compare(options: &Compare) -> anyhow::Result<Vec<String>> {
    let comparison = scenario::compare::run(options, interruption()?)?;
    print!("{}", comparison.text());
    write(options.common.json.as_deref(), || format!("{:#}\n", comparison.json()))?;
    write(options.common.html.as_deref(), || comparison.html())?;
    let plot = options.markdown.as_deref().map(|path| path.with_extension("svg"));
    write(plot.as_deref(), || comparison.svg())?;
    write(options.markdown.as_deref(), || comparison.markdown(plot.as_deref()))?;
    Ok(comparison.failures())
}

/// Compares two builds and returns why the second one is not accepted.
fn compare_builds(options: &CompareBuilds) -> anyhow::Result<Vec<String>> {
    let report = scenario::compare_builds::run(options, interruption()?, |row| print!("{}", row.text()))?;
    write(options.json.as_deref(), || format!("{:#}\n", report.json()))?;
    Ok(report.failures())
}

/// Becomes true with the first signal that asks for the end.
fn interruption() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    Ok(interrupted)
}

fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    match path {
        Some(path) => std::fs::write(path, text()).with_context(|| format!("cannot write {}", path.display())),
        None => Ok(()),
    }
}

/// Runs a scenario and returns why it is not a success.
fn run(scenario: &Scenario, common: &Common) -> anyhow::Result<Vec<String>> {
    let outcome = scenario::run(scenario, common, interruption()?)?;
    print!("{}", outcome.text());
    write(common.json.as_deref(), || format!("{:#}\n", outcome.json()))?;
    write(common.html.as_deref(), || report::html::page(&outcome))?;
    Ok(outcome.failures())
}
