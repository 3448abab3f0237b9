//! Between the broker's reader and the channels: one bounded queue, and the task that empties it (`Hub::sequence`).
//!
//! The reader never waits. One task puts everything in order, which costs little, and costs no thread a wake-up while a
//! single one does all the work; the costly part, writing to connections, is handed out in slices. When the queue is
//! full the publication is dropped but its channel is remembered, and its sequencer reads the log instead: overload costs
//! a read, not silence.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use fanway_broker::{Event, Sink};
use fanway_protocol::Channel;
use tokio::sync::Notify;

/// Events that may wait.
const QUEUE_EVENTS: usize = 131_072;

/// The broker's sink of a node. Create it first, give it to the broker, then start the hub with it.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

/// What waits to be put in order.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// In the order heard.
    pub(crate) events: Vec<Event>,
    /// Channels of which an event was dropped because the queue was full.
    pub(crate) lost: HashSet<Channel>,
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
}

impl Sink for Inbox {
    fn on_events(&self, events: Vec<Event>) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.events.is_empty() && events.len() <= QUEUE_EVENTS {
                waiting.events = events;
            } else {
                events.into_iter().for_each(|event| waiting.push(event));
            }
        }
        self.arrived.notify_one();
    }
}

impl Waiting {
    fn push(&mut self, event: Event) {
        match event {
            Event::Publication(delivery) if self.events.len() >= QUEUE_EVENTS => {
                self.lost.insert(delivery.channel);
            }
            Event::Unreadable(channel) if self.events.len() >= QUEUE_EVENTS => {
                self.lost.insert(channel);
            }
            event => self.events.push(event),
        }
    }
}
