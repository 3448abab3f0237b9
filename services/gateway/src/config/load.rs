//! Where settings come from and in which order.

use std::path::PathBuf;

use config::builder::DefaultState;
use config::{Config, ConfigBuilder, ConfigError, File, FileFormat, Value, ValueKind};

use super::Settings;
use super::problem::Problems;

/// Environment variables with this prefix are settings; the parts of a path are joined by `__`.
const PREFIX: &str = "FANWAY__";

/// Settings with these names are texts whatever they begin with: a generated secret may begin with anything.
const SECRETS: [&str; 3] = ["secret", "password", "key"];

/// Everything settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment; other variables are left alone.
    pub environment: Vec<(String, String)>,
    /// Paths of settings and their values, given as flags.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// The process's environment with a file and flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        // What is not Unicode cannot be a setting of ours, and one that was meant to be fails as missing.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, environment: std::env::vars_os().filter_map(text).collect(), flags }
    }
}

/// Settings that cannot be used. The text names the setting and what to do; the caller exits with 64.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// They cannot be read: no such file, bad TOML, unknown key, wrong type.
    #[error("{0}")]
    Unreadable(String),
    /// They can be read but make no sense.
    #[error("{0}")]
    Invalid(#[from] Problems),
}

impl Settings {
    /// Reads and validates.
    pub fn load(sources: &Sources) -> Result<Self, LoadError> {
        let settings = Self::read(sources)?;
        settings.validate()?;
        Ok(settings)
    }

    /// Reads without validation, for commands that need only a part.
    pub fn read(sources: &Sources) -> Result<Self, LoadError> {
        assemble(sources).and_then(Config::try_deserialize).map_err(|error| LoadError::Unreadable(explain(&error)))
    }
}

fn assemble(sources: &Sources) -> Result<Config, ConfigError> {
    let mut builder = Config::builder();
    if let Some(path) = &sources.file {
        if !path.is_file() {
            return Err(ConfigError::Message(format!("{}: no such file", path.display())));
        }
        builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
    }
    for (name, value) in &sources.environment {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            builder = from_environment(builder, name, rest, value)?;
        }
    }
    for (path, value) in &sources.flags {
        builder = builder.set_override(path, value.as_str())?;
    }
    builder.build()
}

/// `FANWAY__AUTH__KEYS__0__SECRET` is `auth.keys[0].secret`. A value that begins with `[` or `{` is read as TOML, unless
/// it is one of the [`SECRETS`].
fn from_environment(
    builder: ConfigBuilder<DefaultState>,
    name: &str,
    rest: &str,
    text: &str,
) -> Result<ConfigBuilder<DefaultState>, ConfigError> {
    let mut path = String::new();
    for part in rest.to_ascii_lowercase().split("__") {
        match part.parse::<u16>() {
            Ok(index) if !path.is_empty() => path.push_str(&format!("[{index}]")),
            _ if path.is_empty() => path.push_str(part),
            _ => path.push_str(&format!(".{part}")),
        }
    }
    let unreadable = |error: ConfigError| ConfigError::Message(format!("environment variable {name}: {error}"));
    let is_secret = SECRETS.iter().any(|name| path.rsplit('.').next() == Some(name));
    let kind = if text.starts_with(['[', '{']) && !is_secret {
        let parsed = Config::builder().add_source(File::from_str(&format!("value = {text}"), FileFormat::Toml)).build();
        parsed.and_then(|parsed| parsed.get::<Value>("value")).map_err(unreadable)?.kind
    } else {
        ValueKind::String(text.to_owned())
    };
    let origin = format!("environment variable {name}");
    builder.set_override(&path, Value::new(Some(&origin), kind)).map_err(unreadable)
}

/// The error's text; for an unknown key with the key that was probably meant.
fn explain(error: &ConfigError) -> String {
    let text = match error {
        ConfigError::At { error, key: Some(key), .. } => format!("{}: {error}", dotted(key)),
        ConfigError::Type { unexpected, expected, key: Some(key), origin } => {
            let origin = origin.as_ref().map(|origin| format!(" (in {origin})")).unwrap_or_default();
            format!("{}: {unexpected}, but {expected} is needed{origin}", dotted(key))
        }
        _ => error.to_string(),
    };
    match nearest(&text) {
        Some(known) => format!("{text}; did you mean `{known}`?"),
        None => text,
    }
}

/// The `config` crate writes `keys[0]secret` for `keys[0].secret`, and a dot too many at the end.
fn dotted(path: &str) -> String {
    path.replace(']', "].").replace(".[", "[").trim_end_matches('.').to_owned()
}

/// Serde's text names the unknown key first and then every known one, each in backquotes.
fn nearest(text: &str) -> Option<&str> {
    let (_, names) = text.split_once("unknown field ").or_else(|| text.split_once("unknown variant "))?;
    let mut quoted = names.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let likeness = |known: &&str| strsim::jaro_winkler(unknown, known);
    let best = quoted.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.75).then_some(best)
}
