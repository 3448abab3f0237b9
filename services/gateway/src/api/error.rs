//! Why a request was not done, and how that is told.
//!
//! What the HTTP layer is about (authentication, size, type, malformed JSON, an unavailable broker, a misused
//! idempotency key) is always an HTTP status. What the application is about (an unknown channel, a value that is not
//! allowed, a position off the line) is HTTP 200 with an `error` member, because existing server libraries look there;
//! [`ErrorMode::Transport`] makes it a status too. The body is the same either way.

use axum::response::Response;
use fanway_broker::{BrokerError, Refusal, log_limited};
use fanway_protocol::{ChannelError, ErrorCode};
use http::{HeaderValue, StatusCode, header};

use super::settings::ErrorMode;
use crate::error_body::{ErrorBody, Outcome};

/// Why the API key does not open the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiAuthError {
    /// No key, a wrong one, an expired one: the client is not told which.
    #[error("a valid API key is required in X-API-Key or Authorization: apikey")]
    Unauthorized,
    /// A valid key without the right to do this.
    #[error("the API key does not allow this")]
    Forbidden,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The key.
    #[error(transparent)]
    Auth(#[from] ApiAuthError),
    /// No such path.
    #[error("there is nothing at this path")]
    UnknownEndpoint,
    /// A command names no method that there is.
    #[error("unknown method; there are {}", super::method::NAMES)]
    UnknownMethod,
    /// The path has other methods.
    #[error("this path does not answer this method; see Allow")]
    MethodNotAllowed,
    /// Not JSON by its own declaration.
    #[error("the content type must be application/json (UTF-8)")]
    UnsupportedType,
    /// Compressed.
    #[error("encoded bodies are not accepted")]
    UnsupportedEncoding,
    /// More bytes than the limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The body came too slowly.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// The body broke off.
    #[error("the body could not be read")]
    BodyBroken,
    /// Not JSON, or a member of the wrong type.
    #[error("{0}")]
    BadJson(String),
    /// More channels than a broadcast may have.
    #[error("a broadcast has at most {limit} channels")]
    BatchTooLarge {
        /// The limit.
        limit: usize,
    },
    /// More commands than a request may have.
    #[error("a request has at most {limit} commands; send the others in a request of their own")]
    TooManyCommands {
        /// The limit.
        limit: usize,
    },
    /// The replies to the commands before this one leave no room for another.
    #[error("not done: the replies of this request are larger than {limit} bytes; send the command in another request")]
    RepliesTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The key itself is unusable.
    #[error("{0}")]
    InvalidIdempotencyKey(&'static str),
    /// The same key, another body.
    #[error("the idempotency key was used with another body")]
    IdempotencyConflict,
    /// The broker failed.
    #[error("{}", .0.message())]
    Broker(BrokerFailure),
    /// The text is not a channel name.
    #[error(transparent)]
    InvalidChannel(#[from] ChannelError),
    /// The channel's namespace is not configured.
    #[error("unknown channel: its namespace is not configured")]
    UnknownChannel,
    /// A value that is not allowed; the word is its reason.
    #[error("{message}")]
    BadRequest {
        /// The `reason` member.
        reason: &'static str,
        /// The `message` member.
        message: &'static str,
    },
    /// The channel does not have this.
    #[error("{0}")]
    NotAvailable(&'static str),
    /// The position is not on the channel's current line.
    #[error("unrecoverable position: it is not on the channel's current line")]
    UnrecoverablePosition,
}

/// What became of a request that the broker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerFailure {
    /// Certainly not done.
    Unavailable,
    /// Certainly not done: the broker answers, and refuses.
    Refused(Refusal),
    /// May have been done.
    OutcomeUnknown,
    /// Certainly not done, because the channel's data cannot be read.
    Unreadable,
    /// Certainly not done, because a node of the fleet may not read it.
    FleetVersion,
}

impl BrokerFailure {
    fn message(self) -> &'static str {
        match self {
            Self::Unavailable => "the broker is unavailable; nothing was done",
            Self::Refused(Refusal::Full) => "the broker's memory is full; nothing was done",
            Self::Refused(Refusal::ReadOnly) => "the broker is read-only; nothing was done",
            Self::Refused(Refusal::NotPermitted) => "the broker's access rules forbid it; nothing was done",
            Self::Refused(Refusal::NotPersisted) => "the broker cannot write to its disk; nothing was done",
            Self::Refused(Refusal::TooFewReplicas) => "the broker has too few replicas; nothing was done",
            Self::Refused(Refusal::Other) => "the broker refuses it; nothing was done",
            Self::OutcomeUnknown => "the broker did not answer in time; it may have been published",
            Self::Unreadable => "the broker's data cannot be read; nothing was done",
            Self::FleetVersion => {
                "binary payloads and exclude are refused until every node of the fleet is known to read them; nothing was done"
            }
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Unavailable => "broker_unavailable",
            Self::Refused(Refusal::Full) => "broker_full",
            Self::Refused(_) => "broker_refused",
            Self::OutcomeUnknown => "publish_outcome_unknown",
            Self::Unreadable => "broker_unreadable",
            Self::FleetVersion => "fleet_version",
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Unavailable | Self::Unreadable | Self::FleetVersion => Outcome::Unavailable,
            Self::Refused(_) => Outcome::Refused,
            Self::OutcomeUnknown => Outcome::Unknown,
        }
    }
}

impl ApiError {
    /// The answer to a failed write. Details stay here: they may name servers.
    pub(super) fn of_write(error: BrokerError) -> Self {
        log_limited!(DEBUG, %error, "publish failed");
        match error {
            BrokerError::Unavailable(_) => Self::Broker(BrokerFailure::Unavailable),
            BrokerError::Refused { cause, .. } => Self::Broker(BrokerFailure::Refused(cause)),
            BrokerError::OutcomeUnknown(_) => Self::Broker(BrokerFailure::OutcomeUnknown),
            BrokerError::IdempotencyConflict => Self::IdempotencyConflict,
            BrokerError::FleetVersion => Self::Broker(BrokerFailure::FleetVersion),
            BrokerError::Corrupt(_) => Self::Broker(BrokerFailure::Unreadable),
        }
    }

    /// The answer to a failed read, of which nothing can be left unknown.
    pub(super) fn of_read(error: BrokerError) -> Self {
        log_limited!(DEBUG, %error, "read failed");
        match error {
            BrokerError::Corrupt(_) => Self::Broker(BrokerFailure::Unreadable),
            BrokerError::Refused { cause, .. } => Self::Broker(BrokerFailure::Refused(cause)),
            _ => Self::Broker(BrokerFailure::Unavailable),
        }
    }

    pub(super) fn bad_request(reason: &'static str, message: &'static str) -> Self {
        Self::BadRequest { reason, message }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Auth(ApiAuthError::Unauthorized) => ErrorCode::Unauthorized,
            Self::Auth(ApiAuthError::Forbidden) => ErrorCode::PermissionDenied,
            Self::UnknownEndpoint | Self::UnknownMethod | Self::MethodNotAllowed => ErrorCode::MethodNotFound,
            Self::TooLarge { .. }
            | Self::BatchTooLarge { .. }
            | Self::TooManyCommands { .. }
            | Self::RepliesTooLarge { .. } => ErrorCode::LimitExceeded,
            Self::UnsupportedType
            | Self::UnsupportedEncoding
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::BadJson(_)
            | Self::InvalidIdempotencyKey(_)
            | Self::IdempotencyConflict
            | Self::InvalidChannel(_)
            | Self::BadRequest { .. } => ErrorCode::BadRequest,
            Self::Broker(_) => ErrorCode::Internal,
            Self::UnknownChannel => ErrorCode::UnknownChannel,
            Self::NotAvailable(_) => ErrorCode::NotAvailable,
            Self::UnrecoverablePosition => ErrorCode::UnrecoverablePosition,
        }
    }

    /// The `reason` member, which is also the metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Auth(ApiAuthError::Unauthorized) => "unauthorized",
            Self::Auth(ApiAuthError::Forbidden) => "forbidden",
            Self::UnknownEndpoint => "not_found",
            Self::UnknownMethod => "unknown_method",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedType => "unsupported_type",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::TooLarge { .. } => "too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyBroken => "body_broken",
            Self::BadJson(_) => "bad_json",
            Self::BatchTooLarge { .. } | Self::TooManyCommands { .. } => "batch_too_large",
            Self::RepliesTooLarge { .. } => "replies_too_large",
            Self::InvalidIdempotencyKey(_) => "invalid_idempotency_key",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::Broker(failure) => failure.reason(),
            Self::InvalidChannel(_) => "invalid_channel",
            Self::UnknownChannel => "unknown_channel",
            Self::BadRequest { reason, .. } => reason,
            Self::NotAvailable(_) => "not_available",
            Self::UnrecoverablePosition => "unrecoverable_position",
        }
    }

    fn status(&self, mode: ErrorMode) -> StatusCode {
        let application = match self {
            Self::Auth(ApiAuthError::Unauthorized) => return StatusCode::UNAUTHORIZED,
            Self::Auth(ApiAuthError::Forbidden) => return StatusCode::FORBIDDEN,
            Self::UnknownEndpoint => return StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => return StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedType | Self::UnsupportedEncoding => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => return StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => return StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken
            | Self::BadJson(_)
            | Self::BatchTooLarge { .. }
            | Self::TooManyCommands { .. }
            | Self::InvalidIdempotencyKey(_) => return StatusCode::BAD_REQUEST,
            Self::IdempotencyConflict => return StatusCode::CONFLICT,
            Self::Broker(_) => return StatusCode::SERVICE_UNAVAILABLE,
            Self::InvalidChannel(_) | Self::BadRequest { .. } | Self::RepliesTooLarge { .. } => StatusCode::BAD_REQUEST,
            Self::UnknownMethod | Self::UnknownChannel | Self::NotAvailable(_) => StatusCode::NOT_FOUND,
            Self::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
        };
        match mode {
            ErrorMode::Body => StatusCode::OK,
            ErrorMode::Transport => application,
        }
    }

    /// The body that tells it.
    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody::new(self.code(), self.reason(), self.to_string()).with_outcome(match self {
            Self::Broker(failure) => Some(failure.outcome()),
            _ => None,
        })
    }

    /// The whole answer.
    pub fn into_response(self, mode: ErrorMode) -> Response {
        let mut response = self.body().response(self.status(mode));
        let headers = response.headers_mut();
        match self {
            Self::Auth(ApiAuthError::Unauthorized) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("apikey realm=\"fanway\""));
            }
            Self::Broker(
                BrokerFailure::Unavailable
                | BrokerFailure::Refused(_)
                | BrokerFailure::OutcomeUnknown
                | BrokerFailure::FleetVersion,
            ) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::UnsupportedEncoding => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            _ => {}
        }
        response
    }
}
