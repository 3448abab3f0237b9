//! The client against small servers of the test's own.

use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;

type Server = WebSocketStream<TcpStream>;

/// Serves one connection with a script, beside the test.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    script: impl FnOnce(Server) -> F + Send + 'static,
) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/connection/websocket", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        script(accept_async(stream).await.unwrap()).await;
    });
    (url, tasks)
}

async fn receive(server: &mut Server) -> Value {
    serde_json::from_str(server.next().await.unwrap().unwrap().to_text().unwrap()).unwrap()
}

async fn say(server: &mut Server, text: &str) {
    server.send(Message::text(text)).await.unwrap();
}

#[tokio::test]
async fn replies_and_pushes_find_their_way_and_keep_their_order() {
    let (url, mut tasks) = serve(async |mut server: Server| {
        assert_eq!(receive(&mut server).await["connect"]["token"], "t");
        say(&mut server, r#"{"id":1,"connect":{"client":"c","version":"1","ping":25,"pong":true}}"#).await;
        assert_eq!(receive(&mut server).await, json!({"id": 2, "subscribe": {"channel": "news", "flag": 1}}));
        // A push before the reply, and two messages in one frame after it.
        say(&mut server, r#"{"push":{"channel":"other","pub":{"data":0}}}"#).await;
        say(
            &mut server,
            "{\"id\":2,\"subscribe\":{\"recoverable\":true,\"epoch\":\"e\",\"offset\":7}}\n{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":{\"a\":1},\"offset\":8}}}",
        )
        .await;
        assert_eq!(receive(&mut server).await["publish"]["data"], json!([1]));
        say(&mut server, r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#).await;
        say(&mut server, r#"{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#).await;
        let frame = CloseFrame { code: 3001.into(), reason: "shutdown".into() };
        server.close(Some(frame)).await.unwrap();
        while server.next().await.is_some() {}
    })
    .await;
    let mut client = Client::connect(url.as_str(), "t").await;
    let subscribed = client.subscribe("news").await;
    assert_eq!((subscribed.epoch.as_str(), subscribed.offset, subscribed.recovered), ("e", 7, false));
    assert_eq!(client.publish("news", json!([1])).await.unwrap_err().code, 103);
    assert_eq!(client.next_publication().await.channel, "other");
    let publication = client.next_publication().await;
    assert_eq!((publication.channel.as_str(), publication.offset, publication.data), ("news", 8, json!({"a": 1})));
    assert!(matches!(client.next_push().await, Push::Unsubscribe { code: 2500, .. }));
    assert_eq!(client.closed().await, Closed::Frame { code: 3001, reason: "shutdown".to_owned() });
    assert_eq!(client.next_push_within(PATIENCE).await, None);
    assert_eq!(client.try_command(json!({"history": {}})).await.unwrap_err().code(), Some(3001));
    assert_eq!(client.frames().len(), 5);
    assert_eq!(client.messages()[2]["id"], 2);
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn pings_are_answered_while_the_test_waits_for_something_else() {
    let (url, mut tasks) = serve(async |mut server: Server| {
        for _ in 0..3 {
            say(&mut server, "{}").await;
            assert_eq!(receive(&mut server).await, json!({}));
        }
        drop(server);
    })
    .await;
    let mut client = Client::open(url.as_str()).await;
    tasks.join_next().await.unwrap().unwrap();
    assert!(matches!(client.closed().await, Closed::Broken(_)));
}

#[tokio::test]
async fn a_refused_handshake_is_a_response() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        assert!(String::from_utf8_lossy(&head[..length]).to_lowercase().contains("origin: https://evil.example\r\n"));
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    });
    let refused = Client::try_open(url.as_str(), &[("origin", "https://evil.example")]).await.err().unwrap();
    assert_eq!(refused.status, 403);
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn raw_frames_and_slow_reading() {
    let (url, mut tasks) = serve(async |mut server: Server| {
        assert_eq!(receive(&mut server).await, json!({"id": 1}));
        say(&mut server, "{}").await;
        let frame = CloseFrame { code: 3501.into(), reason: "bad request".into() };
        server.close(Some(frame)).await.unwrap();
        while server.next().await.is_some_and(|message| message.is_ok()) {}
    })
    .await;
    let mut raw = Raw::open(url.as_str()).await;
    for fragment in [Frame::text("{\"id\"").unfinished(), Frame::new(Frame::CONTINUATION, ":1}")] {
        raw.write_frame(&fragment).await;
    }
    for _ in 0..4 {
        raw.sip(PATIENCE).await.unwrap();
    }
    assert_eq!(raw.read_frame().await, Incoming::Frame(Frame::text("{}").unmasked()));
    assert_eq!(raw.read_frame().await.close(), Some((3501, "bad request".to_owned())));
    drop(raw);
    tasks.join_next().await.unwrap().unwrap();
}
