//! Addresses of clients, over sockets. The parsers have tests of their own.

use axum::extract::Extension;

use super::*;
use crate::server::addresses::tests::settings;

/// A server whose clients connect from a trusted proxy, since they are on this machine.
fn behind_proxies(toml: &str) -> Settings {
    let told: Settings = settings(&format!("trusted_proxies = ['127.0.0.0/8']\n{toml}"));
    Settings {
        trusted_proxies: told.trusted_proxies,
        forwarded_header: told.forwarded_header,
        direct: told.direct,
        proxy_protocol: told.proxy_protocol,
        ..patient()
    }
}

/// Answers with the client's address.
pub(super) async fn whose(client: Option<Extension<ClientAddress>>) -> String {
    match client {
        Some(Extension(ClientAddress(address))) => format!("<{address}>"),
        None => "<nobody>".to_owned(),
    }
}

const ASK: &str = "GET /whose HTTP/1.0\r\n\r\n";

#[tokio::test]
async fn a_request_carries_the_address_that_its_proxy_names() {
    let server = Server::start(behind_proxies(""));
    let forwarded = |line: &str| format!("GET /whose HTTP/1.0\r\nX-Forwarded-For: {line}\r\n\r\n");
    assert!(server.say(forwarded("203.0.113.1, 192.0.2.7")).await.ends_with("<192.0.2.7>"));
    assert!(server.say(ASK).await.ends_with("<nobody>"));
    // A request after another has its own.
    let both =
        "GET /whose HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n".to_owned() + &forwarded("192.0.2.8");
    let answers = server.say(both).await;
    assert!(answers.contains("<192.0.2.7>") && answers.ends_with("<192.0.2.8>"), "{answers}");
}

#[tokio::test]
async fn nobody_is_believed_without_being_trusted() {
    let server = Server::start(patient());
    let forged = "GET /whose HTTP/1.0\r\nX-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n\r\n";
    assert!(server.say(forged).await.ends_with("<nobody>"));
    let direct = Server::start(Settings { direct: true, ..patient() });
    assert!(direct.say(forged).await.ends_with("<127.0.0.1>"));
}

#[tokio::test]
async fn a_proxied_connection_begins_with_its_header() {
    let server = Server::start(behind_proxies("proxy_protocol = true"));
    let line = "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
    assert!(server.say(format!("{line}{ASK}")).await.ends_with("<192.0.2.7>"));
    // What the client says of itself counts for nothing.
    let forged = "GET /whose HTTP/1.0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    assert!(server.say(format!("{line}{forged}")).await.ends_with("<192.0.2.7>"));
    assert!(server.say(format!("PROXY UNKNOWN\r\n{ASK}")).await.ends_with("<nobody>"));
    let binary = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
        &[192, 0, 2, 9, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb],
        ASK.as_bytes(),
    ];
    assert!(server.say(binary.concat()).await.ends_with("<192.0.2.9>"));
    // A proxy in front of the proxy: its own header is believed.
    let through = "PROXY TCP4 127.0.0.9 10.0.0.1 1 2\r\nGET /whose HTTP/1.0\r\nX-Forwarded-For: 192.0.2.8\r\n\r\n";
    assert!(server.say(through).await.ends_with("<192.0.2.8>"));

    // Byte by byte, as slowly as it likes.
    let mut slow = server.connect().await;
    for byte in format!("{line}{ASK}").bytes() {
        slow.write_all(&[byte]).await.unwrap();
        let_others_run().await;
    }
    assert!(until_closed(&mut slow).await.ends_with("<192.0.2.7>"));
}

#[tokio::test]
async fn a_connection_without_its_header_ends() {
    let server = Server::start(behind_proxies("proxy_protocol = true"));
    let long = format!("PROXY TCP4 {}\r\n{ASK}", "1".repeat(200));
    let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    for bytes in [ASK.as_bytes(), b"PROXY TCP4 nonsense here 1 2\r\n", long.as_bytes(), &huge] {
        assert_eq!(server.say(bytes).await, "", "{}", bytes.escape_ascii());
    }
    assert_eq!(server.rejected("bad_head"), 4);
    let mut cut = server.connect().await;
    cut.write_all(b"PROXY TCP4 192.0").await.unwrap();
    cut.shutdown().await.unwrap();
    assert_eq!(until_closed(&mut cut).await, "");
    eventually("nothing is left", || server.open() == 0).await;

    let hasty = Server::start(Settings {
        header_timeout: Duration::from_millis(50),
        ..behind_proxies("proxy_protocol = true")
    });
    assert_eq!(until_closed(&mut hasty.connect().await).await, "");
    assert_eq!(hasty.rejected("header_timeout"), 1);
}

#[tokio::test]
async fn a_header_that_is_not_expected_is_refused() {
    let line = "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
    for settings in [behind_proxies(""), Settings { direct: true, ..patient() }] {
        let server = Server::start(settings);
        let answer = server.say(format!("{line}{ASK}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("server.proxy_protocol"), "{answer}");
    }
}
