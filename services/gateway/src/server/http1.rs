//! HTTP/1.1 by hyper, until the connection ends or a transport takes the socket over.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fanway_broker::log_limited;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::answer::{AnswerForm, Refusal};
use super::boundaries::{Boundaries, Seen};
use super::connection::{Admitted, End, HttpConnection, Shared, drive};
use super::door::First;
use super::exchange::{Exchange, Phase};
use super::hyper_io::{HyperIo, Stop};
use super::service::Service;
use super::takeover::Taken;
use super::{Io, Settings, answer};

/// Text of hyper's error for a request target above 65,534 bytes.
const URI_TOO_LONG: &str = "URI too long";

impl HttpConnection for http1::Connection<TokioIo<HyperIo>, Service> {
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
pub(super) async fn serve(shared: Arc<Shared>, io: Io, first: First, peer: SocketAddr, admitted: Admitted) {
    let visitor = Arc::clone(&admitted.visitor);
    let exchange = Exchange::http1(shared.large_answers.clone());
    exchange.saw(Seen::Head(first.head.body));
    let boundaries = Boundaries::after_head(first.head.end, first.head.body, shared.settings.head_bytes());
    let service = Service::new(Arc::clone(&shared), Arc::clone(&exchange), visitor);
    let io = TokioIo::new(HyperIo::http1(io, first.bytes, boundaries, Arc::clone(&exchange)));
    let mut connection = shared.http1.serve_connection(io, service);

    let end = drive(&mut connection, &exchange, &shared).await;
    let parts = connection.into_parts();
    let (io, unread, stop) = parts.io.into_inner().into_parts();

    if let Some(granted) = parts.service.granted() {
        // Without one the request was refused.
        let Some(guard) = admitted.guard else { return };
        let early = join(parts.read_buf, unread);
        shared.taken_over.inc();
        io.forget_waker();
        return granted.takeover.start(Taken { io, head: granted.head, early, guard }, &shared.ending.tracker);
    }
    drop((parts.read_buf, unread));
    let refusal = match end {
        // Over before anybody could be told: the socket is broken or the client silent.
        End::Overdue(Phase::Stalled) => return shared.rejected("write_timeout"),
        End::Overdue(_) => return shared.rejected("header_timeout"),
        End::Over(Err(error)) => {
            log_limited!(DEBUG, %peer, %error, "HTTP/1.1 connection failed");
            if error.is_parse() {
                shared.rejected("bad_head");
            }
            stop.map(|stop| match stop {
                Stop::Refused(refusal) => refusal,
                // Only the text of hyper's error distinguishes a long target from a large head.
                Stop::Unreadable if error.to_string() == URI_TOO_LONG => Refusal::UriTooLong,
                Stop::Unreadable if error.is_parse_too_large() => Refusal::HeadTooLarge,
                Stop::Unreadable => Refusal::Unreadable(error.to_string()),
            })
        }
        End::Over(Ok(())) => match stop {
            Some(Stop::Refused(refusal)) => {
                shared.rejected("bad_head");
                Some(refusal)
            }
            Some(Stop::Unreadable) | None => None,
        },
    };
    match refusal {
        Some(refusal) => answer::refuse(io, &refusal, &AnswerForm::default()).await,
        None => answer::part(io).await,
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
