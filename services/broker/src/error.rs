//! What can go wrong on the way to the other nodes.

/// A failure of a broker call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// Proven not done: unreachable before sending, or not in a state to do anything.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// Proven not done: the broker answers, and refuses.
    #[error("the broker refuses ({}): {reason}", .cause.label())]
    Refused {
        /// The kind of refusal.
        cause: Refusal,
        /// The broker's own words.
        reason: String,
    },
    /// Sent, but the answer was lost: it may have been done.
    #[error("the broker did not answer in time; the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// The idempotency key was used with another body.
    #[error("the idempotency key was used with another body")]
    IdempotencyConflict,
    /// Proven not done: the publication needs a newer envelope than every node of the fleet is known to read.
    #[error("a node of the fleet may not read the publication")]
    FleetVersion,
    /// The broker's data cannot be understood.
    #[error("the broker's data cannot be read: {0}")]
    Corrupt(String),
}

/// Why a broker that answers refuses to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its memory is used up (Redis: `OOM`).
    Full,
    /// It takes no writes, as a replica (`READONLY`).
    ReadOnly,
    /// Its access rules forbid it (`NOPERM`).
    NotPermitted,
    /// It cannot write its data to disk (`MISCONF`).
    NotPersisted,
    /// Fewer replicas follow than it was told to insist on (`NOREPLICAS`).
    TooFewReplicas,
    /// Anything else.
    Other,
}

impl Refusal {
    /// All causes, for metrics that want each label from the start.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::ReadOnly, Self::NotPermitted, Self::NotPersisted, Self::TooFewReplicas, Self::Other];

    /// Bounded label for metrics, health and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::NotPermitted => "not_permitted",
            Self::NotPersisted => "not_persisted",
            Self::TooFewReplicas => "too_few_replicas",
            Self::Other => "refused",
        }
    }

    /// Whether the cause concerns every write alike, whatever its keys and its size: then one write that is done proves
    /// its end.
    pub fn concerns_every_write(self) -> bool {
        matches!(self, Self::ReadOnly | Self::NotPersisted | Self::TooFewReplicas)
    }
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
            Self::Unavailable(_)
            | Self::Refused { .. }
            | Self::IdempotencyConflict
            | Self::FleetVersion
            | Self::Corrupt(_) => Outcome::NotDone,
        }
    }

    /// Bounded label for metrics.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Refused { cause, .. } => cause.label(),
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::FleetVersion => "fleet_version",
            Self::Corrupt(_) => "corrupt",
        }
    }
}
