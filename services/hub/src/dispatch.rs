//! Between the broker's reader and the channels: one bounded queue, and the task that empties it (`Hub::sequence`).
//!
//! The reader never waits. One task puts everything in order, which costs little, and costs no thread a wake-up while a
//! single one does all the work; the costly part, writing to connections, is handed out in slices. When the queue is
//! full the publication is dropped but its channel is remembered, and its sequencer reads the log instead: overload costs
//! a read, not silence.
//!
//! The queue is full at a number of events or of bytes. Events that the task has taken count until it has handled them:
//! both together are what the node holds.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fanway_broker::{Event, Sink};
use fanway_protocol::Channel;
use tokio::sync::Notify;

/// Events that may wait.
const QUEUE_EVENTS: usize = 131_072;
/// Bytes of publications that may wait.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// The broker's sink of a node. Create it first, give it to the broker, then start the hub with it.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    /// Bytes of the publications that wait or are being handled.
    bytes: AtomicUsize,
}

/// Events to be put in order.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// In the order received.
    pub(crate) events: Vec<Event>,
    /// Channels of which an event was dropped because the queue was full.
    pub(crate) lost: HashSet<Channel>,
    /// Events dropped.
    pub(crate) dropped: u64,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits for events and takes all of them.
    pub(crate) async fn take(&self) -> Waiting {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if !waiting.events.is_empty() || !waiting.lost.is_empty() {
                    return std::mem::take(&mut waiting);
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Bytes of publications that wait or are being handled.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Events of so many bytes have been handled.
    pub(crate) fn handled(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Sink for Inbox {
    fn on_events(&self, events: Vec<Event>) {
        let bytes: usize = events.iter().map(size).sum();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Only this adds bytes, under the lock.
            let before = self.bytes();
            let fits = before + bytes <= QUEUE_BYTES;
            if fits && waiting.events.is_empty() && events.len() <= QUEUE_EVENTS {
                waiting.events = events;
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            } else {
                let added = waiting.extend(events, before);
                self.bytes.fetch_add(added, Ordering::Relaxed);
            }
        }
        self.arrived.notify_one();
    }
}

impl Waiting {
    /// Appends events as long as there is room, where so many bytes are held. Returns the bytes added.
    fn extend(&mut self, events: Vec<Event>, held: usize) -> usize {
        let mut added = 0;
        for event in events {
            let bytes = size(&event);
            // An event as large as the queue is taken when nothing else is held.
            let fits = held + added == 0 || held + added + bytes <= QUEUE_BYTES;
            let full = !fits || self.events.len() >= QUEUE_EVENTS;
            // After a loss the channel gets nothing newer before it is announced.
            let lost = |channel: &Channel| full || !self.lost.is_empty() && self.lost.contains(channel);
            match event {
                Event::Publication(delivery) if lost(&delivery.channel) => self.lose(delivery.channel),
                Event::Unreadable(channel) if lost(&channel) => self.lose(channel),
                event => {
                    added += bytes;
                    self.events.push(event);
                }
            }
        }
        added
    }

    fn lose(&mut self, channel: Channel) {
        self.lost.insert(channel);
        self.dropped += 1;
    }
}

/// Bytes of an event in the queue.
pub(crate) fn size(event: &Event) -> usize {
    match event {
        Event::Publication(delivery) => delivery.publication.size(),
        Event::Unreadable(_) | Event::Interrupted | Event::Restored(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use fanway_broker::Delivery;
    use fanway_protocol::{Payload, Publication};
    use futures_util::FutureExt;

    use super::*;

    fn published(channel: &str, bytes: usize) -> Event {
        let publication = Publication { data: Payload::Json(vec![b'1'; bytes].into()), ..Publication::default() };
        let channel = Channel::new(channel).unwrap();
        Event::Publication(Delivery {
            channel,
            publication: Arc::new(publication),
            place: None,
            received: Instant::now(),
        })
    }

    #[test]
    fn beyond_its_bytes_channels_are_remembered_instead_of_publications() {
        const HALF: usize = QUEUE_BYTES / 2;
        let inbox = Inbox::default();
        let take = || inbox.take().now_or_never().unwrap();
        inbox.on_events(vec![published("a", HALF)]);
        inbox.on_events(vec![published("b", HALF + 1), Event::Interrupted, published("c", HALF)]);
        assert_eq!(inbox.bytes(), QUEUE_BYTES);
        let taken = take();
        assert_eq!((taken.events.len(), taken.dropped), (3, 1));
        assert_eq!(taken.lost, HashSet::from([Channel::new("b").unwrap()]));

        // What was taken still counts.
        inbox.on_events(vec![published("d", 1)]);
        assert_eq!((take().events.len(), inbox.bytes()), (0, QUEUE_BYTES));
        taken.events.iter().for_each(|event| inbox.handled(size(event)));
        inbox.on_events(vec![published("d", 1)]);
        assert_eq!((take().events.len(), inbox.bytes()), (1, 1));
    }

    #[test]
    fn after_a_loss_a_channel_gets_nothing_newer_before_it_is_announced() {
        let inbox = Inbox::default();
        inbox.on_events(vec![
            published("a", QUEUE_BYTES - 10),
            published("b", 100),
            published("b", 1),
            published("a", 1),
        ]);
        let taken = inbox.take().now_or_never().unwrap();
        assert_eq!((taken.events.len(), taken.dropped), (2, 2), "both of a, none of b");
    }

    #[test]
    fn a_publication_larger_than_the_queue_passes_alone() {
        let inbox = Inbox::default();
        inbox.on_events(vec![published("a", QUEUE_BYTES + 1), published("b", 1)]);
        let taken = inbox.take().now_or_never().unwrap();
        assert_eq!((taken.events.len(), taken.lost.len()), (1, 1));
    }

    #[test]
    fn beyond_its_events_channels_are_remembered() {
        let inbox = Inbox::default();
        inbox.on_events(vec![Event::Interrupted]);
        let events = (0..QUEUE_EVENTS).map(|_| published("a", 1)).collect();
        inbox.on_events(events);
        let taken = inbox.take().now_or_never().unwrap();
        assert_eq!((taken.events.len(), taken.dropped, inbox.bytes()), (QUEUE_EVENTS, 1, QUEUE_EVENTS - 1));
    }
}
