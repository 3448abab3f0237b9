//! The settings of a node under test, written as a TOML file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{API_KEY, Launch, Node, SECRET, free_port, log_file};
use crate::dial::Certificate;

/// How often another port is tried when the chosen one was taken meanwhile.
const PORT_TRIES: u32 = 5;

/// A value of a setting, as TOML text.
#[derive(Clone, Debug)]
pub struct Setting(String);

impl Setting {
    /// TOML text as it is, for arrays and tables.
    pub fn toml(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<&str> for Setting {
    fn from(text: &str) -> Self {
        // JSON's escapes are a part of TOML's.
        Self(serde_json::Value::from(text).to_string())
    }
}

impl From<String> for Setting {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<bool> for Setting {
    fn from(value: bool) -> Self {
        Self(value.to_string())
    }
}

impl From<i64> for Setting {
    fn from(value: i64) -> Self {
        Self(value.to_string())
    }
}

/// A node to be: memory broker, one HS256 key, one API key, channels with history that any authenticated client may use.
pub struct Builder {
    binary: PathBuf,
    settings: BTreeMap<String, Setting>,
    environment: Vec<(String, String)>,
    certificate: Option<Certificate>,
    api_key: String,
    port: Option<u16>,
    internal: bool,
}

impl Builder {
    pub(super) fn new(binary: PathBuf) -> Self {
        let builder = Self {
            binary,
            settings: BTreeMap::new(),
            environment: Vec::new(),
            certificate: None,
            api_key: API_KEY.to_owned(),
            port: None,
            internal: false,
        };
        builder
            .set("broker.engine", "memory")
            .set("auth.keys", Setting::toml(&format!(r#"[{{ algorithm = "HS256", secret = "{SECRET}" }}]"#)))
            .set("api.keys", Setting::toml(&format!(r#"[{{ id = "testkit", key = "{API_KEY}" }}]"#)))
            .set("default_namespace.history_size", 100)
            .set("default_namespace.history_ttl", "5m")
            .set("default_namespace.recovery", true)
            .set("default_namespace.subscribe", "authenticated")
            .set("default_namespace.publish", "authenticated")
            .set("default_namespace.history", "authenticated")
    }

    /// Sets a setting by its path in the file: `set("client.ping_interval", "1s")`.
    pub fn set(mut self, path: &str, value: impl Into<Setting>) -> Self {
        self.settings.insert(path.to_owned(), value.into());
        self
    }

    /// Leaves a setting at the gateway's own default.
    pub fn unset(mut self, path: &str) -> Self {
        self.settings.remove(path);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses Redis, under a fleet prefix that no other test uses.
    pub fn redis(self, url: &str, fleet: &str) -> Self {
        self.set("broker.engine", "redis").set("redis.url", url).set("redis.fleet", fleet)
    }

    /// Sets an option of a namespace.
    pub fn namespace(self, name: &str, option: &str, value: impl Into<Setting>) -> Self {
        self.set(&format!("namespaces.{name}.{option}"), value)
    }

    /// Sends API requests with another key than [`API_KEY`]; the settings must know it.
    pub fn api_key(mut self, key: &str) -> Self {
        self.api_key = key.to_owned();
        self
    }

    /// Listens with TLS.
    pub fn tls(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Listens on a port of the caller's instead of any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Serves the server API, metrics and health on a listener of their own; without it, metrics are on the public one.
    pub fn internal_listener(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Starts the node and waits until it is ready.
    pub async fn start(self) -> Node {
        for attempt in 1.. {
            let mut node = self.spawn();
            match node.try_ready().await {
                Ok(()) => return node,
                Err(reason) if self.port.is_none() && attempt < PORT_TRIES && reason.contains("in use") => {}
                Err(reason) => panic!("the node does not start: {reason}"),
            }
        }
        unreachable!("the loop returns or panics")
    }

    /// Starts the process without waiting, for nodes that are to fail or to wait for Redis.
    pub fn spawn(&self) -> Node {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let port = self.port.unwrap_or_else(free_port);
        let mut settings = self.settings.clone();
        settings.insert("server.listen".to_owned(), format!("127.0.0.1:{port}").into());
        let internal_port = self.internal.then(free_port);
        match internal_port {
            Some(port) => drop(settings.insert("server.internal_listen".into(), format!("127.0.0.1:{port}").into())),
            // Tests read metrics.
            None => drop(settings.entry("server.public_metrics".to_owned()).or_insert_with(|| true.into())),
        }
        if let Some(certificate) = &self.certificate {
            settings
                .insert("server.tls.cert_file".to_owned(), write(&directory, "cert.pem", &certificate.certificate_pem));
            settings.insert("server.tls.key_file".to_owned(), write(&directory, "key.pem", &certificate.key_pem));
        }
        let text: String = settings.iter().map(|(path, Setting(value))| format!("{path} = {value}\n")).collect();
        write(&directory, "fanway.toml", &text);
        let config = directory.path().join("fanway.toml").display().to_string();
        let command = Launch {
            binary: self.binary.clone(),
            arguments: vec!["serve".to_owned(), "--config".to_owned(), config],
            environment: self.environment.clone(),
        };
        let child = command.spawn(log_file(&directory));
        Node {
            child,
            command,
            directory,
            port,
            internal_port,
            certificate: self.certificate.clone(),
            api_key: self.api_key.clone(),
        }
    }
}

fn write(directory: &TempDir, name: &str, text: &str) -> Setting {
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("the temporary directory can be written");
    path.display().to_string().into()
}
