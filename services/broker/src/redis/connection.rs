//! The connection for commands: one, shared by all who publish, replaced when it breaks.
//!
//! Its own keeper rather than the client library's, because a publish must never be sent twice, a lost connection must
//! be known at once, and every new connection must pass the self-test before anything is sent over it.

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::dial::dial;
use super::failure;
use super::reader::Reader;
use super::selftest::{self, Findings, Trouble};
use super::{Context, settings::RedisSettings};

/// A connection that passed its self-test.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) connection: MultiplexedConnection,
    /// Which of all connections so far, so that a late complaint about an old one does not end the new one.
    number: u64,
}

/// Where the current connection is found.
pub(crate) struct Commands {
    link: watch::Sender<Option<Link>>,
    /// The newest connection that somebody complained about, and why.
    complaint: watch::Sender<(u64, String)>,
}

impl Commands {
    pub(crate) fn new() -> Self {
        Self { link: watch::Sender::new(None), complaint: watch::Sender::new((0, String::new())) }
    }

    /// The connection, if there is one.
    pub(crate) fn link(&self) -> Option<Link> {
        self.link.borrow().clone()
    }

    /// The connection, as soon as there is one.
    pub(crate) async fn link_within(&self, patience: Duration) -> Option<Link> {
        let mut links = self.link.subscribe();
        let link = timeout(patience, links.wait_for(Option::is_some)).await;
        link.ok()?.ok()?.clone()
    }

    /// The connection is of no use: have it replaced.
    pub(crate) fn complain(&self, link: &Link, why: String) {
        self.complaint.send_modify(|complaint| {
            if complaint.0 < link.number {
                *complaint = (link.number, why);
            }
        });
    }
}

/// The task that makes the connection and replaces it.
pub(crate) struct Keeper {
    pub(crate) context: Arc<Context>,
    pub(crate) commands: Arc<Commands>,
    /// Tested together with the connection: both need the same rights.
    pub(crate) reader: Arc<Reader>,
    /// Told when a connection is ready, so that the probe need not wait for its interval.
    pub(crate) ready: Arc<Notify>,
    pub(crate) cancel: CancellationToken,
}

impl Keeper {
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut number = 0;
        loop {
            number += 1;
            let trouble = tokio::select! {
                () = self.cancel.cancelled() => break,
                trouble = self.one_connection(number, &mut backoff) => trouble,
            };
            self.commands.link.send_replace(None);
            let state = &self.context.state;
            match trouble {
                Trouble::Refused(cure) => {
                    if state.commands_down(cure.clone()) {
                        tracing::error!(cure, "redis cannot be used");
                    }
                }
                Trouble::Passing(reason) => {
                    if state.commands_down(reason.clone()) {
                        tracing::warn!(reason, "redis does not answer");
                    }
                }
            }
            tokio::select! {
                () = self.cancel.cancelled() => break,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
        self.commands.link.send_replace(None);
    }

    /// Makes a connection and keeps it as long as it is good. Its reader and writer run inside of this future, so that
    /// they end with it and their end is noticed.
    async fn one_connection(&self, number: u64, backoff: &mut Backoff) -> Trouble {
        let RedisSettings { connect_timeout, command_timeout, .. } = self.context.settings;
        let target = &self.context.target;
        let connected = timeout(connect_timeout, async {
            let stream = dial(target).await?;
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(command_timeout));
            MultiplexedConnection::new_with_config(&target.login, stream, config).await
        });
        let (connection, driver) = match connected.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Trouble::of(&error, &self.context.names),
            Err(_) => return Trouble::Passing(format!("no connection within {connect_timeout:?}")),
        };
        tokio::select! {
            () = driver => Trouble::Passing("the connection was lost".into()),
            trouble = self.serve(Link { connection, number }, backoff) => trouble,
        }
    }

    async fn serve(&self, link: Link, backoff: &mut Backoff) -> Trouble {
        let mut complaints = self.commands.complaint.subscribe();
        let mut shown = Findings::default();
        loop {
            match selftest::run(&self.context, &mut link.connection.clone(), &self.reader).await {
                Err(trouble) => return trouble,
                Ok(findings) => self.show(findings, &mut shown),
            }
            if self.commands.link.borrow().is_none() {
                backoff.reset();
                tracing::info!(connection = link.number, "redis answers");
                self.commands.link.send_replace(Some(link.clone()));
                self.ready.notify_one();
            }
            // Until somebody complains, or a write was refused: then look again whether writes are done.
            loop {
                let complaint = complaints.wait_for(|(number, _)| *number == link.number);
                if let Ok(complaint) = timeout(self.context.settings.probe_interval, complaint).await {
                    return Trouble::Passing(complaint.map(|complaint| complaint.1.clone()).unwrap_or_default());
                }
                if self.context.state.writes_refused() {
                    break;
                }
            }
        }
    }

    /// Brings findings to the health, and what is new of them to the log.
    fn show(&self, findings: Findings, shown: &mut Findings) {
        if findings.warning.is_some() && findings.warning != shown.warning {
            tracing::warn!(warning = findings.warning, "redis is not set up as it should be");
        }
        if findings.writes_trouble.is_some() && findings.writes_trouble != shown.writes_trouble {
            tracing::warn!(reason = findings.writes_trouble, "redis refuses writes");
        }
        *shown = findings.clone();
        self.context.state.commands_up(findings.writes_trouble, findings.warning);
    }
}

impl Trouble {
    /// The trouble that an error of a connection means.
    pub(crate) fn of(error: &redis::RedisError, names: &super::names::Names) -> Self {
        match failure::cure(error, names) {
            Some(cure) => Self::Refused(cure),
            None => Self::Passing(failure::said(error)),
        }
    }
}
