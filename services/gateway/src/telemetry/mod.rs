//! Metrics, logs and traces.

pub mod logging;
pub mod metrics;
pub mod settings;
pub mod traces;

use prometheus::Registry;

pub use settings::{LogFormat, Settings};
pub use traces::{Traces, TracesError};

/// What a node tells about itself besides its log.
#[derive(Debug)]
pub struct Telemetry {
    /// Names this run of the node, among all that ever were.
    pub node: String,
    /// What all rooms register their metrics in.
    pub registry: Registry,
    /// None if no traces are kept.
    pub traces: Option<Traces>,
}

impl Telemetry {
    /// Starts what the settings ask for. Must be called within a tokio runtime.
    pub fn start(settings: &Settings) -> Result<Self, TracesError> {
        let node = format!("{:032x}", rand::random::<u128>());
        let registry = metrics::registry()?;
        let traces = Traces::start(&settings.traces, &node, &registry)?;
        Ok(Self { node, registry, traces })
    }
}
