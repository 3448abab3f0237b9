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

    /// A connection for pipelines.
    pub fn replay(&self) -> anyhow::Result<Replay> {
        Replay::connect(self.address)
    }

    /// Does something, and returns the first command that came of it from outside and that is wanted.
    pub fn overhear(
        &self,
        act: impl FnOnce() -> anyhow::Result<()>,
        wanted: impl Fn(&[Vec<u8>]) -> bool,
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(b"MONITOR\r\n")?;
        let mut lines = BufReader::new(stream).lines();
        // The first says that it listens.
        lines.next().context("redis closed the connection")??;
        act()?;
        for line in lines {
            let line = line?;
            // What scripts call is marked as theirs.
            if !line.contains(" lua] ")
                && let Some(words) = words(&line)
                && wanted(&words)
            {
                return Ok(words);
            }
        }
        bail!("redis closed the connection")
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

/// Commands as the server takes them, many in one write.
#[derive(Debug, Default)]
pub struct Pipeline(Vec<u8>);

impl Pipeline {
    /// Adds a command.
    pub fn add<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        self.0.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            let word = word.as_ref();
            self.0.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.0.extend_from_slice(word);
            self.0.extend_from_slice(b"\r\n");
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A connection over which pipelines are sent one after another.
pub struct Replay(TcpStream);

impl Replay {
    pub(super) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self(stream))
    }

    /// Sends a pipeline and waits until all of it is answered. An error among the answers is one here.
    pub fn send(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        const END: &[u8] = b"+PONG\r\n";
        self.0.write_all(&[pipeline.bytes(), b"PING\r\n"].concat())?;
        let (mut answers, mut piece) = (Vec::new(), [0; 16 * 1024]);
        while !answers.ends_with(END) {
            match self.0.read(&mut piece)? {
                0 => bail!("redis closed the connection"),
                length => answers.extend_from_slice(&piece[..length]),
            }
        }
        match refusal(&answers) {
            Some(why) => bail!("redis refuses a command: {why}"),
            None => Ok(()),
        }
    }
}

/// The first error among answers.
fn refusal(mut answers: &[u8]) -> Option<String> {
    while let Some(end) = answers.windows(2).position(|window| window == b"\r\n") {
        let (line, rest) = answers.split_at(end);
        answers = &rest[2..];
        let text = String::from_utf8_lossy(line);
        match text.split_at_checked(1) {
            Some(("-", why)) => return Some(why.to_owned()),
            // What is in a text may look like anything.
            Some(("$", length)) => {
                let length = length.parse().unwrap_or(0);
                answers = answers.get(length + 2..).unwrap_or_default();
            }
            _ => {}
        }
    }
    None
}

/// The words of a line of `MONITOR`, which quotes and escapes them.
fn words(line: &str) -> Option<Vec<Vec<u8>>> {
    let (_, quoted) = line.split_once("] ")?;
    let mut bytes = quoted.bytes().peekable();
    let mut words = Vec::new();
    while bytes.next()? == b'"' {
        let mut word = Vec::new();
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => word.push(match bytes.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let mut digit = || char::from(bytes.next()?).to_digit(16);
                        u8::try_from(digit()? * 16 + digit()?).ok()?
                    }
                    other => other,
                }),
                other => word.push(other),
            }
        }
        words.push(word);
        if bytes.next().is_none() {
            return Some(words);
        }
    }
    None
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
    fn what_is_overheard_is_what_was_sent() {
        let line = r#"+1700000000.1 [0 127.0.0.1:5] "SET" "a b\"c\\" "\x00\xffz\n" """#;
        let expected: [&[u8]; 4] = [b"SET", b"a b\"c\\", b"\x00\xffz\n", b""];
        assert_eq!(words(line).unwrap(), expected);
        for line in ["+OK", "+1 [0 x] ", "+1 [0 x] \"a", "+1 [0 x] \"a\"b\"", "+1 [0 x] \"\\x0\""] {
            assert_eq!(words(line), None, "{line}");
        }
        let mut pipeline = Pipeline::default();
        pipeline.add(&["GET", "a"]);
        pipeline.add(&[b"PING"]);
        assert_eq!(pipeline.bytes(), b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn errors_are_found_among_answers() {
        assert_eq!(refusal(b"*2\r\n$4\r\n-a\r\n\r\n:1\r\n+PONG\r\n"), None);
        assert_eq!(refusal(b"$1\r\nx\r\n-ERR no\r\n+PONG\r\n").as_deref(), Some("ERR no"));
    }

    #[test]
    fn calls_are_counted_by_command() {
        let text = "# Commandstats\r\ncmdstat_evalsha:calls=12,usec=3,usec_per_call=0.25\r\ncmdstat_client|list:calls=1,usec=1\r\n";
        assert_eq!(calls(text), [("evalsha".to_owned(), 12), ("client|list".to_owned(), 1)]);
    }
}
