//! The server API (corpus rows 33 and 106-112), end to end; every value it refuses is in the tests of its room.

use fanway_testkit::node::API_KEY;

use super::*;

/// A POST with the API key.
fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    const JSON: &str = "Content-Type: application/json\r\n";
    let node = node().start().await;
    let good = br#"{"channel":"news","data":1}"#;
    let publish = |body: &[u8]| post("/api/publish", JSON, body);
    let with = |headers: &str, body: &[u8]| post("/api/publish", headers, body);
    let channels: Vec<_> = (0..1001).map(|n| format!("c{n}")).collect();
    let key = |key: &str| with(&format!("{JSON}Idempotency-Key: {key}\r\n"), good);
    let large = format!(r#"{{"channel":"news","data":"{}"}}"#, "x".repeat(300_000));
    let chunks = [
        format!(
            "POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n"
        ),
        format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()),
    ];
    let broadcast = |body: Value| post("/api/broadcast", JSON, body.to_string().as_bytes());
    let rows: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        (
            "33 a gzip bomb",
            with(&format!("{JSON}Content-Encoding: gzip\r\n"), &[0x1f, 0x8b, 8, 0]),
            415,
            "unsupported_encoding",
        ),
        ("87 malformed", publish(b"{"), 400, "bad_json"),
        ("87 BOM", publish(&[b"\xEF\xBB\xBF", &good[..]].concat()), 400, "bad_json"),
        ("88 depth", publish("[".repeat(100_000).as_bytes()), 400, "bad_json"),
        ("89 twice", publish(br#"{"channel":"a","channel":"b","data":1}"#), 400, "bad_json"),
        ("106 empty body", publish(b""), 400, "bad_json"),
        ("106 no content type is JSON", with("", br#"{"channel":"untyped","data":1}"#), 200, ""),
        ("106 no content type and no JSON", with("", b"channel=news&data=1"), 400, "bad_json"),
        ("106 wrong type", with("Content-Type: text/plain\r\n", good), 415, "unsupported_type"),
        ("106 no data", publish(br#"{"channel":"news"}"#), 200, "bad_data"),
        ("106 null data", publish(br#"{"channel":"news","data":null}"#), 200, "bad_data"),
        ("92 no name", publish(br#"{"channel":"a b","data":1}"#), 200, "invalid_channel"),
        ("107 over the limit", publish(large.as_bytes()), 413, "too_large"),
        ("107 over the limit in chunks", chunks.concat().into_bytes(), 413, "too_large"),
        ("108 10 kB", key(&"k".repeat(10_000)), 400, "invalid_idempotency_key"),
        ("108 empty", key(""), 400, "invalid_idempotency_key"),
        ("108 control characters", key("a\tb"), 400, "invalid_idempotency_key"),
        ("109 the first use", key("once"), 200, ""),
        ("109 the same again", key("once"), 200, ""),
        (
            "109 another body",
            with(&format!("{JSON}Idempotency-Key: once\r\n"), br#"{"channel":"news","data":2}"#),
            409,
            "idempotency_conflict",
        ),
        ("110 1001 channels", broadcast(json!({"channels": channels, "data": 1})), 400, "batch_too_large"),
        ("112 not UTF-8", publish(b"{\"channel\":\"news\",\"data\":\"\xff\"}"), 400, "bad_json"),
    ];
    let mut table = Table::default();
    for (name, bytes, status, reason) in rows {
        let answer = say(&node, bytes).await;
        let right = answer.as_ref().is_some_and(|answer| {
            answer.status == status
                && answer.reason().unwrap_or_default() == reason
                && answer.header("cache-control") == Some("no-store")
        });
        table.row(name, (!right).then(|| format!("{answer:?}")));
    }
    let (offset, _) = node.publish("news", json!("next")).await;
    table.row("109 written once", (offset != 2).then(|| format!("offset {offset}")));
    // Row 110: one answer per channel, in order; the bad one stops nobody.
    let body = json!({"channels": ["twice", "a b", "twice", "nope:x"], "data": 1});
    let mixed = say(&node, broadcast(body)).await.unwrap();
    let responses = &mixed.json()["result"]["responses"];
    let right = responses[0]["result"]["offset"] == 1
        && responses[1]["error"]["reason"] == "invalid_channel"
        && responses[2]["result"]["offset"] == 2
        && responses[3]["error"]["code"] == 102;
    table.row("110 some bad", (!right).then(|| format!("{mixed:?}")));
    table.check();
    unharmed(&node, &token(&node)).await;
}

/// Row 107: after an answer that leaves the body unread the connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn an_unread_body_ends_its_connection() {
    let node = node().start().await;
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: 5000000\r\n\r\n"
    );
    let mut raw = Raw::connect(node.url("/")).await;
    raw.write(head).await;
    let (answer, end) = raw.read_to_end(PATIENCE).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(end, Incoming::End);
    drop(raw);
    unharmed(&node, &token(&node)).await;
}
