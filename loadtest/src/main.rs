//! The binary: runs a scenario, shows what it found, and exits with 0 (all is well), 1 (the run failed) or 2 (it could
//! not be done).
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Parser;
use fanway_loadtest::options::{Common, Options, Scenario};
use fanway_loadtest::{clients, floor, report, scenario};

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match (&options.scenario, options.scenario.common()) {
        (Scenario::Floor, _) => floor::serve().map(|()| Vec::new()),
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

/// Runs a scenario and returns why it is not a success.
fn run(scenario: &Scenario, common: &Common) -> anyhow::Result<Vec<String>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let outcome = scenario::run(scenario, common, interrupted)?;
    print!("{}", outcome.text());
    if let Some(path) = &common.json {
        let text = format!("{:#}\n", outcome.json());
        std::fs::write(path, text).with_context(|| format!("--json {}", path.display()))?;
    }
    if let Some(path) = &common.html {
        std::fs::write(path, report::html::page(&outcome)).with_context(|| format!("--html {}", path.display()))?;
    }
    Ok(outcome.failures())
}
