//! What is wrong with the settings, in words that name the setting and the way out.

use std::fmt;

use super::environment::Variable;

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its path as in the TOML file: `auth.keys[0].secret`.
    pub setting: String,
    /// What is wrong and what to do; never the value of a secret.
    pub fault: String,
    /// The setting that it contradicts, if it is not wrong by itself.
    pub other: Option<String>,
    /// Environment variables that set them.
    pub variables: Vec<String>,
}

impl Problem {
    fn new(setting: String, fault: String, other: Option<String>) -> Self {
        Self { setting, fault, other, variables: Vec::new() }
    }
}

/// Everything that is wrong, so that nobody has to start the node once per mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes one.
    pub fn add(&mut self, setting: impl Into<String>, fault: impl Into<String>) {
        self.0.push(Problem::new(setting.into(), fault.into(), None));
    }

    /// Notes that one setting contradicts another.
    pub(super) fn add_conflict(&mut self, setting: String, other: String, fault: String) {
        self.0.push(Problem::new(setting, fault, Some(other)));
    }

    /// All of them, with the variables of the environment that they come from.
    pub(super) fn attributed(mut self, variables: &[Variable<'_>]) -> Self {
        for problem in &mut self.0 {
            let settings = [Some(&problem.setting), problem.other.as_ref()];
            let concerns =
                |variable: &&Variable<'_>| settings.iter().flatten().any(|setting| variable.concerns(setting));
            problem.variables = variables.iter().filter(concerns).map(|variable| variable.name.to_owned()).collect();
        }
        self
    }

    /// Notes one when a condition does not hold.
    pub fn require(&mut self, holds: bool, setting: &str, fault: &str) {
        if !holds {
            self.add(setting, fault);
        }
    }

    /// Takes the value of a part, or notes what is wrong with it.
    pub fn absorb<T>(&mut self, part: Result<T, Problems>) -> Option<T> {
        part.map_err(|problems| self.0.extend(problems.0)).ok()
    }

    /// The value if nothing was noted.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// All of them, in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{}: {}", problem.setting, problem.fault)?;
            if !problem.variables.is_empty() {
                write!(f, " (from the environment: {})", problem.variables.join(", "))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
