//! The command line.

mod common;
mod compare;
mod compare_builds;
mod scenarios;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fanway_protocol::Channel;
use serde::Serialize;

pub use common::{Against, Common};
pub use compare::{Comparable, Compare};
pub use compare_builds::CompareBuilds;
pub use scenarios::{
    ConnectStorm, Encodings, Growing, Growth, Instructions, Latency, ManyChannels, Own, Publish, ResumeStorm,
    SlowConsumers, Soak,
};

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

/// The scenarios, and what this program starts of itself.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Hold subscribed connections: server memory per connection, CPU per connection and second
    Idle(Idle),
    /// Hold connections subscribed to one channel and publish into it: latency, delivered rate, CPU per delivery
    Fanout(Fanout),
    /// Publish several at once into one channel, again and again: what coalescing is worth
    Burst(Burst),
    /// Publish to many channels: the same for all connections, or one for each
    ManyChannels(ManyChannels),
    /// Publish to two channels with two encodings each, beside the same clients with one encoding in each channel
    Encodings(Encodings),
    /// Publish over HTTP as fast as it is answered: CPU per publication, of the server and of Redis
    Publish(Publish),
    /// Publish at a rate to a channel of its own on each connection, through two nodes, beside bare Redis pub/sub
    Latency(Latency),
    /// Connect as fast as it goes: CPU per connection, and memory after storms
    ConnectStorm(ConnectStorm),
    /// Kill a node and resume all its clients elsewhere
    ResumeStorm(ResumeStorm),
    /// Some clients read nothing: what each of them costs, and whether the others notice
    SlowConsumers(SlowConsumers),
    /// How cost grows with something
    Growth(Growth),
    /// Fan-out and bursts of Fanway, the floor and other products, in turn: get them, run them, write a table and a plot
    Compare(Compare),
    /// Compare two builds of Fanway in pairs, and fail where the second one costs more than its bounds allow
    CompareBuilds(CompareBuilds),
    /// Count the instructions of a connect, a publication and a delivery under valgrind
    Instructions(Instructions),
    /// Connections come and go, publications flow, some clients stall: integrity throughout, memory at the end
    Soak(Soak),
    /// The floor, started by a run as a process of its own
    #[command(hide = true)]
    Floor,
    /// The endpoint that only parses, started by a run as a process of its own
    #[command(hide = true)]
    Endpoint,
    /// A part of the clients, started by a run as a process of its own
    #[command(hide = true)]
    Clients,
}

impl Scenario {
    /// The options that every scenario has; `None` for what is none.
    pub fn common(&self) -> Option<&Common> {
        match self {
            Self::Idle(options) => Some(&options.common),
            Self::Fanout(options) => Some(&options.common),
            Self::Burst(options) => Some(&options.common),
            Self::ManyChannels(options) => Some(&options.common),
            Self::Encodings(options) => Some(&options.common),
            Self::Publish(options) => Some(&options.common),
            Self::Latency(options) => Some(&options.common),
            Self::ConnectStorm(options) => Some(&options.common),
            Self::ResumeStorm(options) => Some(&options.common),
            Self::SlowConsumers(options) => Some(&options.common),
            Self::Growth(options) => Some(&options.common),
            Self::Soak(options) => Some(&options.common),
            Self::Compare(options) => Some(&options.common),
            Self::Instructions(options) => Some(&options.common),
            Self::CompareBuilds(_) | Self::Floor | Self::Endpoint | Self::Clients => None,
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
    /// Publish the next when the last is delivered to all, instead of at a rate
    #[arg(long, conflicts_with_all = ["rate", "duration"])]
    pub one_at_a_time: bool,
    /// How many publications
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub publications: u64,
    /// Publish for so long instead of a number of publications
    #[arg(long, conflicts_with = "publications", value_parser = duration)]
    pub duration: Option<Duration>,
    /// What is common to those that deliver.
    #[command(flatten)]
    pub delivery: Delivery,
}

/// Options of `burst`.
#[derive(Debug, Args)]
pub struct Burst {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Publications at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub in_flight: u32,
    /// How many bursts, each when the last is delivered to all
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub bursts: u64,
    /// What is common to those that deliver.
    #[command(flatten)]
    pub delivery: Delivery,
}

/// Options of scenarios that deliver publications.
#[derive(Clone, Copy, Debug, Args)]
pub struct Delivery {
    /// Bytes of each publication's data
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(0..=1024 * 1024))]
    pub payload_bytes: u64,
    /// How long to wait for the last deliveries
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub settle: Duration,
    /// How long memory may come to rest after them, before it is read
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub rest: Duration,
}

/// Parses a bounded duration.
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

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if path.contains('.') => Ok((path.to_owned(), value.to_owned())),
        _ => Err("say section.name=value".to_owned()),
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
        assert!(parse("x many-channels --spawn f --channels own --in-flight 16").is_ok());
        assert!(parse("x growth subscribers --spawn f --points 1000,10000 --floor").is_ok());
        assert!(parse("x encodings --spawn f --connections 2000 --slices 20").is_ok());
        assert!(parse("x publish --spawn f --floor --rounds 5").is_ok());
        assert!(parse("x latency --spawn f --rate 5000").is_ok());
        assert!(parse("x growth nodes --spawn f").is_ok());
        assert!(parse("x connect-storm --spawn f --storms 6 --connections 8000").is_ok());
        assert!(parse("x compare-builds a b --rows fanout,idle --pairs 6 -- --connections 50").is_ok());
        assert!(parse("x burst --spawn f --set client.ring_entries=16 --floor --rounds 5 --pin-server 0").is_ok());
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
            "x idle --floor --against plain",
            "x idle --rounds 0",
            "x idle --set nonsense",
            "x fanout --one-at-a-time --rate 5",
            "x burst --in-flight 0",
            "x many-channels --channels 0",
            "x many-channels --channels some",
            "x growth",
            "x compare-builds a",
            "x compare-builds a b --rows fan-out",
            "x compare-builds a b --pairs 0",
            "x compare-builds a b --connections 50",
            "x publish --in-flight 0",
            "x latency --lanes 0",
            "x growth subscribers --points 1,x",
            "x slow-consumers --stalled 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
