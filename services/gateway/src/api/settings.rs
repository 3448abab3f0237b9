//! The `[api]` section of the settings.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::auth::api_key::ApiKeySettings;

/// How application errors (an unknown channel, a bad request) are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMode {
    /// HTTP 200 with an `error` member, as existing server libraries expect.
    #[default]
    Body,
    /// The matching HTTP status, with the same body. A request asks for it with `X-Centrifugo-Error-Mode: transport`.
    Transport,
}

/// Limits and manners of the server API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Keys of back ends; without any, nobody can use the API.
    pub keys: Vec<ApiKeySettings>,
    /// How application errors are answered: `body` or `transport`.
    #[serde(deserialize_with = "crate::config::word")]
    pub error_mode: ErrorMode,
    /// Largest body of a request, except broadcast.
    pub publish_body_limit: ByteSize,
    /// Largest body of a broadcast.
    pub broadcast_body_limit: ByteSize,
    /// A body that has not arrived whole after so long is answered 408.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Publications of one history page; a request for more gets so many.
    pub history_limit: usize,
    /// Result of a publish with an idempotency key is kept so long.
    #[serde(with = "humantime_serde")]
    pub idempotency_ttl: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            error_mode: ErrorMode::Body,
            publish_body_limit: ByteSize::kib(256),
            broadcast_body_limit: ByteSize::mib(1),
            body_timeout: Duration::from_secs(10),
            history_limit: 1000,
            idempotency_ttl: Duration::from_secs(300),
        }
    }
}
