//! The road of one connection, and the deadlines on it.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use fanway_protocol::cursor::STOP;
use hyper::server::conn;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use rand::RngExt;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::answer::{self, AnswerForm, Refusal};
use super::cors::Cors;
use super::door::{self, First, Shut};
use super::doze::Doze;
use super::exchange::{Exchange, Phase};
use super::rate::AcceptRate;
use super::{Clients, ConnectionGuard, Ending, Express, Io, Settings, head, http1, http2, tls};

/// What all connections of an endpoint share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: &'static str,
    pub(super) router: Router,
    pub(super) express: Option<Express>,
    pub(super) cors: Option<Cors>,
    pub(super) settings: Arc<Settings>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) http1: conn::http1::Builder,
    pub(super) ending: Ending,
    pub(super) taken_over: IntCounter,
    pub(super) handshake: Histogram,
    pub(super) rejections: IntCounterVec,
    /// Bytes of large answers that are held for clients.
    pub(super) large_answers: IntGauge,
    /// There if clients connect here, with where to count those that are refused.
    pub(super) clients: Option<(Clients, IntCounterVec)>,
    /// How many of them are let in.
    pub(super) rate: Option<AcceptRate>,
    /// How many are told at once that they are not.
    pub(super) refusals: Arc<Semaphore>,
}

impl Shared {
    /// Counts a connection that the server refuses or cuts off.
    pub(super) fn rejected(&self, reason: &str) {
        self.rejections.with_label_values(&[self.name, reason]).inc();
        // The rest are clients that were let in, and cut off later.
        let refused = ["limit", "rate", "tls", "header_timeout", "bad_head"].contains(&reason);
        if let Some((_, rejections)) = self.clients.as_ref().filter(|_| refused) {
            rejections.with_label_values(&[reason]).inc();
        }
    }

    /// Whether a request for this path is a client's.
    pub(super) fn is_of_client(&self, path: &[u8]) -> bool {
        let is_below = |other: &&str| {
            path.strip_prefix(other.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.clients.as_ref().is_some_and(|(clients, _)| !clients.others.iter().any(is_below))
    }

    /// The form of the answer to a request of which there is only the head as bytes.
    fn answer_form(&self, head: &[u8]) -> AnswerForm {
        // Most of those who are turned away in a storm are no pages.
        let cors = self.cors.as_ref().filter(|_| head::header(head, "origin").is_some());
        let parsed = cors.and_then(|cors| Some((cors, head::parse(head)?)));
        AnswerForm {
            cross_origin: parsed.map(|(cors, (method, uri, headers))| cors.check(&method, &uri, &headers)),
            head_only: head::is_head(head),
        }
    }
}

/// What a connection may expect.
#[derive(Debug)]
pub(super) enum Admission {
    /// To be served.
    Served(ConnectionGuard),
    /// Above the rate of new connections: to be told so, once it is seen to be a client's. The permit bounds of how many
    /// that is not known yet.
    Late(ConnectionGuard, OwnedSemaphorePermit),
    /// To be told that there is no room. The permit bounds how many are told at once.
    Refused(OwnedSemaphorePermit),
}

/// Serves one connection until it ends or is taken over.
pub(super) async fn run(shared: Arc<Shared>, tcp: TcpStream, peer: SocketAddr, admission: Admission) {
    let (mut closed, mut doze) = (pin!(shared.ending.close_now.cancelled()), Doze::default());
    let mut served = pin!(enter(&shared, tcp, peer, admission));
    std::future::poll_fn(|cx| {
        // Closed from outside: everything is dropped where it is.
        if doze.poll(closed.as_mut(), cx).is_ready() { Poll::Ready(()) } else { served.as_mut().poll(cx) }
    })
    .await;
}

async fn enter(shared: &Arc<Shared>, tcp: TcpStream, peer: SocketAddr, admission: Admission) {
    let accepted = Instant::now();
    let mut io = match &shared.tls {
        None => Io::Tcp(tcp),
        // Boxed like the steps below: the task of a silent connection should be small.
        Some(config) => match Box::pin(tls::handshake(config, tcp, shared.settings.tls_handshake_timeout)).await {
            Some(io) => io,
            None => return shared.rejected("tls"),
        },
    };
    let opened = door::open(&mut io, &shared.settings).await;
    let first = match opened.and_then(|first| as_negotiated(&io, first)) {
        Ok(first) => first,
        Err(Shut::Gone) => return,
        Err(Shut::Silent) => return shared.rejected("header_timeout"),
        Err(Shut::Refused(refusal)) => {
            shared.rejected(if refusal == Refusal::HeadTimeout { "header_timeout" } else { "bad_head" });
            if refusal == Refusal::ProxyProtocol {
                answer::log_proxy_protocol(Some(peer));
            }
            if io.negotiated() == Some(b"h2") {
                return Box::pin(answer::send_last(io, http2::NOT_HTTP2)).await;
            }
            return Box::pin(answer::refuse(io, &refusal, &AnswerForm::default())).await;
        }
    };
    let bytes = &first.bytes;
    shared.handshake.observe(accepted.elapsed().as_secs_f64());
    let guard = match admission {
        Admission::Served(guard) => {
            if let Some(rate) = shared.rate.as_ref().filter(|_| !shared.is_of_client(head::path(bytes))) {
                rate.give_back();
            }
            guard
        }
        Admission::Late(guard, undecided) => {
            drop(undecided);
            if shared.is_of_client(head::path(bytes)) {
                drop(guard);
                shared.rejected("rate");
                let Ok(_permit) = shared.refusals.try_acquire() else { return };
                return Box::pin(turn_away(shared, io, bytes)).await;
            }
            guard
        }
        Admission::Refused(_permit) => return Box::pin(turn_away(shared, io, bytes)).await,
    };
    if head::is_http2(bytes) {
        Box::pin(http2::serve(Arc::clone(shared), io, first.bytes, peer, guard)).await;
    } else {
        Box::pin(http1::serve(Arc::clone(shared), io, first, peer, guard)).await;
    }
}

/// Holds a connection to the version of HTTP that TLS negotiated: what an intermediary let through for one version is
/// not read as another.
fn as_negotiated(io: &Io, first: First) -> Result<First, Shut> {
    let spoken: &[u8] = if head::is_http2(&first.bytes) { b"h2" } else { b"http/1.1" };
    match io.negotiated() {
        Some(negotiated) if negotiated != spoken => Err(Shut::Refused(Refusal::NotNegotiated)),
        _ => Ok(first),
    }
}

/// Tells a client that there is no room and when to come back: at random within ten seconds, so that those who were
/// turned away together do not return together. For HTTP/2 there is no way to say when, just that it is too much.
///
/// A preflight is answered as by a node that is not full: a page whose preflight fails cannot read the 503 after it. So is an
/// `EventSource` that must not come back: on 204 it does not.
async fn turn_away(shared: &Shared, io: Io, first: &Bytes) {
    if head::is_http2(first) {
        return answer::send_last(io, http2::GO_AWAY).await;
    }
    let form = shared.answer_form(first);
    if let Some(preflight) = form.cross_origin.as_ref().filter(|page| page.is_preflight()) {
        return answer::send_last(io, &answer::preflight_bytes(preflight)).await;
    }
    let is_stream = head::wants_event_stream(first) && !form.head_only;
    if is_stream && head::header(first, "last-event-id") == Some(STOP.as_bytes()) {
        return answer::send_last(io, &answer::stop_bytes(&form)).await;
    }
    let refusal = if is_stream {
        let retry = Duration::from_millis(rand::rng().random_range(1000..=10_000));
        Refusal::FullEventStream { retry, chunked: head::reads_chunks(first) }
    } else {
        Refusal::Full { retry: Duration::from_secs(rand::rng().random_range(1..=10)) }
    };
    answer::refuse(io, &refusal, &form).await;
}

/// A connection in hyper's hands.
pub(super) trait HttpConnection: Future<Output = hyper::Result<()>> + Unpin {
    /// Takes no more requests, and ends once those it has are answered.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

/// How a connection in hyper's hands ended.
#[derive(Debug)]
pub(super) enum End {
    /// hyper is done with it.
    Over(hyper::Result<()>),
    /// A deadline passed.
    Overdue(Phase),
}

/// Drives a connection, and holds it to its deadlines.
pub(super) async fn drive(connection: &mut impl HttpConnection, exchange: &Exchange, shared: &Shared) -> End {
    let settings = &shared.settings;
    let limit = |phase, since: Instant| match phase {
        Phase::Head => settings.header_timeout,
        Phase::Stalled => exchange.look_again(since.elapsed(), settings.write_timeout).unwrap_or_default(),
        // A request may take as long as it likes; the timer just looks again.
        Phase::Busy | Phase::Idle => settings.idle_timeout,
    };
    let (mut pulse, mut since) = (exchange.pulse(), Instant::now());
    let mut timer = pin!(tokio::time::sleep(limit(pulse.phase, since)));
    let mut stop = pin!(shared.ending.stop_accepting.cancelled());
    let (mut doze, mut timer_doze) = (Doze::default(), Doze::default());
    let mut stopping = false;

    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(End::Over(outcome));
            }
            if !stopping && doze.poll(stop.as_mut(), cx).is_ready() {
                stopping = true;
                Pin::new(&mut *connection).graceful_shutdown();
                continue;
            }
            let now = exchange.pulse();
            if now != pulse {
                pulse = now;
                // No deadline holds for a request that is worked on: the old one stays, and just looks again.
                if pulse.phase != Phase::Busy {
                    since = Instant::now();
                    timer.as_mut().reset(since + limit(pulse.phase, since));
                }
            }
            if timer_doze.poll(timer.as_mut(), cx).is_pending() {
                return Poll::Pending;
            }
            match pulse.phase {
                Phase::Busy => (),
                Phase::Stalled if exchange.look_again(since.elapsed(), settings.write_timeout).is_some() => (),
                // Politely, once: the client learns that the connection ends. It has as long again to answer.
                Phase::Idle if !stopping => {
                    stopping = true;
                    Pin::new(&mut *connection).graceful_shutdown();
                }
                phase => return Poll::Ready(End::Overdue(phase)),
            }
            timer.as_mut().reset(Instant::now() + limit(pulse.phase, since));
            timer_doze.ring();
        }
    })
    .await
}
