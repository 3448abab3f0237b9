//! The self-test of a new connection: runs what will be run, and names what the server refuses.
//!
//! It works on keys of this node's own that expire by themselves, and announces on its own echo channel.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::names::Names;
use super::reader::Reader;
use super::{Context, failure, publisher, script};
use crate::{Idempotency, Retention, epochs};

/// A script that does nothing.
const TRIVIAL: &str = "return 1";

/// Why a connection cannot be used.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Retrying does not cure it; this does.
    Refused(String),
    /// It may pass by itself.
    Passing(String),
}

/// What the self-test found out about a connection that can be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// Why writes are refused at present.
    pub(crate) writes_trouble: Option<String>,
    /// A setting of the server that will hurt.
    pub(crate) warning: Option<String>,
}

/// Tests reading, then writing. Only a refusal to write that may pass is no reason to do without the connection.
pub(crate) async fn run(
    context: &Context,
    connection: &mut MultiplexedConnection,
    reader: &Reader,
) -> Result<Findings, Trouble> {
    let trouble = |error: RedisError| Trouble::of(&error, &context.names);
    let info: String = redis::cmd("INFO").arg("replication").query_async(connection).await.map_err(trouble)?;
    if !info.contains("role:master") {
        return Err(Trouble::Passing("this server is a replica: redis.url must lead to the primary".into()));
    }
    let info: String = redis::cmd("INFO").arg("memory").query_async(connection).await.map_err(trouble)?;
    let warning = eviction_warning(&info);
    reads(context, reader).await?;
    let writes_trouble = match writes(&context.names, connection).await {
        Ok(()) => None,
        Err(error) => match Trouble::of(&error, &context.names) {
            Trouble::Passing(reason) if failure::is_answer(&error) => Some(format!("writes are refused: {reason}")),
            trouble => return Err(trouble),
        },
    };
    Ok(Findings { writes_trouble, warning })
}

/// Over a connection of the reader's, whose handling of connections needs rights of its own.
async fn reads(context: &Context, reader: &Reader) -> Result<(), Trouble> {
    let [entries, meta, _] = context.names.trial();
    let read = reader.raw(async |connection| {
        script::READ.run(connection, &[entries, meta], &[b"forward", b"0", b"1"]).await?;
        // A server that knows the scripts is not sent them: whether it would take them is seen here.
        redis::cmd("EVAL_RO").arg(TRIVIAL).arg(0).query_async::<Value>(connection).await?;
        // The pool sends these before it uses a connection again, and quietly makes a new one when they are refused.
        for command in ["UNWATCH", "PING"] {
            redis::cmd(command).query_async::<Value>(connection).await?;
        }
        redis::cmd("HMGET").arg(meta).arg(&["e", "o", "t"]).query_async::<Value>(connection).await
    });
    match read.await {
        Ok(_) => Ok(()),
        Err(Ok(error)) => Err(Trouble::of(&error, &context.names)),
        Err(Err(reason)) => Err(Trouble::Passing(reason)),
    }
}

async fn writes(names: &Names, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    const LIFE: Duration = Duration::from_secs(10);
    let [entries, meta, result] = names.trial();
    let retention = Retention { count: 1, ttl: LIFE, meta_ttl: LIFE };
    let random = epochs::random_text(16);
    let idempotency = Idempotency { key: &random, fingerprint: rand::random(), ttl: LIFE };
    redis::cmd("EVAL").arg(TRIVIAL).arg(0).query_async::<Value>(connection).await?;
    script::CREATE.run(connection, &[entries, meta], &[&random.as_bytes()[..8], b"10000"]).await?;
    let result = format!("{result}:{random}");
    let keys = publisher::LogKeys { entries, meta, result: Some(&result), topic: names.echo() };
    let answer = publisher::append(connection, &keys, b"", retention, Some(&idempotency)).await?;
    if let publisher::Answer::Done { unannounced: Some(reason), .. } = answer {
        return Err(redis::make_extension_error(
            reason.split(' ').next().unwrap_or_default().to_owned(),
            reason.split_once(' ').map(|(_, rest)| rest.to_owned()),
        ));
    }
    let result = format!("{result}:a");
    publisher::announce_once(connection, &result, names.echo(), b"", &idempotency).await?;
    redis::cmd("PEXPIRE").arg(meta).arg(10_000).query_async::<Value>(connection).await?;
    redis::cmd("PUBLISH").arg(names.echo()).arg("").query_async::<Value>(connection).await?;
    // Now that there is an entry to read.
    for direction in ["forward", "reverse"] {
        script::READ.run(connection, &[entries, meta], &[direction.as_bytes(), b"", b"1"]).await?;
    }
    Ok(())
}

/// A server that evicts keys turns memory pressure into gaps. Everything here has a lifetime, so that it is evicted
/// under every policy but `noeviction`.
fn eviction_warning(info: &str) -> Option<String> {
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let policy = field("maxmemory_policy:")?;
    (policy != "noeviction").then(|| {
        format!(
            "maxmemory-policy is {policy}: under memory pressure logs are evicted, which subscribers see as gaps; \
             set maxmemory-policy noeviction"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eviction() {
        assert_eq!(eviction_warning("used_memory:1\r\nmaxmemory_policy:noeviction\r\n"), None);
        assert_eq!(eviction_warning("used_memory:1\r\n"), None);
        let warning = eviction_warning("maxmemory_policy:allkeys-lru\r\n").unwrap();
        assert!(warning.contains("is allkeys-lru") && warning.contains("set maxmemory-policy noeviction"));
    }
}
