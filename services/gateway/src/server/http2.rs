//! HTTP/2 by hyper. No takeovers: there is no socket of one's own to take.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use fanway_broker::log_limited;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::Io;
use super::connection::{Admitted, End, HttpConnection, Shared, drive};
use super::exchange::{Exchange, Phase};
use super::hyper_io::HyperIo;
use super::service::Service;
use super::settings::{bytes, bytes32};
use super::window::RequestTask;

/// What a client is told that there is no room for: no settings, and to go away. No stream was looked at, so that it may
/// send its requests elsewhere; but with ENHANCE_YOUR_CALM, so that it does not do so at once.
pub(super) const GO_AWAY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";

/// What is said to a client that negotiated HTTP/2 and speaks something else (RFC 9113, section 3.4): no settings, and
/// PROTOCOL_ERROR.
pub(super) const NOT_HTTP2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";

/// Spawns the tasks of one connection's requests on the server's tracker.
#[derive(Clone, Debug)]
struct Requests {
    shared: Arc<Shared>,
    exchange: Arc<Exchange>,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Requests {
    fn execute(&self, request: F) {
        let tracker = &self.shared.ending.tracker;
        // hyper spawns the task of a request right after it has called the service with it.
        match self.exchange.take_progress() {
            Some(progress) => drop(tracker.spawn(RequestTask::new(request, progress, Arc::clone(&self.shared)))),
            None => drop(tracker.spawn(request)),
        }
    }
}

impl HttpConnection for http2::Connection<TokioIo<HyperIo>, Service, Requests> {
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// hyper as this server needs it.
fn builder(requests: Requests) -> http2::Builder<Requests> {
    let shared = Arc::clone(&requests.shared);
    let (settings, mut builder) = (&shared.settings, http2::Builder::new(requests));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.http2.max_streams)
        .initial_stream_window_size(bytes32(settings.http2.stream_window))
        .initial_connection_window_size(bytes32(settings.http2.connection_window))
        .max_send_buf_size(bytes(settings.http2.send_buffer))
        .max_header_list_size(bytes32(settings.max_head))
        .keep_alive_interval(settings.http2.ping_interval)
        .keep_alive_timeout(settings.http2.ping_timeout);
    builder
}

/// Serves a connection whose preface the door has collected.
pub(super) async fn serve(shared: Arc<Shared>, io: Io, first: Bytes, peer: SocketAddr, admitted: Admitted) {
    let visitor = Arc::clone(&admitted.visitor);
    let exchange = Exchange::http2(shared.large_answers.clone());
    let service = Service::new(Arc::clone(&shared), Arc::clone(&exchange), visitor);
    let io = TokioIo::new(HyperIo::http2(io, first, Arc::clone(&exchange)));
    let requests = Requests { shared: Arc::clone(&shared), exchange: Arc::clone(&exchange) };
    let mut connection = builder(requests).serve_connection(io, service);

    match drive(&mut connection, &exchange, &shared).await {
        End::Overdue(Phase::Stalled) => shared.rejected("write_timeout"),
        End::Overdue(Phase::Head) => shared.rejected("header_timeout"),
        End::Overdue(_) | End::Over(Ok(())) => (),
        End::Over(Err(error)) => log_limited!(DEBUG, %peer, %error, "HTTP/2 connection failed"),
    }
}
