//! Connections for reading logs: a small pool of their own, so that a slow publish does not hold up a repair, nor a
//! large read a publish.

use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime, Timeouts};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult};
use tokio::time::timeout;

use super::failure;
use super::settings::{RedisSettings, SettingError, Target};
use crate::BrokerError;

/// Runs reads.
pub(crate) struct Reader {
    pool: Pool,
    /// For the whole of a read: waiting for a connection, making or testing it, and the answer.
    deadline: Duration,
}

impl Reader {
    pub(crate) fn new(settings: &RedisSettings, target: &Target) -> Result<Self, SettingError> {
        let unusable = |problem: String| SettingError { setting: "url", problem };
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.command_timeout));
        let manager = Manager::new_with_config(target.client.clone().set_tcp_settings(tcp), config)
            .map_err(|error| unusable(error.to_string()))?;
        let pool = Pool::builder(manager)
            .max_size(settings.read_connections)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(settings.read_timeout),
                create: Some(settings.connect_timeout),
                recycle: Some(settings.command_timeout),
            })
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { pool, deadline: settings.read_timeout })
    }

    /// Runs a read. Its failure proves nothing about the log.
    pub(crate) async fn run<T>(
        &self,
        read: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, BrokerError> {
        self.raw(read).await.map_err(|failure| match failure {
            Ok(error) => failure::of_read(&error),
            Err(reason) => BrokerError::Unavailable(reason),
        })
    }

    /// As [`Reader::run`]; what failed is Redis (`Ok`) or the wait for it (`Err`).
    pub(crate) async fn raw<T>(
        &self,
        read: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Result<RedisError, String>> {
        let attempt = timeout(self.deadline, async {
            let mut connection = self.pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => Ok(error),
                PoolError::Timeout(_) => Err("no connection for reading was free in time".to_owned()),
                error => Err(error.to_string()),
            })?;
            let answer = read(&mut connection).await;
            if let Err(error) = &answer
                && (!failure::is_answer(error) || failure::is_replica(error))
            {
                // Never to be used again.
                drop(Connection::take(connection));
            }
            answer.map_err(Ok)
        });
        attempt.await.unwrap_or_else(|_| Err(Err(format!("no answer within {:?}", self.deadline))))
    }
}
