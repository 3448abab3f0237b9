//! Which server a connection leads to.
//!
//! All connections of a node must end at one server: those for publishing, for reading and for subscriptions. An address
//! behind which there are two that both say that they are the primary (a name with two answers, a proxy between two
//! halves of a split fleet) gives each connection one of them, and then what is published on one is not in the log that
//! is read from the other, although every command is answered. The server's own name for its run tells them apart.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult};

/// Code of the error for a connection that leads to another server than it should.
pub(crate) const SPLIT: &str = "FWSPLIT";

/// What a server says of itself. What it does not say is empty and differs from nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Server {
    run_id: String,
    replication_id: String,
    mode: String,
    primary: bool,
}

impl Server {
    /// Asks the server at the other end of a connection.
    pub(crate) async fn ask(connection: &mut impl ConnectionLike) -> RedisResult<Self> {
        let asked: (String, String) =
            redis::pipe().cmd("INFO").arg("server").cmd("INFO").arg("replication").query_async(connection).await?;
        Ok(Self::parse(&format!("{}\r\n{}", asked.0, asked.1)))
    }

    /// What the sections `server` and `replication` of an `INFO` reply say.
    pub(crate) fn parse(info: &str) -> Self {
        let field = |name: &str| {
            let mut values = info.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values.next().unwrap_or_default().trim().to_owned()
        };
        Self {
            run_id: field("run_id"),
            replication_id: field("master_replid"),
            mode: field("redis_mode"),
            primary: field("role") == "master",
        }
    }

    /// True if it says that it is a primary.
    pub(crate) fn is_primary(&self) -> bool {
        self.primary
    }

    /// Why Fanway cannot work with a server of this kind, whatever it answers.
    pub(crate) fn unsuitable(&self) -> Option<String> {
        match self.mode.as_str() {
            "cluster" => Some(
                "this server is a node of a Redis Cluster, which keeps the logs of other channels elsewhere: redis.url \
                 must lead to a single Redis primary without cluster mode (cluster-enabled no)"
                    .to_owned(),
            ),
            "sentinel" => Some(
                "this server is a Sentinel, which keeps no data: redis.url must lead to the Redis primary that it \
                 watches, or to a name or proxy that follows that primary"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The error for a connection to `other` where this server was meant; `None` if both are one.
    pub(crate) fn split_from(&self, other: &Self) -> Option<RedisError> {
        let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
        let differs = differ(&self.run_id, &other.run_id);
        differs.then(|| {
            let id = |server: &Self| server.run_id.chars().take(8).collect::<String>();
            let reason = format!(
                "connections of this node lead to different servers (run_id {} and {}): redis.url must lead to one \
                 primary, and no other server behind it may be one",
                id(self),
                id(other)
            );
            redis::make_extension_error(SPLIT.to_owned(), Some(reason))
        })
    }

    /// As [`Server::split_from`], of two answers given at the same time: then the replication ids are compared too,
    /// which change while a connection lasts.
    pub(crate) fn split_now(&self, other: &Self) -> Option<RedisError> {
        let [one, two] = [self, other].map(|server| Self { run_id: server.replication_id.clone(), ..Self::default() });
        self.split_from(other).or_else(|| one.split_from(&two))
    }
}

/// The server that all connections are to lead to.
#[derive(Debug, Default)]
pub(crate) struct Expected(Mutex<(Server, Option<Instant>)>);

impl Expected {
    fn lock(&self) -> MutexGuard<'_, (Server, Option<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server that connections made from now on are compared with.
    pub(crate) fn get(&self) -> Server {
        self.lock().0.clone()
    }

    /// Takes another one.
    pub(crate) fn set(&self, server: Server) {
        *self.lock() = (server, Some(Instant::now()));
    }

    /// True if a connection was made before the server was taken, and so may lead to another one.
    pub(crate) fn is_newer_than(&self, made: Instant) -> bool {
        self.lock().1.is_some_and(|taken| made < taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(run_id: &str, replication_id: &str) -> Server {
        Server::parse(&format!(
            "# Server\r\nredis_mode:standalone\r\nrun_id:{run_id}\r\n# Replication\r\nrole:master\r\n\
             master_replid:{replication_id}\r\nmaster_replid2:00\r\n"
        ))
    }

    #[test]
    fn servers_are_told_apart_by_what_they_say() {
        let one = server("aa", "bb");
        assert!(one.is_primary() && one.unsuitable().is_none() && one.split_now(&one).is_none());
        assert!(one.split_from(&server("cc", "bb")).unwrap().detail().unwrap().contains("aa and cc"));
        assert!(one.split_from(&server("aa", "cc")).is_none(), "it changes while a server runs");
        assert!(one.split_now(&server("aa", "cc")).is_some() && one.split_now(&server("cc", "bb")).is_some());
        assert!(one.split_now(&server("", "")).is_none(), "some services hide it");
    }

    #[test]
    fn what_is_no_single_primary_is_named() {
        for (mode, named) in [("cluster", "Redis Cluster"), ("sentinel", "a Sentinel")] {
            assert!(Server::parse(&format!("redis_mode:{mode}\r\n")).unsuitable().unwrap().contains(named));
        }
        assert!(!Server::parse("role:slave\r\n").is_primary());
    }
}
