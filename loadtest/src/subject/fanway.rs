//! A Fanway node of a run.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;

use super::counter::Counter;
use super::process::Process;
use crate::http::Client;
use crate::target::Target;

/// How nodes of a run are to be.
pub(super) struct Settings<'a> {
    /// The binary.
    pub(super) binary: &'a Path,
    /// Signs tokens.
    pub(super) secret: &'a str,
    /// Of the server API.
    pub(super) api_key: &'a str,
    /// Joins them; without it each is alone.
    pub(super) redis: Option<SocketAddr>,
    /// Certificate and key, in files.
    pub(super) tls: Option<(&'a Path, &'a Path)>,
    /// Threads that serve connections; as many as there are cores if unset.
    pub(super) worker_threads: Option<u8>,
    /// Further settings: path and value.
    pub(super) more: &'a [(String, String)],
    /// Where it runs.
    pub(super) core: Option<usize>,
    /// Whether its instructions are counted.
    pub(super) counted: bool,
}

/// A running node.
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Where clients connect.
    pub door: Target,
    /// Where back ends publish and operators look.
    pub internal: Target,
    /// The count of its instructions, complete once it has ended.
    counter: Option<Counter>,
}

impl Node {
    pub(super) fn start(settings: &Settings<'_>, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        // Both are held until both are known, so that they differ.
        let ports = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [listen, internal] = [ports[0].local_addr()?, ports[1].local_addr()?];
        drop(ports);
        let counter = settings.counted.then(Counter::new).transpose()?;
        let mut command = match &counter {
            Some(counter) => counter.command(settings.binary),
            None => Command::new(settings.binary),
        };
        command.arg("serve").env_remove("FANWAY_CONFIG");
        // Not as flags: those are for all of the machine to read.
        let mut set = |path: &str, value: &str| {
            command.env(format!("FANWAY__{}", path.to_ascii_uppercase().replace('.', "__")), value);
        };
        set("server.listen", &listen.to_string());
        set("server.internal_listen", &internal.to_string());
        set("auth.keys.0.algorithm", "HS256");
        set("auth.keys.0.secret", settings.secret);
        set("api.keys.0.id", "loadtest");
        set("api.keys.0.key", settings.api_key);
        set("default_namespace.history_size", "100");
        set("default_namespace.history_ttl", "5m");
        set("telemetry.log_level", "warn");
        set("drain.propagation_delay", "0s");
        set("drain.window", "0s");
        set("drain.close_timeout", "1s");
        if let Some(redis) = settings.redis {
            set("broker.engine", "redis");
            set("redis.url", &format!("redis://{redis}"));
        }
        if let Some((certificate, key)) = settings.tls {
            set("server.tls.cert_file", &certificate.to_string_lossy());
            set("server.tls.key_file", &key.to_string_lossy());
        }
        settings.more.iter().for_each(|(path, value)| set(path, value));
        if let Some(threads) = settings.worker_threads {
            command.env("TOKIO_WORKER_THREADS", threads.to_string());
        }
        let mut process = Process::start(&mut command, settings.core)?;
        let internal = Target::local(internal, false);
        let mut client = Client::new(&internal, Duration::from_secs(1));
        process
            .wait_until(interrupted, || client.get("/health/ready").is_ok_and(|response| response.status == 200))
            .with_context(|| settings.binary.display().to_string())?;
        Ok(Self { process, door: Target::local(listen, settings.tls.is_some()), internal, counter })
    }

    /// Stops the node and returns how many instructions it executed from its start to its end.
    pub fn instructions(mut self, within: Duration, interrupted: &AtomicBool) -> anyhow::Result<f64> {
        self.process.terminate();
        self.process.finish(within, interrupted).context("the node did not stop")?;
        self.counter.context("the node does not run under valgrind")?.read()
    }
}
