//! A listener that answers to some hosts only.

use super::http2::{ask_host, client};
use super::*;

fn picky() -> Server {
    Server::start(Settings { hosts: Some(Hosts::local_and([])), ..patient() })
}

/// What is behind the router, before it, and nowhere.
const REQUESTS: [(&str, &str); 6] =
    [("GET", "/"), ("POST", "/express"), ("GET", "/socket"), ("GET", "/stream"), ("OPTIONS", "/"), ("GET", "/nowhere")];

#[tokio::test]
async fn every_path_is_closed_to_other_hosts() {
    let server = picky();
    for (method, path) in REQUESTS {
        let answer = server.say(format!("{method} {path} HTTP/1.1\r\nHost: evil.example:8000\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{method} {path}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{method} {path}: {answer}");
        assert!(answer.contains(r#""reason":"host_not_allowed""#), "{method} {path}: {answer}");
        assert!(answer.contains("--allow-host evil.example"), "{method} {path}: {answer}");
    }
    let none = server.say("GET / HTTP/1.0\r\n\r\n").await;
    assert!(none.starts_with("HTTP/1.0 421 ") && none.contains("--allow-host NAME"), "{none}");
}

#[tokio::test]
async fn the_second_request_of_a_connection_is_looked_at_as_well() {
    let server = picky();
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    until(&mut client, "hello").await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.unwrap();
    let answer = until_closed(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("hello"), "{answer}");
}

#[tokio::test]
async fn its_own_hosts_are_answered_on_every_port() {
    let server = picky();
    for host in ["localhost", "LocalHost:8000", "127.0.0.1:1", "[::1]", "[::1]:8000"] {
        let answer = server.say(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn the_authority_of_http2_is_the_host() {
    let server = picky();
    let client = client(server.connect().await).await;
    for (method, path) in REQUESTS {
        let (status, body) = ask_host(&client, "evil.example:8000", method, path, Body::empty()).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{method} {path}: {body}");
        assert!(body.contains("--allow-host evil.example"), "{method} {path}: {body}");
    }
    let answer = ask_host(&client, "localhost:8000", "GET", "/", Body::empty()).await;
    assert_eq!(answer, (StatusCode::OK, "hello".to_owned()));
}
