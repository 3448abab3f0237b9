//! Stopping: first politely, then not.

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

    server.stop_accepting.cancel();
    server.tracker.close();
    assert_eq!(until_closed(&mut idle).await, "");
    eventually("the listener is closed", || std::net::TcpStream::connect(server.address).is_err()).await;
    eventually("only the request goes on", || server.open() == 1).await;

    server.gate.add_permits(1);
    let answer = until_closed(&mut busy).await;
    assert!(answer.ends_with("through") && answer.contains("connection: close"), "{answer}");
    drop((idle, busy));
    tokio::time::timeout(PATIENCE, server.tracker.wait()).await.expect("no task stays");
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

    server.stop_accepting.cancel();
    server.close_now.cancel();
    server.tracker.close();
    assert_eq!(until_closed(&mut silent).await, "");
    assert_eq!(until_closed(&mut busy).await, "");
    taken.write_all(b"still here").await.unwrap();
    until(&mut taken, "still here").await;
    drop(taken);
    tokio::time::timeout(PATIENCE, server.tracker.wait()).await.expect("no task stays");
}
