//! The engine for one node: logs in this process's memory.
//!
//! It keeps the promises of the fleet's engine, except that nothing outlives the process: a restarted node begins new
//! epochs, which its clients see as honest gaps. The feed never breaks, so `Interrupted` and `Restored` never occur.
//!
//! Concurrency: channels are spread over shards, each behind its own lock, held briefly. A second lock of the shard is
//! held by a publish from before it appends until the sink has taken the event over, so that the order of a channel's
//! events is the order of its offsets. The sink may call back into the broker, except to publish.
//!
//! Memory: what is past its time is never shown, and is freed by later calls: each one looks at a few of the shard's due
//! entries, more than it can add. What is left, where no calls come, the hub's upkeep frees. Logs that were never published
//! to are bounded in number, because anybody who may subscribe can begin them.

mod shard;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use fanway_protocol::{Channel, Position};

use self::shard::Shard;
use crate::announcements::Announcements;
use crate::{
    ANNOUNCEMENT_BYTES, Broker, BrokerError, Delivery, Event, Health, History, HistoryQuery, LogTop, LogView,
    PageLimit, Publish, Published, Retention, Sink, Timeline, epochs,
};

/// A power of two well above the number of cores of a node that runs alone.
const SHARDS: usize = 16;

/// Logs in this process's memory.
pub struct MemoryBroker {
    /// Takes what is published on subscribed channels.
    sink: Arc<dyn Sink>,
    /// The channels, by hash.
    shards: Vec<Mutex<Shard>>,
    /// For each shard, held while one of its channels is published to.
    turns: Vec<Mutex<()>>,
    /// Chooses the shard.
    hasher: RandomState,
    /// This process's reign: the last 12 characters of each epoch made here.
    reign: String,
    /// What this node, the fleet's only one, tells itself.
    announcements: Announcements,
    /// Shard of the next upkeep.
    next: AtomicUsize,
}

impl MemoryBroker {
    /// An empty broker that hands what is published to `sink`.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            turns: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            reign: epochs::random_text(12),
            announcements: Announcements::default(),
            next: AtomicUsize::new(0),
        }
    }

    fn shard_of(&self, channel: &Channel) -> usize {
        self.hasher.hash_one(channel) as usize % SHARDS
    }

    /// The channel's shard, swept a little.
    ///
    /// A poisoned lock is taken as it is: each change of a shard is complete before anything that could panic.
    fn shard(&self, channel: &Channel, now: Instant) -> MutexGuard<'_, Shard> {
        let mut shard = self.shards[self.shard_of(channel)].lock().unwrap_or_else(PoisonError::into_inner);
        shard.sweep(now);
        shard
    }

    fn publish_now(&self, request: &Publish<'_>) -> Result<Published, BrokerError> {
        let _turn = self.turns[self.shard_of(request.channel)].lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut shard = self.shard(request.channel, now);
        if let Some(idempotency) = &request.idempotency
            && let Some(position) = shard.earlier(request.channel, idempotency, now)?
        {
            return Ok(Published { position, duplicate: true });
        }
        let place = if request.retention.keeps_log() {
            let epoch = || epochs::random(&self.reign);
            Some(shard.append(request.channel, request.publication.clone(), request.retention, now, epoch))
        } else {
            None
        };
        let position = place.map(|place| place.position);
        if let Some(idempotency) = &request.idempotency {
            shard.remember(request.channel, idempotency, position, now);
        }
        let subscribed = shard.is_subscribed(request.channel);
        drop(shard);
        if subscribed {
            self.sink.on_events(vec![Event::Publication(Delivery {
                channel: request.channel.clone(),
                publication: request.publication.clone(),
                place,
                received: now,
            })]);
        }
        Ok(Published { position, duplicate: false })
    }
}

impl Broker for MemoryBroker {
    async fn publish(&self, request: Publish<'_>) -> Result<Published, BrokerError> {
        self.publish_now(&request)
    }

    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        let now = Instant::now();
        for channel in channels {
            self.shard(channel, now).subscribe(channel);
        }
        Ok(())
    }

    fn unsubscribe(&self, channel: &Channel) {
        self.shard(channel, Instant::now()).unsubscribe(channel);
    }

    async fn read(
        &self,
        channel: &Channel,
        since: Option<u64>,
        limit: PageLimit,
    ) -> Result<Option<LogView>, BrokerError> {
        let now = Instant::now();
        Ok(self.shard(channel, now).log(channel, now).map(|log| log.view(since, limit)))
    }

    async fn create(&self, channel: &Channel, retention: Retention) -> Result<Position, BrokerError> {
        let now = Instant::now();
        let mut shard = self.shard(channel, now);
        Ok(shard.log_or_new(channel, retention, now, || epochs::random(&self.reign)).top())
    }

    async fn tops(&self, channels: &[Channel], refresh: bool) -> Result<Vec<Option<LogTop>>, BrokerError> {
        let now = Instant::now();
        let top = |channel| {
            let mut shard = self.shard(channel, now);
            let log = shard.log(channel, now)?;
            if refresh {
                log.refresh(now);
            }
            Some(LogTop { position: log.top(), ledger: log.ledger() })
        };
        Ok(channels.iter().map(top).collect())
    }

    /// Nothing is ever lost: what a node has passed on and its logs end with the same process.
    async fn cut(&self, _channel: &Channel, _timeline: &Timeline) -> Result<bool, BrokerError> {
        Ok(false)
    }

    async fn history(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, BrokerError> {
        let now = Instant::now();
        let mut shard = self.shard(channel, now);
        Ok(shard.log_or_new(channel, retention, now, || epochs::random(&self.reign)).history(query))
    }

    fn upkeep(&self) {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner).upkeep(Instant::now());
    }

    fn limit_envelope(&self, _version: u32) {}

    async fn announce(&self, message: &[u8]) -> Result<(), BrokerError> {
        if message.len() > ANNOUNCEMENT_BYTES {
            return Err(BrokerError::Unavailable(format!("an announcement has at most {ANNOUNCEMENT_BYTES} bytes")));
        }
        self.announcements.push(message);
        Ok(())
    }

    async fn announcements(&self) -> Vec<Bytes> {
        self.announcements.take().await
    }

    fn health(&self) -> Health {
        Health {
            started: true,
            commands: true,
            hears: true,
            echo: true,
            deaf: false,
            split: false,
            refused: None,
            echo_age: None,
            detail: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    const KEEP: Retention =
        Retention { count: 10_000, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(60) };

    fn publish(broker: &MemoryBroker, channel: &Channel) -> Position {
        let request = Publish { channel, publication: Arc::default(), retention: KEEP, idempotency: None };
        broker.publish(request).now_or_never().unwrap().unwrap().position.unwrap()
    }

    #[derive(Default)]
    struct Offsets(Mutex<Vec<u64>>);

    impl Sink for Offsets {
        fn on_events(&self, events: Vec<Event>) {
            // Time for another thread to overtake, if one could.
            std::thread::sleep(Duration::from_micros(rand::random_range(0..100)));
            let offset = |event| match event {
                Event::Publication(delivery) => delivery.place.map(|place| place.position.offset),
                _ => None,
            };
            self.0.lock().unwrap().extend(events.into_iter().filter_map(offset));
        }
    }

    #[test]
    fn threads_publish_in_the_order_in_which_they_are_heard() {
        let (ears, news) = (Arc::new(Offsets::default()), Channel::new("news").unwrap());
        let broker = MemoryBroker::new(ears.clone());
        broker.subscribe(std::slice::from_ref(&news)).now_or_never().unwrap().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        publish(&broker, &news);
                    }
                });
            }
        });
        assert_eq!(*ears.0.lock().unwrap(), (1..=2000).collect::<Vec<_>>());
    }

    /// Looks at the broker, and leaves, while it is told of a publication.
    #[derive(Default)]
    struct Leaver(OnceLock<MemoryBroker>);

    impl Sink for Leaver {
        fn on_events(&self, events: Vec<Event>) {
            let broker = self.0.get().unwrap();
            for event in events {
                let Event::Publication(delivery) = event else { continue };
                let view = broker
                    .read(&delivery.channel, Some(0), PageLimit::entries(1))
                    .now_or_never()
                    .unwrap()
                    .unwrap()
                    .unwrap();
                assert_eq!(Some(view.top), delivery.place.map(|place| place.position));
                broker.unsubscribe(&delivery.channel);
            }
        }
    }

    #[test]
    fn the_sink_may_call_back() {
        let (leaver, news) = (Arc::new(Leaver::default()), Channel::new("news").unwrap());
        let broker = leaver.0.get_or_init(|| MemoryBroker::new(leaver.clone()));
        broker.subscribe(std::slice::from_ref(&news)).now_or_never().unwrap().unwrap();
        assert_eq!((publish(broker, &news).offset, publish(broker, &news).offset), (1, 2));
    }
}
