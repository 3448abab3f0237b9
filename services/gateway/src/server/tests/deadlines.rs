//! Nobody keeps a connection by doing nothing, or next to nothing.

use super::*;

/// A body that should not be there is waited for no longer than any other.
#[tokio::test]
async fn a_chunked_body_of_a_get_that_does_not_come_is_answered_with_408() {
    let server = Server::start(Settings { body_timeout: Duration::from_millis(200), ..patient() });
    let answer = server.say("GET /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""reason":"body_timeout""#), "{answer}");
}

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = Server::start(Settings { header_timeout: SHORT, ..patient() });
    let mut client = server.connect().await;
    assert_eq!(until_closed(&mut client).await, "");
    eventually("it is counted", || server.rejected("header_timeout") == 1).await;
    eventually("it is closed", || server.open() == 0).await;
}

#[tokio::test]
async fn a_dripping_head_is_closed() {
    let server = Server::start(Settings { header_timeout: SHORT, ..patient() });
    let (mut read, mut write) = server.connect().await.into_split();
    let drip = tokio::spawn(async move {
        let mut sent = 0;
        while write.write_all(b"G").await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sent
    });
    let answer = until_closed(&mut read).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    eventually("it is counted", || server.rejected("header_timeout") == 1).await;
    drip.abort();
}

#[tokio::test]
async fn a_dripping_body_is_answered_with_408() {
    let server = Server::start(Settings { body_timeout: SHORT, ..patient() });
    for start in [
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let (mut read, mut write) = server.connect().await.into_split();
        write.write_all(start.as_bytes()).await.unwrap();
        let drip = tokio::spawn(async move {
            while write.write_all(b"1").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let answer = until_closed(&mut read).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer:?}");
        drip.abort();
    }
    eventually("both are counted", || server.rejected("body_timeout") == 2).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_later_head_has_the_deadline_of_a_head() {
    let server = Server::start(Settings { idle_timeout: SHORT, ..patient() });
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut client).await.ends_with("hello"));
    assert_eq!(server.rejected("header_timeout"), 0, "being idle is no fault");

    let server = Server::start(Settings { header_timeout: SHORT, ..patient() });
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut client, "hello").await;
    client.write_all(b"GET / HT").await.unwrap();
    assert_eq!(until_closed(&mut client).await, "");
    eventually("it is counted", || server.rejected("header_timeout") == 1).await;
}

#[tokio::test]
async fn a_request_may_take_longer_than_an_idle_connection() {
    let server = Server::start(Settings { idle_timeout: SHORT, header_timeout: SHORT, ..patient() });
    let mut client = server.connect().await;
    client.write_all(b"GET /gated HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    server.waiting.acquire().await.unwrap().forget();
    tokio::time::sleep(SHORT * 4).await;
    server.gate.add_permits(1);
    until(&mut client, "through").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = Server::start(Settings { write_timeout: SHORT, ..patient() });
    let mut client = server.connect().await;
    client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually("it is cut off", || server.rejected("write_timeout") == 1).await;
    eventually("it is closed", || server.open() == 0).await;
    assert!(until_closed(&mut client).await.len() < LARGE);
}

/// As over HTTP/2, what such a client keeps in memory decides how much time it has.
#[tokio::test]
async fn a_client_that_does_not_read_and_holds_much_is_cut_off_early() {
    // The timeout is longer than this test may take.
    let server = Server::start(patient());
    let held = || server.metrics.large_answer_bytes.with_label_values(&["public"]).get();
    let mut client = server.connect().await;
    client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually("it is held", || held() == LARGE as i64).await;
    eventually("it is cut off", || server.rejected("write_timeout") == 1).await;
    eventually("nothing is held", || held() == 0).await;
    assert!(until_closed(&mut client).await.len() < LARGE);
}
