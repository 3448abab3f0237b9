//! How fast a client may send commands.

use std::time::Instant;

/// A token bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f32,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(burst: u32, now: Instant) -> Self {
        Self { tokens: burst as f32, filled: now }
    }

    /// Takes one token; false if there is none.
    pub(crate) fn take(&mut self, rate: u32, burst: u32, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f32();
        self.filled = now;
        self.tokens = (self.tokens + since * rate as f32).min(burst as f32);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn allows_the_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, start);
        assert_eq!((0..5).filter(|_| bucket.take(2, 3, start)).count(), 3);
        let later = start + Duration::from_millis(1001);
        assert_eq!((0..5).filter(|_| bucket.take(2, 3, later)).count(), 2);
    }
}
