//! Publishing: one script call, sent once.

use std::sync::Arc;
use std::time::Duration;

use fanway_protocol::envelope::{self, PLAIN_HEADER};
use fanway_protocol::{Epoch, Position};
use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult, Value};

use super::connection::{Commands, Link};
use super::names::hex;
use super::{Context, failure, millis, script, text};
use crate::ledger::MAX_LEDGER;
use crate::{BrokerError, Idempotency, Publish, Published, Retention, epochs};

/// Publishes over the connection for commands.
pub(crate) struct Publisher {
    pub(crate) context: Arc<Context>,
    pub(crate) commands: Arc<Commands>,
}

impl Publisher {
    /// Publishes. Repeats an attempt without answer once, and only with an idempotency key, which makes that harmless.
    pub(crate) async fn publish(&self, request: &Publish<'_>) -> Result<Published, BrokerError> {
        let Some(link) = self.commands.link() else {
            return Err(BrokerError::Unavailable(self.context.state.commands_trouble()));
        };
        let unknown = match self.attempt(link, request).await {
            Err(unknown @ BrokerError::OutcomeUnknown(_)) if request.idempotency.is_some() => unknown,
            outcome => return outcome,
        };
        let Some(link) = self.commands.link_within(self.context.settings.command_timeout).await else {
            return Err(unknown);
        };
        match self.attempt(link, request).await {
            // Of the second attempt this is proven, not of the first.
            Err(BrokerError::Unavailable(_)) => Err(unknown),
            outcome => outcome,
        }
    }

    async fn attempt(&self, mut link: Link, request: &Publish<'_>) -> Result<Published, BrokerError> {
        let answer = self.send(&mut link.connection, request).await;
        match answer {
            Ok(Answer::Done { position, unannounced }) => {
                if let Some(reason) = unannounced {
                    // Subscribers find it by their position check.
                    self.context.state.metrics.broker_unannounced_total.inc();
                    tracing::warn!(reason, "a publication was logged, but redis refused to announce it");
                }
                Ok(Published { position, duplicate: false })
            }
            Ok(Answer::Duplicate(position)) => Ok(Published { position, duplicate: true }),
            Ok(Answer::Conflict) => Err(BrokerError::IdempotencyConflict),
            Err(error) => {
                self.report(&link, &error);
                Err(failure::of_publish(&error))
            }
        }
    }

    /// Tells the others what the error says about the connection.
    fn report(&self, link: &Link, error: &RedisError) {
        if failure::is_replica(error) || error.is_connection_dropped() {
            self.commands.complain(link, failure::said(error));
        } else if failure::is_answer(error) && error.code().is_none_or(|code| !code.starts_with("FW")) {
            self.context.state.writes(Some(format!("writes are refused: {}", failure::said(error))));
        }
    }

    async fn send(&self, connection: &mut impl ConnectionLike, request: &Publish<'_>) -> RedisResult<Answer> {
        let Publish { channel, publication, retention, idempotency } = request;
        let names = &self.context.names;
        let topic = names.topic(channel);
        let result = idempotency.map(|idempotency| names.result(channel, idempotency.key));
        if retention.keeps_log() {
            let (entries, meta) = (names.entries(channel), names.meta(channel));
            let keys = LogKeys { entries: &entries, meta: &meta, result: result.as_deref(), topic: &topic };
            let body = envelope::encode(channel, publication);
            return append(connection, &keys, &body, *retention, idempotency.as_ref()).await;
        }
        let message = envelope::encode_after(PLAIN_HEADER, channel, publication);
        match (idempotency, result) {
            (Some(idempotency), Some(result)) => {
                announce_once(connection, &result, &topic, &message, idempotency).await
            }
            _ => {
                redis::cmd("PUBLISH").arg(&topic).arg(message).query_async::<Value>(connection).await?;
                Ok(Answer::Done { position: None, unannounced: None })
            }
        }
    }
}

/// Where a publication of a channel with history goes.
pub(crate) struct LogKeys<'a> {
    pub(crate) entries: &'a str,
    pub(crate) meta: &'a str,
    /// With an idempotency key.
    pub(crate) result: Option<&'a str>,
    pub(crate) topic: &'a str,
}

/// What the scripts answer.
pub(crate) enum Answer {
    /// Done now. `unannounced`: logged, but why it could not be announced.
    Done { position: Option<Position>, unannounced: Option<String> },
    /// Done earlier, with this result.
    Duplicate(Option<Position>),
    /// The key was used with another body.
    Conflict,
}

/// Appends to a log and announces.
pub(crate) async fn append(
    connection: &mut impl ConnectionLike,
    keys: &LogKeys<'_>,
    body: &[u8],
    retention: Retention,
    idempotency: Option<&Idempotency<'_>>,
) -> RedisResult<Answer> {
    let count = retention.count.to_string();
    let (ttl, meta_ttl) = (millis(retention.ttl), millis(retention.meta_life()));
    let (random, bound) = (epochs::random_text(8), MAX_LEDGER.to_string());
    let fingerprint = idempotency.map(|idempotency| hex(&idempotency.fingerprint)).unwrap_or_default();
    let result_ttl = millis(idempotency.map_or(Duration::ZERO, |idempotency| idempotency.ttl));
    let args = [&count, &ttl, keys.topic, &meta_ttl, &random, &bound, &fingerprint, &result_ttl];
    let mut arguments = vec![body];
    arguments.extend(args.iter().map(|arg| arg.as_bytes()));
    let log = [keys.entries, keys.meta];
    let answer = match keys.result {
        Some(result) => script::PUBLISH.run(connection, &[log[0], log[1], result], &arguments).await?,
        None => script::PUBLISH.run(connection, &log, &arguments).await?,
    };
    parse(&answer).ok_or_else(|| super::unreadable("the publish script's answer"))
}

/// Announces in a channel without history, once for the key.
pub(crate) async fn announce_once(
    connection: &mut impl ConnectionLike,
    result: &str,
    topic: &str,
    message: &[u8],
    idempotency: &Idempotency<'_>,
) -> RedisResult<Answer> {
    let (fingerprint, ttl) = (hex(&idempotency.fingerprint), millis(idempotency.ttl));
    let arguments = [message, topic.as_bytes(), fingerprint.as_bytes(), ttl.as_bytes()];
    let answer = script::ANNOUNCE.run(connection, &[result], &arguments).await?;
    parse(&answer).ok_or_else(|| super::unreadable("the announce script's answer"))
}

fn parse(answer: &Value) -> Option<Answer> {
    let Value::Array(parts) = answer else { return None };
    let position = match (parts.get(1), parts.get(2)) {
        (Some(epoch), Some(offset)) => Some(Position {
            epoch: Epoch::parse(text(epoch)?)?,
            offset: match offset {
                Value::Int(offset) => u64::try_from(*offset).ok()?,
                offset => text(offset)?.parse().ok()?,
            },
        }),
        _ => None,
    };
    match text(parts.first()?)? {
        "done" => {
            let unannounced = parts.get(3).and_then(text).filter(|reason| !reason.is_empty()).map(str::to_owned);
            Some(Answer::Done { position, unannounced })
        }
        "duplicate" => Some(Answer::Duplicate(position)),
        "conflict" => Some(Answer::Conflict),
        _ => None,
    }
}
