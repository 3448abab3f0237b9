//! The `[api]` section of the settings.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::auth::api_key::ApiKeySettings;
use crate::config::{LARGEST_PUBLICATION, Problems};

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
    /// Whether a key may stand in the query (`?api_key=`), for libraries that can do no better. Off, because URLs end up in
    /// the logs of proxies; this node writes them nowhere.
    pub allow_key_in_query: bool,
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
    /// Publications of one history page, which also ends after 1 MiB of them; a request for more gets so many.
    pub history_limit: usize,
    /// Result of a publish with an idempotency key is kept so long.
    #[serde(with = "humantime_serde")]
    pub idempotency_ttl: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            allow_key_in_query: false,
            error_mode: ErrorMode::Body,
            publish_body_limit: ByteSize::kib(256),
            broadcast_body_limit: ByteSize::mib(1),
            body_timeout: Duration::from_secs(10),
            history_limit: 1000,
            idempotency_ttl: Duration::from_secs(300),
        }
    }
}

impl ApiSettings {
    /// Refuses values that cannot work. Keys are checked when they are read.
    pub(crate) fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::default();
        let sizes = [
            ("api.publish_body_limit", self.publish_body_limit),
            ("api.broadcast_body_limit", self.broadcast_body_limit),
        ];
        for (setting, value) in sizes {
            let fault =
                "must be from 1 KiB, or no useful publication fits, to 8 MiB, which is what Redis connections take";
            problems.require((ByteSize::kib(1)..=LARGEST_PUBLICATION).contains(&value), setting, fault);
        }
        let not_zero = [("api.body_timeout", self.body_timeout), ("api.idempotency_ttl", self.idempotency_ttl)];
        for (setting, value) in not_zero {
            problems.require(!value.is_zero(), setting, "0s would end it at once; give a time such as 10s");
        }
        problems.require(self.history_limit > 0, "api.history_limit", "0 would give no history; give at least 1");
        problems.into_result(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_named() {
        assert_eq!(ApiSettings::default().check(), Ok(()));
        let bad = ApiSettings {
            publish_body_limit: ByteSize::mib(9),
            broadcast_body_limit: ByteSize::b(0),
            body_timeout: Duration::ZERO,
            history_limit: 0,
            idempotency_ttl: Duration::ZERO,
            ..ApiSettings::default()
        };
        let problems = bad.check().unwrap_err();
        let named: Vec<_> = problems.iter().map(|problem| problem.setting.trim_start_matches("api.")).collect();
        assert_eq!(
            named,
            ["publish_body_limit", "broadcast_body_limit", "body_timeout", "idempotency_ttl", "history_limit"]
        );
    }
}
