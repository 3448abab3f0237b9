//! `POST /api/history`: a page of a channel's log.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fanway_broker::{Broker, HISTORY_BYTES, HistoryQuery, PageLimit};
use fanway_protocol::publication::{Tags, raw_json};
use fanway_protocol::{Channel, ClientInfo, Epoch, Payload, Position, Publication};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Call, parse, read};
use super::error::ApiError;
use super::method::ApiMethod;
use super::openapi::Failures;
use super::{Api, ApiState};

/// Which part of which channel's history.
#[derive(Deserialize, ToSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct HistoryRequest<'a> {
    /// The channel's name.
    #[schema(value_type = String)]
    channel: Option<Cow<'a, str>>,
    /// At most so many publications: 0 (the default) asks for the position alone, a negative number for as many as
    /// allowed. The setting `api.history_limit` (1000) bounds it. A page ends after 1 MiB of publications, too.
    limit: Option<i32>,
    /// Only publications after this position; in reverse, only those before it.
    #[serde(borrow)]
    since: Option<Since<'a>>,
    /// Newest first.
    reverse: Option<bool>,
}

/// A position in a channel's log.
#[derive(Deserialize, ToSchema)]
struct Since<'a> {
    /// Offset on the line; 0 is before the first.
    offset: Option<u64>,
    /// The line, as an earlier answer named it.
    #[serde(borrow)]
    #[schema(value_type = Option<String>)]
    epoch: Option<Cow<'a, str>>,
}

/// What history answers.
#[derive(Serialize, ToSchema)]
pub(super) struct HistoryAnswer {
    result: HistoryResult,
}

/// A page of a channel's history.
#[derive(Serialize, ToSchema)]
pub(super) struct HistoryResult {
    /// In the order asked.
    publications: Vec<HistoryPublication>,
    /// The line of the newest position.
    #[schema(value_type = String)]
    epoch: Epoch,
    /// The newest offset of the channel, which may lie beyond this page.
    offset: u64,
}

/// A publication of the past.
#[derive(Serialize, ToSchema)]
struct HistoryPublication {
    /// The published JSON value.
    #[serde(serialize_with = "raw_json", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Bytes>,
    /// Instead of `data`: the published bytes in standard base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    /// Who published, when a client did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    info: Option<Arc<ClientInfo>>,
    /// Its offset.
    offset: u64,
    /// The line it was written on. With the offset, the position to resume after it.
    #[schema(value_type = String)]
    epoch: Epoch,
    /// Its tags, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    tags: Option<Tags>,
    /// When a node took it, in milliseconds since 1970.
    time: u64,
}

impl HistoryPublication {
    fn new(position: Position, publication: &Publication) -> Self {
        let (data, b64data) = match &publication.data {
            Payload::Json(text) => (Some(text.clone()), None),
            Payload::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        Self {
            data,
            b64data,
            info: publication.info.clone(),
            offset: position.offset,
            epoch: position.epoch,
            tags: publication.tags.clone(),
            time: publication.time,
        }
    }
}

/// Reads a page of a channel's history.
///
/// A `since` that is not on the channel's current line is error 112. A page that does not begin right after `since` has
/// lost publications to retention.
#[utoipa::path(
    post,
    path = "/api/history",
    operation_id = "history",
    tag = "server",
    params(("X-Centrifugo-Error-Mode" = Option<String>, Header, description = "`transport`: application errors as HTTP statuses.")),
    request_body = HistoryRequest<'_>,
    responses((status = 200, description = "A page, or an application error.", body = inline(super::openapi::Either<HistoryAnswer>)), Failures),
    security(("api_key" = []), ("authorization" = [])),
)]
pub(super) async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let call = Call::begin(&api.state, &api.history, &request);
    call.end(answer(&api.state, request).await)
}

async fn answer(state: &ApiState, request: Request) -> Result<HistoryResult, ApiError> {
    let (head, body) = request.into_parts();
    let body = read(state, &head, body, ApiMethod::History)?.await?;
    call(state, &body).await
}

/// Reads the page that the parameters ask for.
pub(super) async fn call(state: &ApiState, params: &[u8]) -> Result<HistoryResult, ApiError> {
    let request: HistoryRequest<'_> = parse(params)?;
    let channel = Channel::new(&request.channel.unwrap_or_default())?;
    let retention = state.namespaces.of(&channel).ok_or(ApiError::UnknownChannel)?.retention();
    if !retention.keeps_log() {
        return Err(ApiError::NotAvailable("the channel keeps no history"));
    }
    let query = HistoryQuery {
        since: request.since.map_or(Ok(None), |since| position(&since))?,
        limit: PageLimit::new(limit(request.limit.unwrap_or(0), state.settings.history_limit), HISTORY_BYTES),
        reverse: request.reverse.unwrap_or(false),
    };
    let history = state.broker.history(&channel, query, retention).await.map_err(ApiError::of_read)?;
    if !history.since_valid {
        return Err(ApiError::UnrecoverablePosition);
    }
    let publications = history.publications.iter();
    Ok(HistoryResult {
        publications: publications
            .map(|(position, publication)| HistoryPublication::new(*position, publication))
            .collect(),
        epoch: history.top.epoch,
        offset: history.top.offset,
    })
}

fn limit(asked: i32, allowed: usize) -> usize {
    usize::try_from(asked).unwrap_or(usize::MAX).min(allowed)
}

/// A text that no epoch can have lies on no line. `{offset: 0}` without an epoch is how libraries say "from the start".
fn position(since: &Since<'_>) -> Result<Option<Position>, ApiError> {
    let (epoch, offset) = (since.epoch.as_deref().unwrap_or_default(), since.offset.unwrap_or_default());
    if epoch.is_empty() && offset == 0 {
        return Ok(None);
    }
    let epoch = Epoch::parse(epoch).ok_or(ApiError::UnrecoverablePosition)?;
    Ok(Some(Position { epoch, offset }))
}
