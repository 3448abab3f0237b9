//! Health endpoints: is the process alive, should it get traffic, how is its way to the other nodes.
//!
//! Liveness never depends on the broker: restarting nodes does not bring a broker back. Readiness does so only where
//! other nodes would do better: before the first contact, and when this node alone has gone deaf or its connections are split. An outage that all
//! nodes share leaves them ready, because an ingress without endpoints answers 503 and browsers' `EventSource` then
//! stops for good; [`HealthSettings::broker_outage_is_unready`] turns that round.
//!
//! The status codes are for everybody who can reach the listener. The details, which name the node's troubles and the
//! address of Redis, are for operators: see [`HealthState::details`].

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use fanway_broker::{AnyBroker, Broker, Health, Refusal};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::api;
use crate::error_body::json;

/// The `[health]` section of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// Whether a node turns unready while the broker does not answer. Off: an outage that all nodes share should not
    /// take every endpoint away from clients that wait for its end.
    pub broker_outage_is_unready: bool,
}

/// How far a node is on its way out. It only goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Not at all.
    #[default]
    Serving,
    /// It gives its connections away.
    Draining,
    /// It has none left of clients, and waits to be stopped.
    Drained,
}

/// What the endpoints look at. Cheap to clone.
#[derive(Clone)]
pub struct HealthState {
    /// Asked for its health at each request; answering costs no round trip.
    pub broker: Arc<AnyBroker>,
    /// How far the node is on its way out.
    pub stage: watch::Receiver<Stage>,
    /// What counts as unready.
    pub settings: HealthSettings,
    /// Whether answers say why. Without them there is one word to each status code.
    pub details: bool,
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
    let reasons = unready(&state.broker.health(), *state.stage.borrow(), &state.settings);
    let (code, status) = match reasons.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
    };
    json(code, &Ready { status, reasons: if state.details { reasons } else { Vec::new() } })
}

/// Why a node should get no new connections; empty when it should.
fn unready(health: &Health, stage: Stage, settings: &HealthSettings) -> Vec<&'static str> {
    let reasons = [
        (stage == Stage::Draining, "draining"),
        (stage == Stage::Drained, "drained"),
        (!health.started, "broker_not_reached_yet"),
        (health.deaf, "deaf"),
        (health.split, "split"),
        (settings.broker_outage_is_unready && health.started && !health.commands, "broker_unavailable"),
    ];
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

/// The broker as this node sees it.
#[derive(Serialize)]
struct BrokerHealth<'a> {
    status: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    details: Option<BrokerDetails<'a>>,
}

/// What is behind the status.
#[derive(Serialize)]
struct BrokerDetails<'a> {
    /// Contact has been made at least once.
    started: bool,
    /// Commands are being answered.
    commands: bool,
    /// What this node publishes comes back to it.
    echo: bool,
    /// Commands are answered, but nothing comes back.
    deaf: bool,
    /// Connections lead to different servers.
    split: bool,
    /// Commands are answered, but the last publishes were refused: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
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
    let details = state.details.then(|| BrokerDetails {
        started: health.started,
        commands: health.commands,
        echo: health.echo,
        deaf: health.deaf,
        split: health.split,
        refused: health.refused.map(Refusal::label),
        echo_age_ms: health.echo_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        detail: health.detail.as_deref(),
    });
    json(status, &BrokerHealth { status: word, details })
}

/// Whether publications of this node reach others and those of others reach it.
fn is_whole(health: &Health) -> bool {
    health.started && health.commands && health.echo && !health.deaf && !health.split && health.refused.is_none()
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
        Health {
            started,
            commands,
            hears: echo,
            echo,
            deaf: commands && started && !echo,
            split: false,
            refused: None,
            echo_age: None,
            detail: None,
        }
    }

    #[test]
    fn readiness_names_each_reason() {
        let default = HealthSettings::default();
        let strict = HealthSettings { broker_outage_is_unready: true };
        let whole = health(true, true, true);
        let outage = health(true, false, false);
        let deaf = health(true, true, false);
        let new = health(false, false, false);
        let (serving, draining) = (Stage::Serving, Stage::Draining);
        assert!(unready(&whole, serving, &default).is_empty());
        assert!(unready(&whole, serving, &strict).is_empty());
        assert_eq!(unready(&whole, draining, &default), ["draining"]);
        assert_eq!(unready(&whole, Stage::Drained, &default), ["drained"]);
        assert_eq!(unready(&new, serving, &default), ["broker_not_reached_yet"]);
        assert_eq!(unready(&new, serving, &strict), ["broker_not_reached_yet"]);
        assert_eq!(unready(&deaf, serving, &default), ["deaf"]);
        assert!(unready(&outage, serving, &default).is_empty(), "a shared outage leaves nodes ready");
        assert_eq!(unready(&outage, serving, &strict), ["broker_unavailable"]);
        assert_eq!(unready(&deaf, draining, &default), ["draining", "deaf"]);
        let split = Health { split: true, ..health(true, true, true) };
        assert_eq!(unready(&split, serving, &default), ["split"]);
    }

    #[test]
    fn the_broker_is_whole_only_when_both_ways_work() {
        assert!(is_whole(&health(true, true, true)));
        assert!(!is_whole(&health(false, true, true)));
        assert!(!is_whole(&health(true, false, true)));
        assert!(!is_whole(&health(true, true, false)));
        assert!(!is_whole(&Health { split: true, ..health(true, true, true) }));
        for cause in Refusal::ALL {
            assert!(!is_whole(&Health { refused: Some(cause), ..health(true, true, true) }), "{}", cause.label());
        }
    }

    struct Nobody;
    impl Sink for Nobody {
        fn on_events(&self, _events: Vec<Event>) {}
    }

    #[tokio::test]
    async fn endpoints_follow_the_node() {
        let stage = watch::Sender::new(Stage::Serving);
        let broker = Arc::new(AnyBroker::Memory(MemoryBroker::new(Arc::new(Nobody))));
        let state =
            HealthState { broker, stage: stage.subscribe(), settings: HealthSettings::default(), details: true };
        let bare = router(HealthState { details: false, ..state.clone() });
        let app = router(state);
        let ask_of = async |app: &Router, method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
            let (head, body) = response.into_parts();
            (head.status.as_u16(), String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap())
        };
        let ask = async |method, path| ask_of(&app, method, path).await;
        assert_eq!(ask("GET", "/health/live").await, (200, r#"{"status":"live"}"#.to_owned()));
        assert_eq!(ask("GET", "/health/ready").await, (200, r#"{"status":"ready"}"#.to_owned()));
        let (status, broker) = ask("GET", "/health/broker").await;
        assert!(status == 200 && broker.contains(r#""commands":true"#), "{broker}");
        assert_eq!(ask_of(&bare, "GET", "/health/broker").await, (200, r#"{"status":"ok"}"#.to_owned()));
        assert_eq!(ask("POST", "/health/live").await.0, 405);
        stage.send_replace(Stage::Draining);
        assert_eq!(ask("GET", "/health/live").await.0, 200);
        assert_eq!(
            ask("GET", "/health/ready").await,
            (503, r#"{"status":"unready","reasons":["draining"]}"#.to_owned())
        );
        assert_eq!(ask_of(&bare, "GET", "/health/ready").await, (503, r#"{"status":"unready"}"#.to_owned()));
    }
}
