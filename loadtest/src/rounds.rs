//! Rounds: the same measurement of several cases in turn, so that what the machine does meanwhile meets all of them.
//!
//! Each case of each round gets a fresh server; the order is turned round every time. What is reported is the median over
//! rounds, and the median of the ratios to another case *of the same round*.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use crate::report::{Figure, Latencies, Spread, Table, Unit};
use crate::subject::Spec;

/// One thing to measure, in every round.
#[derive(Clone, Debug)]
pub struct Case<P> {
    /// What people call it.
    pub label: String,
    /// What is started for it.
    pub spec: Spec,
    /// The number of the case that its figures are compared with.
    pub base: Option<usize>,
    /// The line and the place on the axis where a plot has it, if the cases are points of a curve.
    pub point: Option<(String, f64)>,
    /// What the scenario does differently for it.
    pub parameters: P,
}

/// What one run of a scenario against one subject found.
pub struct Measured {
    /// The numbers that are compared, the most telling first.
    pub figures: Vec<Figure>,
    /// Latencies, by what they are of.
    pub latencies: Vec<(&'static str, Latencies)>,
    /// All that was found, for people.
    pub table: Table,
    /// The same for programs.
    pub json: Value,
    /// Why the run is not a success; empty if it is.
    pub failures: Vec<String>,
}

/// All rounds of all cases.
pub struct Outcome {
    /// What was done.
    pub title: String,
    /// What the cases are points along, if they are.
    pub axis: Option<String>,
    /// Each case with what its rounds found.
    pub cases: Vec<CaseOutcome>,
}

/// The rounds of one case.
pub struct CaseOutcome {
    /// What people call it.
    pub label: String,
    /// The number of the case that it is compared with.
    pub base: Option<usize>,
    /// See [`Case::point`].
    pub point: Option<(String, f64)>,
    /// One for each round.
    pub rounds: Vec<Measured>,
}

/// What the rounds say of one figure of one case.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The case.
    pub case: String,
    /// The figure.
    pub figure: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Its value.
    pub value: Spread,
    /// What it was compared with, if with anything.
    pub base: Option<String>,
    /// Its ratios to the other's in the same round.
    pub ratio: Option<Spread>,
    /// Those ratios, by round.
    pub ratios: Vec<f64>,
}

/// Measures every case in every round. `measure` does one round: it is given its number and the order in which the cases
/// take their turns, and gives back what it found of each case, in the order of the cases.
pub fn run<P>(
    title: String,
    rounds: u32,
    cases: &[Case<P>],
    mut measure: impl FnMut(u32, &[usize]) -> anyhow::Result<Vec<Measured>>,
) -> anyhow::Result<Outcome> {
    let mut found: Vec<CaseOutcome> = cases
        .iter()
        .map(|case| CaseOutcome {
            label: case.label.clone(),
            base: case.base,
            point: case.point.clone(),
            rounds: Vec::new(),
        })
        .collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (case, measured) in found.iter_mut().zip(measure(round, &order)?) {
            case.rounds.push(measured);
        }
    }
    Ok(Outcome { title, axis: None, cases: found })
}

impl Outcome {
    /// Why the run is not a success; empty if it is.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let alone = self.cases.len() == 1;
        for case in &self.cases {
            for failure in case.rounds.iter().flat_map(|measured| &measured.failures) {
                let text = if alone { failure.clone() } else { format!("{}: {failure}", case.label) };
                if !failures.contains(&text) {
                    failures.push(text);
                }
            }
        }
        failures
    }

    /// The only measurement, if there is but one.
    fn single(&self) -> Option<&Measured> {
        match self.cases.as_slice() {
            [case] => match case.rounds.as_slice() {
                [measured] => Some(measured),
                _ => None,
            },
            _ => None,
        }
    }

    /// Each figure and its unit, the most telling first.
    fn names(&self) -> Vec<(&'static str, Unit)> {
        let mut names: Vec<(&'static str, Unit)> = Vec::new();
        for figure in self.cases.iter().flat_map(|case| &case.rounds).flat_map(|measured| &measured.figures) {
            if !names.iter().any(|(name, _)| *name == figure.name) {
                names.push((figure.name, figure.unit));
            }
        }
        names
    }

    /// The names of all figures, the most telling first.
    pub fn figure_names(&self) -> Vec<&'static str> {
        self.names().into_iter().map(|(name, _)| name).collect()
    }

    /// What the rounds say, figure by figure and case by case.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut summaries = Vec::new();
        for (name, unit) in self.names() {
            for case in &self.cases {
                let Some(value) = Spread::of(case.rounds.iter().filter_map(|measured| measured.value(name))) else {
                    continue;
                };
                let base = case.base.and_then(|base| self.cases.get(base));
                let pairs = base.iter().flat_map(|base| case.rounds.iter().zip(&base.rounds));
                let ratios: Vec<f64> = pairs
                    .filter_map(|(measured, base)| Some(measured.value(name)? / base.value(name)?))
                    .filter(|ratio| ratio.is_finite())
                    .collect();
                summaries.push(Summary {
                    case: case.label.clone(),
                    figure: name,
                    unit,
                    value,
                    base: base.map(|base| base.label.clone()),
                    ratio: Spread::of(ratios.iter().copied()),
                    ratios,
                });
            }
        }
        summaries
    }

    /// For people: all details of a single measurement, or the comparison of several.
    pub fn text(&self) -> String {
        if let Some(measured) = self.single() {
            return measured.table.to_string();
        }
        let mut text = format!("\n{}\n", self.title);
        let summaries = self.summaries();
        let width = self.cases.iter().map(|case| case.label.len()).max().unwrap_or(0);
        let mut figure = "";
        for Summary { case, figure: name, unit, value, base, ratio, .. } in &summaries {
            if figure != *name {
                figure = name;
                let _ = write!(text, "\n  {name}\n");
            }
            let range = format!("({} - {})", unit.show(value.min), unit.show(value.max));
            let _ = write!(text, "    {case:width$}   {:>12}   {range:28}", unit.show(value.median));
            if let (Some(base), Some(ratio)) = (base, ratio) {
                let Spread { median, min, max } = ratio;
                let _ = write!(text, "   {median:.3} x {base} ({min:.3} - {max:.3})");
            }
            text.push('\n');
        }
        let rounds = self.cases.iter().map(|case| case.rounds.len()).max().unwrap_or(0);
        let _ = write!(text, "\n  Medians of {rounds} rounds, in parentheses the least and the greatest.\n\n");
        text
    }

    /// For programs: the single measurement, or the comparison with every measurement in it.
    pub fn json(&self) -> Value {
        if let Some(measured) = self.single() {
            return measured.json.clone();
        }
        let cases: Vec<Value> = self
            .cases
            .iter()
            .map(|case| {
                let rounds: Vec<&Value> = case.rounds.iter().map(|measured| &measured.json).collect();
                json!({"case": case.label, "rounds": rounds})
            })
            .collect();
        json!({"title": self.title, "summary": self.summaries(), "cases": cases, "failures": self.failures()})
    }
}

impl Measured {
    /// The figure of a name.
    pub fn figure(&self, name: &str) -> Option<Figure> {
        self.figures.iter().find(|figure| figure.name == name).copied()
    }

    fn value(&self, name: &str) -> Option<f64> {
        self.figure(name).map(|figure| figure.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{Layout, Product};

    fn outcome(readings: &[&[f64]], bases: &[Option<usize>]) -> (Outcome, Vec<String>) {
        let spec = Spec {
            product: Product::Floor,
            layout: Layout::ALONE,
            tls: false,
            worker_threads: None,
            settings: Vec::new(),
            binary: None,
            counted: false,
        };
        let cases = bases.iter().enumerate().map(|(number, base)| Case {
            label: format!("case {number}"),
            spec: spec.clone(),
            base: *base,
            point: None,
            parameters: number,
        });
        let (mut order, cases) = (Vec::new(), cases.collect::<Vec<_>>());
        let outcome = run("title".into(), readings[0].len() as u32, &cases, |round, turns| {
            order.extend(turns.iter().map(|turn| cases[*turn].label.clone()));
            let measured = cases.iter().map(|case| {
                let value = readings[case.parameters][round as usize];
                Measured {
                    figures: vec![Figure { name: "cost", unit: Unit::Micros, value }],
                    latencies: Vec::new(),
                    table: Table::new("one".into()),
                    json: json!(value),
                    failures: if value < 0.0 { vec!["bad".to_owned()] } else { Vec::new() },
                }
            });
            Ok(measured.collect())
        });
        (outcome.unwrap(), order)
    }

    #[test]
    fn ratios_are_of_the_same_round_and_the_order_turns() {
        // The machine is twice as slow in the second round: the values differ, the ratios do not.
        let (outcome, order) = outcome(&[&[3.0, 6.0, 3.0], &[2.0, 4.0, 2.0]], &[Some(1), None]);
        assert_eq!(order, ["case 0", "case 1", "case 1", "case 0", "case 0", "case 1"]);
        let summaries = outcome.summaries();
        assert_eq!(summaries[0].ratio, Some(Spread { median: 1.5, min: 1.5, max: 1.5 }));
        assert_eq!(summaries[0].value, Spread { median: 3.0, min: 3.0, max: 6.0 });
        assert_eq!(summaries[1].ratio, None);
        assert!(outcome.text().contains("1.500 x case 1 (1.500 - 1.500)"), "{}", outcome.text());
        assert!(outcome.failures().is_empty());
    }

    #[test]
    fn failures_are_told_once_and_a_single_measurement_stands_for_itself() {
        let (several, _) = outcome(&[&[-1.0, -1.0], &[1.0, 1.0]], &[None, None]);
        assert_eq!(several.failures(), ["case 0: bad"]);
        let (single, _) = outcome(&[&[7.0]], &[None]);
        assert_eq!((single.json(), single.text()), (json!(7.0), "\none\n\n".to_owned()));
    }
}
