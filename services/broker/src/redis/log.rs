//! Reading logs, and making empty ones.

use std::sync::Arc;

use fanway_protocol::{Channel, Position, Publication, envelope};
use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult, Value};
use tokio::time::timeout;

use super::connection::Commands;
use super::meta::Meta;
use super::pipe::Pipe;
use super::reader::Reader;
use super::script::SCRIPTS;
use super::{Context, failure, millis, place, text, unreadable};
use crate::{BrokerError, History, HistoryQuery, Ledger, LogTop, LogView, PageLimit, Retention, Timeline, epochs};

/// Logs asked about in one pipeline.
const CHUNK: usize = 500;

/// Over which connection a log is read.
#[derive(Clone, Copy)]
enum Way {
    /// The one that all repairs and resumes share: many reads at once cost one round trip.
    Shared,
    /// One of its own, for pages that may be large.
    Own,
}

/// Reads logs.
pub(crate) struct Logs {
    pub(crate) context: Arc<Context>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) reader: Arc<Reader>,
}

/// An entry as it was read: its offset, and the publication unless it cannot be read.
type Entry = (u64, Option<Arc<Publication>>);

/// What the read script answers.
struct Read {
    top: Position,
    ledger: Ledger,
    oldest: u64,
    entries: Vec<Entry>,
}

impl Logs {
    pub(crate) async fn read(
        &self,
        channel: &Channel,
        since: Option<u64>,
        limit: PageLimit,
    ) -> Result<Option<LogView>, BrokerError> {
        let limit = if since.is_some() { limit } else { PageLimit::entries(0) };
        let Some(read) = self.run(Way::Shared, channel, false, since, limit).await? else { return Ok(None) };
        // An entry that cannot be read is missing, and with it everything before: entries are dense, so that a reader
        // from before it sees an honest gap.
        let readable = read.entries.iter().rposition(|(_, publication)| publication.is_none()).map_or(0, |at| at + 1);
        let oldest = readable.checked_sub(1).map_or(read.oldest, |last| read.entries[last].0 + 1);
        let entries = read.entries.into_iter().skip(readable);
        let entries = entries.filter_map(|(offset, publication)| Some((offset, publication?))).collect();
        Ok(Some(LogView { top: read.top, ledger: read.ledger, oldest, entries }))
    }

    pub(crate) async fn history(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, BrokerError> {
        let HistoryQuery { since, limit, reverse } = query;
        let bound = since.map(|since| since.offset);
        let mut read = self.run(Way::Own, channel, reverse, bound, limit).await?;
        if read.is_none() {
            // Only now a write: reading goes on while the server refuses writes.
            let top = self.create(channel, retention).await?;
            if top.offset == 0 {
                return Ok(History { publications: Vec::new(), top, since_valid: since.is_none() });
            }
            // Somebody published in between.
            read = self.run(Way::Own, channel, reverse, bound, limit).await?;
        }
        let read = read.ok_or_else(|| BrokerError::Unavailable("the log vanished as it was created".to_owned()))?;
        let since_valid = since.is_none_or(|since| read.ledger.holds(since, read.top.offset));
        let place = |(offset, publication): Entry| {
            Some((Position { epoch: read.ledger.epoch_of(offset), offset }, publication?))
        };
        let publications = if since_valid { read.entries.into_iter().filter_map(place).collect() } else { Vec::new() };
        Ok(History { publications, top: read.top, since_valid })
    }

    async fn run(
        &self,
        way: Way,
        channel: &Channel,
        reverse: bool,
        bound: Option<u64>,
        limit: PageLimit,
    ) -> Result<Option<Read>, BrokerError> {
        let (entries, meta) = (self.context.names.entries(channel), self.context.names.meta(channel));
        let direction: &[u8] = if reverse { b"reverse" } else { b"forward" };
        let bound = bound.map(|offset| offset.to_string()).unwrap_or_default();
        let number = |most: usize| most.min(i64::MAX as usize).to_string();
        let (entries_limit, bytes) = (number(limit.entries), number(limit.bytes));
        let oversized: &[u8] = if limit.oversized_first { b"1" } else { b"" };
        let functions = &self.context.functions;
        let keys = [entries.as_str(), &meta];
        let arguments = [direction, bound.as_bytes(), entries_limit.as_bytes(), bytes.as_bytes(), oversized];
        let answer = match way {
            Way::Shared => {
                self.ask(async |connection| SCRIPTS.read.run(connection, functions, &keys, &arguments).await).await?
            }
            Way::Own => {
                let page = self
                    .reader
                    .run(async |connection| SCRIPTS.read.run(connection, functions, &keys, &arguments).await);
                // Large, because of the pool, and not to be part of each read that goes the other way.
                Box::pin(page).await?
            }
        };
        if answer == Value::Nil {
            return Ok(None);
        }
        let read = parse(channel, reverse, &answer).ok_or_else(|| BrokerError::Corrupt("a log's content".into()))?;
        let damaged = read.entries.iter().filter(|(_, publication)| publication.is_none()).count();
        self.context.state.metrics.broker_unreadable_total.inc_by(damaged as u64);
        Ok(Some(read))
    }

    pub(crate) async fn create(&self, channel: &Channel, retention: Retention) -> Result<Position, BrokerError> {
        let (entries, meta) = (self.context.names.entries(channel), self.context.names.meta(channel));
        let (random, life) = (epochs::salt(), millis(retention.unpublished_life()).to_string());
        self.ask(async |connection| {
            let arguments = [random.as_slice(), life.as_bytes()];
            let answer =
                SCRIPTS.create.run(connection, &self.context.functions, &[&entries, &meta], &arguments).await?;
            let top = text(&answer).and_then(|answer| place(answer.as_bytes()));
            top.ok_or_else(|| unreadable("the create script's answer"))
        })
        .await
    }

    /// Records that a log lacks publications of a timeline. Returns whether this call did.
    pub(crate) async fn cut(&self, channel: &Channel, timeline: &Timeline) -> Result<bool, BrokerError> {
        let meta = self.context.names.meta(channel);
        let newest_first = timeline.entries().iter().rev().map(|(epoch, last)| format!("{epoch}:{last}"));
        let known = newest_first.collect::<Vec<_>>().join(",");
        let random = epochs::salt();
        self.ask(async |connection| {
            let arguments = [known.as_bytes(), &random];
            match SCRIPTS.cut.run(connection, &self.context.functions, &[&meta], &arguments).await? {
                Value::Nil => Ok(false),
                Value::Array(parts) => match parts.get(1) {
                    Some(Value::Int(changed)) => Ok(*changed == 1),
                    _ => Err(unreadable("the cut script's answer")),
                },
                _ => Err(unreadable("the cut script's answer")),
            }
        })
        .await
    }

    pub(crate) async fn tops(&self, channels: &[Channel], refresh: bool) -> Result<Vec<Option<LogTop>>, BrokerError> {
        let mut tops = Vec::with_capacity(channels.len());
        for chunk in channels.chunks(CHUNK) {
            tops.extend(self.ask(async |connection| self.chunk_of_tops(connection, chunk, refresh).await).await?);
        }
        Ok(tops)
    }

    async fn chunk_of_tops(
        &self,
        connection: &mut impl ConnectionLike,
        channels: &[Channel],
        refresh: bool,
    ) -> RedisResult<Vec<Option<LogTop>>> {
        let metas: Vec<_> = channels.iter().map(|channel| self.context.names.meta(channel)).collect();
        let mut reads = redis::pipe();
        for meta in &metas {
            reads.cmd("GET").arg(meta);
        }
        // After the reads: a server that still is the primary was it then.
        reads.cmd("INFO").arg("replication");
        let mut answers: Vec<Value> = reads.query_async(connection).await?;
        if !answers.pop().as_ref().and_then(text).is_some_and(|info| info.contains("role:master")) {
            let why = "this server is a replica".to_owned();
            return Err(redis::make_extension_error("FWROLE".to_owned(), Some(why)));
        }
        let found: Vec<_> = answers.iter().map(|answer| text(answer).and_then(Meta::parse)).collect();
        let mut refreshes = redis::pipe();
        for (name, meta) in metas.iter().zip(&found) {
            if let Some(meta) = meta {
                refreshes.cmd("PEXPIRE").arg(name).arg(meta.life).ignore();
            }
        }
        // A refused refresh is no reason to withhold what was read; the lifetime is far longer than this repeats.
        if refresh
            && !refreshes.is_empty()
            && let Err(error) = refreshes.query_async::<()>(connection).await
        {
            tracing::debug!(reason = failure::said(&error), "logs were not refreshed");
        }
        let top = |meta: Meta<'_>| LogTop { position: meta.top, ledger: meta.ledger };
        Ok(found.into_iter().map(|meta| meta.map(top)).collect())
    }

    /// Asks over the connection that all reads share: many at once leave in one write.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&mut Pipe) -> RedisResult<T>) -> Result<T, BrokerError> {
        let patience = self.context.settings.read_timeout;
        let answer = timeout(patience, async {
            let Some(mut link) = self.commands.link_within(patience).await else {
                return Err(BrokerError::Unavailable(self.context.state.commands_trouble()));
            };
            question(&mut link.reads).await.map_err(|error: RedisError| {
                if failure::is_replica(&error) || error.is_connection_dropped() {
                    self.commands.complain(&link, failure::said(&error));
                }
                failure::of_read(&error)
            })
        });
        answer.await.unwrap_or_else(|_| {
            // The inner wait for a connection ends at the same moment; what is known of its lack says more.
            Err(BrokerError::Unavailable(format!("no answer within {patience:?}")))
        })
    }
}

fn parse(channel: &Channel, reverse: bool, answer: &Value) -> Option<Read> {
    let Value::Array(parts) = answer else { return None };
    let meta = Meta::parse(text(parts.first()?)?)?;
    let first: u64 = text(parts.get(1)?)?.parse().ok()?;
    let Value::Array(bodies) = parts.get(2)? else { return None };
    let oldest = text(parts.get(3)?)?.parse().ok()?;
    let mut entries = Vec::with_capacity(bodies.len());
    for (at, body) in (0..).zip(bodies) {
        let offset = if reverse { first.checked_sub(at)? } else { first.checked_add(at)? };
        let publication = match body {
            Value::BulkString(body) => envelope::decode(channel, body).ok().map(Arc::new),
            _ => None,
        };
        entries.push((offset, publication));
    }
    Some(Read { top: meta.top, ledger: meta.ledger, oldest, entries })
}
