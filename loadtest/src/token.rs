//! The load clients' connection token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{EncodingKey, Header};

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(25 * 60 * 60);

/// Signs a token (HS256) that may subscribe to every channel.
pub fn mint(secret: &str) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let claims = serde_json::json!({
        "sub": "loadtest",
        "exp": (now + LIFETIME).as_secs(),
        "caps": [{"channels": ["*"], "match": "wildcard", "allow": ["sub"]}],
    });
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}
