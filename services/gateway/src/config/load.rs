//! Where settings come from and in which order.

use std::path::PathBuf;

use config::{Config, ConfigError, File, FileFormat};

use super::Settings;
use super::environment::Variable;
use super::explain::explain;
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
            let culprit = culprit(sources, &variables, &error.to_string());
            let text = explain(&error);
            LoadError::Unreadable(culprit.map_or(text.clone(), |variable| variable.blame(text)))
        })
    }
}

/// The settings of some variables, or what is wrong with them.
fn deserialize(sources: &Sources, variables: &[Variable<'_>]) -> Result<Settings, ConfigError> {
    let settings = assemble(sources, variables).and_then(Config::try_deserialize::<Settings>);
    settings.map(Settings::without_line_breaks)
}

/// The variable that causes an error. What is wrong with a struct as a whole, as an unknown field or a missing one, the
/// error itself attributes to none. The error is compared in the words of its library, which may hold values and are not
/// shown.
///
/// The one without which all is well; if there are other errors, the one that causes this error by itself.
fn culprit<'v, 'e>(sources: &Sources, variables: &'v [Variable<'e>], error: &str) -> Option<&'v Variable<'e>> {
    let causes = |variables: &[Variable<'e>]| deserialize(sources, variables).err().map(|error| error.to_string());
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
