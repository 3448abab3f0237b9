//! Deadlines: of connect, of pings and pongs, of the credential, of subscriptions that must be made anew.

use std::time::{Duration, Instant};

use fanway_protocol::UnsubscribeCode;
use fanway_protocol::codec::json;
use fanway_protocol::framing::websocket::{Opcode, frame};

use super::queue::Op;
use super::{ClientSession, Phase};
use crate::channel::Trait;
use crate::close_reason::CloseReason;
use crate::hub::unix_now;
use crate::identity::Identity;
use crate::session::subscription::Resubscribe;

impl ClientSession {
    /// Acts on the deadlines that have passed.
    pub(super) fn check_deadlines(&mut self, now: Instant) {
        match &self.protocol.phase {
            Phase::Unauthenticated { deadline, .. } | Phase::Refused { deadline } if now >= *deadline => {
                self.core.close(CloseReason::Stale);
            }
            Phase::Active(identity) => {
                let grace = self.core.hub.limits.expiry_grace.as_secs();
                if identity.expires_at.is_some_and(|at| unix_now() >= at.get().saturating_add(grace)) {
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
    pub(super) fn resubscribe_due(&mut self, now: Instant) {
        for index in 0..self.core.subs.len() {
            let Some(sub) = &self.core.subs[index] else { continue };
            let Some(Resubscribe { gap, passed_over, .. }) = sub.to_resubscribe().filter(|due| due.at <= now) else {
                continue;
            };
            if sub.is(Trait::ServerSide) {
                // SDKs drop an unsubscribed server-side subscription for good; a reconnect brings it back.
                return self.core.close(CloseReason::InsufficientState);
            }
            if passed_over {
                let channel = sub.channel().clone();
                self.protocol.owed_gaps.add(channel);
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
            Phase::Connecting => {
                let held = self.protocol.ops.iter().find_map(Op::held_until);
                held.unwrap_or(now + self.core.hub.limits.command_timeout)
            }
            Phase::Active(identity) => {
                let mut at = match self.core.blocked() {
                    true => now + self.core.hub.limits.ping_interval,
                    false => self.pong_deadline().unwrap_or(self.protocol.next_ping),
                };
                if let Some(expires_at) = identity.expires_at {
                    let grace = self.core.hub.limits.expiry_grace;
                    let left = Duration::from_secs(expires_at.get().saturating_sub(unix_now())) + grace;
                    at = at.min(now + left);
                }
                at
            }
        };
        if self.protocol.throttled {
            at = at.min(self.throttled_until());
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
}
