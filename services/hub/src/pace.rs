//! Spreads what many connections have to do at the same moment: the first few at once, the others at a bounded rate.
//!
//! The generic cell rate algorithm (ITU-T I.371): one instant is all that is kept. After a change of leader term the first
//! publication of each channel makes all its compatible clients subscribe anew. A fixed spread delays the few as much as
//! the many; here the delay grows with their number.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Part of a second's permits that are given at once: those that come together and are few do not wait.
const AT_ONCE: u32 = 10;

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
        // Of the one that comes first nothing is to be waited for.
        let allowance = interval * (rate / AT_ONCE).saturating_sub(1);
        Self { interval, allowance, next: Mutex::new(now) }
    }

    /// Takes a permit, and tells from when on it may be used.
    pub(crate) fn permit(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = (*next).max(now);
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
        let pace = Pacer::new(1000, now);
        let waits: Vec<_> = (0..1100).map(|_| pace.permit(now) - now).collect();
        assert!(waits[..100].iter().all(Duration::is_zero));
        for (nth, wait) in waits.iter().enumerate().skip(100) {
            assert_eq!(wait.as_millis(), nth as u128 - 99, "{nth}");
        }
        // A second later all are served, and a tenth of a second after that a few are at once again.
        let later = now + Duration::from_millis(1100);
        assert!((0..100).all(|_| pace.permit(later) == later));
        assert!(pace.permit(later) > later);
    }

    #[test]
    fn the_slowest_rate_still_serves_the_first_at_once() {
        let now = Instant::now();
        let pace = Pacer::new(0, now);
        assert_eq!(pace.permit(now), now);
        assert_eq!(pace.permit(now), now + Duration::from_secs(1));
    }
}
