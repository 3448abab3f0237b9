//! Stopping: first politely, then not.

use std::sync::atomic::Ordering;

use super::*;

#[tokio::test]
async fn stopping_closes_the_listener_and_lets_requests_finish() {
    let server = Server::start(patient());
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut idle, "hello").await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /gated HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    server.waiting.acquire().await.unwrap().forget();

    server.ending.stop_accepting.cancel();
    server.ending.tracker.close();
    assert_eq!(until_closed(&mut idle).await, "");
    eventually("the listener is closed", || std::net::TcpStream::connect(server.address).is_err()).await;
    eventually("only the request goes on", || server.open() == 1).await;

    server.gate.add_permits(1);
    let answer = until_closed(&mut busy).await;
    assert!(answer.ends_with("through") && answer.contains("connection: close"), "{answer}");
    drop((idle, busy));
    tokio::time::timeout(PATIENCE, server.ending.tracker.wait()).await.expect("no task stays");
}

#[tokio::test]
async fn closing_ends_requests_and_silent_connections_but_not_sockets_taken_over() {
    let server = Server::start(patient());
    let mut silent = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /gated HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    server.waiting.acquire().await.unwrap().forget();
    let mut taken = server.connect().await;
    taken.write_all(b"GET /socket HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut taken, "\r\n\r\n").await;

    server.ending.stop_accepting.cancel();
    server.ending.close_now.cancel();
    server.ending.tracker.close();
    assert_eq!(until_closed(&mut silent).await, "");
    assert_eq!(until_closed(&mut busy).await, "");
    taken.write_all(b"still here").await.unwrap();
    until(&mut taken, "still here").await;
    drop(taken);
    tokio::time::timeout(PATIENCE, server.ending.tracker.wait()).await.expect("no task stays");
}

/// A back end that is told with an answer to go sends its next request elsewhere. Clients go in the drain's own time.
#[tokio::test]
async fn while_it_drains_others_than_clients_are_told_to_go_with_their_answer() {
    let server = Server::start(patient());
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    let publish = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    other.write_all(publish).await.unwrap();
    let answer = until(&mut other, "hi").await;
    assert!(!answer.contains("connection:"), "{answer}");
    server.ending.draining.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = until(&mut client, "hello").await;
        assert!(!answer.contains("connection:"), "{answer}");
    }
    other.write_all(publish).await.unwrap();
    let answer = until_closed(&mut other).await;
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("hi"), "{answer}");
    // Who comes all the same is served all the same.
    assert!(server.say(publish).await.ends_with("hi"));
}
