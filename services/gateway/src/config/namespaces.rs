//! The sections `[default_namespace]` and `[namespaces.<name>]`.

use std::collections::BTreeMap;
use std::time::Duration;

use fanway_hub::{Access, Namespace, Namespaces};
use fanway_protocol::Channel;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::problem::Problems;

/// Name of the namespace of channels without one, as metrics show it.
const DEFAULT: &str = "default";

/// Options of one namespace. Without any, its channels keep nothing and are closed to whoever has no grant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceSettings {
    /// Publications kept per channel; 0 keeps no history.
    pub history_size: u32,
    /// How long history is kept after the last publication.
    #[serde(with = "humantime_serde")]
    pub history_ttl: Duration,
    /// How long epoch and offset are kept after the last publication; at least `history_ttl`. Before the first publication
    /// an hour at most. Clients that return later start anew.
    #[serde(with = "humantime_serde")]
    pub meta_ttl: Duration,
    /// Whether clients can resume where they left off; unset means yes if there is history.
    pub recovery: Option<bool>,
    /// Who may subscribe besides those whose token grants it: `granted` (nobody else), `authenticated`, `anyone`.
    #[serde(with = "access")]
    pub subscribe: Access,
    /// Who may publish over a client connection: the same, or `subscriber`.
    #[serde(with = "access")]
    pub publish: Access,
    /// Who may read history over a client connection: the same, or `subscriber`.
    #[serde(with = "access")]
    pub history: Access,
}

impl Default for NamespaceSettings {
    fn default() -> Self {
        Self {
            history_size: 0,
            history_ttl: Duration::ZERO,
            meta_ttl: Duration::from_secs(30 * 24 * 3600),
            recovery: None,
            subscribe: Access::Granted,
            publish: Access::Granted,
            history: Access::Granted,
        }
    }
}

impl NamespaceSettings {
    fn build(&self, name: &str, path: &str) -> Result<Namespace, Problems> {
        let mut problems = Problems::default();
        let has_history = self.history_size > 0;
        problems.require(
            self.subscribe != Access::Subscriber,
            &format!("{path}.subscribe"),
            "\"subscriber\" would require what it allows; use granted, authenticated or anyone",
        );
        problems.into_result(Namespace {
            name: name.to_owned(),
            history_size: self.history_size,
            history_ttl: self.history_ttl,
            meta_ttl: self.meta_ttl,
            recovery: self.recovery.unwrap_or(has_history),
            subscribe: self.subscribe,
            publish: self.publish,
            history: self.history,
        })
    }
}

pub(super) fn build(
    default: &NamespaceSettings,
    named: &BTreeMap<String, NamespaceSettings>,
) -> Result<Namespaces, Problems> {
    let mut problems = Problems::default();
    let default = problems.absorb(default.build(DEFAULT, "default_namespace"));
    let mut ready = Vec::with_capacity(named.len());
    for (name, settings) in named {
        let path = format!("namespaces.{name}");
        problems.require(
            Channel::new(name).is_ok() && !name.contains(':'),
            &path,
            "no channel can have this prefix; use printable ASCII without space, ':', '*', '{' and '}'",
        );
        problems.require(name != DEFAULT, &path, "reserved for channels without a prefix; use [default_namespace]");
        ready.extend(problems.absorb(settings.build(name, &path)));
    }
    match default {
        Some(default) => problems.into_result(Namespaces::new(default, ready)),
        None => Err(problems),
    }
}

/// The words for [`Access`].
mod access {
    use super::*;

    #[derive(Deserialize, Serialize)]
    #[serde(remote = "Access", rename_all = "lowercase")]
    enum Word {
        Granted,
        Subscriber,
        Authenticated,
        Anyone,
    }

    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Wrapped(#[serde(with = "Word")] Access);

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Access, D::Error> {
        crate::config::word(deserializer).map(|Wrapped(access)| access)
    }

    pub(super) fn serialize<S: Serializer>(access: &Access, serializer: S) -> Result<S::Ok, S::Error> {
        Word::serialize(access, serializer)
    }
}
