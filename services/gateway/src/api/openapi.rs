//! `GET /api/openapi.json`: the description of the server API, made from the very types that it reads and writes.
//!
//! A copy is kept at `services/gateway/openapi.json`; a test compares them, and `UPDATE_OPENAPI=1` renews the copy.

use std::sync::LazyLock;

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use super::{broadcast, command, history, info, publish};
use crate::error_body::ErrorBody;

/// An answer with status 200: done, or an application error.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only described, never made")]
pub(super) enum Either<T> {
    /// Done.
    #[schema(title = "done")]
    Done(T),
    /// Not done, for a reason that the application is about.
    #[schema(title = "error")]
    Failed(ErrorBody),
}

/// What every endpoint may answer besides 200.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only described, never made")]
pub(super) enum Failures {
    /// The body is not a JSON object of the described types (`bad_json`), has too many channels or commands
    /// (`batch_too_large`), or the idempotency key is unusable (`invalid_idempotency_key`). In transport mode also every
    /// error 107, and a command for whose reply there is no room beside the others (`replies_too_large`).
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// No valid API key (`unauthorized`).
    #[response(status = 401, headers(("WWW-Authenticate" = String, description = "How to authenticate.")))]
    Unauthorized(ErrorBody),
    /// The API key does not allow this (`forbidden`).
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// In transport mode: the channel's namespace is not configured (`unknown_channel`), the channel does not have what
    /// was asked for (`not_available`), or there is no such method (`unknown_method`).
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// Another method than `POST` (`method_not_allowed`).
    #[response(status = 405, headers(("Allow" = String, description = "The methods of this path.")))]
    MethodNotAllowed(ErrorBody),
    /// The body did not arrive in time (`body_timeout`).
    #[response(status = 408)]
    Timeout(ErrorBody),
    /// The idempotency key was used with another body (`idempotency_conflict`).
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// The body is larger than allowed (`too_large`).
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// The content type is not JSON (`unsupported_type`), or the body is encoded (`unsupported_encoding`).
    #[response(status = 415)]
    Unsupported(ErrorBody),
    /// In transport mode: the position is not on the channel's current line (`unrecoverable_position`).
    #[response(status = 416)]
    OffTheLine(ErrorBody),
    /// The broker failed. `outcome` says whether it was certainly not done, because the broker does not answer
    /// (`unavailable`) or because it answers and refuses (`refused`), or may have been done (`outcome_unknown`); with an
    /// idempotency key it is safe to ask again.
    #[response(status = 503, headers(("Retry-After" = u32, description = "Seconds to wait before asking again.")))]
    Unavailable(ErrorBody),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fanway server API",
        description = "How back ends publish and look around. Every error has the body of `ErrorBody`. Application errors \
                       (102, 104, 107, 108, 112) come with status 200, as existing server libraries expect, or with the \
                       matching status when the setting `api.error_mode` is `transport` or the request has the header \
                       `X-Centrifugo-Error-Mode: transport`.",
    ),
    paths(command::handle, publish::handle, broadcast::handle, history::handle, info::handle),
    tags((name = "server", description = "For back ends, with an API key.")),
    modifiers(&Keys),
)]
struct Described;

/// The two ways to present an API key.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let header = |name, text| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, text)));
        let text =
            "The API key. With the setting `api.allow_key_in_query` the query may carry it instead, as `api_key`.";
        components.add_security_scheme("api_key", header("X-API-Key", text));
        components.add_security_scheme("authorization", header("Authorization", "`apikey` and the API key."));
    }
}

/// The document's text.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = Described::openapi().to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}

pub(super) async fn handle() -> Response {
    let mut response = Response::new(document().into());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
