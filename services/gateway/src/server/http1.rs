//! HTTP/1.1 by hyper, until the connection ends or a transport takes the socket over.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::connection::{End, HttpConnection, Shared, drive};
use super::exchange::{Exchange, Phase, Wire};
use super::service::Service;
use super::takeover::Taken;
use super::{ConnectionGuard, Io, Settings, answer};

impl HttpConnection for http1::Connection<TokioIo<Wire>, Service> {
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// hyper as this server needs it. Deadlines are the driver's, so hyper gets no timer.
pub(super) fn builder(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(settings.head_bytes()).half_close(false).header_read_timeout(None);
    builder
}

/// Serves a connection whose first head the door has collected.
pub(super) async fn serve(shared: Arc<Shared>, io: Io, first: Bytes, peer: SocketAddr, guard: ConnectionGuard) {
    let exchange = Exchange::new(false);
    let service = Service::new(Arc::clone(&shared), Arc::clone(&exchange));
    let wire = TokioIo::new(Wire::new(io, first, Arc::clone(&exchange)));
    let mut connection = shared.http1.serve_connection(wire, service);

    let end = drive(&mut connection, &exchange, &shared).await;
    let parts = connection.into_parts();
    let (io, unread) = parts.io.into_inner().into_parts();

    if let Some(granted) = parts.service.granted() {
        let early = join(parts.read_buf, unread);
        shared.taken_over.inc();
        io.forget_waker();
        return granted.takeover.start(Taken { io, head: granted.head, early, guard }, &shared.ending.tracker);
    }
    drop(parts.read_buf);
    match end {
        // Over before anybody could be told: the socket is broken or the client silent.
        End::Overdue(Phase::Stalled) => shared.rejected("write_timeout"),
        End::Overdue(_) => shared.rejected("header_timeout"),
        End::Over(Err(error)) => {
            if error.is_parse() {
                shared.rejected("bad_head");
            }
            tracing::debug!(%peer, %error, "HTTP/1.1 connection failed");
            answer::part(io).await;
        }
        End::Over(Ok(())) => answer::part(io).await,
    }
}

/// One copy of exactly what was read ahead: hyper's buffer would stay as long as a slice of it.
fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() && second.is_empty() {
        return Bytes::new();
    }
    let mut joined = BytesMut::with_capacity(first.len() + second.len());
    joined.extend_from_slice(&first);
    joined.extend_from_slice(&second);
    joined.freeze()
}
