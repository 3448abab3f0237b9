//! When things are due: evenly spaced moments, fixed in advance.
//!
//! Latencies are counted from these moments, not from when something was actually sent. So a stall of the server that
//! holds the sender up is charged to everything that was due meanwhile (no coordinated omission).

use std::time::{Duration, Instant};

/// A constant rate from a start.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
    per_second: f64,
}

impl Schedule {
    /// `per_second` is finite and above zero: the options see to it.
    pub fn new(start: Instant, per_second: f64) -> Self {
        Self { start, per_second }
    }

    /// When the first one is due.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// When the one with this number (from 0) is due. Computed from the start, so that no rounding adds up.
    pub fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// How long until it is due; zero when it is overdue.
    pub fn wait(&self, number: u64, now: Instant) -> Duration {
        self.due(number).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_evenly_spaced_and_do_not_drift() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 3.0);
        assert_eq!(schedule.due(0), start);
        assert_eq!(schedule.due(3), start + Duration::from_secs(1));
        assert_eq!(schedule.due(3_000_000), start + Duration::from_secs(1_000_000));
        assert!(
            schedule.due(1) - start > Duration::from_millis(333)
                && schedule.due(1) - start < Duration::from_millis(334)
        );
    }

    #[test]
    fn a_late_sender_does_not_shift_what_follows() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 10.0);
        // Held up for 250 ms: numbers 1 and 2 are overdue at once, number 3 is due where it always was.
        let late = start + Duration::from_millis(250);
        assert_eq!(schedule.wait(1, late), Duration::ZERO);
        assert_eq!(schedule.wait(2, late), Duration::ZERO);
        assert_eq!(schedule.wait(3, late), Duration::from_millis(50));
        assert_eq!(late - schedule.due(1), Duration::from_millis(150));
    }
}
