//! Clients that come back by themselves, to any node, from where they were, as SDKs and browsers do. They check that
//! nothing is lost, doubled or out of order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanway_testkit::dial::Target;
use fanway_testkit::node::Node;
use fanway_testkit::{sse, websocket};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clients::{Stand, Transport};
use super::{PATIENCE, token};

/// The channel of all followers. What is published there is its own offset.
const CHANNEL: &str = "news";
/// Longest wait before a client comes back, if it is not told another time.
const COMES_BACK: Duration = Duration::from_millis(300);

/// Load balancer that sends clients to one node after the other.
#[derive(Clone, Default)]
pub(crate) struct Balancer {
    nodes: Arc<Mutex<Vec<(Target, Target)>>>,
    next: Arc<AtomicUsize>,
}

impl Balancer {
    pub(crate) fn add(&self, node: &Node) {
        let target = node.url("/sse").with_query(&format!("channel={CHANNEL}"));
        self.nodes.lock().unwrap().push((node.websocket_url(), target));
    }

    /// The node of this number, or the next one. Not one at random: fleets would then get even by chance only.
    fn choose(&self, number: Option<usize>) -> (Target, Target) {
        let nodes = self.nodes.lock().unwrap();
        let number = number.unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed));
        nodes[number % nodes.len()].clone()
    }
}

/// One time that a connection was closed by its node.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) transport: Transport,
    pub(crate) at: Instant,
    /// Of a WebSocket.
    pub(crate) code: Option<u16>,
    /// Of an event stream: in how many milliseconds to come back.
    pub(crate) retry: Option<u64>,
}

/// All followers of a test, and the publisher.
pub(crate) struct Crowd {
    pub(crate) balancer: Balancer,
    token: String,
    clients: JoinSet<u64>,
    publisher: JoinSet<u64>,
    closed: Arc<Mutex<Vec<Closed>>>,
    /// Set at the end: the offset of the last publication.
    last: watch::Sender<Option<u64>>,
    /// How many clients have joined for the first time.
    joined: Arc<watch::Sender<usize>>,
    stop: Arc<watch::Sender<bool>>,
}

impl Crowd {
    /// Begins to publish through a node, so many times a second.
    pub(crate) fn new(node: &Node, rate: u32) -> Self {
        let (publish, key) = (node.url("/api/publish"), fanway_testkit::node::API_KEY);
        let stop = Arc::new(watch::Sender::new(false));
        let mut publisher = JoinSet::new();
        let stopped = stop.subscribe();
        publisher.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            let mut last = 0;
            while !*stopped.borrow() {
                ticks.tick().await;
                let body = json!({"channel": CHANNEL, "data": last + 1});
                let answer = fanway_testkit::http::post_json(publish.clone(), &[("x-api-key", key)], &body).await;
                last = answer.json()["result"]["offset"].as_u64().unwrap();
            }
            last
        });
        Self {
            balancer: Balancer::default(),
            token: token(node),
            clients: JoinSet::new(),
            publisher,
            closed: Arc::default(),
            last: watch::Sender::new(None),
            joined: Arc::new(watch::Sender::new(0)),
            stop,
        }
    }

    /// More clients, spread evenly over the nodes that there are; returns when all have joined.
    pub(crate) async fn join(&mut self, transport: Transport, count: usize) {
        let all = *self.joined.borrow() + count;
        for number in 0..count {
            let follower = Follower {
                transport,
                balancer: self.balancer.clone(),
                token: self.token.clone(),
                stand: None,
                closed: self.closed.clone(),
                last: self.last.subscribe(),
            };
            let joined = self.joined.clone();
            self.clients.spawn(follower.follow(number, joined));
        }
        let mut joined = self.joined.subscribe();
        let waited = tokio::time::timeout(PATIENCE * 3, joined.wait_for(|joined| *joined >= all)).await;
        waited.expect("all join").unwrap();
    }

    /// What was closed so far.
    pub(crate) fn closed(&self) -> Vec<Closed> {
        self.closed.lock().unwrap().clone()
    }

    /// Ends publishing; every client must come to the last publication, and have had each before it once.
    pub(crate) async fn all_have_everything(mut self) -> u64 {
        self.stop.send_replace(true);
        let last = self.publisher.join_next().await.unwrap().unwrap();
        self.last.send_replace(Some(last));
        let everything = async {
            while let Some(received) = self.clients.join_next().await {
                assert_eq!(received.expect("a client fails"), last);
            }
        };
        tokio::time::timeout(PATIENCE * 3, everything).await.expect("every client comes to the last publication");
        last
    }
}

struct Follower {
    transport: Transport,
    balancer: Balancer,
    token: String,
    stand: Option<Stand>,
    closed: Arc<Mutex<Vec<Closed>>>,
    last: watch::Receiver<Option<u64>>,
}

impl Follower {
    /// Follows until the end. Returns the offset of the last publication that it had.
    async fn follow(mut self, number: usize, joined: Arc<watch::Sender<usize>>) -> u64 {
        let mut first = Some(number);
        loop {
            let (websocket, events) = self.balancer.choose(first);
            let arrived = || {
                if first.is_some() {
                    joined.send_modify(|joined| *joined += 1);
                }
            };
            let end = match self.transport {
                Transport::WebSocket => self.socket(websocket, arrived).await,
                Transport::Sse => self.stream(events, arrived).await,
                Transport::Poll => unreachable!("polls choose a node each time"),
            };
            first = None;
            let Some(closed) = end else { return self.offset() };
            self.closed.lock().unwrap().push(closed);
            tokio::time::sleep(COMES_BACK.mul_f64(rand::random())).await;
        }
    }

    fn offset(&self) -> u64 {
        self.stand.as_ref().map_or(0, |stand| stand.offset)
    }

    fn done(&self) -> bool {
        self.last.borrow().is_some_and(|last| self.offset() >= last)
    }

    /// Takes the next publication, which must be the next.
    fn take(&mut self, offset: u64, data: &Value) {
        let stand = self.stand.as_mut().unwrap();
        assert_eq!((offset, data), (stand.offset + 1, &json!(offset)), "the next publication");
        stand.offset = offset;
    }

    fn was_closed(&self, code: Option<u16>, retry: Option<u64>) -> Option<Closed> {
        Some(Closed { transport: self.transport, at: Instant::now(), code, retry })
    }

    /// `None` at the end, or how the node closed the connection.
    async fn socket(&mut self, target: Target, arrived: impl Fn()) -> Option<Closed> {
        let mut socket = websocket::Client::open(target).await;
        let closed = async |socket: &mut websocket::Client| socket.closed().await.code();
        if socket.try_command(json!({"connect": {"token": self.token}})).await.is_err() {
            return self.was_closed(closed(&mut socket).await, None);
        }
        let subscribe = match &self.stand {
            None => json!({"subscribe": {"channel": CHANNEL}}),
            Some(Stand { epoch, offset }) => {
                json!({"subscribe": {"channel": CHANNEL, "recover": true, "epoch": epoch, "offset": offset}})
            }
        };
        let Ok(reply) = socket.try_command(subscribe).await else {
            return self.was_closed(closed(&mut socket).await, None);
        };
        let subscribed = &reply["subscribe"];
        if self.stand.is_some() {
            assert_eq!(subscribed["recovered"], true, "{reply}");
        } else {
            let epoch = subscribed["epoch"].as_str().unwrap().to_owned();
            self.stand = Some(Stand { epoch, offset: subscribed["offset"].as_u64().unwrap_or(0) });
        }
        for publication in subscribed["publications"].as_array().into_iter().flatten() {
            self.take(publication["offset"].as_u64().unwrap(), &publication["data"]);
        }
        arrived();
        while !self.done() {
            // Looks up now and then, to see the end.
            match socket.next_push_within(Duration::from_millis(200)).await {
                Some(websocket::Push::Publication(publication)) => self.take(publication.offset, &publication.data),
                Some(other) => panic!("{other:?}"),
                None => {
                    if let Some(end) = socket.closed_within(Duration::ZERO).await {
                        return self.was_closed(end.code(), None);
                    }
                }
            }
        }
        None
    }

    async fn stream(&mut self, target: Target, arrived: impl Fn()) -> Option<Closed> {
        let mut request = sse::Request::to(target).bearer(&self.token);
        if let Some(stand) = &self.stand {
            request = request.last_event_id(&stand.cursor(CHANNEL));
        }
        let mut stream = request.send().await.unwrap();
        let mut arrived = Some(arrived);
        while !self.done() {
            match stream.next_event_within(Duration::from_millis(200)).await {
                Ok(event) if event.event == "ready" => {
                    if self.stand.is_none() {
                        let ready: Value = event.json();
                        self.stand = Some(Stand::of_cursor(ready["cursor"].as_str().unwrap()));
                    }
                    arrived.take().unwrap()();
                }
                Ok(event) => {
                    assert_eq!(event.event, "message", "{event:?}");
                    let heard: Value = event.json();
                    self.take(heard["offset"].as_u64().unwrap(), &heard["data"]);
                }
                Err(sse::Silence::TimedOut) => {}
                Err(sse::Silence::Ended) => return self.was_closed(None, stream.retry()),
                Err(broken) => panic!("{broken:?}"),
            }
        }
        None
    }
}
