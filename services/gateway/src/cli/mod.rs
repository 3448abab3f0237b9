//! The command line.
//!
//! Parsing ends in an [`Action`]; what cannot be parsed or configured ends in a [`Refusal`] with exit code 64. Only `main`
//! prints and exits, so everything here can be tested.

mod args;
mod dev;
mod drain;
mod exchange;
mod publish;
#[cfg(test)]
mod tests;
mod token;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use crate::config::{DevOptions, LoadError, Problems, Settings, Sources};
use args::{Args, CheckArgs, Command, DevArgs, ServeArgs};

pub use dev::{dev_token, welcome};
pub use drain::DrainRequest;
pub use publish::PublishRequest;

/// Exit code for a wrong command line or wrong settings (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// What the command line asks for.
#[derive(Debug)]
pub enum Action {
    /// Run a node.
    Run(Box<Settings>, Mode),
    /// Print a text and end.
    Print(String),
    /// Publish over HTTP and end.
    Publish(PublishRequest),
    /// Have a node on this machine give its connections away, and end when it has none.
    Drain(DrainRequest),
}

/// How a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As its settings say.
    Serve,
    /// For a developer, who is shown what to try (see [`welcome`]).
    Dev,
}

/// Why there is nothing to do.
#[derive(Debug)]
pub struct Refusal {
    /// For people.
    pub text: String,
    /// 0 for `--help` and `--version`, whose text goes to standard output.
    pub exit_code: u8,
}

impl Refusal {
    fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit_code: EXIT_USAGE }
    }
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        let exit_code = if error.use_stderr() { EXIT_USAGE } else { 0 };
        Self { text: error.render().to_string(), exit_code }
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Self::usage(format!("the settings cannot be used:\n{error}"))
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        LoadError::from(problems).into()
    }
}

/// Understands the command line; reads settings where the command needs them.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, Refusal> {
    match Args::try_parse_from(args)?.command {
        Command::Serve(args) => serve(args),
        Command::Dev(args) => dev(args),
        Command::Token(args) => token::mint(args).map(Action::Print),
        Command::CheckConfig(args) => check(args),
        Command::Config(_) => Ok(Action::Print(Settings::default_toml().trim_end().to_owned())),
        Command::Drain(args) => DrainRequest::new(args).map(Action::Drain).map_err(Refusal::from),
        Command::Publish(args) => PublishRequest::new(args).map(Action::Publish).map_err(Refusal::usage),
    }
}

fn serve(args: ServeArgs) -> Result<Action, Refusal> {
    let flags = args.listen.map(|address| ("server.listen", address.to_string())).into_iter().collect();
    let settings = Settings::load(&Sources::of_process(args.config, flags))?;
    Ok(Action::Run(Box::new(settings), Mode::Serve))
}

fn dev(args: DevArgs) -> Result<Action, Refusal> {
    let settings = Settings::dev(DevOptions {
        listen: args.listen,
        redis_url: args.redis_url,
        secret: args.secret,
        api_key: args.api_key,
        allowed_hosts: args.allowed_hosts,
    });
    settings.validate()?;
    Ok(Action::Run(Box::new(settings), Mode::Dev))
}

fn check(args: CheckArgs) -> Result<Action, Refusal> {
    let file: Option<PathBuf> = args.file;
    let name = file.as_ref().map_or("environment".to_owned(), |file| file.display().to_string());
    let settings = Settings::load(&Sources::of_process(file, Vec::new()))?;
    Ok(Action::Print(format!(
        "{name}: fine (broker: {:?}, token keys: {}, API keys: {}, namespaces: {})",
        settings.broker.engine,
        settings.auth.keys.len(),
        settings.api.keys.len(),
        settings.namespaces.len(),
    )))
}
