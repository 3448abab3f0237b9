//! Answers to clients for whom there is no room, or that come above the rate: when to come back, at random within ten seconds,
//! so that those who were turned away together do not return together.
//!
//! A preflight is answered as by a node that is not full: a page whose preflight fails cannot read the 503 after it. So is an
//! `EventSource` that must not come back: on 204 it does not.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http::header::ACCEPT;
use http::request::Parts;
use rand::RngExt;

use super::answer::{self, Refusal};
use super::connection::Shared;
use super::{Io, head, http2};

/// Answers a connection of which there is only the first head as bytes, and ends it. For HTTP/2 there is no way to say when
/// to come back, just that it is too much.
pub(super) async fn answer(shared: &Shared, io: Io, first: &Bytes) {
    if head::is_http2(first) {
        return answer::send_last(io, http2::GO_AWAY).await;
    }
    let form = shared.answer_form(first);
    if let Some(preflight) = form.cross_origin.as_ref().filter(|page| page.is_preflight()) {
        return answer::send_last(io, &answer::preflight_bytes(preflight)).await;
    }
    let is_stream = head::wants_event_stream(head::path(first), head::header(first, "accept")) && !form.head_only;
    if is_stream && head::must_stop(head::header(first, "last-event-id"), head::query(first)) {
        return answer::send_last(io, &answer::stop_bytes(&form)).await;
    }
    let refusal = if is_stream { full_event_stream(head::reads_chunks(first)) } else { full() };
    answer::refuse(io, &refusal, &form).await;
}

/// The same to a request on a connection that goes on, or ends by itself.
pub(super) fn response(request: &Parts) -> Response<Body> {
    let value = |name| request.headers.get(name).map(|value: &http::HeaderValue| value.as_bytes());
    if !head::wants_event_stream(request.uri.path().as_bytes(), value(ACCEPT.as_str())) {
        return full().response();
    }
    let query = request.uri.query().unwrap_or_default();
    match head::must_stop(value("last-event-id"), query.as_bytes()) {
        true => answer::stop(),
        false => full_event_stream(false).response(),
    }
}

fn full() -> Refusal {
    Refusal::Full { retry: Duration::from_secs(rand::rng().random_range(1..=10)) }
}

/// Stream that says when to come back.
fn full_event_stream(chunked: bool) -> Refusal {
    Refusal::FullEventStream { retry: Duration::from_millis(rand::rng().random_range(1000..=10_000)), chunked }
}
