//! The road of one connection, and the deadlines on it.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use fanway_broker::log_limited;
use hyper::server::conn;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::addresses::{Addresses, Origin};
use super::answer::{self, AnswerForm, Refusal};
use super::cors::Cors;
use super::door::{self, First, Shut};
use super::doze::Doze;
use super::exchange::{Exchange, Phase};
use super::guard::Limit;
use super::rate::AcceptRate;
use super::visitor::{Standing, Visitor};
use super::{Clients, ConnectionGuard, Ending, Express, Io, Settings, head, http1, http2, tls, turn_away};

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
    /// How many connections there may be.
    pub(super) limit: Arc<Limit>,
    /// Where addresses of clients are known from, if they are.
    pub(super) addresses: Option<Addresses>,
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
    pub(super) fn answer_form(&self, head: &[u8]) -> AnswerForm {
        // Most of those who are turned away in a storm are no pages.
        let cors = self.cors.as_ref().filter(|_| head::header(head, "origin").is_some());
        let parsed = cors.and_then(|cors| Some((cors, head::parse(head)?)));
        AnswerForm {
            cross_origin: parsed.map(|(cors, (method, uri, headers))| cors.check(&method, &uri, &headers)),
            head_only: head::is_head(head),
        }
    }
}

/// A connection that is served.
#[derive(Debug)]
pub(super) struct Admitted {
    /// None beyond the limit.
    pub(super) guard: Option<ConnectionGuard>,
    /// Its place among those that are served beyond the limit.
    _place: Option<OwnedSemaphorePermit>,
    pub(super) visitor: Arc<Visitor>,
}

/// What a connection may expect.
#[derive(Debug)]
pub(super) enum Admission {
    /// To be served.
    Served(ConnectionGuard),
    /// Above the rate of new connections: to be told so, once it is seen to be a client's. The permit bounds of how many
    /// that is not known yet.
    Late(ConnectionGuard, OwnedSemaphorePermit),
    /// To be told that there is no room, unless it turns out not to be a client's. The permit bounds of how many at once.
    Full(OwnedSemaphorePermit),
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

async fn enter(shared: &Arc<Shared>, mut tcp: TcpStream, peer: SocketAddr, admission: Admission) {
    let accepted = Instant::now();
    let Some(origin) = origin(shared, &mut tcp, peer).await else { return };
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
    let is_of_client = shared.is_of_client(head::path(bytes));
    let (guard, place, standing) = match admission {
        Admission::Served(guard) if is_of_client => (Some(guard), None, Standing::Client),
        Admission::Served(guard) => {
            if let Some(rate) = &shared.rate {
                rate.give_back();
            }
            (Some(guard), None, Standing::Other)
        }
        Admission::Late(guard, undecided) => {
            drop(undecided);
            if is_of_client {
                drop(guard);
                shared.rejected("rate");
                let Ok(_permit) = shared.refusals.try_acquire() else { return };
                return Box::pin(turn_away::answer(shared, io, bytes)).await;
            }
            (Some(guard), None, Standing::Other)
        }
        // Where clients connect, health checks and back ends are served beyond the limit too.
        Admission::Full(permit) if shared.clients.is_some() && !is_of_client => (None, Some(permit), Standing::Beyond),
        Admission::Full(_permit) => {
            shared.rejected("limit");
            return Box::pin(turn_away::answer(shared, io, bytes)).await;
        }
    };
    let admitted = Admitted { guard, _place: place, visitor: Visitor::new(origin, standing) };
    if head::is_http2(bytes) {
        Box::pin(http2::serve(Arc::clone(shared), io, first.bytes, peer, admitted)).await;
    } else {
        Box::pin(http1::serve(Arc::clone(shared), io, first, peer, admitted)).await;
    }
}

/// Other end of a new connection; `None` if the connection ends here, for it does not begin as it must.
async fn origin(shared: &Shared, tcp: &mut TcpStream, peer: SocketAddr) -> Option<Origin> {
    let Some(addresses) = &shared.addresses else { return Some(Origin::Unknown) };
    if !addresses.is_proxied(peer.ip()) {
        return Some(addresses.of_peer(peer.ip()));
    }
    let reading = Box::pin(addresses.read_proxied(tcp));
    match tokio::time::timeout(shared.settings.header_timeout, reading).await {
        Ok(Ok(origin)) => Some(origin),
        Ok(Err(error)) => {
            log_limited!(DEBUG, %peer, %error, "connection of a trusted proxy ended");
            shared.rejected("bad_head");
            None
        }
        Err(_late) => {
            shared.rejected("header_timeout");
            None
        }
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
