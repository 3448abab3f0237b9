//! The epoch ledger: which epochs a log's line consists of, and from which offset each.
//!
//! As Kafka's leader-epoch checkpoint: a position is valid only if it lies on the current line, and the epoch alone does
//! not tell, because after a failover to a lagging replica the same offsets are handed out again. An epoch is opened by
//! one script call on one server in one reign, and only that server in that reign appends under it; so `(epoch, offset)`
//! names one publication and its whole past, and two logs that both know an epoch agree up to the smaller of their ends
//! of it.

use fanway_protocol::{Epoch, Position};

/// The most entries a ledger keeps.
pub const MAX_LEDGER: usize = 64;

/// Pairs of (epoch, first offset), oldest first, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger(Vec<(Epoch, u64)>);

impl Ledger {
    /// The ledger of a new log.
    pub fn new(epoch: Epoch) -> Self {
        Self(vec![(epoch, 1)])
    }

    /// From entries, oldest first; `None` when empty, when the first offsets fall, or when one is 0 (offsets begin at 1).
    pub fn from_entries(entries: Vec<(Epoch, u64)>) -> Option<Self> {
        let begins = entries.first().is_some_and(|entry| entry.1 > 0);
        (begins && entries.is_sorted_by_key(|entry| entry.1)).then_some(Self(entries))
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[(Epoch, u64)] {
        &self.0
    }

    /// The current epoch.
    pub fn current(&self) -> Epoch {
        self.0[self.0.len() - 1].0
    }

    /// The epoch an offset was written in: the last entry that starts at or before it.
    pub fn epoch_of(&self, offset: u64) -> Epoch {
        let after = self.0.partition_point(|entry| entry.1 <= offset);
        self.0[after.saturating_sub(1)].0
    }

    /// The last offset of an epoch on this line, `top` for the current one; `None` for an epoch that is not on it.
    pub fn end_of(&self, epoch: Epoch, top: u64) -> Option<u64> {
        let at = self.0.iter().rposition(|entry| entry.0 == epoch)?;
        Some(self.0.get(at + 1).map_or(top, |next| next.1 - 1))
    }

    /// Whether a position lies on this line, whose newest offset is `top`.
    ///
    /// There is no lower bound: `(e, x)` with x before e's first offset means "the first x publications of the line on
    /// which e exists", which is unambiguous.
    pub fn holds(&self, position: Position, top: u64) -> bool {
        self.end_of(position.epoch, top).is_some_and(|end| position.offset <= end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn epoch(n: u64) -> Epoch {
        Epoch::parse(&format!("{n:020}")).unwrap()
    }

    fn at(e: u64, offset: u64) -> Position {
        Position { epoch: epoch(e), offset }
    }

    /// Epoch 0 from the start, 1 from offset 4, 2 from offset 5.
    fn ledger() -> Ledger {
        Ledger::from_entries(vec![(epoch(0), 1), (epoch(1), 4), (epoch(2), 5)]).unwrap()
    }

    #[test]
    fn an_offset_belongs_to_the_last_epoch_that_begins_at_or_before_it() {
        let ledger = ledger();
        let owners: Vec<_> = (0..=6).map(|offset| ledger.epoch_of(offset)).collect();
        assert_eq!(owners, [0, 0, 0, 0, 1, 2, 2].map(epoch));
    }

    #[test]
    fn before_the_oldest_epoch_known_the_oldest_stands_for_all() {
        let trimmed = Ledger::from_entries(vec![(epoch(1), 4), (epoch(2), 5)]).unwrap();
        assert_eq!(trimmed.epoch_of(2), epoch(1));
        assert_eq!(trimmed.end_of(epoch(0), 9), None);
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let ledger = ledger();
        assert_eq!([0, 1, 2, 9].map(|e| ledger.end_of(epoch(e), 7)), [Some(3), Some(4), Some(7), None]);
        assert_eq!(ledger.current(), epoch(2));
    }

    #[test]
    fn a_position_is_held_up_to_the_end_of_its_epoch_and_without_a_lower_bound() {
        let ledger = ledger();
        for (position, held) in [
            (at(0, 0), true),
            (at(0, 3), true),
            (at(0, 4), false),
            (at(1, 4), true),
            (at(1, 5), false),
            (at(1, 0), true),
            (at(2, 2), true),
            (at(2, 7), true),
            (at(2, 8), false),
            (at(9, 0), false),
        ] {
            assert_eq!(ledger.holds(position, 7), held, "{position:?}");
        }
    }

    #[test]
    fn an_empty_log_holds_its_beginning_alone() {
        let ledger = Ledger::new(epoch(3));
        assert!(ledger.holds(at(3, 0), 0));
        assert!(!ledger.holds(at(3, 1), 0));
        assert_eq!((ledger.epoch_of(0), ledger.end_of(epoch(3), 0)), (epoch(3), Some(0)));
    }

    #[test]
    fn what_is_no_ledger() {
        assert_eq!(Ledger::from_entries(vec![(epoch(0), 4), (epoch(1), 1)]), None, "first offsets fall");
        assert_eq!(Ledger::from_entries(Vec::new()), None);
        assert_eq!(Ledger::from_entries(vec![(epoch(0), 0), (epoch(1), 0)]), None, "offsets begin at 1");
    }
}
