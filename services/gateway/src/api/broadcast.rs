//! `POST /api/broadcast`: the same publication to many channels.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use fanway_broker::trace::Begun;
use fanway_protocol::Channel;
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::body::{Call, parse, read};
use super::content::{Content, Marks, Parts, TagMap};
use super::error::{ApiError, BrokerFailure};
use super::idempotency;
use super::method::{ApiMethod, Context};
use super::openapi::Failures;
use super::publish::{PublishResult, publish_one};
use super::{Api, ApiState};
use crate::error_body::ErrorBody;
use crate::telemetry::Traces;
use crate::telemetry::traces::ended;

/// The most channels of one broadcast.
const MAX_CHANNELS: usize = 1000;

/// Publishes of one broadcast that are under way at once.
const CONCURRENCY: usize = 32;

/// After so long no further publish of a broadcast is begun, so that a slow broker cannot hold a request for minutes.
/// Those under way have the broker's own deadlines.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// One publication for many channels.
#[derive(Deserialize, ToSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct BroadcastRequest<'a> {
    /// 1 to 1000 channels. A channel may occur more than once.
    #[schema(value_type = Vec<String>)]
    channels: Option<Vec<Cow<'a, str>>>,
    /// What to publish: any JSON value but `null`. Delivered as written.
    #[serde(borrow)]
    #[schema(value_type = serde_json::Value, required = false)]
    data: Option<&'a RawValue>,
    /// Instead of `data`, as in publish.
    b64data: Option<Cow<'a, str>>,
    /// At most 32 labels: names of 1 to 64 bytes, values of at most 256.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>, nullable)]
    tags: Option<TagMap>,
    /// Deliver to present subscribers only: nothing is kept, and the answers have no positions.
    skip_history: Option<bool>,
    /// As in publish.
    exclude: Option<Cow<'a, str>>,
    /// As in publish; it applies to each channel by itself.
    idempotency_key: Option<Cow<'a, str>>,
    /// Not supported: anything but 0 is refused.
    #[schema(ignore)]
    version: Option<u64>,
}

/// What a broadcast answers.
#[derive(Serialize, ToSchema)]
pub(super) struct BroadcastAnswer {
    result: BroadcastResult,
}

/// One answer per channel, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(super) struct BroadcastResult {
    responses: Vec<Item>,
}

/// The answer for one channel.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Item {
    /// It was published.
    Done {
        /// Where.
        result: PublishResult,
    },
    /// It was not.
    Failed(ErrorBody),
}

/// Publishes the same to many channels.
///
/// Each channel has its own result: one that fails does not stop the others. When the broker fails all of them, the
/// whole request is answered 503.
#[utoipa::path(
    post,
    path = "/api/broadcast",
    operation_id = "broadcast",
    tag = "server",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same as `idempotency_key` in the body."),
        ("X-Centrifugo-Error-Mode" = Option<String>, Header, description = "`transport`: application errors as HTTP statuses; errors of single channels stay in the body."),
    ),
    request_body = BroadcastRequest<'_>,
    responses((status = 200, description = "One answer per channel, or an application error.", body = inline(super::openapi::Either<BroadcastAnswer>)), Failures),
    security(("api_key" = []), ("authorization" = [])),
)]
pub(super) async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let call = Call::begin(&api.state, &api.broadcast, &request);
    let mut sampled = None;
    let response = call.end(answer(&api.state, request, &mut sampled).await);
    ended(sampled, response.status());
    response
}

async fn answer(state: &ApiState, request: Request, sampled: &mut Option<Begun>) -> Result<BroadcastResult, ApiError> {
    let (head, body) = request.into_parts();
    let body = read(state, &head, body, ApiMethod::Broadcast)?;
    let Marks { key, trace: incoming } = Marks::of(&head.headers);
    let trace;
    (trace, *sampled) = Traces::request(state.traces.as_ref(), "POST /api/broadcast", incoming);
    broadcast(state, &body.await?, key, trace).await
}

/// Publishes what the parameters say.
pub(super) async fn call(state: &ApiState, params: &[u8], context: Context) -> Result<BroadcastResult, ApiError> {
    broadcast(state, params, Ok(context.key), context.trace).await
}

async fn broadcast(
    state: &ApiState,
    params: &[u8],
    header_key: Result<Option<String>, ApiError>,
    trace: Option<Arc<str>>,
) -> Result<BroadcastResult, ApiError> {
    let request: BroadcastRequest<'_> = parse(params)?;
    let channels = request.channels.unwrap_or_default();
    if channels.len() > MAX_CHANNELS {
        return Err(ApiError::BatchTooLarge { limit: MAX_CHANNELS });
    }
    if channels.is_empty() {
        return Err(ApiError::bad_request("invalid_channel", "channels is missing or empty"));
    }
    let header_key = header_key?;
    let key = idempotency::choose(header_key.as_deref(), request.idempotency_key.as_deref())?;
    let parts = Parts {
        data: request.data,
        b64data: request.b64data.as_deref(),
        tags: request.tags,
        exclude: request.exclude.as_deref(),
        version: request.version,
    };
    let content = Content::new(parts, trace, key.is_some())?;
    let results = publish_all(state, &channels, &content, key, request.skip_history.unwrap_or(false)).await;
    if let Some(failure) = common_failure(&results) {
        return Err(ApiError::Broker(failure));
    }
    let item = |result| match result {
        Ok(result) => Item::Done { result },
        Err(error) => Item::Failed(ApiError::body(&error)),
    };
    Ok(BroadcastResult { responses: results.into_iter().map(item).collect() })
}

/// Publishes to every channel, some at a time; what goes to the same channel goes one after the other.
async fn publish_all(
    state: &ApiState,
    channels: &[Cow<'_, str>],
    content: &Content,
    key: Option<&str>,
    skip_history: bool,
) -> Vec<Result<PublishResult, ApiError>> {
    let deadline = Instant::now() + DEADLINE;
    let mut times: HashMap<&str, usize> = HashMap::with_capacity(channels.len());
    for channel in channels {
        *times.entry(channel).or_default() += 1;
    }
    // The futures are made before they are streamed: a closure inside the stream would have to hold for any lifetime.
    let runs: Vec<_> = times
        .into_iter()
        .map(|(channel, times)| async move {
            let mut results = Vec::with_capacity(times);
            for _ in 0..times {
                results.push(if Instant::now() < deadline {
                    match Channel::new(channel) {
                        Ok(channel) => publish_one(state, &channel, content, key, skip_history).await,
                        Err(error) => Err(error.into()),
                    }
                } else {
                    Err(ApiError::Broker(BrokerFailure::Unavailable))
                });
            }
            (channel, results.into_iter())
        })
        .collect();
    let done: Vec<_> = stream::iter(runs).buffer_unordered(CONCURRENCY).collect().await;
    let mut done: HashMap<&str, _> = done.into_iter().collect();
    channels.iter().filter_map(|channel| done.get_mut(channel.as_ref())?.next()).collect()
}

/// What to say of the whole when the broker failed every single part of it.
pub(super) fn common_failure<T>(results: &[Result<T, ApiError>]) -> Option<BrokerFailure> {
    let mut common = None;
    for result in results {
        match result {
            Err(ApiError::Broker(BrokerFailure::OutcomeUnknown)) => common = Some(BrokerFailure::OutcomeUnknown),
            Err(ApiError::Broker(failure)) => common = common.or(Some(*failure)),
            _ => return None,
        }
    }
    common
}
