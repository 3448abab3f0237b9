//! Metrics and logs.

pub mod logging;
pub mod metrics;
pub mod settings;

pub use settings::{LogFormat, Settings};
