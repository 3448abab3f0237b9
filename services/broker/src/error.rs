//! What can go wrong on the way to the other nodes.

/// A failure of a broker call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// Proven not done: refused, unreachable before sending, no write allowed right now.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// Sent, but the answer was lost: it may have been done.
    #[error("the broker did not answer in time; the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// The idempotency key was used with another body.
    #[error("the idempotency key was used with another body")]
    IdempotencyConflict,
    /// The broker's data cannot be understood.
    #[error("the broker's data cannot be read: {0}")]
    Corrupt(String),
}

/// What a caller may tell its user about a failed publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was certainly not published.
    NotDone,
    /// It may have been published.
    Unknown,
}

impl BrokerError {
    /// Whether the failed publish can have happened.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::OutcomeUnknown(_) => Outcome::Unknown,
            Self::Unavailable(_) | Self::IdempotencyConflict | Self::Corrupt(_) => Outcome::NotDone,
        }
    }

    /// Bounded label for metrics.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::Corrupt(_) => "corrupt",
        }
    }
}
