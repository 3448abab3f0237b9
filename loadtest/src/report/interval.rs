//! The interval that holds the median of what pairs of measurements show.
//!
//! It is taken from order statistics: of n sorted values, the k-th and the k-th from the end enclose the median of their
//! distribution with a probability that follows from the binomial distribution alone. Nothing is assumed about the
//! distribution, and a pair that the machine disturbed moves the interval by one rank at most. With 15 pairs it is the
//! 4th and the 12th value, with a coverage of 96.5 %.

use serde::Serialize;

use super::Spread;

/// Probability that the interval may miss the median on each side.
const TAIL: f64 = 0.025;

/// A median and the interval around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    /// Of the values.
    pub(super) median: f64,
    /// Lower end.
    pub(super) low: f64,
    /// Upper end.
    pub(super) high: f64,
    /// Probability that it holds the median: at least 0.95 from six values on. With fewer it is that from the least to
    /// the greatest.
    pub(super) coverage: f64,
}

impl Interval {
    /// Of at least one finite value.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (rank, tail) = rank(values.len());
        let (low, high) = (*values.get(rank)?, *values.get(values.len() - 1 - rank)?);
        let median = Spread::of(values.iter().copied())?.median;
        Some(Self { median, low, high, coverage: 1.0 - 2.0 * tail })
    }
}

/// How many values may be left out on each side, and the probability that the median lies beyond the next.
fn rank(count: usize) -> (usize, f64) {
    let mut term = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let (mut rank, mut tail) = (0, term);
    for number in 1..count.div_ceil(2) {
        term *= (count - number + 1) as f64 / number as f64;
        if tail + term > TAIL {
            break;
        }
        (rank, tail) = (number, tail + term);
    }
    (rank, tail.min(0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_tables() {
        // Conover, Practical Nonparametric Statistics, table A3: 95 % for the median.
        let ranks = [(1, 0), (5, 0), (6, 0), (9, 1), (12, 2), (15, 3), (20, 5), (100, 39)];
        for (count, expected) in ranks {
            let (rank, tail) = rank(count);
            assert_eq!(rank, expected, "{count}");
            assert_eq!(1.0 - 2.0 * tail >= 0.95, count >= 6, "{count}: {tail}");
        }
        assert!((rank(15).1 - 0.017_578).abs() < 1e-6);
        assert_eq!(rank(1).1, 0.5);
    }

    #[test]
    fn a_disturbed_pair_moves_it_by_one_rank() {
        let mut values: Vec<f64> = (0..15).map(|number| 1.0 + f64::from(number) / 1000.0).collect();
        let calm = Interval::of(&values).unwrap();
        assert_eq!((calm.median, calm.low, calm.high), (1.007, 1.003, 1.011));
        values[0] = 9.0;
        let disturbed = Interval::of(&values).unwrap();
        assert_eq!((disturbed.median, disturbed.low, disturbed.high), (1.008, 1.004, 1.012));
        assert_eq!(Interval::of(&[]), None);
        assert_eq!(Interval::of(&[2.0]).map(|one| (one.low, one.high, one.coverage)), Some((2.0, 2.0, 0.0)));
    }
}
