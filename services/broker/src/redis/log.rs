//! Reading logs, and making empty ones.

use std::sync::Arc;

use fanway_protocol::{Channel, Epoch, Position, Publication, envelope};
use redis::{RedisResult, Value};

use super::reader::Reader;
use super::{Context, millis, script, text, unreadable};
use crate::{BrokerError, History, HistoryQuery, Ledger, LogView, Retention, epochs};

/// Logs asked about in one pipeline.
const CHUNK: usize = 500;

/// Reads logs over connections of its own.
pub(crate) struct Logs {
    pub(crate) context: Arc<Context>,
    pub(crate) reader: Arc<Reader>,
}

/// An entry as it was read: its offset, and the publication unless it cannot be read.
type Entry = (u64, Option<Arc<Publication>>);

/// What the read script answers.
struct Read {
    top: Position,
    ledger: Ledger,
    entries: Vec<Entry>,
}

impl Logs {
    pub(crate) async fn read(
        &self,
        channel: &Channel,
        since: Option<u64>,
        limit: usize,
    ) -> Result<Option<LogView>, BrokerError> {
        let limit = if since.is_some() { limit } else { 0 };
        let Some(read) = self.run(channel, false, since, limit).await? else { return Ok(None) };
        // An entry that cannot be read is missing, and with it everything before: entries are dense, so that a reader
        // from before it sees an honest gap.
        let readable = read.entries.iter().rposition(|(_, publication)| publication.is_none()).map_or(0, |at| at + 1);
        let entries = read.entries.into_iter().skip(readable);
        let entries = entries.filter_map(|(offset, publication)| Some((offset, publication?))).collect();
        Ok(Some(LogView { top: read.top, ledger: read.ledger, entries }))
    }

    pub(crate) async fn history(&self, channel: &Channel, query: HistoryQuery) -> Result<History, BrokerError> {
        let HistoryQuery { since, limit, reverse } = query;
        let Some(read) = self.run(channel, reverse, since.map(|since| since.offset), limit).await? else {
            return Ok(History { publications: Vec::new(), top: None, since_valid: since.is_none() });
        };
        let since_valid = since.is_none_or(|since| read.ledger.holds(since, read.top.offset));
        let place = |(offset, publication): Entry| {
            Some((Position { epoch: read.ledger.epoch_of(offset), offset }, publication?))
        };
        let publications = if since_valid { read.entries.into_iter().filter_map(place).collect() } else { Vec::new() };
        Ok(History { publications, top: Some(read.top), since_valid })
    }

    async fn run(
        &self,
        channel: &Channel,
        reverse: bool,
        bound: Option<u64>,
        limit: usize,
    ) -> Result<Option<Read>, BrokerError> {
        let (entries, meta) = (self.context.names.entries(channel), self.context.names.meta(channel));
        let direction: &[u8] = if reverse { b"reverse" } else { b"forward" };
        let bound = bound.map(|offset| offset.to_string()).unwrap_or_default();
        let limit = limit.min(i64::MAX as usize).to_string();
        let answer = self
            .reader
            .run(async |connection| {
                let arguments = [direction, bound.as_bytes(), limit.as_bytes()];
                script::READ.run(connection, &[&entries, &meta], &arguments).await
            })
            .await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let read = parse(channel, &answer).ok_or_else(|| BrokerError::Corrupt("a log's content".into()))?;
        let damaged = read.entries.iter().filter(|(_, publication)| publication.is_none()).count();
        self.context.state.metrics.broker_unreadable_total.inc_by(damaged as u64);
        Ok(Some(read))
    }

    pub(crate) async fn create(&self, channel: &Channel, retention: Retention) -> Result<Position, BrokerError> {
        let (entries, meta) = (self.context.names.entries(channel), self.context.names.meta(channel));
        let (random, life) = (epochs::random_text(8), millis(retention.meta_life()));
        self.reader
            .run(async |connection| {
                let arguments = [random.as_bytes(), life.as_bytes()];
                let answer = script::CREATE.run(connection, &[&entries, &meta], &arguments).await?;
                position(&answer).ok_or_else(|| unreadable("the create script's answer"))
            })
            .await
    }

    pub(crate) async fn tops(&self, channels: &[Channel], refresh: bool) -> Result<Vec<Option<Position>>, BrokerError> {
        let mut tops = Vec::with_capacity(channels.len());
        for chunk in channels.chunks(CHUNK) {
            tops.extend(
                self.reader.run(async |connection| self.chunk_of_tops(connection, chunk, refresh).await).await?,
            );
        }
        Ok(tops)
    }

    async fn chunk_of_tops(
        &self,
        connection: &mut redis::aio::MultiplexedConnection,
        channels: &[Channel],
        refresh: bool,
    ) -> RedisResult<Vec<Option<Position>>> {
        let metas: Vec<_> = channels.iter().map(|channel| self.context.names.meta(channel)).collect();
        let mut reads = redis::pipe();
        for meta in &metas {
            reads.cmd("HMGET").arg(meta).arg(&["e", "o", "t"]);
        }
        let answers: Vec<Value> = reads.query_async(connection).await?;
        let mut refreshes = redis::pipe();
        for (meta, answer) in metas.iter().zip(&answers) {
            if let Value::Array(fields) = answer
                && let Some(life) = fields.get(2).and_then(text)
            {
                refreshes.cmd("PEXPIRE").arg(meta).arg(life).ignore();
            }
        }
        // A refused refresh is no reason to withhold what was read; the lifetime is far longer than this repeats.
        if refresh
            && !refreshes.is_empty()
            && let Err(error) = refreshes.query_async::<()>(connection).await
        {
            tracing::debug!(reason = super::failure::said(&error), "logs were not refreshed");
        }
        Ok(answers.iter().map(position).collect())
    }
}

/// The position at the beginning of an answer: epoch, offset.
fn position(answer: &Value) -> Option<Position> {
    let Value::Array(parts) = answer else { return None };
    Some(Position { epoch: Epoch::parse(text(parts.first()?)?)?, offset: text(parts.get(1)?)?.parse().ok()? })
}

fn parse(channel: &Channel, answer: &Value) -> Option<Read> {
    let top = position(answer)?;
    let Value::Array(parts) = answer else { return None };
    let ledger = Ledger::parse(text(parts.get(2)?)?)?;
    let Value::Array(entries) = parts.get(3)? else { return None };
    let entries = entries.iter().map(|entry| parse_entry(channel, entry)).collect::<Option<Vec<_>>>()?;
    let dense = entries.windows(2).all(|pair| pair[0].0.abs_diff(pair[1].0) == 1);
    (dense && ledger.current() == top.epoch).then_some(Read { top, ledger, entries })
}

/// An entry of a stream: its id and its fields.
fn parse_entry(channel: &Channel, entry: &Value) -> Option<Entry> {
    let Value::Array(entry) = entry else { return None };
    let offset = text(entry.first()?)?.strip_suffix("-1")?.parse().ok()?;
    let Value::Array(fields) = entry.get(1)? else { return None };
    let publication = match (fields.first().and_then(text), fields.get(1)) {
        (Some("d"), Some(Value::BulkString(body))) => envelope::decode(channel, body).ok().map(Arc::new),
        _ => None,
    };
    Some((offset, publication))
}
