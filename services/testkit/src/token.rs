//! Connection tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// The claims of a token, as a builder.
#[derive(Clone, Debug, Default)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Claims of a user, expiring in an hour.
    pub fn user(user: &str) -> Self {
        Self::default().set("sub", user).expires_in(Duration::from_secs(3600))
    }

    /// Sets any claim.
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a claim.
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// Sets `exp` to so long from now, rounded up to a whole second.
    pub fn expires_in(self, time: Duration) -> Self {
        let at = unix_now() + time;
        self.set("exp", at.as_secs() + u64::from(at.subsec_nanos() > 0))
    }

    /// Sets `exp` to so long ago.
    pub fn expired_since(self, time: Duration) -> Self {
        let at = (unix_now() - time).as_secs();
        self.set("exp", at)
    }

    /// Server-side subscriptions.
    pub fn channels(self, channels: &[&str]) -> Self {
        self.set("channels", channels.to_vec())
    }

    /// Adds a grant: patterns, `exact` or `wildcard`, and rights such as `sub`, `pub`, `hst`.
    pub fn cap(mut self, channels: &[&str], match_kind: &str, allow: &[&str]) -> Self {
        let caps = self.0.entry("caps").or_insert_with(|| Value::Array(Vec::new()));
        let cap = json!({"channels": channels, "match": match_kind, "allow": allow});
        caps.as_array_mut().expect("caps is an array").push(cap);
        self
    }

    /// The claims as JSON.
    pub fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// Signs a token with HS256.
pub fn mint(secret: &str, claims: &Claims) -> String {
    mint_with(Header::new(Algorithm::HS256), &EncodingKey::from_secret(secret.as_bytes()), claims)
}

/// Signs a token with any header and key: other algorithms, a `kid`, or what a forger would try.
pub fn mint_with(header: Header, key: &EncodingKey, claims: &Claims) -> String {
    jsonwebtoken::encode(&header, &claims.0, key).expect("claims are JSON and the key fits the algorithm")
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    #[test]
    fn what_is_minted_verifies_with_the_same_secret_only() {
        let token = mint("secret", &Claims::user("alice").cap(&["news:*"], "wildcard", &["sub"]));
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        let decode = |secret: &str| {
            jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_secret(secret.as_bytes()), &validation)
        };
        let claims = decode("secret").unwrap().claims;
        assert_eq!(claims["sub"], "alice");
        assert_eq!(claims["caps"][0]["allow"], json!(["sub"]));
        assert!(decode("other").is_err());
    }
}
