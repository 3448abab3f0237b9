//! The `[telemetry.traces]` section of the settings.

use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Serialize};

use crate::config::Problems;

/// Where spans go and how many there are.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// A collector that speaks OTLP over gRPC: `http://host:4317` or `https://...`. Without it there are no spans.
    pub endpoint: Option<String>,
    /// Part of the requests and commands that become a trace, from 0 to 1, where no caller has decided it: a publish
    /// request with a `traceparent` is traced if that says so.
    pub sample_ratio: f64,
    /// How long the collector may take for a batch, and for the last ones when the node stops.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { endpoint: None, sample_ratio: 0.01, timeout: Duration::from_secs(3) }
    }
}

impl TraceSettings {
    pub(crate) fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::default();
        let is_url = |text: &str| {
            let url = text.parse::<Uri>().ok();
            url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.authority().is_some())
        };
        let url = self.endpoint.as_deref().is_none_or(is_url);
        problems.require(url, "telemetry.traces.endpoint", "not a URL such as \"http://otel-collector:4317\"");
        let ratio = (0.0..=1.0).contains(&self.sample_ratio);
        problems.require(ratio, "telemetry.traces.sample_ratio", "not between 0 and 1");
        let patient = (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&self.timeout);
        problems.require(patient, "telemetry.traces.timeout", "not between 1ms and 60s; a stopping node waits so long");
        problems.into_result(())
    }
}
