//! A channel on this node: its ordered stream, its ring of recent entries, its subscribers.
//!
//! Locks: `state` orders everything that happens to the channel; `ring` is held for copying frames. `state` before
//! `ring`, never the reverse, and neither over an await. Connections read the ring under its own lock, so a fan-out that
//! is marking subscribers does not stop those already writing.

mod attachment;
mod state;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanway_broker::Event;
use fanway_broker::trace::{Begun, Trace, Work};
use fanway_protocol::{Channel, GapReason, Publication};
use prometheus::IntCounter;

pub(crate) use self::attachment::{Attachment, Interest, Trait};
pub(crate) use self::state::State;
use crate::encoding::{EncodingId, Encodings};
use crate::entry::Entry;
use crate::eviction::RingBudget;
use crate::handle::Handle;
use crate::held::{self, HeldBytes};
use crate::moment::Moment;
use crate::namespace::Namespace;
use crate::ring::Ring;
use crate::sequencer::{HoldLimit, Incoming, Sequencer, Step};
use crate::subscribers::Subscribers;

/// From so many subscribers on, a channel's ring is kept for those who come back.
const MANY: usize = 8;
/// How long the ring of a channel with fewer keeps an entry once newer ones come: far longer than it takes to serve
/// connections that are not blocked.
const FEW_KEEP: Duration = Duration::from_secs(2);

/// Origin of publications, and when this node received them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The feed, which brings them as they are published.
    Feed(Instant),
    /// A read of the log, where they may have been for any time.
    Log(Instant),
}

/// Connections that were marked and must be served.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    pub(crate) handles: Vec<Arc<Handle>>,
    /// Deliveries to them that are sampled: they end where this is dropped or cleared, when all are served.
    pub(crate) sampled: Vec<Begun>,
}

/// Bounds of what a channel holds while it reads its log: several publications of the largest size that a client may
/// send. A node may repair very many channels at once, after an outage all of them.
const HOLD_LIMIT: HoldLimit = HoldLimit { publications: 512, kib: 512 };

/// What the channels of a namespace share.
pub(crate) struct Shared {
    pub(crate) namespace: Arc<Namespace>,
    /// `publications_in_total` of the namespace, looked up once.
    pub(crate) publications_in: IntCounter,
    /// Bounds of each channel's ring.
    pub(crate) ring_entries: usize,
    pub(crate) ring_bytes: usize,
    /// Bytes of the rings of all channels.
    pub(crate) rings: Arc<RingBudget>,
    /// Bytes of the publications that all channels hold.
    pub(crate) held: Arc<HeldBytes>,
    /// The hub's encodings.
    pub(crate) encodings: Arc<Encodings>,
    /// The hub's metrics.
    pub(crate) metrics: Arc<crate::HubMetrics>,
    /// None where no traces are kept.
    pub(crate) trace: Option<Arc<Trace>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A channel that somebody on this node is, was lately, or is about to be subscribed to.
#[derive(Debug)]
pub(crate) struct LocalChannel {
    pub(crate) name: Channel,
    pub(crate) shared: Arc<Shared>,
    state: Mutex<State>,
    ring: Mutex<Ring>,
    /// Sequence number in the ring of the next entry, so that a subscriber sees without the lock that there is none.
    head: AtomicU64,
}

impl LocalChannel {
    pub(crate) fn new(name: Channel, shared: Arc<Shared>, now: Instant) -> Self {
        let sequencer = shared.namespace.retention().keeps_log().then(|| Sequencer::new(HOLD_LIMIT));
        let now = Moment::of(now);
        let state = State {
            sequencer,
            confirmed: false,
            breaks: 0,
            silent_since: now,
            repairing: false,
            uncompared: false,
            dead: false,
            interest: 0,
            reads: 0,
            verified: 0,
            active: now,
            idle_since: now,
            subscribers: Subscribers::default(),
            changed: None,
        };
        Self { name, shared, state: Mutex::new(state), ring: Mutex::default(), head: AtomicU64::new(0) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of one of its entries, with its sequence number if it was found in the ring.
    pub(crate) fn encoded<'e>(&self, entry: &'e Entry, seq: Option<u64>, encoding: EncodingId) -> &'e Bytes {
        entry.first_encoded(encoding).unwrap_or_else(|| self.find_or_encode(entry, seq, encoding))
    }

    /// Whoever makes an encoding charges it to the ring, so that bytes which nobody needs any more are found at once.
    #[cold]
    fn find_or_encode<'e>(&self, entry: &'e Entry, seq: Option<u64>, encoding: EncodingId) -> &'e Bytes {
        let (bytes, made) = entry.find_or_encode(encoding, &self.shared.encodings, &self.name);
        if let Some(seq) = seq.filter(|_| made) {
            let grown = self.ring().charge(seq, entry);
            self.shared.rings.changed(grown as isize);
        }
        bytes
    }

    /// Sequence number in the ring of the next entry. Whoever was marked for an entry sees a number beyond it.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Takes an event of the feed. Returns whether the channel's log must be read. `marked`: see [`LocalChannel::push`].
    pub(crate) fn hear(&self, event: Event, now: Instant, marked: &mut Marked) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        let (wanted, held) = (state.wanted(), state.held_bytes());
        match (event, &mut state.sequencer) {
            (Event::Publication(delivery), sequencer) => {
                self.shared.publications_in.inc();
                match (sequencer, delivery.place) {
                    (Some(sequencer), Some(place)) => {
                        state.active = Moment::of(now);
                        // What nobody waits for is not held: the next attach reads the log.
                        if wanted || sequencer.is_live() {
                            let mut steps = Vec::new();
                            let incoming = Incoming { place, publication: delivery.publication };
                            sequencer.live(incoming, |publication| self.cost_to_hold(publication), &mut steps);
                            self.emit(state, steps, Source::Feed(delivery.received), marked);
                        } else {
                            sequencer.suspect();
                        }
                    }
                    // Published past the history on purpose, or by a node with other settings: passed on without a place.
                    (_, _) => {
                        let entry = Entry::publication(delivery.publication, None, false, delivery.received);
                        self.push(state, entry, marked);
                    }
                }
            }
            (Event::Unreadable(_), Some(sequencer)) => sequencer.suspect(),
            (Event::Unreadable(_), None) => self.announce_loss(state, now, marked),
            (Event::Interrupted, sequencer) => {
                let heard_before = std::mem::replace(&mut state.confirmed, false);
                state.breaks += 1;
                state.silent_since = Moment::of(now);
                match sequencer {
                    Some(sequencer) => sequencer.interrupted(),
                    None if heard_before => self.announce_loss(state, now, marked),
                    None => {}
                }
            }
            (Event::Restored(_), sequencer) => {
                state.confirmed = true;
                if let Some(sequencer) = sequencer {
                    sequencer.restored();
                    state.uncompared = sequencer.head().is_some();
                }
                state.tell_change();
            }
        }
        self.shared.held.changed(held, state.held_bytes());
        state.needs_repair()
    }

    /// Memory of a publication that must be held; more than any bound if the node has no room for it.
    #[cold]
    fn cost_to_hold(&self, publication: &Publication) -> usize {
        let cost = held::cost(publication);
        if self.shared.held.fit(cost) { cost } else { usize::MAX }
    }

    /// A subscriber, or somebody about to subscribe, has left. A channel that nobody wants holds nothing.
    fn left(&self, state: &mut State) {
        if state.wanted() {
            return;
        }
        state.idle_since = Moment::of(Instant::now());
        let held = state.held_bytes();
        if let Some(sequencer) = &mut state.sequencer {
            sequencer.release();
        }
        self.shared.held.changed(held, state.held_bytes());
    }

    /// Publications of this channel were dropped before they could be heard.
    pub(crate) fn lost(&self, now: Instant, marked: &mut Marked) -> bool {
        self.hear(Event::Unreadable(self.name.clone()), now, marked)
    }

    /// Passes the sequencer's steps on to the subscribers.
    pub(crate) fn emit(&self, state: &State, steps: Vec<Step<Arc<Publication>>>, source: Source, marked: &mut Marked) {
        let (Source::Feed(received) | Source::Log(received)) = source;
        for step in steps {
            let entry = match step {
                Step::Emit { position, first_of_epoch, publication } => {
                    let entry = Entry::publication(publication, Some(position), first_of_epoch, received);
                    if matches!(source, Source::Log(_)) { entry.of_unknown_age() } else { entry }
                }
                Step::Gap { reason, position } => {
                    self.shared.metrics.gaps_total.with_label_values(&[reason.as_str()]).inc();
                    Entry::gap(reason, Some(position), received)
                }
                Step::Loss { before, position } => Entry::loss(before, position, received),
            };
            self.push(state, entry, marked);
        }
    }

    fn announce_loss(&self, state: &State, now: Instant, marked: &mut Marked) {
        self.shared.metrics.gaps_total.with_label_values(&[GapReason::Interrupted.as_str()]).inc();
        self.push(state, Entry::gap(GapReason::Interrupted, None, now), marked);
    }

    /// Appends an entry and marks the subscribers. Those that nothing else was marked for are added to `marked`: the
    /// caller must have them served.
    fn push(&self, state: &State, entry: Entry, marked: &mut Marked) {
        // What few are subscribed to need not be kept for those who come back or are blocked: each of them costs one read
        // of the log. Where they may have it from there.
        let few = self.shared.namespace.recovery && state.sequencer.is_some() && state.subscribers.len() < MANY;
        let old = entry.received.checked_sub(FEW_KEEP).filter(|_| few);
        if let (Some(trace), Some(parent)) = (&self.shared.trace, entry.trace()) {
            marked.sampled.extend(self.delivery(state, &**trace, parent, entry.received));
        }
        let change = {
            let mut ring = self.ring();
            let change = ring.push(Arc::new(entry), self.shared.ring_entries, self.shared.ring_bytes);
            let freed = old.map_or(0, |old| ring.drop_while(|entry| entry.received < old && entry.position.is_some()));
            let change = change - freed as isize;
            // Before the marks: see [`LocalChannel::head`].
            self.head.store(ring.head(), Ordering::Release);
            change
        };
        self.shared.rings.changed(change);
        state.subscribers.mark(&mut marked.handles);
    }

    /// Begins the span of a sampled publication's way to this node's connections; none if there are no connections.
    fn delivery(&self, state: &State, trace: &Trace, parent: &str, received: Instant) -> Option<Begun> {
        let connections = state.subscribers.len();
        let namespace = &self.shared.namespace.name;
        let work = Work::Delivery { parent, namespace, connections, waited: received.elapsed() };
        (connections > 0).then(|| trace(work)).flatten()
    }

    /// Drops old entries, which nobody who keeps up needs.
    pub(crate) fn trim(&self, older_than: Instant) {
        self.evict(older_than, true);
    }

    /// Drops entries received before a time; only those that a subscriber that is behind gets from the log, unless `all`.
    pub(crate) fn evict(&self, before: Instant, all: bool) {
        let logged = self.shared.namespace.recovery;
        let freed =
            self.ring().drop_while(|entry| entry.received < before && (all || logged && entry.position.is_some()));
        if freed > 0 {
            self.shared.rings.changed(-(freed as isize));
        }
    }
}

impl Drop for LocalChannel {
    /// An entry may have come while the channel was removed.
    fn drop(&mut self) {
        let held = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).held_bytes();
        self.shared.held.changed(held, 0);
        let left = self.ring.get_mut().unwrap_or_else(PoisonError::into_inner).bytes();
        self.shared.rings.changed(-(left as isize));
    }
}

#[cfg(test)]
mod account_tests;

#[cfg(test)]
mod tests {
    use fanway_protocol::{Epoch, Position};
    use futures_util::FutureExt;

    use super::*;
    use crate::metrics::HubMetrics;

    pub(super) fn channel() -> Arc<LocalChannel> {
        channel_of(Namespace::closed("default"))
    }

    fn channel_of(namespace: Namespace) -> Arc<LocalChannel> {
        let metrics = Arc::new(HubMetrics::register(&prometheus::Registry::new()).unwrap());
        let shared = Shared {
            namespace: Arc::new(namespace),
            publications_in: metrics.publications_in_total.with_label_values(&["default"]),
            ring_entries: 8,
            ring_bytes: 8192,
            rings: RingBudget::new(metrics.ring_bytes.clone(), u64::MAX),
            held: Arc::new(HeldBytes::new(metrics.inbox_bytes.clone())),
            encodings: Arc::default(),
            metrics,
            trace: None,
        };
        Arc::new(LocalChannel::new(Channel::new("a").unwrap(), Arc::new(shared), Instant::now()))
    }

    #[test]
    fn its_bytes_leave_the_gauge_with_it() {
        let local = channel();
        local.push(
            &local.state(),
            Entry::publication(Arc::default(), None, false, Instant::now()),
            &mut Marked::default(),
        );
        let metrics = local.shared.metrics.clone();
        assert_ne!(metrics.ring_bytes.get(), 0);
        drop(local);
        assert_eq!(metrics.ring_bytes.get(), 0);
    }

    #[test]
    fn it_is_small() {
        // With the two counters of an `Arc`; the allocator's next larger piece is 256.
        assert!(size_of::<LocalChannel>() + 16 <= 224, "{}", size_of::<LocalChannel>());
    }

    #[test]
    fn what_cannot_be_read_from_the_log_stays_in_the_ring() {
        let position = |offset| Some(Position { epoch: Epoch::parse("abcdefgh0123456789ab").unwrap(), offset });
        for (recovery, positions, left) in [
            (true, [position(1), position(2), position(3)], 1),
            (false, [position(1), position(2), position(3)], 3),
            (true, [position(1), None, position(2)], 2),
        ] {
            let namespace = Namespace { history_size: 10, recovery, ..Namespace::closed("default") };
            let (local, now) = (channel_of(namespace), Instant::now());
            for (position, received) in positions.into_iter().zip([now, now, now + FEW_KEEP * 2]) {
                let entry = Entry::publication(Arc::default(), position, false, received);
                local.push(&local.state(), entry, &mut Marked::default());
            }
            let ring = local.ring();
            assert_eq!(ring.head() - ring.tail(), left, "{recovery} {positions:?}");
        }
    }

    #[test]
    fn only_a_read_that_began_later_verifies() {
        let local = channel();
        let mut state = local.state();
        state.sequencer = Some(Sequencer::new(HOLD_LIMIT));
        state.begin_read();
        let asked = state.reads();
        state.end_read();
        assert!(!state.verified_after(asked));
        state.begin_read();
        assert!(!state.verified_after(asked), "it is not answered yet");
        state.end_read();
        assert!(state.verified_after(asked));
    }

    #[test]
    fn reads_of_the_log_do_not_put_off_its_refresh() {
        let (local, start) = (channel(), Instant::now());
        let (mut state, second) = (local.state(), Duration::from_secs(1));
        state.sequencer = Some(Sequencer::new(HOLD_LIMIT));
        state.active = Moment::of(start);
        assert!(!state.check_due(start + second * 5, second * 10));
        state.begin_read();
        state.end_read();
        assert!(state.check_due(start + second * 20, second * 10));
    }

    #[test]
    fn a_change_before_the_wait_is_not_missed() {
        let local = channel();
        let mut state = local.state();
        let (first, second) = (state.changed(), state.changed());
        state.tell_change();
        let later = state.changed();
        assert!(first.now_or_never().is_some() && second.now_or_never().is_some());
        assert!(later.now_or_never().is_none());
    }

    #[test]
    fn a_confirmation_from_before_the_feed_broke_is_not_taken() {
        let (local, now) = (channel(), Instant::now());
        let asked = local.state().breaks();
        local.hear(Event::Interrupted, now, &mut Marked::default());
        local.state().confirm(asked);
        assert!(!local.state().ready(), "what is published now is not heard");
        let asked = local.state().breaks();
        local.state().confirm(asked);
        assert!(local.state().ready());
    }
}
