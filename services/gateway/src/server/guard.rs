//! The connection limit, and the share of it that a connection holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// Counts what is open and refuses more than `max`.
#[derive(Debug)]
pub(super) struct Limit {
    max: usize,
    open: AtomicUsize,
    /// The same number for people.
    gauge: IntGauge,
}

impl Limit {
    pub(super) fn new(max: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { max, open: AtomicUsize::new(0), gauge })
    }

    /// A share of the limit, or nothing when it is used up.
    pub(super) fn acquire(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let more = |open: usize| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.gauge.inc();
        Some(ConnectionGuard(Arc::clone(self)))
    }
}

/// An open connection's share of the connection limit, given back on drop. Whoever owns the socket keeps it beside the
/// socket.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<Limit>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_limit_gives_out_its_number_and_takes_back() {
        let gauge = IntGauge::new("open", "open").unwrap();
        let limit = Limit::new(2, gauge.clone());
        let first = limit.acquire().unwrap();
        let _second = limit.acquire().unwrap();
        assert!(limit.acquire().is_none());
        assert_eq!(gauge.get(), 2);
        drop(first);
        assert_eq!(gauge.get(), 1);
        assert!(limit.acquire().is_some());
    }
}
