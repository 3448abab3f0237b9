//! What `fanway dev` says when the node is up.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::{Secret, Signer, TokenRequest, unix_now};
use crate::config::{Engine, Settings};

/// What to try with a development node at an address. Shows its secrets: it is for the terminal of the developer who
/// started it, never for a log.
pub fn welcome(settings: &Settings, address: SocketAddr) -> String {
    let url = format!("http://{address}");
    let secret = settings.auth.keys.first().and_then(|key| key.secret.as_ref()).map_or("", Secret::expose);
    let api_key = settings.api.keys.first().and_then(|key| key.key.as_ref()).map_or("", Secret::expose);
    let token = Signer::new(&settings.auth).ok().and_then(|signer| {
        let request =
            TokenRequest { user: "dev".to_owned(), ttl: Duration::from_secs(24 * 3600), ..TokenRequest::default() };
        signer.mint(&request, unix_now()).ok()
    });
    let redis = match settings.broker.engine {
        Engine::Redis => settings.redis.url.as_str(),
        Engine::Memory => "redis://127.0.0.1:6379",
    };

    let mut text = format!(
        "\
Fanway is running at {url} for development: anyone on this machine may do anything.

  Console    {url}/
  API key    {api_key}
  Secret     {secret}

Listen in one terminal:
  curl -N '{url}/sse?channel=news'
Publish in another:
  curl -H 'X-API-Key: {api_key}' -d '{{\"channel\":\"news\",\"data\":{{\"hello\":\"world\"}}}}' {url}/api/publish
  FANWAY_API_KEY={api_key} fanway publish --url {url} news '{{\"hello\":\"world\"}}'
Join a second node (start the first with --redis-url as well):
  FANWAY_SECRET={secret} FANWAY_API_KEY={api_key} fanway dev --redis-url {redis} --listen 127.0.0.1:8001
"
    );
    if let Some(token) = token {
        // Writing into a `String` cannot fail.
        let _ = write!(text, "A token for the user \"dev\", for a day (fanway token makes others):\n  {token}\n");
    }
    text
}
