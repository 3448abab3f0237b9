//! Handshake and HTTP (corpus rows 1-35, 116 and 118).

use fanway_testkit::node::{API_KEY, Setting};
use fanway_testkit::{http, wait};

use super::*;

/// A request under construction.
struct Ask {
    line: String,
    headers: Vec<(String, String)>,
}

fn ask(line: &str) -> Ask {
    Ask { line: line.to_owned(), headers: vec![("Host".to_owned(), "127.0.0.1".to_owned())] }
}

/// A proper upgrade.
fn upgrade() -> Ask {
    ask("GET /connection/websocket HTTP/1.1")
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

impl Ask {
    fn line(mut self, line: &str) -> Self {
        self.line = line.to_owned();
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn instead(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    fn bytes(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{}\r\n{headers}\r\n", self.line)
    }
}

/// What a row must be answered with.
struct Expected {
    status: &'static [u16],
    /// The `reason` of the body, where the row has one.
    reason: Option<&'static str>,
    /// Headers that must be there with this value, or (`None`) must not be there.
    headers: &'static [(&'static str, Option<&'static str>)],
}

const fn status(status: &'static [u16]) -> Expected {
    Expected { status, reason: None, headers: &[] }
}

impl Expected {
    const fn reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    const fn headers(mut self, headers: &'static [(&'static str, Option<&'static str>)]) -> Self {
        self.headers = headers;
        self
    }

    /// What is wrong with an answer.
    fn judge(&self, answer: Option<Answer>) -> Option<String> {
        let Some(answer) = answer else { return Some("no answer".to_owned()) };
        if !self.status.contains(&answer.status) {
            return Some(format!("{} instead of {:?}", answer.status, self.status));
        }
        for (name, value) in self.headers {
            if answer.header(name) != *value {
                return Some(format!("{name}: {:?} instead of {value:?}", answer.header(name)));
            }
        }
        let reason = self.reason?;
        let error = &answer.json()["error"];
        let whole = answer.reason().as_deref() == Some(reason)
            && error["code"].as_u64().is_some_and(|code| code >= 100)
            && error["message"].as_str().is_some_and(|message| !message.is_empty())
            && answer.header("content-type") == Some("application/json")
            && answer.header("cache-control") == Some("no-store");
        (!whole).then(|| format!("not a whole error with the reason {reason}: {answer:?}"))
    }
}

async fn table(node: &Node, rows: Vec<(&str, String, Expected)>) {
    let mut table = Table::default();
    for (name, bytes, expected) in rows {
        table.row(name, expected.judge(say(node, bytes).await));
    }
    table.check();
    unharmed(node, &token(node)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades() {
    const PLAIN: Expected =
        status(&[101]).headers(&[("sec-websocket-protocol", None), ("sec-websocket-extensions", None)]);
    const TO_WEBSOCKET: Expected = status(&[426]).headers(&[("upgrade", Some("websocket"))]);
    const VERSION: Expected =
        status(&[426]).reason("websocket_version").headers(&[("sec-websocket-version", Some("13"))]);
    const KEY: Expected = status(&[400]).reason("websocket_key");
    const BODY: Expected = status(&[400]).reason("unexpected_body");
    let node = node().start().await;
    let bad_key = |key: &str| upgrade().instead("Sec-WebSocket-Key", key).bytes();
    table(
        &node,
        vec![
            ("0 a proper upgrade", upgrade().bytes(), PLAIN),
            ("1 no Upgrade", upgrade().without("Upgrade").bytes(), TO_WEBSOCKET.reason("upgrade_required")),
            ("2 h2c", upgrade().instead("Upgrade", "h2c").bytes(), TO_WEBSOCKET.reason("upgrade_required")),
            ("3 no Connection", upgrade().without("Connection").bytes(), status(&[400]).reason("connection_header")),
            (
                "3 Connection: close",
                upgrade().instead("Connection", "close").bytes(),
                status(&[400]).reason("connection_header"),
            ),
            ("4 no key", upgrade().without("Sec-WebSocket-Key").bytes(), KEY),
            ("5 key not base64", bad_key("!!!!!!!!!!!!!!!!!!!!!!=="), KEY),
            ("5 key of 15 bytes", bad_key("dGhlIHNhbXBsZSBub25j"), KEY),
            ("5 key of 17 bytes", bad_key("dGhlIHNhbXBsZSBub25jZTE="), KEY),
            ("5 empty key", bad_key(""), KEY),
            ("6 two keys", upgrade().with("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==").bytes(), KEY),
            ("7 version 8", upgrade().instead("Sec-WebSocket-Version", "8").bytes(), VERSION),
            ("7 no version", upgrade().without("Sec-WebSocket-Version").bytes(), VERSION),
            (
                "8 POST",
                upgrade().line("POST /connection/websocket HTTP/1.1").with("Content-Length", "0").bytes(),
                status(&[405]).reason("method_not_allowed").headers(&[("allow", Some("GET,HEAD"))]),
            ),
            ("9 HTTP/1.0", upgrade().line("GET /connection/websocket HTTP/1.0").bytes(), status(&[426, 400])),
            (
                "12 permessage-deflate",
                upgrade().with("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits").bytes(),
                PLAIN,
            ),
            ("13 unknown subprotocols", upgrade().with("Sec-WebSocket-Protocol", "mqtt, wamp.2.json").bytes(), PLAIN),
            (
                "14 a token among the subprotocols",
                upgrade().with("Sec-WebSocket-Protocol", "centrifuge-json, base64url.bearer.SECRET").bytes(),
                status(&[101]).headers(&[("sec-websocket-protocol", Some("centrifuge-json"))]),
            ),
            ("14 only a token", upgrade().with("Sec-WebSocket-Protocol", "base64url.bearer.SECRET").bytes(), PLAIN),
            (
                "15 16k spaces",
                upgrade().with("Sec-WebSocket-Protocol", &format!("a{}b", " ".repeat(15_000))).bytes(),
                status(&[101, 400, 431]),
            ),
            ("an empty chunked body", upgrade().with("Transfer-Encoding", "chunked").bytes() + "0\r\n\r\n", PLAIN),
            ("a chunked body", upgrade().with("Transfer-Encoding", "chunked").bytes() + "1\r\na\r\n0\r\n\r\n", BODY),
            ("a body", upgrade().with("Content-Length", "1").bytes() + "a", BODY),
            (
                "protobuf is granted, to be closed with a reason",
                upgrade().with("Sec-WebSocket-Protocol", "centrifuge-protobuf").bytes(),
                status(&[101]).headers(&[("sec-websocket-protocol", Some("centrifuge-protobuf"))]),
            ),
            (
                "protobuf from a foreign page",
                upgrade()
                    .with("Sec-WebSocket-Protocol", "centrifuge-protobuf")
                    .with("Origin", "https://evil.example")
                    .bytes(),
                status(&[403]).reason("origin_not_allowed"),
            ),
        ],
    )
    .await;
}

/// A format that is not supported: the upgrade is granted, and the connection closed with a code after which client
/// libraries do not come back, whatever the client sends meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_format_learns_why_it_is_closed() {
    let node = node().start().await;
    let offer = "Sec-WebSocket-Protocol: centrifuge-protobuf";
    for (query, headers) in [("", &[offer][..]), ("format=protobuf", &[]), ("cf_protocol=protobuf", &[])] {
        let mut raw = Raw::connect(node.websocket_url().with_query(query)).await;
        // A connect command in the same segment as the handshake, as eager clients send it.
        let request = raw.handshake_request(headers);
        let eager = Frame::new(Frame::BINARY, [4, 8, 1, 34, 0]).bytes();
        raw.write([request.as_bytes(), &eager].concat()).await;
        let head = raw.read_head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let echoed = head.contains("sec-websocket-protocol: centrifuge-protobuf");
        assert_eq!(echoed, !headers.is_empty(), "{head}");
        let close = raw.read_frame().await.close();
        assert_eq!(close, Some((3506, "inappropriate protocol: only JSON is supported".to_owned())), "{query}");
        let (rest, end) = raw.read_to_end(PATIENCE).await;
        assert_eq!((rest.as_slice(), end), (&[][..], Incoming::End));
    }
    let closed = [("transport", "websocket"), ("reason", "inappropriate_protocol")];
    wait::until_async("all three are counted", || async {
        let closed = node.metric("fanway_connections_closed_total", &closed).await;
        let rejected = node.metric("fanway_connections_rejected_total", &[("reason", "protocol")]).await;
        (closed == Some(3.0) && rejected == Some(3.0)).then_some(())
    })
    .await;
    unharmed(&node, &token(&node)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn origins() {
    const FOREIGN: Expected = status(&[403])
        .reason("origin_not_allowed")
        .headers(&[("access-control-allow-origin", None), ("sec-websocket-accept", None)]);
    let node = node().set("auth.allowed_origins", Setting::toml(r#"["https://app.example.com"]"#)).start().await;
    let mut table = Table::default();
    let foreign = [
        "https://evil.example",
        "null",
        "",
        "https://app.example.com.evil.com",
        "https://evilapp.example.com",
        "https://evil.com/https://app.example.com",
        "https://app.example.com@evil.com",
        "HTTPS://APP.EXAMPLE.COM",
        "https://app.example.com.",
        "https://app.example.com:443",
        "https://app.example.com:8443",
        "https://app.example.com/",
        "http://app.example.com",
        "app.example.com",
        "https://app.example.com https://evil.example",
        "http://127.0.0.1.evil.example",
    ];
    let bearer = format!("Bearer {}", token(&node));
    let sse = || ask("GET /sse?channel=news HTTP/1.1").with("Authorization", &bearer);
    let poll = || ask("GET /poll?channel=news&timeout=0 HTTP/1.1").with("Authorization", &bearer);
    for origin in foreign {
        for (endpoint, ask) in [("upgrade", upgrade()), ("sse", sse()), ("poll", poll())] {
            let answer = say(&node, ask.with("Origin", origin).bytes()).await;
            table.row(&format!("11 {endpoint} from {origin:?}"), FOREIGN.judge(answer));
        }
    }
    let two = upgrade().with("Origin", "https://app.example.com").with("Origin", "https://evil.example");
    table.row("11 two origins", FOREIGN.judge(say(&node, two.bytes()).await));
    let own = format!("http://127.0.0.1:{}", node.port());
    let host = own.trim_start_matches("http://").to_owned();
    for origin in ["https://app.example.com", &own] {
        let answer = say(&node, upgrade().instead("Host", &host).with("Origin", origin).bytes()).await;
        table.row(origin, status(&[101]).judge(answer));
    }
    // Row 35. A page that may come is told so, and only it.
    let preflight = |origin: &str| {
        let ask = ask("OPTIONS /sse?channel=news HTTP/1.1").with("Origin", origin);
        ask.with("Access-Control-Request-Method", "GET").bytes()
    };
    const ALLOWED: Expected =
        status(&[204]).headers(&[("access-control-allow-origin", Some("https://app.example.com"))]);
    table.row("35 preflight", ALLOWED.judge(say(&node, preflight("https://app.example.com")).await));
    for origin in ["https://evil.example", "null"] {
        let expected = status(&[204, 403]).headers(&[("access-control-allow-origin", None)]);
        table.row("35 foreign preflight", expected.judge(say(&node, preflight(origin)).await));
    }
    table.check();
    unharmed(&node, &token(&node)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    const BAD: Expected = status(&[400]);
    const NOWHERE: Expected = status(&[400, 404]);
    const PROXY: Expected = BAD.reason("proxy_protocol");
    const MALFORMED: Expected = BAD.reason("malformed_request");
    let node = node().start().await;
    let get = |path: &str| ask(&format!("GET {path} HTTP/1.1"));
    let post = || {
        let post = ask("POST /api/publish HTTP/1.1").with("X-API-Key", API_KEY);
        post.with("Content-Type", "application/json")
    };
    let good = r#"{"channel":"news","data":1}"#;
    let chunked =
        format!("{}{:x}\r\n{good}\r\n0\r\n\r\n", post().with("Transfer-Encoding", "chunked").bytes(), good.len());
    let with_body = |ask: Ask, body: &str| ask.bytes() + body;
    let length = good.len().to_string();
    let mut rows = vec![
        ("0 chunked", chunked.clone(), status(&[200])),
        ("0 with a length", with_body(post().with("Content-Length", &length), good), status(&[200])),
        ("16 99 headers", (0..99).fold(get("/"), |ask, n| ask.with(&format!("X-{n}"), "y")).bytes(), status(&[431])),
        ("18 500 kB header", get("/").with("X-Long", &"x".repeat(500_000)).bytes(), status(&[431])),
        ("19 NUL", get("/").with("X", "a\0b").bytes(), MALFORMED),
        ("19 folded", get("/").with("X", "a\r\n b").bytes(), BAD),
        ("19 space before the colon", get("/").with("X ", "a").bytes(), BAD),
        ("21 no Host", get("/").without("Host").bytes(), BAD),
        ("21 two Hosts", get("/").with("Host", "127.0.0.1").bytes(), BAD),
        ("21 Host with a user", get("/").instead("Host", "user@127.0.0.1").bytes(), BAD),
        ("21 Host with a space", get("/").instead("Host", "127.0. 0.1").bytes(), BAD),
        ("21 Host with a nonsense port", get("/").instead("Host", "127.0.0.1:99999").bytes(), MALFORMED),
        ("a raw # in the target", get("/poll?channel=news#other&timeout=0").bytes(), MALFORMED),
        ("PROXY protocol", format!("PROXY TCP4 10.0.0.1 10.0.0.2 5 80\r\n{}", get("/").bytes()), PROXY),
        (
            "22 length and chunks",
            chunked.replacen("Transfer-Encoding", &format!("Content-Length: {length}\r\nTransfer-Encoding"), 1),
            BAD,
        ),
        ("22 two lengths", with_body(post().with("Content-Length", &length).with("Content-Length", "3"), good), BAD),
        ("22 negative length", with_body(post().with("Content-Length", "-1"), good), BAD),
        ("22 length with a sign", with_body(post().with("Content-Length", &format!("+{length}")), good), BAD),
        ("22 unknown coding", chunked.replacen("chunked", "xchunked", 1), BAD),
        ("22 bad chunk size", chunked.replacen(&format!("\r\n{:x}\r\n", good.len()), "\r\nzz\r\n", 1), BAD),
        ("23 bare line feeds", get("/").bytes().replace("\r\n", "\n"), BAD),
        ("24 70 kB target", get(&format!("/{}", "x".repeat(70_000))).bytes(), status(&[414])),
        ("25 NUL in the path", get("/\0").bytes(), BAD),
        ("25 odd method", ask("G@T / HTTP/1.1").bytes(), BAD),
        ("25 HTTP/3.0", ask("GET / HTTP/3.0").bytes(), status(&[400, 505])),
        ("26 TLS on the plain port", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(), BAD),
        (
            "32 expects to be told to go on, too long",
            post().with("Content-Length", "10000000").with("Expect", "100-continue").bytes(),
            status(&[413]).reason("too_large"),
        ),
    ];
    for path in ["/../", "/%zz", "/%00", "/%c0%af", "/connection%2fwebsocket", "/%2e%2e/metrics", "/health/live%00"] {
        rows.push(("27 odd path", get(path).bytes(), NOWHERE));
    }
    for path in ["/", "/nowhere", "/api/", "/api/nothing", "/connection", "/sse/", "//sse"] {
        rows.push(("118 unknown path", get(path).bytes(), status(&[404]).reason("not_found")));
    }
    for (line, allow) in [
        ("GET /api HTTP/1.1", &[("allow", Some("POST"))]),
        ("GET /api/publish HTTP/1.1", &[("allow", Some("POST"))]),
        ("POST /sse?channel=a HTTP/1.1", &[("allow", Some("GET,HEAD"))]),
        ("DELETE /poll?channel=a HTTP/1.1", &[("allow", Some("GET,HEAD"))]),
        ("POST /metrics HTTP/1.1", &[("allow", Some("GET,HEAD"))]),
        ("POST /health/live HTTP/1.1", &[("allow", Some("GET,HEAD"))]),
    ] {
        let ask = ask(line).with("Content-Length", "0");
        rows.push(("118 wrong method", ask.bytes(), status(&[405]).headers(allow)));
    }
    table(&node, rows).await;
}

/// Row 116: with a listener of its own, the server API is found neither by clients nor by who looks at metrics.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_api_has_a_listener_of_its_own() {
    let port = fanway_testkit::node::free_port();
    let node = node().internal_listener().set("server.api_listen", format!("127.0.0.1:{port}")).start().await;
    let key = [("x-api-key", API_KEY)];
    let status = async |target: String| http::post_json(target, &key, &json!({})).await.status.as_u16();
    let at = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(status(at(port, "/api/info")).await, 200);
    assert_eq!(status(at(node.port(), "/api/info")).await, 404);
    let internal = node.url("/api/info");
    assert_eq!(http::post_json(internal, &key, &json!({})).await.status, 404);
    assert_eq!(http::get(node.url("/metrics"), &[]).await.status, 200);
    for path in ["/metrics", "/health/ready", "/sse?channel=a"] {
        assert_eq!(http::get(at(port, path), &[]).await.status, 404, "{path}");
    }
}

/// Row 116: with a listener of their own, operations are not to be found on the public one.
#[tokio::test(flavor = "multi_thread")]
async fn operations_are_hidden_from_the_public() {
    let internal = fanway_testkit::node::free_port();
    let node = node().set("server.internal_listen", format!("127.0.0.1:{internal}"));
    let node = node.set("server.public_metrics", false).spawn();
    let inside = |path: &str| format!("http://127.0.0.1:{internal}{path}");
    wait::until_async("the node is ready", || async {
        let target = inside("/health/ready").into();
        let asked = http::request(::http::Method::GET, &target, &[], bytes::Bytes::new(), PATIENCE).await;
        asked.is_ok_and(|answer| answer.status == 200).then_some(())
    })
    .await;
    for path in ["/metrics", "/health/live", "/health/ready", "/health/broker", "/api/info", "/api/openapi.json", "/"] {
        let answer = http::get(node.url(path), &[("x-api-key", API_KEY)]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"]["reason"].as_str()),
            (404, Some("not_found")),
            "{path}"
        );
    }
    for path in ["/api/publish", "/api/info"] {
        let answer = http::post_json(node.url(path), &[("x-api-key", API_KEY)], &json!({})).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(http::get(inside("/metrics"), &[]).await.status, 200);
    for path in ["/connection/websocket", "/sse?channel=a", "/poll?channel=a"] {
        assert_eq!(http::get(inside(path), &[]).await.status, 404, "{path}");
    }
    Client::connect(node.websocket_url(), &token(&node)).await;
}
