//! Plain server-sent events: `GET /sse?channel=a&channel=b`.
//!
//! Over HTTP/1 the socket is taken over, and the session writes the chunks of the body itself (HTTP/1.1) or none
//! (HTTP/1.0); over HTTP/2 the stream is a response body that hyper asks for when the client can take more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use fanway_hub::driver::take_bytes;
use fanway_hub::session::EventSession;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body::Frame;

/// The head of a stream: never cached, never transformed, never buffered by a proxy that listens to its backend.
pub(super) fn head<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A stream as a response body.
pub(super) struct EventBody {
    session: EventSession,
}

impl EventBody {
    pub(super) fn of(session: EventSession) -> Body {
        Body::new(Self { session })
    }
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let session = &mut self.get_mut().session;
        session.poll(cx, Instant::now());
        while session.has_output() {
            let bytes = take_bytes(session);
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            // Gathering may have found that the session must end: its last bytes are output too.
            session.end();
        }
        if session.ended() { Poll::Ready(None) } else { Poll::Pending }
    }
}
