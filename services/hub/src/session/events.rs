//! A session of plain server-sent events (WHATWG HTML, section 9.2): no commands, one stream of several channels, whose
//! `id:` is the cursor.
//!
//! The head of the response goes out before the channels are joined, so that `onopen` fires at once; a broker that is
//! away delays the event `ready`, it does not fail the stream (an `EventSource` would stop for good).
//!
//! A blank line follows an event and nothing else: several clients deliver an empty message for every blank line. So the
//! first lines (a comment and `retry:`) belong to the block that `ready` closes, a ping is a comment line, and the last
//! line is a `retry:` line, which every client reads when the line ends.
//!
//! A client that must not come back gets the event `disconnect` instead, whose id is [`STOP`]. `EventSource` reconnects
//! whatever it received, with that id: the answer 204 to it is what makes it stop (same standard, section 9.2.3).

use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use fanway_broker::log_limited;
use fanway_protocol::codec::json;
use fanway_protocol::cursor::STOP;
use fanway_protocol::framing::{chunk, sse};
use serde::Serialize;

use super::core::{Core, Output, OwnBytes};
use super::disconnect::Disconnect;
use super::join::Joins;
use super::protocol::{Protocol, Session};
use super::resume_points::{Resume, share};
use super::transport::Transport;
use crate::attach::Terms;
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::quota::Payer;

/// Legacy proxies drop a response that is silent for longer.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);
/// How long a client waits before it reconnects, unless it is told otherwise on leaving.
const RETRY: Duration = Duration::from_secs(2);

/// Channels that are being joined.
struct Joining {
    resume: Resume,
    joins: Joins,
}

/// How the bytes of a stream are delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By the transport: the end of the connection (HTTP/1.0), or frames of its own (HTTP/2).
    Plain,
    /// One chunk per event, ping or line that stands alone, and the last chunk at an orderly end. Clients that read in
    /// blocks of a fixed size pass on a chunk as it comes; without chunks they wait for the block to fill.
    Chunked,
}

/// Server-sent events, from the side of one connection.
pub struct EventStream {
    identity: Identity,
    /// The channels being joined, until they are.
    joining: Option<Box<Joining>>,
    next_heartbeat: Instant,
    /// The client was notified that its credential expires.
    expiry_announced: bool,
}

/// A session of server-sent events.
pub type EventSession = Session<EventStream>;

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl Protocol for EventStream {
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

    fn identity(&self) -> Option<&Identity> {
        Some(&self.identity)
    }

    /// A client of a stream has nothing more to say.
    fn on_input(_session: &mut EventSession, _input: &mut [u8], _now: Instant) {}

    fn poll(session: &mut EventSession, cx: &mut Context<'_>, now: Instant) {
        if let Some(joining) = &mut session.protocol.joining
            && joining.joins.poll(&session.core.hub.metrics, cx).is_ready()
            && let Some(joining) = session.protocol.joining.take()
        {
            session.joined(*joining, now);
        }
    }

    fn on_tick(session: &mut EventSession, now: Instant) {
        session.check_deadlines(now);
    }

    fn on_close(session: &mut EventSession, reason: CloseReason) {
        session.write_end(reason);
    }
}

#[derive(Serialize)]
struct Ready<'a> {
    cursor: &'a str,
}

#[derive(Serialize)]
struct AuthExpiring {
    /// Seconds since 1970.
    expires_at: u64,
}

impl EventSession {
    /// Starts to join the channels, which the caller has authorised and had admitted ([`Hub::admit`]). `head` is written before anything else, and as it is.
    pub fn new(
        hub: Arc<Hub>,
        identity: Identity,
        resume: Resume,
        handle: Arc<Handle>,
        head: Vec<u8>,
        framing: Framing,
        now: Instant,
    ) -> Self {
        let output = Output {
            transport: Transport::SSE,
            encoding: hub.built_in.event_lines,
            own_bytes: OwnBytes::Event { ids: None, chunked: framing == Framing::Chunked },
            announces_gaps: true,
        };
        let next_heartbeat = now + heartbeat_after(&hub);
        let mut core = Core::new(hub, output, handle, now, now + LONGEST_SILENCE);
        let terms = Terms { missed: usize::MAX, first_page: share(&resume.points), payer: Payer::Nobody };
        let joins = (0..).zip(&resume.points);
        let joins = joins.map(|(index, point)| core.join_within(&point.channel, point.from, index, None, terms));
        let joins = Joins::new(joins);
        core.identify(&identity);
        core.check_connections(&identity);
        *core.outbox.buffer() = head;
        let protocol = EventStream {
            identity: identity.without_rights(),
            joining: Some(Box::new(Joining { resume, joins })),
            next_heartbeat,
            expiry_announced: false,
        };
        let mut session = Self { core, protocol };
        let mut beginning = Vec::new();
        sse::write_comment("fanway", &mut beginning);
        write_retry(&mut beginning);
        session.write(&beginning);
        session.check_deadlines(now);
        session
    }

    /// Queues whole lines, as one chunk where there are chunks.
    fn write(&mut self, lines: &[u8]) {
        let chunked = self.chunked();
        let out = self.core.outbox.buffer();
        if chunked {
            chunk::write(lines, out);
        } else {
            out.extend_from_slice(lines);
        }
    }

    fn chunked(&self) -> bool {
        matches!(self.core.output.own_bytes, OwnBytes::Event { chunked: true, .. })
    }

    /// Subscribes all channels, and announces the stream's position, and each gap, before anything newer.
    ///
    /// Until the last gap is sent, a client that leaves must come back with its old cursor and get its gaps again. So the
    /// first event has the old cursor, as its id (which holds for the gaps after it) and in its data, from which some
    /// clients take it; only the last gap has the new one.
    fn joined(&mut self, joining: Joining, now: Instant) {
        let Joining { resume, joins } = joining;
        let mut gaps = Vec::new();
        for (index, join) in (0..).zip(joins) {
            match self.core.subscribe(join, now) {
                Ok(gap) => gaps.extend(gap.map(|reason| (index, reason))),
                Err(error) => {
                    let channel = resume.points.get(index as usize).map(|point| point.channel.as_str());
                    log_limited!(DEBUG, channel, %error, "stream not joined");
                    return self.core.close(error.close_reason());
                }
            }
        }
        let cursor = self.core.cursor();
        // Only a client that has a cursor gets gaps.
        let known = resume.id.as_deref().filter(|_| !gaps.is_empty()).unwrap_or(&cursor);
        self.write_event("ready", |out| json::write(&Ready { cursor: known }, out), Some(known));
        let last = gaps.len();
        for (at, (index, reason)) in gaps.into_iter().enumerate() {
            let Some(Some(sub)) = self.core.subs.get(index as usize) else { continue };
            let (channel, position) = (sub.channel().clone(), sub.position);
            let gap = |out: &mut Vec<u8>| json::write_gap(&channel, reason, position, out);
            self.write_event("gap", gap, (at + 1 == last).then_some(&*cursor));
        }
        let hashes = self.core.hashes().collect();
        if let OwnBytes::Event { ids, .. } = &mut self.core.output.own_bytes {
            *ids = Some(hashes);
        }
    }

    /// Queues a named event with the data that `data` appends, and an id.
    fn write_event(&mut self, name: &str, data: impl FnOnce(&mut Vec<u8>), id: Option<&str>) {
        let mut event = Vec::new();
        sse::write_event(Some(name), data, &mut event);
        if let Some(id) = id {
            sse::write_id(|out| out.extend_from_slice(id.as_bytes()), &mut event);
        }
        event.extend_from_slice(sse::END);
        self.write(&event);
    }

    /// Looks at the deadlines of the protocol, and schedules the nearest of all.
    fn check_deadlines(&mut self, now: Instant) {
        if self.core.closing.is_some() {
            return; // Nothing follows the last chunk.
        }
        if now >= self.protocol.next_heartbeat {
            // What waits already will break the silence.
            if self.core.outbox.is_empty() {
                self.write(sse::PING);
            }
            self.protocol.next_heartbeat = now + heartbeat_after(&self.core.hub);
        }
        let mut at = self.protocol.next_heartbeat;
        let grace = self.core.hub.limits.expiry_grace;
        if let Some((expires_at, left)) = self.protocol.identity.expires_at.zip(self.protocol.identity.left(grace)) {
            // Announced as long before the expiry as the stream lives on after it.
            let announced = grace.saturating_mul(2);
            if left.is_zero() {
                self.core.close(CloseReason::Expired);
            } else if left <= announced && !self.protocol.expiry_announced {
                self.protocol.expiry_announced = true;
                // Before the client has been told of its gaps it must not get the positions behind them.
                let id = match &self.protocol.joining {
                    Some(joining) => joining.resume.id.clone(),
                    None => Some(self.core.cursor()),
                };
                let event = AuthExpiring { expires_at: expires_at.get() };
                self.write_event("auth_expiring", |out| json::write(&event, out), id.as_deref());
            }
            let next = if self.protocol.expiry_announced { left } else { left.saturating_sub(announced) };
            // Not later than the next heartbeat: an expiry in a million years is no time that there is.
            at = at.min(now + next.min(LONGEST_SILENCE));
        }
        self.core.schedule(at);
    }

    /// The last line, which sets when to come back, or the event that says not to; and the end of the body.
    fn write_end(&mut self, reason: CloseReason) {
        // Channels that are joined from now on would add events behind the last chunk.
        self.protocol.joining = None;
        match Disconnect::permanent(reason) {
            Some(disconnect) => self.write_event("disconnect", |out| disconnect.write_json(out), Some(STOP)),
            None => {
                let mut last = Vec::new();
                write_retry(&mut last);
                self.write(&last);
            }
        }
        if self.chunked() {
            self.core.outbox.buffer().extend_from_slice(chunk::LAST);
        }
    }
}

/// How long until the next heartbeat: half to all of the longest silence, so that streams do not beat in step.
fn heartbeat_after(hub: &Hub) -> Duration {
    hub.limits.ping_interval.min(LONGEST_SILENCE).mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

/// Appends the line that sets when the client comes back.
fn write_retry(out: &mut Vec<u8>) {
    sse::write_retry(jittered(RETRY).as_millis() as u64, out);
}

/// Half to one and a half of a duration, so that clients do not come back in step.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.5 + rand::random::<f64>())
}
