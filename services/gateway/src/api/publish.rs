//! `POST /api/publish`: one publication to one channel.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use fanway_broker::{Broker, Idempotency, Publish, Retention};
use fanway_protocol::{Channel, Epoch};
use futures_util::future::Either;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::{Call, Manner, parse, read};
use super::content::{Content, Marks, Parts, TagMap};
use super::error::ApiError;
use super::idempotency;
use super::method::{ApiMethod, Context};
use super::openapi::Failures;
use super::{Api, ApiState};
use crate::telemetry::Traces;
use crate::telemetry::traces::answered;

/// One publication for one channel.
#[derive(Deserialize, ToSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct PublishRequest<'a> {
    /// The channel's name: 1 to 255 bytes of printable ASCII without space, `{`, `}` and `*`.
    #[serde(borrow)]
    #[schema(value_type = String)]
    channel: Option<Text<'a>>,
    /// What to publish: any JSON value but `null`. Delivered as written.
    #[serde(borrow)]
    #[schema(value_type = serde_json::Value, required = false)]
    data: Option<&'a RawValue>,
    /// Instead of `data`: the payload in standard base64. JSON text is published as that JSON value, anything else as
    /// bytes, which JSON clients receive as a string in base64. An empty text counts as absent; beside any other, so does
    /// a `data` of `""`, `{}` or `[]`. Bytes are refused with 503 and the reason `fleet_version` until every node of the
    /// fleet is known to read them.
    b64data: Option<Cow<'a, str>>,
    /// At most 32 labels: names of 1 to 64 bytes, values of at most 256.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>, nullable)]
    tags: Option<TagMap>,
    /// Deliver to present subscribers only: nothing is kept, and the answer has no position.
    skip_history: Option<bool>,
    /// The id of a client, as `connect` of the client protocol answers it: its connection is not sent the publication. The
    /// history has it, and so do other connections of the same user. Refused with 503 and the reason `fleet_version`, as
    /// bytes are, until every node of the fleet is known to read it. Nodes of older versions ignore it.
    exclude: Option<Cow<'a, str>>,
    /// 1 to 255 printable ASCII characters. For five minutes, the same key on the same channel with the same data, tags and
    /// `exclude` is answered with the first result and published once. The header `Idempotency-Key` does the same.
    idempotency_key: Option<Cow<'a, str>>,
    /// Not supported: anything but 0 is refused.
    #[schema(ignore)]
    version: Option<u64>,
}

/// A text that is borrowed where it stands without escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What a publish answers.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishAnswer {
    result: PublishResult,
}

/// Where a publication lies in its channel's log.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishResult {
    /// Its offset; absent when the channel keeps no history.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// The line that the offset is on; absent when the channel keeps no history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    epoch: Option<Epoch>,
}

impl PublishResult {
    /// The answer as JSON. By hand: every publish has one, and nothing in it has to be escaped.
    fn answer(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(96);
        text.extend_from_slice(b"{\"result\":{");
        if let Some(offset) = self.offset {
            text.extend_from_slice(b"\"offset\":");
            text.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
        }
        if let Some(epoch) = &self.epoch {
            text.extend_from_slice(if self.offset.is_some() { b",\"epoch\":\"" } else { b"\"epoch\":\"" });
            text.extend_from_slice(epoch.as_str().as_bytes());
            text.push(b'"');
        }
        text.extend_from_slice(b"}}");
        text
    }
}

/// Publishes to one channel.
///
/// Subscribers on every node receive it over whatever transport they use.
#[utoipa::path(
    post,
    path = "/api/publish",
    operation_id = "publish",
    tag = "server",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same as `idempotency_key` in the body."),
        ("X-Centrifugo-Error-Mode" = Option<String>, Header, description = "`transport`: application errors as HTTP statuses."),
    ),
    request_body = PublishRequest<'_>,
    responses((status = 200, description = "Published, or an application error.", body = inline(super::openapi::Either<PublishAnswer>)), Failures),
    security(("api_key" = []), ("authorization" = [])),
)]
// Not an async function: what the future holds is moved a few times on its way to being polled, so it holds nothing of
// the head, and nothing twice.
pub(super) fn handle(State(api): State<Arc<Api>>, request: Request) -> impl Future<Output = Response> + Send + use<> {
    let (head, body) = request.into_parts();
    let manner = Manner::of(&api.state, &head.headers, head.version);
    let Marks { key, trace } = Marks::of(&head.headers);
    let body = read(&api.state, &head, body, ApiMethod::Publish);
    // Whoever may not publish has no traces made either.
    let traces = api.state.traces.as_ref().filter(|_| body.is_ok());
    let (trace, sampled) = Traces::request(traces, "POST /api/publish", trace);
    let answer = async move {
        let call = Call::answered(manner, &api.publish);
        let checked = match body {
            Ok(body) => body.await.and_then(|body| check(key, trace, &body)),
            Err(refused) => Err(refused),
        };
        let outcome = match checked {
            Ok(Checked { channel, content, key, skip_history }) => {
                publish_one(&api.state, &channel, &content, key.as_deref(), skip_history).await
            }
            Err(refused) => Err(refused),
        };
        call.end_written(outcome.map(|result| result.answer()))
    };
    match sampled {
        None => Either::Left(answer),
        Some(sampled) => Either::Right(Box::pin(answered(sampled, answer))),
    }
}

/// Publishes what the parameters say. The answer as JSON.
pub(super) async fn call(state: &ApiState, params: &[u8], context: Context) -> Result<Vec<u8>, ApiError> {
    let Checked { channel, content, key, skip_history } = check(Ok(context.key), context.trace, params)?;
    let published = publish_one(state, &channel, &content, key.as_deref(), skip_history).await;
    published.map(|result| result.answer())
}

/// A request that may be done.
struct Checked {
    channel: Channel,
    content: Content,
    key: Option<String>,
    skip_history: bool,
}

fn check(
    header_key: Result<Option<String>, ApiError>,
    trace: Option<Arc<str>>,
    body: &[u8],
) -> Result<Checked, ApiError> {
    let request: PublishRequest<'_> = parse(body)?;
    let header_key = header_key?;
    let key = idempotency::choose(header_key.as_deref(), request.idempotency_key.as_deref())?;
    let parts = Parts {
        data: request.data,
        b64data: request.b64data.as_deref(),
        tags: request.tags,
        exclude: request.exclude.as_deref(),
        version: request.version,
    };
    Ok(Checked {
        content: Content::new(parts, trace, key.is_some())?,
        channel: Channel::new(request.channel.as_ref().map_or("", |channel| &channel.0))?,
        key: key.map(str::to_owned),
        skip_history: request.skip_history.unwrap_or(false),
    })
}

/// Publishes checked content to one channel.
pub(super) async fn publish_one(
    state: &ApiState,
    channel: &Channel,
    content: &Content,
    key: Option<&str>,
    skip_history: bool,
) -> Result<PublishResult, ApiError> {
    let namespace = state.namespaces.of(channel).ok_or(ApiError::UnknownChannel)?;
    let request = Publish {
        channel,
        publication: content.publication.clone(),
        retention: if skip_history { Retention::NONE } else { namespace.retention() },
        idempotency: key.zip(content.fingerprint).map(|(key, fingerprint)| Idempotency {
            key,
            fingerprint,
            ttl: state.settings.idempotency_ttl,
        }),
    };
    let published = state.broker.publish(request).await.map_err(ApiError::of_write)?;
    if !published.duplicate {
        state.metrics.api_publications_total.inc();
    }
    Ok(PublishResult {
        offset: published.position.map(|position| position.offset),
        epoch: published.position.map(|position| position.epoch),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_by_hand_is_the_same() {
        let epoch = Some(Epoch::parse("abcdefgh0123456789-_").unwrap());
        for (offset, epoch) in [(None, None), (Some(u64::MAX), epoch), (None, epoch), (Some(0), None)] {
            let result = PublishResult { offset, epoch };
            let by_hand = result.answer();
            assert_eq!(by_hand, serde_json::to_vec(&PublishAnswer { result }).unwrap());
        }
    }
}
