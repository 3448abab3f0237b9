//! Rates of token buckets.

use super::Kind;

/// Tokens of a bucket: `per_second` come back, up to `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// A rate of so many tokens per second, and a burst of at least one. `None`, which is no limit, for a rate of 0.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        (per_second > 0).then_some(Self { per_second, burst: burst.max(1) })
    }

    /// Nanoseconds in which so many tokens come back, rounded up.
    pub(super) fn nanos(self, tokens: u32) -> u64 {
        (u64::from(tokens) * 1_000_000_000).div_ceil(self.per_second.into())
    }

    /// Tokens of a full bucket.
    pub(super) fn burst(self) -> u32 {
        self.burst
    }
}

/// The rate of each kind; `None` where there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates([Option<Rate>; Kind::COUNT]);

impl Rates {
    /// The same rates but for one kind.
    #[must_use]
    pub fn with(mut self, kind: Kind, rate: Option<Rate>) -> Self {
        self.0[kind as usize] = rate;
        self
    }

    pub(super) fn of(&self, kind: Kind) -> Option<Rate> {
        self.0[kind as usize]
    }
}
