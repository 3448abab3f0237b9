//! Who may read the server's answers, whichever layer gives them.

use http::{HeaderMap, Request};
use hyper::client::conn::http2::SendRequest;

use super::*;

const FRIEND: &str = "https://app.example";
const STRANGER: &str = "https://evil.example";

/// A request as bytes, and the status of its answer.
struct Case(&'static str, &'static str, &'static str, u16);

/// Refusals of every layer that has read the head, and answers of the router.
const CASES: [Case; 7] = [
    Case("the router", "GET / HTTP/1.1", "", 200),
    Case("an unknown path", "GET /nowhere HTTP/1.1", "", 404),
    Case("a wrong method", "DELETE / HTTP/1.1", "", 405),
    Case("the fast path", "POST /express HTTP/1.1", "Content-Length: 0\r\n", 200),
    Case("two hosts", "GET / HTTP/1.1", "Host: b\r\n", 400),
    Case("two codings", "POST /echo HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n", 400),
    Case("a stream", "GET /stream HTTP/1.1", "", 200),
];

/// Sends a request from a page of this origin, and returns the status and headers of the answer.
async fn ask(server: &Server, line: &str, headers: &str, origin: Option<&str>) -> (u16, HeaderMap, String) {
    let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    parse(&server.say(format!("{line}\r\nHost: a\r\nConnection: close\r\n{headers}{origin}\r\n")).await)
}

fn parse(answer: &str) -> (u16, HeaderMap, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let mut headers = HeaderMap::new();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    (head.split(' ').nth(1).unwrap().parse().unwrap(), headers, body.to_owned())
}

#[track_caller]
fn readable(name: &str, headers: &HeaderMap) {
    assert_eq!(headers["access-control-allow-origin"], FRIEND, "{name}: {headers:?}");
    assert_eq!(headers["access-control-allow-credentials"], "true", "{name}");
    assert_eq!(headers["access-control-expose-headers"], "retry-after", "{name}");
    assert_eq!(headers.get_all("access-control-allow-origin").iter().count(), 1, "{name}");
}

#[track_caller]
fn unreadable(name: &str, headers: &HeaderMap) {
    let told = headers.keys().find(|header| header.as_str().starts_with("access-control"));
    assert_eq!(told, None, "{name}");
}

#[tokio::test]
async fn answers_of_every_layer_are_readable_for_allowed_origins_alone() {
    let server = Server::start(patient());
    for Case(name, line, more, expected) in CASES {
        let (status, headers, _) = ask(&server, line, more, Some(FRIEND)).await;
        assert_eq!(status, expected, "{name}");
        readable(name, &headers);
        if line.starts_with("GET") {
            assert_eq!(headers["vary"], "origin", "{name}");
        }
        for origin in [Some(STRANGER), None] {
            let (status, headers, _) = ask(&server, line, more, origin).await;
            assert_eq!(status, expected, "{name} from {origin:?}");
            unreadable(name, &headers);
        }
    }
}

#[tokio::test]
async fn late_bodies_are_answered_readably() {
    let server = Server::start(Settings { body_timeout: Duration::from_millis(200), ..patient() });
    for (origin, check) in [(FRIEND, readable as fn(&str, &HeaderMap)), (STRANGER, unreadable)] {
        let (status, headers, _) = ask(&server, "POST /echo HTTP/1.1", "Content-Length: 3\r\n", Some(origin)).await;
        assert_eq!(status, 408);
        check("a late body", &headers);
    }
}

/// Holds the only connection that a server lets in.
async fn full() -> (Server, TcpStream) {
    let server = Server::start(Settings { max_connections: 1, ..patient() });
    let held = server.connect().await;
    eventually("the only connection is there", || server.open() == 1).await;
    (server, held)
}

#[tokio::test]
async fn a_full_node_echoes_allowed_origins_alone() {
    let (server, _held) = full().await;
    let stream = |headers: &HeaderMap| headers["content-type"] == "text/event-stream";
    for (line, expected) in [("GET /poll?channel=a HTTP/1.1", 503), ("GET /sse?channel=a HTTP/1.1", 200)] {
        let (status, headers, body) = ask(&server, line, "", Some(FRIEND)).await;
        assert_eq!((status, stream(&headers)), (expected, expected == 200), "{line}");
        readable(line, &headers);
        assert_eq!(headers.contains_key("retry-after"), expected == 503);
        assert!(!body.is_empty());
        for origin in [STRANGER, "null", "https://app.example.evil.example", "https://app.example\r\nOrigin: https://x"]
        {
            let (status, headers, _) = ask(&server, line, "", Some(origin)).await;
            assert_eq!(status, expected, "{line} from {origin:?}");
            unreadable(line, &headers);
        }
        let (status, headers, _) = ask(&server, line, "", None).await;
        assert_eq!(status, expected, "{line}");
        unreadable(line, &headers);
    }
    for line in ["HEAD /poll?channel=a HTTP/1.1", "HEAD /sse?channel=a HTTP/1.1"] {
        let (status, headers, body) = ask(&server, line, "", Some(FRIEND)).await;
        assert_eq!((status, body.as_str()), (503, ""), "{line}");
        assert!(headers.contains_key("retry-after"), "{line}");
        readable(line, &headers);
    }
}

#[tokio::test]
async fn preflights_are_answered_on_any_path_and_on_a_full_node() {
    let (full, _held) = full().await;
    for server in [Server::start(patient()), full] {
        for path in ["/", "/sse?channel=a", "/poll", "/nowhere"] {
            let line = format!("OPTIONS {path} HTTP/1.1");
            let ask_for = "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x-requested-with\r\n";
            let (status, headers, body) = ask(&server, &line, ask_for, Some(FRIEND)).await;
            assert_eq!((status, body.as_str()), (204, ""), "{path}");
            assert_eq!(headers["access-control-allow-origin"], FRIEND);
            assert_eq!(headers["access-control-allow-methods"], "GET, HEAD, POST");
            assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("x-requested-with"));
            assert_eq!(headers["vary"], "origin");
            assert!(!headers.contains_key("content-length"), "a 204 has none");
            let (status, headers, body) = ask(&server, &line, ask_for, Some(STRANGER)).await;
            assert_eq!(status, 403, "{path}");
            assert!(body.contains(r#""code":103"#), "{body}");
            unreadable(path, &headers);
        }
    }
}

#[tokio::test]
async fn an_answer_may_be_for_its_own_origin_only() {
    let server = Server::start(patient());
    let (status, headers, _) = ask(&server, "GET /private HTTP/1.1", "", Some(FRIEND)).await;
    assert_eq!(status, 200);
    unreadable("/private", &headers);
}

#[tokio::test]
async fn options_of_the_whole_server() {
    let server = Server::start(patient());
    let (status, headers, body) = ask(&server, "OPTIONS * HTTP/1.1", "", None).await;
    assert_eq!((status, &headers["allow"], body.as_str()), (204, &"GET,HEAD,POST,OPTIONS".parse().unwrap(), ""));
    for line in ["GET * HTTP/1.1", "OPTIONS / HTTP/1.1"] {
        let (status, ..) = ask(&server, line, "", None).await;
        assert!([400, 404, 405].contains(&status), "{line}: {status}");
    }
}

#[tokio::test]
async fn the_same_over_http2() {
    async fn send(client: &mut SendRequest<Body>, method: &str, path: &str, origin: &str) -> (u16, HeaderMap) {
        let request = Request::builder().method(method).uri(format!("http://a{path}")).header("origin", origin);
        let request = request.header("access-control-request-method", "GET").body(Body::empty()).unwrap();
        let response = tokio::time::timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap();
        (response.status().as_u16(), response.headers().clone())
    }
    let server = Server::start(patient());
    let mut client = super::http2::client(server.connect().await).await;
    for (method, path, expected) in [("GET", "/", 200), ("GET", "/nowhere", 404), ("DELETE", "/", 405)] {
        let (status, headers) = send(&mut client, method, path, FRIEND).await;
        assert_eq!(status, expected);
        readable(path, &headers);
        unreadable(path, &send(&mut client, method, path, STRANGER).await.1);
    }
    let (status, headers) = send(&mut client, "OPTIONS", "/sse", FRIEND).await;
    assert_eq!((status, &headers["access-control-allow-origin"]), (204, &FRIEND.parse().unwrap()));
    assert_eq!(send(&mut client, "OPTIONS", "/sse", STRANGER).await.0, 403);
}
