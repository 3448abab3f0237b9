//! What is not plain HTTP is refused, and the connection closed.

use super::*;

fn with_headers(number: usize) -> String {
    (0..number).fold("GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), |head, n| head + &format!("X-{n}: y\r\n")) + "\r\n"
}

#[tokio::test]
async fn bad_requests_are_refused_and_the_connection_closed() {
    let server = Server::start(patient());
    let long = "x".repeat(20_000);
    let cases: &[(&str, &[u8], &[u16])] = &[
        ("no Host", b"GET / HTTP/1.1\r\n\r\n", &[400]),
        ("two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[400]),
        ("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", &[400]),
        ("Host with a user", b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", &[400]),
        ("Host with a space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", &[400]),
        ("Host with a nonsense port", b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", &[400]),
        ("target with a nonsense port", b"GET http://a:b/ HTTP/1.1\r\nHost: a:b\r\n\r\n", &[400]),
        ("fragment", b"GET /#b HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("fragment in the query", b"GET /?a=b#c HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("PROXY protocol 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 5 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("PROXY protocol 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\xdc\x04\0\x50", &[400]),
        ("another Host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        (
            "length and coding",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        (
            "coding and length",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        (
            "two lengths",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            &[400],
        ),
        ("negative length", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", &[400]),
        ("signed length", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nab", &[400]),
        ("unknown coding", b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[400]),
        ("two codings", b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", &[400]),
        ("coding on 1.0", b"POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
        (
            "bad chunk",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
            &[400],
        ),
        ("bare line feeds", b"GET / HTTP/1.1\nHost: a\n\n", &[400]),
        ("one bare line feed", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", &[400]),
        ("bare carriage return", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", &[400]),
        ("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n", &[400]),
        ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("folded header", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", &[400]),
        ("space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", &[400]),
        ("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", &[400]),
        ("too many headers", with_headers(64).leak().as_bytes(), &[431]),
        ("far too many headers", with_headers(200).leak().as_bytes(), &[431]),
        ("large head", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n").leak().as_bytes(), &[431]),
        ("long target", format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").leak().as_bytes(), &[414]),
        ("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]),
        ("odd method", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("HTTP/3", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", &[400, 505]),
        ("HTTP/0.9", b"GET /\r\n\r\n", &[400, 505]),
        ("nonsense", b"hello there, server\r\n\r\n", &[400]),
        ("binary", b"\x00\x01\x02\x03\x04", &[400]),
    ];
    for (name, bytes, expected) in cases {
        let answer = server.say(bytes).await;
        let status = answer.strip_prefix("HTTP/1.1 ").or(answer.strip_prefix("HTTP/1.0 ")).map(|rest| &rest[..3]);
        let status = status.and_then(|status| status.parse().ok());
        assert!(status.is_some_and(|status| expected.contains(&status)), "{name}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{name}: answered once: {answer:?}");
        // The bad chunk is answered by axum's extractor, which the gateway does not use.
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        assert!(body["error"]["reason"].is_string() || *name == "bad chunk", "{name}: no reason: {answer:?}");
    }
    eventually("nothing is open", || server.open() == 0).await;
    // All but the bad chunk, which is the handler's, are counted.
    assert_eq!(server.rejected("bad_head"), cases.len() as u64 - 1);
}

#[tokio::test]
async fn the_rules_hold_for_later_requests_too() {
    let server = Server::start(patient());
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answers =
            server.say(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{bad}GET / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let statuses: Vec<_> = answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["200", "400"], "{bad:?}: {answers}");
    }
    let smuggled = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answers =
        server.say(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}GET / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "nothing after it is read as a request: {answers}");
    assert!(answers.contains("connection: close"), "{answers}");
}

/// Requests that are served, and after which the connection goes on.
const GOOD: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    // Empty lines, a head and bare line feeds as data.
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
     26\r\n\r\n\r\n\nGET / HTTP/1.1\nHost: a\r\n\r\n\n\nhello\r\n0\r\nTrailer: a\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\nGET / HTTP/1.1\n\n\nhello",
];

/// Heads that are not unambiguous, each a whole request for hyper.
const BAD: &[&str] = &[
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
    "\0GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:0\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
];

fn statuses(answers: &str) -> Vec<&str> {
    answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect()
}

/// The framing rules hold for each request of a connection, whatever came before it, however the bytes arrive; and what
/// follows a refused head is not read as a request.
#[tokio::test]
async fn the_framing_rules_hold_for_every_head() {
    let server = Server::start(patient());
    for good in GOOD {
        for bad in BAD {
            let name = format!("{good:?} then {bad:?}");
            let check = |answers: &str, how: &str| {
                assert_eq!(statuses(answers), ["200", "400"], "{name} {how}: {answers}");
                let (head, body) = answers.rsplit_once("\r\n\r\n").unwrap();
                assert!(head.contains("connection: close"), "{name} {how}: {answers}");
                assert!(body.contains(r#""reason":"malformed_request""#), "{name} {how}: {answers}");
            };
            check(&server.say(format!("{good}{bad}{}", GOOD[0])).await, "at once");

            let mut client = server.connect().await;
            client.write_all(good.as_bytes()).await.unwrap();
            let first = until(&mut client, "hello").await;
            let _ = client.write_all(format!("{bad}{}", GOOD[0]).as_bytes()).await;
            check(&(first + &until_closed(&mut client).await), "after the answer");
        }
    }
    // Several packets: the boundaries do not depend on how much is read at once.
    for good in GOOD {
        for bad in [BAD[0], BAD[10]] {
            let mut client = server.connect().await;
            client.set_nodelay(true).unwrap();
            for byte in format!("{good}{bad}").as_bytes() {
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let answers = until_closed(&mut client).await;
            assert_eq!(statuses(&answers), ["200", "400"], "{good:?} then {bad:?}: {answers}");
        }
    }
    eventually("nothing is open", || server.open() == 0).await;
}

/// Bodies with a length and chunked ones leave the connection open, whether the next request is sent before or after the
/// answer.
#[tokio::test]
async fn a_connection_goes_on_after_every_kind_of_body() {
    let server = Server::start(patient());
    for round in 0..GOOD.len() {
        let mut requests = GOOD.repeat(3);
        requests.rotate_left(round);
        let mut client = server.connect().await;
        for request in &requests {
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = until(&mut client, "hello").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{request:?}: {answer}");
            assert!(!answer.contains("connection: close"), "{request:?}: {answer}");
        }
        let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all((requests.concat() + last).as_bytes()).await.unwrap();
        let answers = until_closed(&mut client).await;
        assert_eq!(statuses(&answers), vec!["200"; requests.len() + 1], "{answers}");
    }
}

/// A later head that is too large is refused like a first one.
#[tokio::test]
async fn a_later_head_has_a_largest_size_too() {
    let server = Server::start(patient());
    for good in &GOOD[..3] {
        for (bad, expected) in [
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000)), ["414", "431"]),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000)), ["431", "431"]),
        ] {
            let answers = server.say(format!("{good}{bad}")).await;
            let statuses = statuses(&answers);
            assert!(statuses.len() == 2 && expected.contains(&statuses[1]), "{good:?}: {answers}");
            assert!(answers.contains(r#"_too_l"#), "{answers}");
        }
    }
}

/// hyper reads no target above 65,534 bytes, however large a head may be.
#[tokio::test]
async fn a_long_target_in_a_large_head_is_answered_with_414() {
    let server = Server::start(Settings { max_head: bytesize::ByteSize::mib(1), ..patient() });
    for good in ["", GOOD[0], GOOD[2]] {
        for (length, expected) in [(65_533, "404"), (65_534, "414"), (200_000, "414")] {
            let target = "x".repeat(length);
            let head = format!("GET /{target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answers = server.say(format!("{good}{head}")).await;
            assert_eq!(statuses(&answers).last(), Some(&expected), "{length} after {good:?}: {answers}");
            assert_eq!(answers.contains(r#""reason":"uri_too_long""#), expected == "414", "{answers}");
        }
    }
}

/// An empty line in a chunked body costs a read of its own, so their number is bounded in relation to the body.
#[tokio::test]
async fn a_chunked_body_of_empty_lines_is_refused() {
    let server = Server::start(patient());
    let post = |body: &str| {
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let next = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n{next}", body.len())
    };
    for line in ["\n", "\r\n", "0\n\n"] {
        let answers = server.say(post(&line.repeat(500_000))).await;
        assert_eq!(statuses(&answers), ["400"], "{line:?}: {:.200}", answers);
        assert!(answers.contains("connection: close"), "{line:?}: {answers}");
    }
    // Between requests as well.
    let answers = server.say(format!("{}{}", GOOD[2], "\r\n".repeat(100_000))).await;
    assert_eq!(statuses(&answers), ["200", "400"], "{answers}");
    for honest in ["\n".repeat(1000), "a paragraph of text\n\n".repeat(20_000), "\r\n\r\n".repeat(500)] {
        let answers = server.say(post(&honest)).await;
        assert_eq!(statuses(&answers), ["200", "200"], "{:.200}", answers);
    }
}

/// The answer before a refusal is sent completely, even if the client is slow to read it.
#[tokio::test]
async fn a_refusal_waits_for_the_answers_before_it() {
    let server = Server::start(patient());
    let mut client = server.connect().await;
    let requests = format!("GET /large HTTP/1.1\r\nHost: a\r\n\r\n{}", BAD[0]);
    client.write_all(requests.as_bytes()).await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    let mut body = vec![0; LARGE];
    tokio::time::timeout(PATIENCE, client.read_exact(&mut body)).await.expect("the whole answer comes").unwrap();
    let refusal = until_closed(&mut client).await;
    assert!(refusal.starts_with("HTTP/1.1 400 "), "{refusal}");
}

#[tokio::test]
async fn what_is_unusual_but_right_is_served() {
    let server = Server::start(patient());
    let cases = [
        ("empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned()),
        ("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n".to_owned()),
        ("absolute target", "GET http://a/ HTTP/1.1\r\nHost: A\r\nConnection: close\r\n\r\n".to_owned()),
        ("63 headers", with_headers(62).replacen("Host: a", "Host: a\r\nConnection: close", 1)),
        (
            "12 KB header",
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(12_000)),
        ),
    ];
    for (name, bytes) in cases {
        let answer = server.say(bytes).await;
        assert!(answer.contains(" 200 OK\r\n") && answer.ends_with("hello"), "{name}: {answer}");
    }
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let server = Server::start(patient());
    let rest = "x".repeat(120_000);
    for (start, expected) in [
        ("GET /", "414"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "431"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", "405"),
    ] {
        let mut client = server.connect().await;
        client.write_all((start.to_owned() + &rest).as_bytes()).await.unwrap();
        let mut answer = String::new();
        // Closing at once would reset the connection under the answer: an error instead of the end.
        let read = tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap();
        assert!(read.is_ok(), "{start:?}: {read:?} after {answer:?}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{start:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_why() {
    let server = Server::start(patient());
    for (request, reason) in [
        ("GET / HTTP/1.1\nHost: a\n\n", "a line ends without a carriage return"),
        ("GET / HTTP/1.1\r\n\r\n", "no Host"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "invalid HTTP header parsed"),
    ] {
        let answer = server.say(request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let error = format!(r#"{{"code":107,"message":"{reason}","reason":"malformed_request"}}"#);
        assert_eq!(body, format!(r#"{{"error":{error}}}"#));
        for header in ["content-type: application/json", "cache-control: no-store", "connection: close"] {
            assert!(head.contains(header), "{header} in {head}");
        }
    }
}
