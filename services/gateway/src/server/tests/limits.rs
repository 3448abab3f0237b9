//! Beyond the connection limit.

use super::*;

#[tokio::test]
async fn beyond_the_limit_clients_are_told_to_come_back() {
    let server = Server::start(Settings { max_connections: 1, ..patient() });
    let mut only = server.connect().await;
    only.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut only, "hello").await;
    assert_eq!(server.metrics.sockets_limit.with_label_values(&["public"]).get(), 1);

    let answer = server.say("GET /connection/websocket HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let after: u64 = answer.split("retry-after: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    assert!((1..=10).contains(&after), "{answer}");

    let answer = server.say("GET /sse?channel=a HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-type: text/event-stream\r\n"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://app.example\r\n"), "{answer}");
    let (_, retry) = answer.split_once("\r\n\r\nretry: ").unwrap();
    assert!((1000..=10_000).contains(&retry.trim().parse().unwrap()), "{answer}");

    assert_eq!(server.rejected("limit"), 2);
    assert_eq!(server.open(), 1, "those who are turned away hold no connection");
    drop(only);
    eventually("there is room again", || server.open() == 0).await;
    assert!(server.say("GET / HTTP/1.0\r\n\r\n").await.ends_with("hello"));
}

#[tokio::test]
async fn turning_away_is_bounded_too() {
    let server = Server::start(Settings { max_connections: 1, max_refusals: 1, ..patient() });
    let _served = server.connect().await;
    eventually("the first is served", || server.open() == 1).await;
    let _turned_away_slowly = server.connect().await;
    eventually("the second is being turned away", || server.rejected("limit") == 1).await;
    let mut third = server.connect().await;
    assert_eq!(until_closed(&mut third).await, "", "closed without a word");
    assert_eq!(server.rejected("limit"), 2);
}

#[tokio::test]
async fn a_socket_that_was_taken_over_counts_until_it_is_closed() {
    let server = Server::start(Settings { max_connections: 1, ..patient() });
    let mut client = server.connect().await;
    client.write_all(b"GET /socket HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    assert!(server.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 503 "));
    drop(client);
    eventually("its place is free", || server.open() == 0).await;
}
