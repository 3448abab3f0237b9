//! The listening socket: who is let in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::addresses::Addresses;
use super::connection::{self, Admission, Shared};
use super::guard::Limit;
use super::rate::AcceptRate;
use super::settings::{bytes, bytes32};
use super::{Endpoint, Settings, http1};

/// How long to wait after a failure that will not pass by itself, as when no more files can be opened.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How often such failures are logged while they last.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Opens a listening socket.
///
/// Options of accepted sockets are set here, for they inherit them: accepting needs no calls for that, and a connection
/// that queues before anybody accepts has them too.
pub fn bind(address: SocketAddr, settings: &Settings) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Restarting must not wait for the last process's connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if let Some(size) = settings.send_buffer {
        socket.set_send_buffer_size(bytes(size))?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(bytes32(settings.unsent_limit))?;
    #[cfg(target_os = "linux")]
    if settings.user_timeout.is_some() {
        socket.set_tcp_user_timeout(settings.user_timeout)?;
    }
    // Small writes leave at once; whoever writes gathers by himself.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Accepts and serves until `stop_accepting`. Connections go on after that; the tracker knows when they are done.
///
/// Nothing that a client does ends it, and no failure to accept.
pub async fn serve(endpoint: Endpoint) {
    let Endpoint { name, listener, router, express, cors, settings, clients, tls, metrics, ending } = endpoint;
    let most = i64::try_from(settings.max_connections).unwrap_or(i64::MAX);
    metrics.sockets_limit.with_label_values(&[name]).set(most);
    if clients.is_some() {
        metrics.connections_limit.set(most);
        metrics.show_from_the_start();
    }
    let rate = settings.accept_rate.filter(|_| clients.is_some());
    let rate = rate.map(|rate| AcceptRate::new(rate, settings.accept_burst.unwrap_or(rate), Instant::now()));
    let limit = Limit::new(settings.max_connections, metrics.sockets_open.with_label_values(&[name]));
    let permits = || Arc::new(Semaphore::new(settings.max_refusals.min(Semaphore::MAX_PERMITS)));
    let addresses = Addresses::new(&settings).filter(|_| clients.is_some());
    // Apart: whoever is slow to be turned away must not be in the way of those who are to be served.
    let (refusals, undecided) = (permits(), permits());
    let accepted = metrics.sockets_accepted_total.with_label_values(&[name]);
    let errors = metrics.accept_errors_total.with_label_values(&[name]);
    let shared = Arc::new(Shared {
        name,
        router,
        express,
        cors,
        http1: http1::builder(&settings),
        settings,
        tls,
        ending,
        taken_over: metrics.sockets_taken_over_total.with_label_values(&[name]),
        handshake: metrics.handshake_seconds.with_label_values(&[name]),
        rejections: metrics.sockets_rejected_total,
        large_answers: metrics.large_answer_bytes.with_label_values(&[name]),
        clients: clients.map(|clients| (clients, metrics.connections_rejected_total)),
        rate,
        refusals,
        addresses,
        limit: Arc::clone(&limit),
    });
    let (tracker, stop_accepting) = (&shared.ending.tracker, &shared.ending.stop_accepting);

    let mut logged: Option<Instant> = None;
    while let Some(outcome) = stop_accepting.run_until_cancelled(listener.accept()).await {
        let (tcp, peer) = match outcome {
            Ok(connection) => connection,
            // The client gave up while it was queueing.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
                continue;
            }
            Err(error) => {
                errors.inc();
                if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                    logged = Some(Instant::now());
                    tracing::error!(listener = name, %error, "cannot accept connections");
                }
                let _ = stop_accepting.run_until_cancelled(tokio::time::sleep(BACK_OFF)).await;
                continue;
            }
        };
        accepted.inc();
        let guard = limit.acquire();
        let late = guard.is_some() && shared.rate.as_ref().is_some_and(|rate| !rate.take(Instant::now()));
        let admission = match guard {
            Some(guard) if !late => Admission::Served(guard),
            Some(guard) => match Arc::clone(&undecided).try_acquire_owned() {
                Ok(permit) => Admission::Late(guard, permit),
                Err(_too_many) => {
                    shared.rejected("rate");
                    continue;
                }
            },
            None => match Arc::clone(&shared.refusals).try_acquire_owned() {
                Ok(permit) => Admission::Full(permit),
                Err(_too_many) => {
                    shared.rejected("limit");
                    continue;
                }
            },
        };
        tracker.spawn(connection::run(Arc::clone(&shared), tcp, peer, admission));
    }
}
