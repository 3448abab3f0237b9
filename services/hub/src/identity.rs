//! Who a client is and what it may do, as a verified credential says.

use bytes::Bytes;
use fanway_protocol::{Channel, Grants};

/// The verified content of a connection credential, or of nobody's for an anonymous client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`; empty for an anonymous client.
    pub user: Box<str>,
    /// The token's `info`: one JSON value on one line, shown to others.
    pub info: Option<Bytes>,
    /// Channels the server subscribes the client to by itself (the token's `channels`).
    pub channels: Box<[Channel]>,
    /// The token's `caps`.
    pub grants: Grants,
    /// When the credential expires, in seconds since 1970; `None` never.
    pub expires_at: Option<u64>,
    /// The token's `jti`.
    pub token_id: Option<Box<str>>,
}

impl Identity {
    /// A client that presented nothing at all.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Whether nothing was presented.
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
    /// Anything else; the word says what, for logs and metrics.
    #[error("the token is invalid: {0}")]
    Invalid(&'static str),
}

impl AuthFailure {
    /// Bounded label for metrics.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::Invalid(reason) => reason,
        }
    }
}
