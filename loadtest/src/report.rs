//! What a run found: a table for people, JSON for programs.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// Latencies up to a minute, in microseconds, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    #[expect(clippy::new_without_default, reason = "an empty one is not a natural default of anything")]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are legal: 1 < 60,000,000, 3 digits"))
    }

    /// Notes one; those above a minute count as a minute.
    pub fn note(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so nothing can be out of range.
        let _ = self.0.add(&other.0);
    }

    /// The figures that are reported.
    pub fn summary(&self) -> Summary {
        let at = |quantile| Duration::from_micros(self.0.value_at_quantile(quantile));
        Summary {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(self.0.max()),
        }
    }
}

/// Percentiles of latencies; in JSON in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Summary {
    pub count: u64,
    #[serde(rename = "p50_us", serialize_with = "micros")]
    pub p50: Duration,
    #[serde(rename = "p90_us", serialize_with = "micros")]
    pub p90: Duration,
    #[serde(rename = "p99_us", serialize_with = "micros")]
    pub p99: Duration,
    #[serde(rename = "p999_us", serialize_with = "micros")]
    pub p999: Duration,
    #[serde(rename = "max_us", serialize_with = "micros")]
    pub max: Duration,
}

fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none measured");
        }
        let Self { p50, p90, p99, p999, max, .. } = self;
        let ms = |latency: &Duration| format!("{:.2}", latency.as_secs_f64() * 1e3);
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(ms);
        write!(f, "p50 {p50}   p90 {p90}   p99 {p99}   p99.9 {p999}   max {max} ms")
    }
}

/// A table of two columns under a title.
#[derive(Debug)]
pub struct Table {
    title: String,
    rows: Vec<(String, String)>,
}

impl Table {
    /// An empty one.
    pub fn new(title: String) -> Self {
        Self { title, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, name: &str, value: impl fmt::Display) {
        self.rows.push((name.to_owned(), value.to_string()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        writeln!(f, "\n{}\n", self.title)?;
        for (name, value) in &self.rows {
            writeln!(f, "  {name:width$}   {value}")?;
        }
        Ok(())
    }
}

/// A number with its thousands parted.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that suits them.
pub fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        0.0..1024.0 => format!("{bytes:.0} B"),
        1024.0..1_048_576.0 => format!("{:.2} KiB", bytes / 1024.0),
        _ => format!("{:.1} MiB", bytes / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_merge_and_saturate() {
        let (mut one, mut other) = (Latencies::new(), Latencies::new());
        (1..=98).for_each(|n| one.note(Duration::from_millis(n)));
        other.note(Duration::from_millis(99));
        other.note(Duration::from_secs(3600));
        one.merge(&other);
        let summary = one.summary();
        assert_eq!(summary.count, 100);
        assert!((summary.p50.as_secs_f64() - 0.050).abs() < 0.001, "{summary}");
        assert!((summary.p99.as_secs_f64() - 0.099).abs() < 0.001, "{summary}");
        assert!((summary.max.as_secs_f64() - 60.0).abs() < 0.1, "{summary}");
        let json = serde_json::to_value(summary).unwrap();
        assert!(json["p50_us"].as_u64().is_some_and(|p50| p50.abs_diff(50_000) < 100), "{json}");
        assert_eq!(Latencies::new().summary().to_string(), "none measured");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!([0, 12, 999, 1_000, 1_234_567].map(grouped), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!([512.0, 2048.0, -2048.0, 3e6].map(bytes), ["512 B", "2.00 KiB", "-2.00 KiB", "2.9 MiB"]);
        let mut table = Table::new("title".into());
        table.row("a", 1);
        table.row("long", "x");
        assert_eq!(table.to_string(), "\ntitle\n\n  a      1\n  long   x\n");
    }
}
