//! A session of the client protocol (see `fanway_protocol::command`) in JSON over WebSocket.
//!
//! Commands take effect in the order sent. Subscribes begin at once and side by side, but each one's reply, and with it
//! its publications, waits for its turn; everything else begins in its turn. So a subscribe reply precedes that
//! subscription's publications, and nothing of a channel follows its unsubscribe reply.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use fanway_broker::log_limited;
use fanway_protocol::codec::json;
use fanway_protocol::command::Method;
use fanway_protocol::framing::websocket::{Opcode, frame};
use fanway_protocol::reply::{Push, Reply};
use fanway_protocol::{ErrorCode, UnsubscribeCode};
use uuid::Uuid;

use super::core::{Core, Output, OwnBytes, Transport};
use super::ops::{Op, Queue};
use super::rate::{Bucket, Rate, RateCheck};
use super::subscription::Resubscribe;
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::hub::{Hub, unix_now};
use crate::identity::Identity;
use crate::turn::Turn;

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

/// A session of the client protocol.
pub struct ClientSession {
    pub(super) core: Core,
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

impl std::fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSession").field("id", &self.id()).field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl ClientSession {
    /// A session that waits for its connect command. `presented`: the credential of the HTTP request, verified, if any.
    pub fn new(hub: Arc<Hub>, presented: Option<Identity>, handle: Arc<Handle>, now: Instant) -> Self {
        let deadline = now + hub.limits.connect_timeout;
        let output = Output {
            transport: Transport::WebSocket,
            encoding: hub.built_in.json_frames,
            own_bytes: OwnBytes::None,
            announces_gaps: false,
        };
        let core = Core::new(hub, output, handle, now, deadline);
        // Found by its credential from the moment that this is accepted: the client may take its time to connect.
        presented.iter().for_each(|identity| core.identify(identity));
        Self {
            core,
            phase: Phase::Unauthenticated { deadline, presented: presented.map(Box::new) },
            ops: Queue::default(),
            bucket: Bucket::new(now),
            next_ping: deadline,
            pings_out: 0,
            throttled: false,
            pong_unread: false,
        }
    }

    /// The connection's id, which its client is given, and others with its publications. Derived, so that an idle session
    /// need not keep it.
    pub(super) fn id(&self) -> Uuid {
        self.core.client_id()
    }

    /// The hub's end of this session.
    pub fn handle(&self) -> &Arc<Handle> {
        &self.core.handle
    }

    /// Why the session ends, once it does. What is owed is still to be written before the close frame.
    pub fn closing(&self) -> Option<CloseReason> {
        self.core.closing
    }

    /// Ends the session.
    pub fn close(&mut self, reason: CloseReason) {
        self.core.close(reason);
    }

    /// Whether more input can be taken now.
    pub fn wants_input(&self) -> bool {
        self.core.closing.is_none() && !self.throttled && self.ops.len() < WAITING_COMMANDS && self.replies_fit()
    }

    /// Whether the client has read so much of its replies that more may be made. Until then commands wait for their turn.
    pub(super) fn replies_fit(&self) -> bool {
        self.core.outbox.replies() as u64 <= self.core.hub.limits.reply_buffer.as_u64()
    }

    /// Takes a control frame of the transport into account for the rate of commands.
    pub fn on_control(&mut self, now: Instant) {
        match self.bucket.take(self.rate(), now) {
            RateCheck::Within => {}
            RateCheck::Over if self.throttled => {}
            RateCheck::Over => {
                self.throttled = true;
                self.pong_unread = true;
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
            let asked_for = self.pings_out > 0 && command.as_ref().is_ok_and(|command| command.method == Method::Pong);
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
        match self.pings_out.checked_sub(1) {
            Some(left) => self.pings_out = left,
            None => self.core.close(CloseReason::BadRequest),
        }
        self.reschedule();
    }

    /// Lets the session work: signals, commands whose turn has come, catching up, deadlines.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.core.handle.register(cx.waker());
        if self.throttled && now >= self.bucket.ready_at(self.rate()) {
            self.throttled = false;
        }
        let taken = self.core.take();
        if taken.mail {
            self.core.read_mail(accepted_identity(&self.phase, &self.ops));
        }
        if let Some(reason) = taken.close {
            self.core.close(reason);
        }
        if taken.tick {
            self.on_tick(now);
        }
        self.poll_ops(cx, now);
        self.core.poll_catch_ups(now);
    }

    /// Takes the marks for a turn outside of the session's task.
    pub fn take_marks(&mut self) {
        self.core.take_marks();
    }

    /// Whether the socket did not take all that was offered last: nothing is written until it takes more.
    pub fn blocked(&self) -> bool {
        self.core.blocked()
    }

    /// Gathers a turn of output.
    pub fn gather(&mut self, turn: &mut Turn) {
        self.core.gather(turn);
    }

    /// Where the driver appends the transport's own frames, in the order of the session's replies.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.core.outbox.buffer()
    }

    /// Whether there is something to gather.
    pub fn has_output(&self) -> bool {
        self.core.has_output()
    }

    /// Tells how many bytes of a turn the socket took. Returns whether it took all.
    pub fn wrote(&mut self, turn: &mut Turn, written: usize, now: Instant) -> bool {
        let (held_back, blocked) = (!self.replies_fit(), self.core.blocked());
        let whole = self.core.wrote(turn, written, now);
        if held_back && self.replies_fit() {
            // Commands, and input, go on.
            self.core.handle.tick();
        }
        if blocked && whole && self.pings_out > 0 {
            // Only now has the client had a chance to hear of the ping.
            self.next_ping = now + self.core.hub.limits.ping_interval;
            self.reschedule();
        }
        if !whole {
            self.reschedule();
        }
        whole
    }

    /// Tells whether the transport holds bytes that the peer has not taken (TLS keeps records of its own), and whether the
    /// peer takes some of them.
    pub fn stuck(&mut self, stuck: bool, moving: bool, now: Instant) {
        if self.core.stuck(stuck, moving, now) {
            self.reschedule();
        }
    }

    fn on_tick(&mut self, now: Instant) {
        if self.core.closing.is_some() {
            return; // Nothing follows the close frame, and the driver has its own deadline for what is owed.
        }
        self.core.drop_pages(now);
        if self.core.stalled(now) {
            self.core.hub.metrics.slow_consumers_total.with_label_values(&["closed"]).inc();
            self.core.close(CloseReason::Slow);
        }
        self.core.check_age(now);
        match &self.phase {
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
                    Some(_) if self.pong_unread => self.ping(now),
                    Some(_) => self.core.close(CloseReason::NoPong),
                    None if now < self.next_ping => {}
                    None => self.ping(now),
                }
            }
            _ => {}
        }
        self.resubscribe_due(now);
        self.reschedule();
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
        if let Some(out) = self.pings_out.checked_add(1) {
            frame::write(self.core.outbox.buffer(), Opcode::Text, json::PING);
            self.pings_out = out;
        }
        self.pong_unread = self.throttled;
        self.next_ping = now + self.core.hub.limits.ping_interval;
    }

    /// When the pongs that are awaited must be there: counted from the last ping, not kept, for an idle session should be
    /// small.
    fn pong_deadline(&self) -> Option<Instant> {
        let limits = &self.core.hub.limits;
        (self.pings_out > 0).then(|| self.next_ping - limits.ping_interval + limits.pong_timeout)
    }

    /// Enters the nearest deadline into the wheel.
    pub(super) fn reschedule(&mut self) {
        let now = Instant::now();
        let mut at = match &self.phase {
            Phase::Unauthenticated { deadline, .. } | Phase::Refused { deadline } => *deadline,
            Phase::Connecting => now + self.core.hub.limits.command_timeout,
            Phase::Active(identity) => {
                let mut at = match self.core.blocked() {
                    true => now + self.core.hub.limits.ping_interval,
                    false => self.pong_deadline().unwrap_or(self.next_ping),
                };
                if let Some(expires_at) = identity.expires_at {
                    let grace = self.core.hub.limits.expiry_grace;
                    let left = Duration::from_secs(expires_at.saturating_sub(unix_now())) + grace;
                    at = at.min(now + left);
                }
                at
            }
        };
        if let Some(deadline) = self.core.stall_deadline() {
            at = at.min(deadline);
        }
        if self.throttled {
            at = at.min(self.bucket.ready_at(self.rate()));
        }
        if let Some(end) = self.core.end_of_life() {
            at = at.min(end);
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
        self.next_ping = now + self.core.hub.limits.ping_interval.mul_f64(part);
        self.phase = Phase::Active(Box::new(identity));
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
        let reserved: Vec<u32> = self.ops.iter().filter_map(Op::reserved).flatten().collect();
        (0..)
            .find(|index| !reserved.contains(index) && self.core.subs.get(*index as usize).is_none_or(Option::is_none))
            .unwrap_or(u32::MAX)
    }
}

/// The identity by which the session is found: of the credential that was accepted, even if connect is still under way.
fn accepted_identity<'s>(phase: &'s Phase, ops: &'s Queue) -> Option<&'s Identity> {
    match phase {
        Phase::Unauthenticated { presented, .. } => presented.as_deref(),
        Phase::Connecting => ops.iter().find_map(Op::connecting),
        Phase::Active(identity) => Some(identity),
        Phase::Refused { .. } => None,
    }
}
