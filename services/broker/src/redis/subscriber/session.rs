//! One subscriber connection, from its making to its loss.

use std::future::pending;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use fanway_protocol::{Channel, envelope};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::Subscriber;
use crate::redis::dial::{Stream, dial};
use crate::redis::failure;
use crate::redis::resp::{self, Frame, Part};
use crate::redis::server::Server;
use crate::{Delivery, Event, Place};

/// Names in one command: enough that their cost is that of the names, few enough that Redis is not held up.
const CHUNK: usize = 500;
/// Space made before each read.
const READ: usize = 64 * 1024;
/// A buffer that grew beyond this for a large message is given back.
const KEEP: usize = 1 << 20;
/// Silence after which the server is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(3);
/// How long it may take to answer that.
const PONG: Duration = Duration::from_secs(2);
/// How often silence is looked for.
const TICK: Duration = Duration::from_millis(500);

/// Makes a connection, hears until it is lost, and returns why.
pub(super) async fn run(subscriber: &Subscriber, number: u64) -> String {
    let patience = subscriber.context.settings.connect_timeout;
    let mut input = BytesMut::with_capacity(READ);
    let (stream, server) = match timeout(patience, open(subscriber, &mut input)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(reason)) => return reason,
        Err(_) => return format!("no connection within {patience:?}"),
    };
    subscriber.hearing.server.set(server);
    subscriber.subscriptions.desk().connected();
    let mut session = Session { subscriber, number, input };
    match session.hear(stream).await {
        Ok(never) => match never {},
        Err(reason) => reason,
    }
}

/// Connects, logs in and asks which server answers.
async fn open(subscriber: &Subscriber, input: &mut BytesMut) -> Result<(Box<dyn Stream>, Server), String> {
    let target = &subscriber.context.target;
    let mut stream = dial(target).await.map_err(|error| error.to_string())?;
    if let Some(password) = target.login.password() {
        let words: Vec<_> = [Some("AUTH"), target.login.username(), Some(password)].into_iter().flatten().collect();
        ask(subscriber, &mut stream, input, &words).await?;
    }
    // While there is no subscription: after one the server answers no questions.
    let info = ask(subscriber, &mut stream, input, &["INFO", "server"]).await?;
    Ok((stream, Server::parse(&info)))
}

/// The answer to a command, before there are subscriptions.
async fn ask(
    subscriber: &Subscriber,
    stream: &mut Box<dyn Stream>,
    input: &mut BytesMut,
    words: &[&str],
) -> Result<String, String> {
    let mut output = BytesMut::new();
    resp::command(&mut output, words.iter().map(|word| word.as_bytes()));
    stream.write_all(&output).await.map_err(|error| error.to_string())?;
    loop {
        let (answer, length) = match resp::parse(input).map_err(|violation| violation.to_string())? {
            Some((Frame::Status(text) | Frame::Bulk(text), length)) => (String::from_utf8_lossy(text).into(), length),
            Some((Frame::Error(error), _)) => return Err(refusal(subscriber, error)),
            Some((Frame::Array(_), _)) => return Err(format!("an unexpected answer to {}", words[0])),
            None => {
                fill(stream, input).await?;
                continue;
            }
        };
        input.advance(length);
        return Ok(answer);
    }
}

/// What an error of the server means, with the cure if there is one. It never repeats what was sent.
fn refusal(subscriber: &Subscriber, error: &[u8]) -> String {
    let text = String::from_utf8_lossy(error);
    let (code, detail) = text.split_once(' ').unwrap_or((&text, ""));
    let error = redis::make_extension_error(code.to_owned(), Some(detail.to_owned()));
    failure::cure(&error, &subscriber.context.names).unwrap_or_else(|| failure::said(&error))
}

async fn fill(stream: &mut (impl AsyncReadExt + Unpin), input: &mut BytesMut) -> Result<(), String> {
    input.reserve(READ);
    match stream.read_buf(input).await {
        Ok(0) => Err("the server closed the connection".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes all of it. May be dropped and called again at any point.
async fn push(
    writer: &mut (impl AsyncWrite + Unpin),
    output: &mut BytesMut,
    unflushed: &mut bool,
) -> Result<(), String> {
    while !output.is_empty() {
        *unflushed = true;
        if writer.write_buf(output).await.map_err(|error| error.to_string())? == 0 {
            return Err("the connection takes no more".into());
        }
    }
    writer.flush().await.map_err(|error| error.to_string())?;
    *unflushed = false;
    Ok(())
}

struct Session<'a> {
    subscriber: &'a Subscriber,
    number: u64,
    /// What was read and is not a whole frame yet.
    input: BytesMut,
}

/// Something heard, not yet decoded.
enum Heard<'a> {
    Message(Channel, &'a [u8]),
    Restored(Channel),
}

impl Session<'_> {
    async fn hear(&mut self, stream: Box<dyn Stream>) -> Result<std::convert::Infallible, String> {
        let Subscriber { context, subscriptions, hearing, .. } = self.subscriber;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (mut output, mut unflushed) = (BytesMut::new(), false);
        let (nodes, echo) = (context.names.nodes().as_bytes(), context.names.echo().as_bytes());
        // The first two only show whether they are allowed: better now than when they are needed.
        resp::command(&mut output, [b"PING".as_slice()].into_iter());
        resp::command(&mut output, [b"UNSUBSCRIBE".as_slice(), echo].into_iter());
        // Confirmed in this order: a connection that hears its echo hears the other nodes too.
        resp::command(&mut output, [b"SUBSCRIBE".as_slice(), nodes, echo].into_iter());
        let mut replace = hearing.replace.subscribe();
        let begun = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        let (mut heard_at, mut asked_at) = (Instant::now(), None::<Instant>);
        loop {
            // What was already written has to leave before more is added, which bounds the buffer.
            if output.is_empty() {
                self.write_wishes(&mut output);
            }
            let pushed = async {
                if output.is_empty() && !unflushed {
                    pending().await
                } else {
                    push(&mut writer, &mut output, &mut unflushed).await
                }
            };
            tokio::select! {
                filled = fill(&mut reader, &mut self.input) => {
                    filled?;
                    (heard_at, asked_at) = (Instant::now(), None);
                    self.take_input(heard_at)?;
                }
                pushed = pushed => pushed?,
                () = subscriptions.changed.notified() => {}
                _ = replace.wait_for(|number| *number == self.number) => {
                    return Err("it was silent, and is replaced".into());
                }
                _ = tick.tick() => match asked_at {
                    _ if hearing.connection().is_none() && begun.elapsed() >= context.settings.subscribe_timeout => {
                        return Err("the server does not confirm subscriptions".into());
                    }
                    Some(asked_at) if asked_at.elapsed() >= PONG => return Err("the server does not answer".into()),
                    None if heard_at.elapsed() >= SILENCE => {
                        asked_at = Some(Instant::now());
                        resp::command(&mut output, [b"PING".as_slice()].into_iter());
                    }
                    _ => {}
                },
            }
        }
    }

    fn write_wishes(&self, output: &mut BytesMut) {
        let (subscribe, unsubscribe) = self.subscriber.subscriptions.desk().take_due(CHUNK);
        for (command, channels) in [("UNSUBSCRIBE", unsubscribe), ("SUBSCRIBE", subscribe)] {
            if channels.is_empty() {
                continue;
            }
            let topics: Vec<_> = channels.iter().map(|channel| self.subscriber.context.names.topic(channel)).collect();
            let words: Vec<_> = std::iter::once(command).chain(topics.iter().map(String::as_str)).collect();
            resp::command(output, words.iter().map(|word| word.as_bytes()));
        }
    }

    /// Hands over every whole frame that was read, as one batch.
    fn take_input(&mut self, received: Instant) -> Result<(), String> {
        let mut heard = Vec::new();
        let consumed = self.parse_input(&mut heard)?;
        let metrics = &self.subscriber.context.state.metrics;
        let mut messages = 0;
        let events: Vec<_> = heard
            .into_iter()
            .map(|heard| match heard {
                Heard::Restored(channel) => Event::Restored(channel),
                Heard::Message(channel, message) => {
                    messages += 1;
                    delivery(channel, message, received).unwrap_or_else(|unreadable| {
                        metrics.broker_unreadable_total.inc();
                        unreadable
                    })
                }
            })
            .collect();
        metrics.broker_events_total.inc_by(messages);
        if !events.is_empty() {
            self.subscriber.sink.on_events(events);
        }
        self.input.advance(consumed);
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::with_capacity(READ);
        }
        Ok(())
    }

    /// The whole frames in the input, and their length. Nothing is decoded while the desk is locked.
    fn parse_input<'a>(&'a self, heard: &mut Vec<Heard<'a>>) -> Result<usize, String> {
        let context = &self.subscriber.context;
        let mut desk = self.subscriber.subscriptions.desk();
        let mut consumed = 0;
        while let Some((frame, length)) =
            resp::parse(&self.input[consumed..]).map_err(|violation| violation.to_string())?
        {
            consumed += length;
            let parts = match frame {
                Frame::Array(parts) => parts,
                Frame::Error(error) => return Err(refusal(self.subscriber, error)),
                Frame::Status(_) | Frame::Bulk(_) => continue,
            };
            let [Some(Part::Bytes(kind)), Some(Part::Bytes(topic)), third, _] = parts else { continue };
            if topic == context.names.echo().as_bytes() {
                self.take_echo(kind, third);
                continue;
            }
            let Some(name) = context.names.channel_in(topic) else {
                self.take_announcement(kind, topic, third);
                continue;
            };
            match (kind, third) {
                (b"message", Some(Part::Bytes(message))) => {
                    heard.extend(desk.channel(name).map(|channel| Heard::Message(channel, message)));
                }
                (b"subscribe", _) => heard.extend(desk.subscribed(name).map(Heard::Restored)),
                (b"unsubscribe", _) => desk.unsubscribed(name),
                _ => {}
            }
        }
        Ok(consumed)
    }

    /// Something that is not of a channel: what a node says to the others.
    fn take_announcement(&self, kind: &[u8], topic: &[u8], payload: Option<Part<'_>>) {
        let Subscriber { context, announcements, .. } = self.subscriber;
        if let (b"message", Some(Part::Bytes(message))) = (kind, payload)
            && topic == context.names.nodes().as_bytes()
        {
            announcements.push(message);
        }
    }

    /// Something on this node's own pub/sub channel: its confirmation, which comes before that of any other, or an echo.
    fn take_echo(&self, kind: &[u8], payload: Option<Part<'_>>) {
        let Subscriber { context, hearing, .. } = self.subscriber;
        match (kind, payload) {
            (b"subscribe", _) => {
                context.state.subscriber(None);
                tracing::info!(connection = self.number, "the subscriber connection is up");
                hearing.connection.send_replace(Some(self.number));
            }
            (b"message", Some(Part::Bytes(nonce))) => {
                if let Some(nonce) = std::str::from_utf8(nonce).ok().and_then(|nonce| nonce.parse().ok()) {
                    hearing.echo.send_modify(|newest| *newest = (*newest).max(nonce));
                }
            }
            _ => {}
        }
    }
}

/// The event that a message is: the publication in it, or (as the error) that it could not be read.
fn delivery(channel: Channel, message: &[u8], received: Instant) -> Result<Event, Event> {
    let read =
        envelope::split_header(message).and_then(|(header, body)| Ok((header, envelope::decode(&channel, body)?)));
    let Ok((header, publication)) = read else { return Err(Event::Unreadable(channel)) };
    let place = header.map(|header| Place { position: header.position, previous_epoch: header.previous_epoch });
    Ok(Event::Publication(Delivery { channel, publication: publication.into(), place, received }))
}
