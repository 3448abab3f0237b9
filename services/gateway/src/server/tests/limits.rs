//! Beyond the connection limit, and the rate of new connections.

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
    // A stream with one line, which ends as it should.
    assert!(answer.contains("transfer-encoding: chunked\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(!answer.contains("content-length"), "{answer}");
    let (size, rest) = answer.split_once("\r\n\r\n").unwrap().1.split_once("\r\n").unwrap();
    let line = rest.strip_suffix("\r\n0\r\n\r\n").unwrap();
    assert_eq!(usize::from_str_radix(size, 16).unwrap(), line.len(), "{answer}");
    assert!(is_retry(line), "{answer}");

    // Without chunks where they are not read.
    let answer = server.say("GET /sse?channel=a HTTP/1.0\r\n\r\n").await;
    let (head, line) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("transfer-encoding"), "{answer}");
    assert!(is_retry(line), "{answer}");

    assert_eq!(server.rejected("limit"), 3);
    assert_eq!(server.metrics.connections_rejected_total.with_label_values(&["limit"]).get(), 3);
    assert_eq!(server.metrics.connections_limit.get(), 1);
    assert_eq!(server.open(), 1, "those who are turned away hold no connection");
    drop(only);
    eventually("there is room again", || server.open() == 0).await;
    assert!(server.say("GET / HTTP/1.0\r\n\r\n").await.ends_with("hello"));
}

/// An `EventSource` that was ended for good learns so from a full node too.
#[tokio::test]
async fn a_full_node_calls_nobody_back_who_must_not_come() {
    let server = Server::start(Settings { max_connections: 1, ..patient() });
    let _only = server.connect().await;
    eventually("it is full", || server.open() == 1).await;
    let ask = "GET /sse?channel=a HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\nLast-Event-ID: ";
    let answer = server.say(format!("{ask}stop\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 204 ") && body.is_empty(), "{answer}");
    for expected in ["cache-control: no-store", "access-control-allow-origin: https://app.example", "connection: close"]
    {
        assert!(head.contains(expected), "{expected}: {answer}");
    }
    assert!(!head.contains("content-length"), "{answer}");
    let answer = server.say(format!("{ask}2~x\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A line that says when to come back, and no blank line: some clients take that for a message.
fn is_retry(line: &str) -> bool {
    let retry = line.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix('\n'));
    retry.and_then(|retry| retry.parse().ok()).is_some_and(|retry| (1000..=10_000).contains(&retry))
}

#[tokio::test]
async fn turning_away_is_bounded_too() {
    let server = Server::start(Settings { max_connections: 1, max_refusals: 1, ..patient() });
    let _served = server.connect().await;
    eventually("the first is served", || server.open() == 1).await;
    let mut turned_away_slowly = server.connect().await;
    let accepted = server.metrics.sockets_accepted_total.with_label_values(&["public"]);
    eventually("the second is being turned away", || accepted.get() == 2).await;
    let mut third = server.connect().await;
    assert_eq!(until_closed(&mut third).await, "", "closed without a word");
    assert_eq!(server.rejected("limit"), 1);
    turned_away_slowly.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut turned_away_slowly).await.starts_with("HTTP/1.1 503 "));
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

/// Health checks and back ends are served by a node that is full of clients, and bring no client in.
#[tokio::test]
async fn a_full_node_serves_others_than_clients() {
    let server = Server::start(Settings { max_connections: 1, max_refusals: 2, ..patient() });
    let _only = server.connect().await;
    eventually("it is full", || server.open() == 1).await;
    let echo = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    for _ in 0..5 {
        // It ends after the answer, so that it holds no place for long.
        let answer = server.say(echo).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nhi"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    assert_eq!((server.rejected("limit"), server.open()), (0, 1));
    let answer = server.say(format!("{echo}GET / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert!(!answer.contains("hello"), "{answer}");
}

/// A client cannot come in as somebody else first.
#[tokio::test]
async fn the_rate_counts_the_first_request_of_a_client_whatever_comes_before() {
    let server = Server::start(Settings { accept_rate: Some(1), accept_burst: Some(1), ..patient() });
    let begin = async |server: &Server| {
        let mut client = server.connect().await;
        client.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        until(&mut client, "\r\n\r\nhi").await;
        client
    };
    let begun = std::time::Instant::now();
    let mut welcome = 0;
    for _ in 0..4 {
        let mut client = begin(&server).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = until_closed(&mut client).await;
        welcome += usize::from(answer.ends_with("hello"));
        assert!(answer.ends_with("hello") || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    assert!(welcome <= 1 + begun.elapsed().as_secs() as usize, "{welcome}");
    assert_eq!(server.rejected("rate"), 4 - welcome as u64);
    // Who was let in goes on without another token.
    let answer = say_until(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n", |answer| {
        answer.starts_with("HTTP/1.1 200 ")
    });
    assert_eq!(answer.await.matches("hello").count(), 2);
}

/// A burst of three, then one a second.
fn rated() -> Settings {
    Settings { accept_rate: Some(1), accept_burst: Some(3), ..patient() }
}

/// Asks until the answer is as it should be. A token comes back each second, so that it may have to ask more than once.
async fn say_until(server: &Server, request: &str, is_so: impl Fn(&str) -> bool) -> String {
    let asking = async {
        loop {
            let answer = server.say(request).await;
            if is_so(&answer) {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("answered as it should be")
}

#[tokio::test]
async fn above_the_rate_clients_are_told_to_come_back() {
    let begun = std::time::Instant::now();
    let server = Server::start(rated());
    let mut welcome = server.connect().await;
    welcome.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut welcome, "hello").await;
    for path in ["/connection/websocket", "/poll?channel=a"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = say_until(&server, &request, |answer| answer.starts_with("HTTP/1.1 503 ")).await;
        let after: u64 = answer.split("retry-after: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert!((1..=10).contains(&after), "{answer}");
    }
    let request = "GET /sse?channel=a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = say_until(&server, request, |answer| answer.starts_with("HTTP/1.1 200 ")).await;
    let line = answer.lines().find(|line| line.starts_with("retry: ")).unwrap();
    assert!(is_retry(&format!("{line}\n")), "{answer}");

    let (accepted, refused) =
        (server.metrics.sockets_accepted_total.with_label_values(&["public"]).get(), server.rejected("rate"));
    let most = 3.0 + begun.elapsed().as_secs_f64();
    assert!(((accepted - refused) as f64) <= most, "{refused} of {accepted} refused");
    assert_eq!(server.metrics.connections_rejected_total.with_label_values(&["rate"]).get(), refused);

    // Those who are in stay; what is not for clients is served; and a token comes back.
    welcome.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut welcome, "hello").await;
    assert!(server.say(NOT_A_CLIENT).await.ends_with("hi"));
    say_until(&server, "GET / HTTP/1.0\r\n\r\n", |answer| answer.ends_with("hello")).await;
}

const NOT_A_CLIENT: &str = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn what_is_not_for_clients_takes_no_token() {
    let server = Server::start(rated());
    for _ in 0..10 {
        assert!(server.say(NOT_A_CLIENT).await.ends_with("hi"));
    }
    for _ in 0..3 {
        assert!(server.say("GET / HTTP/1.0\r\n\r\n").await.ends_with("hello"));
    }
    assert_eq!(server.rejected("rate"), 0);
}

/// By whatever form of its target: one of these is what clients of proxies send.
#[tokio::test]
async fn what_is_not_for_clients_is_told_by_its_path() {
    let server = Server::start(rated());
    for target in ["http://a/echo", "HTTP://a/echo?b"] {
        for _ in 0..4 {
            let request = NOT_A_CLIENT.replace("/echo", target);
            assert!(server.say(&request).await.ends_with("hi"), "{target}");
        }
    }
    assert_eq!(server.rejected("rate"), 0);
    let request = "GET http://a/?x=/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    say_until(&server, request, |answer| answer.starts_with("HTTP/1.1 503 ")).await;
}

/// Takes the tokens that there are.
async fn exhaust(server: &Server) {
    say_until(server, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", |answer| {
        answer.starts_with("HTTP/1.1 503 ")
    })
    .await;
}

/// Whom the rate is not for is served whoever else is late, and is not in the way of the next one.
#[tokio::test]
async fn what_is_not_for_clients_is_served_in_a_storm() {
    let server = Server::start(Settings { max_refusals: 1, ..rated() });
    exhaust(&server).await;
    let mut served = Vec::new();
    for number in 0..3 {
        let mut kept = server.connect().await;
        kept.write_all(NOT_A_CLIENT.replace("Connection: close\r\n", "").as_bytes()).await.unwrap();
        let answer = until(&mut kept, "hi").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{number}: {answer}");
        served.push(kept);
    }
    // Turned away, and in no hurry to go.
    let mut late = server.connect().await;
    late.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut late, "\r\n\r\n").await;
    assert!(server.say(NOT_A_CLIENT).await.ends_with("hi"));
}

/// HTTP/2 begins without saying what for: the connection counts as a client's.
#[tokio::test]
async fn above_the_rate_http2_is_told_to_go_away() {
    let server = Server::start(rated());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let asking = async {
        loop {
            let mut client = server.connect().await;
            client.write_all(preface).await.unwrap();
            let mut said = vec![0; 9];
            client.read_exact(&mut said).await.unwrap();
            if said == *b"\0\0\0\x04\0\0\0\0\0" {
                // No settings: and now, go. No request was or will be looked at; enhance your calm.
                client.read_to_end(&mut said).await.unwrap();
                return said;
            }
        }
    };
    let said = tokio::time::timeout(PATIENCE, asking).await.expect("one is told to go");
    assert_eq!(said[9..], *b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b");
}
