//! The engine chosen at start-up.

use bytes::Bytes;
use fanway_protocol::{Channel, Position};

use crate::{
    Broker, BrokerError, Health, History, HistoryQuery, LogTop, LogView, MemoryBroker, PageLimit, Publish, Published,
    RedisBroker, Retention, Timeline,
};

/// One of the engines.
pub enum AnyBroker {
    /// One node.
    Memory(MemoryBroker),
    /// A fleet.
    Redis(RedisBroker),
}

/// Calls the same method of whichever engine it is.
macro_rules! dispatch {
    ($any:expr, $engine:ident => $call:expr) => {
        match $any {
            AnyBroker::Memory($engine) => $call,
            AnyBroker::Redis($engine) => $call,
        }
    };
}

impl Broker for AnyBroker {
    async fn publish(&self, request: Publish<'_>) -> Result<Published, BrokerError> {
        dispatch!(self, engine => engine.publish(request).await)
    }

    async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        dispatch!(self, engine => engine.subscribe(channels).await)
    }

    fn unsubscribe(&self, channel: &Channel) {
        dispatch!(self, engine => engine.unsubscribe(channel));
    }

    async fn read(
        &self,
        channel: &Channel,
        since: Option<u64>,
        limit: PageLimit,
    ) -> Result<Option<LogView>, BrokerError> {
        dispatch!(self, engine => engine.read(channel, since, limit).await)
    }

    async fn create(&self, channel: &Channel, retention: Retention) -> Result<Position, BrokerError> {
        dispatch!(self, engine => engine.create(channel, retention).await)
    }

    async fn tops(&self, channels: &[Channel], refresh: bool) -> Result<Vec<Option<LogTop>>, BrokerError> {
        dispatch!(self, engine => engine.tops(channels, refresh).await)
    }

    async fn cut(&self, channel: &Channel, timeline: &Timeline) -> Result<bool, BrokerError> {
        dispatch!(self, engine => engine.cut(channel, timeline).await)
    }

    async fn history(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, BrokerError> {
        dispatch!(self, engine => engine.history(channel, query, retention).await)
    }

    fn limit_envelope(&self, version: u32) {
        dispatch!(self, engine => engine.limit_envelope(version));
    }

    fn upkeep(&self) {
        dispatch!(self, engine => engine.upkeep());
    }

    async fn announce(&self, message: &[u8]) -> Result<(), BrokerError> {
        dispatch!(self, engine => engine.announce(message).await)
    }

    async fn announcements(&self) -> Vec<Bytes> {
        dispatch!(self, engine => engine.announcements().await)
    }

    fn health(&self) -> Health {
        dispatch!(self, engine => engine.health())
    }
}
