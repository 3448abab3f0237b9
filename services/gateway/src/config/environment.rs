//! Settings in the environment: which variable is which setting, and which one an error is about.

use config::builder::DefaultState;
use config::{Config, ConfigBuilder, ConfigError, File, FileFormat, Value, ValueKind};

use super::explain::relocated;

/// Environment variables with this prefix are settings; the parts of a path are joined by `__`.
const PREFIX: &str = "FANWAY__";

/// Settings with these names are texts whatever they begin with: a generated secret may begin with anything.
const SECRETS: [&str; 3] = ["secret", "password", "key"];

/// What makes a value a document.
const TOML: &str = "value = ";

/// Kubernetes describes every Service of a namespace in the environment of its pods. That of a Service called `fanway--x`
/// looks like a setting.
const OF_A_SERVICE: &str = "Kubernetes sets such variables for each Service of the namespace: set enableServiceLinks to \
                            false in the pod's spec, or give the Service another name";

/// An environment variable that is a setting: `FANWAY__AUTH__KEYS__0__SECRET` is `auth.keys[0].secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The path of the setting.
    pub(super) path: String,
    text: &'a str,
}

impl<'a> Variable<'a> {
    /// Those of an environment, in its order.
    pub(super) fn all(environment: &'a [(String, String)]) -> Vec<Self> {
        environment.iter().filter_map(|(name, text)| Self::new(name, text)).collect()
    }

    fn new(name: &'a str, text: &'a str) -> Option<Self> {
        let mut path = String::new();
        for part in name.strip_prefix(PREFIX)?.to_ascii_lowercase().split("__") {
            match part.parse::<u16>() {
                Ok(index) if !path.is_empty() => path.push_str(&format!("[{index}]")),
                _ if path.is_empty() => path.push_str(part),
                _ => path.push_str(&format!(".{part}")),
            }
        }
        Some(Self { name, path, text })
    }

    /// Sets it. A value that begins with `[` or `{` is read as TOML, unless it is one of the [`SECRETS`].
    pub(super) fn set(&self, builder: ConfigBuilder<DefaultState>) -> Result<ConfigBuilder<DefaultState>, ConfigError> {
        let text = self.text;
        let origin = format!("environment variable {}", self.name);
        // The parser's report and the value, which may be a secret, are not shown.
        let unreadable = |error: ConfigError| relocated(error, &origin, TOML.len());
        let is_secret = SECRETS.iter().any(|name| self.path.rsplit('.').next() == Some(name));
        let kind = if text.starts_with(['[', '{']) && !is_secret {
            let toml = File::from_str(&format!("{TOML}{text}"), FileFormat::Toml);
            let parsed = Config::builder().add_source(toml).build();
            parsed.and_then(|parsed| parsed.get::<Value>("value")).map_err(unreadable)?.kind
        } else {
            ValueKind::String(text.to_owned())
        };
        builder.set_override(&self.path, Value::new(Some(&origin), kind))
    }

    /// Whether it sets this setting, a part of it, or what it is a part of.
    pub(super) fn concerns(&self, setting: &str) -> bool {
        let begins = |whole: &str, part: &str| {
            whole.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        begins(setting, &self.path) || begins(&self.path, setting)
    }

    /// The error with the name of this variable, which causes it, and with advice where Kubernetes may have set it.
    pub(super) fn blame(&self, error: String) -> String {
        // Some errors tell where their value is from.
        let named =
            if error.contains(self.name) { error } else { format!("environment variable {}: {error}", self.name) };
        if self.is_of_a_service() { format!("{named}. {OF_A_SERVICE}") } else { named }
    }

    /// Whether Kubernetes would set such a variable: `..._SERVICE_HOST`, `..._SERVICE_PORT_HTTP`, `..._PORT_80_TCP_ADDR`,
    /// or `..._PORT` with a URL that nothing else has.
    fn is_of_a_service(&self) -> bool {
        let is_port = |(_, rest): (&str, &str)| {
            let (number, protocol) = rest.split_once('_').unwrap_or_default();
            number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].iter().any(|known| protocol.starts_with(known))
        };
        let has_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| self.text.starts_with(scheme));
        self.name.ends_with("_SERVICE_HOST")
            || self.name.ends_with("_SERVICE_PORT")
            || self.name.contains("_SERVICE_PORT_")
            || self.name.rsplit_once("_PORT_").is_some_and(is_port)
            || (self.name.ends_with("_PORT") && has_url)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn variable<'a>(name: &'a str, text: &'a str) -> Variable<'a> {
        Variable::new(name, text).unwrap()
    }

    #[test]
    fn a_variable_is_the_setting_of_its_path() {
        for (name, path) in [
            ("FANWAY__SERVER__LISTEN", "server.listen"),
            ("FANWAY__AUTH__KEYS__0__SECRET", "auth.keys[0].secret"),
            ("FANWAY__NAMESPACES__CHAT__HISTORY_SIZE", "namespaces.chat.history_size"),
        ] {
            assert_eq!(variable(name, "").path, path);
        }
        for other in ["FANWAY_CONFIG", "FANWAY_SERVICE_HOST", "FANWAY_PORT", "HOME", "fanway__server__listen"] {
            assert_eq!(Variable::new(other, ""), None, "{other}");
        }
    }

    #[test]
    fn it_concerns_what_it_sets_and_what_that_is_a_part_of() {
        let keys = variable("FANWAY__AUTH__KEYS", "[]");
        assert!(keys.concerns("auth.keys") && keys.concerns("auth.keys[0].secret") && keys.concerns("auth"));
        let secret = variable("FANWAY__AUTH__KEYS__0__SECRET", "");
        assert!(secret.concerns("auth.keys[0].secret") && secret.concerns("auth.keys[0]"));
        assert!(!secret.concerns("auth.keys[1].secret") && !secret.concerns("auth.keys[0].secret_file"));
        assert!(!secret.concerns("auth.issuer"));
    }

    #[test]
    fn variables_of_kubernetes_are_known() {
        for (name, text) in [
            ("FANWAY__API_SERVICE_HOST", "10.0.0.1"),
            ("FANWAY__API_SERVICE_PORT", "80"),
            ("FANWAY__API_SERVICE_PORT_HTTP", "80"),
            ("FANWAY__API_PORT", "tcp://10.0.0.1:80"),
            ("FANWAY__API_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("FANWAY__API_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("FANWAY__API_PORT_53_UDP_PROTO", "udp"),
            ("FANWAY__API_PORT_80_TCP_PORT", "80"),
        ] {
            assert!(variable(name, text).is_of_a_service(), "{name}");
        }
        for (name, text) in [
            ("FANWAY__SERVER__LISTEN", "0.0.0.0:80"),
            ("FANWAY__SERVER__PORT", "80"),
            ("FANWAY__CLIENT__PING_INTERVAL", "1s"),
        ] {
            assert!(!variable(name, text).is_of_a_service(), "{name}");
        }
    }
}
