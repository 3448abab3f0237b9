//! Figures, and what several rounds of them say.

use serde::Serialize;

use super::bytes;

/// One measured number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// In what.
    pub unit: Unit,
    /// How much.
    pub value: f64,
}

/// Units of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Unit {
    Micros,
    Millis,
    Seconds,
    Bytes,
    PerSecond,
    /// A number of things.
    Count,
    /// Of something by something.
    Plain,
}

impl Unit {
    /// A number of it, for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Micros if value.abs() < 100.0 => format!("{value:.3} us"),
            Self::Micros if value.abs() < 10_000.0 => format!("{value:.1} us"),
            Self::Micros => format!("{:.2} ms", value / 1e3),
            Self::Millis => format!("{value:.2} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes => bytes(value),
            Self::PerSecond => format!("{}/s", super::grouped(value.max(0.0) as u64)),
            Self::Count => super::grouped(value.max(0.0) as u64),
            Self::Plain => format!("{value:.3}"),
        }
    }
}

/// Several readings of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of readings; `None` if there are none. What is no number is left out.
    pub fn of(readings: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut readings: Vec<f64> = readings.into_iter().filter(|reading| reading.is_finite()).collect();
        readings.sort_by(f64::total_cmp);
        let (min, max) = (*readings.first()?, *readings.last()?);
        let (low, high) = (readings[(readings.len() - 1) / 2], readings[readings.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([f64::NAN, 5.0, f64::INFINITY]), Some(Spread { median: 5.0, min: 5.0, max: 5.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn units_read_well() {
        assert_eq!([2.5, 250.0, 25_000.0].map(|value| Unit::Micros.show(value)), ["2.500 us", "250.0 us", "25.00 ms"]);
        assert_eq!(Unit::Bytes.show(2048.0), "2.00 KiB");
        assert_eq!(Unit::Count.show(12_345.6), "12,345");
        assert_eq!(Unit::PerSecond.show(12_345.6), "12,345/s");
    }
}
