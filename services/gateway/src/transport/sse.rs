//! Plain server-sent events: `GET /sse?channel=a&channel=b`.
//!
//! Over HTTP/1 the socket is taken over, and the session writes the chunks of the body itself (HTTP/1.1) or none
//! (HTTP/1.0); over HTTP/2 the stream is a response body that hyper asks for when the client can take more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use fanway_hub::driver::Pulled;
use fanway_hub::session::{EventSession, EventStream};
use fanway_protocol::framing::sse as framing;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;

use crate::server::WhenBlocked;

/// The head of a stream: never cached, never transformed, never buffered by a proxy that listens to its backend.
pub(super) fn head<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Answer to a client that presents the id of the event `disconnect`: 204 makes an `EventSource` stop for good (WHATWG HTML,
/// section 9.2.3). Never cached: a new `EventSource` may have the same URL.
pub(super) fn stop() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Stream that ends at once, for a client that may come back after a time: an `EventSource` would never do so after a
/// status other than 200.
pub(super) fn come_back(after: Duration) -> Response<Body> {
    let mut line = Vec::new();
    framing::write_retry(after.as_millis() as u64, &mut line);
    head(Body::from(line))
}

/// The answer over HTTP/2: a stream as a body, which ends as one on a socket if the client does not take it.
pub(super) fn response(session: EventSession) -> Response<Body> {
    let session = Arc::new(Pulled::new(session));
    let mut response = head(Body::new(EventBody(Arc::clone(&session))));
    response.extensions_mut().insert(WhenBlocked::new(move |cx| session.poll_blocked(cx)));
    response
}

/// A stream as a response body. hyper polls it when it has passed on what it was given before.
struct EventBody(Arc<Pulled<EventStream>>);

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_bytes(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
