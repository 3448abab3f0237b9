//! The client protocol (see `fanway_protocol::command`) in JSON over WebSocket.
//!
//! Commands take effect in the order sent. Subscribes begin at once and side by side, but each one's reply, and with it
//! its publications, waits for its turn; everything else begins in its turn. So a subscribe reply precedes that
//! subscription's publications, and nothing of a channel follows its unsubscribe reply.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanway_broker::log_limited;
use fanway_protocol::codec::json;
use fanway_protocol::command::Method;
use fanway_protocol::framing::websocket::{Decoder, Event, Limits, Opcode, close, frame};
use fanway_protocol::reply::{Push, Reply};
use fanway_protocol::{ErrorCode, UnsubscribeCode};
use uuid::Uuid;

use super::core::{Core, Output, OwnBytes};
use super::disconnect::Disconnect;
use super::ops::{Op, Queue};
use super::protocol::{Protocol, Session};
use super::rate::{Bucket, Rate, RateCheck};
use super::subscription::Resubscribe;
use super::transport::Transport;
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::hub::{Hub, unix_now};
use crate::identity::Identity;

/// Commands that may wait for their turn before the session stops reading.
const WAITING_COMMANDS: usize = 256;
/// Room for a reply.
const REPLY_BYTES: usize = 256;

/// Where the session stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing but connect is understood until the deadline.
    Unauthenticated {
        /// Ends the session (3502).
        deadline: Instant,
        /// A credential that came with the HTTP request.
        presented: Option<Box<Identity>>,
    },
    /// Connect is under way.
    Connecting,
    /// Connect was answered with an error, such as an expired token. What the client had sent along with it is ignored,
    /// and it leaves; at the deadline it is ended (3502).
    Refused {
        /// Ends the session (3502).
        deadline: Instant,
    },
    /// Everything is understood.
    Active(Box<Identity>),
}

/// Longest time from a message's first byte to its last. Time in which the node does not read does not count.
const MESSAGE_AGE: Duration = Duration::from_secs(30);

/// The client protocol, from the side of one connection.
pub struct Centrifugal {
    decoder: Decoder,
    /// Arrival of an incomplete message's first byte, or the end of the last pause in reading, whichever is later.
    incomplete_since: Option<Instant>,
    pub(super) phase: Phase,
    /// Commands whose turn has not come, in order.
    pub(super) ops: Queue,
    bucket: Bucket,
    /// One interval after the last ping.
    next_ping: Instant,
    /// Pings without their pongs; if there are any by [`ClientSession::pong_deadline`] the session ends (3012).
    pings_out: u8,
    /// The client is ahead of its rate of commands, and not read from.
    throttled: bool,
    /// It was so after the last ping: the pong may be among what was not read.
    pong_unread: bool,
}

/// A session of the client protocol.
pub type ClientSession = Session<Centrifugal>;

impl std::fmt::Debug for Centrifugal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Centrifugal").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Protocol for Centrifugal {
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

    fn identity(&self) -> Option<&Identity> {
        match &self.phase {
            Phase::Unauthenticated { presented, .. } => presented.as_deref(),
            Phase::Connecting => self.ops.iter().find_map(Op::connecting),
            Phase::Active(identity) => Some(identity),
            Phase::Refused { .. } => None,
        }
    }

    fn wants_input(session: &ClientSession) -> bool {
        let Self { throttled, ops, .. } = &session.protocol;
        !throttled && ops.len() < WAITING_COMMANDS && session.replies_fit()
    }

    fn on_input(session: &mut ClientSession, input: &mut [u8], now: Instant) {
        session.decode(input, now);
    }

    fn poll(session: &mut ClientSession, cx: &mut Context<'_>, now: Instant) {
        session.end_throttling(now);
        if !session.wants_input() {
            // The rest of the message may wait in the socket's buffer, unread because of the command rate or of replies.
            session.protocol.incomplete_since = session.protocol.incomplete_since.map(|_| now);
        }
        session.poll_ops(cx, now);
        let overdue = |since| now.saturating_duration_since(since) >= MESSAGE_AGE;
        if session.core.closing.is_none() && session.protocol.incomplete_since.is_some_and(overdue) {
            session.fail(Some(close::POLICY_VIOLATION), "message took too long", CloseReason::BadRequest);
        }
    }

    fn on_tick(session: &mut ClientSession, now: Instant) {
        session.end_throttling(now);
        session.check_deadlines(now);
        session.resubscribe_due(now);
        session.reschedule();
    }

    fn on_stall(session: &mut ClientSession, _now: Instant) {
        session.reschedule();
    }

    fn waits_for_room(session: &ClientSession) -> bool {
        !session.replies_fit()
    }

    fn on_relief(session: &mut ClientSession, now: Instant) {
        if session.protocol.pings_out > 0 {
            // Only now has the client had a chance to receive the ping.
            session.protocol.next_ping = now + session.core.hub.limits.ping_interval;
            session.reschedule();
        }
    }

    fn on_close(session: &mut ClientSession, reason: CloseReason) {
        session.protocol.ops.clear();
        let Disconnect { code, reason } = reason.into();
        frame::write_close(session.core.outbox.buffer(), Some(code.code()), reason);
    }
}

impl ClientSession {
    /// A session that waits for its connect command. `presented`: the credential of the HTTP request, verified, if any.
    pub fn new(hub: Arc<Hub>, presented: Option<Identity>, handle: Arc<Handle>, now: Instant) -> Self {
        let deadline = now + hub.limits.connect_timeout;
        let limits = Limits { max_message_bytes: hub.limits.message_size.as_u64() as usize, ..Limits::default() };
        let output = Output {
            transport: Transport::WEB_SOCKET,
            encoding: hub.built_in.json_frames,
            own_bytes: OwnBytes::None,
            announces_gaps: false,
        };
        let core = Core::new(hub, output, handle, now, deadline);
        // Found by its credential from the moment that this is accepted: the client may take its time to connect.
        presented.iter().for_each(|identity| core.identify(identity));
        let protocol = Centrifugal {
            decoder: Decoder::new(limits),
            incomplete_since: None,
            phase: Phase::Unauthenticated { deadline, presented: presented.map(Box::new) },
            ops: Queue::default(),
            bucket: Bucket::new(now),
            next_ping: deadline,
            pings_out: 0,
            throttled: false,
            pong_unread: false,
        };
        Self { core, protocol }
    }

    /// The connection's id, which its client is given, and others with its publications. Derived, so that an idle session
    /// need not keep it.
    pub(super) fn id(&self) -> Uuid {
        self.core.client_id()
    }

    /// The outbox: where the answer to the upgrade goes before anything else.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.core.outbox.buffer()
    }

    fn decode(&mut self, mut input: &mut [u8], now: Instant) {
        // One pong for all pings of a read: RFC 6455 section 5.5.3 asks for the newest only.
        let mut pong = None;
        let mut decoder = std::mem::replace(&mut self.protocol.decoder, Decoder::new(Limits::default()));
        while self.core.closing.is_none() {
            match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Text(text))) => {
                    // What is incomplete after this is a newer message.
                    self.protocol.incomplete_since = None;
                    self.on_frame(text, now);
                }
                Ok(Some(Event::Ping(payload))) => {
                    self.on_control(now);
                    pong = Some(Bytes::copy_from_slice(payload));
                }
                Ok(Some(Event::Pong(_) | Event::Binary(_))) => self.on_control(now),
                Ok(Some(Event::Close { code, .. })) => {
                    self.pong(pong.take());
                    self.fail(code, "", CloseReason::ConnectionClosed);
                }
                Err(fault) => {
                    self.pong(pong.take());
                    log_limited!(DEBUG, fault = fault.metric_label(), "websocket fault");
                    self.fail(Some(fault.close_code()), fault.reason(), CloseReason::BadRequest);
                }
            }
        }
        self.pong(pong);
        match decoder.in_progress() {
            true => _ = self.protocol.incomplete_since.get_or_insert(now),
            false => self.protocol.incomplete_since = None,
        }
        self.protocol.decoder = decoder;
    }

    /// Answers a ping, before anything that ends the connection: after a close frame nothing may follow.
    fn pong(&mut self, payload: Option<Bytes>) {
        if let Some(payload) = payload {
            frame::write(self.core.outbox.buffer(), Opcode::Pong, &payload);
        }
    }

    /// Ends the session with a close frame of its own.
    fn fail(&mut self, code: Option<u16>, text: &str, reason: CloseReason) {
        self.core.close(reason);
        self.protocol.ops.clear();
        if !std::mem::replace(&mut self.core.ended, true) {
            frame::write_close(self.core.outbox.buffer(), code, text);
        }
    }

    /// Reads from the client again once it is within its rate of commands.
    fn end_throttling(&mut self, now: Instant) {
        if self.protocol.throttled && now >= self.protocol.bucket.ready_at(self.rate()) {
            self.protocol.throttled = false;
            // The pause was the node's, not the client's.
            self.protocol.incomplete_since = self.protocol.incomplete_since.map(|_| now);
        }
    }

    /// Whether the client has read so much of its replies that more may be made. Until then commands wait for their turn.
    pub(super) fn replies_fit(&self) -> bool {
        self.core.outbox.replies() as u64 <= self.core.hub.limits.reply_buffer.as_u64()
    }

    /// Takes a control frame of the transport into account for the rate of commands.
    pub fn on_control(&mut self, now: Instant) {
        match self.protocol.bucket.take(self.rate(), now) {
            RateCheck::Within => {}
            RateCheck::Over if self.protocol.throttled => {}
            RateCheck::Over => {
                self.protocol.throttled = true;
                self.protocol.pong_unread = true;
                self.core.hub.metrics.command_rate_waits_total.inc();
                self.reschedule();
            }
            RateCheck::Beyond => self.core.close(CloseReason::TooManyRequests),
        }
    }

    fn rate(&self) -> Rate {
        Rate::new(self.core.hub.limits.command_rate, self.core.hub.limits.command_burst)
    }

    /// Takes a frame of commands.
    pub fn on_frame(&mut self, frame: &str, now: Instant) {
        for command in json::decode(frame) {
            // A pong that was asked for is no command of the client's choice. While the client waits for its rate they pile
            // up, and would put it ahead of the rate by themselves.
            let asked_for =
                self.protocol.pings_out > 0 && command.as_ref().is_ok_and(|command| command.method == Method::Pong);
            if !asked_for {
                self.on_control(now);
            }
            if self.core.closing.is_some() {
                return;
            }
            match command {
                Ok(command) => self.on_command(command, now),
                Err(error) => {
                    log_limited!(DEBUG, client = %self.id(), %error, "undecodable command");
                    self.core.close(CloseReason::BadRequest);
                    return;
                }
            }
        }
    }

    /// The answer to a ping of ours.
    pub(super) fn on_pong(&mut self) {
        match self.protocol.pings_out.checked_sub(1) {
            Some(left) => self.protocol.pings_out = left,
            None => self.core.close(CloseReason::BadRequest),
        }
        self.reschedule();
    }

    /// Deadlines of the protocol.
    fn check_deadlines(&mut self, now: Instant) {
        match &self.protocol.phase {
            Phase::Unauthenticated { deadline, .. } | Phase::Refused { deadline } if now >= *deadline => {
                self.core.close(CloseReason::Stale);
            }
            Phase::Active(identity) => {
                let grace = self.core.hub.limits.expiry_grace.as_secs();
                if identity.expires_at.is_some_and(|at| unix_now() >= at.saturating_add(grace)) {
                    self.core.close(CloseReason::Expired);
                }
                // A connection that is blocked has a deadline of its own, and a ping would be late.
                let quiet = !self.core.blocked();
                match self.pong_deadline() {
                    _ if !quiet => {}
                    Some(deadline) if now < deadline => {}
                    // Its client, too, would take the connection for dead without another ping.
                    Some(_) if self.protocol.pong_unread => self.ping(now),
                    Some(_) => self.core.close(CloseReason::NoPong),
                    None if now < self.protocol.next_ping => {}
                    None => self.ping(now),
                }
            }
            _ => {}
        }
    }

    /// Makes the client subscribe anew where it must: its next subscribe carries its position, and is answered with what
    /// it missed or with the truth that it cannot be had.
    fn resubscribe_due(&mut self, now: Instant) {
        for index in 0..self.core.subs.len() {
            let Some(sub) = &self.core.subs[index] else { continue };
            let Some(Resubscribe { gap, .. }) = sub.to_resubscribe().filter(|due| due.at <= now) else { continue };
            if sub.server_side {
                // SDKs drop an unsubscribed server-side subscription for good; a reconnect brings it back.
                return self.core.close(CloseReason::InsufficientState);
            }
            let code = UnsubscribeCode::InsufficientState;
            let reason = match gap {
                Some(gap) => format!("{}: {}", code.reason(), gap.as_str()).into(),
                None => code.reason().into(),
            };
            self.unsubscribe_push(index as u32, code, reason);
            if index >= self.core.subs.len() {
                break;
            }
        }
    }

    /// Ends a subscription from the server's side.
    pub(super) fn unsubscribe_push(&mut self, index: u32, code: UnsubscribeCode, reason: Cow<'static, str>) {
        let Some(Some(sub)) = self.core.subs.get(index as usize) else { return };
        let push = Push::Unsubscribe { channel: sub.channel().as_str(), code: code.code(), reason };
        frame::write_with(self.core.outbox.buffer(), Opcode::Text, |out| json::write_push(&push, out));
        self.core.remove(index);
    }

    fn ping(&mut self, now: Instant) {
        if let Some(out) = self.protocol.pings_out.checked_add(1) {
            frame::write(self.core.outbox.buffer(), Opcode::Text, json::PING);
            self.protocol.pings_out = out;
        }
        self.protocol.pong_unread = self.protocol.throttled;
        self.protocol.next_ping = now + self.core.hub.limits.ping_interval;
    }

    /// When the pongs that are awaited must be there: counted from the last ping, not kept, for an idle session should be
    /// small.
    fn pong_deadline(&self) -> Option<Instant> {
        let limits = &self.core.hub.limits;
        (self.protocol.pings_out > 0).then(|| self.protocol.next_ping - limits.ping_interval + limits.pong_timeout)
    }

    /// Enters the nearest deadline into the wheel.
    pub(super) fn reschedule(&mut self) {
        let now = Instant::now();
        let mut at = match &self.protocol.phase {
            Phase::Unauthenticated { deadline, .. } | Phase::Refused { deadline } => *deadline,
            Phase::Connecting => now + self.core.hub.limits.command_timeout,
            Phase::Active(identity) => {
                let mut at = match self.core.blocked() {
                    true => now + self.core.hub.limits.ping_interval,
                    false => self.pong_deadline().unwrap_or(self.protocol.next_ping),
                };
                if let Some(expires_at) = identity.expires_at {
                    let grace = self.core.hub.limits.expiry_grace;
                    let left = Duration::from_secs(expires_at.saturating_sub(unix_now())) + grace;
                    at = at.min(now + left);
                }
                at
            }
        };
        if self.protocol.throttled {
            at = at.min(self.protocol.bucket.ready_at(self.rate()));
        }
        for sub in self.core.subs.iter().flatten() {
            if let Some(due) = sub.to_resubscribe() {
                at = at.min(due.at);
            }
        }
        self.core.schedule(at);
    }

    /// The session is connected: pings begin, the first after a random part of the interval.
    pub(super) fn activate(&mut self, identity: Identity, now: Instant) {
        let part = 0.5 + 0.5 * rand::random::<f64>();
        self.protocol.next_ping = now + self.core.hub.limits.ping_interval.mul_f64(part);
        self.protocol.phase = Phase::Active(Box::new(identity));
        self.reschedule();
    }

    pub(super) fn reply(&mut self, reply: &Reply<'_>) {
        let buffer = self.core.outbox.buffer();
        // Most replies fit, so that the buffer does not grow by doubling from nothing.
        buffer.reserve(REPLY_BYTES);
        frame::write_with(buffer, Opcode::Text, |out| json::write_reply(reply, out));
    }

    pub(super) fn error(&mut self, id: u32, code: ErrorCode) {
        self.reply(&Reply::error(id, code));
    }

    /// An index for a subscription under way: neither in use nor reserved by a waiting command.
    pub(super) fn free_index(&self) -> u32 {
        let reserved: Vec<u32> = self.protocol.ops.iter().filter_map(Op::reserved).flatten().collect();
        (0..)
            .find(|index| !reserved.contains(index) && self.core.subs.get(*index as usize).is_none_or(Option::is_none))
            .unwrap_or(u32::MAX)
    }
}
