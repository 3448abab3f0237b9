//! Latencies and their percentiles.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize, Serializer};

/// Latencies up to a minute, in microseconds, to three digits.
///
/// Between processes they travel as the values that occurred and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Latencies(Histogram<u64>);

impl From<Vec<(u64, u64)>> for Latencies {
    fn from(counts: Vec<(u64, u64)>) -> Self {
        let mut latencies = Self::new();
        for (value, count) in counts {
            latencies.0.saturating_record_n(value, count);
        }
        latencies
    }
}

impl From<Latencies> for Vec<(u64, u64)> {
    fn from(latencies: Latencies) -> Self {
        let recorded = latencies.0.iter_recorded();
        recorded.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect()
    }
}

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

    /// Percentile and latency in milliseconds, for a plot.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let at = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999];
        let at = at.into_iter().filter(|quantile| self.0.len() as f64 * (1.0 - quantile) >= 1.0);
        at.map(|quantile| (quantile * 100.0, self.0.value_at_quantile(quantile) as f64 / 1e3)).collect()
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
    fn what_another_process_noted_is_merged_as_if_it_were_noted_here() {
        let mut here = Latencies::new();
        let mut there = Latencies::new();
        (1..=1000).for_each(|n| {
            if n % 2 == 0 { here.note(Duration::from_millis(n)) } else { there.note(Duration::from_millis(n)) }
        });
        let text = serde_json::to_string(&there).unwrap();
        here.merge(&serde_json::from_str(&text).unwrap());
        let mut all = Latencies::new();
        (1..=1000).for_each(|n| all.note(Duration::from_millis(n)));
        assert_eq!(here.summary(), all.summary());
        assert_eq!(here.0, all.0);
    }
}
