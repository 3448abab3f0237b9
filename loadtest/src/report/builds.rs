//! Result of comparing two builds: a table for people, JSON for programs.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::interval::Interval;
use super::{Spread, Unit};
use crate::rounds::Outcome;
use crate::rows::{Bound, Row};

/// The cases of an outcome that compares builds.
const AFTER: usize = 0;
const BEFORE: usize = 1;

/// All rows that were measured.
#[derive(Debug)]
pub struct BuildsReport {
    /// Label, binary and version of each build.
    pub builds: Vec<(&'static str, PathBuf, String)>,
    /// The rows.
    pub rows: Vec<Compared>,
}

/// What a row found.
#[derive(Debug)]
pub struct Compared {
    row: &'static Row,
    title: String,
    checks: Vec<Checked>,
    /// Failures of the measurement itself, such as publications that did not arrive.
    failures: Vec<String>,
}

/// A figure of both builds.
#[derive(Debug)]
struct Checked {
    figure: &'static str,
    unit: Unit,
    bound: Bound,
    /// Readings of each pair: before, after.
    pairs: Vec<(f64, f64)>,
    /// Of the ratios or differences of the pairs.
    interval: Interval,
}

impl Compared {
    /// Compares the pairs of an outcome.
    pub fn new(row: &'static Row, outcome: &Outcome) -> anyhow::Result<Self> {
        let [after, before] = [AFTER, BEFORE].map(|case| outcome.cases.get(case));
        let (Some(after), Some(before)) = (after, before) else { bail!("there are no two builds in the result") };
        let pairs = before.rounds.iter().zip(&after.rounds);
        let checks = row.checks.iter().map(|check| {
            let figure = after.rounds.iter().find_map(|measured| measured.figure(check.figure));
            let unit = figure.with_context(|| format!("the result has no figure {:?}", check.figure))?.unit;
            let readings = pairs.clone().filter_map(|(before, after)| {
                Some((before.figure(check.figure)?.value, after.figure(check.figure)?.value))
            });
            Checked::new(check.figure, unit, check.bound, readings.collect())
        });
        Ok(Self {
            row,
            title: outcome.title.clone(),
            checks: checks.collect::<anyhow::Result<_>>()?,
            failures: outcome.failures(),
        })
    }

    /// Bounds that are exceeded, and failures of the measurement.
    pub fn failures(&self) -> Vec<String> {
        let exceeded = self.checks.iter().filter(|check| !check.is_within()).map(|check| {
            let Checked { figure, bound, .. } = check;
            let (change, bound) = (check.change(), check.show_bound(*bound));
            format!("{}: {figure}: after / before is {change}, and its upper end may be {bound}", self.row.name)
        });
        exceeded.chain(self.failures.iter().map(|failure| format!("{}: {failure}", self.row.name))).collect()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("\n{}: {}\n\n", self.row.name, self.title);
        let width = self.checks.iter().map(|check| check.figure.len()).max().unwrap_or(0);
        for check in &self.checks {
            let Checked { figure, unit, bound, .. } = check;
            let [before, after] = check.medians().map(|median| unit.show(median));
            let verdict = match (*bound, check.is_within()) {
                (Bound::Unbounded, _) => String::new(),
                (bound, true) => format!("ok, at most {}", check.show_bound(bound)),
                (bound, false) => format!("FAILED, at most {}", check.show_bound(bound)),
            };
            let _ =
                writeln!(text, "  {figure:width$}   {before:>12}   {after:>12}   {:30}   {verdict}", check.change());
        }
        let pairs = self.checks.iter().map(|check| check.pairs.len()).max().unwrap_or(0);
        let coverage = self.checks.iter().map(|check| check.interval.coverage).fold(1.0, f64::min);
        let _ = write!(
            text,
            "\n  Medians before and after, median of after / before with its interval: {pairs} pairs, {:.1} %.\n\n",
            coverage * 100.0
        );
        text
    }

    fn json(&self) -> Value {
        let check = |check: &Checked| {
            let bound = match check.bound {
                Bound::Ratio(most) => json!({"kind": "ratio", "at_most": most}),
                Bound::Difference(most) => json!({"kind": "difference", "at_most": most}),
                Bound::Unbounded => Value::Null,
            };
            let [before, after] = check.medians();
            json!({
                "figure": check.figure,
                "unit": check.unit,
                "before": before,
                "after": after,
                "interval": check.interval,
                "bound": bound,
                "within": check.is_within(),
                "pairs": check.pairs,
            })
        };
        json!({
            "row": self.row.name,
            "title": self.title,
            "command": self.row.command,
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "failures": self.failures(),
        })
    }
}

impl Checked {
    fn new(figure: &'static str, unit: Unit, bound: Bound, pairs: Vec<(f64, f64)>) -> anyhow::Result<Self> {
        let change = |(before, after): &(f64, f64)| match bound {
            Bound::Difference(_) => after - before,
            Bound::Ratio(_) | Bound::Unbounded => after / before,
        };
        let changes: Vec<f64> = pairs.iter().map(change).collect();
        let interval = Interval::of(&changes).with_context(|| format!("no pair has the figure {figure:?}"))?;
        Ok(Self { figure, unit, bound, pairs, interval })
    }

    fn is_within(&self) -> bool {
        match self.bound {
            Bound::Ratio(most) | Bound::Difference(most) => self.interval.high <= most,
            Bound::Unbounded => true,
        }
    }

    fn medians(&self) -> [f64; 2] {
        let median = |readings: Vec<f64>| Spread::of(readings).map_or(f64::NAN, |spread| spread.median);
        [
            median(self.pairs.iter().map(|(before, _)| *before).collect()),
            median(self.pairs.iter().map(|(_, after)| *after).collect()),
        ]
    }

    /// The median and the interval.
    fn change(&self) -> String {
        let Interval { median, low, high, .. } = self.interval;
        let [median, low, high] = [median, low, high].map(|value| self.show(value));
        format!("{median} ({low} to {high})")
    }

    fn show(&self, change: f64) -> String {
        match (self.bound, self.unit) {
            (Bound::Difference(_), Unit::Bytes) => format!("{change:+.1} B"),
            (Bound::Difference(_), unit) => format!("{}{}", if change < 0.0 { "" } else { "+" }, unit.show(change)),
            (Bound::Ratio(_) | Bound::Unbounded, _) => format!("{change:.3}"),
        }
    }

    fn show_bound(&self, bound: Bound) -> String {
        match bound {
            Bound::Ratio(most) | Bound::Difference(most) => self.show(most),
            Bound::Unbounded => "anything".to_owned(),
        }
    }
}

impl BuildsReport {
    /// Why the second build is not accepted; empty if it is.
    pub fn failures(&self) -> Vec<String> {
        self.rows.iter().flat_map(Compared::failures).collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let build = |(label, binary, version): &(&str, PathBuf, String)| json!({"build": label, "binary": binary, "version": version});
        json!({
            "builds": self.builds.iter().map(build).collect::<Vec<_>>(),
            "rows": self.rows.iter().map(Compared::json).collect::<Vec<_>>(),
            "failures": self.failures(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Figure, Table};
    use crate::rounds::{CaseOutcome, Measured};
    use crate::rows::{Check, ROWS};

    static ROW: Row = Row {
        name: "row",
        guard: false,
        command: "idle",
        pairs: 15,
        pinned: false,
        checks: &[
            Check { figure: "CPU", bound: Bound::Ratio(1.05) },
            Check { figure: "memory", bound: Bound::Difference(16.0) },
            Check { figure: "CPU per hour", bound: Bound::Unbounded },
        ],
    };

    /// An outcome of 15 pairs on a machine that becomes slower.
    fn outcome(ratio: f64, more: f64) -> Outcome {
        let case = |label: &str, ratio: f64, more: f64| {
            let measured = |round: i32| Measured {
                figures: vec![
                    Figure { name: "CPU", unit: Unit::Micros, value: f64::from(10 + round) * ratio },
                    Figure { name: "memory", unit: Unit::Bytes, value: 1000.0 + more },
                    Figure { name: "CPU per hour", unit: Unit::Seconds, value: 7.0 },
                ],
                latencies: Vec::new(),
                table: Table::new("one".into()),
                json: Value::Null,
                failures: Vec::new(),
            };
            CaseOutcome { label: label.into(), base: None, point: None, rounds: (0..15).map(measured).collect() }
        };
        let cases = vec![case("after", ratio, more), case("before", 1.0, 0.0)];
        Outcome { title: "a title".into(), axis: None, cases }
    }

    #[test]
    fn equal_builds_pass() {
        let compared = Compared::new(&ROW, &outcome(1.0, 0.0)).unwrap();
        assert!(compared.failures().is_empty());
        let text = compared.text();
        assert!(text.contains("1.000 (1.000 to 1.000)") && text.contains("ok, at most 1.050"), "{text}");
        assert!(text.contains("15 pairs, 96.5 %"), "{text}");
    }

    #[test]
    fn every_bound_can_be_exceeded() {
        let slower = Compared::new(&ROW, &outcome(1.06, 15.0)).unwrap();
        assert_eq!(
            slower.failures(),
            ["row: CPU: after / before is 1.060 (1.060 to 1.060), and its upper end may be 1.050"]
        );
        let larger = Compared::new(&ROW, &outcome(1.0, 17.0)).unwrap();
        assert!(larger.failures()[0].contains("+17.0 B (+17.0 B to +17.0 B)"), "{:?}", larger.failures());
        let json = BuildsReport { builds: Vec::new(), rows: vec![larger] }.json();
        assert_eq!(json["rows"][0]["checks"][1]["within"], false, "{json}");
        assert_eq!(json["failures"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_failed_measurement_is_a_failure() {
        let mut outcome = outcome(1.0, 0.0);
        outcome.cases[AFTER].rounds[3].failures.push("lost".into());
        assert_eq!(Compared::new(&ROW, &outcome).unwrap().failures(), ["row: after: lost"]);
        assert!(Compared::new(&ROWS[0], &outcome).unwrap_err().to_string().contains("instructions per delivery"));
    }
}
