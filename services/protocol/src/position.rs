//! Positions: where in a channel's log a reader stands.

use std::fmt;
use std::num::NonZeroU8;

/// The length of an epoch's text.
pub const EPOCH_LEN: usize = 20;

/// Names an unbroken line of a channel's log: 20 characters of `A-Z a-z 0-9 - _`.
///
/// The first 8 are random, made anew each time a line begins; the last 12 tell whose reign it began in (for Redis the
/// beginning of the server's replication id), so that a server can see by itself that another one opened the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch {
    text: [u8; EPOCH_LEN],
    /// Always the same. That it is never zero makes an `Option` of an epoch, or of a position, no larger than the thing.
    filled: NonZeroU8,
}

impl Epoch {
    /// Takes an epoch's text; `None` when no epoch can look like this.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    /// As [`Epoch::parse`], from bytes.
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let bytes: [u8; EPOCH_LEN] = text.try_into().ok()?;
        bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            .then_some(Self { text: bytes, filled: NonZeroU8::MIN })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// "The first `offset` publications of the line on which `epoch` exists."
///
/// Offsets are dense and start at 1, so offset 0 is "before anything". A position names one publication and with it its
/// whole past; whether it lies on the current line only the log's ledger can say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub epoch: Epoch,
    /// Publications seen on it.
    pub offset: u64,
}

impl Position {
    /// So many publications further on the same line.
    #[must_use]
    #[inline]
    pub fn plus(self, publications: u64) -> Self {
        Self { offset: self.offset + publications, ..self }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

/// Why a reader cannot be given everything after its position. Part of the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The position's epoch is not part of the current line: the log was lost, flushed or replaced.
    UnknownEpoch,
    /// The position lies beyond the end of its epoch: the log's tail was lost in a failover or a restore.
    Truncated,
    /// The publications after the position are no longer kept.
    Retention,
    /// More publications are missing than one resume may carry.
    Limit,
    /// The text is not a position of this channel.
    BadPosition,
    /// The node lost its feed of a channel that keeps no history: anything may have been missed.
    Interrupted,
    /// The reader was too slow for a channel that keeps no history.
    Slow,
}

impl GapReason {
    /// The word on the wire and the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownEpoch => "unknown_epoch",
            Self::Truncated => "truncated",
            Self::Retention => "retention",
            Self::Limit => "limit",
            Self::BadPosition => "bad_position",
            Self::Interrupted => "interrupted",
            Self::Slow => "slow",
        }
    }

    /// All reasons, for metrics that want each label from the start.
    pub const ALL: [Self; 7] = [
        Self::UnknownEpoch,
        Self::Truncated,
        Self::Retention,
        Self::Limit,
        Self::BadPosition,
        Self::Interrupted,
        Self::Slow,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_position_is_as_small_as_one() {
        assert_eq!(size_of::<Option<Position>>(), size_of::<Position>());
        assert_eq!(size_of::<Position>(), 32);
    }
}
