//! Boundary between a session and the protocol that its client speaks.

use std::fmt;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use super::core::{Core, Output};
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::turn::Turn;

/// Protocol of a session: turns input into work of the [`Core`], and what the core and the hub report into bytes.
///
/// Publications and gaps never pass through it: the core writes them in the protocol's encoding
/// ([`crate::encoding::Encoder`]). Every other byte is the protocol's, and goes into the core's outbox in program order.
pub trait Protocol: Sized + Send + 'static {
    /// Longest time from the last bytes to the end of the connection.
    const CLOSE_TIMEOUT: Duration;

    /// Identity of the client, once its credential was accepted.
    fn identity(&self) -> Option<&Identity>;

    /// Whether input can be taken now. What is not taken stays with the socket.
    fn wants_input(_session: &Session<Self>) -> bool {
        true
    }

    /// Takes bytes that the client sent, and may change them.
    fn on_input(session: &mut Session<Self>, input: &mut [u8], now: Instant);

    /// Carries on what waits for something else: commands, channels that are being joined. Not after the last bytes.
    fn poll(session: &mut Session<Self>, cx: &mut Context<'_>, now: Instant);

    /// Looks at the deadlines, and schedules the nearest one.
    fn on_tick(session: &mut Session<Self>, now: Instant);

    /// The socket did not take everything: [`Core::schedule`] has the end of the stall as a deadline from now on.
    fn on_stall(session: &mut Session<Self>, now: Instant) {
        Self::on_tick(session, now);
    }

    /// Whether work waits until the client has taken bytes of the outbox.
    fn waits_for_room(_session: &Session<Self>) -> bool {
        false
    }

    /// The socket takes bytes again, and has taken everything.
    fn on_relief(_session: &mut Session<Self>, _now: Instant) {}

    /// Queues the last bytes. Called once; nothing follows them.
    fn on_close(session: &mut Session<Self>, reason: CloseReason);
}

/// A client's session: what every session has, and its protocol.
pub struct Session<P> {
    /// Subscriptions, outbox and timer.
    pub core: Core,
    /// State of the protocol.
    pub protocol: P,
}

impl<P: fmt::Debug> fmt::Debug for Session<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl<P: Protocol> Session<P> {
    /// A session of a protocol. `first`: time of its first tick. Where the node drains it closes at once.
    pub fn open(hub: Arc<Hub>, handle: Arc<Handle>, output: Output, protocol: P, now: Instant, first: Instant) -> Self {
        Self { core: Core::new(hub, output, handle, now, first), protocol }
    }

    /// The hub's end of this session.
    pub fn handle(&self) -> &Arc<Handle> {
        &self.core.handle
    }

    /// Reason to end the session, once there is one. What is pending is still to be written.
    pub fn closing(&self) -> Option<CloseReason> {
        self.core.closing
    }

    /// Whether the last bytes are queued.
    pub fn ended(&self) -> bool {
        self.core.ended
    }

    /// Ends the session.
    pub fn close(&mut self, reason: CloseReason) {
        self.core.close(reason);
    }

    /// Whether more input can be taken now.
    pub fn wants_input(&self) -> bool {
        self.core.closing.is_none() && P::wants_input(self)
    }

    /// Takes bytes that the client sent.
    pub fn on_input(&mut self, input: &mut [u8], now: Instant) {
        P::on_input(self, input, now);
    }

    /// Lets the session work: signals, deadlines, the protocol, catching up, the end.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.core.handle.register(cx.waker());
        let taken = self.core.take();
        if taken.mail {
            self.core.read_mail(self.protocol.identity());
        }
        if let Some(reason) = taken.close {
            self.core.close(reason);
        }
        // Nothing follows the last bytes, and the driver has a deadline of its own for what is pending.
        if taken.tick && self.core.closing.is_none() {
            self.core.on_tick(now);
            P::on_tick(self, now);
        }
        if !self.core.ended {
            P::poll(self, cx, now);
        }
        self.core.poll_catch_ups(now);
        self.end();
    }

    /// Queues the last bytes if the session is to end.
    pub fn end(&mut self) {
        if let Some(reason) = self.core.closing.filter(|_| !self.core.ended) {
            self.core.ended = true;
            P::on_close(self, reason);
        }
    }

    /// Takes dirty bits for a write outside of the session's task.
    pub fn take_marks(&mut self) {
        self.core.take_marks();
    }

    /// Whether the socket did not take all that was offered last: nothing is written until it takes more.
    pub fn blocked(&self) -> bool {
        self.core.blocked()
    }

    /// Whether there is something to gather.
    pub fn has_output(&self) -> bool {
        self.core.has_output()
    }

    /// Gathers a batch of output.
    pub fn gather(&mut self, turn: &mut Turn) {
        self.core.gather(turn);
    }

    /// Commits the bytes of a batch that the socket took, and rolls back the rest. Returns whether it took all.
    pub fn wrote(&mut self, turn: &mut Turn, written: usize, now: Instant) -> bool {
        let (waited, blocked) = (P::waits_for_room(self), self.core.blocked());
        let whole = self.core.wrote(turn, written, now);
        if waited && !P::waits_for_room(self) {
            self.core.handle.tick();
        }
        if !whole && self.core.closing.is_none() {
            // A stall may have lasted long enough by now.
            self.core.on_tick(now);
        }
        match (whole, blocked) {
            // The driver has a deadline of its own for the last bytes.
            _ if self.core.closing.is_some() => {}
            (true, true) => P::on_relief(self, now),
            (true, false) => {}
            (false, _) => P::on_stall(self, now),
        }
        whole
    }

    /// Reports whether the transport holds bytes that the peer has not taken (TLS keeps records of its own), and whether
    /// the peer takes some of them.
    pub fn stuck(&mut self, stuck: bool, moving: bool, now: Instant) {
        if self.core.stuck(stuck, moving, now) && self.core.closing.is_none() {
            P::on_stall(self, now);
        }
    }
}
