//! The epoch ledger: which epochs a log's line consists of, and from which offset each.
//!
//! As Kafka's leader-epoch checkpoint: a position is valid only if it lies on the current line, and the epoch alone does
//! not tell, because after a failover to a lagging replica the same offsets are handed out again. An epoch is opened by
//! one script call on one server in one reign, and only that server in that reign appends under it; so `(epoch, offset)`
//! names one publication and its whole past, and two logs that both know an epoch agree up to the smaller of their ends
//! of it.
//!
//! A tail that was lost (a restart from an older snapshot, the promotion of a replica that lagged) is recorded by a *cut*
//! as soon as a node that had passed it on finds it missing: see [`Timeline::lacked_by`]. Where nothing was published
//! since, the log then begins a new epoch at its top and forgets all others. Otherwise an epoch without publications, the
//! *loss marker*, stands in the history where the timelines part: positions before it are void, those after it are not.

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

    /// The current epoch. It may have no publication yet: see [`Ledger::position_of`].
    pub fn current(&self) -> Epoch {
        self.0[self.0.len() - 1].0
    }

    /// The epoch an offset was written in: the last entry that starts at or before it and is no marker. Before the
    /// oldest entry that is known, the oldest one.
    pub fn epoch_of(&self, offset: u64) -> Epoch {
        let after = self.0.partition_point(|entry| entry.1 <= offset);
        let written = self.0[..after].iter().rev().find(|entry| !is_marker(entry.0));
        written.or_else(|| self.0.iter().find(|entry| !is_marker(entry.0))).unwrap_or(&self.0[0]).0
    }

    /// The position of an offset. For a log's top it is in the epoch of its newest publication rather than in a current
    /// epoch that is still empty: that one is lost with the next failover.
    pub fn position_of(&self, offset: u64) -> Position {
        Position { epoch: self.epoch_of(offset), offset }
    }

    /// The newest loss marker: its name, and the first offset after the loss.
    pub fn marker(&self) -> Option<(Epoch, u64)> {
        self.0.iter().rev().find(|entry| is_marker(entry.0)).copied()
    }

    /// The last offset of an epoch on this line, `top` for the current one; `None` for an epoch that is not on it.
    pub fn end_of(&self, epoch: Epoch, top: u64) -> Option<u64> {
        let at = self.0.iter().rposition(|entry| entry.0 == epoch && !is_marker(epoch))?;
        Some(self.0.get(at + 1).map_or(top, |next| next.1 - 1))
    }

    /// Whether a position lies on this line, whose newest offset is `top`, and not before a loss.
    ///
    /// But for that there is no lower bound: `(e, x)` with x before e's first offset means "the first x publications of
    /// the line on which e exists", which is unambiguous.
    pub fn holds(&self, position: Position, top: u64) -> bool {
        self.end_of(position.epoch, top).is_some_and(|end| position.offset <= end)
            && !self.is_before_loss(position.offset)
    }

    /// True if an offset is from before the newest recorded loss.
    pub fn is_before_loss(&self, offset: u64) -> bool {
        self.marker().is_some_and(|(_, first)| offset < first)
    }
}

/// The last characters of a loss marker's name, after 8 random ones. No reign looks like it.
const MARKER: &str = "-lost-before";

fn is_marker(epoch: Epoch) -> bool {
    epoch.as_str().ends_with(MARKER)
}

/// The epochs that a reader's timeline consists of: pairs of (epoch, last offset), oldest first, never empty.
///
/// Unlike a [`Ledger`] it says how far each epoch reached, so that it can be compared with a log that has lost a tail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timeline(Vec<(Epoch, u64)>);

impl Timeline {
    /// The timeline that ends at a position, after the given epochs.
    pub fn new(mut older: Vec<(Epoch, u64)>, end: Position) -> Self {
        older.push((end.epoch, end.offset));
        Self(older)
    }

    /// The pairs, oldest first.
    pub fn entries(&self) -> &[(Epoch, u64)] {
        &self.0
    }

    /// True if a log lacks publications of this timeline and has not recorded it. Of two timelines that both have an
    /// epoch it is known that they agree up to the smaller of their ends of it; without a common epoch nothing is known,
    /// and no position of this timeline is accepted anyway.
    pub fn lacked_by(&self, ledger: &Ledger, top: u64) -> bool {
        let last = self.0[self.0.len() - 1].1;
        let mut common = self.0.iter().rev().filter_map(|(epoch, last)| Some(ledger.end_of(*epoch, top)?.min(*last)));
        common.next().is_some_and(|fork| fork < last && ledger.marker().is_none_or(|(_, first)| first <= fork))
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

    fn marker(n: u64) -> Epoch {
        Epoch::parse(&format!("{n:08}-lost-before")).unwrap()
    }

    /// Epoch 0 from the start, a loss after offset 3, epoch 1 after it, and an empty epoch 2.
    fn cut() -> Ledger {
        Ledger::from_entries(vec![(epoch(0), 1), (marker(0), 4), (epoch(1), 4), (epoch(2), 6)]).unwrap()
    }

    #[test]
    fn positions_before_a_loss_are_void() {
        let ledger = cut();
        for (position, held) in [
            (at(0, 0), false),
            (at(0, 3), false),
            (at(1, 3), false),
            (at(1, 4), true),
            (at(1, 5), true),
            (at(1, 6), false),
            (at(2, 5), true),
            (Position { epoch: marker(0), offset: 5 }, false),
        ] {
            assert_eq!(ledger.holds(position, 5), held, "{position:?}");
        }
        assert_eq!(ledger.marker(), Some((marker(0), 4)));
    }

    #[test]
    fn no_position_is_in_an_epoch_without_publications() {
        let ledger = cut();
        assert_eq!((ledger.position_of(5), ledger.position_of(3), ledger.current()), (at(1, 5), at(0, 3), epoch(2)));
        let trimmed = Ledger::from_entries(vec![(marker(0), 4), (epoch(1), 4)]).unwrap();
        assert_eq!(trimmed.position_of(2), at(1, 2));
        // Cut at the top: the new epoch stands for all before it.
        let empty = Ledger::from_entries(vec![(epoch(2), 4)]).unwrap();
        assert_eq!(empty.position_of(3), at(2, 3));
        assert!(empty.holds(at(2, 3), 3));
    }

    #[test]
    fn a_timeline_is_lacked_from_where_it_parts() {
        let two = Timeline::new(vec![(epoch(0), 3)], at(1, 5));
        for (entries, top, lacked) in [
            (vec![(epoch(0), 1), (epoch(1), 4)], 5, false),
            (vec![(epoch(0), 1), (epoch(1), 4)], 9, false),
            (vec![(epoch(0), 1), (epoch(1), 4)], 4, true),
            (vec![(epoch(0), 1)], 2, true),
            (vec![(epoch(0), 1)], 3, true),
            (vec![(epoch(0), 1), (epoch(7), 4)], 9, true),
            (vec![(epoch(7), 1)], 9, false),
            // Recorded already, or only an earlier loss was.
            (vec![(marker(0), 4), (epoch(0), 4), (epoch(7), 4)], 9, false),
            (vec![(marker(0), 2), (epoch(0), 2), (epoch(7), 4)], 9, true),
        ] {
            let ledger = Ledger::from_entries(entries).unwrap();
            assert_eq!(two.lacked_by(&ledger, top), lacked, "{ledger:?} up to {top}");
        }
    }
}
