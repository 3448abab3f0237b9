//! A small server of the protocols under load, which can be told to deliver wrongly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// What the first subscriber meets at publication number 3. All others are served well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mischief {
    None,
    /// It is left out.
    Lose,
    /// It comes twice.
    Repeat,
    /// It comes after the next one.
    Swap,
    /// The connection is closed instead.
    Close,
}

const AT: u64 = 3;

/// A publication's offset and data; `None` closes the connection.
type Item = Option<(u64, Value)>;

struct State {
    mischief: Mischief,
    offset: AtomicU64,
    subscribers: Mutex<Vec<mpsc::Sender<Item>>>,
    held_back: Mutex<Option<(u64, Value)>>,
}

/// Serves until dropped.
pub(crate) struct StandIn {
    pub(crate) url: String,
    _tasks: JoinSet<()>,
}

impl StandIn {
    pub(crate) async fn start(mischief: Mischief) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state =
            State { mischief, offset: AtomicU64::new(0), subscribers: Mutex::default(), held_back: Mutex::default() };
        let state = Arc::new(state);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, state.clone()));
            }
        });
        Self { url, _tasks: tasks }
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut peeked = [0; 2048];
    let length = stream.peek(&mut peeked).await.unwrap_or(0);
    let head = String::from_utf8_lossy(&peeked[..length]).into_owned();
    if head.starts_with("GET /connection/websocket") {
        websocket(stream, &state).await;
    } else if head.starts_with("GET /sub/") {
        plain(stream, &state).await;
    } else if head.starts_with("GET /sse?channel=") {
        let _ = stream.read(&mut peeked).await;
        sse(stream, &state).await;
    } else {
        while let Some(()) = api(&mut stream, &state).await {}
    }
}

async fn websocket(stream: TcpStream, state: &State) {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    let Some(Ok(frame)) = socket.next().await else { return };
    let commands: Vec<Value> =
        frame.to_text().unwrap().split('\n').map(|command| serde_json::from_str(command).unwrap()).collect();
    assert!(commands[0].get("connect").is_some());
    let channel = commands[1]["subscribe"]["channel"].clone();
    let replies = json!({"id": 1, "connect": {"client": "c", "version": "0", "ping": 25, "pong": true}}).to_string()
        + "\n"
        + &json!({"id": 2, "subscribe": {"recoverable": true}}).to_string();
    let mut publications = subscribe(state);
    // A ping that must be answered, right at the start.
    for text in [replies.as_str(), "{}"] {
        let _ = socket.send(Message::text(text)).await;
    }
    let Some(Ok(pong)) = socket.next().await else { return };
    assert_eq!(pong.to_text().unwrap(), "{}");
    while let Some(Some((offset, data))) = publications.recv().await {
        let push = json!({"push": {"channel": channel, "pub": {"data": data, "offset": offset}}});
        if socket.send(Message::text(push.to_string())).await.is_err() {
            return;
        }
    }
    let _ = socket.close(None).await;
}

async fn plain(stream: TcpStream, state: &State) {
    // Before the handshake is answered, as clients take that for the subscription.
    let mut publications = subscribe(state);
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    while let Some(Some((_, data))) = publications.recv().await {
        if socket.send(Message::text(data.to_string())).await.is_err() {
            return;
        }
    }
    let _ = socket.close(None).await;
}

async fn sse(mut stream: TcpStream, state: &State) {
    let mut publications = subscribe(state);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: ready\ndata: {\"cursor\":\"1~e.0\"}\nid: 1~e.0\n\n";
    let _ = stream.write_all(head.as_bytes()).await;
    while let Some(Some((offset, data))) = publications.recv().await {
        let event = json!({"channel": "c", "offset": offset, "epoch": "e", "data": data, "time": 1});
        if stream.write_all(format!("data: {event}\nid: 1~e.{offset}\n\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn subscribe(state: &State) -> mpsc::Receiver<Item> {
    let (sender, receiver) = mpsc::channel(1024);
    state.subscribers.lock().unwrap().push(sender);
    receiver
}

/// Answers one request; `None` at the end of the connection.
async fn api(stream: &mut TcpStream, state: &State) -> Option<()> {
    let mut bytes = Vec::new();
    let (head, mut body) = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            break (head.to_owned(), body.to_owned());
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let length =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        let mut more = Vec::new();
        stream.read_buf(&mut more).await.ok()?;
        body.push_str(&String::from_utf8_lossy(&more));
    }
    let (status, answer) = if head.starts_with("GET /metrics ") {
        ("200 OK", "process_cpu_seconds_total 1\nprocess_resident_memory_bytes 1048576\n".to_owned())
    } else if head.starts_with("POST /pub/") {
        let data: Value = serde_json::from_str(&body).unwrap();
        if data.get("run").is_some() {
            publish(state, data);
        }
        ("202 Accepted", String::new())
    } else if !head.contains("X-API-Key: key\r\n") && !head.ends_with("X-API-Key: key") {
        ("401 Unauthorized", json!({"error": {"code": 401, "message": "unauthorized"}}).to_string())
    } else {
        let body: Value = serde_json::from_str(&body).unwrap();
        let offset = if body["data"].get("run").is_some() { publish(state, body["data"].clone()) } else { 0 };
        ("200 OK", json!({"result": {"offset": offset, "epoch": "e"}}).to_string())
    };
    let response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
    stream.write_all(response.as_bytes()).await.ok()
}

fn publish(state: &State, data: Value) -> u64 {
    let offset = state.offset.fetch_add(1, Ordering::Relaxed) + 1;
    let publication = (offset, data);
    let due = publication.1["n"] == AT;
    for (index, subscriber) in state.subscribers.lock().unwrap().iter().enumerate() {
        let send = |publication| drop(subscriber.try_send(publication));
        match (index, state.mischief) {
            (0, Mischief::Lose) if due => {}
            (0, Mischief::Swap) if due => *state.held_back.lock().unwrap() = Some(publication.clone()),
            (0, Mischief::Close) if due => send(None),
            (0, Mischief::Repeat) if due => {
                send(Some(publication.clone()));
                send(Some(publication.clone()));
            }
            (0, _) => {
                send(Some(publication.clone()));
                state.held_back.lock().unwrap().take().into_iter().for_each(|held| send(Some(held)));
            }
            _ => send(Some(publication.clone())),
        }
    }
    offset
}
