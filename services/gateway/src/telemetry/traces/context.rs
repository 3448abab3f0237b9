//! The W3C trace context, as text between nodes and as the library knows it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a request says about the trace that it is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Nothing that can be understood: it begins a trace of its own, or none.
    Absent,
    /// Its trace is not kept.
    Unsampled,
    /// Its trace is kept; the header's text.
    Sampled(Arc<str>),
}

impl Incoming {
    /// Reads the request's `traceparent`.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match flags(text) {
            Some(flags) if flags & 1 == 1 => Self::Sampled(Arc::from(text)),
            Some(_) => Self::Unsampled,
            None => Self::Absent,
        }
    }

    /// The text of a trace that is kept.
    pub fn sampled(self) -> Option<Arc<str>> {
        match self {
            Self::Sampled(text) => Some(text),
            Self::Absent | Self::Unsampled => None,
        }
    }
}

/// The flags of a well-formed `traceparent` of version 00.
fn flags(text: &str) -> Option<u8> {
    if text.is_empty() {
        return None;
    }
    let mut parts = text.split('-');
    let mut hex = |len: usize| {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        parts.next().filter(|part| part.len() == len && part.bytes().all(lower_hex))
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let named = [trace, span].iter().all(|id| id.bytes().any(|b| b != b'0'));
    (version == "00" && parts.next().is_none() && named).then(|| u8::from_str_radix(flags, 16).ok()).flatten()
}

/// A sampled context as the parent of a span. What came from another node is not trusted to be one.
pub(super) fn parent(text: &str) -> Option<Context> {
    flags(text).filter(|flags| flags & 1 == 1)?;
    let mut ids = text.split('-').skip(1);
    let (trace, span) = (TraceId::from_hex(ids.next()?).ok()?, SpanId::from_hex(ids.next()?).ok()?);
    let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
    Some(Context::new().with_remote_span_context(context))
}

/// The `traceparent` for what is done within a span; none if nobody keeps it.
pub(super) fn text(span: &Span) -> Option<Arc<str>> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| Arc::from(format!("00-{}-{}-01", context.trace_id(), context.span_id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn incoming(text: &str) -> Incoming {
        Incoming::of(&HeaderMap::from_iter([(TRACEPARENT, text.parse().unwrap())]))
    }

    #[test]
    fn a_caller_decides_for_its_trace() {
        let sampled = format!("00-{TRACE}-b7ad6b7169203331-01");
        assert_eq!(incoming(&sampled), Incoming::Sampled(sampled.as_str().into()));
        assert_eq!(incoming(&format!("00-{TRACE}-b7ad6b7169203331-00")), Incoming::Unsampled);
        assert_eq!(Incoming::of(&HeaderMap::new()), Incoming::Absent);
    }

    #[test]
    fn what_is_malformed_decides_nothing() {
        for text in [
            String::new(),
            "00".to_owned(),
            format!("01-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            format!("00-{TRACE}-b7ad6b716920333-01"),
            format!("00-{TRACE}-b7ad6b7169203331-1"),
        ] {
            assert_eq!(incoming(&text), Incoming::Absent, "{text}");
            assert!(parent(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_parent_is_what_the_text_says() {
        let parent = parent(&format!("00-{TRACE}-b7ad6b7169203331-01")).unwrap();
        let context = parent.span().span_context().clone();
        assert_eq!(context.trace_id().to_string(), TRACE);
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_remote() && context.is_sampled());
    }
}
