//! Clients that read what they are sent.

use std::time::{Duration, Instant};

use fanway_testkit::node::Node;
use fanway_testkit::poll::{self, Answer};
use fanway_testkit::sse;
use fanway_testkit::token::Claims;
use fanway_testkit::websocket::Client;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::attack::Backlog;

/// Polls once, at once.
pub(crate) async fn poll(node: &Node, token: &str, channels: &[&str], cursor: Option<&str>) -> Answer {
    let header = format!("Bearer {token}");
    let headers = [("authorization", header.as_str())];
    let answer = poll::try_poll(node.url("/poll"), channels, cursor, Duration::ZERO, &headers).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_value(answer.json()).unwrap()
}

/// A WebSocket and an event stream that follow a channel, and somebody who publishes to it.
pub(crate) struct Watchers {
    end: oneshot::Sender<()>,
    task: JoinHandle<Duration>,
}

impl Watchers {
    pub(crate) async fn start(node: &Node) -> Self {
        let token = node.token(&Claims::user("ann"));
        let mut socket = Client::connect(node.websocket_url(), &token).await;
        socket.subscribe("good").await;
        let request = sse::Request::to(node.url("/sse?channel=good")).bearer(&token);
        let mut stream = request.send().await.unwrap_or_else(|refused| panic!("{}", refused.text()));
        assert_eq!(stream.next_event().await.event, "ready");
        let (end, mut ended) = oneshot::channel();
        let (api, key) = (node.url("/api/publish"), fanway_testkit::node::API_KEY);
        let task = tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            let mut n = 0;
            while ended.try_recv().is_err() {
                n += 1;
                let began = Instant::now();
                let body = json!({"channel": "good", "data": n});
                let answer = fanway_testkit::http::post_json(api.clone(), &[("x-api-key", key)], &body).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(socket.next_publication().await.data, n);
                assert_eq!(stream.next_publication().await.data, n);
                slowest = slowest.max(began.elapsed());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            slowest
        });
        Self { end, task }
    }

    /// Ends, and returns how long the slowest publication took.
    pub(crate) async fn stop(self) -> Duration {
        let _ = self.end.send(());
        self.task.await.unwrap()
    }
}

/// Resumes an event stream and a WebSocket of the first so many channels from the beginning and reads to the end.
pub(crate) async fn read_everything(node: &Node, backlog: &Backlog, count: usize) {
    let token = node.token(&Claims::user("bob"));
    let query: String = backlog.names()[..count].iter().map(|name| format!("channel={name}&")).collect();
    let request = sse::Request::to(node.url(&format!("/sse?{query}"))).bearer(&token);
    let request = request.last_event_id(&backlog.beginning_of(count));
    let mut stream = request.send().await.unwrap_or_else(|refused| panic!("{}", refused.text()));
    assert_eq!(stream.next_event().await.event, "ready");
    let mut offsets = vec![0; count];
    while offsets.iter().any(|offset| *offset < backlog.last) {
        let publication = stream.next_publication().await;
        let channel = backlog.names().iter().position(|name| *name == publication.channel).unwrap();
        offsets[channel] += 1;
        assert_eq!(publication.offset, Some(offsets[channel]));
    }
    let mut socket = Client::connect(node.websocket_url(), &token).await;
    for (name, epoch) in &backlog.channels[..count] {
        let subscribed = socket.subscribe_recover(name, epoch, 0).await;
        assert!(subscribed.recovered);
        let mut offsets: Vec<u64> = subscribed.publications.iter().map(|publication| publication.offset).collect();
        while offsets.last().is_none_or(|offset| *offset < backlog.last) {
            offsets.push(socket.next_publication().await.offset);
        }
        assert_eq!(offsets, (1..=backlog.last).collect::<Vec<_>>());
    }
}
