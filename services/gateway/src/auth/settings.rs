//! The `[auth]` section of the settings.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// Who may connect. What is set here is checked when [`super::Authenticator`] and [`super::Origins`] are built from it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Keys that tokens may be signed with. Several serve rotation and several issuers.
    pub keys: Vec<KeySettings>,
    /// Accepted values of the claim `iss`; empty accepts any. A key's own `issuer` takes precedence.
    pub issuer: Vec<String>,
    /// The claim `aud` must be or contain this; unset does not look at it.
    pub audience: Option<String>,
    /// How far clocks of issuer and node may differ, for `exp`, `nbf` and `iat`; at most a minute.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// Tokens valid for longer, or without `exp`, are refused; unset accepts any. A leaked token is worth its remaining
    /// life.
    #[serde(with = "humantime_serde")]
    pub max_token_lifetime: Option<Duration>,
    /// Name of a cookie that may carry the token; unset reads no cookie. Needs `allowed_origins` or pages of this host.
    pub cookie: Option<String>,
    /// Name of a query parameter that may carry the token; unset refuses tokens in URLs, because URLs end up in logs.
    pub query_parameter: Option<String>,
    /// Whether clients may connect that present nothing at all. What they may do is up to the namespaces.
    pub allow_anonymous: bool,
    /// Whether a valid token without a `sub`, or with an empty one, makes an anonymous client with the rights that the
    /// token grants. Otherwise it is refused: an issuer that forgets the user must not make anonymous clients of all.
    pub anonymous_tokens: bool,
    /// Origins (`https://app.example.com`) of pages that may use this node, besides pages of its own host. `*` allows
    /// all and cannot be combined with `cookie`.
    pub allowed_origins: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            issuer: Vec::new(),
            audience: None,
            leeway: Duration::from_secs(10),
            max_token_lifetime: None,
            cookie: None,
            query_parameter: None,
            allow_anonymous: false,
            anonymous_tokens: false,
            allowed_origins: Vec::new(),
        }
    }
}

/// One key. HMAC algorithms take `secret` or `secret_file`, the others `public_key` or `public_key_file` (PEM).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// The only algorithm this key verifies; what a token's header says never widens it.
    #[serde(deserialize_with = "crate::config::word")]
    pub algorithm: Algorithm,
    /// Tokens that name a `kid` are verified only by keys of that name.
    #[serde(default)]
    pub kid: Option<String>,
    /// Tokens verified by this key must have this `iss`, so that one tenant's key cannot speak for another tenant.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The HMAC secret, at least 32 bytes; one line break at its end does not count.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// A file with the HMAC secret; one line break at its end does not count.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The public key as PEM text.
    #[serde(default)]
    pub public_key: Option<String>,
    /// A file with the public key.
    #[serde(default)]
    pub public_key_file: Option<PathBuf>,
}

impl KeySettings {
    /// An HS256 key.
    pub fn hmac(secret: Secret) -> Self {
        Self { secret: Some(secret), ..Self::of(Algorithm::HS256) }
    }

    /// A key of an algorithm, still without material.
    pub fn of(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            kid: None,
            issuer: None,
            secret: None,
            secret_file: None,
            public_key: None,
            public_key_file: None,
        }
    }
}
