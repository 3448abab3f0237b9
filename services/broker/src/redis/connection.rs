//! The connections for commands: one shared by all who publish, and one by all who read logs, so that a long read does
//! not hold up a publish. They are made, tested and replaced together.
//!
//! Their own keeper rather than the client library's, because a publish must never be sent twice, a lost connection must
//! be known at once, and every new connection must pass the self-test before anything is sent over it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::dial::dial;
use super::failure;
use super::pipe::Pipe;
use super::reader::Reader;
use super::refusals::Kind;
use super::selftest::{self, Findings, Trouble};
use super::server::{SPLIT, Server};
use super::{Context, settings::RedisSettings};

/// Connections for reading made beside one for publishing, if they lead to other servers.
const ATTEMPTS: usize = 4;

/// Connections that passed their self-test.
#[derive(Clone)]
pub(crate) struct Link {
    /// For what changes something.
    pub(crate) pipe: Pipe,
    /// For reading logs.
    pub(crate) reads: Pipe,
    /// The server that both lead to.
    pub(crate) server: Server,
    /// Which of all connections so far, so that a late complaint about old ones does not end the new ones.
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
                        tracing::error!(remedy = cure, "redis cannot be used");
                    }
                }
                Trouble::Passing(reason) => {
                    if state.commands_down(reason.clone()) {
                        tracing::warn!(reason, "redis does not answer");
                    }
                }
                Trouble::Split(reason) => {
                    if state.commands_down(reason.clone()) | state.split(&reason) {
                        tracing::error!(reason, "this node's connections to redis are split");
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

    /// Makes connections and keeps them as long as both are good. What drives them ends with this future.
    async fn one_connection(&self, number: u64, backoff: &mut Backoff) -> Trouble {
        let RedisSettings { connect_timeout, command_timeout, read_timeout, .. } = self.context.settings;
        let mut drivers = JoinSet::new();
        let connected = timeout(connect_timeout, async {
            let (pipe, server) = self.open(command_timeout, &mut drivers).await?;
            let reads = self.open_beside(&server, read_timeout, &mut drivers).await?;
            Ok(Link { pipe, reads, server, number })
        });
        let link = match connected.await {
            Ok(Ok(link)) => link,
            Ok(Err(trouble)) => return trouble,
            Err(_) => return Trouble::Passing(format!("no connection within {connect_timeout:?}")),
        };
        self.context.server.set(link.server.clone());
        self.reader.renew();
        tokio::select! {
            ended = drivers.join_next() => match ended {
                Some(Ok(reason)) => Trouble::Passing(reason),
                _ => Trouble::Passing("the connection was lost".into()),
            },
            trouble = self.serve(link, backoff) => trouble,
        }
    }

    /// Connects and logs in. Returns which server answers.
    async fn open(&self, patience: Duration, drivers: &mut JoinSet<String>) -> Result<(Pipe, Server), Trouble> {
        let target = &self.context.target;
        let trouble = |error: RedisError| Trouble::of(&error, &self.context.names);
        let stream = dial(target).await.map_err(|error| trouble(error.into()))?;
        let (mut pipe, driver) = Pipe::new(stream, patience);
        drivers.spawn(driver);
        if let Some(password) = target.login.password() {
            let mut login = redis::cmd("AUTH");
            login.arg(target.login.username()).arg(password);
            login.query_async::<Value>(&mut pipe).await.map_err(trouble)?;
        }
        let server = Server::ask(&mut pipe).await.map_err(trouble)?;
        if let Some(reason) = server.unsuitable() {
            return Err(Trouble::Refused(reason));
        }
        if target.login.db() != 0 {
            redis::cmd("SELECT").arg(target.login.db()).query_async::<Value>(&mut pipe).await.map_err(trouble)?;
        }
        Ok((pipe, server))
    }

    /// As [`Keeper::open`], to the same server: the address may lead elsewhere at one attempt and there at the next.
    async fn open_beside(
        &self,
        server: &Server,
        patience: Duration,
        drivers: &mut JoinSet<String>,
    ) -> Result<Pipe, Trouble> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            // What drives a connection that is not used ends when the pipe is dropped.
            let mut driven = JoinSet::new();
            let (pipe, other) = self.open(patience, &mut driven).await?;
            match server.split_from(&other) {
                None => {
                    drivers.spawn(async move {
                        match driven.join_next().await {
                            Some(Ok(reason)) => reason,
                            _ => "the connection was lost".to_owned(),
                        }
                    });
                    return Ok(pipe);
                }
                Some(split) if attempts == ATTEMPTS => return Err(Trouble::of(&split, &self.context.names)),
                Some(_) => {}
            }
        }
    }

    async fn serve(&self, link: Link, backoff: &mut Backoff) -> Trouble {
        let mut complaints = self.commands.complaint.subscribe();
        let mut warned = None;
        loop {
            let began = Instant::now();
            match selftest::run(&self.context, &link, &self.reader).await {
                Err(trouble) => return trouble,
                Ok(findings) => self.show(findings, &mut warned, began),
            }
            if self.commands.link.borrow().is_none() {
                backoff.reset();
                tracing::info!(connection = link.number, "redis answers");
                self.commands.link.send_replace(Some(link.clone()));
                self.ready.notify_one();
            }
            // Until somebody complains, or a publish was refused: then look again whether writes are done.
            loop {
                let complaint = complaints.wait_for(|(number, _)| *number == link.number);
                if let Ok(complaint) = timeout(self.context.settings.probe_interval, complaint).await {
                    return Trouble::Passing(complaint.map(|complaint| complaint.1.clone()).unwrap_or_default());
                }
                if self.context.state.publishes_refused() {
                    break;
                }
            }
        }
    }

    /// Brings findings to the health, and what is new of them to the log.
    fn show(&self, findings: Findings, warned: &mut Option<String>, began: Instant) {
        if findings.warning.is_some() && findings.warning != *warned {
            tracing::warn!(warning = findings.warning, "redis is not set up as it should be");
        }
        warned.clone_from(&findings.warning);
        let state = &self.context.state;
        state.commands_up(findings.warning);
        match findings.refused {
            None => state.writes_tested(began),
            Some((cause, reason)) => state.publish_refused(Kind::SelfTest, cause, reason),
        }
    }
}

impl Trouble {
    /// The trouble that an error of a connection means.
    pub(crate) fn of(error: &redis::RedisError, names: &super::names::Names) -> Self {
        match failure::cure(error, names) {
            Some(cure) => Self::Refused(cure),
            None if error.code() == Some(SPLIT) => Self::Split(error.detail().unwrap_or_default().to_owned()),
            None => Self::Passing(failure::said(error)),
        }
    }
}
