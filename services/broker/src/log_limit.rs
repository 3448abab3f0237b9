//! Bound on log lines that input from outside can cause.
//!
//! A client, or a server that fails for each request, must not fill the log. Whatever such input makes the gateway log
//! goes through [`log_limited!`](crate::log_limited), or through a [`LogLimit`] where the interval or the scope differs.
//! Metrics count every case; the log shows examples.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rate limit of one kind of log line: at most one line per interval, and a count of the lines left out.
#[derive(Debug)]
pub struct LogLimit {
    interval: Duration,
    /// When the next line may be written, in nanoseconds since [`START`].
    next: AtomicU64,
    suppressed: AtomicU64,
}

/// Reference of the stored times.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl LogLimit {
    /// Interval of [`log_limited!`](crate::log_limited).
    pub const INTERVAL: Duration = Duration::from_secs(1);

    /// A limit of one line per `interval`; the first line is written at once.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, next: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// `Some` if a line may be written now, with the number of lines left out since the previous one.
    pub fn permit(&self) -> Option<u64> {
        self.permit_at(Instant::now())
    }

    /// As [`LogLimit::permit`], at a given time.
    pub(crate) fn permit_at(&self, now: Instant) -> Option<u64> {
        self.permit_after(now.saturating_duration_since(*START))
    }

    fn permit_after(&self, now: Duration) -> Option<u64> {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (now, next) = (nanos(now), self.next.load(Ordering::Relaxed));
        let due = now.saturating_add(nanos(self.interval));
        // Of several threads that find the interval over, one writes.
        let granted =
            now >= next && self.next.compare_exchange(next, due, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if granted {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Writes a log line like `tracing::event!`, at most one per second and call site. The field `suppressed` counts the
/// lines left out since the previous one.
///
/// `log_limited!(DEBUG, %peer, %error, "TLS handshake failed")`
#[macro_export]
macro_rules! log_limited {
    ($level:ident, $($line:tt)+) => {
        if ::tracing::enabled!(::tracing::Level::$level) {
            static LIMIT: $crate::LogLimit = $crate::LogLimit::new($crate::LogLimit::INTERVAL);
            if let ::core::option::Option::Some(suppressed) = LIMIT.permit() {
                ::tracing::event!(::tracing::Level::$level, suppressed, $($line)+);
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_and_a_count_of_the_rest() {
        let limit = LogLimit::new(Duration::from_secs(10));
        let at = |seconds| limit.permit_after(Duration::from_secs(seconds));
        assert_eq!(at(3), Some(0), "the first line is written at once");
        assert_eq!([at(3), at(4), at(12)], [None; 3]);
        assert_eq!(at(13), Some(3));
        assert_eq!(at(14), None);
        assert_eq!(at(1000), Some(1));
    }

    #[test]
    fn many_threads_write_one_line() {
        let limit = LogLimit::new(Duration::from_secs(10));
        let written = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| limit.permit().is_some())).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|written| *written).count()
        });
        assert_eq!(written, 1);
        assert_eq!(limit.suppressed.load(Ordering::Relaxed), 7);
    }
}
