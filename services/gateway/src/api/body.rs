//! Reading a request: its gates in order, then its body as JSON.

use std::pin::pin;
use std::task::Poll;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use bytes::BytesMut;
use fanway_protocol::publication::{MAX_JSON_DEPTH, nests_too_deep};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ApiState;
use super::error::ApiError;
use super::method::ApiMethod;
use super::metrics::{Meter, OK, Observed};
use super::settings::ErrorMode;
use crate::error_body::{json, json_text};

/// Longest text of a parser's complaint that is given back; it may quote the body.
const MAX_COMPLAINT: usize = 200;

/// The header by which a request asks for [`ErrorMode::Transport`].
const ERROR_MODE: HeaderName = HeaderName::from_static("x-centrifugo-error-mode");

/// One request under way: how its errors are told and what is counted when it ends.
pub(super) struct Call<'a> {
    manner: Manner,
    observed: Observed<'a>,
}

/// How a request is to be answered.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    mode: ErrorMode,
    /// HTTP/1 says by a header that the rest of a refused body will not be read.
    http1: bool,
}

impl Manner {
    pub(super) fn of(state: &ApiState, headers: &HeaderMap, version: Version) -> Self {
        let asked = headers.get(ERROR_MODE).is_some_and(|mode| mode == "transport");
        Self {
            mode: if asked { ErrorMode::Transport } else { state.settings.error_mode },
            http1: version < Version::HTTP_2,
        }
    }

    /// The response to a request that was counted.
    pub(super) fn respond(self, answer: Result<Vec<u8>, ApiError>) -> Response {
        match answer {
            Ok(answer) => json_text(StatusCode::OK, answer),
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(self, error: ApiError) -> Response {
        let unread = matches!(error, ApiError::TooLarge { .. } | ApiError::BodyTimeout | ApiError::BodyBroken);
        let mut response = error.into_response(self.mode);
        if unread && self.http1 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl<'a> Call<'a> {
    pub(super) fn begin(state: &ApiState, meter: &'a Meter, request: &Request) -> Self {
        Self::answered(Manner::of(state, request.headers(), request.version()), meter)
    }

    /// As [`Call::begin`], for those who know how it is to be answered.
    pub(super) fn answered(manner: Manner, meter: &'a Meter) -> Self {
        Self { manner, observed: Observed::begin(meter) }
    }

    pub(super) fn end<T: Serialize>(self, answer: Result<T, ApiError>) -> Response {
        match answer {
            Ok(result) => self.succeed(json(StatusCode::OK, &Answer { result })),
            Err(error) => self.fail(error),
        }
    }

    /// Ends what another meter counts: a request that is let in, but consists of calls of their own.
    pub(super) fn hand_over(self) {
        self.observed.forget();
    }

    /// As [`Call::end`], for an answer that is written already.
    pub(super) fn end_written(self, answer: Result<Vec<u8>, ApiError>) -> Response {
        match answer {
            Ok(answer) => self.succeed(json_text(StatusCode::OK, answer)),
            Err(error) => self.fail(error),
        }
    }

    fn succeed(self, response: Response) -> Response {
        self.observed.end(OK);
        response
    }

    fn fail(self, error: ApiError) -> Response {
        self.observed.end(error.reason());
        self.manner.refuse(error)
    }
}

/// The body of every success.
#[derive(Serialize)]
pub(super) struct Answer<T> {
    pub(super) result: T,
}

/// Lets an authorised JSON request in and reads its body. Nothing of the body is read when it will not be used.
///
/// What is refused is refused before anything is awaited, so that the future stays small.
pub(super) fn read(
    state: &ApiState,
    head: &Parts,
    body: Body,
    method: ApiMethod,
) -> Result<impl Future<Output = Result<Bytes, ApiError>> + Send + use<>, ApiError> {
    (state.authorize)(head, method.scope())?;
    read_authorised(state, head, body, method.limit(&state.settings))
}

/// As [`read`], after the API key was checked.
pub(super) fn read_authorised(
    state: &ApiState,
    head: &Parts,
    body: Body,
    limit: u64,
) -> Result<impl Future<Output = Result<Bytes, ApiError>> + Send + use<>, ApiError> {
    check_encoding(&head.headers)?;
    check_type(&head.headers)?;
    check_length(&head.headers, limit)?;
    Ok(collect(state, body, limit))
}

/// As [`read`], for a request that needs no body: of an empty one the content type does not matter.
pub(super) async fn read_optional(state: &ApiState, request: Request, method: ApiMethod) -> Result<Bytes, ApiError> {
    let (head, body) = request.into_parts();
    let limit = method.limit(&state.settings);
    (state.authorize)(&head, method.scope())?;
    check_encoding(&head.headers)?;
    check_length(&head.headers, limit)?;
    let body = collect(state, body, limit).await?;
    if !body.is_empty() {
        check_type(&head.headers)?;
    }
    Ok(body)
}

fn collect(state: &ApiState, body: Body, limit: u64) -> impl Future<Output = Result<Bytes, ApiError>> + Send + use<> {
    let patience = state.settings.body_timeout;
    async move {
        let mut whole = pin!(gather(body, limit));
        // Nearly always it is all there already, and no clock needs to be read.
        match std::future::poll_fn(|cx| Poll::Ready(whole.as_mut().poll(cx))).await {
            Poll::Ready(whole) => whole,
            Poll::Pending => tokio::time::timeout(patience, whole).await.unwrap_or(Err(ApiError::BodyTimeout)),
        }
    }
}

/// All of a body. One that comes in one piece, as nearly all do, is not copied.
async fn gather(mut body: Body, limit: u64) -> Result<Bytes, ApiError> {
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else { continue };
        if (first.len() + more.len() + piece.len()) as u64 > limit {
            return Err(ApiError::TooLarge { limit });
        }
        if first.is_empty() {
            first = piece;
        } else {
            more.extend_from_slice(&piece);
        }
    }
    Ok(if more.is_empty() { first } else { [first, more.freeze()].concat().into() })
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let plain = headers.get_all(header::CONTENT_ENCODING).iter().all(|value| value == "identity");
    if plain { Ok(()) } else { Err(ApiError::UnsupportedEncoding) }
}

/// `application/json`, alone or with the only charset JSON has. A request that does not name its type means JSON: many
/// libraries send none, and a body that is something else is refused by the parser.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(()),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(ApiError::UnsupportedType),
    };
    if value == "application/json" || value.is_empty() {
        return Ok(());
    }
    let mut parts = value.to_str().map_err(|_| ApiError::UnsupportedType)?.split(';').map(str::trim);
    let json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if json && utf8 { Ok(()) } else { Err(ApiError::UnsupportedType) }
}

fn check_length(headers: &HeaderMap, limit: u64) -> Result<(), ApiError> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limit) { Err(ApiError::TooLarge { limit }) } else { Ok(()) }
}

/// Takes a body as one JSON object, borrowing from it.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let text = utf8(body)?;
    // Without this check an array would do as well: its items would be taken as the members in their order.
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(ApiError::BadJson("the body must be a JSON object".to_owned()));
    }
    check_depth(text)?;
    serde_json::from_str(text).map_err(|error| complaint(&error))
}

/// Takes a body as JSON values, one after the other; of more than `most` the rest is not looked at.
pub(super) fn values(body: &[u8], most: usize) -> Result<Vec<&str>, ApiError> {
    let text = utf8(body)?;
    check_depth(text)?;
    let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().take(most);
    values.map(|value| value.map(RawValue::get).map_err(|error| complaint(&error))).collect()
}

fn utf8(body: &[u8]) -> Result<&str, ApiError> {
    simdutf8::basic::from_utf8(body).map_err(|_| ApiError::BadJson("the body is not UTF-8".to_owned()))
}

fn complaint(error: &serde_json::Error) -> ApiError {
    let mut complaint = error.to_string();
    complaint.truncate(complaint.floor_char_boundary(MAX_COMPLAINT));
    ApiError::BadJson(complaint)
}

/// Refuses texts that nest deeper than anybody's parser should have to follow.
pub(super) fn check_depth(text: &str) -> Result<(), ApiError> {
    // Counting is many times faster than following, and settles it for all but strange texts.
    let openings = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(matches!(byte, b'[' | b'{'))).sum::<u8>();
    let openings: usize = text.as_bytes().chunks(255).map(|chunk| usize::from(openings(chunk))).sum();
    match openings > MAX_JSON_DEPTH && nests_too_deep(text) {
        false => Ok(()),
        true => Err(ApiError::BadJson(format!("the body nests deeper than {MAX_JSON_DEPTH} levels"))),
    }
}
