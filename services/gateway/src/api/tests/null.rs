//! An optional member that is `null` is absent, in every request.

use serde_json::{Map, json};

use super::*;

#[tokio::test]
async fn null_is_absence_in_every_optional_member() {
    let cases = [
        (
            "/api/publish",
            json!({"channel": "news", "data": 1}),
            &["b64data", "tags", "skip_history", "exclude", "idempotency_key", "version"][..],
        ),
        ("/api/publish", json!({"channel": "news", "b64data": "MQ=="}), &["data"]),
        (
            "/api/broadcast",
            json!({"channels": ["news"], "data": 1}),
            &["b64data", "tags", "skip_history", "exclude", "idempotency_key", "version"],
        ),
        ("/api/broadcast", json!({"channels": ["news"], "b64data": "MQ=="}), &["data"]),
        ("/api/history", json!({"channel": "news"}), &["limit", "since", "reverse"]),
        ("/api/info", json!({}), &["unheard_of"]),
    ];
    for (path, request, optional) in cases {
        let app = App::new();
        let without = app.post(path, request.to_string()).await;
        assert_eq!((without.status, without.body.get("error")), (200, None), "{path} {request}");
        // Each by itself, and all of them.
        for members in optional.chunks(1).chain([optional]) {
            let nulls: Map<_, _> = members.iter().map(|member| ((*member).to_owned(), Value::Null)).collect();
            let mut request = request.clone();
            request.as_object_mut().unwrap().extend(nulls);
            let answer = app.post(path, request.to_string()).await;
            assert_eq!((answer.status, answer.body.get("error")), (200, None), "{path} {request}: {}", answer.body);
        }
    }
}
