//! Health endpoints: is the process alive, should it get traffic, how is its way to the other nodes.
//!
//! Liveness never depends on the broker: restarting nodes does not bring a broker back. Readiness does so only where
//! other nodes would do better: before the first contact, and when this node alone has gone deaf. An outage that all
//! nodes share leaves them ready, because an ingress without endpoints answers 503 and browsers' `EventSource` then
//! stops for good; [`HealthSettings::broker_outage_is_unready`] turns that round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use fanway_broker::{AnyBroker, Broker, Health};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api;
use crate::api::error::json;

/// The `[health]` section of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// Whether a node turns unready while the broker does not answer. Off: an outage that all nodes share should not
    /// take every endpoint away from clients that wait for its end.
    pub broker_outage_is_unready: bool,
}

/// What the endpoints look at. Cheap to clone.
#[derive(Clone)]
pub struct HealthState {
    /// Asked for its health at each request; answering costs no round trip.
    pub broker: Arc<AnyBroker>,
    /// Set once, when the node begins to drain.
    pub draining: Arc<AtomicBool>,
    /// What counts as unready.
    pub settings: HealthSettings,
}

/// `/health/live`, `/health/ready` and `/health/broker`.
pub fn router(state: HealthState) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/broker", get(broker))
        .method_not_allowed_fallback(api::method_not_allowed)
        .with_state(state)
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

async fn live() -> Response {
    json(StatusCode::OK, &Live { status: "live" })
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    /// Why not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
}

async fn ready(State(state): State<HealthState>) -> Response {
    let reasons = unready(&state.broker.health(), state.draining.load(Ordering::Acquire), &state.settings);
    match reasons.is_empty() {
        true => json(StatusCode::OK, &Ready { status: "ready", reasons }),
        false => json(StatusCode::SERVICE_UNAVAILABLE, &Ready { status: "unready", reasons }),
    }
}

/// Why a node should get no new connections; empty when it should.
fn unready(health: &Health, draining: bool, settings: &HealthSettings) -> Vec<&'static str> {
    let reasons = [
        (draining, "draining"),
        (!health.started, "broker_not_reached_yet"),
        (health.deaf, "deaf"),
        (settings.broker_outage_is_unready && health.started && !health.commands, "broker_unavailable"),
    ];
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

/// The broker as this node sees it.
#[derive(Serialize)]
struct BrokerHealth<'a> {
    status: &'static str,
    /// Contact has been made at least once.
    started: bool,
    /// Commands are being answered.
    commands: bool,
    /// What this node publishes comes back to it.
    echo: bool,
    /// Commands are answered, but nothing comes back.
    deaf: bool,
    /// Milliseconds since something last came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    echo_age_ms: Option<u64>,
    /// What is wrong, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

async fn broker(State(state): State<HealthState>) -> Response {
    let health = state.broker.health();
    let (status, word) = match is_whole(&health) {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "failing"),
    };
    let body = BrokerHealth {
        status: word,
        started: health.started,
        commands: health.commands,
        echo: health.echo,
        deaf: health.deaf,
        echo_age_ms: health.echo_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        detail: health.detail.as_deref(),
    };
    json(status, &body)
}

/// Whether publications of this node reach others and those of others reach it.
fn is_whole(health: &Health) -> bool {
    health.started && health.commands && health.echo && !health.deaf
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use fanway_broker::{Event, MemoryBroker, Sink};
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    fn health(started: bool, commands: bool, echo: bool) -> Health {
        Health { started, commands, echo, deaf: commands && started && !echo, echo_age: None, detail: None }
    }

    #[test]
    fn readiness_names_each_reason() {
        let default = HealthSettings::default();
        let strict = HealthSettings { broker_outage_is_unready: true };
        let whole = health(true, true, true);
        let outage = health(true, false, false);
        let deaf = health(true, true, false);
        let new = health(false, false, false);
        assert!(unready(&whole, false, &default).is_empty());
        assert!(unready(&whole, false, &strict).is_empty());
        assert_eq!(unready(&whole, true, &default), ["draining"]);
        assert_eq!(unready(&new, false, &default), ["broker_not_reached_yet"]);
        assert_eq!(unready(&new, false, &strict), ["broker_not_reached_yet"]);
        assert_eq!(unready(&deaf, false, &default), ["deaf"]);
        assert!(unready(&outage, false, &default).is_empty(), "a shared outage leaves nodes ready");
        assert_eq!(unready(&outage, false, &strict), ["broker_unavailable"]);
        assert_eq!(unready(&deaf, true, &default), ["draining", "deaf"]);
    }

    #[test]
    fn the_broker_is_whole_only_when_both_ways_work() {
        assert!(is_whole(&health(true, true, true)));
        assert!(!is_whole(&health(false, true, true)));
        assert!(!is_whole(&health(true, false, true)));
        assert!(!is_whole(&health(true, true, false)));
    }

    struct Nobody;
    impl Sink for Nobody {
        fn on_events(&self, _events: Vec<Event>) {}
    }

    #[tokio::test]
    async fn endpoints_follow_the_node() {
        let draining = Arc::new(AtomicBool::new(false));
        let broker = Arc::new(AnyBroker::Memory(MemoryBroker::new(Arc::new(Nobody))));
        let app = router(HealthState { broker, draining: draining.clone(), settings: HealthSettings::default() });
        let ask = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
            let (head, body) = response.into_parts();
            (head.status.as_u16(), String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap())
        };
        assert_eq!(ask("GET", "/health/live").await, (200, r#"{"status":"live"}"#.to_owned()));
        assert_eq!(ask("GET", "/health/ready").await, (200, r#"{"status":"ready"}"#.to_owned()));
        assert_eq!(ask("GET", "/health/broker").await.0, 200);
        assert_eq!(ask("POST", "/health/live").await.0, 405);
        draining.store(true, Ordering::Release);
        assert_eq!(ask("GET", "/health/live").await.0, 200);
        assert_eq!(
            ask("GET", "/health/ready").await,
            (503, r#"{"status":"unready","reasons":["draining"]}"#.to_owned())
        );
    }
}
