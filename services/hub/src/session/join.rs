//! Channels that a session is joining.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use fanway_protocol::{Channel, GapReason, Position};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, MaybeDone, maybe_done};

use super::core::Core;
use super::page_life::PageLife;
use super::subscription::Subscription;
use crate::attach::{AttachError, Attached, From, Joined, Terms};
use crate::metrics::HubMetrics;
use crate::pages::{PAGE_BYTES, Page};
use crate::quota::Payer;

/// A channel's attachment to a session: in most cases it is done at once, without a future.
pub(super) type Attaching = MaybeDone<BoxFuture<'static, Result<Attached, AttachError>>>;

/// A channel that a session is joining. Dropped, it leaves nothing behind.
pub struct Join {
    channel: Channel,
    from: From,
    index: u32,
    attaching: Attaching,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("channel", &self.channel).field("from", &self.from).finish_non_exhaustive()
    }
}

impl Join {
    /// Channel that is joined.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Number of the subscription in its session.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Waits until the channel can be subscribed, or cannot.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.attaching.poll_unpin(cx)
    }
}

/// Channels that a session joins side by side.
#[derive(Default)]
pub(super) struct Joins {
    joins: Vec<Join>,
    page_life: PageLife,
}

impl Joins {
    pub(super) fn new(joins: impl Iterator<Item = Join>) -> Self {
        Self { joins: joins.collect(), page_life: PageLife::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.joins.is_empty()
    }

    /// Polls all joins. `Ready` once all of them are done; until then none keeps a page for long.
    pub(super) fn poll(&mut self, metrics: &HubMetrics, cx: &mut Context<'_>) -> Poll<()> {
        // Each of them, not only the first that waits.
        let waiting = self.joins.iter_mut().filter_map(|join| join.poll(cx).is_pending().then_some(())).count();
        if waiting == 0 {
            return Poll::Ready(());
        }
        self.page_life.poll(self.joins.iter_mut().filter_map(|join| page_of(&mut join.attaching)), metrics, cx);
        Poll::Pending
    }
}

impl IntoIterator for Joins {
    type Item = Join;
    type IntoIter = std::vec::IntoIter<Join>;

    fn into_iter(self) -> Self::IntoIter {
        self.joins.into_iter()
    }
}

/// The first page of an attachment that is done, if it has one.
pub(super) fn page_of(attaching: &mut Attaching) -> Option<&mut Page> {
    match attaching {
        MaybeDone::Done(Ok(Attached { joined: Joined::Recovered(page), .. })) => Some(page),
        _ => None,
    }
}

impl Core {
    /// Begins to join a channel, whose right the caller has checked. `index` is the number of the subscription in this
    /// session: of no other subscription, and of no other join under way. Small numbers cost least.
    ///
    /// Waits as long as it takes for the channel's stream to be live on this node. What is published from the moment that
    /// it is done reaches the subscription.
    pub fn join(&self, channel: &Channel, from: From, index: u32) -> Join {
        let first_page = if self.blocked() { 0 } else { PAGE_BYTES };
        self.join_within(channel, from, index, None, Terms { missed: usize::MAX, first_page, payer: Payer::Nobody })
    }

    /// Begins to join a channel on these terms, until `deadline`.
    pub(super) fn join_within(
        &self,
        channel: &Channel,
        from: From,
        index: u32,
        deadline: Option<Instant>,
        terms: Terms,
    ) -> Join {
        let attaching = self.attach(channel, from, index, deadline, terms);
        Join { channel: channel.clone(), from, index, attaching }
    }

    /// Attaches a channel: at once where nothing has to be waited for, or where a quota forbids it.
    pub(super) fn attach(
        &self,
        channel: &Channel,
        from: From,
        index: u32,
        deadline: Option<Instant>,
        terms: Terms,
    ) -> Attaching {
        if let Some(attached) = self.hub.attach_now(channel, from, &self.handle, index, terms) {
            return MaybeDone::Done(Ok(attached));
        }
        if let Err(limited) = self.hub.open(channel, terms.payer) {
            return MaybeDone::Done(Err(AttachError::Limited(limited)));
        }
        let (hub, handle, channel) = (self.hub.clone(), self.handle.clone(), channel.clone());
        maybe_done(async move { hub.attach(&channel, from, &handle, index, deadline, terms).await }.boxed())
    }

    /// Subscribes a channel that was joined, for a protocol whose entries name their own positions. What the client missed
    /// comes as entries, before anything newer. Returns the reason of the gap if it cannot have what it missed: the
    /// protocol writes the gap.
    ///
    /// # Errors
    /// The channel could not be joined, or is not joined yet ([`AttachError::Timeout`]).
    pub fn subscribe(&mut self, join: Join, now: Instant) -> Result<Option<GapReason>, AttachError> {
        let Join { from, index, mut attaching, .. } = join;
        let attached = Pin::new(&mut attaching).take_output().unwrap_or(Err(AttachError::Timeout))?;
        let (mut sub, joined) = Subscription::new(attached);
        let mut gap = None;
        match joined {
            Joined::Fresh => {}
            Joined::Gap(reason) => gap = Some(reason),
            Joined::Recovered(page) => {
                sub.position = match from {
                    From::Position(reached) => Some(reached),
                    _ => sub.position.map(|head| Position { offset: 0, ..head }),
                };
                sub.take_page(page, None, now);
            }
        }
        self.insert(index, sub);
        self.begin_catch_up(index, now);
        Ok(gap)
    }
}
