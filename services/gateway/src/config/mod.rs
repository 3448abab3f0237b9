//! Settings: one struct of sub-structs, each owned by the module that it configures.
//!
//! Precedence, lowest first: defaults, TOML file, environment (`FANWAY__SECTION__KEY`), flags. A key that nobody knows is
//! refused wherever it stands. [`Settings::load`] returns only settings that [`Settings::validate`] accepts, so the rest
//! of the program does not check them again.

mod client;
mod dev;
mod environment;
mod explain;
mod limits;
mod load;
mod namespaces;
mod problem;
mod rules;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use fanway_broker::redis::RedisSettings;
use fanway_hub::{Limits, Namespaces, QuotaSettings};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::ApiSettings;
use crate::auth::secret::{unseen, without_line_break};
use crate::auth::{self, ApiKeys, Authenticator, Credentials, Origins};
use crate::health::HealthSettings;
use crate::rebalance::RebalanceSettings;
use crate::{server, telemetry};

pub(crate) use client::LARGEST_PUBLICATION;
pub use dev::DevOptions;
pub use load::{LoadError, Sources};
pub use namespaces::NamespaceSettings;
pub use problem::{Problem, Problems};
pub use sections::{BrokerSettings, ConsoleSettings, DrainSettings, Engine};

/// All settings of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where and how connections are accepted.
    pub server: server::Settings,
    /// What carries publications between nodes.
    pub broker: BrokerSettings,
    /// The Redis of the engine `redis`.
    pub redis: RedisSettings,
    /// Who may connect.
    pub auth: auth::Settings,
    /// The server API for back ends.
    pub api: ApiSettings,
    /// Bounds and clocks of client connections.
    pub client: Limits,
    /// What one user, and one client address, may cost the node.
    pub limits: QuotaSettings,
    /// Options of channels without a namespace.
    pub default_namespace: NamespaceSettings,
    /// Options of channels by the part of their name before the first `:`.
    pub namespaces: BTreeMap<String, NamespaceSettings>,
    /// How a stopping node gives its connections away.
    pub drain: DrainSettings,
    /// How connections come to nodes that have fewer of them.
    pub rebalance: RebalanceSettings,
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// What counts as unready.
    pub health: HealthSettings,
    /// The page for trying things out.
    pub console: ConsoleSettings,
}

/// What settings become once they are checked: the parts that cannot be built from wrong ones.
pub struct Validated {
    /// Verifies tokens.
    pub authenticator: Authenticator,
    /// Judges pages.
    pub origins: Origins,
    /// Finds the presented token.
    pub credentials: Credentials,
    /// Verifies API keys.
    pub api_keys: ApiKeys,
    /// Options of channels.
    pub namespaces: Namespaces,
}

impl Settings {
    /// Checks everything and reads the key files. All that is wrong is reported, not only the first.
    pub fn validate(&self) -> Result<Validated, Problems> {
        let mut problems = Problems::default();
        if let Err(error) = self.server.validate() {
            problems.add(format!("server.{}", error.setting), format!("must be {}", error.rule));
        }
        let authenticator = problems.absorb(Authenticator::new(&self.auth));
        let origins = problems.absorb(Origins::new(&self.auth));
        let credentials = problems.absorb(Credentials::new(&self.auth));
        let api_keys = problems.absorb(ApiKeys::new(&self.api.keys, self.api.allow_key_in_query));
        let namespaces = problems.absorb(namespaces::build(&self.default_namespace, &self.namespaces));
        for (setting, text) in self.redis_secrets() {
            if let Some(fault) = unseen(text) {
                problems.add(setting, fault);
            }
        }
        if let Err(error) = self.redis.check() {
            problems.add(format!("redis.{}", error.setting), error.problem);
        }
        problems.absorb(self.api.check());
        problems.absorb(client::check(&self.client));
        problems.absorb(limits::check(&self.limits));
        problems.absorb(self.drain.check());
        problems.absorb(self.rebalance.check());
        problems.absorb(self.telemetry.check());
        problems.absorb(rules::check(self));
        match (authenticator, origins, credentials, api_keys, namespaces) {
            (Some(authenticator), Some(origins), Some(credentials), Some(api_keys), Some(namespaces)) => {
                problems.into_result(Validated { authenticator, origins, credentials, api_keys, namespaces })
            }
            _ => Err(problems),
        }
    }

    /// Time after which a connection ends whose other end acknowledges nothing.
    pub fn user_timeout(&self) -> Duration {
        self.server.user_timeout.unwrap_or_else(|| self.least_user_timeout())
    }

    /// Least of what that may be: a heartbeat may be lost, and a client that pauses has the time to go on which the
    /// transports give it. Those of event streams are more frequent.
    fn least_user_timeout(&self) -> Duration {
        self.client.ping_interval * 2 + self.client.write_stall
    }

    /// Texts of `[redis]` that may come from a secret.
    fn redis_secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let RedisSettings { url, user, password, .. } = &self.redis;
        let named = [("redis.url", Some(url)), ("redis.user", user.as_ref()), ("redis.password", password.as_ref())];
        named.into_iter().filter_map(|(setting, text)| Some((setting, text?.as_str())))
    }

    /// Removes the line break at the end of what may come from a secret and is not read where [`auth`] reads secrets.
    fn without_line_breaks(mut self) -> Self {
        let RedisSettings { url, user, password, .. } = &mut self.redis;
        for text in [Some(url), user.as_mut(), password.as_mut()].into_iter().flatten() {
            text.truncate(without_line_break(text).len());
        }
        self
    }

    /// A commented TOML file with every setting at its default.
    pub fn default_toml() -> &'static str {
        include_str!("defaults.toml")
    }
}

/// Reads an enum from its word. Unlike the `config` crate's own way, a wrong word is answered with the right ones.
pub(crate) fn word<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}
