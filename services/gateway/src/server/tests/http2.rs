//! HTTP/2, with knowledge beforehand and by ALPN (see `encrypted`).

use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWrite;

use super::*;

/// A client's half of a connection.
pub(super) async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Body> {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) async fn ask(client: &SendRequest<Body>, method: &str, path: &str, body: Body) -> (StatusCode, String) {
    ask_host(client, "a", method, path, body).await
}

pub(super) async fn ask_host(
    client: &SendRequest<Body>,
    host: &str,
    method: &str,
    path: &str,
    body: Body,
) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(format!("http://{host}{path}")).body(body).unwrap();
    let response = tokio::time::timeout(PATIENCE, client.clone().send_request(request)).await.unwrap().unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn many_requests_at_once() {
    let server = Server::start(patient());
    let client = client(server.connect().await).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, "GET", "/gated", Body::empty()).await }
    });
    assert_eq!(ask(&client, "GET", "/", Body::empty()).await, (StatusCode::OK, "hello".into()));
    assert_eq!(ask(&client, "POST", "/echo", Full::from("abc").into_body()).await, (StatusCode::OK, "abc".into()));
    let (status, body) = ask(&client, "GET", "/large", Body::empty()).await;
    assert_eq!((status, body.len()), (StatusCode::OK, LARGE));
    server.gate.add_permits(1);
    assert_eq!(waiting.await.unwrap(), (StatusCode::OK, "through".into()));
    assert_eq!(server.open(), 1);
}

/// Requests of clients count as connections while they last, but for the first of a connection.
#[tokio::test]
async fn requests_that_last_count_as_connections() {
    let server = Server::start(Settings { max_connections: 3, ..patient() });
    let client = client(server.connect().await).await;
    let open = async || {
        let request = Request::get("http://a/lasting").header("accept", "text/event-stream").body(Body::empty());
        let response = client.clone().send_request(request.unwrap());
        tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap()
    };
    let mut lasting = Vec::new();
    for expected in [1, 2, 3] {
        lasting.push(open().await);
        assert_eq!(server.open(), expected);
    }
    let refused = open().await;
    assert_eq!(refused.status(), StatusCode::OK);
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"retry: "), "{body:?}");
    assert_eq!(server.rejected("limit"), 1);
    assert_eq!(ask(&client, "GET", "/", Body::empty()).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&client, "POST", "/echo", Full::from("abc").into_body()).await.1, "abc", "not a client's");
    lasting.pop();
    eventually("its share is free", || server.open() == 2).await;
    assert_eq!(ask(&client, "GET", "/", Body::empty()).await.1, "hello");
    let again = open().await;
    assert_eq!(server.open(), 3);
    drop((client, lasting, again));
    eventually("all shares are free", || server.open() == 0).await;
}

trait IntoBody {
    fn into_body(self) -> Body;
}

impl IntoBody for Full<Bytes> {
    fn into_body(self) -> Body {
        Body::new(self)
    }
}

#[tokio::test]
async fn no_takeover_and_the_connection_goes_on() {
    let server = Server::start(patient());
    let client = client(server.connect().await).await;
    let (status, body) = ask(&client, "GET", "/stream", Body::empty()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, r#"{"error":{"code":100,"message":"internal server error","reason":"internal"}}"#);
    assert_eq!(ask(&client, "GET", "/", Body::empty()).await.1, "hello");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_with_408() {
    let server = Server::start(Settings { body_timeout: Duration::from_millis(200), ..patient() });
    let client = client(server.connect().await).await;
    let never = Body::new(StreamBody::new(futures_util::stream::pending::<Result<_, std::io::Error>>()));
    assert_eq!(ask(&client, "POST", "/echo", never).await.0, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(ask(&client, "GET", "/", Body::empty()).await.1, "hello");
}

#[tokio::test]
async fn idle_and_silent_connections_are_closed() {
    let short = Duration::from_millis(200);
    let server = Server::start(Settings { idle_timeout: short, ..patient() });
    let sender = client(server.connect().await).await;
    ask(&sender, "GET", "/", Body::empty()).await;
    eventually("the idle connection is closed", || server.open() == 0).await;
    eventually("the client knows", || sender.is_closed()).await;

    let server = Server::start(Settings { header_timeout: short, ..patient() });
    let mut silent = server.connect().await;
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    until_closed(&mut silent).await;
    eventually("the silent connection is closed", || server.open() == 0).await;
    assert_eq!(server.rejected("header_timeout"), 1);
}

#[tokio::test]
async fn stopping_lets_requests_finish() {
    let server = Server::start(patient());
    let client = client(server.connect().await).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, "GET", "/gated", Body::empty()).await }
    });
    server.waiting.acquire().await.unwrap().forget();
    server.ending.stop_accepting.cancel();
    server.ending.tracker.close();
    server.gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().1, "through");
    tokio::time::timeout(PATIENCE, server.ending.tracker.wait()).await.expect("no task stays");
}

/// The answer to a HEAD has no content (RFC 9110, section 9.3.2). hyper sees to it over HTTP/1.1 only.
#[tokio::test]
async fn the_answer_to_a_head_is_a_head() {
    let server = Server::start(Settings { max_headers: 4, body_timeout: Duration::from_millis(200), ..patient() });
    let client = client(server.connect().await).await;
    let head = |path: &str, body| {
        let mut request = Request::head(format!("http://a{path}")).body(body).unwrap();
        if path == "/many" {
            request.headers_mut().extend((0..5).map(|_| (http::header::ACCEPT, HeaderValue::from_static("a/a"))));
        }
        request
    };
    let never = Body::new(StreamBody::new(futures_util::stream::pending::<Result<_, std::io::Error>>()));
    for (request, status) in [
        (head("/", Body::empty()), StatusCode::OK),
        (head("/large", Body::empty()), StatusCode::OK),
        (head("/many", Body::empty()), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        (head("/", never), StatusCode::REQUEST_TIMEOUT),
    ] {
        let response = tokio::time::timeout(PATIENCE, client.clone().send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.status(), status);
        let body = response.into_body().collect().await.expect("the stream ends in order");
        assert_eq!(body.to_bytes().len(), 0, "{status}");
    }
}
