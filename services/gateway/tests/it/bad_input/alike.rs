//! What every way into the node refuses, it refuses alike: names of channels, texts that are no texts, credentials.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanway_testkit::node::{API_KEY, SECRET, Setting};
use fanway_testkit::poll::escape;
use fanway_testkit::token::{Claims, mint};

use super::*;

/// A request to the server API: its HTTP status and its body.
async fn api(node: &Node, method: &str, body: &str) -> (u16, Value) {
    let head = format!(
        "POST /api/{method} HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = say(node, head + body).await.unwrap();
    (answer.status, answer.json())
}

/// The reply to a command in its text.
async fn reply(raw: &mut Raw, command: &str) -> Value {
    raw.write_frame(&Frame::text(command)).await;
    match raw.read_frame().await {
        Incoming::Frame(frame) => serde_json::from_slice(&frame.payload).unwrap(),
        other => panic!("{other:?} instead of a reply to {command}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_channels_are_refused_in_the_same_words() {
    let node = node().set("telemetry.log_level", "debug").start().await;
    let token = token(&node);
    let mut raw = session(&node, &token).await;
    let mut table = Table::default();
    let rule = "a channel name is printable ASCII without space, '{', '}' and '*'";
    let at = |position: u32, escaped: &str| format!("character {position} of the channel name is '{escaped}': {rule}");
    let rows = [
        ("a b", at(2, " ")),
        ("news:*", at(6, "*")),
        ("tab\there", at(4, "\\t")),
        ("red\u{1b}[31m", at(4, "\\u{1b}")),
        ("back\u{202e}wards", at(5, "\\u{202e}")),
        ("crab🦀", at(5, "\\u{1f980}")),
        ("", "the channel name is empty".to_owned()),
        (&"n".repeat(256), "the channel name is longer than 255 bytes".to_owned()),
    ];
    for (name, words) in rows {
        let mut judged = |way: &str, error: &Value| {
            let wrong = error["message"] != words.as_str() || error["code"] != 107;
            table.row(&format!("{name:.20?} {way}"), wrong.then(|| format!("{error} instead of {words:?}")));
        };
        for command in ["subscribe", "publish", "history"] {
            let request = json!({"id": 9, command: {"channel": name, "data": 1, "limit": 1}});
            judged(command, &reply(&mut raw, &request.to_string()).await["error"]);
        }
        for path in ["/sse?", "/poll?timeout=0&"] {
            let head = format!("GET {path}channel={} HTTP/1.1\r\nHost: a\r\n", escape(name));
            let answer = say(&node, format!("{head}Authorization: Bearer {token}\r\n\r\n")).await.unwrap();
            judged(path, &answer.json()["error"]);
        }
        for method in ["publish", "history"] {
            judged(method, &api(&node, method, &json!({"channel": name, "data": 1}).to_string()).await.1["error"]);
        }
        let several = json!({"channels": ["news", name], "data": 1}).to_string();
        judged("broadcast", &api(&node, "broadcast", &several).await.1["result"]["responses"][1]["error"]);
    }
    table.check();
    // The reason for a refused token is in the log, and not in the answer.
    let bad = mint(SECRET, &Claims::user("alice").channels(&["news:\u{1b}x"]));
    let mut client = Client::open(node.websocket_url()).await;
    assert!(client.try_command(json!({"connect": {"token": bad}})).await.is_err());
    wait::until("the log has the reason", || node.log().contains("credential refused").then_some(())).await;
    let log = node.log();
    let line = log.lines().find(|line| line.contains("credential refused")).unwrap();
    let words = at(6, "\\u{1b}");
    assert!(line.contains("channels") && line.contains(&words), "{line:?} instead of {words:?}");
    drop(raw);
    unharmed(&node, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_surrogate_pair_is_refused_wherever_it_comes_in() {
    let node = node().start().await;
    let token = token(&node);
    let mut table = Table::default();
    let lone = [r#""\ud83d""#, r#"{"a":["x\ude00"]}"#, r#"{"\ud83d":1}"#, r#""\\\ud83d\\ude00""#];
    let whole = [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\u00e9\\""#];
    for (data, legal) in lone.map(|data| (data, false)).into_iter().chain(whole.map(|data| (data, true))) {
        let mut raw = session(&node, &token).await;
        let mut judged = |way: &str, right: bool, answer: &Value| {
            table.row(&format!("{data} {way}"), (!right).then(|| answer.to_string()));
        };
        let published = reply(&mut raw, &format!(r#"{{"id":9,"publish":{{"channel":"news","data":{data}}}}}"#)).await;
        let code = published["error"]["code"].as_u64();
        judged("by a client", code == (!legal).then_some(107), &published);
        let encoded = STANDARD.encode(data);
        let bodies = [
            ("publish", format!(r#"{{"channel":"news","data":{data}}}"#)),
            ("publish", format!(r#"{{"channel":"news","b64data":"{encoded}"}}"#)),
            ("broadcast", format!(r#"{{"channels":["news"],"data":{data}}}"#)),
        ];
        for (method, body) in bodies {
            let (status, answer) = api(&node, method, &body).await;
            let right = match legal {
                true => status == 200 && answer["result"].is_object(),
                false => status == 400 && answer["error"]["code"] == 107 && answer["error"]["reason"] == "bad_json",
            };
            judged(method, right, &answer);
        }
        let claims = format!(r#"{{"sub":"alice","exp":{},"info":{data}}}"#, 253_402_300_799_u64);
        let mut client = Client::open(node.websocket_url()).await;
        let connected = client.try_command(json!({"connect": {"token": super::tokens::with_claims(&claims)}})).await;
        judged("in a token", connected.is_ok() == legal, &json!(format!("{connected:?}")));
    }
    table.check();
    // What was refused is in no log, so a reader of the channel's history can read all of it.
    let history = node.api("history", json!({"channel": "news", "limit": 100})).await.json();
    assert_eq!(history["result"]["publications"].as_array().unwrap().len(), 4 * whole.len());
    unharmed(&node, &token).await;
}

/// Whoever looks for the reason of a refusal finds it, with nothing of the credential; whoever is refused very often cannot
/// fill the log.
#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_leave_a_line() {
    let node = node().set("telemetry.log_level", "debug").set("auth.cookie", "session");
    let keys = format!(
        r#"[{{ id = "testkit", key = "{API_KEY}" }}, {{ id = "old", key = "expired-key-of-some-length", expires = "2020-01-01T00:00:00Z" }}]"#
    );
    let node = node.set("api.keys", Setting::toml(&keys)).start().await;
    let good = token(&node);
    let forged = mint("another secret, and a long one too", &Claims::user("alice"));
    let early = mint(SECRET, &Claims::user("alice").set("nbf", 253_402_300_799_u64));
    let late = mint(SECRET, &Claims::user("alice").expired_since(Duration::from_secs(61)));
    let bearer = |token: &str| {
        format!("GET /poll?channel=news&timeout=0 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let cookie = format!("GET /poll?channel=news&timeout=0 HTTP/1.1\r\nHost: a\r\nCookie: session={good}\r\n\r\n");
    let key =
        |key: &str| format!("POST /api/info HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: 0\r\n\r\n");
    let rows = [
        (bearer(&forged), ["credential refused", "claim=\"signature\"", "not made with a key of auth.keys"]),
        (bearer(&late), ["credential refused", "claim=\"exp\"", "in the past"]),
        (bearer(&early), ["credential refused", "claim=\"nbf\"", "in the future"]),
        (cookie, ["credential refused", "claim=\"cookie_origin\"", "auth.allowed_origins"]),
        (key("nobody-knows-this-key"), ["API key refused", "reason", "not a key of api.keys"]),
        (key("expired-key-of-some-length"), ["API key refused", "reason", "expired"]),
    ];
    for (request, words) in rows {
        // One line a second: a row that comes too soon is counted in the next line, so it is said again.
        wait::until_async(&format!("a line with {words:?}"), || async {
            assert_eq!(say(&node, &request).await.unwrap().status, 401);
            let log = node.log();
            log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        })
        .await;
    }
    let lines = |log: &str| log.lines().filter(|line| line.contains(" refused")).count();
    let (before, began) = (lines(&node.log()), std::time::Instant::now());
    for _ in 0..300 {
        say(&node, bearer(&forged)).await.unwrap();
    }
    let written = lines(&node.log()) - before;
    let most = 2 + began.elapsed().as_secs() as usize;
    assert!(written <= most, "{written} lines for 300 refusals");
    for secret in [&forged, &early, &late, &good, "nobody-knows-this-key", "expired-key-of-some-length"] {
        assert!(!node.log().contains(secret), "a credential is in the log");
    }
    unharmed(&node, &good).await;
}
