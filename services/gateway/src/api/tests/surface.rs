//! Paths, methods, info, the OpenAPI document, and the answers to a failing broker.

use fanway_broker::{BrokerError, Refusal};

use super::*;

/// Row 118.
#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_answered_in_json() {
    let app = App::new();
    for path in ["/api/", "/api/nope", "/api/publish/", "/api/publish/x", "/api/%2e%2e/publish", "/api/batch"] {
        let answer = app.post(path, "{}").await;
        assert_eq!((answer.status, answer.reason(), answer.code()), (404, "not_found", 104), "{path}");
    }
    for path in ["publish", "broadcast", "history", "info"] {
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let ask = Request::builder().method(method).uri(format!("/api/{path}")).body(Body::empty()).unwrap();
            let answer = app.send(ask).await;
            assert_eq!((answer.status, answer.reason()), (405, "method_not_allowed"), "{method} {path}");
            assert_eq!(answer.headers["allow"], "POST", "{method} {path}");
        }
    }
    let answer = app.post("/api/openapi.json", "{}").await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.headers["allow"], "GET,HEAD");
}

#[tokio::test]
async fn info_tells_the_figures() {
    let app = App::new();
    let node = serde_json::json!({"uid": "u", "name": "n", "version": "0.0.0", "num_clients": 3, "num_channels": 2,
        "num_subs": 5, "uptime": 7});
    let expected = serde_json::json!({"result": {"nodes": [node]}});
    assert_eq!(app.post("/api/info", "{}").await.body, expected);
    let bare = request("/api/info", "").without("content-type").body_done();
    assert_eq!(app.send(bare).await.body, expected);
    let bare = request("/api/info", "{}").without("content-type").body_done();
    assert_eq!(app.send(bare).await.body, expected);
    let other = request("/api/info", "{}").header("content-type", "text/plain").body_done();
    assert_eq!(app.send(other).await.reason(), "unsupported_type");
    assert_eq!(app.post("/api/info", "[]").await.reason(), "bad_json");
    let locked = request("/api/info", "").without("x-api-key").body_done();
    assert_eq!(app.send(locked).await.status, 401);
}

#[tokio::test]
async fn the_document_is_served_and_its_copy_is_current() {
    let served = App::new().send(Request::get("/api/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!(served.status, 200);
    for path in ["/api/publish", "/api/broadcast", "/api/history", "/api/info"] {
        let responses = served.body["paths"][path]["post"]["responses"].as_object().expect(path);
        for status in ["200", "400", "401", "403", "405", "408", "409", "413", "415", "503"] {
            assert!(responses.contains_key(status), "{path} {status}");
        }
        let schema = &responses["200"]["content"]["application/json"]["schema"];
        let done = schema["oneOf"].get(0).unwrap_or(schema);
        assert!(done["properties"]["result"].is_object() || done["$ref"].is_string(), "{path}: {schema}");
    }
    let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(copy, openapi_document()).unwrap();
    }
    let kept = std::fs::read_to_string(copy).unwrap_or_default();
    assert!(kept == openapi_document(), "services/gateway/openapi.json is stale: run this test with UPDATE_OPENAPI=1");
}

async fn told(error: ApiError, mode: ErrorMode) -> Answer {
    let (head, body) = error.into_response(mode).into_parts();
    let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

/// Row 114.
#[tokio::test]
async fn a_failing_broker_is_503_with_a_truthful_outcome() {
    let secret = || "redis://10.0.0.1".to_owned();
    let refused = |cause| BrokerError::Refused { cause, reason: secret() };
    let cases = [
        (ApiError::of_write(BrokerError::Unavailable(secret())), "broker_unavailable", "unavailable", true),
        (ApiError::of_write(BrokerError::OutcomeUnknown(secret())), "publish_outcome_unknown", "outcome_unknown", true),
        (ApiError::of_write(BrokerError::Corrupt(secret())), "broker_unreadable", "unavailable", false),
        (ApiError::of_write(BrokerError::FleetVersion), "fleet_version", "unavailable", true),
        (ApiError::of_read(BrokerError::Unavailable(secret())), "broker_unavailable", "unavailable", true),
        (ApiError::of_read(BrokerError::OutcomeUnknown(secret())), "broker_unavailable", "unavailable", true),
        (ApiError::of_write(refused(Refusal::Full)), "broker_full", "refused", true),
        (ApiError::of_read(refused(Refusal::Full)), "broker_full", "refused", true),
        (ApiError::of_write(refused(Refusal::NotPermitted)), "broker_refused", "refused", true),
        (ApiError::of_write(refused(Refusal::NotPersisted)), "broker_refused", "refused", true),
    ];
    for (error, reason, outcome, retry) in cases {
        let answer = told(error, ErrorMode::Body).await;
        assert_eq!((answer.status, answer.reason(), answer.code()), (503, reason, 100));
        assert_eq!(answer.body["outcome"], outcome);
        assert_eq!(answer.headers.contains_key("retry-after"), retry, "{reason}");
        assert!(!answer.body.to_string().contains("10.0.0.1"), "details stay inside");
    }
    let conflict = told(ApiError::of_write(BrokerError::IdempotencyConflict), ErrorMode::Body).await;
    assert_eq!((conflict.status, conflict.body.get("outcome")), (409, None));
}
