//! Publishing: one script call, sent once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fanway_protocol::envelope::{self, PLAIN_HEADER};
use fanway_protocol::Position;
use redis::{RedisError, RedisResult, Value};

use super::connection::{Commands, Link};
use super::names::hex;
use super::pipe::Pipe;
use super::resp::Command;
use super::script::{Head, SCRIPTS, Script};
use super::{Context, failure, millis, text};
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

    async fn attempt(&self, link: Link, request: &Publish<'_>) -> Result<Published, BrokerError> {
        let answer = self.send(&link.pipe, request).await;
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

    async fn send(&self, pipe: &Pipe, request: &Publish<'_>) -> RedisResult<Answer> {
        let Publish { channel, publication, retention, idempotency } = request;
        let Context { names, functions, .. } = &*self.context;
        let [entries, meta, topic] = names.before_channel().map(|before| [before, channel.as_str(), "}"]);
        let result = idempotency.map(|idempotency| names.result(channel, idempotency.key));
        if retention.keeps_log() {
            let log = Log { entries, meta, topic, result: result.as_deref() };
            let body = envelope::encode(channel, publication);
            return append(pipe, functions, &log, &body, *retention, idempotency.as_ref()).await;
        }
        let message = envelope::encode_after(PLAIN_HEADER, channel, publication);
        match (idempotency, result) {
            (Some(idempotency), Some(result)) => {
                announce_once(pipe, functions, &result, &topic.concat(), &message, idempotency).await
            }
            _ => {
                let mut bytes = Vec::with_capacity(message.len() + 320);
                let mut command = Command::begin(&mut bytes, 3);
                command.word(&[b"PUBLISH"]);
                command.word(&topic.map(str::as_bytes));
                command.word(&[&message]);
                pipe.ask(&bytes).await?.value()?;
                Ok(Answer::Done { position: None, unannounced: None })
            }
        }
    }
}

/// Where a publication of a channel with history goes. Names in pieces.
pub(crate) struct Log<'a> {
    pub(crate) entries: [&'a str; 3],
    pub(crate) meta: [&'a str; 3],
    pub(crate) topic: [&'a str; 3],
    /// With an idempotency key.
    pub(crate) result: Option<&'a str>,
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
    pipe: &Pipe,
    functions: &AtomicBool,
    log: &Log<'_>,
    body: &[u8],
    retention: Retention,
    idempotency: Option<&Idempotency<'_>>,
) -> RedisResult<Answer> {
    call(pipe, functions, &SCRIPTS.publish, |(call, script): Head<'_>| {
        let with_result = usize::from(log.result.is_some());
        let mut bytes = Vec::with_capacity(body.len() + script.len() + 1024);
        let mut command = Command::begin(&mut bytes, 11 + 3 * with_result);
        command.word(&[call.as_bytes()]);
        command.word(&[script.as_bytes()]);
        command.number(2 + with_result as u64);
        command.word(&log.entries.map(str::as_bytes));
        command.word(&log.meta.map(str::as_bytes));
        if let Some(result) = log.result {
            command.word(&[result.as_bytes()]);
        }
        command.word(&[body]);
        command.number(u64::from(retention.count));
        command.number(millis(retention.ttl));
        command.word(&log.topic.map(str::as_bytes));
        command.number(millis(retention.meta_life()));
        command.word(&[&epochs::salt()]);
        if let (Some(_), Some(idempotency)) = (log.result, idempotency) {
            command.word(&[hex(&idempotency.fingerprint).as_bytes()]);
            command.number(millis(idempotency.ttl));
        }
        bytes
    })
    .await
}

/// Announces in a channel without history, once for the key.
pub(crate) async fn announce_once(
    pipe: &Pipe,
    functions: &AtomicBool,
    result: &str,
    topic: &str,
    message: &[u8],
    idempotency: &Idempotency<'_>,
) -> RedisResult<Answer> {
    call(pipe, functions, &SCRIPTS.announce, |(call, script): Head<'_>| {
        let mut bytes = Vec::with_capacity(message.len() + script.len() + 1024);
        let mut command = Command::begin(&mut bytes, 8);
        command.word(&[call.as_bytes()]);
        command.word(&[script.as_bytes()]);
        command.number(1);
        command.word(&[result.as_bytes()]);
        command.word(&[message]);
        command.word(&[topic.as_bytes()]);
        command.word(&[hex(&idempotency.fingerprint).as_bytes()]);
        command.number(millis(idempotency.ttl));
        bytes
    })
    .await
}

/// Calls a script, and once more if the server does not know it.
async fn call(
    pipe: &Pipe,
    functions: &AtomicBool,
    script: &Script,
    write: impl Fn(Head<'_>) -> Vec<u8>,
) -> RedisResult<Answer> {
    let reply = pipe.ask(&write(script.head(functions.load(Ordering::Relaxed)))).await?;
    if let Some(position) = place_in(reply.frame()) {
        return Ok(Answer::Done { position: Some(position), unannounced: None });
    }
    let value = match reply.value() {
        Err(error) => match script.recover(&mut pipe.clone(), functions, &error).await {
            Some(head) => pipe.ask(&write(head)).await?.value()?,
            None => return Err(error),
        },
        Ok(value) => value,
    };
    parse(&value).ok_or_else(|| super::unreadable("a script's answer"))
}

/// The answer of nearly every publish, read where it stands: a place as a bulk string.
fn place_in(frame: &[u8]) -> Option<Position> {
    let text = frame.strip_prefix(b"$")?.strip_suffix(b"\r\n")?;
    let begin = text.iter().position(|byte| *byte == b'\n')?;
    super::place(&text[begin + 1..])
}

fn parse(answer: &Value) -> Option<Answer> {
    let parts = match answer {
        Value::BulkString(place) => {
            return Some(Answer::Done { position: Some(super::place(place)?), unannounced: None });
        }
        Value::Array(parts) => parts,
        _ => return None,
    };
    let position = match parts.get(1) {
        Some(place) => Some(super::place(text(place)?.as_bytes())?),
        None => None,
    };
    match text(parts.first()?)? {
        "done" => Some(Answer::Done { position, unannounced: None }),
        "unannounced" => {
            Some(Answer::Done { position, unannounced: Some(parts.get(2).and_then(text)?.to_owned()) })
        }
        "duplicate" => Some(Answer::Duplicate(position)),
        "conflict" => Some(Answer::Conflict),
        _ => None,
    }
}
