//! Signing of tokens, for `fanway token` and the first minutes with a new node.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use serde_json::Value;

use super::keys;
use super::settings::Settings;
use crate::config::Problems;

/// Signs with the first HMAC key of the settings.
pub struct Signer {
    header: Header,
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
}

/// What a new token says.
#[derive(Clone, Debug, Default)]
pub struct TokenRequest {
    /// The claim `sub`.
    pub user: String,
    /// The claim `info`.
    pub info: Option<Value>,
    /// The claim `channels`.
    pub channels: Vec<String>,
    /// The claim `caps`.
    pub caps: Vec<CapRequest>,
    /// How long it is valid.
    pub ttl: Duration,
}

/// One element of `caps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CapRequest {
    /// Channel names or patterns.
    pub channels: Vec<String>,
    /// `exact` or `wildcard`.
    #[serde(rename = "match")]
    pub matching: &'static str,
    /// Of `sub`, `pub`, `prs`, `hst`.
    pub allow: Vec<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    channels: &'a [String],
    #[serde(skip_serializing_if = "<[CapRequest]>::is_empty")]
    caps: &'a [CapRequest],
}

impl Signer {
    /// Takes the first HMAC key.
    pub fn new(settings: &Settings) -> Result<Self, Problems> {
        let keys = keys::read(&settings.keys)?;
        let hmac =
            keys.into_iter().find_map(|key| key.signing.map(|signing| (key.algorithm, key.kid, key.issuer, signing)));
        let Some((algorithm, kid, issuer, key)) = hmac else {
            let mut problems = Problems::default();
            problems.add("auth.keys", "no HMAC key to sign with; give --secret, or sign where the private key is");
            return Err(problems);
        };
        Ok(Self {
            header: Header { kid, ..Header::new(algorithm) },
            key,
            issuer: issuer.or_else(|| settings.issuer.first().cloned()),
            audience: settings.audience.clone(),
        })
    }

    /// Signs a token that begins now.
    pub fn mint(&self, request: &TokenRequest, now: u64) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = Claims {
            sub: &request.user,
            iat: now,
            exp: now.saturating_add(request.ttl.as_secs()),
            iss: self.issuer.as_deref(),
            aud: self.audience.as_deref(),
            info: request.info.as_ref(),
            channels: &request.channels,
            caps: &request.caps,
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
    }
}
