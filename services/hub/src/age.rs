//! How long a connection may live.

use std::time::Duration;

/// The greatest age of connections, and how far apart their ends are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxAge {
    /// No connection lives longer.
    pub age: Duration,
    /// Part of the age, from 0 to 1, by which a connection may live shorter: connections that came together do not leave
    /// together.
    pub jitter: f64,
}

impl MaxAge {
    /// The age at which a connection ends, by a number that is the connection's own and as good as random: so nobody has
    /// to remember it.
    pub(crate) fn of(&self, hash: u64) -> Duration {
        let part = f64::from((hash >> 32) as u32) / f64::from(u32::MAX);
        self.age.mul_f64(1.0 - self.jitter * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_lie_within_the_jitter() {
        let max = MaxAge { age: Duration::from_secs(100), jitter: 0.2 };
        assert_eq!((max.of(0), max.of(u64::MAX)), (Duration::from_secs(100), Duration::from_secs(80)));
        assert_eq!(MaxAge { jitter: 0.0, ..max }.of(u64::MAX), max.age);
        // Evenly: each tenth of the range gets its part.
        let mut tenths = [0; 10];
        for number in 0..10_000_u64 {
            let age = max.of(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).as_secs_f64();
            tenths[((100.0 - age) / 2.0).min(9.9) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
    }
}
