//! `compare-builds`: rows of scenarios against two builds in pairs.
//!
//! Each pair has a fresh server of each build. Scenarios that work in slices have both open at once and take turns of a
//! fraction of a second; the others take turns as a whole.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::{CommandFactory, FromArgMatches};

use super::Stage;
use super::progress::Progress;
use crate::options::{CompareBuilds, Options};
use crate::peers::install::said;
use crate::report::builds::{BuildsReport, Compared};
use crate::rows::Row;
use crate::subject::Spec;

/// One of the two builds.
#[derive(Debug)]
pub struct Build {
    /// `before` or `after`.
    pub label: &'static str,
    /// The binary.
    pub binary: PathBuf,
    /// Settings of this build alone.
    pub settings: Vec<(String, String)>,
}

impl Build {
    /// What is started for it.
    pub fn spec(&self, common: &Spec) -> Spec {
        let mut spec = Spec { binary: Some(self.binary.clone()), ..common.clone() };
        spec.settings.extend(self.settings.iter().cloned());
        spec
    }
}

/// Measures the rows, and gives each to `done` when it is measured.
pub fn run(
    options: &CompareBuilds,
    interrupted: Arc<AtomicBool>,
    mut done: impl FnMut(&Compared),
) -> anyhow::Result<BuildsReport> {
    let build = |label, binary: &PathBuf, settings: &[(String, String)]| Build {
        label,
        binary: binary.clone(),
        settings: settings.to_vec(),
    };
    let builds =
        [build("before", &options.before, &options.set_before), build("after", &options.after, &options.set_after)];
    let mut report = BuildsReport { builds: Vec::new(), rows: Vec::new() };
    for Build { label, binary, .. } in &builds {
        let version = said(&binary.to_string_lossy(), &["--version"]).with_context(|| label.to_uppercase())?;
        report.builds.push((label, binary.clone(), version));
    }
    for row in options.rows() {
        let parsed = parse(&words(row, options))
            .with_context(|| format!("row {}: {} {}", row.name, row.command, options.overrides.join(" ")))?;
        let common = parsed.scenario.common().context("a row without options of a scenario")?;
        let progress = Progress::new(common.quiet);
        progress.say(&format!("row {}", row.name));
        let stage = Stage { common, builds: Some(&builds), interrupted: &interrupted, progress };
        let outcome = stage.run(&parsed.scenario).with_context(|| format!("row {}", row.name))?;
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let compared = Compared::new(row, &outcome).with_context(|| format!("row {}", row.name))?;
        done(&compared);
        report.rows.push(compared);
    }
    Ok(report)
}

/// The command line of a row.
fn words(row: &Row, options: &CompareBuilds) -> Vec<OsString> {
    let mut words: Vec<String> = row.command.split(' ').map(str::to_owned).collect();
    words.extend(["--rounds".to_owned(), options.pairs.unwrap_or(row.pairs).to_string()]);
    if row.pinned && std::thread::available_parallelism().map_or(1, NonZero::get) > 1 {
        words.extend(["--pin-server", "0", "--pin-clients", "1"].map(str::to_owned));
    }
    for (path, value) in &options.set {
        words.extend(["--set".to_owned(), format!("{path}={value}")]);
    }
    if options.quiet {
        words.push("--quiet".to_owned());
    }
    words.extend(options.overrides.iter().cloned());
    words.into_iter().map(OsString::from).collect()
}

/// Parses a scenario's command line, in which a later option overrides an earlier one.
fn parse(words: &[OsString]) -> anyhow::Result<Options> {
    let command = Options::command().args_override_self(true).no_binary_name(true);
    Ok(Options::from_arg_matches(&command.try_get_matches_from(words)?)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Scenario;

    #[test]
    fn overrides_win_over_the_row_and_settings_add_up() {
        let line = "x compare-builds a b --rows idle --pairs 6 --set a.b=c -- --connections 50 --set d.e=f";
        let Scenario::CompareBuilds(options) = Options::parse_from(line.split(' ')).scenario else { unreachable!() };
        let parsed = parse(&words(options.rows()[0], &options)).unwrap();
        let common = parsed.scenario.common().unwrap();
        assert_eq!((common.connections, common.rounds), (50, 6));
        let paths: Vec<&str> = common.set.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["client.ping_interval", "client.pong_timeout", "a.b", "d.e"]);
        let unknown = parse(&["idle".into(), "--publications".into(), "3".into()]).unwrap_err();
        assert!(unknown.to_string().contains("--publications"), "{unknown}");
    }
}
