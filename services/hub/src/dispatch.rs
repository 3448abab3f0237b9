//! Between the broker's reader and the channels: bounded queues, and the workers that empty them.
//!
//! The reader never waits. A channel always goes to the same worker, so its order is kept. When a queue is full the
//! publication is dropped but its channel is remembered, and its sequencer reads the log instead: overload costs a read,
//! not silence.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use ahash::RandomState;
use fanway_broker::{Event, Sink};
use fanway_protocol::Channel;
use tokio::sync::Notify;

/// Events one worker may have waiting.
const QUEUE_EVENTS: usize = 65_536;

/// The broker's sink of a node. Create it first, give it to the broker, then start the hub with it.
#[derive(Debug)]
pub struct Inbox {
    hasher: RandomState,
    queues: Vec<Arc<Queue>>,
}

/// One worker's queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

/// What waits for a worker.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// In the order heard.
    pub(crate) events: VecDeque<Event>,
    /// Channels of which an event was dropped because the queue was full.
    pub(crate) lost: HashSet<Channel>,
}

impl Inbox {
    /// An inbox for so many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        let queues = (0..workers.max(1)).map(|_| Arc::default()).collect();
        Arc::new(Self { hasher: RandomState::new(), queues })
    }

    pub(crate) fn queues(&self) -> &[Arc<Queue>] {
        &self.queues
    }

    /// The worker that keeps a channel's order.
    pub(crate) fn worker_of(&self, channel: &Channel) -> usize {
        (self.hasher.hash_one(channel) % self.queues.len() as u64) as usize
    }
}

impl Sink for Inbox {
    fn on_events(&self, events: Vec<Event>) {
        let mut parts: Vec<Vec<Event>> = self.queues.iter().map(|_| Vec::new()).collect();
        for event in events {
            match &event {
                Event::Publication(delivery) => parts[self.worker_of(&delivery.channel)].push(event),
                Event::Unreadable(channel) | Event::Restored(channel) => parts[self.worker_of(channel)].push(event),
                Event::Interrupted => parts.iter_mut().for_each(|part| part.push(Event::Interrupted)),
            }
        }
        self.queues.iter().zip(parts).for_each(|(queue, part)| queue.push(part));
    }
}

impl Queue {
    fn push(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                match event {
                    Event::Publication(delivery) if waiting.events.len() >= QUEUE_EVENTS => {
                        waiting.lost.insert(delivery.channel);
                    }
                    Event::Unreadable(channel) if waiting.events.len() >= QUEUE_EVENTS => {
                        waiting.lost.insert(channel);
                    }
                    event => waiting.events.push_back(event),
                }
            }
        }
        self.arrived.notify_one();
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
