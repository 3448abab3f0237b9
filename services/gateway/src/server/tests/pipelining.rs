//! Requests that a client sends without waiting for answers.

use super::*;

/// The sooner the next one is begun, the more of their publications are coalesced.
#[tokio::test]
async fn a_pipelined_request_begins_in_the_poll_that_ends_the_one_before() {
    const REQUESTS: usize = 10;
    let server = Server::start(patient());
    let mut client = server.connect().await;
    let count = Arc::clone(&server.count);
    let others = tokio::spawn(async move {
        loop {
            count.fetch_add(1, Ordering::SeqCst);
            let_others_run().await;
        }
    });
    let requests = b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".repeat(REQUESTS);
    client.write_all(&requests).await.unwrap();
    let mut said = String::new();
    while said.matches('>').count() < REQUESTS {
        said += &until(&mut client, ">").await;
    }
    others.abort();
    let counts = said.split('<').skip(1).map(|rest| rest.split('>').next().unwrap().parse().unwrap());
    let counts: Vec<usize> = counts.collect();
    // Others run once per request, while its handler waits; twice if the next request waited for a poll of its own.
    assert!(counts[REQUESTS - 1] - counts[0] < REQUESTS, "{counts:?}");
}

#[tokio::test]
async fn a_bad_head_behind_good_requests_is_refused_after_their_answers() {
    let server = Server::start(patient());
    let good = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    for (bad, status) in [
        ("GET / HTTP/1.1\nHost: a\n\n", "400"),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 1\r\n\r\nx", "400"),
    ] {
        let said = server.say(format!("{good}one{good}two{bad}{good}six")).await;
        let statuses: Vec<_> = said.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["200", "200", status], "{bad:?}: {said}");
        assert!(said.contains("one") && said.contains("two") && !said.contains("six"), "{bad:?}: {said}");
    }
}

/// What follows an upgrade is no request, even if it reads like one.
#[tokio::test]
async fn what_follows_a_pipelined_upgrade_goes_to_the_upgraded_socket() {
    let server = Server::start(patient());
    for early in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x01\x02\n\n", "\r\n\r\n"] {
        let mut client = server.connect().await;
        let requests = format!("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /socket HTTP/1.1\r\nHost: a\r\n\r\n{early}end");
        client.write_all(requests.as_bytes()).await.unwrap();
        let said = until(&mut client, "end").await;
        assert!(said.contains("hello") && said.ends_with(&format!("\r\n\r\n{early}end")), "{early:?}: {said:?}");
    }
}
