//! Clients over all transports that come back where they are sent away, and check what they receive.
//!
//! A client ends the test if anything is lost, doubled, out of order, refused, or broken off without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanway_testkit::node::SECRET;
use fanway_testkit::token::{Claims, mint};
use fanway_testkit::websocket::{Push, Subscribed};
use fanway_testkit::{cursor, poll, sse, wait, websocket};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::publisher::Publisher;
use super::{CHANNELS, channel};

/// Clients on their way in at once, at first.
const AT_ONCE: usize = 64;
/// A client that hears nothing for so long looks again.
const QUIET: Duration = Duration::from_secs(30);
/// How long a poll waits.
const POLL: Duration = Duration::from_secs(20);

/// Where a client stands in its channel.
#[derive(Default)]
struct Stand {
    offset: AtomicU64,
    /// Connects, the first one included.
    connects: AtomicU64,
}

pub(crate) struct Crowd {
    stands: Vec<Arc<Stand>>,
    tasks: JoinSet<()>,
}

/// One client.
struct Client {
    number: usize,
    /// Where the load balancer is.
    address: String,
    token: String,
    stand: Arc<Stand>,
    epoch: String,
    door: Arc<Semaphore>,
}

impl Crowd {
    /// Connects so many clients over WebSocket, server-sent events and polling.
    pub(crate) async fn open(port: u16, counts: [usize; 3]) -> Self {
        let door = Arc::new(Semaphore::new(AT_ONCE));
        let mut crowd = Self { stands: Vec::new(), tasks: JoinSet::new() };
        let transports = counts.into_iter().enumerate().flat_map(|(at, count)| std::iter::repeat_n(at, count));
        for (number, transport) in transports.enumerate() {
            let stand = Arc::new(Stand::default());
            crowd.stands.push(stand.clone());
            let address = format!("127.0.0.1:{port}");
            // Many people, with one connection each.
            let (token, door) = (mint(SECRET, &Claims::user(&format!("user-{number}"))), door.clone());
            let client = Client { number, address, token, stand, epoch: String::new(), door };
            match transport {
                0 => crowd.tasks.spawn(client.over_websocket()),
                1 => crowd.tasks.spawn(client.over_events()),
                _ => crowd.tasks.spawn(client.over_polls()),
            };
        }
        let joined = |stand: &Arc<Stand>| stand.connects.load(Ordering::SeqCst) > 0;
        wait::within(Duration::from_secs(60), "all are connected", async || {
            crowd.stands.iter().all(joined).then_some(())
        })
        .await;
        crowd
    }

    /// Waits until everybody has everything that is published by now.
    pub(crate) async fn catch_up(&self, publisher: &Publisher) {
        self.reach(&publisher.published()).await;
    }

    /// Waits until everybody has everything; nobody may have more. Returns how often clients came back.
    pub(crate) async fn finish(mut self, published: &[u64]) -> u64 {
        self.reach(published).await;
        for (number, stand) in self.stands.iter().enumerate() {
            assert_eq!(stand.offset.load(Ordering::SeqCst), published[number % CHANNELS], "client {number}");
        }
        while let Some(ended) = self.tasks.try_join_next() {
            ended.unwrap();
        }
        assert_eq!(self.tasks.len(), self.stands.len(), "a client has given up");
        self.stands.iter().map(|stand| stand.connects.load(Ordering::SeqCst) - 1).sum()
    }

    async fn reach(&self, published: &[u64]) {
        wait::until("everybody has everything", || {
            let behind = |(number, stand): (usize, &Arc<Stand>)| {
                stand.offset.load(Ordering::SeqCst) < published[number % CHANNELS]
            };
            (!self.stands.iter().enumerate().any(behind)).then_some(())
        })
        .await;
    }
}

impl Client {
    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    fn channel(&self) -> String {
        channel(self.number)
    }

    fn offset(&self) -> u64 {
        self.stand.offset.load(Ordering::SeqCst)
    }

    fn cursor(&self) -> Option<String> {
        (!self.epoch.is_empty()).then(|| cursor::write(&[(&self.channel(), &self.epoch, self.offset())]))
    }

    /// Takes the cursor of a stream that opens: where it was left, or anywhere the first time.
    fn stands_at(&mut self, cursor: &str) {
        let (epoch, offset) = cursor::read(cursor).remove(0);
        if self.epoch.is_empty() {
            self.epoch.clone_from(&epoch);
            self.stand.offset.store(offset, Ordering::SeqCst);
        }
        assert_eq!(
            (epoch.as_str(), offset),
            (self.epoch.as_str(), self.offset()),
            "client {} goes on where it was",
            self.number
        );
    }

    fn receive(&self, offset: u64, data: &Value) {
        let expected = self.offset() + 1;
        assert_eq!((offset, data), (expected, &json!(expected)), "client {} in {}", self.number, self.channel());
        self.stand.offset.store(offset, Ordering::SeqCst);
    }

    fn connected(&self) {
        self.stand.connects.fetch_add(1, Ordering::SeqCst);
    }

    async fn over_websocket(mut self) {
        loop {
            let permit = self.door.clone().acquire_owned().await.unwrap();
            let mut socket = websocket::Client::open(self.url("ws", "/connection/websocket")).await;
            if self.join(&mut socket).await {
                self.connected();
                drop(permit);
                self.listen(&mut socket).await;
            }
            let closed = socket.closed().await;
            assert_eq!(closed.code(), Some(3001), "client {}: {closed:?}", self.number);
        }
    }

    /// Connects and subscribes. False if the node closes meanwhile.
    async fn join(&mut self, socket: &mut websocket::Client) -> bool {
        let connect = json!({ "connect": { "token": self.token } });
        let mut subscribe = json!({ "channel": self.channel(), "flag": 1 });
        if !self.epoch.is_empty() {
            subscribe["recover"] = true.into();
            subscribe["epoch"] = self.epoch.as_str().into();
            subscribe["offset"] = self.offset().into();
        }
        let Ok(reply) = socket.try_command(connect).await else { return false };
        assert!(reply.get("connect").is_some(), "{reply}");
        let Ok(mut reply) = socket.try_command(json!({ "subscribe": subscribe })).await else { return false };
        let subscribed: Subscribed = serde_json::from_value(reply["subscribe"].take()).unwrap();
        if self.epoch.is_empty() {
            self.epoch = subscribed.epoch;
            self.stand.offset.store(subscribed.offset, Ordering::SeqCst);
            return true;
        }
        assert!(subscribed.recovered && subscribed.epoch == self.epoch, "client {} lost its place", self.number);
        subscribed.publications.iter().for_each(|publication| self.receive(publication.offset, &publication.data));
        true
    }

    /// Listens until the connection ends.
    async fn listen(&self, socket: &mut websocket::Client) {
        loop {
            match socket.next_push_within(QUIET).await {
                Some(Push::Publication(publication)) => self.receive(publication.offset, &publication.data),
                Some(other) => panic!("client {}: {other:?}", self.number),
                None if socket.closed_within(Duration::ZERO).await.is_some() => return,
                None => {}
            }
        }
    }

    async fn over_events(mut self) {
        loop {
            let permit = self.door.clone().acquire_owned().await.unwrap();
            let url = self.url("http", &format!("/sse?channel={}", self.channel()));
            let mut request = sse::Request::to(url).bearer(&self.token);
            if let Some(cursor) = self.cursor() {
                request = request.last_event_id(&cursor);
            }
            let opened = request.send().await;
            let mut stream = opened.unwrap_or_else(|refused| panic!("client {}: {}", self.number, refused.text()));
            let mut permit = Some(permit);
            let end = loop {
                match stream.next_event_within(QUIET).await {
                    Ok(event) if event.event == "ready" => {
                        let opened: Value = event.json();
                        self.stands_at(opened["cursor"].as_str().unwrap());
                        self.connected();
                        permit = None;
                    }
                    Ok(event) if event.event == "message" => {
                        let publication: poll::Publication = event.json();
                        self.receive(publication.offset.unwrap(), &publication.data);
                    }
                    Ok(other) => panic!("client {}: {other:?}", self.number),
                    Err(sse::Silence::TimedOut) => {}
                    Err(end) => break end,
                }
            };
            drop(permit);
            assert_eq!(end, sse::Silence::Ended, "client {}", self.number);
            // As an `EventSource` does.
            tokio::time::sleep(Duration::from_millis(stream.retry().expect("told when to come back"))).await;
        }
    }

    async fn over_polls(mut self) {
        let bearer = format!("Bearer {}", self.token);
        loop {
            let (url, channel) = (self.url("http", "/poll"), self.channel());
            let cursor = self.cursor();
            let headers = [("authorization", bearer.as_str())];
            let answer = poll::try_poll(url, &[&channel], cursor.as_deref(), POLL, &headers).await;
            let answer = answer.unwrap_or_else(|failure| panic!("client {}: {failure:?}", self.number));
            assert_eq!(answer.status, 200, "client {}: {}", self.number, answer.text());
            let (body, retry) = (answer.json(), answer.json()["retry"].as_u64());
            let answer: poll::Answer = serde_json::from_value(body).unwrap();
            assert!(answer.gaps.is_empty(), "client {}: {:?}", self.number, answer.gaps);
            for publication in &answer.publications {
                self.receive(publication.offset.unwrap(), &publication.data);
            }
            self.stands_at(&answer.cursor);
            self.connected();
            if let Some(retry) = retry {
                tokio::time::sleep(Duration::from_millis(retry)).await;
            }
        }
    }
}
