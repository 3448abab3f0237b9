//! From a listening socket to a request, and back to a bare socket.
//!
//! The road of a connection: `accept -> (TLS) -> door -> hyper -> router`, and for a transport that wants the socket for
//! itself `-> takeover`. [`accept`] counts and admits, [`door`] collects the whole first head without keeping a buffer
//! while the client is silent or slow, [`http1`] and [`http2`] hand the connection to hyper with the router behind it, and
//! before the router what is asked for most ([`Express`]).
//! A handler of an HTTP/1.1 request may put a [`Takeover`] into its response: then the server writes the response's head
//! itself, drops everything of hyper, and gives the handler the bare socket ([`Taken`]). What remains of the road for an
//! idle WebSocket or event stream is one [`Io`] and one [`ConnectionGuard`].
//!
//! What is guaranteed:
//! * Every wait has a deadline: TLS handshake, head, body, an idle connection, a client that does not read.
//! * Nothing above the socket sees a request whose framing two readers could understand differently: [`head`] (its bytes)
//!   and [`rules`] (what hyper made of them) refuse it with 400 and close. [`boundaries`] finds the heads of later
//!   requests, and hyper is handed heads that have passed them alone.
//! * A connection keeps to the version of HTTP that TLS negotiated.
//! * Where the settings say which hosts are answered ([`Hosts`]), nothing above this folder sees a request for another one.
//! * A request carries the address of its client ([`ClientAddress`]) where somebody trustworthy says it ([`addresses`]).
//! * Beyond the connection limit, or the rate of new connections, a client is told to come back later, at a bounded cost.
//! * Every task runs on the caller's tracker. `stop_accepting` closes the listener and, after their current request, the
//!   HTTP connections; `close_now` ends them where they are. Sockets that were taken over belong to their takers.
//! * Before that, while it is `draining`, every answer to others than clients says `connection: close`, so that a back end
//!   leaves between two requests: none of its requests meets a connection that is being closed.
//!
//! This folder knows nothing of sessions and channels.

mod accept;
mod addresses;
mod answer;
mod boundaries;
mod connection;
mod cors;
mod door;
mod doze;
mod exchange;
mod express;
mod guard;
mod head;
mod held;
mod hosts;
mod http1;
mod http2;
mod hyper_io;
mod io;
mod metrics;
mod paced;
mod rate;
mod rules;
mod scratch;
mod service;
mod settings;
mod takeover;
pub mod tls;
mod turn_away;
mod upload;
mod visitor;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use accept::{bind, serve};
pub use addresses::{ClientAddress, ForwardedHeader, InvalidNetwork, Network};
pub use cors::{Cors, OriginAccess};
pub use express::Express;
pub use guard::ConnectionGuard;
pub use hosts::{HostName, Hosts};
pub use io::Io;
pub use metrics::ServerMetrics;
pub use settings::{Http2Settings, Settings, SettingsError, TlsSettings};
pub use takeover::{Taken, Takeover};
pub use window::WhenBlocked;

/// What is special about a listener that clients connect to.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    /// Paths that, with all below them, are served here too, but not to clients. A connection that asks (over HTTP/1) for nothing
    /// else takes no part of the accept rate; one that speaks HTTP/2 counts as a client's.
    pub others: &'static [&'static str],
}

/// How the connections of an endpoint come to their end. Clones share it, and so may endpoints.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Owns every task.
    pub tracker: TaskTracker,
    /// Set before the rest: answers to others than clients say `connection: close`.
    pub draining: Arc<AtomicBool>,
    /// Ends the accept loop, and each HTTP connection after the request it is working on.
    pub stop_accepting: CancellationToken,
    /// Ends what is left of the HTTP connections at once.
    pub close_now: CancellationToken,
}

/// One listening socket and what is served on it.
#[derive(Debug)]
pub struct Endpoint {
    /// Label in metrics and logs: `public`, `internal` or `api`.
    pub name: &'static str,
    /// Where connections come from: see [`bind`].
    pub listener: TcpListener,
    /// What answers requests.
    pub router: Router,
    /// What is answered without looking into the router.
    pub express: Option<Express>,
    /// Which pages of other origins may read the answers; without it, none.
    pub cors: Option<Cors>,
    /// Limits and deadlines. The connection limit holds for this endpoint alone.
    pub settings: Arc<Settings>,
    /// There if clients connect here: the accept rate holds, and who is refused is counted as a client.
    pub clients: Option<Clients>,
    /// Speak TLS with this configuration: see [`tls::load`].
    pub tls: Option<Arc<ServerConfig>>,
    /// Where to count.
    pub metrics: ServerMetrics,
    /// Owns the tasks and ends the connections.
    pub ending: Ending,
}
