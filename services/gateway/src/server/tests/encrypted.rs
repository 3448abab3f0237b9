//! TLS.

use std::path::Path;
use std::pin::Pin;
use std::task::Poll;

use axum::body::Body;
use rcgen::CertifiedKey;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http2::{ask as http2_ask, client as http2_client};
use super::windows::{Narrow, read};
use super::*;
use crate::server::http2;

struct Pair {
    folder: TempDir,
    client: ClientConfig,
}

impl Pair {
    /// A certificate that only this pair trusts.
    fn new() -> Self {
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Self { folder, client: client.with_root_certificates(roots).with_no_client_auth() }
    }

    fn settings(&self) -> TlsSettings {
        let file = |name| Path::join(self.folder.path(), name);
        TlsSettings { cert_file: file("cert.pem"), key_file: file("key.pem") }
    }

    fn server(&self, settings: Settings) -> Server {
        Server::start_with(settings, Some(tls::load(&self.settings()).unwrap()))
    }

    async fn connect(&self, server: &Server, protocols: &[&str]) -> TlsStream<TcpStream> {
        let mut config = self.client.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await.unwrap()
    }
}

#[tokio::test]
async fn requests_and_takeover_behind_tls() {
    let pair = Pair::new();
    let server = pair.server(patient());
    let mut client = pair.connect(&server, &[]).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut client, "hello").await;
    client.write_all(b"GET /socket HTTP/1.1\r\nHost: a\r\n\r\nearly").await.unwrap();
    let answer = until(&mut client, "early").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client.write_all(b"late").await.unwrap();
    until(&mut client, "late").await;
}

#[tokio::test]
async fn answers_before_the_takeover_come_first_and_completely_behind_tls() {
    let pair = Pair::new();
    let server = pair.server(patient());
    let mut client = pair.connect(&server, &["http/1.1"]).await;
    let requests =
        "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n12GET /socket HTTP/1.1\r\nHost: a\r\n\r\nearly";
    client.write_all(requests.as_bytes()).await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    let mut body = vec![0; LARGE];
    tokio::time::timeout(PATIENCE, client.read_exact(&mut body)).await.expect("the whole answer comes").unwrap();
    let rest = until(&mut client, "early").await;
    assert!(rest.starts_with("HTTP/1.1 101 "), "{rest:?}");
}

#[tokio::test]
async fn http2_is_agreed_on() {
    let pair = Pair::new();
    let server = pair.server(patient());
    let client = pair.connect(&server, &["h2", "http/1.1"]).await;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let client = http2_client(client).await;
    assert_eq!(http2_ask(&client, "GET", "/", Body::empty()).await.1, "hello");
}

/// An intermediary that let a connection through as one version must not find it read as another.
#[tokio::test]
async fn versions_keep_to_what_was_negotiated() {
    let pair = Pair::new();
    let server = pair.server(patient());
    let mut client = pair.connect(&server, &["http/1.1"]).await;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let answer = until_closed(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""reason":"not_negotiated""#), "{answer}");

    for bytes in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "NOT HTTP/2\r\n\r\n", "\0\0\0\x04\0\0\0\0\0"] {
        let mut client = pair.connect(&server, &["h2"]).await;
        client.write_all(bytes.as_bytes()).await.unwrap();
        let answer = until_closed(&mut client).await;
        // SETTINGS, then GOAWAY with PROTOCOL_ERROR.
        assert_eq!(answer.as_bytes(), http2::NOT_HTTP2, "{bytes:?}");
    }
    assert_eq!(server.rejected("bad_head"), 4);

    // Without ALPN the client decides.
    let mut client = pair.connect(&server, &[]).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut client, "hello").await;
    let client = http2_client(pair.connect(&server, &[]).await).await;
    assert_eq!(http2_ask(&client, "GET", "/", Body::empty()).await.1, "hello");
}

#[tokio::test]
async fn who_does_not_shake_hands_is_closed() {
    let pair = Pair::new();
    let server = pair.server(Settings { tls_handshake_timeout: Duration::from_millis(200), ..patient() });
    let mut silent = server.connect().await;
    assert_eq!(until_closed(&mut silent).await, "");
    let answer = server.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!answer.contains("HTTP"), "{answer:?}");
    eventually("both are counted", || server.rejected("tls") == 2).await;
    eventually("both are closed", || server.open() == 0).await;
}

#[test]
fn bad_files_are_named() {
    let pair = Pair::new();
    let good = pair.settings();
    let file = |name: &str, text: &str| {
        let path = pair.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (empty, other) = (file("empty.pem", ""), Pair::new());
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n");
    let missing = pair.folder.path().join("missing.pem");
    for (cert_file, key_file, expected) in [
        (&missing, &good.key_file, "server.tls.cert_file: "),
        (&empty, &good.key_file, "server.tls.cert_file: "),
        (&broken, &good.key_file, "server.tls.cert_file: "),
        (&good.cert_file, &missing, "server.tls.key_file: "),
        (&good.cert_file, &empty, "server.tls.key_file: "),
        (&good.cert_file, &other.settings().key_file, "server.tls: "),
    ] {
        let settings = TlsSettings { cert_file: cert_file.clone(), key_file: key_file.clone() };
        let error = tls::load(&settings).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(error.contains(".pem: "), "{error}");
    }
}

/// TLS holds what a slow client has not read; that the client goes on reading is seen below it, before all has gone.
#[tokio::test]
async fn a_slow_reader_is_seen_to_read() {
    let pair = Pair::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let config = tls::load(&pair.settings()).unwrap();
    let connecting = async {
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(pair.client.clone())).connect(name, tcp).await.unwrap()
    };
    let accepting = async { tls::handshake(&config, listener.accept().await.unwrap().0, PATIENCE).await.unwrap() };
    let (mut client, mut io) = tokio::join!(connecting, accepting);

    std::future::poll_fn(|cx| {
        while let Poll::Ready(written) = Pin::new(&mut io).poll_write(cx, &[0; 16 * 1024]) {
            written.unwrap();
        }
        Poll::Ready(())
    })
    .await;
    io.take_moved();
    let reading = tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while client.read(&mut buffer).await.unwrap() > 0 {}
    });
    let moved = std::future::poll_fn(|cx| {
        let _ = Pin::new(&mut io).poll_flush(cx).map(Result::unwrap);
        if io.take_moved() { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::time::timeout(PATIENCE, moved).await.expect("the client is seen to read");
    reading.abort();
}

#[tokio::test]
async fn an_answer_over_http_2_that_is_not_taken_is_reset_behind_tls() {
    let pair = Pair::new();
    let server = pair.server(Settings { write_timeout: Duration::from_millis(500), ..patient() });
    let client = Narrow::over(pair.connect(&server, &["h2"]).await, 1000).await;
    let mut body = client.get("/large").await;
    assert_eq!(read(&mut body, async |_| false).await, (1000, Some(h2::Reason::CANCEL)));
    assert_eq!(read(&mut client.get("/").await, async |_| false).await, ("hello".len(), None));
    assert_eq!(server.rejected("write_timeout"), 1);
}
