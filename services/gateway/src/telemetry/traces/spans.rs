//! The spans that there are, and what they tell.

use std::sync::Arc;

use axum::response::Response;
use fanway_broker::trace::{Begun, Work};
use http::StatusCode;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::context::{self, Incoming};
use super::{TARGET, Traces};

/// A span with what all have: a kind, and how it may fail.
macro_rules! span {
    ($name:expr, $kind:literal $(, $field:literal = $value:expr)* $(,)?) => {
        tracing::info_span!(
            target: TARGET,
            parent: None,
            "work",
            "otel.name" = $name,
            "otel.kind" = $kind,
            "otel.status_code" = Empty,
            "error.type" = Empty,
            $($field = $value,)*
        )
    };
}

impl Traces {
    /// Begins the span of an authorised request, named by method and route. Returns the trace context of what is done
    /// because of it, and the span if the request is sampled.
    pub(crate) fn request(
        traces: Option<&Self>,
        name: &'static str,
        incoming: Incoming,
    ) -> (Option<Arc<str>>, Option<Begun>) {
        let Some(traces) = traces else { return (incoming.sampled(), None) };
        let begun = match &incoming {
            Incoming::Sampled(parent) => of_parent(parent, || server(name)),
            Incoming::Absent => traces.of_chance(|| server(name)),
            Incoming::Unsampled => None,
        };
        (begun.as_ref().map(|begun| begun.context.clone()), begun)
    }

    /// Begins the span of a client's handshake if chance wants it.
    pub(crate) fn handshake(&self, name: &'static str) -> Option<Begun> {
        self.of_chance(|| server(name))
    }

    pub(super) fn work(&self, work: Work<'_>) -> Option<Begun> {
        match work {
            Work::Redis { parent } => of_parent(parent, || {
                span!("redis publish", "client", "db.system.name" = "redis", "db.operation.name" = "publish")
            }),
            Work::Delivery { parent, namespace, connections, waited } => of_parent(parent, || {
                span!(
                    "deliver",
                    "consumer",
                    "fanway.namespace" = namespace,
                    "fanway.connections" = i64::try_from(connections).unwrap_or(i64::MAX),
                    "fanway.waited_us" = i64::try_from(waited.as_micros()).unwrap_or(i64::MAX),
                )
            }),
            Work::Command { name } => self.of_chance(|| span!(name, "server", "fanway.command" = name)),
        }
    }

    /// Begins a trace if chance wants it.
    fn of_chance(&self, span: impl FnOnce() -> Span) -> Option<Begun> {
        if rand::random::<f64>() < self.0.ratio { begun(span()) } else { None }
    }
}

fn server(name: &'static str) -> Span {
    let (method, route) = name.split_once(' ').unwrap_or_default();
    // Numbers are of type i64, which alone the bridge to OpenTelemetry keeps as numbers.
    span!(name, "server", "http.request.method" = method, "http.route" = route, "http.response.status_code" = Empty,)
}

/// Goes on with a trace that is kept.
fn of_parent(parent: &str, span: impl FnOnce() -> Span) -> Option<Begun> {
    let parent = context::parent(parent)?;
    let span = span();
    // Refused only for a span that was entered already, or that nobody keeps.
    span.set_parent(parent).ok()?;
    begun(span)
}

fn begun(span: Span) -> Option<Begun> {
    Some(Begun { context: context::text(&span)?, span })
}

/// Answers a sampled request, and tells with what.
pub(crate) async fn answered(request: Begun, answer: impl Future<Output = Response>) -> Response {
    let response = answer.await;
    ended(Some(request), response.status());
    response
}

/// Ends the span of a request.
pub(crate) fn ended(request: Option<Begun>, status: StatusCode) {
    let Some(request) = request else { return };
    request.span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        request.span.record("otel.status_code", "ERROR");
    }
}
