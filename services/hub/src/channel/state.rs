//! State of a channel: whether its feed is confirmed, its sequencer, its reads of the log, its subscribers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_protocol::{Position, Publication};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::moment::Moment;
use crate::sequencer::Sequencer;
use crate::subscribers::Subscribers;

/// State of a channel, behind its lock.
#[derive(Debug)]
pub(crate) struct State {
    /// `None` for a channel without history: its feed is passed on as heard.
    pub(crate) sequencer: Option<Sequencer<Arc<Publication>>>,
    /// The broker delivers this channel.
    pub(super) confirmed: bool,
    /// How often the feed broke. A confirmation asked for before it broke says nothing about the feed of now.
    pub(super) breaks: u32,
    /// Since when it is not confirmed, if it is not.
    pub(super) silent_since: Moment,
    /// A repair task is at work; there is at most one.
    pub(crate) repairing: bool,
    /// The feed was restored, and the log has not been compared with the stream since: what the log has lost meanwhile is
    /// found even if nobody wants the channel at the moment.
    pub(super) uncompared: bool,
    /// Removed from the hub; whoever still holds it must look the channel up again.
    pub(crate) dead: bool,
    /// Attaches under way; keeps the channel from being removed.
    pub(crate) interest: u32,
    /// Number of the newest read of the log.
    pub(super) reads: u32,
    /// Number of the newest read that was answered and left the stream live.
    pub(super) verified: u32,
    /// When a publication with a position was last received. Publishing it refreshed the log's meta data.
    pub(crate) active: Moment,
    /// When the last of those left who want the channel.
    pub(crate) idle_since: Moment,
    pub(super) subscribers: Subscribers,
    /// Rung when the channel may have become ready for attaching; none while nobody waits for that.
    pub(super) changed: Option<Arc<Notify>>,
}

impl State {
    /// Whether the broker delivers this channel.
    pub(crate) fn confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether somebody is subscribed, or about to be.
    pub(crate) fn wanted(&self) -> bool {
        !self.dead && (self.subscribers() > 0 || self.interest > 0)
    }

    /// What to hand to [`State::confirm`] later; taken before the broker is asked to deliver the channel.
    pub(crate) fn breaks(&self) -> u32 {
        self.breaks
    }

    /// The broker has confirmed that it delivers the channel, asked when the feed had broken so often. If it broke again
    /// meanwhile, the confirmation may be of the old feed, and is not taken.
    pub(crate) fn confirm(&mut self, breaks: u32) {
        if self.confirmed || self.breaks != breaks {
            return;
        }
        self.confirmed = true;
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.restored();
        }
    }

    /// Whether the feed has been broken for so long that its return may have been missed: it can be confirmed to a call
    /// before this channel hears that it broke at all.
    pub(crate) fn forgotten(&self, now: Instant, patience: Duration) -> bool {
        self.wanted() && !self.confirmed && !self.repairing && self.silent_since.ago(now) >= patience
    }

    /// Whether a repair task has something to do.
    pub(crate) fn needs_repair(&self) -> bool {
        self.confirmed
            && !self.repairing
            && self.sequencer.as_ref().is_some_and(Sequencer::needs_read)
            && self.is_read()
    }

    /// Whether its log is read where it must be. Not for a channel that nobody wants, which the next attach repairs; but for
    /// one that lingers, once after the feed broke.
    pub(crate) fn is_read(&self) -> bool {
        self.wanted() || self.uncompared && !self.dead
    }

    /// Whether a subscriber can be attached now.
    pub(crate) fn ready(&self) -> bool {
        self.confirmed && self.sequencer.as_ref().is_none_or(Sequencer::is_live)
    }

    /// Whether no publication came for so long that the position is to be checked and the log's meta data refreshed. A read
    /// of the log is no substitute: it does not put off the log's expiry.
    pub(crate) fn check_due(&self, now: Instant, silence: Duration) -> bool {
        let Some(sequencer) = &self.sequencer else { return false };
        self.active.ago(now) >= silence || sequencer.is_unrecorded()
    }

    /// A read of the log begins.
    pub(crate) fn begin_read(&mut self) {
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.asked();
            self.reads = self.reads.wrapping_add(1);
        }
    }

    /// The newest read left the stream live.
    pub(crate) fn end_read(&mut self) {
        self.verified = self.reads;
    }

    /// The log was compared with the stream since the feed was restored.
    pub(crate) fn compared(&mut self) {
        self.uncompared = false;
    }

    /// Number of the newest read of the log.
    pub(crate) fn reads(&self) -> u32 {
        self.reads
    }

    /// Whether a read that began after the one with this number left the stream live.
    pub(crate) fn verified_after(&self, read: u32) -> bool {
        // Of two numbers the newer one is that which comes sooner after the other.
        (1..=u32::MAX / 2).contains(&self.verified.wrapping_sub(read))
    }

    /// Where the stream stands; `None` for a channel without history.
    pub(crate) fn head(&self) -> Option<Position> {
        self.sequencer.as_ref().and_then(Sequencer::head)
    }

    /// Whether the log has recorded a loss.
    pub(crate) fn has_lost(&self) -> bool {
        self.sequencer.as_ref().is_some_and(Sequencer::has_lost)
    }

    /// Bytes of the publications that it holds while its log is read.
    pub(crate) fn held_bytes(&self) -> usize {
        self.sequencer.as_ref().map_or(0, Sequencer::held_bytes)
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// Resolves when the channel may have become ready for attaching: at the next [`State::tell_change`].
    pub(crate) fn changed(&mut self) -> OwnedNotified {
        self.changed.get_or_insert_default().clone().notified_owned()
    }

    /// The channel may have become ready for attaching.
    pub(crate) fn tell_change(&mut self) {
        if let Some(changed) = self.changed.take() {
            changed.notify_waiters();
        }
    }
}
