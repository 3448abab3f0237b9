//! The upgrade request: accepted, or refused with the reason.
//!
//! A pure function of the request's head. Where the request may come from (`Origin`) and who sent it (token) are
//! decided elsewhere. Extensions are never accepted, so no frame may be compressed.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use fanway_protocol::ErrorCode;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};
use sha1::{Digest, Sha1};

use crate::error_body::ErrorBody;

/// The subprotocol that the gateway speaks; also spoken when a client offers none.
pub const JSON: &str = "centrifuge-json";
/// A subprotocol that is known and not supported.
pub const PROTOBUF: &str = "centrifuge-protobuf";

/// What RFC 6455 appends to the key, so that an endpoint that knows nothing of WebSocket cannot answer by accident.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An upgrade request that can be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The answer to the client's key (`Sec-WebSocket-Accept`).
    pub key: HeaderValue,
    /// The subprotocol to name in the answer. Only ever one of the gateway's own names: nothing of the request is echoed.
    pub protocol: Option<&'static str>,
    /// Whether the client can read what the gateway writes. If not, the connection is closed at once with
    /// [`DisconnectCode::InappropriateProtocol`](fanway_protocol::DisconnectCode::InappropriateProtocol): client libraries
    /// take a refused upgrade for an outage and reconnect for ever, but this code as final.
    pub supported: bool,
}

/// An upgrade request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not a GET request.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// HTTP/1.0, or a version in which an upgrade does not exist.
    #[error("a WebSocket is opened over HTTP/1.1")]
    HttpVersion,
    /// No `Upgrade` header, or one to something else.
    #[error("this is a WebSocket endpoint: the request needs the header `Upgrade: websocket`")]
    NotAnUpgrade,
    /// No `Connection: upgrade`.
    #[error("the request needs the header `Connection: upgrade`")]
    Connection,
    /// A version of the WebSocket protocol other than 13, or none.
    #[error("only version 13 of the WebSocket protocol is supported")]
    WebSocketVersion,
    /// No key, several, or one that is not 16 bytes in base64.
    #[error("the request needs one `Sec-WebSocket-Key` of 16 bytes in base64")]
    Key,
}

/// Decides on an upgrade request.
pub fn check<B>(request: &Request<B>) -> Result<Accept, Refusal> {
    let headers = request.headers();
    // A HEAD asks what would be said to the GET.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Refusal::Method);
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refusal::HttpVersion);
    }
    if !list(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket")) {
        return Err(Refusal::NotAnUpgrade);
    }
    if !list(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err(Refusal::Connection);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::WebSocketVersion);
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes())).ok_or(Refusal::Key)?;
    let (protocol, supported) = choose_protocol(headers, request.uri().query().unwrap_or_default());
    Ok(Accept { key: accept_key(key), protocol, supported })
}

impl Accept {
    /// The `101 Switching Protocols` response.
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.key.clone());
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        response
    }
}

impl Refusal {
    /// The HTTP status of the refusal.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpVersion | Self::NotAnUpgrade | Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Connection | Self::Key => StatusCode::BAD_REQUEST,
        }
    }

    /// The refusal's name in the response body and in metrics.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::Method => "method_not_allowed",
            Self::HttpVersion => "http_version",
            Self::NotAnUpgrade => "upgrade_required",
            Self::Connection => "connection_header",
            Self::WebSocketVersion => "websocket_version",
            Self::Key => "websocket_key",
        }
    }

    /// The response, with a body that names the reason.
    pub fn response(self) -> Response<Bytes> {
        let body = ErrorBody::new(ErrorCode::BadRequest, self.metric_label(), self.to_string());
        let mut response = body.response(self.status());
        let headers = response.headers_mut();
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
            }
            Self::HttpVersion | Self::NotAnUpgrade | Self::WebSocketVersion => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::Connection | Self::Key => {}
        }
        response
    }
}

/// The subprotocol to name, if any, and whether the format that the client asks for is supported.
///
/// The query takes precedence over the subprotocol, as in other servers. A client that names no format gets JSON.
fn choose_protocol(headers: &HeaderMap, query: &str) -> (Option<&'static str>, bool) {
    let offers = |name| list(headers, &SEC_WEBSOCKET_PROTOCOL).any(|offer| offer == name);
    let asks_for_protobuf = |pair: &str| matches!(pair, "format=protobuf" | "cf_protocol=protobuf");
    let by_query = query.split('&').any(asks_for_protobuf);
    match (offers(JSON), offers(PROTOBUF)) {
        // Browsers fail a connection whose answer names none of their subprotocols, and would hide the close code.
        (_, true) if by_query => (Some(PROTOBUF), false),
        (true, _) => (Some(JSON), !by_query),
        (false, true) => (Some(PROTOBUF), false),
        (false, false) => (None, !by_query),
    }
}

/// The items of a comma-separated header, over all its lines, in one pass. Lines that are not ASCII have none.
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim_ascii).filter(|item| !item.is_empty())
}

/// The value of a header that must come exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether it has the shape of 16 bytes in base64. The unused bits of the last character are not looked at, as in other servers.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// `base64(sha1(key + GUID))`.
fn accept_key(key: &HeaderValue) -> HeaderValue {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
    // 20 bytes become 28.
    let mut text = [0; 28];
    let len = STANDARD.encode_slice(digest, &mut text).expect("28 bytes hold 20 in base64");
    HeaderValue::from_bytes(&text[..len]).expect("base64 is visible ASCII")
}
