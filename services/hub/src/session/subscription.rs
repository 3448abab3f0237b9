//! A session's hold on one channel.
//!
//! There are many of them, and most do nothing but follow their ring: what they need for that is together, what others
//! need is elsewhere while they need it ([`Detour`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use fanway_protocol::{Channel, GapReason, Position, Publication};

use crate::attach::{Attached, Joined};
use crate::channel::{Attachment, Trait};
use crate::entry::Entry;
use crate::pages::{Grant, Page};

/// A session's hold on one channel.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) attachment: Attachment,
    /// Sequence number of the next entry to deliver.
    pub(crate) next: u64,
    /// What keeps it from simply following the ring.
    detour: Option<Box<Detour>>,
    /// Position of the last delivered publication, or the one it joined at.
    pub(crate) position: Option<Position>,
    /// Offset from which it has had everything: its cursor when it came to this node, where it joined, or where its last
    /// gap was. It is sent a gap for every loss that the log records after it.
    pub(crate) start: u64,
}

/// What keeps a subscription from simply following its ring.
#[derive(Debug, Default)]
struct Detour {
    /// Missed publications still to be delivered, before anything of the ring.
    backlog: VecDeque<Arc<Entry>>,
    /// It must be made to subscribe anew; nothing is delivered meanwhile.
    resubscribe: Option<Resubscribe>,
    /// Memory that the backlog holds, if it is a page; kept until the page is written.
    grant: Option<Grant>,
    /// What follows the backlog is not in the ring: more must be read first.
    behind: bool,
}

/// Why and when a client must subscribe anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resubscribe {
    pub(crate) at: Instant,
    /// The reason of the gap; none if only the epoch has changed.
    pub(crate) gap: Option<GapReason>,
    /// The client's position may be valid although it has passed over a loss: the subscription that it makes must not be
    /// taken for recovered.
    pub(crate) passed_over: bool,
}

impl Subscription {
    /// Follows the ring from the place that was attached at.
    pub(crate) fn new(attached: Attached) -> (Self, Joined) {
        let positioned = attached.attachment.channel.shared.namespace.recovery && attached.head.is_some();
        let mut subscription = Self {
            start: attached.start,
            attachment: attached.attachment,
            next: attached.next,
            detour: None,
            position: attached.head.filter(|_| positioned),
        };
        subscription.set(Trait::HadGap, matches!(attached.joined, Joined::Gap(_)));
        subscription.set(Trait::Positioned, positioned);
        (subscription, attached.joined)
    }

    /// Whether it has a trait.
    pub(crate) fn is(&self, one: Trait) -> bool {
        self.attachment.traits.has(one)
    }

    /// Gives it a trait, or takes it away.
    pub(crate) fn set(&mut self, one: Trait, has: bool) {
        self.attachment.traits.set(one, has);
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.attachment.channel.name
    }

    /// Whether nothing is delivered for now.
    pub(crate) fn paused(&self) -> bool {
        self.detour.as_ref().is_some_and(|detour| detour.resubscribe.is_some())
    }

    /// Whether nothing of the ring may be delivered yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.detour.as_ref().is_some_and(|detour| detour.behind)
    }

    /// When and why it must be made to subscribe anew, if it must.
    pub(crate) fn to_resubscribe(&self) -> Option<Resubscribe> {
        self.detour.as_ref()?.resubscribe
    }

    /// It must be made to subscribe anew at a time, because of a gap or because the epoch has changed. What it was still to
    /// deliver is dropped: the client receives it, or a gap, with its next subscribe.
    pub(crate) fn resubscribe(&mut self, resubscribe: Resubscribe) {
        *self.detour() = Detour { resubscribe: Some(resubscribe), ..Detour::default() };
    }

    /// It gets on from its position, not from the ring.
    pub(crate) fn fall_behind(&mut self) {
        self.detour().behind = true;
    }

    /// It was attached anew, at a place in the ring.
    pub(crate) fn attach(&mut self, attachment: Attachment, next: u64) {
        let traits = self.attachment.traits;
        self.attachment = attachment;
        self.attachment.traits = traits;
        self.next = next;
        self.detour().behind = false;
        self.end_detour();
    }

    /// Missed publications, to be delivered before anything of the ring. `head`: of the stream at attaching.
    pub(crate) fn take_page(&mut self, page: Page, head: Option<Position>, now: Instant) {
        let Page { publications, whole, grant } = page;
        // The page lies on the head's timeline. If that is the one the client knows, everything on it may be labelled so.
        let label = self.label().filter(|label| head.is_some_and(|head| head.epoch == label.epoch));
        let entry = |(position, publication): (Position, Arc<Publication>)| {
            let epoch = label.map_or(position.epoch, |label| label.epoch);
            Arc::new(Entry::publication(publication, Some(Position { epoch, ..position }), false, now))
        };
        let detour = self.detour();
        detour.backlog = publications.into_iter().map(entry).collect();
        detour.grant = grant;
        detour.behind = !whole;
        self.end_detour();
    }

    /// Whether a page is in memory.
    pub(crate) fn holds_page(&self) -> bool {
        self.detour.as_ref().is_some_and(|detour| detour.grant.is_some())
    }

    /// Lets go of a page that is written. False if there is none.
    pub(crate) fn end_page(&mut self) -> bool {
        let Some(detour) = self.detour.as_mut().filter(|detour| detour.backlog.is_empty()) else { return false };
        let ended = detour.grant.take().is_some();
        self.end_detour();
        ended
    }

    /// Lets go of a page that is not written, to be read again.
    pub(crate) fn drop_page(&mut self) {
        let detour = self.detour();
        detour.backlog = VecDeque::new();
        detour.grant = None;
        detour.behind = true;
    }

    /// Delivers an entry before all others.
    pub(crate) fn give_back(&mut self, entry: Arc<Entry>) {
        self.detour().backlog.push_front(entry);
    }

    /// The first missed publication.
    pub(crate) fn missed(&self) -> Option<&Arc<Entry>> {
        self.detour.as_ref()?.backlog.front()
    }

    /// The first missed publication is delivered.
    pub(crate) fn advance_backlog(&mut self) {
        self.detour().backlog.pop_front();
        self.end_detour();
    }

    /// Whether the client would misread an entry, and must subscribe anew instead.
    pub(crate) fn misreads(&self, entry: &Entry) -> bool {
        self.misplaces(entry.position) || self.label().is_some() && !entry.is_publication()
    }

    /// Whether the client would take a place for one of another epoch.
    pub(crate) fn misplaces(&self, place: Option<Position>) -> bool {
        let label = self.label();
        label.zip(place).is_some_and(|(label, place)| place.epoch != label.epoch)
    }

    /// The position whose epoch the client takes every entry to be of.
    fn label(&self) -> Option<Position> {
        self.position.filter(|_| self.is(Trait::Labelled))
    }

    fn detour(&mut self) -> &mut Detour {
        self.detour.get_or_insert_default()
    }

    fn end_detour(&mut self) {
        let over = |detour: &Detour| {
            detour.backlog.is_empty() && detour.grant.is_none() && !detour.behind && detour.resubscribe.is_none()
        };
        self.detour.take_if(|detour| over(detour));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small() {
        assert!(size_of::<Option<Subscription>>() <= 72, "{}", size_of::<Option<Subscription>>());
    }
}
