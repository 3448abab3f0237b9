//! Verification of tokens.
//!
//! Guarantees: nothing in a token is used before its signature is verified, except `alg` and `kid` to choose among the
//! configured keys; the algorithm is the key's; no I/O. A refusal tells the client no more than expired or not.

use std::num::NonZeroU64;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanway_hub::{AuthFailure, Identity};
use jsonwebtoken::Algorithm;

use super::claims::{Claims, Header};
use super::keys::{self, Key};
use super::settings::Settings;
use crate::config::Problems;

/// The longest token. Longer ones are refused before anything is decoded.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The largest sensible difference between clocks, in seconds.
const MAX_LEEWAY: u64 = 60;

const UNKNOWN_ALGORITHM: AuthFailure = AuthFailure::invalid("algorithm", "no key of auth.keys is for it");

/// Turns tokens into identities. Immutable; share it.
pub struct Authenticator {
    keys: Vec<Key>,
    issuers: Vec<String>,
    audience: Option<String>,
    leeway: u64,
    max_lifetime: Option<u64>,
    anonymous_tokens: bool,
}

impl Authenticator {
    /// Reads the keys and checks the settings.
    pub fn new(settings: &Settings) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let keys = problems.absorb(keys::read(&settings.keys)).unwrap_or_default();
        problems.require(
            !settings.keys.is_empty() || settings.allow_anonymous,
            "auth.keys",
            "empty while auth.allow_anonymous is false: nobody could connect. Add a key, for example \
             `keys = [{ algorithm = \"HS256\", secret_file = \"/run/secrets/fanway\" }]`",
        );
        problems.require(
            settings.leeway.as_secs() <= MAX_LEEWAY,
            "auth.leeway",
            "more than 60s; synchronise clocks instead",
        );
        problems.require(
            settings.max_token_lifetime.is_none_or(|lifetime| lifetime.as_secs() > 0),
            "auth.max_token_lifetime",
            "less than 1s: every token would be refused; leave it out for no limit",
        );
        problems.require(
            settings.issuer.iter().all(|issuer| !issuer.is_empty()),
            "auth.issuer",
            "contains an empty text; leave the list empty to accept any issuer",
        );
        problems.require(
            settings.audience.as_deref() != Some(""),
            "auth.audience",
            "empty; leave it out to accept any audience",
        );
        problems.into_result(Self {
            keys,
            issuers: settings.issuer.clone(),
            audience: settings.audience.clone(),
            leeway: settings.leeway.as_secs(),
            max_lifetime: settings.max_token_lifetime.map(|lifetime| lifetime.as_secs()),
            anonymous_tokens: settings.anonymous_tokens,
        })
    }

    /// Whether a token without `exp` is accepted, which then never expires.
    pub fn accepts_endless_tokens(&self) -> bool {
        !self.keys.is_empty() && self.max_lifetime.is_none()
    }

    /// Verifies a token. `now` is in seconds since 1970.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, AuthFailure> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthFailure::invalid("size", "longer than 8 KiB"));
        }
        let mut dots = memchr::memchr_iter(b'.', token.as_bytes());
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(AuthFailure::invalid("format", "not three parts separated by dots"));
        };
        let (header, payload, signature) = (&token[..first], &token[first + 1..second], &token[second + 1..]);
        let signed = &token[..second];
        let key = self.signer_of(&decode(header)?, signed, signature)?;
        let claims = Claims::parse(&decode(payload)?)?;
        self.weigh(claims, key, now)
    }

    /// The configured key that made the signature.
    fn signer_of(&self, header: &[u8], signed: &str, signature: &str) -> Result<&Key, AuthFailure> {
        let header = Header::parse(header)?;
        let algorithm: Algorithm = header.alg.parse().map_err(|_| UNKNOWN_ALGORITHM)?;
        let named = |key: &&Key| header.kid.is_none() || header.kid.as_deref() == key.kid.as_deref();
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(AuthFailure::invalid("kid", "no key of this name in auth.keys"));
        }
        let mut candidates = self.keys.iter().filter(named).filter(|key| key.algorithm == algorithm).peekable();
        if candidates.peek().is_none() {
            return Err(UNKNOWN_ALGORITHM);
        }
        candidates
            .find(|key| key.signed(signed, signature))
            .ok_or(AuthFailure::invalid("signature", "not made with a key of auth.keys"))
    }

    fn weigh(&self, claims: Claims, key: &Key, now: u64) -> Result<Identity, AuthFailure> {
        let refuse = |claim, reason| Err(AuthFailure::invalid(claim, reason));
        let issuer_fits = match (&key.issuer, &claims.iss) {
            (Some(bound), issuer) => issuer.as_ref() == Some(bound),
            (None, _) if self.issuers.is_empty() => true,
            (None, issuer) => issuer.as_ref().is_some_and(|issuer| self.issuers.contains(issuer)),
        };
        if !issuer_fits {
            return refuse("iss", "not an issuer of auth.issuer, or not that of the key");
        }
        if self.audience.as_ref().is_some_and(|audience| !claims.aud.contains(audience)) {
            return refuse("aud", "does not contain auth.audience");
        }
        if claims.nbf.is_some_and(|nbf| nbf > now + self.leeway) {
            return refuse("nbf", "in the future by more than auth.leeway");
        }
        // A token from the future would outlive the revocation of everything issued before now.
        if claims.iat.is_some_and(|iat| iat > now + self.leeway) {
            return refuse("iat", "in the future by more than auth.leeway");
        }
        if let Some(max) = self.max_lifetime {
            let Some(exp) = claims.exp else { return refuse("exp", "missing while auth.max_token_lifetime is set") };
            if exp.saturating_sub(claims.iat.unwrap_or(now)) > max {
                return refuse("lifetime", "longer than auth.max_token_lifetime");
            }
        }
        if claims.exp.is_some_and(|exp| now > exp + self.leeway) {
            return Err(AuthFailure::Expired);
        }
        if claims.sub.is_empty() && !self.anonymous_tokens {
            return refuse("sub", "missing or empty while auth.anonymous_tokens is false");
        }
        Ok(Identity {
            user: claims.sub.into(),
            info: claims.info,
            channels: claims.channels.into(),
            grants: claims.grants,
            // The first second of 1970 is as long over as the next one.
            expires_at: claims.exp.map(|at| NonZeroU64::new(at).unwrap_or(NonZeroU64::MIN)),
            token_id: claims.jti.map(Into::into),
            presented_at: 0,
        })
    }
}

/// The wall clock in seconds since 1970, as [`Authenticator::verify`] wants it.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn decode(segment: &str) -> Result<Vec<u8>, AuthFailure> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| AuthFailure::invalid("format", "not base64url without padding"))
}
