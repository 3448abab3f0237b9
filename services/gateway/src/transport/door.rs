//! The client endpoints.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use fanway_broker::log_limited;
use fanway_broker::trace::Begun;
use fanway_hub::driver::Driver;
use fanway_hub::handle::Handle;
use fanway_hub::quota::{Address, Kind};
use fanway_hub::session::{self, Centrifugal, ClientSession, EventSession, Framing, PollError};
use fanway_hub::{AttachError, CloseReason, Hub, Identity};
use http::header::{ACCEPT, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use http_body::Body as _;
use prometheus::IntCounterVec;

use super::admission::{self, Admission, Wanted};
use super::refusal::{Refusal, come_back_after};
use super::socket::UpgradedSocket;
use super::websocket::handshake;
use super::{poll, sse};
use crate::api;
use crate::auth::Caller;
use crate::server::{Taken, Takeover};
use crate::telemetry::Traces;
use crate::telemetry::traces::ended;

/// What the client endpoints work with. Cheap to clone.
#[derive(Clone)]
pub struct ClientState {
    /// The node's engine.
    pub hub: Arc<Hub>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// Counts those who may not, by reason.
    pub rejections: IntCounterVec,
    /// None if no traces are kept.
    pub traces: Option<Traces>,
}

impl ClientState {
    fn refuse(&self, refusal: Refusal) -> Response {
        self.rejected(refusal.metric_label());
        refusal.response()
    }

    fn rejected(&self, reason: &str) {
        self.rejections.with_label_values(&[reason]).inc();
    }

    /// Counts who may come in, but does so while the node is on its way out: the session ends as it begins, with advice.
    /// Polls do not count, since they are answered.
    fn note_draining(&self) {
        if self.hub.is_draining() {
            self.rejected("draining");
        }
    }

    /// Begins the span of a handshake, if it is one and sampled: of what comes before the connection, which may live for
    /// days.
    fn handshake(&self, method: &Method, name: &'static str) -> Option<Begun> {
        self.traces.as_ref().filter(|_| method == Method::GET).and_then(|traces| traces.handshake(name))
    }
}

/// `/connection/websocket`, `/sse` and `/poll`.
pub fn router(state: ClientState) -> Router {
    Router::new()
        .route("/connection/websocket", any(websocket))
        .route("/sse", any(events))
        .route("/poll", any(polled))
        .with_state(state)
}

async fn websocket(State(state): State<ClientState>, request: Request) -> Response {
    let handshake = state.handshake(request.method(), "GET /connection/websocket");
    let response = upgrade(state, request);
    ended(handshake, response.status());
    response
}

fn upgrade(state: ClientState, request: Request) -> Response {
    let accept = match handshake::check(&request) {
        Ok(accept) => accept,
        Err(refusal) => {
            state.rejected("bad_request");
            return refusal.response().map(Body::from);
        }
    };
    let (parts, body) = request.into_parts();
    if !body.is_end_stream() {
        return state.refuse(Refusal::UnexpectedBody);
    }
    let caller = match state.admission.caller(&parts) {
        Ok(caller) => caller,
        Err(refusal) => return state.refuse(refusal),
    };
    if !accept.supported && parts.method != Method::HEAD {
        return unsupported(state, &accept);
    }
    let presented = match state.admission.presented(&state.hub, &parts, &caller) {
        Ok(presented) => presented,
        Err(refusal) => return state.refuse(refusal),
    };
    if parts.method == Method::HEAD {
        // Nothing is upgraded by a HEAD; there is just nothing against the GET.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return response;
    }
    state.note_draining();
    let mut response = accept.response().map(|()| Body::empty());
    let hub = state.hub;
    let client = Client { presented, address: admission::address(&hub, &parts) };
    response.extensions_mut().insert(Takeover::new(move |taken, tracker| {
        tracker.spawn(connection(taken, hub, client, None));
    }));
    response
}

/// Grants an upgrade and closes the connection at once, because the client asks for a format that is not supported.
fn unsupported(state: ClientState, accept: &handshake::Accept) -> Response {
    state.rejected("protocol");
    let mut response = accept.response().map(|()| Body::empty());
    let hub = state.hub;
    response.extensions_mut().insert(Takeover::new(move |taken, tracker| {
        let reason = CloseReason::InappropriateProtocol;
        tracker.spawn(connection(taken, hub, Client::default(), Some(reason)));
    }));
    response
}

/// What an upgrade says about its client.
#[derive(Default)]
struct Client {
    /// Its credential, verified, if it presented one.
    presented: Option<Identity>,
    /// Its address, where that is known.
    address: Option<Address>,
}

/// The connection of a client that was upgraded, with the answer to the upgrade still to be written. With `refused` it is
/// closed at once: the client cannot be served and must learn so by a close code.
fn connection(
    taken: Taken,
    hub: Arc<Hub>,
    client: Client,
    refused: Option<CloseReason>,
) -> Driver<Centrifugal, UpgradedSocket> {
    let mut early = Vec::from(taken.early);
    Driver::new(UpgradedSocket::new(taken.io, taken.guard), &mut early, |handle| {
        let session = ClientSession::new(hub, client.presented, handle, Instant::now());
        let mut session = session.at_address(client.address);
        *session.output() = taken.head;
        if let Some(reason) = refused {
            // Before anything is read: what such a client sends is not understood.
            session.close(reason);
        }
        session
    })
}

async fn events(State(state): State<ClientState>, request: Request) -> Response {
    let handshake = state.handshake(request.method(), "GET /sse");
    let (parts, body) = request.into_parts();
    // An empty chunked body is none: the server has looked.
    let has_body = !body.is_end_stream();
    drop(body);
    let response = answer_page(&state, &parts, async |caller: &Caller| {
        if has_body {
            return Err(Refusal::UnexpectedBody);
        }
        if !accepts_events(&parts.headers) {
            return Err(Refusal::NotAcceptable);
        }
        let wanted = Wanted::parse(&parts);
        if wanted.as_ref().is_ok_and(Wanted::must_stop) {
            return Ok(sse::stop());
        }
        let identity = state.admission.identity(&state.hub, &parts, caller)?;
        let resume = state.admission.resume(&state.hub, &parts, &identity, wanted?)?;
        if parts.method == Method::HEAD {
            return Ok(sse::head(body_of_get()));
        }
        let admitted = state.hub.admit(&identity, admission::address(&state.hub, &parts), Kind::Streams, &resume);
        if let Err(limited) = admitted {
            state.rejected(Refusal::Limited(limited).metric_label());
            return Ok(sse::come_back(come_back_after(limited)));
        }
        state.note_draining();
        let hub = state.hub.clone();
        if parts.version >= Version::HTTP_2 {
            let (handle, now) = (Handle::by_task(), Instant::now());
            let session = EventSession::new(hub, identity, resume, handle, Vec::new(), Framing::Plain, now);
            return Ok(sse::response(session));
        }
        let mut response = sse::head(Body::empty());
        // HTTP/1.0 has no chunks: there the end of the connection ends the stream.
        let framing = if parts.version == Version::HTTP_11 { Framing::Chunked } else { Framing::Plain };
        if framing == Framing::Chunked {
            response.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        response.extensions_mut().insert(Takeover::new(move |mut taken, tracker| {
            let head = std::mem::take(&mut taken.head);
            let socket = UpgradedSocket::new(taken.io, taken.guard);
            // A client of a stream has nothing to say, and what it says is dropped.
            tracker.spawn(Driver::new(socket, &mut [], |handle| {
                EventSession::new(hub, identity, resume, handle, head, framing, Instant::now())
            }));
        }));
        Ok(response)
    })
    .await;
    ended(handshake, response.status());
    response
}

async fn polled(State(state): State<ClientState>, request: Request) -> Response {
    let mut handshake = state.handshake(request.method(), "GET /poll");
    let (parts, _) = request.into_parts();
    let response = answer_page(&state, &parts, async |caller: &Caller| {
        let identity = state.admission.identity(&state.hub, &parts, caller)?;
        let wanted = Wanted::parse(&parts)?;
        let wait = poll::wait(wanted.timeout.as_deref())?;
        let resume = state.admission.resume(&state.hub, &parts, &identity, wanted)?;
        let admitted = state.hub.admit(&identity, admission::address(&state.hub, &parts), Kind::Polls, &resume);
        admitted.map_err(Refusal::Limited)?;
        if parts.method == Method::HEAD {
            return Ok(poll::head(body_of_get()));
        }
        // What follows is waiting, and how that ends nobody can tell yet.
        drop(handshake.take());
        let answer = session::poll(&state.hub, identity, &resume, wait).await.map_err(|error| {
            log_limited!(DEBUG, %error, "poll failed");
            match error {
                PollError::Attach(AttachError::Limited(limited)) => Refusal::Limited(limited),
                PollError::Attach(_) | PollError::Late => Refusal::Unavailable,
            }
        })?;
        Ok(poll::response(answer))
    })
    .await;
    ended(handshake, response.status());
    response
}

/// What every GET and HEAD is checked for: the method, and the page that it comes from.
async fn answer_page(
    state: &ClientState,
    parts: &Parts,
    answer: impl AsyncFnOnce(&Caller) -> Result<Response, Refusal>,
) -> Response {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let mut response = api::method_not_allowed().await;
        response.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static("GET,HEAD"));
        return response;
    }
    let caller = match state.admission.caller(parts) {
        Ok(caller) => caller,
        Err(refusal) => return state.refuse(refusal),
    };
    answer(&caller).await.unwrap_or_else(|refusal| state.refuse(refusal))
}

/// Stands for the body that a GET would have, in the answer to a HEAD: its length is not known, so none is stated.
fn body_of_get() -> Body {
    Body::from_stream(futures_util::stream::empty::<Result<bytes::Bytes, std::convert::Infallible>>())
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = ["text/event-stream", "text/*", "*/*"];
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    values.peek().is_none()
        || values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|range| accepted.contains(&range.split(';').next().unwrap_or_default().trim()))
}
