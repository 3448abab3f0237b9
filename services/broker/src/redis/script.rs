//! The scripts that run inside Redis, and how they are called.
//!
//! As a function (`FCALL`) where the server and its ACL let us load a library: that costs Redis an eighth less than a
//! script of the same text. As a script, called by its digest, where not. The library's name holds the digest of its
//! text, so that builds with different texts do not replace each other's.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::ConnectionLike;
use redis::{Cmd, RedisError, RedisResult, ServerErrorKind, Value};
use sha1::{Digest, Sha1};

use super::names::hex;
use super::resp::Command;
use crate::ledger::MAX_LEDGER;

/// What each script begins with.
const SERVER: &str = include_str!("lua/server.lua");
/// Name, text, and whether it is called by the commands that cannot write: those work on a server that refuses writes.
const SOURCES: [(&str, &str, bool); 5] = [
    ("publish", include_str!("lua/publish.lua"), false),
    ("announce", include_str!("lua/announce.lua"), false),
    ("read", include_str!("lua/read.lua"), true),
    ("create", include_str!("lua/create.lua"), false),
    ("cut", include_str!("lua/cut.lua"), false),
];

/// All scripts, and the library of them.
pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(Scripts::new);

/// See [`SCRIPTS`].
pub(crate) struct Scripts {
    /// Appends to a log and announces it.
    pub(crate) publish: Script,
    /// Announces once for an idempotency key.
    pub(crate) announce: Script,
    /// Reads a log.
    pub(crate) read: Script,
    /// Makes an empty log.
    pub(crate) create: Script,
    /// Records a loss in a log's epoch history.
    pub(crate) cut: Script,
    /// The library's text.
    library: String,
}

/// One script, in all forms.
pub(crate) struct Script {
    /// By its name.
    function: Form,
    /// By its digest.
    script: Form,
    /// In full, for a server that does not know it.
    text: Form,
}

/// How a script is called: the command and its first word, and the same as they are written.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    command: &'static str,
    script: &'a str,
    written: &'a [u8],
}

impl<'a> Head<'a> {
    /// Bytes of it.
    pub(crate) fn len(self) -> usize {
        self.written.len()
    }

    /// Begins a call with so many keys and arguments.
    pub(crate) fn begin(self, out: &mut Vec<u8>, keys: u8, arguments: usize) -> Command<'_> {
        let mut command = Command::begin(out, 3 + usize::from(keys) + arguments);
        command.raw(self.written);
        command.number(keys.into());
        command
    }
}

/// A head, written once.
struct Form {
    command: &'static str,
    script: String,
    written: Vec<u8>,
}

impl Form {
    fn new(command: &'static str, script: String) -> Self {
        let mut written = Vec::new();
        let mut words = Command::words(&mut written);
        words.word([command.as_bytes()]);
        words.word([script.as_bytes()]);
        Self { command, script, written }
    }

    fn head(&self) -> Head<'_> {
        Head { command: self.command, script: &self.script, written: &self.written }
    }
}

impl Scripts {
    fn new() -> Self {
        // The comments are for us.
        let body = |text: &str| {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("--") && !line.is_empty());
            code.collect::<Vec<_>>().join("\n").replace("MAX_LEDGER", &MAX_LEDGER.to_string()) + "\n"
        };
        let mut functions = body(SERVER);
        for (name, text, _) in SOURCES {
            functions += &format!("local function {name}(KEYS, ARGV)\n{}end\n", body(text));
        }
        let library = format!("fanway_{}", &hex(&Sha1::digest(functions.as_bytes()))[..16]);
        for (name, _, read_only) in SOURCES {
            let flags = if read_only { ", flags = { 'no-writes' }" } else { "" };
            functions +=
                &format!("redis.register_function{{ function_name = '{library}_{name}', callback = {name}{flags} }}\n");
        }
        let [publish, announce, read, create, cut] = SOURCES.map(|(name, text, read_only)| {
            let text = format!("{}{}", body(SERVER), body(text));
            let digest = hex(&Sha1::digest(text.as_bytes()));
            let suffix = |all, read_only_too| if read_only { read_only_too } else { all };
            Script {
                function: Form::new(suffix("FCALL", "FCALL_RO"), format!("{library}_{name}")),
                script: Form::new(suffix("EVALSHA", "EVALSHA_RO"), digest),
                text: Form::new(suffix("EVAL", "EVAL_RO"), text),
            }
        });
        Self { publish, announce, read, create, cut, library: format!("#!lua name={library}\n{functions}") }
    }

    /// Has the server load the library. Not to be repeated when refused: scripts do as well.
    pub(crate) async fn load(&self, connection: &mut impl ConnectionLike) -> RedisResult<()> {
        let loaded = redis::cmd("FUNCTION").arg("LOAD").arg(&self.library).query_async::<Value>(connection).await;
        match loaded {
            // By another node, at the same time.
            Err(error) if error.detail().is_some_and(|detail| detail.contains("already exists")) => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

impl Script {
    /// How it is called where it is known.
    pub(crate) fn head(&self, as_function: bool) -> Head<'_> {
        if as_function { self.function.head() } else { self.script.head() }
    }

    /// How it is called where it is not known.
    pub(crate) fn head_in_full(&self) -> Head<'_> {
        self.text.head()
    }

    /// After a failed call: how to call it next, if the failure proves that the server does not know it, and so that
    /// nothing was done. Loads what the server has lost.
    pub(crate) async fn recover(
        &self,
        connection: &mut impl ConnectionLike,
        functions: &AtomicBool,
        error: &RedisError,
    ) -> Option<Head<'_>> {
        if error.kind() == ServerErrorKind::NoScript.into() {
            return Some(self.head_in_full());
        }
        if !error.detail().is_some_and(|detail| detail.starts_with("Function not found")) {
            return None;
        }
        match SCRIPTS.load(connection).await {
            Ok(()) => Some(self.head(true)),
            Err(_) => {
                functions.store(false, Ordering::Relaxed);
                Some(self.head_in_full())
            }
        }
    }

    /// Runs it, as a function if the server has functions.
    pub(crate) async fn run(
        &self,
        connection: &mut impl ConnectionLike,
        functions: &AtomicBool,
        keys: &[&str],
        args: &[&[u8]],
    ) -> RedisResult<Value> {
        let head = self.head(functions.load(Ordering::Relaxed));
        match command(head, keys, args).query_async(connection).await {
            Err(error) => match self.recover(connection, functions, &error).await {
                Some(head) => command(head, keys, args).query_async(connection).await,
                None => Err(error),
            },
            answer => answer,
        }
    }
}

fn command(head: Head<'_>, keys: &[&str], args: &[&[u8]]) -> Cmd {
    let mut cmd = redis::cmd(head.command);
    cmd.arg(head.script).arg(keys.len()).arg(keys);
    for arg in args {
        cmd.arg(*arg);
    }
    cmd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_in_two_forms() {
        assert!(SCRIPTS.library.starts_with("#!lua name=fanway_"));
        for script in [&SCRIPTS.publish, &SCRIPTS.announce, &SCRIPTS.read, &SCRIPTS.create, &SCRIPTS.cut] {
            assert!(SCRIPTS.library.contains(&format!("function_name = '{}'", script.function.script)));
            assert!(script.text.script.contains("reign_here") && !script.text.script.contains("--"));
        }
        assert!(SCRIPTS.publish.text.script.contains("count > 64") && !SCRIPTS.library.contains("MAX_LEDGER"));
    }
}
