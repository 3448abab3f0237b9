//! The client against small servers of the test's own.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::dial::Certificate;

#[tokio::test]
async fn a_stream_over_http_1_1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sse?channel=a", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..length]).to_lowercase();
        assert!(head.starts_with("get /sse?channel=a http/1.1\r\n") && head.contains("last-event-id: 1~e.4\r\n"), "{head}");
        // As after a takeover: no chunks, the end of the connection is the end of the stream. The cuts are anywhere.
        for piece in [
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-accel-buffering: no\r\n\r\nretry: 900\n: ok\n\nevent: re",
            "ady\ndata: {\"cursor\":\"1~e.4\"}\nid: 1~e.4\n\ndata: {\"channel\":\"a\",\"offset\":5,\"epoch\":\"e\",\"data\":[1],\"time\":1}\nid: 1~e.5\n",
            "\nevent: gap\nid: 1~f.0\ndata: {\"channel\":\"a\",\"reason\":\"epoch\",\"offset\":0,\"epoch\":\"f\"}\n\n: beat\n\n",
        ] {
            stream.write_all(piece.as_bytes()).await.unwrap();
        }
    });
    let mut client = Request::to(url).last_event_id("1~e.4").send().await.unwrap_or_else(|_| panic!("refused"));
    assert_eq!(client.headers()["x-accel-buffering"], "no");
    let ready = client.next_event().await;
    assert_eq!((ready.event.as_str(), ready.id.as_str()), ("ready", "1~e.4"));
    let publication = client.next_publication().await;
    assert_eq!((publication.offset, publication.data), (Some(5), serde_json::json!([1])));
    assert_eq!(client.next_gap().await.reason, "epoch");
    assert_eq!(client.ended_within(PATIENCE).await, Silence::Ended);
    assert_eq!(client.next_event_within(PATIENCE).await, Err(Silence::Ended));
    assert_eq!((client.retry(), client.last_event_id()), (Some(900), "1~f.0"));
    assert_eq!(client.comments(), [" ok", " beat"]);
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn several_streams_over_http_2_and_tls() {
    let certificate = Certificate::generate();
    let acceptor = acceptor(&certificate);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = |path: &str| {
        Target::from(format!("https://{}{path}", listener.local_addr().unwrap())).trusting(certificate.der.clone())
    };
    let (first, second, refused) = (url("/sse?channel=1"), url("/sse?channel=2"), url("/no"));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let service = service_fn(|request: hyper::Request<Incoming>| async move {
            let status = if request.uri().path() == "/no" { 403 } else { 200 };
            let body = format!("data: {}\n\n", request.uri().query().unwrap_or_default());
            Ok::<_, Infallible>(hyper::Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap())
        });
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    });
    let mut connection = Connection::open(first.clone()).await;
    let mut one = connection.stream(Request::to(first)).await.unwrap_or_else(|_| panic!("refused"));
    let mut two = connection.stream(Request::to(second)).await.unwrap_or_else(|_| panic!("refused"));
    assert_eq!(two.next_event().await.data, "channel=2");
    assert_eq!(one.next_event().await.data, "channel=1");
    assert_eq!(one.next_event_within(PATIENCE).await, Err(Silence::Ended));
    assert_eq!(connection.stream(Request::to(refused)).await.err().unwrap().status, 403);
}

fn acceptor(certificate: &Certificate) -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}
