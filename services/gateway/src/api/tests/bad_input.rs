//! The corpus of bad input (rows 33, 36, 87-92, 106-112) against the server API.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::*;

const GOOD: &str = r#"{"channel":"news","data":1}"#;

/// Sends each request and compares status and reason; afterwards a good request must still be served.
async fn table(app: &App, cases: Vec<(&str, Ask, u16, &str)>) {
    for (name, ask, status, reason) in cases {
        let path = ask.0.uri().path().to_owned();
        let answer = app.send(ask.body_done()).await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{name}: {}", answer.body);
        assert_eq!(answer.headers["cache-control"], "no-store", "{name}");
        assert!(answer.code() >= 100, "{name}");
        assert!(answer.body["error"]["message"].as_str().is_some_and(|text| text.len() < 300), "{name}");
        assert!(app.requests(&path["/api/".len()..], reason) > 0, "{name} is counted");
    }
    assert_eq!(app.post("/api/publish", GOOD).await.status, 200);
}

#[tokio::test]
async fn gates_before_the_body() {
    let publish = |body: &'static str| request("/api/publish", body);
    let cases = vec![
        ("no key", publish(GOOD).without("x-api-key"), 401, "unauthorized"),
        ("wrong key", publish(GOOD).header("x-api-key", "nope"), 401, "unauthorized"),
        ("key in the query", request("/api/publish?api_key=key", GOOD).without("x-api-key"), 401, "unauthorized"),
        ("key without the right", publish(GOOD).header("x-api-key", "weak"), 403, "forbidden"),
        ("no key wins over bad JSON", publish("{").without("x-api-key"), 401, "unauthorized"),
        ("no content type, but no JSON", publish("channel=news").without("content-type"), 400, "bad_json"),
        ("two content types", publish(GOOD).add("content-type", "application/json"), 415, "unsupported_type"),
        ("text", publish(GOOD).header("content-type", "text/plain"), 415, "unsupported_type"),
        ("form", publish(GOOD).header("content-type", "application/x-www-form-urlencoded"), 415, "unsupported_type"),
        ("latin1", publish(GOOD).header("content-type", "application/json; charset=latin1"), 415, "unsupported_type"),
        ("json patch", publish(GOOD).header("content-type", "application/json-patch+json"), 415, "unsupported_type"),
        ("two types", publish(GOOD).add("content-type", "application/json"), 415, "unsupported_type"),
        ("gzip", publish(GOOD).header("content-encoding", "gzip"), 415, "unsupported_encoding"),
        ("two encodings", publish(GOOD).header("content-encoding", "identity, gzip"), 415, "unsupported_encoding"),
    ];
    let app = App::new();
    table(&app, cases).await;
    let answer = app.send(publish(GOOD).without("x-api-key").body_done()).await;
    assert_eq!(answer.headers["www-authenticate"], "apikey realm=\"fanway\"");
    let answer = app.send(publish(GOOD).header("content-encoding", "br").body_done()).await;
    assert_eq!(answer.headers["accept-encoding"], "identity");
    assert_eq!(app.send(publish(GOOD).header("content-encoding", "identity").body_done()).await.status, 200);
}

#[tokio::test]
async fn what_is_not_json_of_the_right_types() {
    let publish = |body: &str| request("/api/publish", body.to_owned());
    let deep = format!(r#"{{"channel":"news","data":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let deep_unknown =
        format!(r#"{{"channel":"news","data":1,"x":{}}}"#, "{\"a\":".repeat(200) + "1" + &"}".repeat(200));
    let long = format!(r#"{{"channel":"news","data":1,"skip_history":"{}"}}"#, "x".repeat(10_000));
    let wide = format!(r#"{{"channel":"news","data":1,"skip_history":"{}"}}"#, "€".repeat(1_000));
    let not_utf8 = |body: &'static [u8]| request("/api/publish", body);
    let cases = vec![
        ("empty", publish(""), 400, "bad_json"),
        ("space", publish("  "), 400, "bad_json"),
        ("cut off", publish(r#"{"channel":"news","data":"#), 400, "bad_json"),
        ("trailing garbage", publish(&format!("{GOOD} x")), 400, "bad_json"),
        ("two values", publish(&format!("{GOOD}{GOOD}")), 400, "bad_json"),
        ("BOM", publish(&format!("\u{feff}{GOOD}")), 400, "bad_json"),
        ("NaN", publish(r#"{"channel":"news","data":NaN}"#), 400, "bad_json"),
        ("comment", publish(r#"{"channel":"news",/**/"data":1}"#), 400, "bad_json"),
        ("single quotes", publish("{'channel':'news','data':1}"), 400, "bad_json"),
        ("raw line break in a string", publish("{\"channel\":\"news\",\"data\":\"a\nb\"}"), 400, "bad_json"),
        ("not UTF-8 in data", not_utf8(b"{\"channel\":\"news\",\"data\":\"\xff\"}"), 400, "bad_json"),
        ("not UTF-8 elsewhere", not_utf8(b"{\"channel\":\"news\",\"data\":1,\"x\":\"\xc0\xaf\"}"), 400, "bad_json"),
        ("surrogate bytes", not_utf8(b"{\"channel\":\"news\",\"data\":\"\xed\xa0\x80\"}"), 400, "bad_json"),
        ("array", publish(r#"["news",1]"#), 400, "bad_json"),
        ("null", publish("null"), 400, "bad_json"),
        ("string", publish("\"x\""), 400, "bad_json"),
        ("depth", publish(&"[".repeat(100_000)), 400, "bad_json"),
        ("depth in data", publish(&deep), 400, "bad_json"),
        ("depth in an unknown member", publish(&deep_unknown), 400, "bad_json"),
        ("channel twice", publish(r#"{"channel":"a","channel":"b","data":1}"#), 400, "bad_json"),
        ("data twice", publish(r#"{"channel":"a","data":1,"data":2}"#), 400, "bad_json"),
        ("tag twice", publish(r#"{"channel":"a","data":1,"tags":{"x":"1","x":"2"}}"#), 400, "bad_json"),
        ("channel number", publish(r#"{"channel":5,"data":1}"#), 400, "bad_json"),
        ("tags list", publish(r#"{"channel":"a","data":1,"tags":["x"]}"#), 400, "bad_json"),
        ("tag number", publish(r#"{"channel":"a","data":1,"tags":{"x":1}}"#), 400, "bad_json"),
        ("lone surrogate", publish(r#"{"channel":"\ud800","data":1}"#), 400, "bad_json"),
        ("lone surrogate in data", publish(r#"{"channel":"a","data":"\ud83d"}"#), 400, "bad_json"),
        ("lone surrogate in a tag", publish(r#"{"channel":"a","data":1,"tags":{"x":"\ud83d"}}"#), 400, "bad_json"),
        ("long complaint", publish(&long), 400, "bad_json"),
        ("long complaint in wide letters", publish(&wide), 400, "bad_json"),
        ("limit text", request("/api/history", r#"{"channel":"a","limit":"5"}"#), 400, "bad_json"),
        ("limit fraction", request("/api/history", r#"{"channel":"a","limit":1.5}"#), 400, "bad_json"),
        ("limit 2^31", request("/api/history", r#"{"channel":"a","limit":2147483648}"#), 400, "bad_json"),
        ("offset -1", request("/api/history", r#"{"channel":"a","since":{"offset":-1}}"#), 400, "bad_json"),
        (
            "offset 2^64",
            request("/api/history", r#"{"channel":"a","since":{"offset":18446744073709551616}}"#),
            400,
            "bad_json",
        ),
        ("channels text", request("/api/broadcast", r#"{"channels":"a","data":1}"#), 400, "bad_json"),
    ];
    table(&App::new(), cases).await;
    let allowed = format!(r#"{{"channel":"news","data":{}1{}}}"#, "[".repeat(127), "]".repeat(127));
    assert_eq!(App::new().post("/api/publish", allowed).await.status, 200);
    let brackets_in_text = format!(r#"{{"channel":"news","data":"{}"}}"#, "[\\\"{".repeat(500));
    assert_eq!(App::new().post("/api/publish", brackets_in_text).await.status, 200);
}

/// Application errors: 200 with `error`, or the status when asked for.
#[tokio::test]
async fn values_that_are_not_allowed() {
    let publish = |body: String| ("/api/publish", body);
    let long = "c".repeat(256);
    let channels = ["", &long, "a b", "a\\u0000", "a\\n", "\\u202e", "🦀", "a{b", "a}b", "a*"];
    let mut cases: Vec<(_, u64, u16, &str)> = Vec::new();
    for channel in channels {
        cases.push((publish(format!(r#"{{"channel":"{channel}","data":1}}"#)), 107, 400, "invalid_channel"));
        cases.push((("/api/history", format!(r#"{{"channel":"{channel}"}}"#)), 107, 400, "invalid_channel"));
    }
    let tags = |tags: String| publish(format!(r#"{{"channel":"a","data":1,"tags":{{{tags}}}}}"#));
    let many = (0..33).map(|n| format!(r#""{n}":"""#)).collect::<Vec<_>>().join(",");
    let data = |members: &str| publish(format!(r#"{{"channel":"a",{members}}}"#));
    cases.extend([
        (publish(r#"{"data":1}"#.to_owned()), 107, 400, "invalid_channel"),
        (publish(r#"{"channel":"nope:x","data":1}"#.to_owned()), 102, 404, "unknown_channel"),
        (publish(r#"{"channel":":x","data":1}"#.to_owned()), 102, 404, "unknown_channel"),
        (publish(r#"{"channel":"a"}"#.to_owned()), 107, 400, "bad_data"),
        (data(r#""data":null"#), 107, 400, "bad_data"),
        (data(r#""data":1,"b64data":"MQ==""#), 107, 400, "bad_data"),
        (data(r#""b64data":"*""#), 107, 400, "bad_data"),
        (data(r#""data":1,"exclude":"x""#), 107, 400, "invalid_exclude"),
        (data(r#""data":1,"exclude":"""#), 107, 400, "invalid_exclude"),
        (data(r#""b64data":"MQ""#), 107, 400, "bad_data"),
        (data(r#""b64data":"bnVsbA==""#), 107, 400, "bad_data"),
        (data(r#""data":1,"version":3"#), 108, 404, "not_available"),
        (tags(many), 107, 400, "invalid_tags"),
        (tags(r#""":"x""#.to_owned()), 107, 400, "invalid_tags"),
        (tags(format!(r#""{}":"x""#, "n".repeat(65))), 107, 400, "invalid_tags"),
        (tags(format!(r#""n":"{}""#, "v".repeat(257))), 107, 400, "invalid_tags"),
        (("/api/broadcast", r#"{"data":1}"#.to_owned()), 107, 400, "invalid_channel"),
        (("/api/broadcast", r#"{"channels":[],"data":1}"#.to_owned()), 107, 400, "invalid_channel"),
        (("/api/broadcast", r#"{"channels":["a"]}"#.to_owned()), 107, 400, "bad_data"),
    ]);
    let app = App::new();
    let transport = App::with(ApiSettings { error_mode: ErrorMode::Transport, ..ApiSettings::default() });
    for ((path, body), code, status, reason) in cases {
        let answer = app.post(path, body.clone()).await;
        assert_eq!((answer.status, answer.code(), answer.reason()), (200, code, reason), "{body}");
        let ask = request(path, body.clone()).header("x-centrifugo-error-mode", "transport");
        let answer = app.send(ask.body_done()).await;
        assert_eq!((answer.status, answer.code(), answer.reason()), (status, code, reason), "{body}");
        assert_eq!(transport.post(path, body.clone()).await.status, status, "{body}");
    }
    assert_eq!(app.metrics.api_publications_total.get(), 0);
    let most = (0..32).map(|n| format!(r#""{n:064}":"{}""#, "v".repeat(256))).collect::<Vec<_>>().join(",");
    assert_eq!(app.post("/api/publish", tags(most).1).await.body["error"], Value::Null);
}

/// Row 108.
#[tokio::test]
async fn idempotency_keys() {
    let with_header = |key: &str| request("/api/publish", GOOD).header("idempotency-key", key);
    let with_body = |key: &str| {
        let body = serde_json::json!({"channel": "news", "data": 1, "idempotency_key": key});
        request("/api/publish", body.to_string())
    };
    let mut not_ascii = with_header("x");
    not_ascii.0.headers_mut().insert("idempotency-key", http::HeaderValue::from_bytes(b"\xc3\xa4").unwrap());
    let reason = "invalid_idempotency_key";
    let cases = vec![
        ("empty header", with_header(""), 400, reason),
        ("long header", with_header(&"k".repeat(10_000)), 400, reason),
        ("256 bytes", with_header(&"k".repeat(256)), 400, reason),
        ("tab in header", with_header("a\tb"), 400, reason),
        ("not ASCII", not_ascii, 400, reason),
        ("two headers", with_header("a").add("idempotency-key", "a"), 400, reason),
        ("empty body", with_body(""), 400, reason),
        ("long body", with_body(&"k".repeat(256)), 400, reason),
        ("control character", with_body("a\u{1}"), 400, reason),
        ("header and body differ", with_body("a").header("idempotency-key", "b"), 400, reason),
    ];
    let app = App::new();
    table(&app, cases).await;
    for good in ["k", &"k".repeat(255), "a b~!"] {
        assert_eq!(app.send(with_header(good).body_done()).await.status, 200, "{good}");
    }
    assert_eq!(app.send(with_body("same").header("idempotency-key", "same").body_done()).await.status, 200);
}

/// A body of unknown length that counts how much of it was asked for.
fn chunked(chunks: usize, asked: &Arc<AtomicUsize>) -> Body {
    let asked = asked.clone();
    Body::from_stream(stream::iter(0..chunks).map(move |_| {
        asked.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1024]))
    }))
}

/// Row 107.
#[tokio::test]
async fn bodies_over_the_limit() {
    let app = App::new();
    for (path, limit) in [("/api/publish", 256), ("/api/history", 256), ("/api/info", 256), ("/api/broadcast", 1024)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let declared = request(path, chunked(5000, &asked)).header("content-length", &(limit * 1024 + 1).to_string());
        let answer = app.send(declared.body_done()).await;
        assert_eq!((answer.status, answer.reason()), (413, "too_large"), "{path}");
        assert_eq!(answer.headers["connection"], "close", "{path}");
        assert_eq!(asked.load(Ordering::Relaxed), 0, "{path}: refused before reading");

        let answer = app.send(request(path, chunked(5000, &asked)).body_done()).await;
        assert_eq!((answer.status, answer.reason()), (413, "too_large"), "{path}");
        assert!(asked.load(Ordering::Relaxed) <= limit + 2, "{path}: reading stops at the limit");
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let locked = request("/api/publish", chunked(5000, &asked)).without("x-api-key");
    assert_eq!(app.send(locked.body_done()).await.status, 401);
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nothing is read for nobody");

    let empty = r#"{"channel":"news","data":""}"#;
    let full = |bytes: usize| empty.replace(r#""""#, &format!("\"{}\"", "x".repeat(bytes - empty.len())));
    assert_eq!(app.post("/api/publish", full(256 * 1024)).await.status, 200);
    assert_eq!(app.post("/api/publish", full(256 * 1024 + 1)).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_do_not_come() {
    let app = App::new();
    let forever = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let answer = app.post("/api/publish", forever).await;
    assert_eq!((answer.status, answer.reason()), (408, "body_timeout"));
    assert_eq!(answer.headers["connection"], "close");
    let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]));
    let answer = app.post("/api/publish", broken).await;
    assert_eq!((answer.status, answer.reason()), (400, "body_broken"));
}

/// Row 110, first part; the rest is in the tests of broadcast.
#[tokio::test]
async fn broadcasts_that_are_too_large() {
    let app = App::new();
    let channels: Vec<_> = (0..1001).map(|n| format!("c{n}")).collect();
    let body = serde_json::json!({"channels": channels, "data": 1}).to_string();
    table(&app, vec![("1001 channels", request("/api/broadcast", body), 400, "batch_too_large")]).await;
}

#[tokio::test]
async fn a_request_dropped_half_way_is_counted() {
    let app = App::new();
    let forever = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let mut call = Box::pin(app.send(request("/api/publish", forever).body_done()));
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(app.requests("publish", "abandoned"), 1);
}
