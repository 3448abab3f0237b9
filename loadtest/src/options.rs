//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use fanway_protocol::Channel;
use serde::Serialize;

use crate::transport::Transport;

/// Load generator of Fanway.
///
/// Holds connections, publishes, and says what it cost: latency, CPU per delivery, memory per connection. Checks that
/// every client received every publication once and in order, and exits with 1 if not.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example: fanway-loadtest fanout --spawn target/release/fanway --connections 1000")]
pub struct Options {
    /// What to measure.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The scenarios.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Hold subscribed connections: server memory per connection, CPU per connection and second
    Idle(Idle),
    /// Hold connections subscribed to one channel and publish into it: latency, delivered rate, CPU per delivery
    Fanout(Fanout),
}

impl Scenario {
    /// The options that every scenario has.
    pub fn common(&self) -> &Common {
        match self {
            Self::Idle(options) => &options.common,
            Self::Fanout(options) => &options.common,
        }
    }
}

/// Options of `idle`.
#[derive(Debug, Args)]
pub struct Idle {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Whether all connections subscribe to one channel or each to its own
    #[arg(long, value_enum, default_value_t = Spread::Shared)]
    pub channels: Spread,
    /// How long to hold the connections once all are there
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
}

/// How channels are spread over connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// One channel for all.
    Shared,
    /// One channel each.
    Own,
}

/// Options of `fanout`.
#[derive(Debug, Args)]
pub struct Fanout {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Publications per second
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    pub rate: f64,
    /// How many publications
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub publications: u64,
    /// Publish for so long instead of a number of publications
    #[arg(long, conflicts_with = "publications", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Bytes of each publication's data
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(0..=1024 * 1024))]
    pub payload_bytes: u64,
    /// How long to wait for the last deliveries
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub settle: Duration,
}

/// Options of every scenario.
#[derive(Debug, Args)]
pub struct Common {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Allow a server on another machine; only load what is yours
    #[arg(long)]
    pub allow_remote: bool,
    /// Start this `fanway` binary for the run, with the memory broker and fresh keys, instead of loading a running server
    #[arg(long, value_name = "BINARY", conflicts_with_all = ["url", "server_pid"])]
    pub spawn: Option<PathBuf>,
    /// The server's process id, to read its memory and CPU time from /proc; without it they come from /metrics
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Connection token of the clients
    #[arg(long, env = "FANWAY_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// HMAC secret to sign the clients' token with, if none is given
    #[arg(long, env = "FANWAY_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// Key of the server API
    #[arg(long, env = "FANWAY_API_KEY", hide_env_values = true, default_value = "")]
    pub api_key: String,
    /// How clients receive
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    pub transport: Transport,
    /// How many connections
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Connections opened per second
    #[arg(long, default_value_t = 2000.0, value_parser = rate)]
    pub connect_rate: f64,
    /// Prefix of channel names, a namespace's with its colon included
    #[arg(long, default_value = "loadtest-", value_parser = prefix)]
    pub channel_prefix: String,
    /// Threads of load clients
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: u8,
    /// Also write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Do not say what is going on
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub quiet: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error} (say 10s or 5m)"))?;
    if duration > Duration::from_secs(24 * 60 * 60) { Err("at most a day".to_owned()) } else { Ok(duration) }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("between 0.001 and 1000000 per second".to_owned()),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    if text.len() > 200 {
        return Err("at most 200 bytes".to_owned());
    }
    Channel::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn everything_is_bounded() {
        let parse = |line: &str| Options::try_parse_from(line.split(' '));
        assert!(parse("x fanout --rate 50 --publications 500 --payload-bytes 128").is_ok());
        assert!(parse("x idle --transport sse --channels own --duration 1m --spawn target/fanway").is_ok());
        for line in [
            "x",
            "x fanout --rate 0",
            "x fanout --rate nan",
            "x fanout --rate inf",
            "x fanout --publications 0",
            "x fanout --publications 99999999",
            "x fanout --publications 5 --duration 1s",
            "x idle --duration 2days",
            "x idle --connections 0",
            "x idle --channel-prefix {a}",
            "x idle --spawn f --url http://127.0.0.1:1",
            "x idle --spawn f --server-pid 1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
