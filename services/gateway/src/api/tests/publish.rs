use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

#[tokio::test]
async fn publishes_and_tells_the_position() {
    let app = App::new();
    app.subscribe("news").await;
    let first = app.post("/api/publish", r#"{"channel":"news","data":{"a":1}}"#).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.headers["cache-control"], "no-store");
    assert_eq!(first.body["result"]["offset"], 1);
    let epoch = first.body["result"]["epoch"].as_str().unwrap().to_owned();
    assert_eq!(epoch.len(), 20);
    let second = app.post("/api/publish", r#"{"channel":"news","data":[]}"#).await;
    assert_eq!(second.body["result"], serde_json::json!({"offset": 2, "epoch": epoch}));
    assert_eq!(app.requests("publish", "ok"), 2);
    assert_eq!(app.metrics.api_publications_total.get(), 2);
    let heard = app.heard.0.lock().unwrap();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0].place.unwrap().position.epoch.as_str(), epoch);
}

/// Row 111 of the corpus, and that nothing rewrites numbers or order.
#[tokio::test]
async fn data_stays_byte_for_byte() {
    let app = App::new();
    app.subscribe("news").await;
    let cases = [
        (r#"{"b":1.10,"a":1e400,"a":"\u00e4"}"#, r#"{"b":1.10,"a":1e400,"a":"\u00e4"}"#),
        ("\"\\n\\nevent: x\\nid: 1 </script> \u{2028}\"", "\"\\n\\nevent: x\\nid: 1 </script> \u{2028}\""),
        ("{\r\n\"a\":\n1}", "{  \"a\": 1}"),
        ("0", "0"),
        ("false", "false"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ];
    for (sent, kept) in cases {
        let answer = app.post("/api/publish", format!(r#"{{"channel":"news","data":{sent}}}"#)).await;
        assert_eq!(answer.body["error"], Value::Null, "{sent}");
        let heard = app.heard.0.lock().unwrap().pop().unwrap();
        assert_eq!(heard.publication.data, Payload::Json(kept.into()), "{sent}");
    }
}

#[tokio::test]
async fn base64_that_is_not_json_is_a_binary_payload() {
    let app = App::new();
    app.subscribe("news").await;
    let take = || app.heard.0.lock().unwrap().pop().unwrap().publication.data.clone();
    // Bytes, text that is not UTF-8, cut JSON, JSON with a byte order mark, two values.
    let binary: [&[u8]; 5] = [&[0, 1, 2], &[0xff, 0xfe, 0xfd], b"{\"a\":", b"\xef\xbb\xbf1", b"1 2"];
    for bytes in binary {
        let encoded = STANDARD.encode(bytes);
        let answer = app.post("/api/publish", format!(r#"{{"channel":"news","data":"","b64data":"{encoded}"}}"#)).await;
        assert_eq!(answer.body["error"], Value::Null, "{encoded}");
        assert_eq!(take(), Payload::Binary(bytes.into()));
        let page = app.post("/api/history", r#"{"channel":"news","limit":1,"reverse":true}"#).await;
        let kept = &page.body["result"]["publications"][0];
        assert_eq!((&kept["b64data"], kept.get("data")), (&Value::from(encoded), None));
    }
    for json in ["1", "\"text\"", " [1,\n2] "] {
        let encoded = STANDARD.encode(json);
        app.post("/api/broadcast", format!(r#"{{"channels":["news"],"b64data":"{encoded}"}}"#)).await;
        assert_eq!(take(), Payload::Json(json.trim().replace('\n', " ").into()));
    }
}

#[tokio::test]
async fn an_idempotency_key_holds_for_bytes() {
    let app = App::new();
    let with = |data: &str| format!(r#"{{"channel":"news","idempotency_key":"k",{data}}}"#);
    let binary = app.post("/api/publish", with(r#""b64data":"/w==""#)).await;
    assert_eq!(binary.body["result"]["offset"], 1);
    assert_eq!(app.post("/api/publish", with(r#""b64data":"/w==""#)).await.body["result"]["offset"], 1);
    assert_eq!(app.post("/api/publish", with(r#""b64data":"/g==""#)).await.reason(), "idempotency_conflict");
}

#[tokio::test]
async fn an_excluded_client_goes_along_and_counts_for_the_idempotency_key() {
    let app = App::new();
    app.subscribe("news").await;
    let id = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff";
    let publish = |exclude: &str| format!(r#"{{"channel":"news","data":1,"idempotency_key":"k",{exclude}}}"#);
    let excluding = publish(&format!(r#""exclude":"{id}""#));
    for _ in 0..2 {
        assert_eq!(app.post("/api/publish", excluding.clone()).await.body["result"]["offset"], 1);
    }
    assert_eq!(app.post("/api/publish", publish(r#""exclude":null"#)).await.reason(), "idempotency_conflict");
    let broadcast = format!(r#"{{"channels":["news"],"data":1,"exclude":"{id}"}}"#);
    assert_eq!(app.post("/api/broadcast", broadcast).await.status, 200);
    app.post("/api/publish", r#"{"channel":"news","data":1}"#).await;
    let heard: Vec<_> = app.heard.0.lock().unwrap().drain(..).map(|delivery| delivery.publication).collect();
    let excluded: Vec<_> = heard.iter().map(|one| one.exclude.as_ref().map(ToString::to_string)).collect();
    assert_eq!(excluded, [Some(id.to_owned()), Some(id.to_owned()), None]);
}

#[tokio::test]
async fn takes_what_else_libraries_send() {
    let app = App::new();
    app.subscribe("plain:1").await;
    app.subscribe("news").await;
    let take = || app.heard.0.lock().unwrap().pop().unwrap();

    let nulls = r#"{"channel":"news","data":1,"b64data":"","tags":null,"skip_history":null,"idempotency_key":null,
        "delta":true,"version":0,"version_epoch":"","unheard_of":{"x":[1]}}"#;
    assert_eq!(app.post("/api/publish", nulls).await.body["result"]["offset"], 1);
    assert!(take().publication.tags.is_none());

    let tagged = r#"{"channel":"news","data":1,"tags":{"b":"2","a":""}}"#;
    assert_eq!(app.post("/api/publish", tagged).await.body["result"]["offset"], 2);
    let tags = take().publication.tags.clone().unwrap();
    assert_eq!(tags.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["a=", "b=2"]);

    // {"x":"base64"}
    let encoded = r#"{"channel":"news","b64data":"eyJ4IjoiYmFzZTY0In0=","data":null}"#;
    assert_eq!(app.post("/api/publish", encoded).await.body["result"]["offset"], 3);
    assert_eq!(take().publication.data, Payload::Json(r#"{"x":"base64"}"#.into()));

    // As `cent` sends them: `data` is mandatory there.
    for empty in [r#""""#, "{}", "{ }", "[]", "null"] {
        let both = format!(r#"{{"channel": "news", "data": {empty}, "b64data": "eyJ4IjoiYmFzZTY0In0="}}"#);
        assert_eq!(app.post("/api/publish", both).await.body["error"], Value::Null, "{empty}");
        assert_eq!(take().publication.data, Payload::Json(r#"{"x":"base64"}"#.into()), "{empty}");
        let alone = format!(r#"{{"channel": "news", "data": {empty}, "b64data": ""}}"#);
        let answer = app.post("/api/publish", alone).await;
        assert_eq!(answer.reason(), if empty == "null" { "bad_data" } else { "" }, "{empty}");
    }
    app.heard.0.lock().unwrap().clear();

    let fleeting = r#"{"channel":"news","data":1,"skip_history":true}"#;
    assert_eq!(app.post("/api/publish", fleeting).await.body, serde_json::json!({"result": {}}));
    assert!(take().place.is_none());

    let plain = app.post("/api/publish", r#"{"channel":"plain:1","data":1}"#).await;
    assert_eq!(plain.body, serde_json::json!({"result": {}}));

    for unnamed in [None, Some("")] {
        let ask = request("/api/publish", r#"{"channel":"news","data":1}"#).without("content-type");
        let ask = unnamed.into_iter().fold(ask, |ask, empty| ask.header("content-type", empty));
        assert_eq!(app.send(ask.body_done()).await.body["result"]["offset"].as_u64().map(|_| ()), Some(()));
    }
    for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=\"UTF-8\""] {
        let ask = request("/api/publish", r#"{"channel":"news","data":1}"#).header("content-type", content_type);
        assert_eq!(app.send(ask.body_done()).await.body["error"], Value::Null, "{content_type}");
    }
}

#[tokio::test]
async fn a_sampled_trace_travels_and_nothing_else_does() {
    let app = App::new();
    app.subscribe("news").await;
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let cases = [
        (good, true),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false),
        ("x", false),
    ];
    for (header, kept) in cases {
        let ask = request("/api/publish", r#"{"channel":"news","data":1}"#).header("traceparent", header);
        assert_eq!(app.send(ask.body_done()).await.status, 200);
        let trace = app.heard.0.lock().unwrap().pop().unwrap().publication.trace.clone();
        assert_eq!(trace.as_deref().map(String::as_str), kept.then_some(header), "{header}");
    }
}

/// Row 109, and both ways to give the key.
#[tokio::test]
async fn an_idempotency_key_publishes_once() {
    let app = App::new();
    let body = r#"{"channel":"news","data":{"n":1},"tags":{"a":"b"},"idempotency_key":"k-1"}"#;
    let first = app.post("/api/publish", body).await;
    assert_eq!(first.body["result"]["offset"], 1);
    assert_eq!(app.post("/api/publish", body).await.body, first.body, "the stored result");

    let by_header = r#"{"channel":"news","data":{"n":1},"tags":{"a":"b"}}"#;
    let ask = request("/api/publish", by_header).header("idempotency-key", "k-1").body_done();
    assert_eq!(app.send(ask).await.body, first.body, "the header is the same key");

    for other in [
        r#"{"channel":"news","data":{"n":2},"tags":{"a":"b"},"idempotency_key":"k-1"}"#,
        r#"{"channel":"news","data":{"n":1},"tags":{"a":"c"},"idempotency_key":"k-1"}"#,
        r#"{"channel":"news","data":{"n":1},"idempotency_key":"k-1"}"#,
    ] {
        let conflict = app.post("/api/publish", other).await;
        assert_eq!((conflict.status, conflict.reason()), (409, "idempotency_conflict"), "{other}");
    }
    let elsewhere = app.post("/api/publish", body.replace("news", "other")).await;
    assert_eq!(elsewhere.body["result"]["offset"], 1, "keys are per channel");
    assert_eq!(app.metrics.api_publications_total.get(), 2, "repeats are not counted");
    assert_eq!(app.requests("publish", "idempotency_conflict"), 3);
}
