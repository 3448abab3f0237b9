//! Subscriptions of a session that are behind, and how they get on: page by page, one subscription after the other.
//!
//! A subscription is behind when it fell behind its ring, or when what it missed did not fit into its first page. From
//! its position it is resumed as often as it takes, each time for the next page ([`Hub::next_page`]): every page is
//! judged by the log and the channel's head of its time, as if the client had come back. The last page reaches the place
//! in the ring from which the subscription goes on. If the log does not reach back to the position any more, a gap comes
//! instead, before anything newer.
//!
//! Nothing is read before the socket has taken everything that was offered to it. What it does not take within
//! [`PAGE_LIFE`] is dropped and read again; see [`crate::pages`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use fanway_protocol::Cursor;
use smallvec::SmallVec;

use super::core::{Core, OwnBytes};
use super::page_read::PageRead;
use super::subscription::Subscription;
use crate::attach::{AttachError, Attached, Joined, Reached};
use crate::close_reason::CloseReason;
use crate::entry::Entry;
use crate::pages::{PAGE_BYTES, PAGE_LIFE, SLOW_PAGE_BYTES, page_with};

/// Pages that are small after one was dropped.
const SMALL_PAGES: u8 = 64;

/// Subscriptions that are behind. There are none while a session keeps up, and then this is nowhere.
#[derive(Default)]
pub(super) struct CatchUps {
    /// Whose turn comes, in order. One that holds a page waits again once the page is taken.
    waiting: VecDeque<u32>,
    /// The read of the next page.
    reading: Option<(u32, PageRead)>,
    /// Since when pages are held.
    held_since: Option<Instant>,
    /// Pages that are small from now on.
    small_pages: u8,
}

impl CatchUps {
    fn are_over(&self) -> bool {
        self.waiting.is_empty() && self.reading.is_none() && self.held_since.is_none()
    }

    /// Queues a subscription for its next page. At most once: a second item would read a page for one that has caught up.
    fn wait(&mut self, index: u32) {
        if !self.waiting.contains(&index) {
            self.waiting.push_back(index);
        }
    }
}

impl Core {
    /// Whether some subscription has not reached its ring.
    pub(super) fn is_behind(&self) -> bool {
        self.catch_ups.is_some()
    }

    /// Marks a subscription as behind and queues it.
    pub(super) fn fall_behind(&mut self, index: u32) {
        let Some(Some(sub)) = self.subs.get_mut(index as usize) else { return };
        sub.fall_behind();
        self.catch_ups.get_or_insert_default().wait(index);
        // So that it is polled.
        self.handle.tick();
    }

    /// A subscription was made, perhaps with its first page. It catches up if that is not all that it missed.
    pub(super) fn begin_catch_up(&mut self, index: u32, now: Instant) {
        let Some(Some(sub)) = self.subs.get(index as usize) else { return };
        let (held, behind) = (sub.holds_page(), sub.is_behind());
        if !held && !behind {
            return;
        }
        let catch_ups = self.catch_ups.get_or_insert_default();
        if held {
            catch_ups.held_since = Some(now);
        } else {
            catch_ups.wait(index);
        }
        self.handle.tick();
    }

    /// Lets one of the waiting subscriptions, chosen at random, be the first.
    pub(super) fn shuffle_catch_ups(&mut self) {
        if let Some(CatchUps { waiting, .. }) = self.catch_ups.as_deref_mut() {
            waiting.rotate_left(rand::random_range(0..waiting.len().max(1)));
        }
    }

    /// A subscription has ended, or waits for its forced resubscription.
    pub(super) fn end_catch_up(&mut self, index: u32) {
        let Some(catch_ups) = &mut self.catch_ups else { return };
        catch_ups.waiting.retain(|waiting| *waiting != index);
        catch_ups.reading.take_if(|(reading, _)| *reading == index);
        if catch_ups.held_since.is_some() && !self.subs.iter().flatten().any(|sub| sub.holds_page()) {
            catch_ups.held_since = None;
        }
        self.handle.tick();
    }

    /// Lets subscriptions catch up.
    pub(crate) fn poll_catch_ups(&mut self, now: Instant) {
        let Some(mut catch_ups) = self.catch_ups.take() else { return };
        while self.closing.is_none() {
            if let Some((index, reading)) = &catch_ups.reading {
                let (index, Some(caught_up)) = (*index, reading.take()) else { break };
                catch_ups.reading = None;
                self.caught_up(&mut catch_ups, index, caught_up, now);
            }
            // The socket must have taken everything first.
            if catch_ups.held_since.is_some() || self.blocked() || !self.outbox.is_empty() {
                break;
            }
            let Some(index) = catch_ups.waiting.pop_front() else { break };
            let Some(Some(sub)) = self.subs.get(index as usize) else { continue };
            let Some(position) = sub.position else { continue };
            let bytes = if catch_ups.small_pages > 0 { SLOW_PAGE_BYTES } else { PAGE_BYTES };
            let limit = page_with(bytes, self.own_bytes());
            let channel = sub.channel().clone();
            let reached = Reached { position, start: sub.start };
            let reading = PageRead::begin(&self.hub, &self.handle, channel, reached, index, limit);
            catch_ups.reading = Some((index, reading));
        }
        if self.closing.is_some() || !catch_ups.are_over() {
            self.catch_ups = Some(catch_ups);
        }
        if self.closing.is_some() {
            self.abandon_pages();
        }
    }

    /// Bytes that the connection adds to each entry, at most.
    fn own_bytes(&self) -> usize {
        match &self.output.own_bytes {
            OwnBytes::None => 0,
            OwnBytes::Event { .. } => Cursor::longest(self.subs.len()),
        }
    }

    fn caught_up(
        &mut self,
        catch_ups: &mut CatchUps,
        index: u32,
        caught_up: Result<Attached, AttachError>,
        now: Instant,
    ) {
        let Some(Some(sub)) = self.subs.get_mut(index as usize) else { return };
        let Ok(Attached { attachment, next, head, start, joined }) = caught_up else {
            self.hub.metrics.slow_consumers_total.with_label_values(&["closed"]).inc();
            return self.close(CloseReason::Slow);
        };
        sub.attach(attachment, next);
        match joined {
            Joined::Fresh => {}
            Joined::Gap(reason) => {
                sub.start = start;
                sub.give_back(Arc::new(Entry::gap(reason, head, now)));
            }
            Joined::Recovered(page) => {
                sub.take_page(page, head, now);
                if sub.holds_page() {
                    catch_ups.held_since = Some(now);
                    // A socket that is blocked by now has to take it in time: that is a deadline of its own.
                    self.handle.tick();
                } else if sub.is_behind() {
                    catch_ups.wait(index);
                }
            }
        }
        self.mark(index);
    }

    /// Something was written: lets go of the pages that were taken.
    #[cold]
    pub(super) fn pages_written(&mut self) {
        let Some(catch_ups) = &mut self.catch_ups else { return };
        if catch_ups.held_since.is_some() {
            let mut held = false;
            for (index, sub) in (0..).zip(&mut self.subs) {
                let Some(sub) = sub else { continue };
                if sub.end_page() {
                    catch_ups.small_pages = catch_ups.small_pages.saturating_sub(1);
                    if sub.is_behind() {
                        catch_ups.wait(index);
                    }
                } else {
                    held |= sub.holds_page();
                }
            }
            if held {
                return;
            }
            catch_ups.held_since = None;
        }
        if catch_ups.are_over() {
            self.catch_ups = None;
        } else if catch_ups.reading.is_none() && self.outbox.is_empty() && self.stalled_since.is_none() {
            // Not while the socket is blocked, whose task would try again and again: the end of that asks for a tick.
            self.handle.tick();
        }
    }

    /// The session ends: nothing more is read or sent.
    pub(super) fn abandon_pages(&mut self) {
        if self.catch_ups.take().is_some() {
            self.subs.iter_mut().flatten().filter(|sub| sub.holds_page()).for_each(Subscription::drop_page);
        }
    }

    /// Subscriptions that hold a page, which is gathered before anything else: where little is taken for long, the page must
    /// not be what is left.
    #[cold]
    pub(super) fn with_pages(&self) -> SmallVec<[u32; 1]> {
        let holds_page = |sub: &Option<Subscription>| sub.as_ref().is_some_and(|sub| sub.holds_page());
        (0..).zip(&self.subs).filter_map(|(index, sub)| holds_page(sub).then_some(index)).collect()
    }

    /// When pages will be dropped, if the socket takes none of them.
    pub(super) fn page_deadline(&self) -> Option<Instant> {
        let since = self.catch_ups.as_ref()?.held_since?;
        self.blocked().then(|| since + PAGE_LIFE)
    }

    /// Drops the pages that a blocked socket has not taken in time.
    pub(super) fn drop_pages(&mut self, now: Instant) {
        if self.page_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.forget_pages();
        if let Some(catch_ups) = &mut self.catch_ups {
            catch_ups.small_pages = SMALL_PAGES;
        }
    }

    /// Drops all pages, to be read again.
    pub(super) fn forget_pages(&mut self) {
        let Some(catch_ups) = self.catch_ups.as_mut().filter(|catch_ups| catch_ups.held_since.is_some()) else {
            return;
        };
        for (index, sub) in (0..).zip(&mut self.subs) {
            if let Some(sub) = sub.as_mut().filter(|sub| sub.holds_page()) {
                sub.drop_page();
                catch_ups.wait(index);
            }
        }
        catch_ups.held_since = None;
        self.hub.metrics.pages_dropped_total.inc();
    }
}

#[cfg(test)]
mod tests;
