//! Plots as inline SVG: lines over a linear or logarithmic axis.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 280.0;
/// Room for the labels: left, right, top, bottom.
const MARGIN: [f64; 4] = [64.0, 150.0, 14.0, 40.0];
/// Distinct for the eye, also for most of those who see colours differently (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly, from zero.
    Linear,
    /// Evenly, from the least.
    Tight,
    /// By powers of ten.
    Log,
}

/// An axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What it shows.
    pub(super) label: String,
    /// How.
    pub(super) scale: Scale,
}

/// A named line.
pub(super) type Line = (String, Vec<(f64, f64)>);

/// The plot of some lines; empty if there is nothing to show.
pub(super) fn svg(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let fits = |(a, b): &(f64, f64)| shown(*a, x.scale) && shown(*b, y.scale);
    let points = || lines.iter().flat_map(|(_, points)| points).filter(|point| fits(point));
    let (Some(across), Some(up)) =
        (Range::of(points().map(|point| point.0), x.scale), Range::of(points().map(|point| point.1), y.scale))
    else {
        return String::new();
    };
    let [left, right, top, bottom] = MARGIN;
    let at = |(a, b): (f64, f64)| {
        (left + across.part(a) * (WIDTH - left - right), HEIGHT - bottom - up.part(b) * (HEIGHT - top - bottom))
    };
    let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#);
    let (end, floor) = (WIDTH - right, HEIGHT - bottom);
    for mark in across.marks() {
        let (place, _) = at((mark, up.from));
        let _ = write!(svg, r#"<line class="grid" x1="{place:.1}" y1="{top}" x2="{place:.1}" y2="{floor}"/>"#);
        let text = number(mark);
        let _ = write!(svg, r#"<text x="{place:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#, floor + 14.0);
    }
    for mark in up.marks() {
        let (_, place) = at((across.from, mark));
        let _ = write!(svg, r#"<line class="grid" x1="{left}" y1="{place:.1}" x2="{end}" y2="{place:.1}"/>"#);
        let (before, text) = (left - 6.0, number(mark));
        let _ = write!(svg, r#"<text x="{before}" y="{:.1}" text-anchor="end">{text}</text>"#, place + 4.0);
    }
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let places: Vec<(f64, f64)> = points.iter().filter(|point| fits(point)).map(|point| at(*point)).collect();
        let path: Vec<String> = places.iter().map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
        let _ =
            write!(svg, r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{}"/>"#, path.join(" "));
        for (a, b) in places {
            let _ = write!(svg, r#"<circle cx="{a:.1}" cy="{b:.1}" r="2.5" fill="{colour}"/>"#);
        }
        let (beside, line) = (end + 12.0, top + 12.0 + 16.0 * index as f64);
        let _ = write!(svg, r#"<text x="{beside}" y="{line}" fill="{colour}">{}</text>"#, escape(name));
    }
    let middle = f64::midpoint(left, end);
    let _ = write!(svg, r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#, HEIGHT - 6.0, escape(&x.label));
    let _ = write!(
        svg,
        r#"<text transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text></svg>"#,
        f64::midpoint(top, floor),
        escape(&y.label)
    );
    svg
}

/// Text as HTML and SVG have it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn shown(value: f64, scale: Scale) -> bool {
    value.is_finite() && (scale != Scale::Log || value > 0.0)
}

/// What an axis shows.
struct Range {
    from: f64,
    to: f64,
    scale: Scale,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>, scale: Scale) -> Option<Self> {
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (from, to) = (from.min(value), to.max(value));
        }
        if from > to {
            return None;
        }
        Some(match scale {
            Scale::Log => {
                let (from, to) = (from.log10().floor(), to.log10().ceil());
                Self { from: 10_f64.powf(from), to: 10_f64.powf(to.max(from + 1.0)), scale }
            }
            Scale::Linear | Scale::Tight => {
                let from = if scale == Scale::Linear { from.min(0.0) } else { from };
                let to = if to > from { to } else { from + 1.0 };
                Self { from, to: to + (to - from) * 0.05, scale }
            }
        })
    }

    /// Where a value is, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear | Scale::Tight => (value - self.from) / (self.to - self.from),
            Scale::Log => (value / self.from).log10() / (self.to / self.from).log10(),
        }
    }

    /// Round values to label.
    fn marks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Log => {
                let (first, last) = (self.from.log10().round() as i32, self.to.log10().round() as i32);
                (first..=last).map(|power| 10_f64.powi(power)).collect()
            }
            Scale::Linear | Scale::Tight => {
                let rough = (self.to - self.from) / 5.0;
                let power = 10_f64.powf(rough.log10().floor());
                let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
                let step = steps.into_iter().find(|step| *step >= rough).unwrap_or(rough);
                let first = (self.from / step).ceil() as i64;
                (first..).map(|n| n as f64 * step).take_while(|mark| *mark <= self.to).collect()
            }
        }
    }
}

fn number(value: f64) -> String {
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1_000_000.0 => format!("{:.1}M", value / 1e6),
        size if size >= 10_000.0 => format!("{:.0}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.3}"),
    };
    match text.contains('.') && !text.ends_with('M') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis { label: "a < b".into(), scale }
    }

    #[test]
    fn lines_are_drawn_and_what_cannot_be_is_left_out() {
        let lines = [("x & y".to_owned(), vec![(1.0, 1.0), (10.0, f64::NAN), (100.0, 3.0)]), ("z".to_owned(), vec![])];
        for scale in [Scale::Linear, Scale::Tight, Scale::Log] {
            let svg = svg(&axis(scale), &axis(scale), &lines);
            assert!(svg.contains("x &amp; y") && svg.contains("a &lt; b"), "{svg}");
            assert_eq!(svg.matches("<circle").count(), 2);
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
        }
        assert_eq!(svg(&axis(Scale::Log), &axis(Scale::Linear), &[("n".into(), vec![(0.0, 1.0)])]), "");
    }

    #[test]
    fn marks_are_round_and_within() {
        let range = Range::of([0.0, 0.93, 4.1].into_iter(), Scale::Linear).unwrap();
        assert_eq!(range.marks(), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(Range::of([3.0, 250.0].into_iter(), Scale::Log).unwrap().marks(), [1.0, 10.0, 100.0, 1000.0]);
        assert!(Range::of([7.0].into_iter(), Scale::Linear).unwrap().marks().len() > 1);
        assert_eq!([0.0, 1.5, 250.0, 20_000.0, 2e6].map(number), ["0", "1.5", "250", "20k", "2.0M"]);
    }
}
