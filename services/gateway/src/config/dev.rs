//! Settings of `fanway dev`: everything works at once, on this machine only.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanway_hub::Access;

use super::sections::{DrainSettings, Engine as BrokerEngine};
use super::{NamespaceSettings, Settings};
use crate::auth::api_key::ApiKeySettings;
use crate::auth::{KeySettings, Secret};
use crate::server::{HostName, Hosts};

/// Ports that front-end tools serve pages from while their developers work.
const PAGE_PORTS: [u16; 6] = [3000, 4200, 5000, 5173, 8000, 8080];

/// What a developer may choose.
#[derive(Clone, Debug, Default)]
pub struct DevOptions {
    /// Where to listen; 127.0.0.1:8000 if unset.
    pub listen: Option<SocketAddr>,
    /// Redis, to join several nodes; memory if unset.
    pub redis_url: Option<String>,
    /// The HMAC secret, equal on joined nodes; generated if unset.
    pub secret: Option<Secret>,
    /// The API key, equal on joined nodes; generated if unset.
    pub api_key: Option<Secret>,
    /// Hosts that are answered besides this machine's own names and the address it listens on.
    pub allowed_hosts: Vec<HostName>,
}

impl Settings {
    /// Open settings for one developer. The secrets stand in `auth.keys[0]` and `api.keys[0]`.
    pub fn dev(options: DevOptions) -> Self {
        let secret = options.secret.unwrap_or_else(|| Secret::new(random_text()));
        let api_key = options.api_key.unwrap_or_else(|| Secret::new(format!("fw_dev_{}", random_text())));
        let mut settings = Self::default();

        settings.server.listen = options.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)));
        // An address that the developer typed cannot be another site's name.
        let listen = Some(settings.server.listen.ip()).filter(|address| !address.is_unspecified());
        let further = listen.map(HostName::from).into_iter().chain(options.allowed_hosts);
        settings.server.public_metrics = true;
        settings.server.hosts = Some(Hosts::local_and(further));
        if let Some(url) = options.redis_url {
            settings.broker.engine = BrokerEngine::Redis;
            settings.redis.url = url;
        }
        settings.auth.keys = vec![KeySettings::hmac(secret)];
        settings.auth.allow_anonymous = true;
        // A browser's EventSource sends no headers, so the page at `/` has no other place for its token.
        settings.auth.query_parameter = Some("token".to_owned());
        settings.auth.allowed_origins = PAGE_PORTS
            .iter()
            .flat_map(|port| ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{port}")))
            .collect();
        settings.api.keys = vec![ApiKeySettings {
            id: "dev".to_owned(),
            hash: None,
            key: Some(api_key),
            scopes: Vec::new(),
            expires: None,
        }];
        settings.default_namespace = NamespaceSettings {
            history_size: 100,
            history_ttl: Duration::from_secs(300),
            subscribe: Access::Anyone,
            publish: Access::Anyone,
            history: Access::Anyone,
            ..NamespaceSettings::default()
        };
        // Nobody waits for the end of a development node.
        settings.drain = DrainSettings {
            propagation_delay: Duration::ZERO,
            window: Duration::ZERO,
            close_timeout: Duration::from_secs(1),
        };
        settings.console.enabled = true;
        settings.without_line_breaks()
    }
}

fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
