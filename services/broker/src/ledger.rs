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

    /// From entries, oldest first; `None` when empty or when the first offsets fall.
    pub fn from_entries(entries: Vec<(Epoch, u64)>) -> Option<Self> {
        (!entries.is_empty() && entries.is_sorted_by_key(|entry| entry.1)).then_some(Self(entries))
    }

    /// Parses the stored text, `epoch:first,epoch:first`.
    pub fn parse(text: &str) -> Option<Self> {
        let entries = text
            .split(',')
            .map(|entry| {
                let (epoch, first) = entry.split_once(':')?;
                Some((Epoch::parse(epoch)?, first.parse().ok()?))
            })
            .collect::<Option<Vec<_>>>()?;
        Self::from_entries(entries)
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
