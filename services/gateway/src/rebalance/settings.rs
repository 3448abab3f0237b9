//! The `[rebalance]` section of the settings.

use std::time::Duration;

use fanway_hub::MaxAge;
use serde::{Deserialize, Serialize};

use crate::config::Problems;

/// The `[rebalance]` section: how connections come to nodes that have fewer of them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebalanceSettings {
    /// Connections are closed at this age, with advice to come back, and so spread over all nodes again. Without it they
    /// may live for ever.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub max_connection_age: Option<Duration>,
    /// Part of the age by which a connection may live shorter, drawn for each.
    pub max_connection_age_jitter: f64,
    /// Whether a node that has many more connections than the others closes its oldest. Needs the engine `redis`, over
    /// which nodes hear of each other.
    pub shed: bool,
    /// It begins above the average of the fleet times this.
    pub shed_ratio: f64,
    /// It ends at the average of the fleet times this.
    pub shed_target: f64,
    /// It begins only with more connections above the average than this.
    pub shed_threshold: u32,
    /// Connections closed per second at most.
    pub shed_rate: u32,
    /// How often nodes tell each other how many connections they have. A node that was silent for three intervals is
    /// forgotten.
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// For so long after a node was heard of first nobody sheds. Longer than the steps of a rollout are apart, it keeps
    /// nodes from shedding between them, onto nodes that leave next.
    #[serde(with = "humantime_serde")]
    pub settle_time: Duration,
}

/// The longest age that may be set: beyond it, it is none. Moments far in the future cannot be told by every clock.
const LONGEST_AGE: Duration = Duration::from_secs(365 * 24 * 3600);

impl Default for RebalanceSettings {
    fn default() -> Self {
        Self {
            max_connection_age: None,
            max_connection_age_jitter: 0.2,
            shed: true,
            shed_ratio: 1.2,
            shed_target: 1.05,
            shed_threshold: 100,
            shed_rate: 50,
            heartbeat_interval: Duration::from_secs(2),
            settle_time: Duration::from_secs(60),
        }
    }
}

impl RebalanceSettings {
    /// How long connections may live.
    pub fn max_age(&self) -> Option<MaxAge> {
        self.max_connection_age.map(|age| MaxAge { age, jitter: self.max_connection_age_jitter })
    }

    /// Refuses values that cannot work.
    pub fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::default();
        problems.require(
            self.max_connection_age.is_none_or(|age| (Duration::from_secs(1)..=LONGEST_AGE).contains(&age)),
            "rebalance.max_connection_age",
            "must be from 1s, or clients would do nothing but reconnect, to 365days. Leave it out for no limit",
        );
        problems.require(
            (0.0..=0.9).contains(&self.max_connection_age_jitter),
            "rebalance.max_connection_age_jitter",
            "must be from 0 to 0.9",
        );
        problems.require(
            (1.0..=10.0).contains(&self.shed_target),
            "rebalance.shed_target",
            "must be from 1 to 10: a node cannot shed below the average",
        );
        problems.require(self.shed_ratio.is_finite(), "rebalance.shed_ratio", "must be a finite number, such as 1.2");
        problems.require(
            (1..=100_000).contains(&self.shed_rate),
            "rebalance.shed_rate",
            "must be from 1 to 100000; to shed nothing, set rebalance.shed to false",
        );
        problems.require(
            (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.heartbeat_interval),
            "rebalance.heartbeat_interval",
            "must be from 100ms to 1m",
        );
        problems.require(
            self.settle_time <= Duration::from_secs(3600),
            "rebalance.settle_time",
            "must be 1h at most: nothing is shed until a node that joins has been there for so long",
        );
        problems.into_result(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_named() {
        let settings = RebalanceSettings::default();
        assert_eq!((settings.check(), settings.max_age()), (Ok(()), None));
        let bad = RebalanceSettings {
            max_connection_age: Some(Duration::from_millis(1)),
            max_connection_age_jitter: f64::NAN,
            shed_target: 0.9,
            shed_ratio: f64::INFINITY,
            shed_rate: 0,
            heartbeat_interval: Duration::ZERO,
            settle_time: Duration::from_secs(3601),
            ..settings.clone()
        };
        let problems = bad.check().unwrap_err();
        let named: Vec<_> = problems.iter().map(|problem| problem.setting.trim_start_matches("rebalance.")).collect();
        let all = [
            "max_connection_age",
            "max_connection_age_jitter",
            "shed_target",
            "shed_ratio",
            "shed_rate",
            "heartbeat_interval",
            "settle_time",
        ];
        assert_eq!(named, all);
        // Would overflow where it is added to a moment.
        let endless = RebalanceSettings { max_connection_age: Some(Duration::MAX), ..settings };
        assert!(endless.check().is_err());
    }
}
