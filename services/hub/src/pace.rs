//! Spreads what many connections have to do at the same moment: the first few at once, the others at a bounded rate.
//!
//! The generic cell rate algorithm (ITU-T I.371): one instant is all that is kept. After a change of leader term the first
//! publication of each channel makes all its compatible clients subscribe anew. A fixed spread delays the few as much as
//! the many; here the delay grows with their number, up to a bound: a waiting subscription receives nothing, and what it
//! misses must still be in the history when it resumes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Part of a second's permits that are given at once: those that come together and are few do not wait.
const AT_ONCE: u32 = 10;

/// Longest wait, whatever the retention.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Longest wait of a subscription whose history is kept for `history_ttl`. A quarter of it leaves time to resume.
pub(crate) fn longest_wait(history_ttl: Duration) -> Duration {
    LONGEST_WAIT.min(history_ttl / 4)
}

/// Gives permits in time.
#[derive(Debug)]
pub(crate) struct Pacer {
    interval: Duration,
    /// How far `next` may be ahead while permits are given at once.
    allowance: Duration,
    /// When the next permit is due, were they given one by one.
    next: Mutex<Instant>,
}

impl Pacer {
    /// So many a second, and a tenth of them at once.
    pub(crate) fn new(rate: u32, now: Instant) -> Self {
        let rate = rate.max(1);
        let interval = Duration::from_secs(1) / rate;
        // The first permit is immediate, so the allowance is one interval shorter.
        let allowance = interval * (rate / AT_ONCE).saturating_sub(1);
        Self { interval, allowance, next: Mutex::new(now) }
    }

    /// Takes a permit and returns the time from which it is valid, at most `longest` from now.
    ///
    /// When the permits given reach `longest` ahead, the next ones fill the same time once more. So the rate doubles, then
    /// triples, as evenly spread as before; a clamp would release all that exceed the bound at one moment.
    pub(crate) fn permit(&self, now: Instant, longest: Duration) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = (*next).max(now);
        if due > now + self.allowance + longest {
            // Without another tenth of a second's permits at once.
            due = now + self.allowance;
        }
        *next = due + self.interval;
        due.checked_sub(self.allowance).map_or(now, |due| due.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_do_not_wait_and_many_come_at_the_rate() {
        let now = Instant::now();
        let pacer = Pacer::new(1000, now);
        let waits: Vec<_> = (0..1100).map(|_| pacer.permit(now, LONGEST_WAIT) - now).collect();
        assert!(waits[..100].iter().all(Duration::is_zero));
        for (nth, wait) in waits.iter().enumerate().skip(100) {
            assert_eq!(wait.as_millis(), nth as u128 - 99, "{nth}");
        }
        // A second later all are served, and a tenth of a second after that a few are at once again.
        let later = now + Duration::from_millis(1100);
        assert!((0..100).all(|_| pacer.permit(later, LONGEST_WAIT) == later));
        assert!(pacer.permit(later, LONGEST_WAIT) > later);
    }

    #[test]
    fn the_slowest_rate_still_serves_the_first_at_once() {
        let now = Instant::now();
        let pacer = Pacer::new(0, now);
        assert_eq!(pacer.permit(now, LONGEST_WAIT), now);
        assert_eq!(pacer.permit(now, LONGEST_WAIT), now + Duration::from_secs(1));
    }

    /// Permits per second of waiting time.
    fn per_second(waits: impl Iterator<Item = Duration>) -> Vec<usize> {
        let mut counts = Vec::new();
        for wait in waits {
            let second = wait.as_secs() as usize;
            counts.resize(counts.len().max(second + 1), 0);
            counts[second] += 1;
        }
        counts
    }

    #[test]
    fn nobody_waits_longer_than_the_bound_however_many_wait() {
        let now = Instant::now();
        let pacer = Pacer::new(5000, now);
        let waits: Vec<_> = (0..100_000).map(|_| pacer.permit(now, LONGEST_WAIT) - now).collect();
        assert!(waits.iter().all(|wait| *wait <= LONGEST_WAIT), "{:?}", waits.iter().max());
        // Twice the rate for twice as many as the bound allows, and a tenth of a second's permits at once.
        let counts = per_second(waits.into_iter());
        assert!(counts.iter().take(10).all(|count| (9_400..=10_600).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_bound_is_the_subscriptions_own() {
        let now = Instant::now();
        let pacer = Pacer::new(10, now);
        let short = Duration::from_secs(2);
        for _ in 0..200 {
            assert!(pacer.permit(now, LONGEST_WAIT) <= now + LONGEST_WAIT);
            assert!(pacer.permit(now, short) <= now + short);
        }
    }

    #[test]
    fn the_bound_is_a_quarter_of_the_history_and_no_more_than_ten_seconds() {
        assert_eq!(longest_wait(Duration::from_secs(8)), Duration::from_secs(2));
        assert_eq!(longest_wait(Duration::from_secs(300)), Duration::from_secs(10));
    }
}
