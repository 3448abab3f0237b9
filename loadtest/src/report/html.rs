//! The result as a page of its own: tables and plots, nothing loaded from elsewhere.

use std::fmt::Write;

use super::plot::{Axis, Line, Scale, escape, svg};
use super::{Latencies, Spread};
use crate::rounds::{Outcome, Summary};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left}\
td.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}svg{width:100%;height:auto;font:11px system-ui,sans-serif}\
.grid{stroke:#e5e5e5}.failed{color:#b00020}details{margin:.5rem 0}h2{margin-top:2rem}";

/// The whole page.
pub fn page(outcome: &Outcome) -> String {
    let mut body = format!("<h1>{}</h1>", escape(&outcome.title));
    findings(outcome, &mut body);
    document(&outcome.title, &body)
}

/// A page around what is on it.
pub(super) fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>{body}</html>\n"
    )
}

/// Everything that was found.
pub(super) fn findings(outcome: &Outcome, page: &mut String) {
    let failures = outcome.failures();
    if failures.is_empty() {
        page.push_str("<p>Every client received every publication once and in order.</p>");
    }
    for failure in failures {
        let _ = write!(page, "<p class=\"failed\">Failed: {}</p>", escape(&failure));
    }
    let summaries = outcome.summaries();
    figures(&summaries, page);
    growth(outcome, &summaries, page);
    ratios(&summaries, page);
    latencies(outcome, page);
    details(outcome, page);
}

fn figures(summaries: &[Summary], page: &mut String) {
    page.push_str(
        "<h2>Figures</h2><table><tr><th>Figure<th>Case<th>Median<th>Least - greatest<th>Ratio<th>Least - greatest",
    );
    for Summary { case, figure, unit, value, base, ratio, .. } in summaries {
        let Spread { median, min, max } = value;
        let _ = write!(
            page,
            "<tr><td>{figure}<td>{}<td class=\"number\">{}<td class=\"number\">{} - {}",
            escape(case),
            unit.show(*median),
            unit.show(*min),
            unit.show(*max)
        );
        if let (Some(base), Some(Spread { median, min, max })) = (base, ratio) {
            let base = escape(base);
            let _ = write!(page, "<td class=\"number\">{median:.3} x {base}<td class=\"number\">{min:.3} - {max:.3}");
        }
    }
    page.push_str("</table>");
}

/// How the first figure grows, if the cases are points on an axis.
fn growth(outcome: &Outcome, summaries: &[Summary], page: &mut String) {
    let Some(axis) = &outcome.axis else { return };
    for name in outcome.figure_names() {
        let mut lines: Vec<Line> = Vec::new();
        for case in &outcome.cases {
            let (Some((line, x)), Some(summary)) =
                (&case.point, summaries.iter().find(|summary| summary.figure == name && summary.case == case.label))
            else {
                continue;
            };
            match lines.iter_mut().find(|(existing, _)| existing == line) {
                Some((_, points)) => points.push((*x, summary.value.median)),
                None => lines.push((line.clone(), vec![(*x, summary.value.median)])),
            }
        }
        let plot = svg(
            &Axis { label: axis.clone(), scale: Scale::Log },
            &Axis { label: name.to_owned(), scale: Scale::Linear },
            &lines,
        );
        if !plot.is_empty() {
            let _ = write!(page, "<h2>{} by {}</h2>{plot}", escape(name), escape(axis));
        }
    }
}

/// The ratios of the first figure that has any, round by round.
fn ratios(summaries: &[Summary], page: &mut String) {
    let Some(first) = summaries.iter().find(|summary| !summary.ratios.is_empty()) else { return };
    let lines: Vec<Line> = summaries
        .iter()
        .filter(|summary| summary.figure == first.figure && !summary.ratios.is_empty())
        .map(|summary| {
            let base = summary.base.as_deref().unwrap_or_default();
            let points = summary.ratios.iter().enumerate().map(|(round, ratio)| ((round + 1) as f64, *ratio));
            (format!("{} / {base}", summary.case), points.collect())
        })
        .collect();
    let axis = |label: &str, scale| Axis { label: label.to_owned(), scale };
    let plot = svg(&axis("round", Scale::Tight), &axis("ratio", Scale::Linear), &lines);
    let _ = write!(page, "<h2>{} by round</h2>{plot}", first.figure);
}

fn latencies(outcome: &Outcome, page: &mut String) {
    let mut kinds: Vec<&str> = Vec::new();
    for (kind, _) in outcome.cases.iter().flat_map(|case| &case.rounds).flat_map(|measured| &measured.latencies) {
        if !kinds.contains(kind) {
            kinds.push(kind);
        }
    }
    for kind in kinds {
        let lines: Vec<Line> = outcome
            .cases
            .iter()
            .map(|case| {
                let mut all = Latencies::new();
                for (name, latencies) in case.rounds.iter().flat_map(|measured| &measured.latencies) {
                    if *name == kind {
                        all.merge(latencies);
                    }
                }
                // As "nines": the tail is what matters, and it takes the room.
                let curve = all.curve().into_iter().map(|(percent, latency)| (100.0 / (100.0 - percent), latency));
                (case.label.clone(), curve.collect())
            })
            .collect();
        let x =
            Axis { label: "one in so many is slower (10: p90, 100: p99, 1000: p99.9)".to_owned(), scale: Scale::Log };
        let plot = svg(&x, &Axis { label: "ms".to_owned(), scale: Scale::Log }, &lines);
        if !plot.is_empty() {
            let _ = write!(page, "<h2>Latency: {kind}</h2>{plot}");
        }
    }
}

fn details(outcome: &Outcome, page: &mut String) {
    page.push_str("<h2>Details</h2>");
    for case in &outcome.cases {
        for (round, measured) in case.rounds.iter().enumerate() {
            let (title, rows) = measured.table.parts();
            let summary = format!("{}, round {}: {title}", case.label, round + 1);
            let _ = write!(page, "<details><summary>{}</summary><table>", escape(&summary));
            for (name, value) in rows {
                let _ = write!(page, "<tr><td>{}<td>{}", escape(name), escape(value));
            }
            page.push_str("</table></details>");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::{Figure, Table, Unit};
    use crate::rounds::{CaseOutcome, Measured};

    #[test]
    fn the_page_stands_alone_and_says_what_was_found() {
        let measured = |value: f64| {
            let mut latencies = Latencies::new();
            (1..1000).for_each(|n| latencies.note(Duration::from_micros(n)));
            let mut table = Table::new("one <run>".into());
            table.row("row", "value");
            Measured {
                figures: vec![Figure { name: "cost", unit: Unit::Micros, value }],
                latencies: vec![("due to received", latencies)],
                table,
                json: serde_json::Value::Null,
                failures: vec!["it < broke".into()],
            }
        };
        let case = |label: &str, base, x: f64| CaseOutcome {
            label: label.into(),
            base,
            point: Some(("line".into(), x)),
            rounds: vec![measured(x), measured(2.0 * x)],
        };
        let cases = vec![case("a", Some(1), 3.0), case("b", None, 2.0)];
        let page = page(&Outcome { title: "t".into(), axis: Some("subscribers".into()), cases });
        for part in ["1.500 x b", "cost by subscribers", "cost by round", "Latency: due to received", "one &lt;run&gt;"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(page.contains("it &lt; broke"));
        assert!(!page.contains("http"), "nothing is loaded from elsewhere");
    }
}
