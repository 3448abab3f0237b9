//! How fast a client may send commands.

use std::time::{Duration, Instant};

/// A token bucket, kept as the one point in time at which it will be full again.
#[derive(Debug)]
pub(crate) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one token; false if there is none. `rate` tokens come back per second, up to `burst`.
    pub(crate) fn take(&mut self, rate: u32, burst: u32, now: Instant) -> bool {
        let each = Duration::from_secs(1) / rate.max(1);
        let full_at = self.full_at.max(now) + each;
        if full_at - now > each * burst {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_the_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!((0..5).filter(|_| bucket.take(2, 3, start)).count(), 3);
        let later = start + Duration::from_millis(1001);
        assert_eq!((0..5).filter(|_| bucket.take(2, 3, later)).count(), 2);
    }
}
