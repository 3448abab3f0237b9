//! The self-test of a new connection: runs what will be run, and names what the server refuses.
//!
//! It works on keys of this node's own that expire by themselves, and announces on its own echo channel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult, Value};

use super::connection::Link;
use super::names::Names;
use super::pipe::Pipe;
use super::reader::Reader;
use super::script::SCRIPTS;
use super::{Context, failure, publisher};
use crate::{Idempotency, Refusal, Retention, epochs};

/// No functions: the way that must work everywhere.
static SCRIPTS_ALONE: AtomicBool = AtomicBool::new(false);
/// A script that does nothing.
const TRIVIAL: &str = "return 1";

/// Why a connection cannot be used.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Retrying does not cure it; this does.
    Refused(String),
    /// It may pass by itself.
    Passing(String),
    /// Connections lead to different servers: this node's own trouble, which new connections may cure.
    Split(String),
}

/// What the self-test found out about a connection that can be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// Why writes are refused at present, and the server's words.
    pub(crate) refused: Option<(Refusal, String)>,
    /// A setting of the server that will hurt.
    pub(crate) warning: Option<String>,
}

/// Tests reading, then writing. Only a refusal to write that may pass is no reason to do without the connection.
pub(crate) async fn run(context: &Context, link: &Link, reader: &Reader) -> Result<Findings, Trouble> {
    let connection = &mut link.pipe.clone();
    let trouble = |error: RedisError| Trouble::of(&error, &context.names);
    if !link.server.is_primary() {
        return Err(Trouble::Passing("this server is a replica: redis.url must lead to the primary".into()));
    }
    let info: String = redis::cmd("INFO").arg("memory").query_async(connection).await.map_err(trouble)?;
    let warning = eviction_warning(&info);
    reads(context, link, reader).await?;
    let refused = match writes(&context.names, &link.pipe, &SCRIPTS_ALONE).await {
        Ok(()) => {
            context.functions.store(functions(context, link).await, Ordering::Relaxed);
            None
        }
        Err(error) => match Trouble::of(&error, &context.names) {
            Trouble::Passing(reason) if failure::is_answer(&error) => {
                Some((failure::refusal(&reason).unwrap_or(Refusal::Other), reason))
            }
            trouble => return Err(trouble),
        },
    };
    Ok(Findings { refused, warning })
}

/// Over both connections that read.
async fn reads(context: &Context, link: &Link, reader: &Reader) -> Result<(), Trouble> {
    read_once(&context.names, &mut link.reads.clone(), &SCRIPTS_ALONE)
        .await
        .map_err(|error| Trouble::of(&error, &context.names))?;
    let read = reader.raw(async |connection| {
        read_once(&context.names, connection, &SCRIPTS_ALONE).await?;
        // The pool sends these before it uses a connection again, and quietly makes a new one when they are refused.
        for command in ["UNWATCH", "PING"] {
            redis::cmd(command).query_async::<Value>(connection).await?;
        }
        Ok(())
    });
    match read.await {
        Ok(()) => Ok(()),
        Err(Ok(error)) => Err(Trouble::of(&error, &context.names)),
        Err(Err(reason)) => Err(Trouble::Passing(reason)),
    }
}

async fn read_once(names: &Names, connection: &mut impl ConnectionLike, functions: &AtomicBool) -> RedisResult<()> {
    let [entries, meta, _] = names.trial();
    SCRIPTS.read.run(connection, functions, &[entries, meta], &[b"forward", b"0", b"1", b"1", b"1"]).await?;
    // A server that knows the scripts is not sent them: whether it would take them is seen here.
    redis::cmd("EVAL_RO").arg(TRIVIAL).arg(0).query_async::<Value>(connection).await?;
    redis::cmd("GET").arg(meta).query_async::<Value>(connection).await?;
    Ok(())
}

/// Whether functions can be used instead of scripts. A refusal is no trouble: scripts do the same.
async fn functions(context: &Context, link: &Link) -> bool {
    let names = &context.names;
    let functions = AtomicBool::new(true);
    let tried = async {
        SCRIPTS.load(&mut link.pipe.clone()).await?;
        writes(names, &link.pipe, &functions).await?;
        read_once(names, &mut link.reads.clone(), &functions).await
    };
    let tried = tried.await;
    let news = context.state.functions(tried.is_err());
    if let Err(error) = tried {
        if news {
            tracing::info!(
                reason = failure::said(&error),
                "redis does not let functions be used; scripts are used instead"
            );
        }
        return false;
    }
    functions.into_inner()
}

async fn writes(names: &Names, pipe: &Pipe, functions: &AtomicBool) -> Result<(), RedisError> {
    const LIFE: Duration = Duration::from_secs(10);
    let [entries, meta, result] = names.trial();
    let connection = &mut pipe.clone();
    let retention = Retention { count: 1, ttl: LIFE, meta_ttl: LIFE };
    let random = epochs::random_text(16);
    let idempotency = Idempotency { key: &random, fingerprint: rand::random(), ttl: LIFE };
    redis::cmd("EVAL").arg(TRIVIAL).arg(0).query_async::<Value>(connection).await?;
    let timeline = format!("{}:1", "0".repeat(fanway_protocol::position::EPOCH_LEN));
    SCRIPTS.cut.run(connection, functions, &[meta], &[timeline.as_bytes(), &random.as_bytes()[..8]]).await?;
    SCRIPTS.create.run(connection, functions, &[entries, meta], &[&random.as_bytes()[..8], b"10000"]).await?;
    let result = format!("{result}:{random}");
    // The second finds one entry and looks for it, the third displaces both. Each with a result of its own: what is
    // stored is not done again.
    for (number, count) in [1, 2, 1].into_iter().enumerate() {
        let result = format!("{result}:{number}");
        let log = publisher::Log {
            entries: [entries, "", ""],
            meta: [meta, "", ""],
            topic: [names.echo(), "", ""],
            result: Some(&result),
        };
        let retention = Retention { count, ..retention };
        let answer = publisher::append(pipe, functions, &log, b"", retention, Some(&idempotency)).await?;
        if let publisher::Answer::Done { unannounced: Some(reason), .. } = answer {
            return Err(redis::make_extension_error(
                reason.split(' ').next().unwrap_or_default().to_owned(),
                reason.split_once(' ').map(|(_, rest)| rest.to_owned()),
            ));
        }
    }
    let result = format!("{result}:a");
    publisher::announce_once(pipe, functions, &result, names.echo(), b"", &idempotency).await?;
    redis::cmd("PEXPIRE").arg(meta).arg(10_000).query_async::<Value>(connection).await?;
    redis::cmd("PUBLISH").arg(names.echo()).arg("").query_async::<Value>(connection).await?;
    // Now that there is an entry to read.
    for direction in ["forward", "reverse"] {
        SCRIPTS
            .read
            .run(connection, functions, &[entries, meta], &[direction.as_bytes(), b"", b"1", b"1", b"1"])
            .await?;
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
