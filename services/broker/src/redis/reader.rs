//! Connections for reading logs: a small pool of their own, so that a slow publish does not hold up a repair, nor a
//! large read a publish.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::{Connection, Hook, HookError, Manager, Pool, PoolError, Runtime, Timeouts};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult};
use tokio::time::timeout;

use super::failure;
use super::server::{Expected, SPLIT, Server};
use super::settings::{RedisSettings, SettingError, Target};
use crate::BrokerError;

/// Connections made for one read, if they lead to another server than the connections for commands.
const ATTEMPTS: usize = 4;

/// Runs reads.
pub(crate) struct Reader {
    pool: Pool,
    /// For the whole of a read: waiting for a connection, making or testing it, and the answer.
    deadline: Duration,
}

impl Reader {
    /// Each connection is compared with `expected` when it is made.
    pub(crate) fn new(
        settings: &RedisSettings,
        target: &Target,
        expected: Arc<Expected>,
    ) -> Result<Self, SettingError> {
        let unusable = |problem: String| SettingError { setting: "url", problem };
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.command_timeout));
        let manager = Manager::new_with_config(target.client.clone().set_tcp_settings(tcp), config)
            .map_err(|error| unusable(error.to_string()))?;
        let newest = expected.clone();
        let pool = Pool::builder(manager)
            .max_size(settings.read_connections)
            .post_create(Hook::async_fn(move |connection: &mut MultiplexedConnection, _| {
                let expected = expected.clone();
                Box::pin(async move {
                    let server = Server::ask(connection).await.map_err(HookError::Backend)?;
                    expected.get().split_from(&server).map_or(Ok(()), |split| Err(HookError::Backend(split)))
                })
            }))
            .pre_recycle(Hook::sync_fn(move |_, metrics| match newest.is_newer_than(metrics.created) {
                true => Err(HookError::message("made before the connections for commands")),
                false => Ok(()),
            }))
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

    /// Closes the connections that nobody uses, because they may lead to another server than those made from now on. Those
    /// in use are closed when they come back.
    pub(crate) fn renew(&self) {
        drop(self.pool.retain(|_, _| false));
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
            let mut connection = self.connection().await?;
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

    /// A connection to the expected server. The address may lead elsewhere at one attempt and there at the next.
    async fn connection(&self) -> Result<Connection, Result<RedisError, String>> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            return match self.pool.get().await {
                Ok(connection) => Ok(connection),
                Err(PoolError::PostCreateHook(HookError::Backend(error))) => {
                    if error.code() == Some(SPLIT) && attempts < ATTEMPTS {
                        continue;
                    }
                    Err(Ok(error))
                }
                Err(PoolError::Backend(error)) => Err(Ok(error)),
                Err(PoolError::Timeout(_)) => Err(Err("no connection for reading was free in time".to_owned())),
                Err(error) => Err(Err(error.to_string())),
            };
        }
    }
}
