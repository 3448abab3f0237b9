//! The server API: what back ends say to the gateway over HTTP.
//!
//! One file per method: `call` is the method (the text of its parameters in, its result out), `handle` is its endpoint
//! over HTTP. [`method`] lists the methods, [`command`] calls them by name for requests to the bare `/api`. A request goes
//! through the same checks everywhere, cheapest first: method and path, API key, content type and coding, declared length,
//! body, JSON. The shape is the one existing server libraries speak: `POST`, a JSON object in, `{"result":..}` or
//! `{"error":..}` out; [`error`] says which failures are HTTP statuses and which are not.
//!
//! A request's future may be dropped at any await when its client goes away. Nothing is spawned and nothing is held over
//! from it; whether a publish that was under way happened is then unknown to that client, as with a lost answer, and an
//! idempotency key makes it safe to ask again.

mod body;
mod broadcast;
mod command;
mod content;
pub mod error;
mod history;
mod idempotency;
mod info;
mod method;
mod metrics;
mod openapi;
mod publish;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{any, get, post};
use fanway_broker::AnyBroker;
use fanway_hub::Namespaces;
use http::request::Parts;

use self::metrics::Meter;
use crate::auth::Scope;
use crate::server::Express;
use crate::telemetry::Traces;

pub use error::{ApiAuthError, ApiError};
pub use info::NodeInfo;
pub use metrics::ApiMetrics;
pub use openapi::document as openapi_document;
pub use settings::{ApiSettings, ErrorMode};

/// Decides whether a request's API key may be used for a part of the API.
pub type Authorize = Arc<dyn Fn(&Parts, Scope) -> Result<(), ApiAuthError> + Send + Sync>;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// Where publications go.
    pub broker: Arc<AnyBroker>,
    /// What each channel keeps; a channel of no known namespace is refused.
    pub namespaces: Arc<Namespaces>,
    /// The check of the API key.
    pub authorize: Authorize,
    /// The present figures of this node.
    pub info: Arc<dyn Fn() -> NodeInfo + Send + Sync>,
    /// What is counted.
    pub metrics: ApiMetrics,
    /// None if no traces are kept.
    pub traces: Option<Traces>,
    /// Limits and the error mode.
    pub settings: Arc<ApiSettings>,
}

/// The state, and what is looked up once for all requests.
struct Api {
    state: ApiState,
    publish: Meter,
    broadcast: Meter,
    history: Meter,
    info: Meter,
    /// Of requests to the bare `/api`, as far as they are no calls of a method.
    command: Meter,
}

impl Api {
    fn new(state: ApiState) -> Self {
        let meter = |endpoint| Meter::new(&state.metrics, endpoint);
        Self {
            publish: meter("publish"),
            broadcast: meter("broadcast"),
            history: meter("history"),
            info: meter("info"),
            command: meter("api"),
            state,
        }
    }
}

/// The path of publishing.
const PUBLISH: &str = "/api/publish";

/// The routes below `/api`, among them the answers to unknown paths and wrong methods there; and publishing, which is
/// one of them, by itself.
pub fn routes(state: ApiState) -> (Router, Express) {
    let api = Arc::new(Api::new(state));
    let publish = Arc::clone(&api);
    let express = Express::post(PUBLISH, move |request| publish::handle(State(Arc::clone(&publish)), request));
    (router(api), express)
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route(PUBLISH, post(publish::handle))
        .route("/api/broadcast", post(broadcast::handle))
        .route("/api/history", post(history::handle))
        .route("/api/info", post(info::handle))
        .route("/api/openapi.json", get(openapi::handle))
        .route("/api", post(command::handle))
        .route("/api/", any(not_found))
        .route("/api/{*method}", any(not_found))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(api)
}

/// The answer to a path that nobody serves; also fit as the whole server's fallback.
pub async fn not_found() -> axum::response::Response {
    ApiError::UnknownEndpoint.into_response(ErrorMode::Transport)
}

/// The answer to a method that a path does not have; axum adds `Allow`.
pub async fn method_not_allowed() -> axum::response::Response {
    ApiError::MethodNotAllowed.into_response(ErrorMode::Transport)
}
