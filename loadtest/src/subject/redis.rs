//! A `redis-server` of a run, and the few commands that ask it what it did.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::process::Process;

/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A running server that keeps nothing on disk.
pub struct Redis {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it may write. Deleted after its end.
    _directory: TempDir,
}

impl Redis {
    pub(super) fn start(core: Option<usize>, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &address.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.args(["--maxclients", "2000", "--dir"]).arg(directory.path());
        let process = Process::start(&mut command, core)?;
        let mut redis = Self { process, address, _directory: directory };
        redis.process.wait_until(interrupted, || {
            command_to(address, &["PING"]).is_ok_and(|answer| answer.starts_with("PONG"))
        })?;
        Ok(redis)
    }

    /// Runs a command; the answer's text.
    pub fn command(&self, words: &[&str]) -> anyhow::Result<String> {
        command_to(self.address, words)
    }

    /// How often each command was called, scripts' own calls included.
    pub fn calls(&self) -> anyhow::Result<Vec<(String, u64)>> {
        Ok(calls(&self.command(&["INFO", "commandstats"])?))
    }

    /// A figure of INFO.
    pub fn figure(&self, section: &str, name: &str) -> anyhow::Result<u64> {
        let text = self.command(&["INFO", section])?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("redis has no {name}"))
    }
}

fn calls(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// One command over a connection of its own. Understands simple strings, numbers and bulk strings.
fn command_to(address: SocketAddr, words: &[&str]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("+" | ":", text)) => Ok(text.to_owned()),
        Some(("$", length)) => {
            let mut text = vec![0; length.parse::<usize>().context("redis has no such value")?];
            reader.read_exact(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        _ => bail!("redis answers {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_command() {
        let text = "# Commandstats\r\ncmdstat_evalsha:calls=12,usec=3,usec_per_call=0.25\r\ncmdstat_client|list:calls=1,usec=1\r\n";
        assert_eq!(calls(text), [("evalsha".to_owned(), 12), ("client|list".to_owned(), 1)]);
    }
}
