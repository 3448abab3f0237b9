//! Where settings come from and in which order.

use std::path::PathBuf;

use config::{Config, ConfigError, File, FileFormat};

use super::Settings;
use super::environment::Variable;
use super::problem::Problems;

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
        let variables = Variable::all(&sources.environment);
        settings.validate().map_err(|problems| problems.attributed(&variables))?;
        Ok(settings)
    }

    /// Reads without validation, for commands that need only a part.
    pub fn read(sources: &Sources) -> Result<Self, LoadError> {
        let variables = Variable::all(&sources.environment);
        deserialize(sources, &variables).map_err(|error| {
            let culprit = culprit(sources, &variables, &error);
            LoadError::Unreadable(culprit.map_or(error.clone(), |variable| variable.blame(error)))
        })
    }
}

/// The settings of some variables, or what is wrong with them.
fn deserialize(sources: &Sources, variables: &[Variable<'_>]) -> Result<Settings, String> {
    let settings = assemble(sources, variables).and_then(Config::try_deserialize::<Settings>);
    settings.map(Settings::without_line_breaks).map_err(|error| explain(&error))
}

/// The variable that causes an error. What is wrong with a struct as a whole, as an unknown field or a missing one, the
/// error itself attributes to none.
///
/// The one without which all is well; if there are other errors, the one that causes this error by itself.
fn culprit<'v, 'e>(sources: &Sources, variables: &'v [Variable<'e>], error: &str) -> Option<&'v Variable<'e>> {
    let causes = |variables: &[Variable<'e>]| deserialize(sources, variables).err();
    if causes(&[]).as_deref() == Some(error) {
        return None; // The file does.
    }
    let without = |index: usize| causes(&[&variables[..index], &variables[index + 1..]].concat());
    let alone = |variable: &&Variable<'e>| causes(std::slice::from_ref(*variable)).as_deref() == Some(error);
    let only = (0..variables.len()).find(|index| without(*index).is_none());
    only.map(|index| &variables[index]).or_else(|| variables.iter().find(alone))
}

fn assemble(sources: &Sources, variables: &[Variable<'_>]) -> Result<Config, ConfigError> {
    let mut builder = Config::builder();
    if let Some(path) = &sources.file {
        if !path.is_file() {
            return Err(ConfigError::Message(format!("{}: no such file", path.display())));
        }
        builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
    }
    for variable in variables {
        builder = variable.set(builder)?;
    }
    for (path, value) in &sources.flags {
        builder = builder.set_override(path, value.as_str())?;
    }
    builder.build()
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
