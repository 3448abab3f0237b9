//! The engine chosen at start-up.
use crate::{Broker, BrokerError, Health, History, HistoryQuery, LogView, MemoryBroker, Publish, Published, RedisBroker, Retention};
use fanway_protocol::{Channel, Position};

/// One of the engines.
pub enum AnyBroker {
    /// One node.
    Memory(MemoryBroker),
    /// A fleet.
    Redis(RedisBroker),
}

impl Broker for AnyBroker {
    async fn publish(&self, _request: Publish<'_>) -> Result<Published, BrokerError> { unimplemented!() }
    async fn subscribe(&self, _channels: &[Channel]) -> Result<(), BrokerError> { unimplemented!() }
    fn unsubscribe(&self, _channel: &Channel) {}
    async fn read(&self, _channel: &Channel, _since: Option<u64>, _limit: usize) -> Result<Option<LogView>, BrokerError> { unimplemented!() }
    async fn create(&self, _channel: &Channel, _retention: Retention) -> Result<Position, BrokerError> { unimplemented!() }
    async fn tops(&self, _channels: &[Channel], _refresh: bool) -> Result<Vec<Option<Position>>, BrokerError> { unimplemented!() }
    async fn history(&self, _channel: &Channel, _query: HistoryQuery) -> Result<History, BrokerError> { unimplemented!() }
    fn health(&self) -> Health { unimplemented!() }
}
