//! Hears what the fleet publishes: a connection of its own, and the subscriptions on it.
//!
//! Not the client library's pub/sub, which resubscribes without looking at the answers, queues without a bound and does
//! not notice a silent connection. Here every subscription is confirmed or known not to be, the reader hands over whole
//! batches and waits for nobody, and a silent connection is found by `PING` (nothing arrives) or by the echo probe
//! (everything but publications arrives).
//!
//! Concurrency: one task owns the connection. Wishes stand in the [`Desk`] behind a lock that is held briefly and never
//! across a wait; the task is told that there are new ones. Events leave from that one task, so that their order is that
//! of the connection, and nothing heard on a lost connection is handed over after its loss was.

mod desk;
mod session;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanway_protocol::Channel;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::desk::Desk;
use super::Context;
use super::backoff::Backoff;
use super::server::Expected;
use crate::announcements::Announcements;
use crate::{BrokerError, Event, Sink};

/// A connection that held this long was a good one: the next attempt after its loss comes soon.
const GOOD: Duration = Duration::from_secs(5);

/// What is heard at all, for the probe.
pub(crate) struct Hearing {
    /// Number of the connection that hears, if one does.
    connection: watch::Sender<Option<u64>>,
    /// The server that the newest connection leads to.
    pub(super) server: Expected,
    /// The newest echo that came back.
    echo: watch::Sender<u64>,
    /// The newest connection that is to be replaced.
    replace: watch::Sender<u64>,
}

impl Hearing {
    pub(crate) fn new() -> Self {
        Self {
            connection: watch::Sender::new(None),
            server: Expected::default(),
            echo: watch::Sender::new(0),
            replace: watch::Sender::new(0),
        }
    }

    /// Number of the connection that hears.
    pub(crate) fn connection(&self) -> Option<u64> {
        *self.connection.borrow()
    }

    /// As [`Hearing::connection`], with patience.
    pub(crate) async fn connection_within(&self, patience: Duration) -> Option<u64> {
        let mut connections = self.connection.subscribe();
        let connection = timeout(patience, connections.wait_for(Option::is_some)).await;
        *connection.ok()?.ok()?
    }

    /// Resolves at the next connection that hears.
    pub(crate) async fn heard_again(&self) {
        let mut connections = self.connection.subscribe();
        while connections.changed().await.is_ok() && connections.borrow_and_update().is_none() {}
    }

    /// Resolves when this echo (or a later one) is back.
    pub(crate) async fn echo(&self, nonce: u64) {
        let _ = self.echo.subscribe().wait_for(|newest| *newest >= nonce).await;
    }

    /// Has the connection that hears now replaced. One that is being made is not: it has a deadline of its own.
    pub(crate) fn replace_connection(&self) {
        if let Some(connection) = self.connection() {
            self.replace.send_replace(connection);
        }
    }
}

/// The subscriptions, shared between the calls and the task.
pub(crate) struct Subscriptions {
    desk: Mutex<Desk>,
    /// There are new wishes.
    changed: Notify,
}

impl Subscriptions {
    pub(crate) fn new() -> Self {
        Self { desk: Mutex::default(), changed: Notify::new() }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants channels and waits until all are confirmed. Those that are not in time stay wanted.
    pub(crate) async fn subscribe(&self, context: &Context, channels: &[Channel]) -> Result<(), BrokerError> {
        let calls: Vec<_> = {
            let mut desk = self.desk();
            let calls = channels.iter().filter_map(|channel| desk.want(channel)).collect();
            context.state.metrics.broker_subscriptions.set(desk.wanted() as i64);
            calls
        };
        if calls.is_empty() {
            return Ok(());
        }
        self.changed.notify_one();
        let patience = context.settings.subscribe_timeout;
        let all = async {
            for call in calls {
                call.await.map_err(|_| BrokerError::Unavailable("unsubscribed meanwhile".into()))?;
            }
            Ok(())
        };
        timeout(patience, all).await.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(format!("the subscription was not confirmed within {patience:?}")))
        })
    }

    pub(crate) fn unsubscribe(&self, context: &Context, channel: &Channel) {
        let mut desk = self.desk();
        desk.unwant(channel);
        context.state.metrics.broker_subscriptions.set(desk.wanted() as i64);
        drop(desk);
        self.changed.notify_one();
    }
}

/// The task that hears.
pub(crate) struct Subscriber {
    pub(crate) context: Arc<Context>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) hearing: Arc<Hearing>,
    /// Where what nodes say to each other is put.
    pub(crate) announcements: Arc<Announcements>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) cancel: CancellationToken,
}

impl Subscriber {
    /// Keeps a connection until cancelled.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut number = 0;
        loop {
            number += 1;
            let begun = tokio::time::Instant::now();
            let reason = tokio::select! {
                () = self.cancel.cancelled() => return,
                reason = session::run(&self, number) => reason,
            };
            self.subscriptions.desk().lost();
            let heard = self.hearing.connection.send_replace(None).is_some();
            if heard {
                self.context.state.metrics.broker_interruptions_total.inc();
                self.sink.on_events(vec![Event::Interrupted]);
            }
            if self.context.state.subscriber(Some(format!("nothing is heard: {reason}"))) {
                tracing::warn!(reason, "the subscriber connection is gone");
            }
            if heard && begun.elapsed() >= GOOD {
                backoff.reset();
            }
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }
}
