//! The `[telemetry]` section of the settings.

use serde::{Deserialize, Serialize};

use super::logging;
use super::traces::TraceSettings;
use crate::config::Problems;

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `error`, `warn`, `info`, `debug` or `trace`, also per module: `info,fanway_hub=debug`. A level alone is Fanway's;
    /// libraries log nothing unless they are named: `info,h2=debug`.
    pub log_level: String,
    /// `text` for people, `json` for collectors.
    #[serde(deserialize_with = "crate::config::word")]
    pub log_format: LogFormat,
    /// Spans of sampled requests and deliveries.
    pub traces: TraceSettings,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { log_level: "info".to_owned(), log_format: LogFormat::Text, traces: TraceSettings::default() }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if let Err(error) = logging::filter(&self.log_level) {
            problems
                .add("telemetry.log_level", format!("{error}; use for example \"info\" or \"info,fanway_hub=debug\""));
        }
        problems.absorb(self.traces.check());
        problems.into_result(())
    }
}
