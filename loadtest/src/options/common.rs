//! Options of every scenario.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize;

use super::{prefix, rate, setting};
use crate::transport::Transport;

/// What a result is compared with, in the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// The bare exchange: see `--floor`.
    Floor,
    /// The same server without TLS.
    Plain,
}

/// Options of every scenario.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Where publications go and metrics are read, if not at --url
    #[arg(long, value_name = "URL")]
    pub api_url: Option<String>,
    /// Allow a server on another machine; only load what is yours
    #[arg(long)]
    pub allow_remote: bool,
    /// Start this `fanway` binary for the run, with fresh keys, instead of loading a running server. Settings in the
    /// environment (FANWAY__...) apply to it
    #[arg(long, value_name = "BINARY", conflicts_with_all = ["url", "api_url", "server_pid"])]
    pub spawn: Option<PathBuf>,
    /// A setting of the server that is started; may be repeated
    #[arg(long, value_name = "PATH=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
    /// Start so many nodes, joined by a Redis of their own, and spread the clients over them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub nodes: u8,
    /// Start a Redis also for one node
    #[arg(long)]
    pub redis: bool,
    /// Clients speak TLS with the server that is started
    #[arg(long)]
    pub tls: bool,
    /// Threads of the server that serve connections; as many as there are cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub server_workers: Option<u8>,
    /// Keep the server on this core
    #[arg(long, value_name = "CORE")]
    pub pin_server: Option<usize>,
    /// Keep the clients and the publisher on this core
    #[arg(long, value_name = "CORE")]
    pub pin_clients: Option<usize>,
    /// Keep Redis and a node that is only published on, if there is one, on this core
    #[arg(long, value_name = "CORE")]
    pub pin_others: Option<usize>,
    /// Measure the floor in the same run: a bare server that does the same exchange with one send() per delivery
    #[arg(long, conflicts_with = "against")]
    pub floor: bool,
    /// What else to compare with in the same run
    #[arg(long, value_enum)]
    pub against: Option<Against>,
    /// Measure so many times, each time with a fresh server, in alternating order; figures are then medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Have all that is compared open at once in each round and publish to them in turn, in so many slices: for machines
    /// that are busy with other things
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub slices: u32,
    /// The server's process id, to read its memory and CPU time from /proc; without it they come from /metrics, which a
    /// server has on its internal listener (--api-url), or at --url with server.public_metrics
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
    /// Processes of load clients, for more connections than one may open files
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub processes: u8,
    /// Threads of load clients, in each process
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: u8,
    /// Also write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write the result as a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Do not say what is going on
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub quiet: bool,
}

impl Common {
    /// What the result is compared with.
    pub fn baseline(&self) -> Option<Against> {
        if self.floor { Some(Against::Floor) } else { self.against }
    }
}
