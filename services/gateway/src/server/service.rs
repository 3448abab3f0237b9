//! What hyper calls with each request: the rules for every request, the router, and the way out for a takeover.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use fanway_broker::log_limited;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tower::ServiceExt;

use super::answer::{self, Refusal, encode_head};
use super::connection::Shared;
use super::cors::CrossOrigin;
use super::exchange::{Answer, Exchange, OpenRequest};
use super::takeover::{TakenOver, Takeover};
use super::upload::Early;
use super::visitor::Visitor;
use super::{rules, turn_away, upload};

/// A takeover that was granted: the head of the answer, and who gets it then.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) head: Vec<u8>,
    pub(super) takeover: Takeover,
}

/// The service of one connection.
#[derive(Clone, Debug)]
pub(super) struct Service {
    shared: Arc<Shared>,
    exchange: Arc<Exchange>,
    visitor: Arc<Visitor>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, exchange: Arc<Exchange>, visitor: Arc<Visitor>) -> Self {
        Self { shared, exchange, visitor }
    }

    /// The takeover for which hyper was stopped, if that is why it stopped.
    pub(super) fn granted(&self) -> Option<Granted> {
        self.visitor.granted()
    }

    async fn serve(
        self,
        request: Request<Incoming>,
        early: Early,
        mut open: OpenRequest,
    ) -> Result<Response<Answer>, TakenOver> {
        let (mut parts, body) = request.into_parts();
        let page = self.shared.cors.as_ref().map(|cors| cors.check(&parts.method, &parts.uri, &parts.headers));
        let page = page.as_ref();
        if let Err(refusal) = rules::check(&parts, self.shared.settings.max_headers) {
            self.shared.rejected("bad_head");
            return Ok(self.refuse(open, &refusal, page));
        }
        if let Some(refusal) = self.shared.settings.hosts.as_ref().and_then(|hosts| hosts.refusal(&parts)) {
            return Ok(self.last(open, refusal, page));
        }
        if let Some(response) = answer_options(&parts, page) {
            return Ok(response.map(|body| open.answer(body)));
        }
        let head_only = parts.method == Method::HEAD;
        let is_of_client = self.shared.is_of_client(parts.uri.path().as_bytes());
        if is_of_client {
            if let Err(reason) = self.visitor.admit_client(&self.shared) {
                self.shared.rejected(reason);
                return Ok(self.last(open, turn_away::response(&parts), page));
            }
            if self.exchange.is_http2() {
                let Some(share) = self.visitor.admit_stream(&self.shared) else {
                    self.shared.rejected("limit");
                    return Ok(self.last(open, turn_away::response(&parts), page));
                };
                open.hold(share);
            }
            let addresses = self.shared.addresses.as_ref();
            if let Some(client) = addresses.and_then(|it| it.of_request(self.visitor.origin, &parts.headers)) {
                parts.extensions.insert(client);
            }
        }
        let express = self.shared.express.as_ref().filter(|express| express.takes(&parts));
        let limit = self.shared.settings.body_timeout;
        let (body, fate) = match parts.method {
            // Its content has no meaning (RFC 9110, section 9.3.1), but a body of unknown length may be empty. One that
            // the client announces by its length, or by waiting for `100 Continue`, is not: it is neither awaited nor
            // requested.
            Method::GET | Method::HEAD if may_be_empty(&parts, &body) => {
                Box::pin(upload::watch_first(body, early, limit)).await
            }
            _ => upload::watch(body, early, limit),
        };
        let request = Request::from_parts(parts, body);

        let mut response = match express {
            _ if fate.is_late() => Response::default(),
            Some(express) => express.answer(request).await,
            None => {
                let Ok(response) = self.shared.router.clone().oneshot(request).await;
                response
            }
        };
        if fate.is_late() {
            self.shared.rejected("body_timeout");
            return Ok(self.refuse(open, &Refusal::BodyTimeout, page));
        }
        let takeover = response.extensions_mut().remove::<Takeover>().filter(|_| !head_only);
        if head_only && response.status() == StatusCode::SWITCHING_PROTOCOLS {
            withdraw_upgrade(&mut response);
        }
        // Nobody reads the head of an upgrade but the client that asked for it.
        if let Some(page) = page.filter(|_| response.status() != StatusCode::SWITCHING_PROTOCOLS) {
            page.mark(response.headers_mut());
        }
        match takeover {
            Some(takeover) => {
                if self.exchange.is_http2() {
                    log_limited!(ERROR, "a takeover was asked for over HTTP/2");
                    return Ok(self.refuse(open, &Refusal::Internal, page));
                }
                if !fate.is_read() {
                    return Ok(self.refuse(open, &Refusal::UnexpectedBody, page));
                }
                self.exchange.all_sent().await;
                response.headers_mut().remove(header::CONTENT_LENGTH);
                let head = encode_head(response.status(), response.headers());
                self.visitor.grant(Granted { head, takeover });
                Err(TakenOver)
            }
            None => {
                // Not for clients, who are given away in the drain's own time. On HTTP/2 the end itself is as gentle.
                let drains = !is_of_client && self.shared.ending.draining.load(Ordering::Relaxed);
                let last = drains || fate.is_broken() || self.visitor.is_beyond();
                if last && !self.exchange.is_http2() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                if let Some(progress) = open.progress()
                    && let Some(deadline) = response.extensions_mut().remove()
                {
                    progress.when_blocked(deadline);
                }
                Ok(response.map(|body| open.answer(body)))
            }
        }
    }

    /// Ends the request, and on HTTP/1.1 the connection: what follows on it could be anything.
    fn refuse(&self, open: OpenRequest, refusal: &Refusal, page: Option<&CrossOrigin>) -> Response<Answer> {
        self.last(open, refusal.response(), page)
    }

    /// An answer after which an HTTP/1.1 connection ends.
    fn last(&self, open: OpenRequest, mut response: Response<Body>, page: Option<&CrossOrigin>) -> Response<Answer> {
        if let Some(page) = page {
            page.mark(response.headers_mut());
        }
        if !self.exchange.is_http2() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| open.answer(body))
    }
}

/// Unread body of a GET or HEAD that only its first bytes show to be empty or not.
fn may_be_empty(request: &Parts, body: &Incoming) -> bool {
    // Over HTTP/2 the end of a body of length 0 may still be on its way.
    let unknown = body.size_hint().exact().is_none_or(|length| length == 0);
    !body.is_end_stream() && unknown && !request.headers.contains_key(header::EXPECT)
}

/// Turns a granted upgrade into the answer to a HEAD, which upgrades nothing: 204, and the connection goes on.
fn withdraw_upgrade(response: &mut Response<Body>) {
    *response.status_mut() = StatusCode::NO_CONTENT;
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_ACCEPT,
        header::SEC_WEBSOCKET_EXTENSIONS,
        header::SEC_WEBSOCKET_PROTOCOL,
    ] {
        response.headers_mut().remove(name);
    }
}

/// The answer to a request about the server, whatever its routes: a preflight, or `OPTIONS *`.
fn answer_options(request: &Parts, page: Option<&CrossOrigin>) -> Option<Response<Body>> {
    if request.method != Method::OPTIONS {
        return None;
    }
    match page.filter(|page| page.is_preflight()) {
        Some(page) => Some(answer::preflight(page)),
        None => (request.uri.path() == "*").then(answer::options),
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Answer>;
    type Error = TakenOver;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TakenOver>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // Begun here, not at the first poll: from here on the connection is not idle.
        let (open, agreed) = self.exchange.begin(request.method() == Method::HEAD, request.body().size_hint().exact());
        if let Err(refusal) = agreed {
            self.shared.rejected("bad_head");
            let page = self.shared.cors.as_ref();
            let page = page.map(|cors| cors.check(request.method(), request.uri(), request.headers()));
            let refused = self.refuse(open, &refusal, page.as_ref());
            return Box::pin(std::future::ready(Ok(refused)));
        }
        let early = if self.exchange.is_http2() { Early::default() } else { upload::ask_early(&mut request) };
        Box::pin(self.clone().serve(request, early, open))
    }
}
