//! Who a client is and what it may do, as a verified credential says.

use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fanway_broker::log_limited;
use fanway_protocol::grants::PatternError;
use fanway_protocol::{Channel, ChannelError, Grants};

/// The verified content of a connection credential, or of nobody's for an anonymous client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`; empty for an anonymous client, with or without a token.
    pub user: Box<str>,
    /// The token's `info`: one JSON value on one line, shown to others.
    pub info: Option<Bytes>,
    /// Channels the server subscribes the client to by itself (the token's `channels`).
    pub channels: Box<[Channel]>,
    /// The token's `caps`.
    pub grants: Grants,
    /// When the credential expires, in seconds since 1970; `None` never.
    pub expires_at: Option<NonZeroU64>,
    /// The token's `jti`.
    pub token_id: Option<Box<str>>,
    /// Number of the newest message to sessions of the node when the credential was presented; set by the hub.
    pub presented_at: u32,
}

impl Identity {
    /// A client that presented nothing at all.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// The same client without its rights and what others are shown of it: enough to find its session and to end it. For
    /// sessions that ask for nothing more, so that an idle one is small.
    pub(crate) fn without_rights(self) -> Self {
        Self { info: None, channels: Box::default(), grants: Grants::default(), ..self }
    }

    /// Time until the credential has expired and the grace after it is over; `None` if it never expires.
    pub(crate) fn left(&self, grace: Duration) -> Option<Duration> {
        let end = Duration::from_secs(self.expires_at?.get()).saturating_add(grace);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(end.saturating_sub(now))
    }

    /// Seconds from `now` (since 1970) after which the client has to refresh its credential; `None` if it never expires.
    ///
    /// Timers of browsers overflow beyond 2^31 ms and fire at once: clients of credentials that live longer refresh them
    /// early, and the true time is enforced by the session.
    pub(crate) fn ttl(&self, now: u64) -> Option<u32> {
        const MOST: u64 = 2_147_483;
        Some(self.expires_at?.get().saturating_sub(now).clamp(1, MOST) as u32)
    }

    /// Whether the credential, if there is one, names nobody.
    pub fn is_anonymous(&self) -> bool {
        self.user.is_empty()
    }
}

/// Why a credential was refused. The client learns only the kind; the reason is for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailure {
    /// Nothing was presented and anonymous clients are not allowed.
    #[error("no credential")]
    Missing,
    /// The token's time is over.
    #[error("the token has expired")]
    Expired,
    /// Anything else.
    #[error("the token is invalid: {part}: {reason}")]
    Invalid {
        /// The claim, or the other part of the credential, that is at fault; a metric label.
        part: &'static str,
        /// What is wrong with it.
        reason: Reason,
    },
}

/// What is wrong with a part of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// In words.
    #[error("{0}")]
    Words(&'static str),
    /// It names a channel that cannot be.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// It has a pattern that cannot match.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl AuthFailure {
    /// A credential with a fault in one of its parts.
    pub const fn invalid(part: &'static str, reason: &'static str) -> Self {
        Self::Invalid { part, reason: Reason::Words(reason) }
    }

    /// A credential in one of whose parts something else is wrong.
    pub fn because(part: &'static str, reason: impl Into<Reason>) -> Self {
        Self::Invalid { part, reason: reason.into() }
    }

    /// Writes why a credential was refused, and nothing of the credential.
    pub fn log(&self) {
        let (claim, reason) = match *self {
            Self::Missing => ("none", Reason::Words("no credential")),
            Self::Expired => ("exp", Reason::Words("in the past by more than auth.leeway")),
            Self::Invalid { part, reason } => (part, reason),
        };
        log_limited!(DEBUG, claim, %reason, "credential refused");
    }

    /// Bounded label for metrics.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::Invalid { part, .. } => part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_fits_the_timers_of_clients() {
        const NOW: u64 = 1_900_000_000;
        let ttl =
            |at: Option<u64>| Identity { expires_at: at.and_then(NonZeroU64::new), ..Identity::default() }.ttl(NOW);
        assert_eq!(ttl(None), None);
        assert_eq!(ttl(Some(NOW + 60)), Some(60));
        assert_eq!(ttl(Some(NOW)), Some(1), "0 would mean that it never expires");
        assert_eq!(ttl(Some(NOW - 5)), Some(1), "within the leeway");
        for far in [NOW + 2_147_483, NOW + 2_147_484, NOW + (1 << 32), 253_402_300_799, u64::MAX] {
            assert_eq!(ttl(Some(far)), Some(2_147_483), "{far}");
        }
    }
}
