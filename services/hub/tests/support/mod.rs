//! A real hub over the engine in memory, and a session on a socket of the test's own.
#![allow(clippy::unwrap_used, dead_code, reason = "each test uses its part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::{AnyBroker, Broker, MemoryBroker, Publish};
use fanway_hub::authorizer::Authorizer;
use fanway_hub::handle::Handle;
use fanway_hub::session::ClientSession;
use fanway_hub::turn::Turn;
use fanway_hub::{Access, Hub, HubMetrics, Identity, Inbox, Limits, Namespace, Namespaces, Parts, Verify};
use fanway_protocol::{Channel, Payload, Publication};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub(crate) fn hub(history: u32, limits: Limits) -> (Arc<Hub>, Arc<AnyBroker>) {
    hub_at(history, limits, Inbox::new())
}

/// A hub whose feed the test can disturb.
pub(crate) fn hub_at(history: u32, limits: Limits, inbox: Arc<Inbox>) -> (Arc<Hub>, Arc<AnyBroker>) {
    let (hub, broker, _) = hub_counting(history, limits, inbox);
    (hub, broker)
}

/// A hub with its metrics.
pub(crate) fn hub_counting(
    history: u32,
    limits: Limits,
    inbox: Arc<Inbox>,
) -> (Arc<Hub>, Arc<AnyBroker>, prometheus::Registry) {
    hub_keeping(history, Duration::from_secs(300), limits, inbox)
}

/// As [`hub_counting`], with another lifetime of the history.
pub(crate) fn hub_keeping(
    history: u32,
    history_ttl: Duration,
    limits: Limits,
    inbox: Arc<Inbox>,
) -> (Arc<Hub>, Arc<AnyBroker>, prometheus::Registry) {
    hub_of(history, history_ttl, limits, inbox, Box::new(|_, _| Ok(Identity::anonymous())))
}

/// A hub that verifies tokens in the test's own way.
pub(crate) fn hub_verifying(verify: Box<Verify>) -> Arc<Hub> {
    hub_of(0, Duration::from_secs(300), fast(), Inbox::new(), verify).0
}

fn hub_of(
    history: u32,
    history_ttl: Duration,
    limits: Limits,
    inbox: Arc<Inbox>,
    verify: Box<Verify>,
) -> (Arc<Hub>, Arc<AnyBroker>, prometheus::Registry) {
    let registry = prometheus::Registry::new();
    let broker = Arc::new(AnyBroker::Memory(MemoryBroker::new(inbox.clone())));
    let namespace = Namespace {
        history_size: history,
        history_ttl,
        meta_ttl: Duration::from_secs(3000),
        recovery: history > 0,
        subscribe: Access::Anyone,
        history: Access::Anyone,
        ..Namespace::closed("default")
    };
    let parts = Parts {
        broker: broker.clone(),
        inbox,
        feed: tokio::runtime::Handle::current(),
        namespaces: Arc::new(Namespaces::new(namespace, [])),
        limits,
        quotas: fanway_hub::QuotaSettings::unlimited(),
        verify,
        authorizer: Authorizer::Token,
        allow_anonymous: true,
        max_age: None,
        metrics: HubMetrics::register(&registry).unwrap(),
        trace: None,
        version: "test",
    };
    (Hub::start(parts, TaskTracker::new(), CancellationToken::new()), broker, registry)
}

pub(crate) fn fast() -> Limits {
    Limits { command_rate: 1_000_000, command_burst: 1_000_000, ..Limits::default() }
}

/// A session on a socket that takes as many bytes as it likes.
pub(crate) struct Socket {
    pub(crate) session: ClientSession,
    pub(crate) turn: Turn,
    pub(crate) taken: Vec<u8>,
}

impl Socket {
    /// Has not said anything yet.
    pub(crate) fn silent(hub: &Arc<Hub>) -> Self {
        let session = ClientSession::new(hub.clone(), None, Handle::by_task(), Instant::now());
        Self { session, turn: Turn::default(), taken: Vec::new() }
    }

    pub(crate) fn new(hub: &Arc<Hub>) -> Self {
        let mut socket = Self::silent(hub);
        socket.say(r#"{"id":1,"connect":{}}"#);
        socket
    }

    pub(crate) fn say(&mut self, frame: &str) {
        self.session.on_frame(frame, Instant::now());
    }

    pub(crate) async fn poll(&mut self) {
        std::future::poll_fn(|cx| {
            self.session.poll(cx, Instant::now());
            std::task::Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
    }

    /// Writes once; the socket takes what `take` makes of the bytes offered.
    pub(crate) fn write(&mut self, take: impl FnOnce(usize) -> usize) {
        self.session.gather(&mut self.turn);
        let offered = self.turn.bytes();
        let taken = take(offered.len()).min(offered.len());
        self.taken.extend_from_slice(&offered[..taken]);
        self.session.wrote(&mut self.turn, taken, Instant::now());
    }

    pub(crate) async fn settle(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < deadline, "not settled: {}", String::from_utf8_lossy(&self.taken));
            self.poll().await;
            self.write(|all| all);
        }
    }

    /// Says a command, and waits for its reply, whatever else comes before it.
    pub(crate) async fn ask(&mut self, id: u64, command: &str) -> Value {
        self.say(&format!(r#"{{"id":{id},{command}}}"#));
        self.settle(|socket| socket.reply(id).is_some()).await;
        self.reply(id).unwrap()
    }

    fn reply(&self, id: u64) -> Option<Value> {
        self.heard().into_iter().find(|value| value["id"] == id)
    }

    /// What was written, as values; panics on anything that is not whole frames.
    pub(crate) fn heard(&self) -> Vec<Value> {
        let mut rest = &self.taken[..];
        let mut values = Vec::new();
        while let [0x81, len, after @ ..] = rest {
            let (len, after) = match len {
                126 => (usize::from(u16::from_be_bytes([after[0], after[1]])), &after[2..]),
                127 => (u64::from_be_bytes(after[..8].try_into().unwrap()) as usize, &after[8..]),
                len => (usize::from(*len), after),
            };
            values.push(serde_json::from_slice(&after[..len]).unwrap());
            rest = &after[len..];
        }
        assert!(rest.is_empty(), "not a frame: {rest:?}");
        values
    }
}

pub(crate) async fn publish(broker: &AnyBroker, hub: &Hub, channel: &str, data: String) {
    publish_excluding(None, broker, hub, channel, data).await;
}

/// Publishes to everybody but a client.
pub(crate) async fn publish_excluding(
    client: Option<Uuid>,
    broker: &AnyBroker,
    hub: &Hub,
    channel: &str,
    data: String,
) {
    let channel = Channel::new(channel).unwrap();
    let retention = hub.namespaces().of(&channel).unwrap().retention();
    let (data, exclude) = (Payload::Json(data.into()), client.map(Box::new));
    let publication = Arc::new(Publication { data, exclude, ..Publication::default() });
    broker.publish(Publish { channel: &channel, publication, retention, idempotency: None }).await.unwrap();
}
