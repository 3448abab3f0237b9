//! Input: frames of the transport, the commands in them, and the rate of both.

use std::time::Instant;

use bytes::Bytes;
use fanway_broker::log_limited;
use fanway_protocol::codec::json;
use fanway_protocol::command::Method;
use fanway_protocol::framing::websocket::{Decoder, Event, Limits, Opcode, frame};

use super::ClientSession;
use crate::close_reason::CloseReason;
use crate::session::rate::{Rate, RateCheck};

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
        self.protocol.decoder = decoder;
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

    /// Reads from the client again once it is within its rate of commands.
    pub(super) fn end_throttling(&mut self, now: Instant) {
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

    pub(super) fn rate(&self) -> Rate {
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
}
