//! Input: frames of the transport, the commands in them, and the rate of both.

use std::time::Instant;

use bytes::Bytes;
use fanway_broker::log_limited;
use fanway_protocol::codec::json;
use fanway_protocol::command::Method;
use fanway_protocol::framing::websocket::{Decoder, Event, Limits, Opcode, frame};

use super::queue::Op;
use super::{ClientSession, Phase};
use crate::close_reason::CloseReason;
use crate::quota::{CHARGED, Kind, Limited, Payer, UNFINISHED_MESSAGES};
use crate::session::rate::{Rate, RateCheck};

/// What the commands of a frame count against the client's quotas.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    commands: u32,
    publications: u32,
    /// Bytes of their data.
    bytes: u32,
}

impl Spent {
    fn add(&mut self, method: &Method<'_>) {
        self.commands += 1;
        if let Method::Publish(request) = method {
            self.publications += 1;
            let bytes = request.data.map_or(0, str::len);
            self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }
}

impl ClientSession {
    pub(super) fn decode(&mut self, mut input: &mut [u8], now: Instant) {
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
        if self.core.closing.is_none() {
            self.protocol.decoder = decoder;
        }
        self.account_unfinished();
    }

    /// Accounts for the part of a message that is held for a client which has not connected, or is nobody.
    fn account_unfinished(&mut self) {
        let held = match &self.protocol.phase {
            Phase::Unauthenticated { .. } | Phase::Refused { .. } => self.protocol.decoder.held_bytes(),
            Phase::Active(identity) if identity.is_anonymous() => self.protocol.decoder.held_bytes(),
            Phase::Connecting | Phase::Active(_) => 0,
        };
        if held > 0 {
            let hub = &self.core.hub;
            let share = &mut self.protocol.rare.make().unfinished;
            for _ in 0..hub.unfinished.hold(share, &self.core.handle, held) {
                hub.count_limited(UNFINISHED_MESSAGES);
            }
        } else if let Some(rare) = self.protocol.rare.get_mut() {
            rare.unfinished = None;
            self.protocol.rare.tidy();
        }
    }

    /// Answers a ping, before anything that ends the connection: after a close frame nothing may follow.
    fn pong(&mut self, payload: Option<Bytes>) {
        if let Some(payload) = payload {
            frame::write(self.core.outbox.buffer(), Opcode::Pong, &payload);
        }
    }

    /// Ends the session with a close frame of its own.
    pub(super) fn fail(&mut self, code: Option<u16>, text: &str, reason: CloseReason) {
        self.core.close(reason);
        self.protocol.ops.clear();
        if !std::mem::replace(&mut self.core.ended, true) {
            frame::write_close(self.core.outbox.buffer(), code, text);
        }
    }

    /// Reads from the client again once it is within its rate of commands and its quotas.
    pub(super) fn end_throttling(&mut self, now: Instant) {
        if self.protocol.throttled && now >= self.throttled_until() {
            self.protocol.throttled = false;
            if let Some(rare) = self.protocol.rare.get_mut() {
                rare.paused_until = None;
                self.protocol.rare.tidy();
            }
            // The pause was the node's, not the client's.
            self.protocol.incomplete_since = self.protocol.incomplete_since.map(|_| now);
        }
    }

    /// When a client that is not read from will be read from again.
    pub(super) fn throttled_until(&self) -> Instant {
        let ready_at = self.protocol.bucket.ready_at(self.rate());
        self.protocol.rare.paused_until().map_or(ready_at, |until| until.max(ready_at))
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
                self.core.hub.metrics.command_rate_waits_total.inc();
                self.throttle();
            }
            RateCheck::Beyond => self.core.close(CloseReason::TooManyRequests),
        }
    }

    /// Reads nothing more from the client until [`ClientSession::end_throttling`].
    fn throttle(&mut self) {
        self.protocol.throttled = true;
        self.protocol.pong_unread = true;
        self.reschedule();
    }

    /// Charges a frame of commands to the client's quotas. It has been read, and is carried out; but beyond a quota nothing
    /// more is read until the debt is paid. Other connections of the user share it, and pause too once they send something.
    fn charge(&mut self, spent: Spent, now: Instant) {
        let identity = self.identity().or_else(|| self.protocol.ops.iter().find_map(Op::connecting));
        let address = self.protocol.rare.address();
        let payer = identity.map_or(Payer::Nobody, |identity| self.core.hub.payer(identity, address));
        if payer == Payer::Nobody {
            return;
        }
        let hub = &self.core.hub;
        let charges = [
            (Kind::Commands, spent.commands),
            (Kind::Publishes, spent.publications),
            (Kind::PublishedBytes, spent.bytes),
        ];
        let pauses = charges.into_iter().filter_map(|(kind, n)| hub.quotas.charge(payer, kind, n, now));
        let Some(longest) = pauses.max_by_key(|limited| limited.wait) else { return };
        self.pause(longest, now);
    }

    /// Pauses where other connections of the user have run into debt.
    pub(super) fn share_debt(&mut self, now: Instant) {
        let Phase::Active(identity) = &self.protocol.phase else { return };
        let hub = &self.core.hub;
        if self.protocol.throttled || !hub.quotas.has_debts(now) {
            return;
        }
        let payer = hub.payer(identity, self.protocol.rare.address());
        if let Some(longest) = hub.quotas.debt(payer, &CHARGED, now) {
            self.pause(longest, now);
        }
    }

    fn pause(&mut self, limited: Limited, now: Instant) {
        let (before, until) = (self.protocol.rare.paused_until(), now + limited.wait);
        if before.is_none() {
            self.core.hub.count_limited(limited.label);
        }
        self.protocol.rare.make().paused_until = Some(before.map_or(until, |before| before.max(until)));
        self.throttle();
    }

    pub(super) fn rate(&self) -> Rate {
        Rate::new(self.core.hub.limits.command_rate, self.core.hub.limits.command_burst)
    }

    /// Takes a frame of commands.
    pub fn on_frame(&mut self, frame: &str, now: Instant) {
        let mut spent = Spent::default();
        self.on_commands(frame, &mut spent, now);
        if self.core.closing.is_none() && spent.commands > 0 {
            self.charge(spent, now);
        }
    }

    fn on_commands(&mut self, frame: &str, spent: &mut Spent, now: Instant) {
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
                Ok(command) => {
                    if !asked_for {
                        spent.add(&command.method);
                    }
                    self.on_command(command, now);
                }
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
}
