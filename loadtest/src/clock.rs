//! The clock that every process of a run shares: the machine's monotonic one, in nanoseconds since it was started.
//!
//! A publication carries the moment at which it was due, so whoever receives it knows its latency: the publisher and the
//! fleet need not be one process.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Now.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The clock starts at zero with the machine: neither part is negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A moment of this process's clock.
pub fn at(moment: Instant) -> u64 {
    let (shared, own) = (now(), Instant::now());
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    match moment.checked_duration_since(own) {
        Some(ahead) => shared.saturating_add(nanos(ahead)),
        None => shared.saturating_sub(nanos(own - moment)),
    }
}

/// How long a moment has been past; zero when it is ahead.
pub fn since(moment: u64, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_carried_over_and_back() {
        let begun = now();
        let moment = at(Instant::now());
        let ahead = at(Instant::now() + Duration::from_secs(1000));
        assert!(begun <= moment && moment < ahead);
        assert_eq!(since(moment + 5_000, moment + 7_000), Duration::from_micros(2));
        assert_eq!(since(ahead, moment), Duration::ZERO);
    }
}
