//! A back end that publishes all the time, to one channel after the other, over a connection that it keeps: it stays on a
//! node until that tells it to go, and no answer of its may be lost then.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fanway_testkit::dial::{Target, dial};
use fanway_testkit::node::API_KEY;
use fanway_testkit::wait::PATIENCE;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{CHANNELS, channel};

/// Between two publications.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Publisher {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Shared {
    /// The node to publish on, when there is no connection.
    target: Mutex<Target>,
    /// Publications of each channel that were confirmed.
    published: Mutex<Vec<u64>>,
    /// How often a node said with an answer that it is to go.
    told: Mutex<usize>,
}

impl Shared {
    fn target(&self) -> Target {
        self.target.lock().unwrap().clone()
    }
}

impl Publisher {
    pub(crate) fn start(target: Target) -> Self {
        let published = Mutex::new(vec![0; CHANNELS]);
        let shared = Arc::new(Shared { target: Mutex::new(target), published, told: Mutex::default() });
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(shared.clone(), stop.clone()));
        Self { shared, stop, task }
    }

    /// Publishes on another node once the one that it publishes on tells it to go.
    pub(crate) fn turn_to(&self, target: Target) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// How many there are in each channel now.
    pub(crate) fn published(&self) -> Vec<u64> {
        self.shared.published.lock().unwrap().clone()
    }

    /// How often it was told to go so far.
    pub(crate) fn told(&self) -> usize {
        *self.shared.told.lock().unwrap()
    }

    /// Stops, and says how many there are in each channel.
    pub(crate) async fn stop(self) -> Vec<u64> {
        self.stop.cancel();
        self.task.await.unwrap();
        self.shared.published.lock().unwrap().clone()
    }
}

async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept: Option<Connection> = None;
    for number in (0..CHANNELS).cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        // Closed between two requests: nothing is lost, and it goes where it is to go.
        if let Some(connection) = &mut kept
            && connection.sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(shared.target()).await,
        };
        let offset = shared.published.lock().unwrap()[number] + 1;
        let publish = connection.publish(json!({ "channel": channel(number), "data": offset }));
        let (answer, last) = timeout(PATIENCE, publish).await.expect("it is answered");
        assert_eq!(answer["result"]["offset"], offset, "{answer}");
        shared.published.lock().unwrap()[number] = offset;
        if last {
            *shared.told.lock().unwrap() += 1;
        } else {
            kept = Some(connection);
        }
    }
}

/// A connection for one request after the other.
struct Connection {
    target: Target,
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    async fn open(target: Target) -> Self {
        let stream = dial(&target, &["http/1.1"]).await.expect("a node that serves is reached");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        // How it ends is seen by who sends.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Self { target, sender, _driver: AbortOnDropHandle::new(driver) }
    }

    /// Publishes. Returns the answer, and whether it was the last one on this connection.
    async fn publish(&mut self, body: Value) -> (Value, bool) {
        let request = Request::post(self.target.path())
            .header(header::HOST, self.target.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-api-key", API_KEY)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let answer = self.sender.send_request(request).await.expect("no answer is lost");
        let last = answer.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        let body = answer.into_body().collect().await.expect("the answer is whole").to_bytes();
        (serde_json::from_slice(&body).unwrap(), last)
    }
}
