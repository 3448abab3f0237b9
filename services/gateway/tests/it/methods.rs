//! HEAD and OPTIONS, and what pages of other origins may read, on a real node.

use fanway_testkit::http::{self, Response, request};
use fanway_testkit::node::{Builder, Node, Setting};
use fanway_testkit::{sse, websocket};
use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, node, token};

const FRIEND: &str = "https://app.example.com";
const STRANGER: &str = "https://evil.example.com";

async fn ask(node: &Node, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    request(method, &node.url(path), headers, Default::default(), PATIENCE).await.unwrap()
}

/// The same answer as to the GET but for its body, and at once: no poll waits, no session begins.
#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_wherever_get_is() {
    let node = node().set("console.enabled", true).start().await;
    let bearer = format!("Bearer {}", token(&node));
    let authorised = [("authorization", bearer.as_str())];
    node.publish("news", json!(1)).await;
    let first = http::get(node.url("/poll?channel=news&timeout=0"), &authorised).await.json();
    let waiting = format!("/poll?channel=news&timeout=55&cursor={}", first["cursor"].as_str().unwrap());
    for path in [&waiting, "/sse?channel=news"] {
        let answer = ask(&node, Method::HEAD, path, &authorised).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0), "{path}");
        assert!(answer.header("content-length").is_none(), "the length that the GET would have is not known");
    }
    let stream =
        sse::Request::to(node.url("/sse?channel=news")).bearer(&bearer["Bearer ".len()..]).send().await.unwrap();
    let head = ask(&node, Method::HEAD, "/sse?channel=news", &authorised).await;
    assert_eq!(head.header("content-type"), Some("text/event-stream; charset=utf-8"));
    drop(stream);

    for path in ["/", "/health/live", "/health/ready", "/health/broker", "/metrics", "/api/openapi.json"] {
        let (head, get) = (ask(&node, Method::HEAD, path, &[]).await, ask(&node, Method::GET, path, &[]).await);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(get.status, 200, "{path}");
    }

    // What is refused is refused alike.
    let text = [("authorization", bearer.as_str()), ("accept", "text/html")];
    let refusals: [(&str, &[(&str, &str)]); 9] = [
        ("/sse?channel=news", &[]),
        ("/poll?channel=news", &[]),
        ("/poll?channel=news", &[("authorization", "Bearer x")]),
        ("/poll?channel=news", &[("authorization", bearer.as_str()), ("origin", STRANGER)]),
        ("/sse", &authorised),
        ("/poll?channel=nowhere:a", &authorised),
        ("/poll?channel=news&timeout=x", &authorised),
        ("/sse?channel=news", &text),
        ("/connection/websocket", &authorised),
    ];
    for (path, headers) in refusals {
        let (head, get) = (ask(&node, Method::HEAD, path, headers).await, ask(&node, Method::GET, path, headers).await);
        assert!(get.status.as_u16() >= 400, "{path}");
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path} {headers:?}");
        assert_eq!(head.header("www-authenticate"), get.header("www-authenticate"), "{path}");
    }
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let more = [(authorised[0], 204), (("authorization", "Bearer x"), 401), (("origin", STRANGER), 403)];
    for (header, status) in more {
        let headers = [&upgrade[..], &[header]].concat();
        let answer = ask(&node, Method::HEAD, "/connection/websocket", &headers).await;
        assert_eq!(answer.status, status, "{header:?}");
    }
    // What a GET would be upgraded for only to be closed.
    for query in ["cf_protocol=protobuf", "format=protobuf"] {
        let path = format!("/connection/websocket?{query}");
        for (header, status) in more {
            let answer = ask(&node, Method::HEAD, &path, &[&upgrade[..], &[header]].concat()).await;
            assert_eq!(answer.status, status, "{query} {header:?}");
            for name in ["upgrade", "connection", "sec-websocket-accept"] {
                assert_eq!(answer.header(name), None, "{query} {header:?}");
            }
        }
    }
    for (transport, expected) in [("websocket", 0.0), ("sse", 1.0)] {
        let opened = node.metric("fanway_connections_opened_total", &[("transport", transport)]).await;
        assert_eq!(opened, Some(expected), "a session of a HEAD over {transport}");
    }
}

/// A HEAD leaves the connection as it was: nothing of a body follows, and the next request is answered.
#[tokio::test(flavor = "multi_thread")]
async fn the_connection_goes_on_after_a_head() {
    let node = node().start().await;
    let bearer = token(&node);
    let mut socket = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    let host = "Host: a\r\n";
    let requests = format!(
        "HEAD /sse?channel=news HTTP/1.1\r\n{host}Authorization: Bearer {bearer}\r\n\r\n\
         HEAD /poll?channel=news HTTP/1.1\r\n{host}Authorization: Bearer {bearer}\r\n\r\n\
         HEAD /poll?channel=news HTTP/1.1\r\n{host}\r\n\
         GET /health/live HTTP/1.1\r\n{host}Connection: close\r\n\r\n"
    );
    socket.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answers)).await.unwrap().unwrap();
    let heads: Vec<&str> = answers.split("\r\n\r\n").collect();
    let statuses: Vec<_> =
        heads.iter().filter_map(|head| head.strip_prefix("HTTP/1.1 ")).map(|head| &head[..3]).collect();
    assert_eq!(statuses, ["200", "200", "401", "200"], "{answers}");
    assert_eq!(heads.len(), 5, "four heads and one body: {answers}");
}

/// A request from a page of an origin, to the listener for clients.
async fn from_page(node: &Node, method: Method, path: &str, origin: &str, more: &[(&str, &str)]) -> Response {
    let headers = [&[("origin", origin)], more].concat();
    let target = format!("http://127.0.0.1:{}{path}", node.port()).into();
    request(method, &target, &headers, Default::default(), PATIENCE).await.unwrap()
}

fn allowed(answer: &Response) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

/// A node for pages of one other origin.
fn for_pages() -> Builder {
    node().set("auth.allowed_origins", Setting::toml(&format!("[\"{FRIEND}\"]"))).internal_listener()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_read_every_answer_and_others_none() {
    let open = for_pages().set("console.enabled", true).start().await;
    let full = for_pages().set("server.max_connections", 1).start().await;
    let bearer = format!("Bearer {}", token(&open));
    let authorised = [("authorization", bearer.as_str())];
    let _held = websocket::Client::connect(full.websocket_url(), &token(&full)).await;
    let cases = [
        (&open, Method::GET, "/nowhere", 404),
        (&open, Method::POST, "/poll?channel=news", 405),
        (&open, Method::GET, "/poll?channel=nowhere:a", 404),
        (&open, Method::GET, "/poll?channel=news&timeout=0", 200),
        (&open, Method::GET, "/connection/websocket", 426),
        (&full, Method::GET, "/poll?channel=news", 503),
        (&full, Method::GET, "/sse?channel=news", 200),
    ];
    for (node, method, path, status) in cases {
        let answer = from_page(node, method.clone(), path, FRIEND, &authorised).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(allowed(&answer), Some(FRIEND), "{method} {path}");
        assert_eq!(answer.header("access-control-expose-headers"), Some("retry-after"), "{method} {path}");
        let answer = from_page(node, method.clone(), path, STRANGER, &authorised).await;
        assert_eq!(allowed(&answer), None, "{method} {path}");
    }
    let preflight = [("access-control-request-method", "GET"), ("access-control-request-headers", "x-requested-with")];
    for node in [&open, &full] {
        for path in ["/sse?channel=news", "/poll", "/nowhere"] {
            for (origin, status) in [(FRIEND, 204), (STRANGER, 403)] {
                let answer = from_page(node, Method::OPTIONS, path, origin, &preflight).await;
                assert_eq!(answer.status, status, "{path} from {origin}");
                assert_eq!(allowed(&answer), (status == 204).then_some(FRIEND), "{path} from {origin}");
                let headers = answer.header("access-control-allow-headers").unwrap_or_default();
                assert_eq!(headers.contains("x-requested-with"), status == 204);
            }
        }
    }
    // The page with a developer's secrets, and the listener that is not for clients, are readable for no other page.
    let page = from_page(&open, Method::GET, "/", FRIEND, &[]).await;
    assert_eq!((page.status.as_u16(), allowed(&page)), (200, None));
    let internal = http::get(open.url("/health/live"), &[("origin", FRIEND)]).await;
    assert_eq!((internal.status.as_u16(), allowed(&internal)), (200, None));
}

/// Answers differ between a page of another origin and none, so a cache must keep them apart whatever is allowed.
#[tokio::test(flavor = "multi_thread")]
async fn answers_vary_by_origin_whatever_is_allowed() {
    for origins in ["[]".to_owned(), "[\"*\"]".to_owned(), format!("[\"*\", \"{FRIEND}\"]")] {
        let node = node().set("auth.allowed_origins", Setting::toml(&origins)).start().await;
        for origin in [FRIEND, STRANGER] {
            let answer = from_page(&node, Method::GET, "/nowhere", origin, &[]).await;
            assert_eq!(answer.header("vary"), Some("origin"), "{origins}: {origin}");
        }
    }
}
