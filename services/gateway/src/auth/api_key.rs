//! API keys: how back ends prove themselves.
//!
//! The settings keep the SHA-256 of a key, never the key (keys are long and random, so a fast hash is enough). A
//! presented key is hashed and compared with every configured key in constant time and without an early end, so that
//! neither time nor answer tells a known id from an unknown one. Several keys may be active, for rotation. A key that was
//! good once is recognised by its fingerprint from then on (see [`super::fingerprint`]).
//!
//! The recommended form is `fw_<id>_<secret>`: leak scanners can find it and people can tell keys apart. Any other text
//! whose SHA-256 is configured works as well.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::SystemTime;

use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::fingerprint::{Fingerprint, Fingerprints};
use super::secret::{Secret, unseen, without_line_break};
use crate::config::Problems;

/// Where it is presented.
const HEADER: &str = "x-api-key";
/// Shorter keys can be guessed; also what a plain `key` of the settings must have.
const MIN_KEY_BYTES: usize = 16;
/// The query parameter that may carry it where the settings allow that.
const PARAMETER: &str = "api_key";
/// Query parameters that people put keys in; refused otherwise, because URLs end up in logs.
const USUAL_PARAMETERS: [&str; 3] = [PARAMETER, "apikey", "key"];

/// One key of the settings: `hash`, or `key` where plain text is good enough (development).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySettings {
    /// Names the key in logs and metrics; not secret.
    pub id: String,
    /// SHA-256 of the whole key in hexadecimal: `printf %s "$KEY" | sha256sum`.
    #[serde(default)]
    pub hash: Option<String>,
    /// The key itself.
    #[serde(default)]
    pub key: Option<Secret>,
    /// What it may be used for; empty for everything.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// When it stops working, as `2030-01-31T00:00:00Z`; unset for never.
    #[serde(default, with = "humantime_serde")]
    pub expires: Option<SystemTime>,
}

/// A part of the server API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Scope {
    /// Publish and broadcast.
    Publish,
    /// Look: history, presence, channels, connections, info.
    Read,
    /// Act on clients and logs: subscribe, unsubscribe, disconnect, refresh, remove history.
    Manage,
}

impl TryFrom<String> for Scope {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "publish" => Ok(Self::Publish),
            "read" => Ok(Self::Read),
            "manage" => Ok(Self::Manage),
            _ => Err(format!("unknown scope `{word}`, expected one of `publish`, `read`, `manage`")),
        }
    }
}

/// A key that was presented and is good.
#[derive(Clone, Debug)]
pub struct ApiKey {
    id: String,
    hash: [u8; 32],
    /// Set once the key was presented.
    fingerprint: OnceLock<Fingerprint>,
    scopes: Vec<Scope>,
    expires: Option<SystemTime>,
}

impl ApiKey {
    /// Names the key in logs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it may be used for a part of the API; if not, the answer is 403.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.is_empty() || self.scopes.contains(&scope)
    }
}

/// Why a request is not let in: always 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyFailure {
    /// Nothing was presented.
    #[error("no API key; send it in X-API-Key, or in Authorization with the scheme apikey")]
    Missing,
    /// No such key.
    #[error("not a key of api.keys")]
    Invalid,
    /// A key whose time is over.
    #[error("the API key has expired")]
    Expired,
    /// It stood in the URL.
    #[error("an API key must not be part of the URL unless api.allow_key_in_query is set; send it in X-API-Key")]
    InUrl,
}

impl ApiKeyFailure {
    /// Bounded label for metrics.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::InUrl => "in_url",
        }
    }
}

/// All keys. Immutable; share it.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
    fingerprints: Fingerprints,
    /// Whether [`PARAMETER`] may carry one.
    in_query: bool,
}

impl ApiKeys {
    /// Checks the settings. `in_query` allows a key in the query.
    pub fn new(settings: &[ApiKeySettings], in_query: bool) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut keys: Vec<ApiKey> = Vec::with_capacity(settings.len());
        for (index, key) in settings.iter().enumerate() {
            let path = format!("api.keys[{index}]");
            problems.require(!key.id.is_empty(), &format!("{path}.id"), "empty; name the key, for logs");
            problems.require(keys.iter().all(|other| other.id != key.id), &format!("{path}.id"), "used twice");
            if let Some(hash) = problems.absorb(read_hash(key, &path)) {
                keys.push(ApiKey {
                    id: key.id.clone(),
                    hash,
                    fingerprint: OnceLock::new(),
                    scopes: key.scopes.clone(),
                    expires: key.expires,
                });
            }
        }
        problems.into_result(Self { keys, fingerprints: Fingerprints::default(), in_query })
    }

    /// Whether no key is configured, so that nobody can use the API.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Finds the key that a request presents.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        now: impl FnOnce() -> SystemTime,
    ) -> Result<&ApiKey, ApiKeyFailure> {
        let presented = match self.in_query(uri)? {
            None => Cow::Borrowed(presented(headers)?),
            // A key in a header as well leaves open which one is meant.
            Some(_) if !matches!(presented(headers), Err(ApiKeyFailure::Missing)) => {
                return Err(ApiKeyFailure::Invalid);
            }
            Some(key) => Cow::Owned(key),
        };
        let key = self.find(&presented).ok_or(ApiKeyFailure::Invalid)?;
        match key.expires {
            Some(expires) if expires <= now() => Err(ApiKeyFailure::Expired),
            _ => Ok(key),
        }
    }

    /// The key in the query, if there is one and it may be there.
    fn in_query(&self, uri: &Uri) -> Result<Option<Vec<u8>>, ApiKeyFailure> {
        let Some(query) = uri.query() else { return Ok(None) };
        let mut found = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if self.in_query && name == PARAMETER {
                if value.is_empty() || found.replace(value.into_owned().into_bytes()).is_some() {
                    return Err(ApiKeyFailure::Invalid);
                }
            } else if USUAL_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(ApiKeyFailure::InUrl);
            }
        }
        Ok(found)
    }

    fn find(&self, presented: &[u8]) -> Option<&ApiKey> {
        let fingerprint = self.fingerprints.of(presented);
        let known = |key: &ApiKey| key.fingerprint.get().map_or(Choice::from(0), |known| known.ct_eq(&fingerprint));
        if let Some(key) = self.choose(known) {
            return Some(key);
        }
        let hash: [u8; 32] = Sha256::digest(presented).into();
        let key = self.choose(|key| key.hash.ct_eq(&hash))?;
        key.fingerprint.get_or_init(|| fingerprint);
        Some(key)
    }

    /// The last key that `equal` holds for. All are compared, in constant time.
    fn choose(&self, equal: impl Fn(&ApiKey) -> Choice) -> Option<&ApiKey> {
        let mut found = u32::MAX;
        for (index, key) in (0u32..).zip(&self.keys) {
            found.conditional_assign(&index, equal(key));
        }
        self.keys.get(usize::try_from(found).ok()?)
    }
}

fn presented(headers: &HeaderMap) -> Result<&[u8], ApiKeyFailure> {
    let mut found = None;
    for (name, value) in headers {
        let key = match name.as_str() {
            HEADER => Ok(value.as_bytes()),
            "authorization" => match value.as_bytes().split_at_checked(7) {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"apikey ") => Ok(key),
                _ => Err(ApiKeyFailure::Invalid),
            },
            _ => continue,
        };
        if found.replace(key?).is_some() {
            return Err(ApiKeyFailure::Invalid);
        }
    }
    match found {
        None => Err(ApiKeyFailure::Missing),
        Some([]) => Err(ApiKeyFailure::Invalid),
        Some(key) => Ok(key),
    }
}

fn read_hash(settings: &ApiKeySettings, path: &str) -> Result<[u8; 32], Problems> {
    let mut problems = Problems::default();
    let hash = match (&settings.hash, &settings.key) {
        (Some(hash), None) => {
            let hash = from_hex(without_line_break(hash));
            problems.require(
                hash.is_some(),
                &format!("{path}.hash"),
                "not a SHA-256 in hexadecimal, 64 digits (printf %s \"$KEY\" | sha256sum)",
            );
            hash
        }
        (None, Some(key)) => {
            let key = without_line_break(key.expose());
            if let Some(fault) = unseen(key) {
                problems.add(format!("{path}.key"), fault);
            }
            let length = key.len();
            let fault = format!("{length} bytes; at least {MIN_KEY_BYTES} are needed (openssl rand -hex 32)");
            problems.require(length >= MIN_KEY_BYTES, &format!("{path}.key"), &fault);
            Some(Sha256::digest(key.as_bytes()).into())
        }
        (Some(_), Some(_)) => {
            problems.add(format!("{path}.key"), "hash is set as well; keep one of them");
            None
        }
        (None, None) => {
            problems.add(format!("{path}.hash"), "missing; give hash, or key");
            None
        }
    };
    problems.into_result(hash.unwrap_or_default())
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}
