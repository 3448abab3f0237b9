//! The engine for a fleet: logs and pub/sub in Redis.
//!
//! Four kinds of connections. One for commands, shared by all who publish, and one for repairs and resumes
//! (`connection`, each a `pipe`); a small pool for pages of history (`reader`); one that hears (`subscriber`). Three tasks keep them: the keeper of the connection for commands,
//! the subscriber, and the echo `probe` that finds a node which publishes but does not hear. All heal by themselves; a
//! refusal that only people can cure stands in the health and, once, in the log.
//!
//! What is written is atomic: one script appends to the log and announces (`script`, `lua/`). A publish is sent once;
//! see `failure` for what an error proves.

mod backoff;
mod connection;
mod dial;
mod failure;
mod log;
mod meta;
mod names;
mod pipe;
mod probe;
mod publisher;
mod reader;
mod refusals;
mod resp;
mod script;
mod selftest;
mod server;
mod settings;
mod state;
mod subscriber;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanway_protocol::position::EPOCH_LEN;
use fanway_protocol::{Channel, Epoch, Position, Publication};
use prometheus::Histogram;
use redis::{ErrorKind, RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::{Commands, Keeper};
use self::log::Logs;
use self::names::Names;
use self::probe::Probe;
use self::publisher::Publisher;
use self::reader::Reader;
use self::server::Expected;
use self::settings::Target;
use self::state::State;
use self::subscriber::{Hearing, Subscriber, Subscriptions};
use crate::announcements::Announcements;
use crate::trace::{Begun, Trace, Work};
use crate::{
    Broker, BrokerError, BrokerMetrics, Health, History, HistoryQuery, LogTop, LogView, PageLimit, Publish, Published,
    Retention, Sink, Timeline, epochs,
};

pub use self::settings::{RedisSettings, SettingError};

/// What all parts of the engine know.
struct Context {
    settings: RedisSettings,
    target: Target,
    names: Names,
    state: State,
    /// The server that the connections for commands lead to.
    server: Arc<Expected>,
    /// Whether the server is to be called by functions rather than scripts: it has been seen to allow them.
    functions: AtomicBool,
}

/// What is measured, its label looked up once.
struct Operation {
    name: &'static str,
    seconds: Histogram,
}

/// One of each.
struct Operations {
    publish: Operation,
    subscribe: Operation,
    read: Operation,
    create: Operation,
    tops: Operation,
    cut: Operation,
    history: Operation,
    announce: Operation,
}

impl Operations {
    fn new(metrics: &BrokerMetrics) -> Self {
        let of = |name| Operation { name, seconds: metrics.broker_call_seconds.with_label_values(&[name]) };
        Self {
            publish: of("publish"),
            subscribe: of("subscribe"),
            read: of("read"),
            create: of("create"),
            tops: of("tops"),
            cut: of("cut"),
            history: of("history"),
            announce: of("announce"),
        }
    }
}

/// Logs and pub/sub in one Redis.
pub struct RedisBroker {
    context: Arc<Context>,
    publisher: Publisher,
    logs: Logs,
    subscriptions: Arc<Subscriptions>,
    announcements: Arc<Announcements>,
    operations: Operations,
    /// None where no traces are kept.
    trace: Option<Arc<Trace>>,
}

impl RedisBroker {
    /// Starts the engine, which connects by itself: that Redis is away is seen in [`Broker::health`], not here.
    ///
    /// Runs until `cancel`; its tasks are in `tracker`. Must be called within a tokio runtime. What the fleet publishes is
    /// heard on the runtime `feed`, so that it does not wait for other work.
    pub fn connect(
        settings: RedisSettings,
        sink: Arc<dyn Sink>,
        metrics: BrokerMetrics,
        feed: &Handle,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Self, SettingError> {
        let target = settings.target()?;
        let server = Arc::new(Expected::default());
        let reader = Arc::new(Reader::new(&settings, &target, server.clone())?);
        let names = Names::new(&settings.fleet, &epochs::random_text(12));
        let echo_fresh = settings.probe_interval * 2 + settings.probe_timeout;
        let state = State::new(metrics, echo_fresh);
        let context = Arc::new(Context { settings, target, names, state, server, functions: AtomicBool::new(false) });
        let (commands, hearing) = (Arc::new(Commands::new()), Arc::new(Hearing::new()));
        let (subscriptions, ready) = (Arc::new(Subscriptions::new()), Arc::new(Notify::new()));
        let announcements = Arc::new(Announcements::default());

        tracker.spawn(
            Keeper {
                context: context.clone(),
                commands: commands.clone(),
                reader: reader.clone(),
                ready: ready.clone(),
                cancel: cancel.clone(),
            }
            .run(),
        );
        let subscriber = Subscriber {
            context: context.clone(),
            subscriptions: subscriptions.clone(),
            hearing: hearing.clone(),
            announcements: announcements.clone(),
            sink,
            cancel: cancel.clone(),
        };
        tracker.spawn_on(subscriber.run(), feed);
        tracker.spawn(Probe { context: context.clone(), commands: commands.clone(), hearing, ready, cancel }.run());

        Ok(Self {
            operations: Operations::new(&context.state.metrics),
            publisher: Publisher { context: context.clone(), commands: commands.clone() },
            logs: Logs { context: context.clone(), commands, reader },
            context,
            subscriptions,
            announcements,
            trace: None,
        })
    }

    /// Makes commands that publish what is sampled a part of its trace.
    #[must_use]
    pub fn traced(self, trace: Option<Arc<Trace>>) -> Self {
        Self { trace, ..self }
    }

    /// Publishes within a span, whose context the publication takes along.
    async fn publish_sampled(
        &self,
        mut request: Publish<'_>,
        begun: Instant,
        sampled: Begun,
    ) -> Result<Published, BrokerError> {
        let trace = Some(Arc::new(sampled.context.to_string()));
        request.publication = Arc::new(Publication { trace, ..Publication::clone(&request.publication) });
        let outcome = self.publisher.publish(&request, begun).await;
        if let Err(error) = &outcome {
            sampled.failed(error.metric_label());
        }
        outcome
    }

    /// Measures a call and counts its failure. After it, not around it: a future in a future takes its place twice, and
    /// while many channels are joined at once there are many of them.
    fn record<T>(&self, operation: &Operation, begun: Instant, outcome: &Result<T, BrokerError>) {
        operation.seconds.observe(begun.elapsed().as_secs_f64());
        if let Err(error) = outcome {
            let errors = &self.context.state.metrics.broker_errors_total;
            errors.with_label_values(&[operation.name, error.metric_label()]).inc();
        }
    }
}

impl Broker for RedisBroker {
    async fn publish(&self, request: Publish<'_>) -> Result<Published, BrokerError> {
        let begun = Instant::now();
        let sampled = match (&self.trace, &request.publication.trace) {
            (Some(trace), Some(parent)) => trace(Work::Redis { parent }),
            _ => None,
        };
        let outcome = match sampled {
            None => self.publisher.publish(&request, begun).await,
            // Apart, because it is seldom: see [`Publisher::publish`].
            Some(sampled) => Box::pin(self.publish_sampled(request, begun, sampled)).await,
        };
        self.record(&self.operations.publish, begun, &outcome);
        outcome
    }

    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        let begun = Instant::now();
        let outcome = self.subscriptions.subscribe(&self.context, channels).await;
        self.record(&self.operations.subscribe, begun, &outcome);
        outcome
    }

    fn unsubscribe(&self, channel: &Channel) {
        self.subscriptions.unsubscribe(&self.context, channel);
    }

    async fn read(
        &self,
        channel: &Channel,
        since: Option<u64>,
        limit: PageLimit,
    ) -> Result<Option<LogView>, BrokerError> {
        let begun = Instant::now();
        let outcome = self.logs.read(channel, since, limit).await;
        self.record(&self.operations.read, begun, &outcome);
        outcome
    }

    async fn create(&self, channel: &Channel, retention: Retention) -> Result<Position, BrokerError> {
        let begun = Instant::now();
        let outcome = self.logs.create(channel, retention).await;
        self.record(&self.operations.create, begun, &outcome);
        outcome
    }

    async fn tops(&self, channels: &[Channel], refresh: bool) -> Result<Vec<Option<LogTop>>, BrokerError> {
        let begun = Instant::now();
        let outcome = self.logs.tops(channels, refresh).await;
        self.record(&self.operations.tops, begun, &outcome);
        outcome
    }

    async fn cut(&self, channel: &Channel, timeline: &Timeline) -> Result<bool, BrokerError> {
        let begun = Instant::now();
        let outcome = self.logs.cut(channel, timeline).await;
        self.record(&self.operations.cut, begun, &outcome);
        outcome
    }

    async fn history(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, BrokerError> {
        let begun = Instant::now();
        let outcome = self.logs.history(channel, query, retention).await;
        self.record(&self.operations.history, begun, &outcome);
        outcome
    }

    fn limit_envelope(&self, version: u32) {
        self.context.state.limit_envelope(version);
    }

    async fn announce(&self, message: &[u8]) -> Result<(), BrokerError> {
        let begun = Instant::now();
        let outcome = self.publisher.announce(message).await;
        self.record(&self.operations.announce, begun, &outcome);
        outcome
    }

    async fn announcements(&self) -> Vec<Bytes> {
        self.announcements.take().await
    }

    fn health(&self) -> Health {
        self.context.state.health()
    }
}

/// A lifetime as Redis takes it: milliseconds, at least one, and less than makes its clock overflow.
fn millis(life: Duration) -> u64 {
    const CENTURY: u64 = 100 * 365 * 86_400_000;
    u64::try_from(life.as_millis()).unwrap_or(CENTURY).clamp(1, CENTURY)
}

/// A position as scripts write it: `epoch:offset`.
fn place(text: &[u8]) -> Option<Position> {
    let (epoch, offset) = text.split_at_checked(EPOCH_LEN)?;
    let offset = std::str::from_utf8(offset.strip_prefix(b":")?).ok()?.parse().ok()?;
    Some(Position { epoch: Epoch::from_bytes(epoch)?, offset })
}

/// The text that a value is.
fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// An answer that this build does not understand.
fn unreadable(what: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "unexpected answer", what.to_owned()).into()
}
