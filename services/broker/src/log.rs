//! Views of a channel's log, the same for every engine.

use std::sync::Arc;
use std::time::Duration;

use fanway_protocol::{Position, Publication};

use crate::ledger::Ledger;

/// What a channel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many publications; 0 keeps no log at all.
    pub count: u32,
    /// All of them go when nothing was published for so long.
    pub ttl: Duration,
    /// Epoch and offset live at least so long after the last publication or refresh; much longer than `ttl`.
    pub meta_ttl: Duration,
}

impl Retention {
    /// A channel without history.
    pub const NONE: Self = Self { count: 0, ttl: Duration::ZERO, meta_ttl: Duration::ZERO };

    /// Whether there is a log.
    pub fn keeps_log(&self) -> bool {
        self.count > 0
    }

    /// How long epoch and offset live. Never shorter than the entries: a new line must not begin over kept entries of
    /// the old one.
    pub fn meta_life(&self) -> Duration {
        self.meta_ttl.max(self.ttl)
    }

    /// How long epoch and offset of a log live that was created by a reader and never published to: an hour at most,
    /// because anybody who may read or subscribe can create many of them.
    pub fn unpublished_life(&self) -> Duration {
        const HOUR: Duration = Duration::from_secs(3600);
        self.meta_life().min(HOUR)
    }
}

/// One atomic view of a log, generic over the payload so that the model checker can use small ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogView<M = Arc<Publication>> {
    /// Newest position: current epoch and top offset.
    pub top: Position,
    /// The epochs of the line.
    pub ledger: Ledger,
    /// Entries after the asked offset, oldest first, dense unless retention cut the beginning.
    pub entries: Vec<(u64, M)>,
}

impl<M> LogView<M> {
    /// The position of an entry: its offset with the epoch it was written in.
    pub fn position_of(&self, offset: u64) -> Position {
        Position { epoch: self.ledger.epoch_of(offset), offset }
    }

    /// Whether a position lies on the line that this view shows. See [`Ledger::holds`].
    pub fn on_the_line(&self, position: Position) -> bool {
        self.ledger.holds(position, self.top.offset)
    }

    /// Whether the publication after `offset` (if there is one) is among the entries.
    pub fn kept(&self, offset: u64) -> bool {
        offset == self.top.offset || self.entries.first().is_some_and(|(first, _)| *first <= offset + 1)
    }
}

/// Which part of a history to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Strictly after this position (or before it, in reverse).
    pub since: Option<Position>,
    /// At most so many; 0 asks for the position alone.
    pub limit: usize,
    /// Newest first.
    pub reverse: bool,
}

/// A page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// In the order asked.
    pub publications: Vec<(Position, Arc<Publication>)>,
    /// The log's top at the time of the read.
    pub top: Position,
    /// `since` was given and lies on the current line. Without `since`: true.
    pub since_valid: bool,
}
