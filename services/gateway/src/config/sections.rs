//! Small sections that have no room of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::problem::Problems;

/// The `[broker]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerSettings {
    /// What carries publications between nodes.
    #[serde(deserialize_with = "super::word")]
    pub engine: Engine,
}

/// The engines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Everything in this process: one node, nothing kept over a restart.
    #[default]
    Memory,
    /// Redis, for any number of nodes.
    Redis,
}

/// The `[redis]` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// Where it is: `redis://[user:password@]host:port`, `rediss://` for TLS.
    pub url: String,
    /// Name of the fleet, first part of every name in Redis.
    pub fleet: String,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { url: "redis://127.0.0.1:6379".to_owned(), fleet: "fanway".to_owned() }
    }
}

/// The `[drain]` section: what happens between SIGTERM and exit. Kubernetes' `terminationGracePeriodSeconds` must be longer
/// than the sum.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainSettings {
    /// How long the node still accepts connections while it says that it is not ready, until every load balancer heard it.
    #[serde(with = "humantime_serde")]
    pub propagation_delay: Duration,
    /// Connections are closed evenly over this time, so that the other nodes are not stormed.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// How long a closed connection may take to go away before it is cut.
    #[serde(with = "humantime_serde")]
    pub close_timeout: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            propagation_delay: Duration::from_secs(5),
            window: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
        }
    }
}

impl DrainSettings {
    pub(super) fn check(&self) -> Result<(), Problems> {
        const HOUR: Duration = Duration::from_secs(3600);
        let mut problems = Problems::default();
        let fault = "more than 1h; a stopping node would hang";
        problems.require(self.propagation_delay <= HOUR, "drain.propagation_delay", fault);
        problems.require(self.window <= HOUR, "drain.window", fault);
        problems.require(self.close_timeout <= HOUR, "drain.close_timeout", fault);
        problems.into_result(())
    }
}

/// The `[console]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleSettings {
    /// Whether the page at `/` is served.
    pub enabled: bool,
}
