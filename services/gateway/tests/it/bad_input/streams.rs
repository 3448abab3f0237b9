//! Event streams and polling (corpus rows 92, 94, 103-105 and 111).

use fanway_protocol::{Channel, ChannelHash};
use fanway_testkit::poll::escape;
use fanway_testkit::token::Claims;
use fanway_testkit::{cursor, sse};

use super::*;

/// A GET with a bearer token and more header lines.
fn get(path: &str, token: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{headers}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    let node = node().namespace("user", "history_size", 0).start().await;
    let token = node.token(&Claims::user("42").cap(&["user:42"], "exact", &["sub"]));
    let many: String = (0..65).map(|n| format!("&channel=c{n}")).collect();
    let most: String = (0..64).map(|n| format!("&channel=c{n}")).collect();
    let long = "n".repeat(256);
    let mut rows = vec![
        ("no channel".to_owned(), String::new(), 400, "bad_request"),
        ("65 channels".to_owned(), many, 400, "too_many_channels"),
        ("92 empty".to_owned(), "&channel=".to_owned(), 400, "invalid_channel"),
        ("92 one bad of two".to_owned(), "&channel=news&channel=a%20b".to_owned(), 400, "invalid_channel"),
        ("92 unknown namespace".to_owned(), "&channel=nope:x".to_owned(), 404, "unknown_channel"),
        ("92 leading colon".to_owned(), "&channel=:x".to_owned(), 404, "unknown_channel"),
        ("94 of another user".to_owned(), "&channel=user:43".to_owned(), 403, "permission_denied"),
        ("94 one of two".to_owned(), "&channel=user:42&channel=user:43".to_owned(), 403, "permission_denied"),
        ("95 out of the fleet".to_owned(), "&channel=../b:x".to_owned(), 404, "unknown_channel"),
        ("103 100 kB".to_owned(), format!("&channel=news&cursor={}", "x".repeat(100_000)), 414, "uri_too_long"),
    ];
    for channel in [&long, "a b", "a\0", "a\nb", "\u{202e}", "🦀", "a{b", "a}b", "*", "%"] {
        if channel != "%" {
            rows.push((format!("92 {channel:.20?}"), format!("&channel={}", escape(channel)), 400, "invalid_channel"));
        }
    }
    let mut table = Table::default();
    for path in ["/sse?x", "/poll?timeout=0"] {
        for (name, query, status, reason) in &rows {
            let answer = say(&node, get(&format!("{path}{query}"), &token, "")).await;
            let right = answer
                .as_ref()
                .is_some_and(|answer| answer.status == *status && answer.reason().unwrap_or_default() == *reason);
            table.row(&format!("{name} {path}"), (!right).then(|| format!("{answer:?}")));
        }
    }
    for (timeout, status) in [
        ("-1", 400),
        ("NaN", 400),
        ("inf", 400),
        ("", 400),
        ("1s", 400),
        ("0x1", 400),
        ("0", 200),
        ("-0", 200),
        ("0.01", 200),
    ] {
        let answer = say(&node, get(&format!("/poll?channel=news&timeout={timeout}"), &token, "")).await.unwrap();
        table.row(&format!("105 timeout={timeout}"), (answer.status != status).then(|| format!("{answer:?}")));
    }
    let twice = say(&node, get("/poll?channel=news&timeout=0&timeout=1", &token, "")).await.unwrap();
    table.row("105 timeout twice", (twice.status != 400).then(|| format!("{twice:?}")));
    let answer = say(&node, get(&format!("/poll?timeout=0{most}"), &token, "")).await.unwrap();
    table.row("64 channels", (answer.status != 200).then(|| format!("{answer:?}")));
    for accept in ["application/json", "text/html", "text/event-stream2", ""] {
        let answer = say(&node, get("/sse?channel=news", &token, &format!("Accept: {accept}\r\n"))).await.unwrap();
        let right = (answer.status, answer.reason().as_deref()) == (406, Some("not_acceptable"));
        table.row(&format!("104 Accept: {accept}"), (!right).then(|| format!("{answer:?}")));
    }
    table.check();
    unharmed(&node, &token).await;
}

/// Row 103: an id that is none is an honest gap, never an error: an `EventSource` would send it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn ids() {
    let node = node().namespace("user", "history_size", 10).namespace("user", "history_ttl", "1m").start().await;
    let token = token(&node);
    let (_, epoch) = node.publish("news", json!(1)).await;
    let (_, forbidden) = node.publish("user:43", json!("theirs")).await;
    let target = || node.url("/sse").with_query("channel=news");
    let hash = ChannelHash::of(&Channel::new("news").unwrap());
    let mut table = Table::default();
    let rows = [
        ("not a cursor", "x".to_owned(), Some("bad_position")),
        ("base64", "MX5hYmM=".to_owned(), Some("bad_position")),
        ("another version", format!("3~{epoch}.1"), Some("bad_position")),
        ("without a hash", "2~-".to_owned(), Some("bad_position")),
        ("no position after the hash", format!("2~{hash}-"), Some("bad_position")),
        ("not canonical after the hash", format!("2~{hash}{epoch}.01"), Some("bad_position")),
        ("twice", format!("2~{hash}{epoch}.1~{hash}{epoch}.1"), Some("bad_position")),
        ("with a line break", format!("2~{hash}{epoch}.1\ndata: x"), Some("bad_position")),
        ("no item", "1~".to_owned(), Some("bad_position")),
        ("no position", "1~-".to_owned(), Some("bad_position")),
        ("not canonical", format!("1~{epoch}.01"), Some("bad_position")),
        ("negative", format!("1~{epoch}.-1"), Some("bad_position")),
        ("2^64", format!("1~{epoch}.18446744073709551616"), Some("bad_position")),
        ("too many items", format!("1~{epoch}.1~{epoch}.1"), Some("bad_position")),
        ("10 kB", "x".repeat(10_000), Some("bad_position")),
        ("from the future", format!("1~{epoch}.2"), Some("truncated")),
        ("2^64-1", format!("1~{epoch}.{}", u64::MAX), Some("truncated")),
        ("another epoch", "1~aaaaaaaaaaaaaaaaaaaa.1".to_owned(), Some("unknown_epoch")),
        ("of a forbidden channel", format!("1~{forbidden}.0"), Some("unknown_epoch")),
        ("a good one", format!("2~{hash}{epoch}.1"), None),
        ("with surplus items", format!("2~aaaa-~{hash}{epoch}.1~zzzz{epoch}.9"), None),
        ("of version 1", format!("1~{epoch}.1"), None),
        ("of another channel", format!("2~aaaa{epoch}.7"), None),
    ];
    for (name, id, expected) in &rows {
        let in_query = |name: &str| sse::Request::to(target().with_query(&format!("{name}={}", escape(id))));
        let twice = format!("cursor=1~-&cursor={}", escape(id));
        for request in [
            // What cannot be in a header is sent in the query alone.
            if id.contains('\n') { in_query("cursor") } else { sse::Request::to(target()).last_event_id(id) },
            in_query("cursor"),
            in_query("lastEventId"),
            sse::Request::to(target().with_query(&twice)),
        ] {
            let mut stream = request.bearer(&token).send().await.expect("the stream opens");
            let ready = stream.next_event().await;
            assert_eq!(ready.event, "ready", "{name}");
            let here = cursor::write(&[("news", &epoch, 1)]);
            // A client that leaves before its gap comes back to it.
            let legible = id.len() < 3000 && !id.contains('\n');
            let old = if legible { id.as_str() } else { "invalid" };
            assert_eq!(ready.id, if expected.is_some() { old } else { &here }, "{name}");
            if let Some(reason) = expected {
                let gap = stream.next_gap().await;
                let right = gap.reason == *reason && gap.offset == Some(1) && gap.epoch.as_deref() == Some(&epoch);
                table.row(name, (!right).then(|| format!("{gap:?} instead of {reason}")));
            }
            assert_eq!(stream.last_event_id(), here, "{name}");
        }
        let bearer = format!("Bearer {token}");
        let target = node.url("/poll").with_query(&format!("channel=news&timeout=0&cursor={}", escape(id)));
        let answer = http::get(target, &[("authorization", &bearer)]).await.json();
        let reason = answer["gaps"][0]["reason"].as_str();
        let right = reason == *expected && answer["publications"] == json!([]);
        table.row(&format!("{name}, polled"), (!right).then(|| answer.to_string()));
    }
    // A line break in the id would be a line of its own in the head; what follows it is not a header.
    let injected = say(&node, get("/sse?channel=news", &token, "Last-Event-ID: 1\n2\r\n")).await.unwrap();
    table.row("103 line break", (injected.status != 400).then(|| format!("{injected:?}")));
    let large =
        say(&node, get("/sse?channel=news", &token, &format!("Last-Event-ID: {}\r\n", "x".repeat(100_000)))).await;
    table.row("103 100 kB", (large.as_ref().is_none_or(|large| large.status != 431)).then(|| format!("{large:?}")));
    let smuggled = format!("Last-Event-ID: 1~{epoch}.1~{forbidden}.0\r\n");
    let with = say(&node, get("/sse?channel=news&channel=user:43", &token, &smuggled)).await.unwrap();
    table.row("103 forbidden stays forbidden", (with.status != 403).then(|| format!("{with:?}")));
    table.check();
    unharmed(&node, &token).await;
}

/// Row 105: polls with the same cursor are answered each by itself, and a long timeout does not keep an answer back.
#[tokio::test(flavor = "multi_thread")]
async fn two_polls_with_one_cursor() {
    let node = node().start().await;
    let token = token(&node);
    let bearer = format!("Bearer {token}");
    let (_, epoch) = node.publish("news", json!(1)).await;
    let polls: Vec<_> = (0..3)
        .map(|_| {
            let target = node
                .url("/poll")
                .with_query(&format!("channel=news&timeout=1e9&cursor={}", cursor::write(&[("news", &epoch, 1)])));
            let bearer = bearer.clone();
            tokio::spawn(async move { http::get(target, &[("authorization", &bearer)]).await.json() })
        })
        .collect();
    wait::until_async("all wait", || async {
        (node.metric("fanway_connections", &[("transport", "poll")]).await == Some(3.0)).then_some(())
    })
    .await;
    node.publish("news", json!(2)).await;
    for poll in polls {
        let answer = poll.await.unwrap();
        assert_eq!(
            (&answer["publications"][0]["data"], &answer["cursor"]),
            (&json!(2), &json!(cursor::write(&[("news", &epoch, 2)])))
        );
    }
    unharmed(&node, &token).await;
}

/// Row 111: what is published is data, whatever it looks like.
#[tokio::test(flavor = "multi_thread")]
async fn data_that_looks_like_markup() {
    let node = node().start().await;
    let token = token(&node);
    let bearer = format!("Bearer {token}");
    let (_, epoch) = node.publish("news", json!(0)).await;
    let target = node.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&token).send().await.unwrap();
    stream.next_event().await;
    let mut client = Client::connect(node.websocket_url(), &token).await;
    client.subscribe("news").await;
    let payloads = [
        json!("\n\nevent: gap\ndata: {}\n\n"),
        json!("a\r\ndata: b\rid: 7\nretry: 1"),
        json!({"id: 9": "\n:\n", "</script>": "<!--"}),
        json!("\u{2028}\u{2029}\u{85}\u{feff}\0"),
        json!("\u{0}\u{1b}[2J\u{7f}"),
        json!({"push": {"disconnect": {"code": 3501}}, "id": 1}),
        json!([[], {}, "", null, -0.5, 1e300]),
        json!("🦀 e\u{301} \u{202e}"),
    ];
    for data in &payloads {
        node.publish("news", data.clone()).await;
    }
    // Written over several lines, as a person would.
    let spread = "{\"channel\":\"news\",\r\n\"data\":{\r\n\"a\":\r\n1\r,\n\n\"b\":\n[\n]}}";
    let answer = say(
        &node,
        format!(
            "POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{spread}",
            fanway_testkit::node::API_KEY,
            spread.len()
        ),
    )
    .await
    .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let all: Vec<Value> = payloads.into_iter().chain([json!({"a": 1, "b": []})]).collect();
    for (number, data) in all.iter().enumerate() {
        let event = stream.next_event().await;
        assert_eq!(
            (event.event.as_str(), event.id.as_str()),
            ("message", &*cursor::write(&[("news", &epoch, number as u64 + 2)]))
        );
        assert_eq!(event.json::<Value>()["data"], *data);
        assert_eq!(client.next_publication().await.data, *data);
    }
    assert_eq!(client.frames().len(), client.messages().len(), "each in a frame of its own");
    let target = node
        .url("/poll")
        .with_query(&format!("channel=news&timeout=0&cursor={}", cursor::write(&[("news", &epoch, 1)])));
    let answer = http::get(target, &[("authorization", &bearer)]).await.json();
    let polled: Vec<Value> =
        answer["publications"].as_array().unwrap().iter().map(|publication| publication["data"].clone()).collect();
    assert_eq!(polled, all);
    drop(stream);
    client.close().await;
    unharmed(&node, &token).await;
}
