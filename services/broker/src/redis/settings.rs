//! The settings of the Redis engine, and what they become once they are checked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize, Serializer};

/// `[redis]`: the Redis that connects the nodes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://host:port` or, over TLS, `rediss://host:port`. User, password and database may stand in it.
    #[serde(serialize_with = "without_credentials")]
    pub url: String,
    /// User of the ACL; without it the default user.
    pub user: Option<String>,
    /// Its password. Never printed.
    #[serde(skip_serializing)]
    pub password: Option<String>,
    /// Database number. It parts keys only; fleets that share a server need a `fleet` each.
    pub database: u32,
    /// Name of the fleet: 1 to 64 of `A-Z a-z 0-9 _ -`. Nodes of one fleet share channels, other fleets on the same
    /// server are invisible to them.
    pub fleet: String,
    /// File with the certificates (PEM) of the authorities that may sign the server's; without it, the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// How long making a connection may take, with TLS and authentication.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a command may take to be answered.
    #[serde(with = "humantime_serde")]
    pub command_timeout: Duration,
    /// How long a read of a log may take, with the wait for a free connection.
    #[serde(with = "humantime_serde")]
    pub read_timeout: Duration,
    /// How long a subscription may take to be confirmed.
    #[serde(with = "humantime_serde")]
    pub subscribe_timeout: Duration,
    /// Connections for reading logs, apart from the one for publishing.
    pub read_connections: usize,
    /// Time between two echo probes: how soon a node notices that it is deaf.
    #[serde(with = "humantime_serde")]
    pub probe_interval: Duration,
    /// How long an echo may take before the node calls itself deaf.
    #[serde(with = "humantime_serde")]
    pub probe_timeout: Duration,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".into(),
            user: None,
            password: None,
            database: 0,
            fleet: "fanway".into(),
            tls_ca_file: None,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(2),
            subscribe_timeout: Duration::from_secs(3),
            read_connections: 4,
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, user, password, database, fleet, tls_ca_file, .. } = self;
        f.debug_struct("RedisSettings")
            .field("url", &redacted(url))
            .field("user", user)
            .field("password", &password.as_ref().map(|_| "***"))
            .field("database", database)
            .field("fleet", fleet)
            .field("tls_ca_file", tls_ca_file)
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &self.command_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("subscribe_timeout", &self.subscribe_timeout)
            .field("read_connections", &self.read_connections)
            .field("probe_interval", &self.probe_interval)
            .field("probe_timeout", &self.probe_timeout)
            .finish()
    }
}

/// A URL with `***` where user and password stand.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => url.to_owned(),
    }
}

fn without_credentials<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redacted(url))
}

/// A setting that cannot be used: which one, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("redis.{setting}: {problem}")]
pub struct SettingError {
    /// Its name in the section.
    pub setting: &'static str,
    /// What is wrong with it, and the cure.
    pub problem: String,
}

fn wrong(setting: &'static str, problem: impl Into<String>) -> SettingError {
    SettingError { setting, problem: problem.into() }
}

impl RedisSettings {
    /// Whether they can be used. Reads the file of authorities; connects nowhere.
    pub fn check(&self) -> Result<(), SettingError> {
        self.target().map(drop)
    }

    /// Where to connect to, and how.
    pub(crate) fn target(&self) -> Result<Target, SettingError> {
        self.check_ranges()?;
        if !["redis://", "rediss://"].iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(wrong("url", "must begin with redis:// or, for TLS, rediss://"));
        }
        if self.url.contains(['#', '?']) {
            return Err(wrong("url", "nothing may follow the database: remove everything from '?' or '#' on"));
        }
        let parsed = self.url.as_str().into_connection_info().map_err(|error| wrong("url", error.to_string()))?;
        let (host, port, tls) = match parsed.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port, false),
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port, true),
            _ => return Err(wrong("url", "must name a host")),
        };
        let login = self.login(parsed.redis_settings())?;
        let (tls, client) = self.tls(tls, &host, parsed.set_redis_settings(login.clone()))?;
        Ok(Target { host, port, tls, login, client })
    }

    fn check_ranges(&self) -> Result<(), SettingError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if self.fleet.is_empty() || self.fleet.len() > 64 || !self.fleet.bytes().all(legal) {
            return Err(wrong("fleet", "must be 1 to 64 letters, digits, '_' or '-'"));
        }
        for (setting, value, least) in [
            ("connect_timeout", self.connect_timeout, 10),
            ("command_timeout", self.command_timeout, 10),
            ("read_timeout", self.read_timeout, 10),
            ("subscribe_timeout", self.subscribe_timeout, 10),
            ("probe_interval", self.probe_interval, 50),
            ("probe_timeout", self.probe_timeout, 10),
        ] {
            if value < Duration::from_millis(least) || value > Duration::from_secs(60) {
                return Err(wrong(setting, format!("must be between {least}ms and 60s")));
            }
        }
        if !(1..=64).contains(&self.read_connections) {
            return Err(wrong("read_connections", "must be between 1 and 64"));
        }
        Ok(())
    }

    /// User, password and database, from the URL or beside it.
    fn login(&self, in_url: &RedisConnectionInfo) -> Result<RedisConnectionInfo, SettingError> {
        let user = either("user", self.user.as_deref(), in_url.username())?;
        let password = either("password", self.password.as_deref(), in_url.password())?;
        let in_url_database =
            u32::try_from(in_url.db()).map_err(|_| wrong("url", "the database must not be negative"))?;
        if self.database != 0 && in_url_database != 0 && self.database != in_url_database {
            return Err(wrong("database", "is another one than in url: remove one of them"));
        }
        let mut login = RedisConnectionInfo::default()
            .set_db(i64::from(self.database.max(in_url_database)))
            .set_skip_set_lib_name();
        if let Some(password) = password {
            login = login.set_password(password);
        } else if user.is_some() {
            return Err(wrong("password", "is missing: a user was given without one"));
        }
        if let Some(user) = user {
            login = login.set_username(user);
        }
        Ok(login)
    }

    /// The TLS side for own connections, and the same for those that the client library makes.
    fn tls(&self, tls: bool, host: &str, info: ConnectionInfo) -> Result<(Option<Tls>, ConnectionInfo), SettingError> {
        if !tls {
            if self.tls_ca_file.is_some() {
                return Err(wrong("tls_ca_file", "is given, but url does not ask for TLS: begin it with rediss://"));
            }
            return Ok((None, info));
        }
        // The client library takes the process's provider; there is only this one in the build.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let _ = provider.as_ref().clone().install_default();
        let (roots, pem) = self.authorities()?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("url", format!("TLS cannot be used: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| wrong("url", "the host is neither a DNS name nor an address"))?;
        let certificates = TlsCertificates { client_tls: None, root_cert: pem };
        let client = redis::Client::build_with_tls(info, certificates)
            .map_err(|error| wrong("tls_ca_file", error.to_string()))?
            .get_connection_info()
            .clone();
        Ok((Some(Tls { config: Arc::new(config), name }), client))
    }

    /// Certificates of the authorities, and their file's text when they come from a file.
    fn authorities(&self) -> Result<(RootCertStore, Option<Vec<u8>>), SettingError> {
        let mut roots = RootCertStore::empty();
        let Some(file) = &self.tls_ca_file else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(wrong("tls_ca_file", "is not given, and the system has no certificates of authorities"));
            }
            return Ok((roots, None));
        };
        let unreadable = |why: String| wrong("tls_ca_file", format!("{}: {why}", file.display()));
        let pem = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unreadable("holds no certificate in PEM form".into()));
        }
        Ok((roots, Some(pem)))
    }
}

/// A value that may stand in one of two places, but not differently in both.
fn either(name: &'static str, beside: Option<&str>, in_url: Option<&str>) -> Result<Option<String>, SettingError> {
    match (beside.filter(|text| !text.is_empty()), in_url.filter(|text| !text.is_empty())) {
        (Some(one), Some(other)) if one != other => Err(wrong(name, "is another one than in url: remove one of them")),
        (one, other) => Ok(one.or(other).map(str::to_owned)),
    }
}

/// Where to connect to, and how: settings that were checked.
#[derive(Clone)]
pub(crate) struct Target {
    /// Name or address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// TLS, if it is wanted.
    pub(crate) tls: Option<Tls>,
    /// User, password, database.
    pub(crate) login: RedisConnectionInfo,
    /// All of it, for connections that the client library makes.
    pub(crate) client: ConnectionInfo,
}

/// What a TLS connection needs.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<rustls::ClientConfig>,
    /// Whom the server's certificate must name.
    pub(crate) name: ServerName<'static>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> RedisSettings {
        RedisSettings { url: url.into(), ..RedisSettings::default() }
    }

    #[test]
    fn credentials_come_from_the_url_or_from_beside_it() {
        let target = settings("redis://ann:s%40fe@redis.example:6380/3").target().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("redis.example", 6380));
        assert_eq!(
            (target.login.username(), target.login.password(), target.login.db()),
            (Some("ann"), Some("s@fe"), 3)
        );
        let beside = RedisSettings {
            user: Some("ann".into()),
            password: Some("safe".into()),
            database: 3,
            ..settings("redis://redis.example")
        };
        let target = beside.target().unwrap();
        assert_eq!(
            (target.login.username(), target.login.password(), target.login.db()),
            (Some("ann"), Some("safe"), 3)
        );
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_cure() {
        let default = RedisSettings::default;
        for (settings, message) in [
            (settings("http://x"), "redis.url: must begin with redis:// or, for TLS, rediss://"),
            (settings("redis://"), "redis.url: "),
            (settings("rediss://x#insecure"), "redis.url: nothing may follow"),
            (RedisSettings { fleet: "a b".into(), ..default() }, "redis.fleet: must be 1 to 64 letters"),
            (RedisSettings { fleet: String::new(), ..default() }, "redis.fleet: "),
            (RedisSettings { user: Some("ann".into()), ..default() }, "redis.password: is missing"),
            (RedisSettings { password: Some("b".into()), ..settings("redis://:a@x") }, "redis.password: is another"),
            (RedisSettings { database: 2, ..settings("redis://x/1") }, "redis.database: is another"),
            (RedisSettings { tls_ca_file: Some("x".into()), ..default() }, "redis.tls_ca_file: is given, but"),
            (
                RedisSettings { tls_ca_file: Some("/none".into()), ..settings("rediss://x") },
                "redis.tls_ca_file: /none: ",
            ),
            (RedisSettings { command_timeout: Duration::ZERO, ..default() }, "redis.command_timeout: must be between"),
            (RedisSettings { read_connections: 0, ..default() }, "redis.read_connections: must be between 1 and 64"),
        ] {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error:?} is not {message:?}");
        }
    }

    #[test]
    fn nothing_printed_holds_a_secret() {
        let settings = RedisSettings { password: Some("hush".into()), ..settings("redis://ann:s@cret@x:1/2") };
        assert!(!format!("{settings:?}").contains("cret"));
        assert!(!format!("{settings:?}").contains("hush"));
        let printed = serde_json::to_string(&settings).unwrap();
        assert!(
            !printed.contains("cret") && !printed.contains("hush") && printed.contains("redis://***@x:1/2"),
            "{printed}"
        );
    }
}
