//! The recent entries of a channel on this node.
//!
//! A subscriber's place is a sequence number of the ring, so a slow subscriber costs a number, not copies. Who falls
//! behind the ring's tail has overrun it, and catches up from the log or is told.

use std::collections::VecDeque;
use std::sync::Arc;

use fanway_protocol::{Position, Publication};

use crate::entry::{Entry, Kind};

/// Recent entries, the newest at the back.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// Sequence number of the front entry.
    first: u64,
    /// Sum of the entries' costs.
    bytes: usize,
    /// Position right before the front entry, when the stream up to there is known: lets a resume from exactly there be
    /// served without reading the log.
    base: Option<Position>,
}

impl Ring {
    /// The sequence number that the next entry will get.
    pub(crate) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The sequence number of the oldest entry still here.
    pub(crate) fn tail(&self) -> u64 {
        self.first
    }

    /// Says where the stream stands while the ring is empty.
    pub(crate) fn set_base(&mut self, position: Option<Position>) {
        if self.entries.is_empty() {
            self.base = position;
        }
    }

    /// Appends, and drops the oldest beyond the bounds. Returns the change of the bytes held.
    pub(crate) fn push(&mut self, entry: Arc<Entry>, max_entries: usize, max_bytes: usize) -> isize {
        let before = self.bytes as isize;
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        // The newest entry always stays: it is what everybody waits for.
        while self.entries.len() > 1 && (self.entries.len() > max_entries || self.bytes > max_bytes) {
            self.pop();
        }
        self.bytes as isize - before
    }

    /// Drops entries received before `than`. Returns the bytes freed.
    pub(crate) fn drop_older(&mut self, than: std::time::Instant) -> usize {
        let before = self.bytes;
        while self.entries.front().is_some_and(|entry| entry.received < than) {
            self.pop();
        }
        if self.entries.is_empty() {
            self.entries.shrink_to_fit();
        }
        before - self.bytes
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.first += 1;
            self.bytes -= entry.cost();
            if entry.position.is_some() {
                self.base = entry.position;
            }
        }
    }

    /// The entry with a sequence number, if it is still here.
    pub(crate) fn get(&self, seq: u64) -> Option<&Arc<Entry>> {
        self.entries.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// The entries from a sequence number on.
    pub(crate) fn from(&self, seq: u64) -> impl Iterator<Item = &Arc<Entry>> {
        let at = usize::try_from(seq.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.range(at.min(self.entries.len())..)
    }

    /// The publications after `cursor` and before the sequence number `until`, if the ring alone can tell: `cursor` is
    /// exactly one of its positions and no gap lies between. `(epoch, offset)` names one publication and its whole past,
    /// so an equal position is proof of an equal past.
    pub(crate) fn since(&self, cursor: Position, until: u64) -> Option<Vec<(Position, Arc<Publication>)>> {
        let end = usize::try_from(until.checked_sub(self.first)?).ok()?.min(self.entries.len());
        let start = if self.base == Some(cursor) {
            0
        } else {
            1 + self
                .entries
                .range(..end)
                .rposition(|entry| entry.position == Some(cursor) && matches!(entry.kind, Kind::Publication { .. }))?
        };
        self.entries
            .range(start..end)
            // A publication that skipped the history has no place in what is resumed.
            .filter(|entry| entry.position.is_some() || matches!(entry.kind, Kind::Gap(_)))
            .map(|entry| match &entry.kind {
                Kind::Publication { publication, .. } => Some((entry.position?, publication.clone())),
                Kind::Gap(_) => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use fanway_protocol::{Epoch, GapReason};

    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch::parse("abcdefgh0123456789ab").unwrap(), offset }
    }

    fn publication(offset: u64) -> Arc<Entry> {
        Arc::new(Entry::publication(Arc::default(), Some(at(offset)), false, Instant::now()))
    }

    fn offsets(publications: Option<Vec<(Position, Arc<Publication>)>>) -> Option<Vec<u64>> {
        publications.map(|list| list.iter().map(|(position, _)| position.offset).collect())
    }

    #[test]
    fn serves_what_it_can_prove() {
        let mut ring = Ring::default();
        ring.set_base(Some(at(4)));
        assert_eq!(offsets(ring.since(at(4), ring.head())), Some(vec![]));
        for offset in 5..=9 {
            ring.push(publication(offset), 4, usize::MAX);
        }
        assert_eq!((ring.tail(), ring.head()), (1, 5));
        assert_eq!(offsets(ring.since(at(9), ring.head())), Some(vec![]));
        assert_eq!(offsets(ring.since(at(5), ring.head())), Some(vec![6, 7, 8, 9]), "the base moves with the tail");
        assert_eq!(ring.since(at(4), ring.head()), None);
        assert_eq!(ring.since(at(10), ring.head()), None);
        ring.push(Arc::new(Entry::gap(GapReason::Truncated, Some(at(3)), Instant::now())), 10, usize::MAX);
        assert_eq!(ring.since(at(7), ring.head()), None, "never over a gap");
        ring.push(publication(4), 10, usize::MAX);
        assert_eq!(
            ring.since(at(3), ring.head()),
            None,
            "a gap's position is where the stream goes on; its past is not in the ring"
        );
        assert!(ring.get(0).is_none() && ring.get(6).is_some() && ring.get(7).is_none());
    }
}
