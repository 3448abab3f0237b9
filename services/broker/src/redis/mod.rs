//! The engine for a fleet: logs and pub/sub in Redis.
//! (skeleton)
use crate::{Broker, BrokerError, Health, History, HistoryQuery, LogView, Publish, Published, Retention};
use fanway_protocol::{Channel, Position};

/// Logs and pub/sub in one Redis.
pub struct RedisBroker {
    _private: (),
}

fn absent<T>() -> Result<T, BrokerError> {
    Err(BrokerError::Unavailable("not built yet".into()))
}

impl Broker for RedisBroker {
    async fn publish(&self, _request: Publish<'_>) -> Result<Published, BrokerError> {
        absent()
    }
    async fn subscribe(&self, _channels: &[Channel]) -> Result<(), BrokerError> {
        absent()
    }
    fn unsubscribe(&self, _channel: &Channel) {}
    async fn read(&self, _: &Channel, _: Option<u64>, _: usize) -> Result<Option<LogView>, BrokerError> {
        absent()
    }
    async fn create(&self, _channel: &Channel, _retention: Retention) -> Result<Position, BrokerError> {
        absent()
    }
    async fn tops(&self, _channels: &[Channel], _refresh: bool) -> Result<Vec<Option<Position>>, BrokerError> {
        absent()
    }
    async fn history(&self, _channel: &Channel, _query: HistoryQuery) -> Result<History, BrokerError> {
        absent()
    }
    fn health(&self) -> Health {
        Health { started: false, commands: false, echo: false, deaf: false, echo_age: None, detail: None }
    }
}
