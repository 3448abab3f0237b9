//! What `fanway dev` says when the node is up.

use std::net::SocketAddr;
use std::time::Duration;

use super::exchange::reachable;
use crate::auth::{Secret, Signer, TokenRequest, unix_now};
use crate::config::{Engine, Settings};

/// How long the token of a development node is good for.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// A token of a development node's own: for the user `dev`, for a day. `None` if the settings have no key to sign with.
pub fn dev_token(settings: &Settings) -> Option<String> {
    let request = TokenRequest { user: "dev".to_owned(), ttl: TOKEN_TTL, ..TokenRequest::default() };
    Signer::new(&settings.auth).ok()?.mint(&request, unix_now()).ok()
}

/// What to try with a development node at an address; each indented line works as it is printed. `fanway` is how the
/// program was called. Shows the node's secrets: it is for the terminal of the developer who started it, never for a log.
pub fn welcome(settings: &Settings, address: SocketAddr, fanway: &str) -> String {
    // What listens on every address is not asked for by "every address".
    let reached = reachable(address);
    let url = format!("http://{reached}");
    let secret = settings.auth.keys.first().and_then(|key| key.secret.as_ref()).map_or("", Secret::expose);
    let api_key = settings.api.keys.first().and_then(|key| key.key.as_ref()).map_or("", Secret::expose);
    let token = dev_token(settings).unwrap_or_default();
    let other = SocketAddr::new(address.ip(), address.port().wrapping_add(1));
    let joined = |listen: SocketAddr, redis: &str| {
        format!("FANWAY_SECRET={secret} FANWAY_API_KEY={api_key} {fanway} dev --redis-url {redis} --listen {listen}")
    };
    let nodes = match settings.broker.engine {
        Engine::Redis => format!("Join another node:\n  {}\n", joined(other, &settings.redis.url)),
        Engine::Memory => {
            let redis = "redis://127.0.0.1:6379";
            format!(
                "Two nodes, joined by a Redis (stop this one first):\n  {} &\n  {}\n",
                joined(address, redis),
                joined(other, redis)
            )
        }
    };
    format!(
        "\
Fanway is running at {url} for development: anyone on this machine may do anything.

  Console  {url}/
  API key  {api_key}
  Secret   {secret}
  Token    {token}

Listen, in one terminal:
  curl -N '{url}/sse?channel=news'
Publish, in another:
  curl -H 'X-API-Key: {api_key}' -H 'Content-Type: application/json' -d '{{\"channel\":\"news\",\"data\":{{\"hello\":\"world\"}}}}' {url}/api/publish
  FANWAY_API_KEY={api_key} {fanway} publish --url {url} news '{{\"hello\":\"world\"}}'
Poll; the answer says with which cursor to go on:
  curl '{url}/poll?channel=news'
In the browser's developer tools, on the console's page:
  new EventSource('/sse?channel=news').onmessage = (event) => console.log(event.data)
With the SDK, after npm install centrifuge ws:
  node --input-type=module -e \"import {{ Centrifuge }} from 'centrifuge'; import WebSocket from 'ws'; const client = new Centrifuge('ws://{reached}/connection/websocket', {{ token: '{token}', websocket: WebSocket }}); client.newSubscription('news').on('publication', (publication) => console.log(publication.data)).subscribe(); client.connect()\"
A token for somebody else:
  FANWAY_SECRET={secret} {fanway} token --user alice --channel news
{nodes}"
    )
}
