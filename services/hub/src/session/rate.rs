//! How fast a client may send commands.
//!
//! A command that was read is carried out, also one above the rate. But then the connection is not read from until it is
//! within the rate again: what the client sends meanwhile waits in the kernel's buffers and at the client, and costs the
//! node nothing. A client that awaits each reply thus never exceeds its rate by more than one command. What one that does
//! not await them has sent ahead is bounded: as many commands as the burst, then the connection is closed.

use std::time::{Duration, Instant};

/// A token bucket, kept as the one point in time at which it will be full again.
#[derive(Debug)]
pub(crate) struct Bucket {
    full_at: Instant,
}

/// Result of counting a command against the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateCheck {
    /// Another command may come now.
    Within,
    /// The next one has to wait.
    Over,
    /// It is more than a burst ahead of its rate.
    Beyond,
}

/// The settings of all buckets: `rate` tokens come back per second, up to `burst`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    each: Duration,
    burst: u32,
}

impl Rate {
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        Self { each: Duration::from_secs(1) / rate.max(1), burst: burst.max(1) }
    }
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one token, also one that is not there yet.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> RateCheck {
        self.full_at = self.full_at.max(now) + rate.each;
        let spent = self.full_at - now;
        match rate.each * rate.burst {
            burst if spent + rate.each <= burst => RateCheck::Within,
            burst if spent <= burst * 2 => RateCheck::Over,
            _ => RateCheck::Beyond,
        }
    }

    /// When there is a token again.
    pub(crate) fn ready_at(&self, rate: Rate) -> Instant {
        let spare = rate.each * (rate.burst - 1);
        // Earlier than the clock began: there are tokens.
        self.full_at.checked_sub(spare).unwrap_or_else(Instant::now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_the_burst_then_the_rate() {
        let (start, rate) = (Instant::now(), Rate::new(2, 3));
        let mut bucket = Bucket::new(start);
        let checks = [(); 3].map(|()| bucket.take(rate, start));
        assert_eq!(checks, [RateCheck::Within, RateCheck::Within, RateCheck::Over]);
        assert_eq!(bucket.ready_at(rate), start + Duration::from_millis(500));
        // From then on one command each half a second.
        for n in 1..=100 {
            let then = start + Duration::from_millis(500) * n;
            assert_eq!(bucket.ready_at(rate), then);
            assert_eq!(bucket.take(rate, then), RateCheck::Over);
        }
    }

    #[test]
    fn a_second_burst_is_the_most_that_can_be_ahead() {
        let (start, rate) = (Instant::now(), Rate::new(2, 3));
        let mut bucket = Bucket::new(start);
        let ahead = (0..).take_while(|_| bucket.take(rate, start) != RateCheck::Beyond).count();
        assert_eq!(ahead, 6);
    }

    #[test]
    fn one_command_at_a_time_is_a_burst() {
        let (start, rate) = (Instant::now(), Rate::new(10, 1));
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(rate, start), RateCheck::Over);
        assert_eq!(bucket.ready_at(rate), start + Duration::from_millis(100));
    }
}
