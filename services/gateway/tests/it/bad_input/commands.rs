//! Commands of the client protocol (corpus rows 87-102 and 115).

use fanway_testkit::node::Builder;
use fanway_testkit::token::Claims;

use super::*;

/// What a row must be answered with.
enum Expected {
    /// The close code.
    Closes(u16),
    /// Replies in this order: an error's code, or 0 for success. The session goes on.
    Replies(Vec<u32>),
}

use Expected::{Closes, Replies};

const BAD_FRAME: Expected = Closes(3501);

fn error(code: u32) -> Expected {
    Replies(vec![code])
}

/// A node with small limits and a namespace of each kind.
fn small() -> Builder {
    let node = node().set("client.channel_limit", 8).set("client.recovery_limit", 5);
    // Closed to who has no grant.
    let node = node.namespace("user", "history_size", 10).namespace("user", "history_ttl", "1m");
    let node = node.namespace("team", "history_size", 0);
    let node = node.namespace("short", "history_size", 3).namespace("short", "history_ttl", "1m");
    let node = node.namespace("short", "subscribe", "authenticated");
    node.namespace("brief", "subscribe", "authenticated").namespace("brief", "publish", "subscriber")
}

/// The client of every row: user 42.
fn caps() -> Claims {
    let claims = Claims::user("42").cap(&["user:42"], "exact", &["sub", "pub", "hst"]);
    let claims = claims.cap(&["team:1:*"], "wildcard", &["sub"]).cap(&["user:ro"], "exact", &["sub"]);
    claims.cap(&["user:*:public"], "wildcard", &["sub"])
}

async fn play(node: &Node, token: &str, frames: &[String], expected: &Expected) -> Option<String> {
    let mut raw = session(node, token).await;
    for frame in frames {
        raw.write_frame(&Frame::text(frame)).await;
    }
    let codes = match expected {
        Closes(code) => {
            let end = ending(&mut raw).await;
            return (end != Ok(*code)).then(|| format!("{end:?} instead of {code}"));
        }
        Replies(codes) => codes,
    };
    let mut heard = Vec::new();
    while heard.len() < codes.len() {
        match raw.read_frame().await {
            Incoming::Frame(frame) if frame.opcode == Frame::TEXT => {
                let text = String::from_utf8_lossy(&frame.payload).into_owned();
                for line in text.lines() {
                    let reply: Value = serde_json::from_str(line).unwrap();
                    if reply["id"].is_number() {
                        heard.push(reply["error"]["code"].as_u64().unwrap_or(0) as u32);
                    }
                }
            }
            other => return Some(format!("{other:?} after {heard:?} instead of {codes:?}")),
        }
    }
    match heard == *codes {
        true => lives(&mut raw).await,
        false => Some(format!("{heard:?} instead of {codes:?}")),
    }
}

async fn table(node: &Node, token: &str, rows: Vec<(String, Vec<String>, Expected)>) {
    let mut table = Table::default();
    for (name, frames, expected) in rows {
        table.row(&name, play(node, token, &frames, &expected).await);
    }
    table.check();
    unharmed(node, token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_not_commands() {
    let node = small().start().await;
    let sub = r#"{"id":9,"subscribe":{"channel":"news"}}"#;
    let rows = [
        ("87 cut off", r#"{"id":9,"subscribe":{"channel":"news"}"#.to_owned(), BAD_FRAME),
        ("87 trailing garbage", format!("{sub}x"), BAD_FRAME),
        ("87 two without a line break", format!("{sub}{sub}"), BAD_FRAME),
        ("87 BOM", format!("\u{feff}{sub}"), BAD_FRAME),
        ("87 NaN", r#"{"id":NaN}"#.to_owned(), BAD_FRAME),
        ("87 comment", r#"{"id":9,/**/"ping":{}}"#.to_owned(), BAD_FRAME),
        ("87 single quotes", "{'id':9}".to_owned(), BAD_FRAME),
        ("87 lone surrogate", r#"{"id":9,"subscribe":{"channel":"\ud800"}}"#.to_owned(), BAD_FRAME),
        ("87 empty line between", format!("{sub}\n\n{sub}"), BAD_FRAME),
        ("87 empty line first", format!("\n{sub}"), BAD_FRAME),
        ("87 two line breaks at the end", format!("{sub}\n\n"), BAD_FRAME),
        ("87 one line break at the end", format!("{sub}\n"), error(0)),
        ("87 number too large for any", r#"{"id":9,"publish":{"channel":"news","data":1e99999}}"#.to_owned(), error(0)),
        ("88 depth", "[".repeat(60_000), BAD_FRAME),
        ("88 depth of objects", "{\"a\":".repeat(12_000), BAD_FRAME),
        ("88 depth in an unknown member", format!("{{\"x\":{}", "[".repeat(60_000)), BAD_FRAME),
        (
            "88 depth in data",
            format!(
                r#"{{"id":9,"publish":{{"channel":"news","data":{}1{}}}}}"#,
                "[".repeat(30_000),
                "]".repeat(30_000)
            ),
            error(107),
        ),
        ("89 id twice", r#"{"id":9,"id":9,"ping":{}}"#.to_owned(), BAD_FRAME),
        (
            "89 subscribe twice",
            r#"{"id":9,"subscribe":{"channel":"a"},"subscribe":{"channel":"b"}}"#.to_owned(),
            BAD_FRAME,
        ),
        ("89 channel twice", r#"{"id":9,"subscribe":{"channel":"a","channel":"b"}}"#.to_owned(), BAD_FRAME),
        (
            "an array for a command",
            r#"[9,null,null,null,null,null,null,null,{},null,null,null,null]"#.to_owned(),
            BAD_FRAME,
        ),
        ("90 unknown member", r#"{"id":9,"ping":{},"future":{"a":[1]}}"#.to_owned(), error(0)),
        (
            "90 unknown member of a request",
            r#"{"id":9,"subscribe":{"channel":"news","future":1}}"#.to_owned(),
            error(0),
        ),
        ("90 unknown method", r#"{"id":9,"teleport":{"channel":"news"}}"#.to_owned(), error(104)),
        ("90 no method", r#"{"id":9}"#.to_owned(), error(104)),
        ("90 two methods", r#"{"id":9,"publish":{},"subscribe":{"channel":"news"}}"#.to_owned(), BAD_FRAME),
        ("90 two methods, one of which is none", r#"{"id":9,"publish":null,"ping":{}}"#.to_owned(), error(0)),
        ("90 a message and a method", r#"{"id":9,"send":{"data":1},"ping":{}}"#.to_owned(), BAD_FRAME),
        ("90 no id", r#"{"subscribe":{"channel":"news"}}"#.to_owned(), BAD_FRAME),
        ("90 id 0", r#"{"id":0,"subscribe":{"channel":"news"}}"#.to_owned(), BAD_FRAME),
        ("90 id negative", r#"{"id":-1,"ping":{}}"#.to_owned(), BAD_FRAME),
        ("90 id 2^32", r#"{"id":4294967296,"ping":{}}"#.to_owned(), BAD_FRAME),
        ("90 id 2^53+1", r#"{"id":9007199254740993,"ping":{}}"#.to_owned(), BAD_FRAME),
        ("90 id text", r#"{"id":"9","ping":{}}"#.to_owned(), BAD_FRAME),
        ("90 id fraction", r#"{"id":1.5,"ping":{}}"#.to_owned(), BAD_FRAME),
        ("90 channel a number", r#"{"id":9,"subscribe":{"channel":1}}"#.to_owned(), BAD_FRAME),
        ("90 subscribe a text", r#"{"id":9,"subscribe":"news"}"#.to_owned(), BAD_FRAME),
    ];
    let mut rows: Vec<_> =
        rows.into_iter().map(|(name, frame, expected)| (name.to_owned(), vec![frame], expected)).collect();
    // The protocol has no code for a repeated id; each command is answered by itself, in order.
    let again = format!("{sub}\n{}", r#"{"id":9,"history":{"channel":"a b"}}"#);
    rows.push(("91 the same id twice".to_owned(), vec![again], Replies(vec![0, 107])));
    table(&node, &node.token(&caps()), rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_ask_for_what_there_is_not() {
    let node = small().start().await;
    let mut rows = Vec::new();
    let mut each = |method: &str, members: &str, expected: Expected| {
        let command = format!(r#"{{"id":9,"{method}":{{"channel":"news","data":1,{members}}}}}"#);
        rows.push((format!("90 {method} {members}"), vec![command], expected));
    };
    for member in [r#""type":1"#, r#""type":4"#, r#""tf":{"key":"a","cmp":"eq","val":"b"}"#, r#""join_leave":true"#] {
        each("subscribe", member, error(108));
    }
    for member in [r#""key":"k""#, r#""removed":true"#, r#""type":1,"key":"k""#] {
        each("publish", member, error(108));
    }
    // What only offers something, a zero value, and what nobody knows.
    for member in [r#""flag":1"#, r#""delta":"fossil""#, r#""type":0"#, r#""tf":{}"#, r#""tf":null"#, r#""future":[1]"#]
    {
        each("subscribe", member, error(0));
    }
    for member in [r#""key":"""#, r#""removed":false"#, r#""type":null,"key":null,"removed":null"#] {
        each("publish", member, error(0));
    }
    each("history", r#""limit":null,"since":null,"reverse":null"#, error(0));
    each("subscribe", r#""recover":null,"epoch":null,"offset":null,"token":null"#, error(0));
    each("subscribe", r#""type":"map""#, BAD_FRAME);
    each("rpc", r#""method":"m""#, error(108));
    let row = |name: &str, frame: &str, expected| (name.to_owned(), vec![frame.to_owned()], expected);
    rows.push(row("90 message to a back end", r#"{"send":{"data":1}}"#, Closes(3508)));
    rows.push(row("90 message with an id", r#"{"id":9,"send":{"data":1}}"#, Closes(3508)));
    table(&node, &node.token(&caps()), rows).await;

    // What came before the message is answered first.
    let mut raw = session(&node, &token(&node)).await;
    let publish = r#"{"id":9,"publish":{"channel":"news","data":1}}"#;
    raw.write_frame(&Frame::text(&format!("{publish}\n{}", r#"{"send":{"data":1}}"#))).await;
    let Incoming::Frame(reply) = raw.read_frame().await else { panic!("no reply") };
    assert_eq!(reply.payload, br#"{"id":9,"publish":{}}"#);
    assert_eq!(ending(&mut raw).await, Ok(3508));
}

/// What a connect offers is not an error, nor is `null`; what it asks for and does not get is.
#[tokio::test(flavor = "multi_thread")]
async fn members_of_connect() {
    let node = small().start().await;
    let token = node.token(&Claims::user("42").channels(&["news"]));
    let mut table = Table::default();
    let rows = [
        (r#""flag":1,"dict":"abc","profile":"p","headers":{"a":"b"},"future":1"#, None),
        (r#""flag":null,"dict":null,"profile":null,"headers":null,"name":null,"subs":null,"data":null"#, None),
        (r#""subs":{"news":null}"#, None),
        (r#""subs":{"news":{"recover":true,"epoch":"abc","offset":1}}"#, None),
        (r#""subs":{"news":{"tf":{"key":"a"}}}"#, Some(108)),
        (r#""subs":{"news":{"token":""}}"#, None),
        (r#""subs":{"news":{"token":"t"}}"#, Some(103)),
        (r#""subs":{"other":{"token":"t"}}"#, Some(103)),
    ];
    for (members, error) in rows {
        let mut raw = Raw::open(node.websocket_url()).await;
        raw.write_frame(&Frame::text(&format!(r#"{{"id":1,"connect":{{"token":"{token}",{members}}}}}"#))).await;
        let Incoming::Frame(reply) = raw.read_frame().await else { panic!("no reply to {members}") };
        let reply: Value = serde_json::from_slice(&reply.payload).unwrap();
        let wrong = reply["error"]["code"].as_u64() != error || reply["connect"].is_object() != error.is_none();
        table.row(members, wrong.then(|| reply.to_string()));
    }
    table.check();
    unharmed(&node, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels() {
    let node = small().start().await;
    node.publish("user:43", json!("theirs")).await;
    let mut rows = Vec::new();
    let mut each = |row: &str, method: &str, channel: &str, code: u32| {
        let command = json!({"id": 9, method: {"channel": channel, "data": 1, "limit": 1}}).to_string();
        rows.push((format!("{row} {method} {channel:.30?}"), vec![command], error(code)));
    };
    let long = "n".repeat(256);
    let illegal =
        ["", &long, "a b", " ", "a\0", "a\nb", "a\r", "\u{202e}", "🦀", "é", "a{b", "a}", "*", "user:*", "\u{7f}"];
    for method in ["subscribe", "publish", "history"] {
        for channel in illegal {
            each("92", method, channel, 107);
        }
        for channel in [":x", "fw:x", "../b:x", "nope:x", "User:42", "user/42:x"] {
            each("92, 95", method, channel, 102);
        }
        for channel in
            ["user:43", "user:nobody", "user:42:", "user:42x", "user:4", "user:", "user:042", "user:42:public:x"]
        {
            each("94", method, channel, 103);
        }
        each("94", method, "user:42", 0);
    }
    for channel in [&long[..255], "%", "..", "%2e%2e", "a%00", "<script>", "'\"\\", "#42,43", "$x", "a_b"] {
        each("92 odd but legal", "subscribe", channel, 0);
    }
    each("94", "subscribe", "user:ro", 0);
    each("94", "publish", "user:ro", 103);
    each("115", "history", "user:ro", 103);
    each("94", "subscribe", "user:7:public", 0);
    each("94", "subscribe", "team:1:x", 0);
    each("94", "subscribe", "team:1:x:y", 0);
    for channel in ["team:1", "team:1:", "team:10:x", "team:2:x", "team::x"] {
        // The rest that a last `*` stands for is one segment or more; an empty one is a segment.
        each("94", "subscribe", channel, if channel == "team:1:" { 0 } else { 103 });
    }
    each("94 not subscribed", "publish", "brief:x", 103);
    each("115", "presence", "news", 108);
    each("115", "presence_stats", "user:43", 108);
    each("115", "rpc", "news", 108);
    each("115", "sub_refresh", "news", 108);
    each("115 keeps none", "history", "team:1:x", 103);
    each("99 not subscribed", "unsubscribe", "news", 0);
    each("99 not even a name", "unsubscribe", "a b", 0);
    for limit in [0, -1, i32::MIN, i32::MAX] {
        let command = json!({"id": 9, "history": {"channel": "news", "limit": limit}});
        rows.push((format!("115 limit {limit}"), vec![command.to_string()], error(0)));
    }
    for (limit, name) in [(json!(1_000_000_000_000_u64), "115 limit 10^12"), (json!("1"), "115 limit text")] {
        let command = json!({"id": 9, "history": {"channel": "news", "limit": limit}});
        rows.push((name.to_owned(), vec![command.to_string()], BAD_FRAME));
    }
    table(&node, &node.token(&caps()), rows).await;

    // Row 94: no difference between what exists and what does not.
    let mut client = Client::connect(node.websocket_url(), &node.token(&caps())).await;
    let existing = client.try_subscribe("user:43").await.unwrap_err();
    assert_eq!(existing, client.try_subscribe("user:44").await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much() {
    let node = small().start().await;
    let subscribe = |id: u32, channel: &str| json!({"id": id, "subscribe": {"channel": channel}}).to_string();
    let all = |count: u32| (0..count).map(|n| subscribe(n + 2, &format!("c{n}"))).collect::<Vec<_>>();
    let unsubscribe = json!({"id": 20, "unsubscribe": {"channel": "c0"}}).to_string();
    let ninth = [vec![0; 8], vec![106, 106]].concat();
    let mut room = all(8);
    room.extend([subscribe(10, "c8"), unsubscribe, subscribe(21, "c8")]);
    let flap = |n: u32| format!("{}\n{}", subscribe(n, "news"), json!({"id": n, "unsubscribe": {"channel": "news"}}));
    let rows = vec![
        ("97 one channel too many".to_owned(), all(10), Replies(ninth.clone())),
        ("97 the same in one frame".to_owned(), vec![all(10).join("\n")], Replies(ninth)),
        ("97 room again".to_owned(), room, Replies([vec![0; 8], vec![106, 0, 0]].concat())),
        ("97 twice".to_owned(), vec![subscribe(2, "news"), subscribe(3, "news")], Replies(vec![0, 105])),
        (
            "97 twice at once".to_owned(),
            vec![format!("{}\n{}", subscribe(2, "news"), subscribe(3, "news"))],
            Replies(vec![0, 105]),
        ),
        ("97 500 at once".to_owned(), vec![all(500).join("\n")], Closes(3013)),
        ("98 flapping above the burst".to_owned(), (2..132).map(flap).collect(), Replies(vec![0; 260])),
        ("98 flapping in one frame".to_owned(), vec![(2..252).map(flap).collect::<Vec<_>>().join("\n")], Closes(3013)),
    ];
    table(&node, &node.token(&caps()), rows).await;
}

/// Rows 93 and 96: what looks alike is apart.
#[tokio::test(flavor = "multi_thread")]
async fn channels_that_look_alike_are_apart() {
    let node = small().set("client.channel_limit", 128).start().await;
    let names =
        ["news", "News", "NEWS", "news.", "a_b", "a.b", "a:b", "short:a_b", "short:a", "brief:a", "%61", "a", "a%5Fb"];
    let mut client = Client::connect(node.websocket_url(), &token(&node)).await;
    let names: Vec<_> = names.into_iter().filter(|name| *name != "a:b").collect();
    for name in &names {
        client.subscribe(name).await;
    }
    for name in &names {
        node.publish(name, json!(name)).await;
        let heard = client.next_publication().await;
        assert_eq!((heard.channel.as_str(), heard.data), (*name, json!(name)));
        assert!(heard.offset <= 1, "{name}: a log of its own");
    }
    client.close().await;
    unharmed(&node, &token(&node)).await;
}

/// Rows 100-102: a position that is none, or not of this channel, is answered with the truth: not recovered, and where
/// the channel is.
#[tokio::test(flavor = "multi_thread")]
async fn positions() {
    let node = small().start().await;
    let token = token(&node);
    for n in 1..=10 {
        node.publish("short:x", json!(n)).await;
        node.publish("other", json!("other")).await;
        node.publish("news", json!(n)).await;
    }
    let (_, epoch) = node.publish("news", json!(11)).await;
    let (_, others) = node.publish("other", json!("other")).await;
    let (_, short) = node.publish("short:x", json!(11)).await;
    let mut table = Table::default();
    let long = "e".repeat(10_000);
    let kept = |from: u64| (from + 1..=11).collect::<Vec<u64>>();
    let rows = [
        ("100 garbage", "news", "garbage", 3, None),
        ("100 empty", "news", "", 3, None),
        ("100 10 kB", "news", &long, 3, None),
        ("100 of another channel", "news", &others, 3, None),
        ("100 another epoch", "news", "aaaaaaaaaaaaaaaaaaaa", 3, None),
        ("100 from the future", "news", &epoch, 12, None),
        ("100 2^64-1", "news", &epoch, u64::MAX, None),
        ("100 epoch in capitals", "news", &epoch.to_uppercase(), 11, None),
        ("100 a good one", "news", &epoch, 8, Some(kept(8))),
        ("100 the head", "news", &epoch, 11, Some(Vec::new())),
        ("101 older than is kept", "short:x", &short, 7, None),
        ("101 the oldest that is kept", "short:x", &short, 8, Some(kept(8))),
        ("101 the beginning", "short:x", &short, 0, None),
        ("102 more than a resume may carry", "news", &epoch, 5, None),
        ("102 as much as a resume may carry", "news", &epoch, 6, Some(kept(6))),
    ];
    for (name, channel, epoch, offset, expected) in rows {
        let mut client = Client::connect(node.websocket_url(), &token).await;
        let request = json!({"channel": channel, "recover": true, "epoch": epoch, "offset": offset});
        let strict = {
            let mut request = request.clone();
            request["flag"] = json!(2);
            client.request("subscribe", request).await
        };
        if strict.is_ok() {
            client.unsubscribe(channel).await.unwrap();
        }
        let told = strict.as_ref().err().map_or(0, |error| error.code);
        let whole = if expected.is_some() { 0 } else { 112 };
        table.row(&format!("{name}, asked strictly"), (told != whole).then(|| format!("{strict:?}")));

        let reply = client.request("subscribe", request).await.unwrap();
        let data: Vec<u64> =
            reply["publications"].as_array().into_iter().flatten().filter_map(|told| told["data"].as_u64()).collect();
        let recovered = reply["recovered"].as_bool().unwrap_or(false);
        let stands = reply["offset"].as_u64().unwrap_or(0);
        let wrong = match &expected {
            Some(missed) => !recovered || data != *missed || stands != offset,
            None => recovered || !data.is_empty() || stands != 11,
        };
        table.row(name, (wrong || reply["was_recovering"] != true).then(|| reply.to_string()));
        // Either way the stream goes on from where the reply says it stands.
        client.unsubscribe(channel).await.unwrap();
    }
    for offset in ["-1", "18446744073709551616", "1.5", "\"3\""] {
        let mut raw = session(&node, &token).await;
        let subscribe = format!(
            r#"{{"id":9,"subscribe":{{"channel":"news","recover":true,"epoch":"{epoch}","offset":{offset}}}}}"#
        );
        raw.write_frame(&Frame::text(&subscribe)).await;
        let end = ending(&mut raw).await;
        table.row(&format!("100 offset {offset}"), (end != Ok(3501)).then(|| format!("{end:?}")));
    }
    table.check();
    unharmed(&node, &token).await;
}
