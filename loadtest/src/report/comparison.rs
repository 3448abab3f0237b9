//! What comparing with other products found: a table for people, JSON for programs, Markdown and a plot for documents.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::bars::{self, Panel};
use super::plot::escape;
use super::{Unit, html};
use crate::options::Comparable;
use crate::rounds::{Outcome, Summary};

/// Longest reason that is told in a table.
const REASON: usize = 160;

/// One that took part, or was to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What people call it.
    pub label: String,
    /// Which one it was.
    pub version: String,
    /// Why it did not take part, or not to the end.
    pub absent: Option<String>,
}

/// What one scenario found of all.
pub struct Result {
    /// Which.
    pub what: Comparable,
    /// Of each entry, in the same order; without rounds if it did not take part.
    pub outcome: Outcome,
}

/// Everything.
pub struct Comparison {
    /// What a reader must know to judge the figures.
    pub conditions: Vec<String>,
    /// Those compared: Fanway, the floor, the others.
    pub entries: Vec<Entry>,
    /// By scenario.
    pub results: Vec<Result>,
}

/// A column: where its figure comes from, and whether it is the ratio to the floor.
struct Column {
    title: &'static str,
    what: Comparable,
    figure: &'static str,
    is_ratio: bool,
}

const fn column(title: &'static str, what: Comparable, figure: &'static str, is_ratio: bool) -> Column {
    Column { title, what, figure, is_ratio }
}

const COLUMNS: [Column; 8] = [
    column("CPU per delivery", Comparable::Fanout, "CPU per delivery", false),
    column("/ floor", Comparable::Fanout, "CPU per delivery", true),
    column("p50", Comparable::Fanout, "latency p50", false),
    column("p99", Comparable::Fanout, "latency p99", false),
    column("memory per connection", Comparable::Fanout, "memory per connection", false),
    column("CPU per connect", Comparable::Fanout, "CPU per connect", false),
    column("deliveries per core in bursts", Comparable::Burst, "deliveries per CPU second", false),
    column("/ floor", Comparable::Burst, "deliveries per CPU second", true),
];

impl Comparison {
    /// Why it is not a success: what Fanway or the floor did wrong. What others did wrong is theirs, and in the table.
    pub fn failures(&self) -> Vec<String> {
        let own = self.entries.iter().take(2);
        own.flat_map(|entry| self.wrongs(entry).into_iter().map(|wrong| format!("{}: {wrong}", entry.label))).collect()
    }

    /// What was wrong with the deliveries of one.
    fn wrongs(&self, entry: &Entry) -> Vec<String> {
        let cases = self.results.iter().flat_map(|result| &result.outcome.cases);
        let rounds = cases.filter(|case| case.label == entry.label).flat_map(|case| &case.rounds);
        let mut wrongs: Vec<String> = rounds.flat_map(|measured| measured.failures.clone()).collect();
        wrongs.sort();
        wrongs.dedup();
        wrongs
    }

    /// What is to be said of one besides its figures.
    fn note(&self, entry: &Entry) -> Option<String> {
        let mut notes: Vec<String> = entry.absent.iter().map(|why| format!("not there: {}", shortened(why))).collect();
        notes.extend(self.wrongs(entry).iter().map(|wrong| format!("wrong: {wrong}")));
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// The columns that were measured.
    fn columns(&self) -> impl Iterator<Item = &'static Column> + '_ {
        COLUMNS.iter().filter(|column| self.results.iter().any(|result| result.what == column.what))
    }

    fn summaries(&self) -> Vec<(Comparable, Vec<Summary>)> {
        self.results.iter().map(|result| (result.what, result.outcome.summaries())).collect()
    }

    /// Each entry's cells, in the order of the columns; empty where nothing was measured.
    fn rows(&self) -> Vec<(&Entry, Vec<String>)> {
        let summaries = self.summaries();
        let cell = |entry: &Entry, column: &Column| {
            value(&summaries, entry, column).map(|(value, unit)| match column.is_ratio {
                true => format!("{value:.2}"),
                false => unit.show(value),
            })
        };
        let row = |entry| self.columns().map(|column| cell(entry, column).unwrap_or_default()).collect();
        self.entries.iter().map(|entry| (entry, row(entry))).collect()
    }

    /// For people at a terminal.
    pub fn text(&self) -> String {
        let mut lines = vec![vec![String::new()]];
        lines[0].extend(self.columns().map(|column| column.title.to_owned()));
        for (entry, cells) in self.rows() {
            lines.push(std::iter::once(entry.label.clone()).chain(cells).collect());
        }
        let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(String::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        let mut text = String::from("\n");
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}", width = *width)).collect();
            let _ = writeln!(text, "  {}", cells.join("   "));
        }
        text.push('\n');
        for entry in &self.entries {
            if let Some(note) = self.note(entry) {
                let _ = writeln!(text, "  {}: {note}", entry.label);
            }
        }
        for condition in &self.conditions {
            let _ = writeln!(text, "  {condition}");
        }
        text.push('\n');
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let entry = |entry: &Entry| {
            json!({
                "name": entry.label, "version": entry.version, "absent": entry.absent, "wrong": self.wrongs(entry),
            })
        };
        let results: Vec<Value> = self.results.iter().map(|result| result.outcome.json()).collect();
        json!({
            "conditions": self.conditions,
            "contestants": self.entries.iter().map(entry).collect::<Vec<_>>(),
            "results": results,
            "failures": self.failures(),
        })
    }

    /// For documents; `plot` is where [`Self::svg`] is.
    pub fn markdown(&self, plot: Option<&Path>) -> String {
        let mut text = String::from(
            "<!-- Written by `fanway-loadtest compare --markdown`. Run it again instead of editing. -->\n",
        );
        let titles: Vec<&str> = self.columns().map(|column| column.title).collect();
        let _ = write!(text, "\n| | version | {} |\n|---|---|{}\n", titles.join(" | "), "---:|".repeat(titles.len()));
        for (entry, cells) in self.rows() {
            let version = [Some(entry.version.clone()), self.note(entry)];
            let version: Vec<String> = version.into_iter().flatten().filter(|text| !text.is_empty()).collect();
            let version = version.join("; ").replace('|', "/");
            let _ = writeln!(text, "| {} | {version} | {} |", entry.label, cells.join(" | "));
        }
        text.push('\n');
        for result in &self.results {
            let _ = writeln!(text, "* {}.", result.outcome.title);
        }
        for condition in &self.conditions {
            let _ = writeln!(text, "* {condition}.");
        }
        if let Some(name) = plot.and_then(Path::file_name) {
            let _ = write!(text, "\n![The same as bars]({})\n", name.to_string_lossy());
        }
        text
    }

    /// The plot, as a file of its own.
    pub fn svg(&self) -> String {
        let summaries = self.summaries();
        let panel = |title: &str, column: &Column| {
            let bar = |entry: &Entry| {
                let (value, unit) = value(&summaries, entry, column)?;
                let text = if column.is_ratio { format!("{value:.2}") } else { unit.show(value) };
                Some((entry.label.clone(), value, text))
            };
            Panel { title: title.to_owned(), bars: self.entries.iter().filter_map(bar).collect() }
        };
        bars::svg(&[
            panel("CPU per delivery / floor, one publication at a time (less is better)", &COLUMNS[1]),
            panel("memory per connection (less is better)", &COLUMNS[4]),
            panel("CPU per connect (less is better)", &COLUMNS[5]),
            panel("deliveries per core in bursts / floor (more is better)", &COLUMNS[7]),
        ])
    }

    /// A page of its own: the table, the plot, and everything that was found.
    pub fn html(&self) -> String {
        let mut body = String::from("<h1>Comparison</h1><ul>");
        for condition in &self.conditions {
            let _ = write!(body, "<li>{}", escape(condition));
        }
        body.push_str("</ul><div style=\"overflow-x:auto\"><table><tr><th><th>version");
        for column in self.columns() {
            let _ = write!(body, "<th>{}", column.title);
        }
        for (entry, cells) in self.rows() {
            let _ = write!(body, "<tr><td>{}<td>{}", escape(&entry.label), escape(&entry.version));
            for cell in cells {
                let _ = write!(body, "<td class=\"number\">{cell}");
            }
        }
        body.push_str("</table></div>");
        for entry in &self.entries {
            if let Some(note) = self.note(entry) {
                let _ = write!(body, "<p class=\"failed\">{}: {}</p>", escape(&entry.label), escape(&note));
            }
        }
        body.push_str(&self.svg());
        for result in &self.results {
            let _ = write!(body, "<h1>{}</h1>", escape(&result.outcome.title));
            html::findings(&result.outcome, &mut body);
        }
        html::document("Comparison", &body)
    }
}

/// An entry's number in a column.
fn value(summaries: &[(Comparable, Vec<Summary>)], entry: &Entry, column: &Column) -> Option<(f64, Unit)> {
    let (_, summaries) = summaries.iter().find(|(what, _)| *what == column.what)?;
    let found = |summary: &&Summary| summary.case == entry.label && summary.figure == column.figure;
    let summary = summaries.iter().find(found)?;
    match (column.is_ratio, &summary.ratio) {
        (true, Some(ratio)) => Some((ratio.median, Unit::Plain)),
        // The floor itself.
        (true, None) => summary.base.is_none().then_some((1.0, Unit::Plain)),
        (false, _) => Some((summary.value.median, summary.unit)),
    }
}

/// A reason on one line.
fn shortened(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Figure, Table};
    use crate::rounds::{CaseOutcome, Measured};

    fn comparison() -> Comparison {
        let measured = |cost: f64, failures: &[&str]| Measured {
            figures: vec![
                Figure { name: "CPU per delivery", unit: Unit::Micros, value: cost },
                Figure { name: "memory per connection", unit: Unit::Bytes, value: cost * 1024.0 },
            ],
            latencies: Vec::new(),
            table: Table::new("one".into()),
            json: Value::Null,
            failures: failures.iter().map(|failure| (*failure).to_owned()).collect(),
        };
        let case = |label: &str, base, rounds| CaseOutcome { label: label.into(), base, point: None, rounds };
        let entry = |label: &str, absent: Option<&str>| Entry {
            label: label.into(),
            version: "1.0".into(),
            absent: absent.map(str::to_owned),
        };
        let cases = vec![
            case("Fanway", Some(1), vec![measured(2.2, &[]), measured(4.4, &[])]),
            case("floor", None, vec![measured(2.0, &[]), measured(4.0, &[])]),
            case("ws", Some(1), vec![measured(4.0, &["it lost some"]), measured(8.0, &[])]),
            case("Sockudo", Some(1), Vec::new()),
        ];
        let outcome = Outcome { title: "fan-out".into(), axis: None, cases };
        let entries = vec![
            entry("Fanway", None),
            entry("floor", None),
            entry("ws", None),
            entry("Sockudo", Some("cargo install:\nno | network")),
        ];
        Comparison {
            conditions: vec!["a < machine".into()],
            entries,
            results: vec![Result { what: Comparable::Fanout, outcome }],
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_and_says_who_is_missing() {
        let text = comparison().markdown(Some(Path::new("docs/comparison.svg")));
        for line in [
            "| | version | CPU per delivery | / floor | p50 | p99 | memory per connection | CPU per connect |",
            "| Fanway | 1.0 | 3.300 us | 1.10 |  |  | 3.30 KiB |  |",
            "| floor | 1.0 | 3.000 us | 1.00 |  |  | 3.00 KiB |  |",
            "| ws | 1.0; wrong: it lost some | 6.000 us | 2.00 |  |  | 6.00 KiB |  |",
            "| Sockudo | 1.0; not there: cargo install: no / network |  |  |  |  |  |  |",
            "![The same as bars](comparison.svg)",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\nin\n{text}");
        }
        assert!(comparison().text().contains("Sockudo: not there: cargo install: no | network"));
    }

    #[test]
    fn what_others_do_wrong_is_theirs() {
        let mut comparison = comparison();
        assert!(comparison.failures().is_empty());
        comparison.results[0].outcome.cases[0].rounds[1].failures.push("it lost some".into());
        assert_eq!(comparison.failures(), ["Fanway: it lost some"]);
        let json = comparison.json();
        assert_eq!(json["contestants"][2]["wrong"][0], "it lost some");
        assert_eq!(json["contestants"][3]["absent"], "cargo install:\nno | network");
    }

    #[test]
    fn the_plot_and_the_page_show_those_who_were_there() {
        let comparison = comparison();
        let svg = comparison.svg();
        assert!(svg.contains(">ws</text>") && !svg.contains("Sockudo"), "{svg}");
        let page = comparison.html();
        assert!(page.contains("a &lt; machine") && page.contains(&svg));
        assert!(!page.contains("src=") && !page.contains("href="), "nothing is loaded from elsewhere");
    }
}
