//! How many new connections a second are let in.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// A token bucket: a token for each new connection of a client.
#[derive(Debug)]
pub(super) struct AcceptRate {
    /// Tokens that come in a second.
    rate: f64,
    /// The most there can be.
    burst: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    /// Up to when tokens have come.
    at: Instant,
}

impl AcceptRate {
    /// A full bucket.
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { rate: rate.into(), burst, bucket: Mutex::new(Bucket { tokens: burst, at: now }) }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut bucket = self.bucket();
        let come = now.saturating_duration_since(bucket.at).as_secs_f64() * self.rate;
        bucket.tokens = (bucket.tokens + come).min(self.burst);
        bucket.at = now;
        let there = bucket.tokens >= 1.0;
        if there {
            bucket.tokens -= 1.0;
        }
        there
    }

    /// Gives a token back that was not for a client after all.
    pub(super) fn give_back(&self) {
        let mut bucket = self.bucket();
        bucket.tokens = (bucket.tokens + 1.0).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let rate = AcceptRate::new(10, 3, start);
        let taken = |at: Duration| (0..100).filter(|_| rate.take(start + at)).count();
        assert_eq!(taken(Duration::ZERO), 3);
        assert_eq!(taken(Duration::from_millis(50)), 0);
        assert_eq!(taken(Duration::from_millis(101)), 1);
        assert_eq!(taken(Duration::from_millis(302)), 2);
        assert_eq!(taken(Duration::from_secs(60)), 3, "no more than the burst is saved up");
        rate.give_back();
        assert_eq!(taken(Duration::from_secs(60)), 1);
        (0..10).for_each(|_| rate.give_back());
        assert_eq!(taken(Duration::from_secs(60)), 3);
        assert_eq!(taken(Duration::from_secs(1)), 0, "an earlier time brings nothing");
    }
}
