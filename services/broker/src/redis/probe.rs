//! The echo probe: does what this node publishes come back to it?
//!
//! A healthy connection proves nothing: after a failover or behind a broken proxy a subscriber connection can stay open
//! and silent for ever while commands are answered. So the node publishes to a pub/sub channel of its own and listens.
//! When the publish fails, the broker is away; when it is answered and the echo does not come, this node is deaf: its
//! subscriber connection is replaced, and until an echo returns the node says so.
//!
//! Before that it compares which servers the connections lead to (see [`super::server`]): where they differ, an echo can
//! come back although nothing that is published is delivered.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection::{Commands, Link};
use super::server::Server;
use super::subscriber::Hearing;
use super::{Context, failure};

/// Probes in a row that found connections split, after which all of them are replaced.
const SPLITS: u32 = 3;

/// The task that probes.
pub(crate) struct Probe {
    pub(crate) context: Arc<Context>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) hearing: Arc<Hearing>,
    /// Told when there is a new connection for commands.
    pub(crate) ready: Arc<Notify>,
    pub(crate) cancel: CancellationToken,
}

/// What a probe found out.
#[derive(PartialEq)]
enum Found {
    /// The echo came back.
    Echo,
    /// It did not, and nothing explains it.
    Silence,
    /// The connection that should have heard it was lost meanwhile.
    Interrupted,
    /// Connections lead to different servers: those that take commands among themselves, or the one that hears.
    Split { reason: String, commands: bool },
    /// Nothing could be published.
    Outage,
}

impl Probe {
    pub(crate) async fn run(self) {
        let mut nonce = 0;
        let (mut interruptions, mut splits) = (0, 0);
        loop {
            nonce += 1;
            let found = tokio::select! {
                () = self.cancel.cancelled() => return,
                found = self.probe(nonce) => found,
            };
            interruptions = if found == Found::Interrupted { interruptions + 1 } else { 0 };
            splits = if matches!(found, Found::Split { .. }) { splits + 1 } else { 0 };
            match found {
                Found::Echo => {
                    self.context.state.whole();
                    self.context.state.echo(true);
                }
                Found::Split { reason, commands } => self.mend(reason, commands, splits),
                // Once may be the server's restart; a connection that is lost during each probe hears nothing either.
                Found::Interrupted if interruptions < 2 => continue,
                Found::Silence | Found::Interrupted => {
                    if self.context.state.echo(false) {
                        tracing::warn!("this node is deaf: commands are answered, but its own echo does not come back");
                    }
                    self.context.state.metrics.broker_deaf_total.inc();
                    self.hearing.replace_connection();
                }
                Found::Outage => self.context.state.show_echo_age(),
            }
            // A new connection on either side is worth a probe at once.
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(self.context.settings.probe_interval) => {}
                () = self.ready.notified() => {}
                () = self.hearing.heard_again() => {}
            }
        }
    }

    /// Has connections replaced that lead to different servers: those for commands if it is them, else the one that hears,
    /// and if that does not help, all.
    fn mend(&self, reason: String, commands: bool, splits: u32) {
        self.context.state.show_echo_age();
        if self.context.state.split(&reason) {
            tracing::error!(reason, "this node's connections to redis are split");
        }
        if !commands {
            self.hearing.replace_connection();
        }
        if let Some(link) = self.commands.link().filter(|_| commands || splits.is_multiple_of(SPLITS)) {
            self.commands.complain(&link, reason);
        }
    }

    /// The difference between the servers that connections lead to, if there is one. Those that take commands are asked,
    /// since a proxy may have moved them; the one that hears was asked when it was made.
    async fn split(&self, link: &Link) -> Option<Found> {
        let heard = self.hearing.server.get();
        let mut found = None;
        // Twice, because the replication id can change between two answers.
        for _ in 0..2 {
            let (mut pipe, mut reads) = (link.pipe.clone(), link.reads.clone());
            let (pipe, reads) = tokio::join!(Server::ask(&mut pipe), Server::ask(&mut reads));
            // Without an answer the publish that follows fails too.
            let (pipe, reads) = (pipe.ok()?, reads.ok()?);
            if !pipe.is_primary() {
                return None; // No matter of two primaries: the publish finds it.
            }
            let among = pipe.split_now(&reads).or_else(|| pipe.split_from(&link.server));
            let commands = among.is_some();
            let split = among.or_else(|| pipe.split_from(&heard));
            found = split.map(|error| Found::Split { reason: error.detail().unwrap_or_default().to_owned(), commands });
            if found.is_none() {
                break;
            }
        }
        found
    }

    async fn probe(&self, nonce: u64) -> Found {
        let Some(mut link) = self.commands.link() else { return Found::Outage };
        let patience = self.context.settings.probe_timeout;
        let Some(connection) = self.hearing.connection_within(patience).await else {
            // Commands may have been lost at the same time: then it is an outage.
            return if self.commands.link().is_some() { Found::Silence } else { Found::Outage };
        };
        if let Some(split) = self.split(&link).await {
            return split;
        }
        if let Err(reason) = self.publish(&mut link, nonce).await {
            self.commands.complain(&link, reason);
            return Found::Outage;
        }
        if timeout(patience, self.hearing.echo(nonce)).await.is_ok() {
            return Found::Echo;
        }
        if self.hearing.connection() == Some(connection) { Found::Silence } else { Found::Interrupted }
    }

    /// Publishes the echo, and looks whether the server still is the primary.
    async fn publish(&self, link: &mut Link, nonce: u64) -> Result<(), String> {
        let sent = redis::pipe()
            .cmd("PUBLISH")
            .arg(self.context.names.echo())
            .arg(nonce)
            .ignore()
            .cmd("INFO")
            .arg("replication")
            .query_async::<(String,)>(&mut link.pipe)
            .await;
        match sent {
            Ok((info,)) if info.contains("role:master") => Ok(()),
            Ok(_) => {
                // Listening goes on, but to what the new primary passes on late: look for the primary.
                self.hearing.replace_connection();
                Err("the server became a replica".into())
            }
            Err(error) => Err(failure::said(&error)),
        }
    }
}
