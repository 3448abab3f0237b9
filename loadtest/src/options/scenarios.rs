//! Options of the scenarios that are more than one fan-out.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Common, Delivery, duration, rate};
use crate::transport::Transport;

/// Options of `many-channels`.
#[derive(Debug, Args)]
pub struct ManyChannels {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// How many channels, all of them on every connection, or "own" for one of its own on each
    #[arg(long, default_value = "100", value_parser = own)]
    pub channels: Own,
    /// How many times all shared channels are published to, each time when the last is delivered
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub ticks: u64,
    /// Publications at once, to channels of one's own
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub in_flight: u32,
    /// Publish those in a request of its own each, on as many connections, instead of in one request for all
    #[arg(long)]
    pub apart: bool,
    /// Publications in all, to channels of one's own
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub publications: u64,
    /// What is common to those that deliver.
    #[command(flatten)]
    pub delivery: Delivery,
}

/// Which channels connections have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// So many, all of them each.
    Shared(u32),
    /// One each.
    Own,
}

fn own(text: &str) -> Result<Own, String> {
    match (text, text.parse()) {
        ("own", _) => Ok(Own::Own),
        (_, Ok(count @ 1..=1000)) => Ok(Own::Shared(count)),
        _ => Err("\"own\", or a number from 1 to 1000".to_owned()),
    }
}

/// Options of `encodings`.
#[derive(Debug, Args)]
pub struct Encodings {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// The transport of the other half of the connections
    #[arg(long, value_enum, default_value_t = Transport::Sse)]
    pub other: Transport,
    /// How many times both channels are published to, each time when the last is delivered
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub ticks: u64,
    /// What is common to those that deliver.
    #[command(flatten)]
    pub delivery: Delivery,
}

/// Options of `connect-storm`.
#[derive(Debug, Args)]
pub struct ConnectStorm {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// How many times all connections are made and dropped
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub storms: u32,
    /// Connections on their way at once, in each thread of load clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub at_once: u32,
    /// How long memory may come to rest after the last storm
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub rest: Duration,
}

/// Options of `resume-storm`.
#[derive(Debug, Args)]
pub struct ResumeStorm {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Channels, of which each client has one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub channels: u32,
    /// Publications that each client misses
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub missed: u64,
    /// Clients that are connected to the node where all others resume, and as many to a third one
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub bystanders: u32,
    /// Publications per second to them
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    pub bystander_rate: f64,
    /// Connections on their way at once, in each thread of load clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub at_once: u32,
    /// How long to wait for what was missed
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub settle: Duration,
}

/// Options of `slow-consumers`.
#[derive(Debug, Args)]
pub struct SlowConsumers {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Clients that read nothing, besides --connections that do
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub stalled: u32,
    /// Publications per second
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub rate: f64,
    /// Publish for so long; keep it below client.write_stall, at which a stalled client is closed
    #[arg(long, default_value = "8s", value_parser = duration)]
    pub duration: Duration,
    /// Bytes of each publication's data: enough of them to fill every buffer on the way
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(0..=1024 * 1024))]
    pub payload_bytes: u64,
    /// How long to wait for the last deliveries
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub settle: Duration,
}

/// Options of `publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Requests on their way at once, each on a connection of its own
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub in_flight: u32,
    /// How many publications are measured
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub publications: u64,
    /// Channels that they go to in turn
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub channels: u32,
    /// Bytes of each publication's data
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(0..=65_536))]
    pub payload_bytes: u64,
    /// Do not replay the publish command against Redis, which is the floor of its cost
    #[arg(long)]
    pub no_replay: bool,
}

/// Options of `instructions`.
#[derive(Debug, Args)]
pub struct Instructions {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Connects that the cost of one is taken from
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connects: u32,
    /// Publications to one subscriber that the cost of one is taken from
    #[arg(long, default_value_t = 800, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub publications: u32,
    /// Subscribers of the publications that the cost of a delivery is taken from
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub subscribers: u32,
    /// Bytes of each publication's data
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(0..=65_536))]
    pub payload_bytes: u64,
}

/// Options of `latency`.
#[derive(Debug, Args)]
pub struct Latency {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Publications per second
    #[arg(long, default_value_t = 1000.0, value_parser = rate)]
    pub rate: f64,
    /// Connections that publish, in turn: a publication must not wait for the answer to the one before
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub lanes: u32,
    /// Publish for so long, to each of both
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Both take turns, so many each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub turns: u64,
    /// What is common to those that deliver.
    #[command(flatten)]
    pub delivery: Delivery,
}

/// Options of `growth`.
#[derive(Debug, Args)]
pub struct Growth {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// With what
    #[arg(value_enum)]
    pub with: Growing,
    /// The points to measure; the first is what the others are compared with. Each has its own default
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub points: Vec<u32>,
    /// Deliveries of each measurement, at least
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub deliveries: u64,
    /// What is common to those that deliver.
    #[command(flatten)]
    pub delivery: Delivery,
}

/// What may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Growing {
    /// Subscribers of one channel: cost per delivery
    Subscribers,
    /// Other channels that are subscribed on the node: cost per publication, memory per channel
    Channels,
    /// Bytes of a publication: cost per delivery
    Payload,
    /// Threads of the server that serve connections: cost per delivery
    Workers,
    /// Nodes with a subscriber of the channel: cost per publication to Redis
    Nodes,
    /// Nodes of which only one has a subscriber of the channel: cost per publication to Redis
    Bystanders,
}

/// Options of `soak`.
#[derive(Debug, Args)]
pub struct Soak {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// How long
    #[arg(long, default_value = "1m", value_parser = duration)]
    pub duration: Duration,
    /// Publications per second to the connections that stay
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    pub rate: f64,
    /// Connections that come, receive a few bursts and go, again and again
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub churn: u32,
    /// How many of those read nothing
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub stalled: u32,
    /// What is common to those that deliver.
    #[command(flatten)]
    pub delivery: Delivery,
}
