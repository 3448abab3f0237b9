//! Common part of every session, whatever its protocol: subscriptions, an outbox, a timer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use fanway_protocol::{ChannelHash, Cursor, GapReason, Position};
use smallvec::SmallVec;
use uuid::Uuid;

use super::catch_up::CatchUps;
use super::subscription::Subscription;
use super::transport::Transport;
use crate::close_reason::CloseReason;
use crate::control::Message;
use crate::encoding::EncodingId;
use crate::entry::Entry;
use crate::handle::{Handle, MARK_BITS, Taken};
use crate::hub::Hub;
use crate::identity::Identity;
use crate::outbox::Outbox;
use crate::registry::Registered;
use crate::wheel::Timer;

/// Bytes of each entry that belong to one connection and frame the shared ones.
#[derive(Debug, Default)]
pub(crate) enum OwnBytes {
    /// Entries have no such bytes: they are concatenated, and coalesced runs of them are shared too.
    #[default]
    None,
    /// Server-sent events: the `id:` line and the blank line.
    Event {
        /// Hashes of the subscriptions' channels, which are in byte order (see [`super::Resume`]), for the cursor in the
        /// `id:` line. Without them, while channels are being joined, there is no such line.
        ids: Option<Box<[ChannelHash]>>,
        /// Each event is a chunk of a body in the chunked transfer coding.
        chunked: bool,
    },
}

/// Output of a session: its metrics and how entries are written.
#[derive(Debug)]
pub struct Output {
    /// Label of the session's metrics.
    pub(crate) transport: Transport,
    /// Encoding of the bytes that connections share.
    pub(crate) encoding: EncodingId,
    pub(crate) own_bytes: OwnBytes,
    /// The encoding has bytes for gaps. Otherwise a loss without a position to resume from ends the session.
    pub(crate) announces_gaps: bool,
}

impl Output {
    /// Output of entries in an encoding that has bytes for gaps too, and whose entries are concatenated.
    pub fn new(transport: Transport, encoding: EncodingId) -> Self {
        Self { transport, encoding, own_bytes: OwnBytes::None, announces_gaps: true }
    }
}

/// Common part of a session, which its protocol works with.
pub struct Core {
    pub(crate) hub: Arc<Hub>,
    pub(crate) handle: Arc<Handle>,
    pub(crate) output: Output,
    /// Its slot in the registry.
    slot: u32,
    timer: Option<Timer>,
    /// When it began.
    opened: Instant,
    /// By subscription index; a gap where one ended. The first, which most have no more than, is here and not behind a
    /// pointer.
    pub(crate) subs: SmallVec<[Option<Subscription>; 1]>,
    pub(crate) outbox: Outbox,
    /// Marks taken but not yet gathered.
    pub(super) marks: u64,
    /// When the connection last took bytes, while some wait.
    pub(super) stalled_since: Option<Instant>,
    /// Why the session ends; nothing is gathered any more.
    pub(crate) closing: Option<CloseReason>,
    /// The protocol has queued its last bytes.
    pub(super) ended: bool,
    /// When a publication of the current turn was received, for the latency.
    pub(super) oldest: Option<Instant>,
    pub(super) gathered: u64,
    /// What of the outbox is in the node's gauge.
    pub(super) accounted: usize,
    pub(super) catch_ups: Option<Box<CatchUps>>,
}

impl Core {
    /// A session that asks for its first tick at `first`.
    pub(crate) fn new(hub: Arc<Hub>, output: Output, handle: Arc<Handle>, now: Instant, first: Instant) -> Self {
        let metrics = hub.transport_metrics(output.transport);
        metrics.connections.inc();
        metrics.opened.inc();
        // The drop takes the slot back; nothing between here and there can fail.
        let Registered { slot, draining } = hub.registry.register(&handle);
        let timer = Some(hub.wheel.schedule(slot, None, first));
        let closing = draining.then_some(CloseReason::Shutdown);
        if handle.lasts() && closing.is_none() {
            hub.movable.fetch_add(1, Relaxed);
        }
        Self {
            hub,
            handle,
            output,
            slot,
            timer,
            opened: now,
            subs: SmallVec::new(),
            outbox: Outbox::default(),
            marks: 0,
            stalled_since: None,
            closing,
            ended: false,
            oldest: None,
            gathered: 0,
            accounted: 0,
            catch_ups: None,
        }
    }

    /// The id of the session's client.
    pub(crate) fn client_id(&self) -> Uuid {
        self.hub.registry.client_id(self.slot, &self.handle)
    }

    /// Hub of the session.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Outbox, to which a protocol appends its own bytes. They follow everything written so far, and precede all entries
    /// that are not gathered yet.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        self.outbox.buffer()
    }

    /// Reason for which the session ends, once there is one.
    pub fn closing(&self) -> Option<CloseReason> {
        self.closing
    }

    /// The client is authenticated, or has a new credential: the session is found by it from now on.
    pub fn identify(&self, identity: &Identity) {
        self.hub.identify(self.slot, identity);
    }

    /// Closes the session if its user has more than a user may have. It has been found by its user since before the check, so
    /// of those that begin at the same moment none is overlooked.
    pub(crate) fn check_connections(&mut self, identity: &Identity) {
        if self.hub.is_beyond_connections(identity, 0) {
            self.hub.beyond_connections();
            // It counts no more while it goes.
            self.forget_identity();
            self.close(CloseReason::TooManyRequests);
        }
    }

    /// The client's credential is of no use any more: the session is not found by it.
    pub(crate) fn forget_identity(&self) {
        self.hub.registry.forget(self.slot);
    }

    /// Carries out the messages of the mailbox, for a client with this identity.
    pub(crate) fn read_mail(&mut self, identity: Option<&Identity>) {
        for message in self.hub.registry.take_mail(self.slot) {
            match message {
                Message::Disconnect { target, reason } => {
                    if identity.is_some_and(|identity| target.includes(identity)) {
                        self.close(reason);
                    }
                }
            }
        }
    }

    /// Asks for a tick at a time, or at the nearest deadline that every session has (a stall, the connection's age) if that
    /// is earlier. Replaces the tick that was asked for last.
    pub fn schedule(&mut self, at: Instant) {
        let at = self.deadline().map_or(at, |deadline| at.min(deadline));
        self.timer = Some(self.hub.wheel.schedule(self.slot, self.timer.take(), at));
    }

    /// Ends the session. The first reason stays, unless one that outlasts it comes before the last bytes are queued. The
    /// protocol's last bytes follow what is pending.
    pub fn close(&mut self, reason: CloseReason) {
        match self.closing {
            None => {
                self.closing = Some(reason);
                self.abandon_pages();
                self.not_movable();
            }
            Some(before) if !self.ended && reason.outlasts(before) => self.closing = Some(reason),
            Some(_) => {}
        }
    }

    /// No longer counts among the sessions that could be moved elsewhere.
    fn not_movable(&self) {
        if self.handle.lasts() {
            self.hub.movable.fetch_sub(1, Relaxed);
        }
    }

    /// Deadlines that every session has: of a stall, of pages and of the connection's age.
    pub(super) fn on_tick(&mut self, now: Instant) {
        self.drop_pages(now);
        if self.stalled(now) {
            self.hub.metrics.slow_consumers_total.with_label_values(&["closed"]).inc();
            self.close(CloseReason::Slow);
        }
        self.check_age(now);
    }

    /// The nearest of the deadlines that every session has, if there is one.
    fn deadline(&self) -> Option<Instant> {
        [self.stall_deadline(), self.end_of_life()].into_iter().flatten().min()
    }

    /// When the connection is as old as it may become.
    pub(crate) fn end_of_life(&self) -> Option<Instant> {
        let max_age = self.hub.max_age?;
        // The moment of opening tells connections apart, and the hub's key makes it unpredictable.
        Some(self.opened + max_age.of(self.hub.hasher.hash_one(self.opened)))
    }

    /// Closes the connection if it is as old as it may become.
    pub(crate) fn check_age(&mut self, now: Instant) {
        if self.end_of_life().is_some_and(|end| now >= end) {
            self.close(CloseReason::MaxAge);
        }
    }

    /// Takes marks and signals. While the connection is blocked its marks stay with the handle.
    pub(crate) fn take(&mut self) -> Taken {
        let taken = if self.stalled_since.is_some() { self.handle.take_signals() } else { self.handle.take() };
        self.marks |= taken.marks;
        taken
    }

    /// Takes the marks, outside of the task. The signals stay for the wake-up that they have caused.
    pub(crate) fn take_marks(&mut self) {
        self.marks |= self.handle.take_marks();
    }

    /// Position of a subscription: of the last publication that was gathered for it. `None` where the channel has no
    /// positions.
    pub fn position(&self, index: u32) -> Option<Position> {
        self.subs.get(index as usize)?.as_ref()?.position
    }

    /// Ends a subscription: nothing of its channel is gathered any more.
    pub fn unsubscribe(&mut self, index: u32) {
        self.remove(index);
    }

    pub(crate) fn sub(&self, channel: &str) -> Option<u32> {
        let at = self.subs.iter().position(|sub| sub.as_ref().is_some_and(|sub| sub.channel().as_str() == channel))?;
        Some(at as u32)
    }

    /// Puts a subscription at its reserved index, and looks at its ring in the next turn.
    pub(crate) fn insert(&mut self, index: u32, subscription: Subscription) {
        let at = index as usize;
        if self.subs.len() <= at {
            // Most have one subscription, and those with many pay for each: little spare room.
            self.subs.reserve_exact(at + 1 + at / 8 - self.subs.len());
            self.subs.resize_with(at + 1, || None);
        }
        self.subs[at] = Some(subscription);
        self.mark(index);
    }

    pub(crate) fn mark(&mut self, index: u32) {
        self.marks |= 1 << (index as usize % MARK_BITS);
    }

    pub(crate) fn remove(&mut self, index: u32) {
        if let Some(sub) = self.subs.get_mut(index as usize) {
            *sub = None;
        }
        self.end_catch_up(index);
        while self.subs.last().is_some_and(Option::is_none) {
            self.subs.pop();
        }
        if self.subs.len() <= 1 {
            self.subs.shrink_to_fit();
        }
    }

    /// Whether a turn would find something.
    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty() || self.marks != 0
    }

    /// A subscription fell behind its ring. From its position it is caught up from the log; without one the loss is
    /// told: by a gap where the transport has one, by closing the connection where it has not.
    pub(super) fn overrun(&mut self, index: u32, tail: u64) {
        let Some(Some(sub)) = self.subs.get_mut(index as usize) else { return };
        let action = match sub.position {
            Some(_) => {
                self.fall_behind(index);
                "catch_up"
            }
            None if self.output.announces_gaps => {
                sub.next = tail;
                sub.give_back(Arc::new(Entry::gap(GapReason::Slow, None, Instant::now())));
                "gap"
            }
            None => {
                sub.next = tail;
                self.close(CloseReason::Slow);
                "closed"
            }
        };
        self.hub.metrics.slow_consumers_total.with_label_values(&[action]).inc();
    }

    /// The cursor of all subscriptions, which are in byte order of their channels.
    pub(crate) fn cursor(&self) -> String {
        Cursor::text(self.hashes().zip(self.positions()))
    }

    /// How cursors name the channels.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = ChannelHash> {
        self.subs.iter().flatten().map(|sub| ChannelHash::of(sub.channel()))
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = Option<Position>> {
        self.subs.iter().flatten().map(|sub| sub.position)
    }

    /// The socket takes bytes again. The marks that stayed with the handle meanwhile are taken now: they woke nobody, and
    /// as long as they stay, nothing newer does.
    pub(super) fn unblock(&mut self) {
        if self.stalled_since.take().is_some() {
            self.marks |= self.handle.take_marks();
            // Pages are read while the socket is not blocked.
            if self.catch_ups.is_some() {
                self.handle.tick();
            }
        }
    }

    /// Whether the socket did not take all that was offered last.
    pub(crate) fn blocked(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Whether the socket has taken nothing for too long.
    pub(crate) fn stalled(&self, now: Instant) -> bool {
        self.stalled_since.is_some_and(|since| now.saturating_duration_since(since) >= self.hub.limits.write_stall)
    }

    /// When a stall becomes one, or pages are dropped before, if bytes wait.
    pub(crate) fn stall_deadline(&self) -> Option<Instant> {
        let stall = self.stalled_since.map(|since| since + self.hub.limits.write_stall);
        [stall, self.page_deadline()].into_iter().flatten().min()
    }

    /// Tells whether the transport holds bytes that the peer has not taken, and whether the peer takes some of them.
    /// Returns whether a stall has begun.
    pub(crate) fn stuck(&mut self, stuck: bool, moving: bool, now: Instant) -> bool {
        match (stuck, self.stalled_since) {
            (true, Some(_)) if moving => {
                self.stalled_since = Some(now);
                false
            }
            (true, None) => {
                self.stalled_since = Some(now);
                true
            }
            (false, Some(_)) if self.outbox.is_empty() => {
                self.unblock();
                false
            }
            _ => false,
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.hub.wheel.cancel(self.slot, &timer);
        }
        self.hub.registry.unregister(self.slot);
        self.hub.metrics.outbox_bytes.sub(self.accounted as i64);
        if self.closing.is_none() {
            self.not_movable();
        }
        let reason = self.closing.map_or("client", CloseReason::metric_label);
        let metrics = self.hub.transport_metrics(self.output.transport);
        metrics.connections.dec();
        metrics.age.observe(self.opened.elapsed().as_secs_f64());
        self.hub.metrics.connections_closed_total.with_label_values(&[metrics.name, reason]).inc();
    }
}
