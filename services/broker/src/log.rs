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

/// Bounds of a page of a log: what one read may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageLimit {
    /// Most entries.
    pub entries: usize,
    /// Most bytes of entries. Redis counts them as they are stored, memory by [`Publication::size`].
    pub bytes: usize,
    /// A first entry larger than `bytes` is returned nevertheless, so that whoever reads page by page gets on.
    pub oversized_first: bool,
}

impl PageLimit {
    /// At most so many entries and bytes, but at least one entry.
    pub const fn new(entries: usize, bytes: usize) -> Self {
        Self { entries, bytes, oversized_first: true }
    }

    /// At most so many entries, of any size.
    pub const fn entries(entries: usize) -> Self {
        Self::new(entries, usize::MAX)
    }

    /// The same, without an entry if the first one is larger than the page.
    pub const fn strict(self) -> Self {
        Self { oversized_first: false, ..self }
    }

    /// Number of the first entries of these sizes that a page has room for.
    pub fn fit(self, sizes: impl Iterator<Item = usize>) -> usize {
        let (mut count, mut bytes) = (0, 0_usize);
        for size in sizes.take(self.entries) {
            bytes = bytes.saturating_add(size);
            if bytes > self.bytes && !(count == 0 && self.oversized_first) {
                break;
            }
            count += 1;
        }
        count
    }
}

/// One atomic view of a log, generic over the payload so that the model checker can use small ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogView<M = Arc<Publication>> {
    /// Newest position, in the epoch of the newest publication: see [`Ledger::position_of`].
    pub top: Position,
    /// The epochs of the line.
    pub ledger: Ledger,
    /// Offset of the oldest publication that the log keeps; the one after the top if it keeps none.
    pub oldest: u64,
    /// Entries after the asked offset, oldest first, dense unless retention cut the beginning. They may end before the
    /// top: then more follow.
    pub entries: Vec<(u64, M)>,
}

impl<M> LogView<M> {
    /// The position of an entry: its offset with the epoch it was written in.
    pub fn position_of(&self, offset: u64) -> Position {
        self.ledger.position_of(offset)
    }

    /// Whether a position lies on the line that this view shows. See [`Ledger::holds`].
    pub fn on_the_line(&self, position: Position) -> bool {
        self.ledger.holds(position, self.top.offset)
    }

    /// Whether the log keeps the publication after `offset`, if there is one, and the view does not begin after it.
    pub fn kept(&self, offset: u64) -> bool {
        let begins_after = self.entries.first().is_some_and(|(first, _)| *first > offset + 1);
        offset == self.top.offset || (self.oldest <= offset + 1 && !begins_after)
    }
}

/// The top of a log, for comparing many at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogTop {
    /// Newest position, as in [`LogView::top`].
    pub position: Position,
    /// The epochs of the line.
    pub ledger: Ledger,
}

impl LogTop {
    /// The view that a read from this position would give.
    pub fn view<M>(self) -> LogView<M> {
        LogView { top: self.position, ledger: self.ledger, oldest: self.position.offset + 1, entries: Vec::new() }
    }
}

/// Which part of a history to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Strictly after this position (or before it, in reverse).
    pub since: Option<Position>,
    /// At most so many; no entries ask for the position alone.
    pub limit: PageLimit,
    /// Newest first.
    pub reverse: bool,
}

/// Most bytes of a page of history.
pub const HISTORY_BYTES: usize = 1024 * 1024;

/// A page of history: fewer publications than asked for where the bytes do not suffice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// In the order asked.
    pub publications: Vec<(Position, Arc<Publication>)>,
    /// The log's top at the time of the read.
    pub top: Position,
    /// `since` was given and lies on the current line. Without `since`: true.
    pub since_valid: bool,
}
