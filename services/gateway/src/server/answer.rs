//! Answers that the server gives by itself, and the parting from a client that may still be sending.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use fanway_broker::log_limited;
use fanway_protocol::codes::ErrorCode;
use fanway_protocol::framing::chunk;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::cors::CrossOrigin;
use super::{Io, scratch};
use crate::error_body::ErrorBody;

/// How long a parting client may take to receive its answer.
const PARTING: Duration = Duration::from_secs(1);

/// What a parting client may still send into the void.
const PARTING_BYTES: usize = 256 * 1024;

/// A request that is refused before anybody looks at what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not HTTP, or not unambiguous.
    Malformed(&'static str),
    /// hyper cannot read its head; what it says about it.
    Unreadable(String),
    /// It begins with a header of the PROXY protocol.
    ProxyProtocol,
    /// It came over another version of HTTP than TLS negotiated.
    NotNegotiated,
    /// It has a body where there can be none.
    UnexpectedBody,
    /// The request line alone is larger than a head may be.
    UriTooLong,
    /// The head is too large, or has too many lines.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body did not arrive in time.
    BodyTimeout,
    /// A handler asked for a takeover that cannot be.
    Internal,
    /// The connection limit is reached.
    Full {
        /// When to try again.
        retry: Duration,
    },
    /// The same for an `EventSource`, which on anything but 200 would never try again.
    FullEventStream {
        /// When to try again.
        retry: Duration,
        /// The client reads chunks (HTTP/1.1): it is sent a stream like any other, with the same end.
        chunked: bool,
    },
    /// A preflight from a page that may not use this endpoint.
    Origin,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_)
            | Self::Unreadable(_)
            | Self::ProxyProtocol
            | Self::NotNegotiated
            | Self::UnexpectedBody => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Full { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::FullEventStream { .. } => StatusCode::OK,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Unreadable(_) => "malformed_request",
            Self::ProxyProtocol => "proxy_protocol",
            Self::NotNegotiated => "not_negotiated",
            Self::UnexpectedBody => "unexpected_body",
            Self::UriTooLong => "uri_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::Internal => "internal",
            Self::Full { .. } | Self::FullEventStream { .. } => "too_many_connections",
            Self::Origin => "origin_not_allowed",
        }
    }

    fn body(&self) -> ErrorBody {
        let (code, message) = match self {
            Self::Malformed(what) => (ErrorCode::BadRequest, Cow::from(*what)),
            Self::Unreadable(what) => (ErrorCode::BadRequest, Cow::from(what.clone())),
            Self::ProxyProtocol => (
                ErrorCode::BadRequest,
                "a PROXY protocol header was not expected: list the load balancer in server.trusted_proxies and set \
                 server.proxy_protocol, or turn it off at the load balancer"
                    .into(),
            ),
            Self::NotNegotiated => {
                (ErrorCode::BadRequest, "this is not the version of HTTP that TLS negotiated (ALPN)".into())
            }
            Self::UnexpectedBody => (ErrorCode::BadRequest, "this request must not have a body".into()),
            Self::UriTooLong => (ErrorCode::BadRequest, "the request target is too long".into()),
            Self::HeadTooLarge => (ErrorCode::BadRequest, "the request head is too large".into()),
            Self::HeadTimeout => (ErrorCode::BadRequest, "the request head did not arrive in time".into()),
            Self::BodyTimeout => (ErrorCode::BadRequest, "the request body did not arrive in time".into()),
            Self::Internal => (ErrorCode::Internal, ErrorCode::Internal.message().into()),
            Self::Full { .. } | Self::FullEventStream { .. } => {
                (ErrorCode::TooManyRequests, "too many connections".into())
            }
            Self::Origin => (ErrorCode::PermissionDenied, "the origin is not allowed".into()),
        };
        ErrorBody::new(code, self.reason(), message)
    }

    /// As a response without the headers that belong to the connection.
    pub(super) fn response(&self) -> Response<Body> {
        let (head, body) = self.to_parts();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        *response.headers_mut() = head;
        response
    }

    /// As bytes for a connection that ends with them.
    pub(super) fn bytes(&self, form: &AnswerForm) -> Vec<u8> {
        let (mut headers, body) = self.to_parts();
        if let Some(page) = &form.cross_origin {
            page.mark(&mut headers);
        }
        let chunked = matches!(self, Self::FullEventStream { chunked: true, .. });
        if chunked {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        } else {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        let mut bytes = encode_head(self.status(), &headers);
        if form.head_only {
            return bytes;
        }
        if chunked {
            chunk::write(&body, &mut bytes);
            bytes.extend_from_slice(chunk::LAST);
        } else {
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    fn to_parts(&self) -> (HeaderMap, Vec<u8>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut content_type = HeaderValue::from_static("application/json");
        let mut body = self.body().text();
        match self {
            Self::Full { retry } => {
                headers.insert(header::RETRY_AFTER, retry.as_secs().into());
            }
            Self::FullEventStream { retry, .. } => {
                content_type = HeaderValue::from_static("text/event-stream");
                body = format!("retry: {}\n", retry.as_millis()).into_bytes();
            }
            _ => (),
        }
        headers.insert(header::CONTENT_TYPE, content_type);
        (headers, body)
    }
}

/// What the request asks of the form of its answer.
#[derive(Debug, Default)]
pub(super) struct AnswerForm {
    /// The decision on its page; none where no origin may read anything, and while the head is not whole.
    pub(super) cross_origin: Option<CrossOrigin>,
    /// It is a HEAD: the answer has no body.
    pub(super) head_only: bool,
}

/// The answer to a preflight.
pub(super) fn preflight(page: &CrossOrigin) -> Response<Body> {
    let mut response = match page.is_foreign() {
        true => Refusal::Origin.response(),
        false => no_content(),
    };
    page.mark(response.headers_mut());
    response
}

/// As [`preflight`], for a connection that ends with it.
pub(super) fn preflight_bytes(page: &CrossOrigin) -> Vec<u8> {
    if page.is_foreign() {
        return Refusal::Origin.bytes(&AnswerForm { cross_origin: Some(page.clone()), head_only: false });
    }
    let answer = preflight(page);
    encode_head(answer.status(), answer.headers())
}

/// The answer to an `EventSource` that must not come back. Never cached: a new `EventSource` may have the same URL.
pub(super) fn stop() -> Response<Body> {
    let mut answer = no_content();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The same for a connection that ends with it.
pub(super) fn stop_bytes(form: &AnswerForm) -> Vec<u8> {
    let mut answer = stop();
    if let Some(page) = &form.cross_origin {
        page.mark(answer.headers_mut());
    }
    encode_head(answer.status(), answer.headers())
}

/// The answer to `OPTIONS *`, which asks about the server as a whole (RFC 9110, section 9.3.7).
pub(super) fn options() -> Response<Body> {
    let mut response = no_content();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD,POST,OPTIONS"));
    response
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Status line and headers of an answer after which the socket is no longer HTTP's, so that it says `connection: close`
/// unless the answer speaks of the connection itself.
pub(super) fn encode_head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[b"HTTP/1.1 ", status.as_str().as_bytes(), b" "]);
    put(&[status.canonical_reason().unwrap_or_default().as_bytes(), b"\r\n"]);
    for (name, value) in headers {
        put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    if !headers.contains_key(header::DATE) {
        date(|date| put(&[b"date: ", date, b"\r\n"]));
    }
    if !headers.contains_key(header::CONNECTION) {
        put(&[b"connection: close\r\n"]);
    }
    put(&[b"\r\n"]);
    out
}

thread_local! {
    /// The second since 1970 that was written out last on this thread, and its text.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Lends the text of now for a `date` header. Made once a second: in a storm of reconnects many answers share it.
fn date(put: impl FnOnce(&[u8])) {
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(written, text)| {
        if *written != second || text.is_empty() {
            (*written, *text) = (second, httpdate::fmt_http_date(now));
        }
        put(text.as_bytes());
    });
}

/// Says why a load balancer cannot reach this node.
pub(super) fn log_proxy_protocol(peer: Option<SocketAddr>) {
    log_limited!(
        DEBUG,
        ?peer,
        "PROXY protocol header not expected: see server.proxy_protocol, or turn it off at the load balancer"
    );
}

/// Sends a last answer and closes.
pub(super) async fn refuse(io: Io, refusal: &Refusal, form: &AnswerForm) {
    send_last(io, &refusal.bytes(form)).await;
}

/// Sends what is last and closes.
pub(super) async fn send_last(mut io: Io, bytes: &[u8]) {
    let _ = tokio::time::timeout(PARTING, async {
        if io.write_all(bytes).await.is_ok() {
            drain(&mut io).await;
        }
    })
    .await;
}

/// Closes a connection whose last answer was sent.
pub(super) async fn part(mut io: Io) {
    let _ = tokio::time::timeout(PARTING, drain(&mut io)).await;
}

/// Ends our side and swallows what the client still sends: closing with unread bytes resets the connection, and the
/// client might lose the answer.
async fn drain(io: &mut Io) {
    if io.shutdown().await.is_err() {
        return;
    }
    let mut left = PARTING_BYTES;
    std::future::poll_fn(|cx| {
        scratch::with(16 * 1024, |buffer| {
            loop {
                let mut read = ReadBuf::new(buffer);
                let outcome = ready!(Pin::new(&mut *io).poll_read(cx, &mut read));
                left = left.saturating_sub(read.filled().len());
                if outcome.is_err() || read.filled().is_empty() || left == 0 {
                    return Poll::Ready(());
                }
            }
        })
    })
    .await;
}
