//! The JSON body of every refusal, whichever layer refuses: `{"error":{"code","message","reason"}}`.

use std::borrow::Cow;

use fanway_protocol::ErrorCode;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    error: ErrorDetail,
    /// Present when the broker failed: whether the request may have been done all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// Number of the client protocol: 100 internal, 101 unauthorized, 102 unknown channel, 103 permission denied,
    /// 104 method not found, 106 limit exceeded, 107 bad request, 108 not available, 112 unrecoverable position.
    code: u32,
    /// For people.
    #[schema(value_type = String)]
    message: Cow<'static, str>,
    /// For programs: a word in snake_case.
    #[schema(value_type = String)]
    reason: &'static str,
}

/// What became of a request that the broker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Certainly not done.
    Unavailable,
    /// Certainly not done: the broker answers, and refuses. Somebody has to act before it helps to try again.
    Refused,
    /// May have been done.
    #[serde(rename = "outcome_unknown")]
    Unknown,
}

impl ErrorBody {
    /// A body without an outcome.
    pub(crate) fn new(code: ErrorCode, reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { error: ErrorDetail { code: code.code(), message: message.into(), reason }, outcome: None }
    }

    /// The same with an outcome.
    pub(crate) fn with_outcome(self, outcome: Option<Outcome>) -> Self {
        Self { outcome, ..self }
    }

    /// The whole answer.
    pub(crate) fn response<B: From<Vec<u8>>>(&self, status: StatusCode) -> Response<B> {
        json(status, self)
    }

    /// The body alone.
    pub(crate) fn text(&self) -> Vec<u8> {
        text(self)
    }
}

/// Stands in for a body that could not be written.
const INTERNAL: &str = r#"{"error":{"code":100,"message":"internal server error","reason":"internal"}}"#;

/// Bodies are made of strings, numbers and checked JSON, so failure is not reached; were it, the client gets JSON.
fn to_text(body: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(body).inspect_err(|error| tracing::error!(%error, "an answer could not be written as JSON")).ok()
}

/// The JSON text of a body.
pub(crate) fn text(body: &impl Serialize) -> Vec<u8> {
    to_text(body).unwrap_or_else(|| INTERNAL.into())
}

/// A JSON answer that nobody may store.
pub(crate) fn json<B: From<Vec<u8>>>(status: StatusCode, body: &impl Serialize) -> Response<B> {
    match to_text(body) {
        Some(text) => json_text(status, text),
        None => json_text(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL.into()),
    }
}

/// As [`json`], with the text at hand.
pub(crate) fn json_text<B: From<Vec<u8>>>(status: StatusCode, text: Vec<u8>) -> Response<B> {
    let mut response = Response::new(B::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
