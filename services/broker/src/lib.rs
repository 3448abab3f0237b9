//! Carries publications between nodes and keeps the channels' logs.
//!
//! [`Broker`] is the contract; [`MemoryBroker`] fulfils it for one node, [`RedisBroker`] for a fleet. [`AnyBroker`] is
//! the choice made at start-up, so that a publish costs no virtual call. One conformance suite (`tests/conformance.rs`)
//! holds both to the same promises.
//!
//! A channel with history is a log: dense offsets from 1, an [`Epoch`] naming the unbroken line,
//! and a [`Ledger`] of the epochs on it. The log is the truth; what arrives through the [`Sink`] is a doorbell with a
//! payload, ordered within a channel but lossy. `fanway-hub` turns it into an ordered stream.
#![forbid(unsafe_code)]

mod announcements;
mod any;
mod epochs;
pub mod error;
pub mod ledger;
pub mod log;
mod log_limit;
pub mod memory;
pub mod metrics;
pub mod redis;
pub mod trace;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanway_protocol::{Channel, Epoch, Position, Publication};

pub use announcements::ANNOUNCEMENT_BYTES;
pub use any::AnyBroker;
pub use error::{BrokerError, Outcome, Refusal};
pub use ledger::{Ledger, Timeline};
pub use log::{HISTORY_BYTES, History, HistoryQuery, LogTop, LogView, PageLimit, Retention};
pub use log_limit::LogLimit;
pub use memory::MemoryBroker;
pub use metrics::BrokerMetrics;
pub use redis::{RedisBroker, RedisSettings, SettingError};

/// What every engine does. Every wait inside has a deadline: no call hangs because a server does.
pub trait Broker: Send + Sync + 'static {
    /// Appends to the channel's log when the channel keeps one, and hands the publication to every subscribed node.
    ///
    /// Never repeated by itself once the outcome is unknown: see [`BrokerError::outcome`].
    fn publish(&self, request: Publish<'_>) -> impl Future<Output = Result<Published, BrokerError>> + Send;

    /// Resolves when this node will see every publication made after this call returned.
    ///
    /// A channel stays subscribed over interruptions until [`Broker::unsubscribe`]. Subscribing a subscribed channel is
    /// answered at once.
    fn subscribe(&self, channels: &[Channel]) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Ends a subscription. Does not wait; later events of the channel may still arrive for a moment.
    fn unsubscribe(&self, channel: &Channel);

    /// One atomic view of the channel's log: current epoch, top, ledger, and the entries after `since`.
    ///
    /// `limit` bounds the entries, which are the oldest; `None` in `since` asks for no entries. A log that does not exist (never
    /// used, expired, flushed) is `Ok(None)`: see [`Broker::create`]. Reads work while the server refuses writes.
    fn read(
        &self,
        channel: &Channel,
        since: Option<u64>,
        limit: PageLimit,
    ) -> impl Future<Output = Result<Option<LogView>, BrokerError>> + Send;

    /// Creates an empty log so that "before anything" is a position, and returns its top; an existing log is left alone.
    /// Until the first publication it lives for [`Retention::unpublished_life`] after this or the last refresh.
    fn create(
        &self,
        channel: &Channel,
        retention: Retention,
    ) -> impl Future<Output = Result<Position, BrokerError>> + Send;

    /// The tops of many logs at once, in the order asked; `None` where there is no log. For the periodic check. With
    /// `refresh`, also prolongs the life of each log's meta data (an idle channel with subscribers keeps its epoch).
    fn tops(
        &self,
        channels: &[Channel],
        refresh: bool,
    ) -> impl Future<Output = Result<Vec<Option<LogTop>>, BrokerError>> + Send;

    /// Records in a log's epoch history that it lacks publications of a timeline which this node has passed on, so that
    /// no position from before the loss is resumed from any more without a gap. Returns whether it was recorded by this
    /// call: not if the log lacks nothing, if the loss is recorded already, or if there is no log.
    ///
    /// Never for a timeline that only a client claims: a cursor can be forged.
    fn cut(&self, channel: &Channel, timeline: &Timeline) -> impl Future<Output = Result<bool, BrokerError>> + Send;

    /// A page of the channel's history for a reader, in either direction. A log that does not exist is created, so that
    /// the answer always names a position to resume from: see [`Broker::create`].
    fn history(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        retention: Retention,
    ) -> impl Future<Output = Result<History, BrokerError>> + Send;

    /// Sets the newest envelope that every node of the fleet reads ([`fanway_protocol::envelope`]). A publication that
    /// needs a newer one is refused with [`BrokerError::FleetVersion`]; before the first call, any that needs more than
    /// the oldest. An engine of one node has no envelope, and ignores it.
    fn limit_envelope(&self, version: u32);

    /// Frees a part of what is past its time. Called about once a second. An engine whose server does that has nothing to
    /// do.
    fn upkeep(&self) {}

    /// Tells every node of the fleet something, this one included. It is kept nowhere: a node that does not hear at that
    /// moment never will. At most [`ANNOUNCEMENT_BYTES`].
    fn announce(&self, message: &[u8]) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Waits for what nodes of the fleet have announced, and takes all of it. For one listener: it is given out once. What
    /// nobody takes is dropped, oldest first.
    fn announcements(&self) -> impl Future<Output = Vec<Bytes>> + Send;

    /// How the way to the other nodes is.
    fn health(&self) -> Health;
}

/// A publish as the engines take it.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// Where to.
    pub channel: &'a Channel,
    /// What.
    pub publication: Arc<Publication>,
    /// What the channel keeps. [`Retention::NONE`] for a channel without history: no log, no position.
    pub retention: Retention,
    /// Makes a repeated publish harmless.
    pub idempotency: Option<Idempotency<'a>>,
}

/// An idempotency key: within its lifetime the same key on the same channel gives the first publish's result.
#[derive(Clone, Copy, Debug)]
pub struct Idempotency<'a> {
    /// 1 to 255 bytes, checked by the caller.
    pub key: &'a str,
    /// Fingerprint of the body. The same key with another fingerprint is [`BrokerError::IdempotencyConflict`].
    pub fingerprint: [u8; 16],
    /// How long the result is kept.
    pub ttl: Duration,
}

/// A publish that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place in the log; `None` for a channel without history.
    pub position: Option<Position>,
    /// Whether this is the stored result of an earlier publish with the same idempotency key.
    pub duplicate: bool,
}

/// Where an engine hands over what it hears. Called from the engine's reader: must return at once and never block.
pub trait Sink: Send + Sync + 'static {
    /// One batch, in the order heard. The receiver takes all of it.
    fn on_events(&self, events: Vec<Event>);
}

/// What an engine hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody published.
    Publication(Delivery),
    /// A message on this channel could not be read (unknown version, damaged): treat it as missed.
    Unreadable(Channel),
    /// The feed broke: on every channel anything may have been missed. Nothing heard before is delivered after this.
    Interrupted,
    /// The channel's feed is whole again; what was missed must be read from the log.
    Restored(Channel),
}

/// A publication as heard.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where.
    pub channel: Channel,
    /// What.
    pub publication: Arc<Publication>,
    /// Its place in the log and the epoch of its predecessor; `None` for a channel without history.
    pub place: Option<Place>,
    /// When this node received it (monotonic), for the delivery latency.
    pub received: Instant,
}

/// Place of a heard publication: its own position, and the epoch its predecessor in the log belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its own.
    pub position: Position,
    /// Differs from `position.epoch` only on the first publication of an epoch.
    pub previous_epoch: Epoch,
}

/// Health of the broker as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Contact has been made at least once since start, self-test passed.
    pub started: bool,
    /// Commands are being answered.
    pub commands: bool,
    /// There is a connection on which the other nodes can be heard.
    pub hears: bool,
    /// An echo published by this node came back through its own subscriber connection recently.
    pub echo: bool,
    /// Commands answer but the echo does not return: this node's own fault, it must not be ready.
    pub deaf: bool,
    /// Connections of this node lead to different servers: its own fault, it must not be ready.
    pub split: bool,
    /// Commands are answered, but the last publishes were refused, for this reason.
    pub refused: Option<Refusal>,
    /// Age of the newest echo that returned.
    pub echo_age: Option<Duration>,
    /// What is wrong, for people; never secrets.
    pub detail: Option<String>,
}
