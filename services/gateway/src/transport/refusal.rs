//! How the client endpoints say no.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::Response;
use fanway_hub::AuthFailure;
use fanway_hub::quota::Limited;
use fanway_protocol::{ChannelError, ErrorCode};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::error_body::ErrorBody;

/// A request that a client endpoint does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The page's origin is not allowed.
    #[error("the origin is not allowed")]
    Origin,
    /// The credential is missing or was refused.
    #[error("{0}")]
    Credential(AuthFailure),
    /// A parameter is wrong; the text says which and how.
    #[error("{0}")]
    BadRequest(&'static str),
    /// A text is not a channel name.
    #[error(transparent)]
    InvalidChannel(ChannelError),
    /// The request has a body.
    #[error("a GET request must not have a body here")]
    UnexpectedBody,
    /// The channel's namespace does not exist.
    #[error("unknown channel")]
    UnknownChannel,
    /// The client may not subscribe to one of the channels.
    #[error("permission denied")]
    Forbidden,
    /// More channels than one stream may have.
    #[error("too many channels")]
    TooManyChannels,
    /// The cursor of the channels would not fit the head of a request: a client could begin, and never come back.
    #[error(
        "these channels leave no room for their cursor: with it a request head could have {needed} bytes, and \
         server.max_head is {max_head}; ask for fewer channels at once, or for channels with shorter names"
    )]
    NoRoomForCursor {
        /// Bytes of the head with the largest cursor.
        needed: usize,
        /// The limit.
        max_head: usize,
    },
    /// The client does not accept what the endpoint answers.
    #[error("only text/event-stream is served here")]
    NotAcceptable,
    /// The client, or its user on other connections, has used up its quota.
    #[error("too many requests: a limit of this client or its user is reached ({})", .0.label)]
    Limited(Limited),
    /// The channels could not be joined now.
    #[error("the broker is unavailable")]
    Unavailable,
}

/// Time after which a client beyond a limit may come back: up to a second more than it takes, so that the connections of a
/// user do not come back in step.
pub(super) fn come_back_after(limited: Limited) -> Duration {
    limited.wait + Duration::from_millis(u64::from(rand::random::<u16>() % 1000))
}

impl Refusal {
    fn parts(self) -> (StatusCode, ErrorCode, &'static str) {
        match self {
            Self::Origin => (StatusCode::FORBIDDEN, ErrorCode::PermissionDenied, "origin_not_allowed"),
            Self::Credential(AuthFailure::Missing) => {
                (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, "unauthorized")
            }
            Self::Credential(AuthFailure::Expired) => {
                (StatusCode::UNAUTHORIZED, ErrorCode::TokenExpired, "token_expired")
            }
            Self::Credential(AuthFailure::Invalid { .. }) => {
                (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, "invalid_token")
            }
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, ErrorCode::BadRequest, "bad_request"),
            Self::InvalidChannel(_) => (StatusCode::BAD_REQUEST, ErrorCode::BadRequest, "invalid_channel"),
            Self::UnexpectedBody => (StatusCode::BAD_REQUEST, ErrorCode::BadRequest, "unexpected_body"),
            Self::UnknownChannel => (StatusCode::NOT_FOUND, ErrorCode::UnknownChannel, "unknown_channel"),
            Self::Forbidden => (StatusCode::FORBIDDEN, ErrorCode::PermissionDenied, "permission_denied"),
            Self::TooManyChannels => (StatusCode::BAD_REQUEST, ErrorCode::LimitExceeded, "too_many_channels"),
            Self::NoRoomForCursor { .. } => (StatusCode::BAD_REQUEST, ErrorCode::LimitExceeded, "no_room_for_cursor"),
            Self::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, ErrorCode::BadRequest, "not_acceptable"),
            Self::Limited(_) => (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, "too_many_requests"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Internal, "broker_unavailable"),
        }
    }

    /// Bounded label for metrics.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Credential(_) => "auth",
            Self::Forbidden | Self::UnknownChannel => "permission",
            Self::BadRequest(_)
            | Self::UnexpectedBody
            | Self::InvalidChannel(_)
            | Self::TooManyChannels
            | Self::NoRoomForCursor { .. }
            | Self::NotAcceptable => "bad_request",
            Self::Limited(_) => "quota",
            Self::Unavailable => "broker",
        }
    }

    /// The whole answer. Says which kind of thing is wrong with a credential, not what.
    pub fn response(self) -> Response {
        let (status, code, reason) = self.parts();
        let message = match self {
            Self::Credential(_) => Cow::from(code.message()),
            _ => Cow::from(self.to_string()),
        };
        let mut response = ErrorBody::new(code, reason, message).response(status);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let retry_after = match self {
            Self::Unavailable => Some(1 + u64::from(rand::random::<u8>() % 5)),
            Self::Limited(limited) => Some(come_back_after(limited).as_millis().div_ceil(1000) as u64),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
