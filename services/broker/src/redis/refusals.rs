//! Publishes that the server refuses although it answers: full, read-only, not permitted.
//!
//! Kept per kind of publish, because they fail apart: a full server still announces, and an ACL may allow one key and not
//! another. A kind is refused from its last refused publish until one is done. The self-test, which writes every
//! [`super::RedisSettings::probe_interval`] while anything is refused, ends a refusal too: at once if the cause concerns
//! every write alike, else only when none was refused for [`MEMORY`]. Its own keys may be allowed where others are not,
//! and a nearly full server that refuses large publications has room for its small ones.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{BrokerMetrics, LogLimit, Refusal};

/// For so long a refusal that the self-test cannot disprove is remembered.
const MEMORY: Duration = Duration::from_secs(10);

/// Time between two log lines of one kind: refusals come as often as somebody publishes.
const LINES: Duration = Duration::from_secs(60);

/// What a publish does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Appends to a log.
    Log,
    /// Announces what was appended.
    Announcement,
    /// Announces what no log keeps.
    Plain,
}

const KINDS: [Kind; 3] = [Kind::Log, Kind::Announcement, Kind::Plain];

/// The last refusal of one kind.
#[derive(Clone, Debug)]
struct Last {
    cause: Refusal,
    reason: String,
    at: Instant,
}

/// What is refused at present.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// Kinds in `last`: read at every publish, without the lock.
    count: AtomicUsize,
    last: Mutex<[Option<Last>; KINDS.len()]>,
    /// Per kind.
    refused_lines: [LogLimit; KINDS.len()],
    accepted_lines: [LogLimit; KINDS.len()],
}

impl Default for Refusals {
    fn default() -> Self {
        let lines = || std::array::from_fn(|_| LogLimit::new(LINES));
        Self { count: AtomicUsize::new(0), last: Mutex::default(), refused_lines: lines(), accepted_lines: lines() }
    }
}

impl Refusals {
    fn last(&self) -> MutexGuard<'_, [Option<Last>; KINDS.len()]> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A publish was refused.
    pub(crate) fn refused(&self, kind: Kind, cause: Refusal, reason: String, metrics: &BrokerMetrics, now: Instant) {
        if let Some(suppressed) = self.refused_lines[kind as usize].permit() {
            tracing::warn!(kind = kind.name(), cause = cause.label(), reason, suppressed, "redis refuses publishes");
        }
        self.change(metrics, |last| last[kind as usize] = Some(Last { cause, reason, at: now }));
    }

    /// A publish was done.
    pub(crate) fn done(&self, kinds: &[Kind], metrics: &BrokerMetrics) {
        if self.any() {
            self.change(metrics, |last| {
                for kind in kinds {
                    if last[*kind as usize].take().is_some() {
                        self.accepted(*kind);
                    }
                }
            });
        }
    }

    /// A self-test that began at a time has written.
    pub(crate) fn disproved(&self, began: Instant, metrics: &BrokerMetrics) {
        if !self.any() {
            return;
        }
        self.change(metrics, |last| {
            for (kind, slot) in KINDS.into_iter().zip(last) {
                let over = slot.as_ref().is_some_and(|refusal| {
                    let memory = if refusal.cause.concerns_every_write() { Duration::ZERO } else { MEMORY };
                    refusal.at + memory <= began
                });
                if over {
                    *slot = None;
                    self.accepted(kind);
                }
            }
        });
    }

    /// Whether anything is refused.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// The newest refusal, and the server's words.
    pub(crate) fn newest(&self) -> Option<(Refusal, String)> {
        if !self.any() {
            return None;
        }
        let last = self.last();
        last.iter().flatten().max_by_key(|refusal| refusal.at).map(|refusal| (refusal.cause, refusal.reason.clone()))
    }

    fn accepted(&self, kind: Kind) {
        if let Some(suppressed) = self.accepted_lines[kind as usize].permit() {
            tracing::info!(kind = kind.name(), suppressed, "redis accepts publishes again");
        }
    }

    fn change(&self, metrics: &BrokerMetrics, change: impl FnOnce(&mut [Option<Last>; KINDS.len()])) {
        let mut last = self.last();
        change(&mut last);
        self.count.store(last.iter().flatten().count(), Relaxed);
        for cause in Refusal::ALL {
            let refused = last.iter().flatten().any(|refusal| refusal.cause == cause);
            metrics.broker_publishes_refused.with_label_values(&[cause.label()]).set(refused.into());
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Announcement => "announcement",
            Self::Plain => "publication without history",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> BrokerMetrics {
        BrokerMetrics::register(&prometheus::Registry::new()).unwrap()
    }

    fn refuse(refusals: &Refusals, kind: Kind, cause: Refusal, metrics: &BrokerMetrics, at: Instant) {
        refusals.refused(kind, cause, cause.label().to_owned(), metrics, at);
    }

    fn cause(refusals: &Refusals) -> Option<Refusal> {
        refusals.newest().map(|(cause, _)| cause)
    }

    #[test]
    fn a_kind_is_refused_until_one_of_that_kind_is_done() {
        let (refusals, metrics, now) = (Refusals::default(), metrics(), Instant::now());
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
        let (refusals, metrics, now) = (Refusals::default(), metrics(), Instant::now());
        refuse(&refusals, Kind::Plain, Refusal::NotPermitted, &metrics, now);
        refuse(&refusals, Kind::Log, Refusal::NotPersisted, &metrics, now + Duration::from_secs(1));
        assert_eq!(cause(&refusals), Some(Refusal::NotPersisted));
        for (cause, expected) in [("not_permitted", 1), ("not_persisted", 1), ("full", 0)] {
            assert_eq!(metrics.broker_publishes_refused.with_label_values(&[cause]).get(), expected, "{cause}");
        }
    }

    #[test]
    fn a_write_of_the_self_test_ends_what_it_disproves() {
        let (refusals, metrics, now) = (Refusals::default(), metrics(), Instant::now());
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
}
