//! The integrity check: every client, every publication, once, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// By channel: numbers below this one were sent. Channels beyond the end had none.
    pub counts: Vec<u64>,
    /// By channel: of those, the ones the server did not confirm. Whether they were published is unknown.
    pub doubtful: BTreeMap<u32, BTreeSet<u64>>,
}

impl Attempted {
    /// Notes that the next one of a channel is sent, and returns its number.
    pub fn next(&mut self, channel: u32) -> u64 {
        let channel = channel as usize;
        if self.counts.len() <= channel {
            self.counts.resize(channel + 1, 0);
        }
        self.counts[channel] += 1;
        self.counts[channel] - 1
    }

    /// Notes that one was not confirmed.
    pub fn doubt(&mut self, channel: u32, sequence: u64) {
        self.doubtful.entry(channel).or_default().insert(sequence);
    }

    /// Adds what was sent beside it: of each channel, one of both has only what had been sent before.
    pub fn join(&mut self, other: Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (count, other) in self.counts.iter_mut().zip(other.counts) {
            *count = other.max(*count);
        }
        for (channel, doubtful) in other.doubtful {
            self.doubtful.entry(channel).or_default().extend(doubtful);
        }
    }

    /// How many were sent in one channel.
    pub fn of(&self, channel: u32) -> u64 {
        self.counts.get(channel as usize).copied().unwrap_or(0)
    }

    /// How many were sent in all channels.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them were confirmed.
    pub fn confirmed(&self) -> u64 {
        self.total() - self.doubtful.values().map(|doubtful| doubtful.len() as u64).sum::<u64>()
    }

    /// What a client that received all of `checker`'s channel got right and wrong.
    pub fn judge(&self, channel: u32, checker: &Checker) -> Verdict {
        static NONE: BTreeSet<u64> = BTreeSet::new();
        checker.finish(self.of(channel), self.doubtful.get(&channel).unwrap_or(&NONE))
    }
}

/// What one client has received in one channel, as sequence numbers from 0.
///
/// Costs a few words while all is well; what is missing is kept as ranges, at most one per publication.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    /// One more than the highest number seen.
    next: u64,
    /// Numbers below `next` that did not come, in order.
    outstanding: Vec<Range<u64>>,
    verdict: Verdict,
}

/// What is right and wrong with what clients received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Publications received, each counted once.
    pub delivered: u64,
    /// Publications that never came.
    pub missing: u64,
    /// Publications that came again.
    pub duplicates: u64,
    /// Publications that came after one that was published later.
    pub reordered: u64,
    /// Numbers that were never published.
    pub unknown: u64,
}

impl Verdict {
    /// Every publication exactly once and in order.
    pub fn is_clean(&self) -> bool {
        self.missing == 0 && self.duplicates == 0 && self.reordered == 0 && self.unknown == 0
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.unknown += other.unknown;
    }
}

impl Checker {
    /// Of a client that begins at a later publication than the first.
    pub fn starting_at(sequence: u64) -> Self {
        Self { next: sequence, ..Self::default() }
    }

    /// Notes a received publication; `planned` is how many there will be. Returns whether it counts as a delivery.
    pub fn note(&mut self, sequence: u64, planned: u64) -> bool {
        if sequence >= planned {
            self.verdict.unknown += 1;
            return false;
        }
        if sequence >= self.next {
            if sequence > self.next {
                self.outstanding.push(self.next..sequence);
            }
            self.next = sequence + 1;
        } else if self.take(sequence) {
            self.verdict.reordered += 1;
        } else {
            self.verdict.duplicates += 1;
            return false;
        }
        self.verdict.delivered += 1;
        true
    }

    /// Takes a number out of the outstanding ones; false when it is not among them.
    fn take(&mut self, sequence: u64) -> bool {
        let at = self.outstanding.partition_point(|range| range.end <= sequence);
        let Some(range) = self.outstanding.get(at).filter(|range| range.contains(&sequence)).cloned() else {
            return false;
        };
        let parts = [range.start..sequence, sequence + 1..range.end];
        self.outstanding.splice(at..=at, parts.into_iter().filter(|part| !part.is_empty()));
        true
    }

    /// The verdict once `attempted` publications were made, of which the server did not confirm `doubtful`: those may
    /// have come or not.
    pub fn finish(&self, attempted: u64, doubtful: &BTreeSet<u64>) -> Verdict {
        let rest = self.next.min(attempted)..attempted;
        let missing = |range: &Range<u64>| {
            let end = range.end.min(attempted);
            let start = range.start.min(end);
            (end - start) - doubtful.range(start..end).count() as u64
        };
        let missing = self.outstanding.iter().chain([&rest]).map(missing).sum();
        Verdict { missing, ..self.verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(received: &[u64], attempted: u64, doubtful: &[u64]) -> Verdict {
        let mut checker = Checker::default();
        for &sequence in received {
            checker.note(sequence, attempted);
        }
        checker.finish(attempted, &doubtful.iter().copied().collect())
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        let found = verdict(&[0, 1, 2, 3], 4, &[]);
        assert!(found.is_clean());
        assert_eq!(found.delivered, 4);
        assert!(verdict(&[], 0, &[]).is_clean());
    }

    #[test]
    fn each_channel_is_judged_by_what_was_sent_in_it() {
        let mut attempted = Attempted::default();
        assert_eq!([2, 2, 0].map(|channel| attempted.next(channel)), [0, 1, 0]);
        attempted.doubt(2, 1);
        assert_eq!((attempted.total(), attempted.confirmed(), attempted.of(1), attempted.of(9)), (3, 2, 0, 0));
        let mut checker = Checker::default();
        assert!(attempted.judge(1, &checker).is_clean());
        assert_eq!(attempted.judge(0, &checker).missing, 1);
        checker.note(0, 10);
        assert!(attempted.judge(2, &checker).is_clean());
        assert!(Checker::starting_at(2).finish(2, &BTreeSet::new()).is_clean());
    }

    #[test]
    fn a_missing_one_is_caught_wherever_it_is() {
        for received in [&[1, 2, 3][..], &[0, 2, 3], &[0, 1, 2]] {
            let found = verdict(received, 4, &[]);
            assert_eq!(found, Verdict { delivered: 3, missing: 1, ..Verdict::default() }, "{received:?}");
            assert!(!found.is_clean());
        }
        assert_eq!(verdict(&[], 4, &[]).missing, 4);
    }

    #[test]
    fn a_duplicate_is_caught_and_not_a_delivery() {
        for received in [&[0, 0, 1, 2][..], &[0, 1, 2, 0], &[0, 1, 2, 2]] {
            assert_eq!(verdict(received, 3, &[]), Verdict { delivered: 3, duplicates: 1, ..Verdict::default() });
        }
    }

    #[test]
    fn a_duplicate_does_not_make_up_for_a_missing_one() {
        let found = verdict(&[0, 1, 1, 3], 4, &[]);
        assert_eq!(found, Verdict { delivered: 3, missing: 1, duplicates: 1, ..Verdict::default() });
    }

    #[test]
    fn a_reordered_one_is_caught_and_nothing_is_missing() {
        assert_eq!(verdict(&[0, 2, 1, 3], 4, &[]), Verdict { delivered: 4, reordered: 1, ..Verdict::default() });
        assert_eq!(verdict(&[3, 2, 1, 0], 4, &[]), Verdict { delivered: 4, reordered: 3, ..Verdict::default() });
        // A second copy of the reordered one is a duplicate.
        assert_eq!(verdict(&[4, 2, 2], 5, &[]).duplicates, 1);
    }

    #[test]
    fn what_was_never_published_is_caught() {
        assert_eq!(verdict(&[0, 1, 7], 2, &[]), Verdict { delivered: 2, unknown: 1, ..Verdict::default() });
    }

    #[test]
    fn an_unconfirmed_publication_may_come_or_not() {
        assert!(verdict(&[0, 2], 3, &[1]).is_clean());
        assert!(verdict(&[0, 1, 2], 3, &[1]).is_clean());
        assert!(verdict(&[0, 1], 3, &[2]).is_clean());
        assert_eq!(verdict(&[0], 3, &[1]).missing, 1);
    }
}
