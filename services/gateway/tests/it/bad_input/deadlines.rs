//! Rows that wait for a clock: clients that are silent, slow, expired, gone or do not read.

use std::time::Instant;

use fanway_testkit::sse;
use fanway_testkit::token::Claims;

use super::*;

/// Rows 28-30.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_come() {
    let node = node().set("server.header_timeout", "400ms").set("server.body_timeout", "400ms").start().await;
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nContent-Type: application/json\r\n",
        fanway_testkit::node::API_KEY
    );
    // What is sent at first, what is dripped then, and the status of the answer, if there is one.
    let rows = [
        ("28 nothing", String::new(), "", None),
        ("29 a head in drops", "G".to_owned(), "E", Some(408)),
        ("29 a head that stops", "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), "", Some(408)),
        ("30 a body in drops", format!("{head}Content-Length: 100000\r\n\r\n{{"), " ", Some(408)),
        ("30 a body that stops", format!("{head}Content-Length: 100\r\n\r\n{{"), "", Some(408)),
        ("30 chunks in drops", format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "1\r\n \r\n", Some(408)),
    ];
    let mut table = Table::default();
    for (name, start, drip, expected) in rows {
        let began = Instant::now();
        let socket = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
        let (mut read, mut write) = socket.into_split();
        let dripping = tokio::spawn(async move {
            let _ = write.write_all(start.as_bytes()).await;
            while write.write_all(drip.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut received = Vec::new();
        let end = tokio::time::timeout(PATIENCE, read.read_to_end(&mut received)).await;
        dripping.abort();
        let status = parse(&received).map(|answer| answer.status);
        let wrong = match end {
            Err(_) => Some("still open".to_owned()),
            Ok(_) if status != expected => Some(format!("{status:?} instead of {expected:?}")),
            Ok(_) if began.elapsed() < SHORT => Some(format!("closed after {:?}", began.elapsed())),
            Ok(_) => None,
        };
        table.row(name, wrong);
    }
    table.check();
    unharmed(&node, &token(&node)).await;
}

/// Row 36, the part over WebSocket: who does not say who they are does not stay.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_stays_unauthenticated() {
    let node = node().set("client.connect_timeout", "400ms").start().await;
    let mut table = Table::default();
    let expired = node.token(&Claims::user("u").expired_since(Duration::from_secs(120)));
    let rows = [
        ("36 nothing", Vec::new(), None),
        ("36 pings only", vec![Frame::new(Frame::PING, ""); 3], None),
        ("36 half a command", vec![Frame::text(r#"{"id":1,"#).unfinished()], None),
        ("36 connect without a token", vec![Frame::text(r#"{"id":1,"connect":{}}"#)], Some(101)),
        (
            "41 connect with an expired token",
            vec![Frame::text(&json!({"id": 1, "connect": {"token": expired}}).to_string())],
            Some(109),
        ),
    ];
    for (name, frames, error) in rows {
        let mut raw = Raw::open(node.websocket_url()).await;
        for frame in frames {
            raw.write_frame(&frame).await;
        }
        if let Some(code) = error {
            let reply = raw.read_frame().await;
            let Incoming::Frame(reply) = reply else { panic!("{name}: {reply:?}") };
            let reply: Value = serde_json::from_slice(&reply.payload).unwrap();
            table.row(name, (reply["error"]["code"] != code).then(|| format!("{reply} instead of error {code}")));
        }
        let end = ending(&mut raw).await;
        table.row(name, (end != Ok(3502)).then(|| format!("{end:?} instead of 3502")));
    }
    table.check();
    unharmed(&node, &token(&node)).await;
}

/// Row 54: a credential that ends ends its connection, and only its.
#[tokio::test(flavor = "multi_thread")]
async fn expired_while_connected() {
    let node = node().set("client.expiry_grace", "2s").start().await;
    let brief = node.token(&Claims::user("alice").expires_in(Duration::from_secs(1)));
    let long = token(&node);
    let began = Instant::now();
    let mut left = Client::connect(node.websocket_url(), &brief).await;
    let mut refreshed = Client::connect(node.websocket_url(), &brief).await;
    let target = node.url("/sse").with_query("channel=news");
    let mut stream = sse::Request::to(target).bearer(&brief).send().await.unwrap();
    left.subscribe("news").await;
    refreshed.subscribe("news").await;
    refreshed.refresh(&long).await.unwrap();
    let told = loop {
        let event = stream.next_event().await;
        if event.event != "ready" {
            break event;
        }
    };
    assert_eq!(told.event, "auth_expiring");
    stream.ended_within(PATIENCE).await;
    assert_eq!(left.closed().await.code(), Some(3005));
    assert!(began.elapsed() >= Duration::from_secs(2), "not before the grace is over: {:?}", began.elapsed());
    node.publish("news", json!("after")).await;
    assert_eq!(refreshed.next_publication().await.data, json!("after"));
    refreshed.close().await;
    unharmed(&node, &long).await;
}

/// A session that the node ends goes as soon as its client goes, not only when the time for parting is over.
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_goes_with_its_client() {
    let node = node().start().await;
    let token = token(&node);
    for _ in 0..5 {
        let mut raw = session(&node, &token).await;
        raw.write_frame(&Frame::text("{}")).await;
        assert_eq!(ending(&mut raw).await, Ok(3501));
    }
    let began = Instant::now();
    emptied(&node).await;
    // The time for parting is five seconds.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// Rows 79 and 83: without pongs a connection is given up, whether its client is mute or has vanished.
#[tokio::test(flavor = "multi_thread")]
async fn no_pong() {
    let node = node().set("client.ping_interval", "1s").set("client.pong_timeout", "300ms").start().await;
    let token = token(&node);
    let mut mute = Client::connect(node.websocket_url(), &token).await;
    mute.ignore_pings();
    mute.subscribe("news").await;
    let mut well = Client::connect(node.websocket_url(), &token).await;
    // Never read again, so not even the close frame is taken note of, and never closed by us until the end.
    let vanished = session(&node, &token).await;
    assert_eq!(mute.closed().await.code(), Some(3012));
    wait::until_async("the vanished one is given up", || async {
        (node.metric("fanway_connections", &[]).await == Some(1.0)).then_some(())
    })
    .await;
    // A pong that nobody asked for is a fault of the protocol.
    let mut unasked = session(&node, &token).await;
    unasked.write_frame(&Frame::text("{}")).await;
    assert_eq!(ending(&mut unasked).await, Ok(3501));
    well.subscribe("news").await;
    node.publish("news", json!(1)).await;
    assert_eq!(well.next_publication().await.data, json!(1));
    drop((vanished, well));
    unharmed(&node, &token).await;
}

/// Row 85: a client that does not read while its channel is busy is cut off, at a bounded cost, and others notice
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads() {
    const PUBLICATIONS: usize = 400;
    let node = node().set("client.write_stall", "1s").start().await;
    let token = token(&node);
    let mut well = Client::connect(node.websocket_url(), &token).await;
    well.subscribe("busy").await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect_narrow(node.websocket_url(), 4096).await;
        raw.handshake(&[]).await;
        raw.write_frame(&Frame::text(&json!({"id": 1, "connect": {"token": token}}).to_string())).await;
        raw.write_frame(&Frame::text(r#"{"id":2,"subscribe":{"channel":"busy"}}"#)).await;
        slow.push(raw);
    }
    wait::until_async("all are subscribed", || async {
        (node.metric("fanway_subscriptions", &[]).await == Some(21.0)).then_some(())
    })
    .await;
    let filler = "x".repeat(20_000);
    let before = node.rss();
    for n in 0..PUBLICATIONS {
        node.publish("busy", json!({"n": n, "filler": filler})).await;
        assert_eq!(well.next_publication().await.data["n"], n, "the others are served as ever");
    }
    // 8 MB were published to each of 20 clients.
    let grown = node.rss().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    wait::until_async("the slow ones are cut off", || async {
        let slow = [("transport", "websocket"), ("reason", "slow")];
        (node.metric("fanway_connections_closed_total", &slow).await == Some(20.0)).then_some(())
    })
    .await;
    assert_eq!(node.metric("fanway_connections", &[]).await, Some(1.0));
    assert_eq!(node.metric("fanway_outbox_bytes", &[]).await, Some(0.0));
    drop((slow, well));
    unharmed(&node, &token).await;
}
