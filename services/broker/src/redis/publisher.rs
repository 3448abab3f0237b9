//! Publishing: one script call, sent once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fanway_protocol::Position;
use fanway_protocol::envelope::{self, PLAIN_HEADER};
use redis::{RedisError, RedisResult, Value};

use super::connection::{Commands, Link};
use super::names::hex;
use super::pipe::{Pipe, Reply, Silence};
use super::refusals::Kind;
use super::resp::Command;
use super::script::{Head, SCRIPTS, Script};
use super::{Context, failure, millis, text};
use crate::{ANNOUNCEMENT_BYTES, BrokerError, Idempotency, Publish, Published, Refusal, Retention, epochs};

/// What a publish to a log has done, when it is answered with a place.
const LOGGED: &[Kind] = &[Kind::Log, Kind::Announcement, Kind::SelfTest];
/// What a publish past all logs has done.
const PLAIN: &[Kind] = &[Kind::Plain];

/// Publishes over the connection for commands.
pub(crate) struct Publisher {
    pub(crate) context: Arc<Context>,
    pub(crate) commands: Arc<Commands>,
}

impl Publisher {
    /// Publishes. Repeats an attempt without answer once, and only with an idempotency key, which makes that harmless.
    ///
    /// What is awaited here is small, and all that seldom happens is apart: this future is a part of that of every
    /// request, and is moved with it.
    pub(crate) async fn publish(&self, request: &Publish<'_>, begun: Instant) -> Result<Published, BrokerError> {
        if !self.context.state.is_readable(&request.publication) {
            return Err(BrokerError::FleetVersion);
        }
        let Some(link) = self.commands.link() else {
            return Err(BrokerError::Unavailable(self.context.state.commands_trouble()));
        };
        let reply = link.pipe.ask_since(&self.written(request, None), begun.into()).await;
        if let Ok(reply) = &reply {
            // Nearly every answer is a place, or for a channel without history a number.
            let position = place_in(reply.frame());
            if position.is_some() || reply.frame().starts_with(b":") {
                self.context.state.publish_done(if position.is_some() { LOGGED } else { PLAIN });
                return Ok(Published { position, duplicate: false });
            }
        }
        Box::pin(self.settle(link, request, reply)).await
    }

    /// Tells every node something, once: what is lost is followed by the next.
    pub(crate) async fn announce(&self, message: &[u8]) -> Result<(), BrokerError> {
        if message.len() > ANNOUNCEMENT_BYTES {
            return Err(BrokerError::Unavailable(format!("an announcement has at most {ANNOUNCEMENT_BYTES} bytes")));
        }
        let Some(link) = self.commands.link() else {
            return Err(BrokerError::Unavailable(self.context.state.commands_trouble()));
        };
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.context.names.nodes()).arg(message);
        let sent = command.query_async::<Value>(&mut link.pipe.clone()).await;
        sent.map(drop).map_err(|error| {
            self.report(&link, &error);
            failure::of_publish(&error)
        })
    }

    /// Goes on after the first reply.
    async fn settle(
        &self,
        link: Link,
        request: &Publish<'_>,
        reply: Result<Reply, Silence>,
    ) -> Result<Published, BrokerError> {
        let unknown = match self.attempted(link, request, reply).await {
            Err(unknown @ BrokerError::OutcomeUnknown(_)) if request.idempotency.is_some() => unknown,
            outcome => return outcome,
        };
        let Some(link) = self.commands.link_within(self.context.settings.command_timeout).await else {
            return Err(unknown);
        };
        let reply = link.pipe.ask(&self.written(request, None)).await;
        match self.attempted(link, request, reply).await {
            // Of the second attempt this is proven, not of the first.
            Err(BrokerError::Unavailable(_) | BrokerError::Refused { .. }) => Err(unknown),
            outcome => outcome,
        }
    }

    /// What an attempt has come to.
    async fn attempted(
        &self,
        link: Link,
        request: &Publish<'_>,
        reply: Result<Reply, Silence>,
    ) -> Result<Published, BrokerError> {
        let answer = match script_of(request) {
            Some(script) => {
                let again = |head: Head<'_>| self.written(request, Some(head));
                understood(&link.pipe, &self.context.functions, script, reply, again).await
            }
            None => match reply {
                Ok(reply) => reply.value().map(|_| Answer::Done { position: None, unannounced: None }),
                Err(silence) => Err(silence.into()),
            },
        };
        match answer {
            Ok(Answer::Done { position, unannounced }) => {
                let state = &self.context.state;
                let log = position.is_some();
                match unannounced {
                    None => state.publish_done(if log { LOGGED } else { PLAIN }),
                    Some(reason) => {
                        // Subscribers find it by their position check.
                        state.metrics.broker_unannounced_total.inc();
                        state.publish_done(&[Kind::Log]);
                        let cause = failure::refusal(&reason).unwrap_or(Refusal::Other);
                        state.publish_refused(Kind::Announcement, cause, reason);
                    }
                }
                Ok(Published { position, duplicate: false })
            }
            Ok(Answer::Duplicate(position)) => Ok(Published { position, duplicate: true }),
            Ok(Answer::Conflict) => Err(BrokerError::IdempotencyConflict),
            Err(error) => {
                self.report(&link, &error);
                let failed = failure::of_publish(&error);
                if let BrokerError::Refused { cause, reason } = &failed {
                    let kind = if request.retention.keeps_log() { Kind::Log } else { Kind::Plain };
                    self.context.state.publish_refused(kind, *cause, reason.clone());
                }
                Err(failed)
            }
        }
    }

    /// Has the connection replaced if the error says that it is of no use.
    fn report(&self, link: &Link, error: &RedisError) {
        if failure::is_replica(error) || error.is_connection_dropped() {
            self.commands.complain(link, failure::said(error));
        }
    }

    /// The command, with another head than the usual one if that is known to be needed.
    fn written(&self, request: &Publish<'_>, head: Option<Head<'_>>) -> Vec<u8> {
        let Publish { channel, publication, retention, idempotency } = request;
        let Context { names, functions, .. } = &*self.context;
        let [entries, meta, topic] = names.before_channel().map(|before| [before, channel.as_str(), "}"]);
        let Some(script) = script_of(request) else {
            let message = envelope::encode_after(PLAIN_HEADER, channel, publication);
            let mut bytes = Vec::with_capacity(message.len() + 400);
            let mut command = Command::begin(&mut bytes, 3);
            command.word([b"PUBLISH"]);
            command.word(topic.map(str::as_bytes));
            command.word([&message]);
            command.end();
            return bytes;
        };
        let head = head.unwrap_or_else(|| script.head(functions.load(Ordering::Relaxed)));
        let result = idempotency.map(|idempotency| names.result(channel, idempotency.key));
        match (idempotency, &result) {
            (Some(idempotency), Some(result)) if !retention.keeps_log() => {
                let message = envelope::encode_after(PLAIN_HEADER, channel, publication);
                write_announce(head, result, &topic.concat(), &message, idempotency)
            }
            _ => {
                let log = Log { entries, meta, topic, result: result.as_deref() };
                write_append(head, &log, &envelope::encode(channel, publication), *retention, idempotency.as_ref())
            }
        }
    }
}

/// The script that publishes this; none for what is just announced.
fn script_of(request: &Publish<'_>) -> Option<&'static Script> {
    match (request.retention.keeps_log(), request.idempotency) {
        (true, _) => Some(&SCRIPTS.publish),
        (false, Some(_)) => Some(&SCRIPTS.announce),
        (false, None) => None,
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
    let write = |head: Head<'_>| write_append(head, log, body, retention, idempotency);
    let reply = pipe.ask(&write(SCRIPTS.publish.head(functions.load(Ordering::Relaxed)))).await;
    understood(pipe, functions, &SCRIPTS.publish, reply, write).await
}

fn write_append(
    head: Head<'_>,
    log: &Log<'_>,
    body: &[u8],
    retention: Retention,
    idempotency: Option<&Idempotency<'_>>,
) -> Vec<u8> {
    let with_result = log.result.is_some() && idempotency.is_some();
    let names = log.entries[1].len() * 3;
    let mut bytes = Vec::with_capacity(head.len() + body.len() + names + 400);
    let mut command = head.begin(&mut bytes, if with_result { 3 } else { 2 }, if with_result { 8 } else { 6 });
    command.word(log.entries.map(str::as_bytes));
    command.word(log.meta.map(str::as_bytes));
    if let Some(result) = log.result.filter(|_| with_result) {
        command.word([result.as_bytes()]);
    }
    command.word([body]);
    command.number(u64::from(retention.count));
    command.number(millis(retention.ttl));
    command.word(log.topic.map(str::as_bytes));
    command.number(millis(retention.meta_life()));
    command.word([&epochs::salt()]);
    if let Some(idempotency) = idempotency.filter(|_| with_result) {
        command.word([hex(&idempotency.fingerprint).as_bytes()]);
        command.number(millis(idempotency.ttl));
    }
    command.end();
    bytes
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
    let write = |head: Head<'_>| write_announce(head, result, topic, message, idempotency);
    let reply = pipe.ask(&write(SCRIPTS.announce.head(functions.load(Ordering::Relaxed)))).await;
    understood(pipe, functions, &SCRIPTS.announce, reply, write).await
}

fn write_announce(head: Head<'_>, result: &str, topic: &str, message: &[u8], idempotency: &Idempotency<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(head.len() + message.len() + 1024);
    let mut command = head.begin(&mut bytes, 1, 4);
    command.word([result.as_bytes()]);
    command.word([message]);
    command.word([topic.as_bytes()]);
    command.word([hex(&idempotency.fingerprint).as_bytes()]);
    command.number(millis(idempotency.ttl));
    command.end();
    bytes
}

/// What a script's reply says. If it is that the server does not know the script, asks again.
async fn understood(
    pipe: &Pipe,
    functions: &AtomicBool,
    script: &Script,
    reply: Result<Reply, Silence>,
    write: impl Fn(Head<'_>) -> Vec<u8>,
) -> RedisResult<Answer> {
    let value = match reply?.value() {
        Err(error) => match script.recover(&mut pipe.clone(), functions, &error).await {
            Some(head) => pipe.ask(&write(head)).await?.value()?,
            None => return Err(error),
        },
        Ok(value) => value,
    };
    parse(&value).ok_or_else(|| super::unreadable("a script's answer"))
}

/// A place as a bulk string, read where it stands.
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
        "unannounced" => Some(Answer::Done { position, unannounced: Some(parts.get(2).and_then(text)?.to_owned()) }),
        "duplicate" => Some(Answer::Duplicate(position)),
        "conflict" => Some(Answer::Conflict),
        _ => None,
    }
}
