//! Who is at the other end of an HTTP connection, and what it may ask for.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::ConnectionGuard;
use super::addresses::Origin;
use super::connection::Shared;
use super::service::Granted;

/// What a connection has been admitted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Standing {
    /// As a client's: it has taken its token of the rate of new connections.
    Client,
    /// For health, metrics or the server API. The first request of a client on it takes the token.
    Other,
    /// For these beyond the connection limit: a client's request is refused.
    Beyond,
}

/// The other end of an HTTP connection.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) origin: Origin,
    /// A [`Standing`].
    standing: AtomicU8,
    /// Requests of clients that are under way, over HTTP/2.
    streams: Arc<AtomicUsize>,
    granted: Mutex<Option<Granted>>,
}

impl Visitor {
    pub(super) fn new(origin: Origin, standing: Standing) -> Arc<Self> {
        let standing = AtomicU8::new(standing as u8);
        Arc::new(Self { origin, standing, streams: Arc::default(), granted: Mutex::default() })
    }

    /// Whether the connection is beyond the limit: it ends after each answer, so that it holds no place for long.
    pub(super) fn is_beyond(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == Standing::Beyond as u8
    }

    /// Admits a request of a client. The error is the reason of the refusal, as metrics have it.
    pub(super) fn admit_client(&self, shared: &Shared) -> Result<(), &'static str> {
        // Requests of one connection that race over HTTP/2 are on a client's connection already.
        if self.standing.load(Ordering::Relaxed) == Standing::Client as u8 {
            return Ok(());
        }
        if self.is_beyond() {
            return Err("limit");
        }
        if shared.rate.as_ref().is_some_and(|rate| !rate.take(Instant::now())) {
            return Err("rate");
        }
        self.standing.store(Standing::Client as u8, Ordering::Relaxed);
        Ok(())
    }

    /// Admits a request of a client over HTTP/2, which may last as long as a connection and hold as much of the node. The first
    /// of those that are under way is covered by the connection's own share of the limit; `None` if there is no share for
    /// another one.
    pub(super) fn admit_stream(&self, shared: &Shared) -> Option<StreamShare> {
        let is_first = self.streams.fetch_add(1, Ordering::Relaxed) == 0;
        let mut share = StreamShare { _guard: None, streams: Arc::clone(&self.streams) };
        if !is_first {
            share._guard = Some(shared.limit.acquire()?);
        }
        Some(share)
    }

    pub(super) fn grant(&self, granted: Granted) {
        *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted);
    }

    /// The takeover for which hyper was stopped, if that is why it stopped.
    pub(super) fn granted(&self) -> Option<Granted> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Share of the connection limit that a request over HTTP/2 has, given back on drop.
#[derive(Debug)]
pub(super) struct StreamShare {
    _guard: Option<ConnectionGuard>,
    streams: Arc<AtomicUsize>,
}

impl Drop for StreamShare {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
