//! The scripts that run inside Redis, and how they are called.

use std::sync::LazyLock;

use redis::aio::ConnectionLike;
use redis::{Cmd, RedisResult, ServerErrorKind, Value};
use sha1::{Digest, Sha1};

/// Appends to a log and announces it.
pub(crate) static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/publish.lua"), false));
/// Announces once for an idempotency key.
pub(crate) static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/announce.lua"), false));
/// Reads a log.
pub(crate) static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/read.lua"), true));
/// Makes an empty log.
pub(crate) static CREATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/create.lua"), false));

/// A script, called by its digest; sent in full only to a server that does not know it.
pub(crate) struct Script {
    text: &'static str,
    digest: String,
    /// Called by the commands that cannot write: those work on a server that refuses writes.
    read_only: bool,
}

impl Script {
    fn new(text: &'static str, read_only: bool) -> Self {
        Self { text, digest: super::names::hex(&Sha1::digest(text.as_bytes())), read_only }
    }

    /// Runs it. `NOSCRIPT` proves that nothing was done, so sending it in full is no repetition.
    pub(crate) async fn run(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &[&str],
        args: &[&[u8]],
    ) -> RedisResult<Value> {
        match self.command(false, keys, args).query_async(connection).await {
            Err(error) if error.kind() == ServerErrorKind::NoScript.into() => {
                self.command(true, keys, args).query_async(connection).await
            }
            answer => answer,
        }
    }

    fn command(&self, in_full: bool, keys: &[&str], args: &[&[u8]]) -> Cmd {
        let mut cmd = redis::cmd(match (in_full, self.read_only) {
            (true, true) => "EVAL_RO",
            (true, false) => "EVAL",
            (false, true) => "EVALSHA_RO",
            (false, false) => "EVALSHA",
        });
        cmd.arg(if in_full { self.text } else { &self.digest }).arg(keys.len()).arg(keys);
        for arg in args {
            cmd.arg(*arg);
        }
        cmd
    }
}
