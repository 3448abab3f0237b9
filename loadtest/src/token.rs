//! Connection tokens of the load clients.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{EncodingKey, Header};
use serde::{Deserialize, Serialize};

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(25 * 60 * 60);
/// Users that connections are spread over: enough that none of them has more connections, or connects more often, than a
/// person with many devices.
const USERS: usize = 4096;

/// Tokens of the clients: one for all of them, or those of many users in turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens(Vec<String>);

impl Tokens {
    /// The same token for all clients; an empty one for anonymous clients.
    pub fn one(token: String) -> Self {
        Self(vec![token])
    }

    /// Signs tokens of many users.
    pub fn mint(secret: &str) -> anyhow::Result<Self> {
        let tokens = (0..USERS).map(|user| mint(secret, &format!("loadtest-{user}")));
        Ok(Self(tokens.collect::<Result<_, _>>()?))
    }

    /// The token of the connection with a number.
    pub fn of(&self, connection: usize) -> &str {
        &self.0[connection % self.0.len()]
    }
}

/// Signs a token (HS256) of a user who may subscribe to every channel.
pub fn mint(secret: &str, user: &str) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let claims = serde_json::json!({
        "sub": user,
        "exp": (now + LIFETIME).as_secs(),
        "caps": [{"channels": ["*"], "match": "wildcard", "allow": ["sub"]}],
    });
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}
