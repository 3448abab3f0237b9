//! A handler gets the bare socket.

use super::*;

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

#[tokio::test]
async fn the_socket_is_handed_over_with_what_was_read_ahead() {
    let server = Server::start(patient());
    let mut client = server.connect().await;
    client.write_all((UPGRADE.to_owned() + "early").as_bytes()).await.unwrap();
    let answer = until(&mut client, "early").await;
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("upgrade: echo") && head.contains("connection: upgrade"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(rest, "early");
    client.write_all(b"late").await.unwrap();
    until(&mut client, "late").await;
    assert_eq!(server.metrics.sockets_taken_over_total.with_label_values(&["public"]).get(), 1);
    client.shutdown().await.unwrap();
    assert_eq!(until_closed(&mut client).await, "");
}

/// A client that is gone without a word holds its place no longer than that.
#[tokio::test]
async fn accepted_sockets_have_the_user_timeout() {
    for (user_timeout, expected) in [(None, "<none>"), (Some(Duration::from_secs(77)), "<77s>")] {
        let server = Server::start(Settings { user_timeout, ..patient() });
        let mut client = server.connect().await;
        client.write_all(UPGRADE.replace("/socket", "/user-timeout").as_bytes()).await.unwrap();
        assert!(until_closed(&mut client).await.ends_with(expected), "{expected}");
    }
}

/// Answers with the option of its socket.
pub(super) async fn user_timeout() -> Response {
    let takeover = Takeover::new(|mut taken, tracker| {
        tracker.spawn(async move {
            let option = socket2::SockRef::from(taken.io.tcp()).tcp_user_timeout()?;
            let text = option.map_or("<none>".to_owned(), |timeout| format!("<{timeout:?}>"));
            taken.io.write_all(&taken.head).await?;
            taken.io.write_all(text.as_bytes()).await
        });
    });
    let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
    response.header("sec-websocket-accept", "echo").extension(takeover).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn more_than_a_buffer_full_of_early_bytes_arrives_in_order() {
    let server = Server::start(patient());
    let (mut read, mut write) = server.connect().await.into_split();
    let early: String = (0..20_000).map(|n| format!("{n} ")).collect();
    let bytes = UPGRADE.to_owned() + &early;
    let writing = tokio::spawn(async move {
        write.write_all(bytes.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let answer = until_closed(&mut read).await;
    let (_, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(rest == early, "{} of {} bytes", rest.len(), early.len());
    writing.await.unwrap();
}

#[tokio::test]
async fn an_event_stream_needs_no_framing_and_has_the_socket_options() {
    let server = Server::start(patient());
    let answer = server.say("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (head, events) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for expected in ["content-type: text/event-stream", "connection: close", "date: "] {
        assert!(head.contains(expected), "{expected} in {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(events, "data: unsent=16384 nodelay=true\n\n");
}

/// One write: requests whose answers take long to send, then the upgrade. The answers come first, and completely.
#[tokio::test]
async fn answers_before_the_takeover_come_first_and_completely() {
    let server = Server::start(patient());
    for earlier in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
        // Answered without reading the body: hyper goes on to the next request before it has sent the answer.
        "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345",
    ] {
        let mut client = server.connect().await;
        client.write_all(format!("{earlier}{UPGRADE}early").as_bytes()).await.unwrap();
        let head = until(&mut client, "\r\n\r\n").await;
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        tokio::time::timeout(PATIENCE, client.read_exact(&mut body)).await.expect("the whole answer comes").unwrap();
        assert!(body == b"hello" || body.iter().all(|byte| *byte == b'x'), "{earlier:?}");
        let rest = until(&mut client, "early").await;
        assert!(rest.starts_with("HTTP/1.1 101 "), "{earlier:?}: {rest:?}");
    }
}

/// hyper goes on to the next request while it still holds an answer that the socket did not take, when the answer has no
/// body and the request has one that nobody asked for.
#[tokio::test]
async fn answers_that_hyper_still_holds_are_not_lost() {
    const ANSWERS: usize = 60;
    let server = Server::start(patient());
    let mut client = server.connect().await;
    let earlier =
        "POST /bulky HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx".repeat(ANSWERS);
    client.write_all(format!("{earlier}{UPGRADE}early").as_bytes()).await.unwrap();
    // All are answered, more than sockets hold, and none is read.
    let all = server.waiting.acquire_many(ANSWERS as u32);
    tokio::time::timeout(PATIENCE, all).await.expect("all requests are worked on").unwrap().forget();
    let answers = until(&mut client, "early").await;
    assert_eq!(answers.matches("HTTP/1.1 204 ").count(), ANSWERS);
    assert_eq!(answers.matches("x-bulk").count(), ANSWERS);
    assert!(answers.len() > ANSWERS * 8000, "{}", answers.len());
    let (_, last) = answers.rsplit_once("HTTP/1.1 ").unwrap();
    assert!(last.starts_with("101 "), "{last}");
}

#[tokio::test]
async fn after_other_requests_and_with_a_body_that_was_read() {
    let server = Server::start(patient());
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
        until(&mut client, "abc").await;
    }
    client.write_all(b"POST /read-then-socket HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcearly").await.unwrap();
    let answer = until(&mut client, "early").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nearly"), "the body is not taken for early bytes: {answer}");
}

#[tokio::test]
async fn not_with_an_unread_body_and_not_for_head() {
    let server = Server::start(patient());
    for (method, body) in [
        ("POST", "Content-Length: 3\r\n\r\nabc"),
        ("GET", "Content-Length: 3\r\n\r\nabc"),
        ("GET", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let answer = server.say(format!("{method} /socket HTTP/1.1\r\nHost: a\r\n{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{method} {body:?}: {answer}");
        assert!(answer.contains(r#""reason":"unexpected_body""#), "{answer}");
    }

    let answer = server.say("HEAD /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    let head = UPGRADE.replacen("GET", "HEAD", 1);
    let answers = server.say(format!("{head}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    assert!(answers.starts_with("HTTP/1.1 204 ") && answers.ends_with("hello"), "{answers}");
    assert!(!answers.contains("upgrade") && !answers.contains("sec-websocket-"), "{answers}");
    assert_eq!(server.metrics.sockets_taken_over_total.with_label_values(&["public"]).get(), 0);
}

/// A body of known length that a GET or HEAD announces is refused or ignored without being awaited or requested.
#[tokio::test]
async fn an_announced_body_of_a_get_is_not_awaited() {
    let server = Server::start(patient());
    for expect in ["", "Expect: 100-continue\r\n"] {
        for length in ["Content-Length: 5", "Content-Length: 50000", "Transfer-Encoding: chunked"] {
            if expect.is_empty() && length.starts_with('T') {
                // Such a body may be empty: its first bytes decide.
                continue;
            }
            for (request, status, end) in [
                ("GET /socket", "400", "}"),
                ("GET /stream", "400", "}"),
                ("GET /", "200", "hello"),
                ("HEAD /stream", "200", "\r\n\r\n"),
                ("HEAD /", "200", "\r\n\r\n"),
            ] {
                let mut client = server.connect().await;
                let head = format!("{request} HTTP/1.1\r\nHost: a\r\n{expect}{length}\r\n\r\n");
                client.write_all(head.as_bytes()).await.unwrap();
                let answer = until(&mut client, end).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer}");
            }
        }
    }
    assert_eq!(server.metrics.sockets_taken_over_total.with_label_values(&["public"]).get(), 0);
}

/// RFC 9112, section 6.3: a chunked body may be empty.
#[tokio::test]
async fn an_empty_chunked_body_is_none() {
    let server = Server::start(patient());
    let head = UPGRADE.replacen("Upgrade:", "Transfer-Encoding: chunked\r\nUpgrade:", 1);
    for body in ["0\r\n\r\n", "0\r\nTrailer: a\r\n\r\n"] {
        let mut client = server.connect().await;
        client.write_all(format!("{head}{body}early").as_bytes()).await.unwrap();
        let answer = until(&mut client, "early").await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nearly"), "{answer}");

        let mut client = server.connect().await;
        client.write_all(head.as_bytes()).await.unwrap();
        for byte in body.as_bytes() {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        until(&mut client, "\r\n\r\n").await;
        client.write_all(b"late").await.unwrap();
        assert_eq!(until(&mut client, "late").await, "late");
    }
    let answer = server.say("GET /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("data: "), "{answer}");
}

#[test]
fn an_idle_socket_is_small() {
    assert!(size_of::<Io>() <= 40, "{}", size_of::<Io>());
    assert!(size_of::<ConnectionGuard>() <= 8, "{}", size_of::<ConnectionGuard>());
}
