//! Publishes that the server refuses although it answers: full, read-only, not permitted.
//!
//! Kept per kind of write, because kinds fail apart: a full server still announces, and an ACL may allow one key and not
//! another. A kind is refused from its last refused write until one is done. The self-test, which writes every
//! [`super::RedisSettings::probe_interval`] while anything is refused, ends a refusal too: at once if the cause concerns
//! every write alike, else [`MEMORY`] after the last refused publish. The keys of the self-test may be allowed where
//! others are not, and a nearly full server that refuses large publications has room for its small ones.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{BrokerMetrics, LogLimit, Refusal};

/// Time after the last refused publish from which the self-test ends a refusal that it cannot disprove. Far above the
/// `for` of the alert FanwayPublishesRefused (1 min) and two scrapes, so that it fires although a node publishes seldom;
/// bounded, so that a node that publishes no more does not report the refusal for ever.
const MEMORY: Duration = Duration::from_secs(300);

/// Time between two log lines on refusals of one kind: refusals come as often as somebody publishes.
const LINES: Duration = Duration::from_secs(60);

/// Kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Publish that appends to a log.
    Log,
    /// Announcement of what was appended.
    Announcement,
    /// Publish of what no log keeps.
    Plain,
    /// Writes of the self-test.
    SelfTest,
}

const KINDS: [Kind; 4] = [Kind::Log, Kind::Announcement, Kind::Plain, Kind::SelfTest];

/// Last refusal of one kind.
#[derive(Clone, Debug)]
struct Last {
    cause: Refusal,
    reason: String,
    at: Instant,
}

/// Log lines on one kind: at most one per [`LINES`] on refusals, and one on the end of every refusal that has one.
#[derive(Debug)]
struct Lines {
    limit: LogLimit,
    /// A refusal was logged, and its end was not.
    open: bool,
}

/// Refusals at present, by kind.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// Number of refused kinds: read at every publish, without the lock.
    count: AtomicUsize,
    present: Mutex<Present>,
}

#[derive(Debug)]
struct Present {
    last: [Option<Last>; KINDS.len()],
    lines: [Lines; KINDS.len()],
    /// Commands are answered. While they are not, the broker is away rather than refusing.
    answered: bool,
}

impl Default for Refusals {
    fn default() -> Self {
        let lines = std::array::from_fn(|_| Lines { limit: LogLimit::new(LINES), open: false });
        let present = Present { last: Default::default(), lines, answered: false };
        Self { count: AtomicUsize::new(0), present: Mutex::new(present) }
    }
}

impl Refusals {
    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write was refused.
    pub(crate) fn refused(&self, kind: Kind, cause: Refusal, reason: String, metrics: &BrokerMetrics, now: Instant) {
        self.change(metrics, |present| {
            // Under the lock, like the line on the end: in the log as in the order of events.
            // The self-test runs because something is refused: what it meets is news only on its own.
            let known = kind == Kind::SelfTest && present.last[..kind as usize].iter().any(Option::is_some);
            if !known && let Some(suppressed) = present.lines[kind as usize].refused(now) {
                tracing::warn!(
                    kind = kind.name(),
                    cause = cause.label(),
                    reason,
                    suppressed,
                    "redis refuses publishes"
                );
            }
            present.last[kind as usize] = Some(Last { cause, reason, at: now });
        });
    }

    /// Writes of these kinds were done.
    pub(crate) fn done(&self, kinds: &[Kind], metrics: &BrokerMetrics) {
        if self.any() {
            self.change(metrics, |present| kinds.iter().for_each(|kind| present.accepted(*kind)));
        }
    }

    /// The self-test that began at this time has written.
    pub(crate) fn disproved(&self, began: Instant, metrics: &BrokerMetrics) {
        if !self.any() {
            return;
        }
        self.change(metrics, |present| {
            for kind in KINDS {
                let over = present.last[kind as usize].as_ref().is_some_and(|refusal| {
                    let disproved = kind == Kind::SelfTest || refusal.cause.concerns_every_write();
                    refusal.at + if disproved { Duration::ZERO } else { MEMORY } <= began
                });
                if over {
                    present.accepted(kind);
                }
            }
        });
    }

    /// Commands are answered, or are not any more.
    pub(crate) fn answered(&self, answered: bool, metrics: &BrokerMetrics) {
        self.change(metrics, |present| present.answered = answered);
    }

    /// Whether anything is refused.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// The newest refusal, and the server's words; `None` while commands are not answered.
    pub(crate) fn newest(&self) -> Option<(Refusal, String)> {
        if !self.any() {
            return None;
        }
        let present = self.present();
        let newest = present.shown().max_by_key(|refusal| refusal.at);
        newest.map(|refusal| (refusal.cause, refusal.reason.clone()))
    }

    fn change(&self, metrics: &BrokerMetrics, change: impl FnOnce(&mut Present)) {
        let mut present = self.present();
        change(&mut present);
        self.count.store(present.last.iter().flatten().count(), Relaxed);
        for cause in Refusal::ALL {
            let refused = present.shown().any(|refusal| refusal.cause == cause);
            metrics.broker_publishes_refused.with_label_values(&[cause.label()]).set(refused.into());
        }
    }
}

impl Present {
    /// Ends the refusal of a kind, if there is one.
    fn accepted(&mut self, kind: Kind) {
        if self.last[kind as usize].take().is_some() && self.lines[kind as usize].accepted() {
            tracing::info!(kind = kind.name(), "redis accepts publishes again");
        }
    }

    /// Refusals for health and metrics.
    fn shown(&self) -> impl Iterator<Item = &Last> {
        self.last.iter().flatten().filter(|_| self.answered)
    }
}

impl Lines {
    /// `Some` if a refusal is to be logged, with the number of those left out.
    fn refused(&mut self, now: Instant) -> Option<u64> {
        let permitted = self.limit.permit_at(now);
        self.open |= permitted.is_some();
        permitted
    }

    /// Whether the end of a refusal is to be logged.
    fn accepted(&mut self) -> bool {
        std::mem::take(&mut self.open)
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Announcement => "announcement",
            Self::Plain => "publication without history",
            Self::SelfTest => "self-test",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> BrokerMetrics {
        BrokerMetrics::register(&prometheus::Registry::new()).unwrap()
    }

    fn refusals(metrics: &BrokerMetrics) -> Refusals {
        let refusals = Refusals::default();
        refusals.answered(true, metrics);
        refusals
    }

    fn refuse(refusals: &Refusals, kind: Kind, cause: Refusal, metrics: &BrokerMetrics, at: Instant) {
        refusals.refused(kind, cause, cause.label().to_owned(), metrics, at);
    }

    fn cause(refusals: &Refusals) -> Option<Refusal> {
        refusals.newest().map(|(cause, _)| cause)
    }

    #[test]
    fn a_kind_is_refused_until_one_of_that_kind_is_done() {
        let (metrics, now) = (metrics(), Instant::now());
        let refusals = refusals(&metrics);
        assert_eq!(cause(&refusals), None);
        refuse(&refusals, Kind::Log, Refusal::Full, &metrics, now);
        let full = || metrics.broker_publishes_refused.with_label_values(&["full"]).get();
        refusals.done(&[Kind::Plain], &metrics);
        assert_eq!((cause(&refusals), full()), (Some(Refusal::Full), 1), "a full server still announces");
        refusals.done(&[Kind::Log, Kind::Announcement], &metrics);
        assert_eq!((cause(&refusals), full()), (None, 0));
    }

    #[test]
    fn the_newest_cause_is_named_and_each_is_counted() {
        let (metrics, now) = (metrics(), Instant::now());
        let refusals = refusals(&metrics);
        refuse(&refusals, Kind::Plain, Refusal::NotPermitted, &metrics, now);
        refuse(&refusals, Kind::Log, Refusal::NotPersisted, &metrics, now + Duration::from_secs(1));
        assert_eq!(cause(&refusals), Some(Refusal::NotPersisted));
        for (cause, expected) in [("not_permitted", 1), ("not_persisted", 1), ("full", 0)] {
            assert_eq!(metrics.broker_publishes_refused.with_label_values(&[cause]).get(), expected, "{cause}");
        }
    }

    #[test]
    fn a_write_of_the_self_test_ends_what_it_disproves() {
        let (metrics, now) = (metrics(), Instant::now());
        let refusals = refusals(&metrics);
        let second = Duration::from_secs(1);
        refuse(&refusals, Kind::Log, Refusal::NotPersisted, &metrics, now + second);
        refusals.disproved(now, &metrics);
        assert_eq!(cause(&refusals), Some(Refusal::NotPersisted), "refused after that write");
        refusals.disproved(now + second, &metrics);
        assert_eq!(cause(&refusals), None);
        for other in [Refusal::Full, Refusal::NotPermitted, Refusal::Other] {
            refuse(&refusals, Kind::Log, other, &metrics, now);
            refusals.disproved(now + MEMORY - second, &metrics);
            assert_eq!(cause(&refusals), Some(other));
            refuse(&refusals, Kind::Log, other, &metrics, now + MEMORY);
            refusals.disproved(now + MEMORY + second, &metrics);
            assert_eq!(cause(&refusals), Some(other), "publishes are still refused");
            refusals.disproved(now + MEMORY * 2, &metrics);
            assert_eq!(cause(&refusals), None);
        }
    }

    #[test]
    fn a_refusal_lasts_between_publishes_at_a_low_rate() {
        let (metrics, start) = (metrics(), Instant::now());
        let refusals = refusals(&metrics);
        for other in [Refusal::Full, Refusal::NotPermitted, Refusal::Other] {
            let mut last = start;
            // A publish every 30 s, all refused, and a self-test every 2 s, which passes.
            for seconds in (0..=300).step_by(2) {
                let now = start + Duration::from_secs(seconds);
                if seconds % 30 == 0 {
                    refuse(&refusals, Kind::Log, other, &metrics, now);
                    last = now;
                }
                refusals.disproved(now, &metrics);
                assert_eq!(cause(&refusals), Some(other), "after {seconds} s");
            }
            refusals.disproved(last + Duration::from_secs(299), &metrics);
            assert_eq!(cause(&refusals), Some(other), "well above the alert's `for`");
            refusals.disproved(last + Duration::from_secs(300), &metrics);
            assert_eq!(cause(&refusals), None, "an idle node");
        }
    }

    #[test]
    fn what_the_self_test_alone_met_ends_with_the_next_that_passes() {
        let (metrics, now) = (metrics(), Instant::now());
        let refusals = refusals(&metrics);
        let second = Duration::from_secs(1);
        refuse(&refusals, Kind::SelfTest, Refusal::Full, &metrics, now);
        assert_eq!(cause(&refusals), Some(Refusal::Full));
        refusals.disproved(now + second, &metrics);
        assert_eq!(cause(&refusals), None);
        refuse(&refusals, Kind::Log, Refusal::Full, &metrics, now);
        refuse(&refusals, Kind::SelfTest, Refusal::Full, &metrics, now + second);
        refusals.disproved(now + second * 2, &metrics);
        assert_eq!(cause(&refusals), Some(Refusal::Full), "a publish was refused");
    }

    #[test]
    fn the_end_of_a_logged_refusal_is_logged() {
        let mut lines = Lines { limit: LogLimit::new(LINES), open: false };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((lines.refused(at(0)), lines.accepted()), (Some(0), true));
        assert_eq!((lines.refused(at(50)), lines.accepted()), (None, false), "its beginning was not logged");
        assert_eq!((lines.refused(at(61)), lines.refused(at(62))), (Some(1), None));
        assert_eq!((lines.accepted(), lines.accepted()), (true, false));
        // Within a minute of the previous end: the log must not end on the refusal.
        assert_eq!((lines.refused(at(122)), lines.accepted()), (Some(1), true));
    }
}
