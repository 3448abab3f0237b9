//! The grammar of the command line, and the words of `--help`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::auth::secret::without_line_break;
use crate::auth::{CapRequest, Secret};
use crate::server::HostName;

use super::token;

/// Push gateway: clients connect over WebSocket, SSE or long polling; back ends publish over HTTP.
#[derive(Parser, Debug)]
#[command(
    name = "fanway",
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  fanway dev                                    a node for this machine, nothing to configure
  fanway publish news '{\"hello\":\"world\"}'       publish to it
  fanway config --defaults > fanway.toml        every setting, with comments
  fanway check-config fanway.toml
  fanway serve --config fanway.toml

Every setting can also be given in the environment: FANWAY__SERVER__LISTEN is server.listen.
Exit codes: 0 fine, 1 failed, 64 wrong usage or settings."
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run a node with the settings of a file and the environment.
    Serve(ServeArgs),
    /// Run a node for trying things out: open channels with history, generated secrets, a console at "/".
    Dev(DevArgs),
    /// Print a signed token for a client.
    Token(TokenArgs),
    /// Check settings without running anything.
    CheckConfig(CheckArgs),
    /// Print settings.
    Config(ConfigArgs),
    /// Publish over the HTTP API of a running node.
    Publish(PublishArgs),
    /// Have the node on this machine give its connections away, and wait until it has none. It stays, unready, until it
    /// is stopped.
    Drain(DrainArgs),
}

#[derive(ClapArgs, Debug)]
pub(super) struct ServeArgs {
    /// TOML file with settings; without it, defaults and environment are used.
    #[arg(long, env = "FANWAY_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Address for clients and back ends, instead of server.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,
}

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
A second node of the same fleet:
  fanway dev --redis-url redis://127.0.0.1:6379 --secret $SECRET --api-key $KEY
  fanway dev --redis-url redis://127.0.0.1:6379 --secret $SECRET --api-key $KEY --listen 127.0.0.1:8001")]
pub(super) struct DevArgs {
    /// Address to listen on; 127.0.0.1:8000 if not given.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,
    /// Host in URLs that the node answers to, besides localhost, 127.0.0.1, [::1] and the address of --listen; may be
    /// repeated. Others are refused, since any web site may let its own name point to this machine and read what is here.
    #[arg(long = "allow-host", value_name = "NAME")]
    pub(super) allowed_hosts: Vec<HostName>,
    /// Redis that joins several nodes; without it, everything is in memory.
    #[arg(long, env = "FANWAY_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub(super) redis_url: Option<String>,
    /// Secret that tokens are signed with, at least 32 bytes; generated if not given.
    #[arg(long, env = "FANWAY_SECRET", hide_env_values = true, value_parser = secret)]
    pub(super) secret: Option<Secret>,
    /// API key, at least 16 bytes; generated if not given.
    #[arg(long, env = "FANWAY_API_KEY", hide_env_values = true, value_parser = secret)]
    pub(super) api_key: Option<Secret>,
}

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  fanway token --secret $SECRET --user 42 --cap 'news=sub' --cap 'chat:*=sub,pub,hst' --ttl 10m
  fanway token --config fanway.toml --user 42 --channel user:42")]
pub(super) struct TokenArgs {
    /// TOML file with settings, whose first HMAC key signs.
    #[arg(long, env = "FANWAY_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// HS256 secret that signs, instead of the settings' key.
    #[arg(long, env = "FANWAY_SECRET", hide_env_values = true, value_parser = secret)]
    pub(super) secret: Option<Secret>,
    /// Who the client is (claim sub).
    #[arg(long)]
    pub(super) user: String,
    /// Channel the client is subscribed to by itself; may be repeated.
    #[arg(long = "channel", value_name = "CHANNEL", value_parser = token::channel)]
    pub(super) channels: Vec<String>,
    /// Channel or pattern and what is allowed there: sub, pub, prs (presence), hst (history); may be repeated.
    #[arg(long = "cap", value_name = "PATTERN=RIGHTS", value_parser = token::cap)]
    pub(super) caps: Vec<CapRequest>,
    /// JSON that other clients see with what this one does.
    #[arg(long, value_name = "JSON", value_parser = token::json)]
    pub(super) info: Option<serde_json::Value>,
    /// How long the token is valid.
    #[arg(long, default_value = "1h", value_parser = token::duration)]
    pub(super) ttl: Duration,
}

#[derive(ClapArgs, Debug)]
pub(super) struct CheckArgs {
    /// TOML file with settings; without it, the environment alone is checked.
    #[arg(env = "FANWAY_CONFIG")]
    pub(super) file: Option<PathBuf>,
}

#[derive(ClapArgs, Debug)]
pub(super) struct ConfigArgs {
    /// Every setting with its default and what it means, as a TOML file.
    #[arg(long, required = true)]
    pub(super) defaults: bool,
}

#[derive(ClapArgs, Debug)]
pub(super) struct PublishArgs {
    /// Address of a node.
    #[arg(long, default_value = "http://127.0.0.1:8000", value_name = "URL")]
    pub(super) url: String,
    /// API key.
    #[arg(long, env = "FANWAY_API_KEY", hide_env_values = true, value_parser = secret)]
    pub(super) api_key: Option<Secret>,
    /// Where to.
    pub(super) channel: String,
    /// JSON; what is not JSON is published as a text.
    pub(super) data: String,
}

#[derive(ClapArgs, Debug)]
#[command(after_help = "\
For a preStop hook where Kubernetes has no sleep action:
  preStop: {exec: {command: [\"fanway\", \"drain\"]}}
Give it the settings of the node: its drain times, and server.internal_listen, where it is asked how far it is.")]
pub(super) struct DrainArgs {
    /// TOML file with the settings of the node; without it, defaults and environment are used.
    #[arg(long, env = "FANWAY_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// How long to wait; 10s more than the settings under [drain] allow if not given.
    #[arg(long, value_parser = token::duration)]
    pub(super) timeout: Option<Duration>,
    /// Process id of the node; needed only where several run.
    #[arg(long)]
    pub(super) pid: Option<i32>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    // What else is wrong with it, those say who use it: an error from here would print it.
    Ok(Secret::new(without_line_break(text)))
}
