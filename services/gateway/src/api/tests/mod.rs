//! The server API over a real memory broker.

mod bad_input;
mod broadcast;
mod command;
mod history;
mod null;
mod publish;
mod surface;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use fanway_broker::{AnyBroker, Delivery, Event, MemoryBroker, Sink};
use fanway_hub::{Namespace, Namespaces};
use fanway_protocol::Payload;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt;

use super::*;

/// Keeps what the broker hands over.
#[derive(Default)]
struct Heard(Mutex<Vec<Delivery>>);

impl Sink for Heard {
    fn on_events(&self, events: Vec<Event>) {
        let mut heard = self.0.lock().unwrap();
        heard.extend(events.into_iter().filter_map(|event| match event {
            Event::Publication(delivery) => Some(delivery),
            _ => None,
        }));
    }
}

/// The router with everything behind it.
struct App {
    router: Router,
    heard: Arc<Heard>,
    metrics: ApiMetrics,
    broker: Arc<AnyBroker>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn reason(&self) -> &str {
        self.body["error"]["reason"].as_str().unwrap_or("")
    }

    fn code(&self) -> u64 {
        self.body["error"]["code"].as_u64().unwrap_or(0)
    }
}

fn namespace(name: &str, history_size: u32) -> Namespace {
    let hour = Duration::from_secs(3600);
    Namespace { history_size, history_ttl: hour, meta_ttl: 24 * hour, ..Namespace::closed(name) }
}

impl App {
    fn new() -> Self {
        Self::with(ApiSettings::default())
    }

    fn with(settings: ApiSettings) -> Self {
        let heard = Arc::new(Heard::default());
        let broker = Arc::new(AnyBroker::Memory(MemoryBroker::new(heard.clone())));
        let metrics = ApiMetrics::register(&prometheus::Registry::new()).unwrap();
        let (router, _) = routes(ApiState {
            broker: broker.clone(),
            namespaces: Arc::new(Namespaces::new(namespace("default", 10), [namespace("plain", 0)])),
            authorize: Arc::new(|parts, scope| {
                let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
                let own = parts.headers.get("x-api-key").and_then(|value| value.to_str().ok());
                match own.or(authorization.and_then(|value| value.strip_prefix("apikey "))) {
                    Some("key") => Ok(()),
                    Some("reader") if scope == Scope::Read => Ok(()),
                    Some("reader" | "weak") => Err(ApiAuthError::Forbidden),
                    _ => Err(ApiAuthError::Unauthorized),
                }
            }),
            info: Arc::new(|| NodeInfo {
                uid: "u".to_owned(),
                name: "n".to_owned(),
                version: "0.0.0".to_owned(),
                num_clients: 3,
                num_users: None,
                num_channels: 2,
                num_subs: 5,
                uptime: 7,
            }),
            metrics: metrics.clone(),
            traces: None,
            settings: Arc::new(settings),
        });
        Self { router, heard, metrics, broker }
    }

    /// Lets the broker hand over what is published on a channel.
    async fn subscribe(&self, channel: &str) {
        use fanway_broker::Broker;
        self.broker.subscribe(&[fanway_protocol::Channel::new(channel).unwrap()]).await.unwrap();
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {bytes:?}"));
        assert_eq!(head.headers["content-type"], "application/json");
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// The status and the text of an answer.
    async fn send_text(&self, ask: Ask) -> (u16, String) {
        let (head, body) = self.router.clone().oneshot(ask.0).await.unwrap().into_parts();
        assert_eq!(head.headers["content-type"], "application/json");
        (head.status.as_u16(), String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap())
    }

    /// A good request with this body.
    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(path, body).body_done()).await
    }

    fn requests(&self, endpoint: &str, outcome: &str) -> u64 {
        self.metrics.api_requests_total.with_label_values(&[endpoint, outcome]).get()
    }
}

/// A request under construction, good in everything until changed.
struct Ask(Request<Body>);

fn request(path: &str, body: impl Into<Body>) -> Ask {
    let builder = Request::post(path).header("x-api-key", "key").header("content-type", "application/json");
    Ask(builder.body(body.into()).unwrap())
}

impl Ask {
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.0.headers_mut().insert(name, value.parse().unwrap());
        self
    }

    fn add(mut self, name: &'static str, value: &str) -> Self {
        self.0.headers_mut().append(name, value.parse().unwrap());
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.0.headers_mut().remove(name);
        self
    }

    fn body_done(self) -> Request<Body> {
        self.0
    }
}
