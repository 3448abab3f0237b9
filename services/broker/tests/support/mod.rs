//! What both suites need: a sink that remembers, and short words for long structs.
#![allow(dead_code, reason = "each suite uses its part")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanway_broker::{
    Broker, BrokerError, BrokerMetrics, Delivery, Event, Idempotency, Publish, Published, RedisBroker, RedisSettings,
    Retention, Sink,
};
use fanway_protocol::{Channel, Payload, Publication};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::wait::until;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Remembers every event, in order.
#[derive(Default)]
pub struct Ears(Mutex<Vec<Event>>);

impl Sink for Ears {
    fn on_events(&self, events: Vec<Event>) {
        self.0.lock().unwrap().extend(events);
    }
}

impl Ears {
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.0.lock().unwrap().clear();
    }

    /// What was published on a channel.
    pub fn heard(&self, channel: &Channel) -> Vec<Delivery> {
        let of_channel = |event| match event {
            Event::Publication(delivery) if delivery.channel == *channel => Some(delivery),
            _ => None,
        };
        self.events().into_iter().filter_map(of_channel).collect()
    }

    /// The first so many publications of a channel, as soon as there are so many.
    pub async fn hear(&self, channel: &Channel, count: usize) -> Vec<Delivery> {
        until(&format!("{count} publications on {channel}"), || {
            Some(self.heard(channel)).filter(|all| all.len() >= count)
        })
        .await
    }

    /// Until there is an event like this.
    pub async fn until(&self, what: &str, like: impl Fn(&Event) -> bool) {
        until(what, || self.events().iter().any(&like).then_some(())).await;
    }

    pub async fn until_restored(&self, wanted: &Channel) {
        self.until("Restored", |event| matches!(event, Event::Restored(channel) if channel == wanted)).await;
    }

    pub fn interruptions(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::Interrupted)).count()
    }
}

/// A node's engine over Redis, with its ears.
pub struct Node {
    pub broker: RedisBroker,
    pub ears: Arc<Ears>,
    pub metrics: BrokerMetrics,
    _running: DropGuard,
}

impl std::ops::Deref for Node {
    type Target = RedisBroker;
    fn deref(&self) -> &RedisBroker {
        &self.broker
    }
}

/// Settings for a server under test: short deadlines.
pub fn settings(url: &str) -> RedisSettings {
    RedisSettings {
        url: url.to_owned(),
        probe_interval: Duration::from_millis(100),
        probe_timeout: Duration::from_millis(500),
        ..RedisSettings::default()
    }
}

impl Node {
    /// An engine that may not be connected yet.
    pub fn begin(settings: RedisSettings) -> Self {
        let (ears, cancel) = (Arc::new(Ears::default()), CancellationToken::new());
        let metrics = BrokerMetrics::register(&prometheus::Registry::new()).unwrap();
        let broker = RedisBroker::connect(
            settings,
            ears.clone(),
            metrics.clone(),
            &Handle::current(),
            &TaskTracker::new(),
            cancel.clone(),
        )
        .unwrap();
        Self { broker, ears, metrics, _running: cancel.drop_guard() }
    }

    /// An engine that is connected and hears itself.
    pub async fn start(settings: RedisSettings) -> Self {
        let node = Self::begin(settings);
        node.until_well().await;
        node
    }

    pub async fn on(server: &RedisServer) -> Self {
        Self::start(settings(&server.url())).await
    }

    /// Until commands are answered and the echo comes back.
    pub async fn until_well(&self) {
        until("a healthy broker", || {
            let health = self.broker.health();
            (health.started && health.commands && health.echo && !health.deaf && health.detail.is_none()).then_some(())
        })
        .await;
    }

    /// The health's detail, as soon as it contains a text.
    pub async fn until_detail(&self, part: &str) -> String {
        let mut last = None;
        until(&format!("a health detail with {part:?}"), || {
            let detail = self.broker.health().detail;
            if detail != last {
                eprintln!("health: {detail:?}");
                last.clone_from(&detail);
            }
            detail.filter(|text| text.contains(part))
        })
        .await
    }
}

pub fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

pub fn publication(number: usize) -> Arc<Publication> {
    Arc::new(Publication { data: Payload::Json(format!("{{\"number\":{number}}}").into()), ..Publication::default() })
}

/// Ten entries, all for a long time.
pub const KEEP: Retention = Retention { count: 10, ttl: Duration::from_secs(300), meta_ttl: Duration::from_secs(3600) };

pub fn request(channel: &Channel, number: usize, retention: Retention) -> Publish<'_> {
    Publish { channel, publication: publication(number), retention, idempotency: None }
}

pub fn with_key<'a>(
    channel: &'a Channel,
    key: &'a str,
    body: usize,
    retention: Retention,
    ttl: Duration,
) -> Publish<'a> {
    let idempotency = Idempotency { key, fingerprint: [u8::try_from(body).unwrap(); 16], ttl };
    Publish { idempotency: Some(idempotency), ..request(channel, body, retention) }
}

/// Publishes numbers into a log.
pub async fn publish_all(broker: &impl Broker, channel: &Channel, numbers: std::ops::RangeInclusive<usize>) {
    for number in numbers {
        broker.publish(request(channel, number, KEEP)).await.unwrap();
    }
}

/// Publishes until it is done: for the moment after an outage.
pub async fn publish_when_possible(broker: &impl Broker, channel: &Channel, number: usize) -> Published {
    fanway_testkit::wait::until_async("a publish that is done", || async {
        match broker.publish(request(channel, number, KEEP)).await {
            Ok(published) => Some(published),
            Err(BrokerError::Unavailable(_)) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await
}
