//! A back end that publishes all the time, to one channel after the other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanway_testkit::dial::Target;
use fanway_testkit::http;
use fanway_testkit::node::API_KEY;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{CHANNELS, channel};

/// Between two publications.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Publisher {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Shared {
    /// The node to publish on.
    target: Mutex<Target>,
    /// Publications of each channel that were confirmed.
    published: Mutex<Vec<u64>>,
}

impl Publisher {
    pub(crate) fn start(target: Target) -> Self {
        let shared = Arc::new(Shared { target: Mutex::new(target), published: Mutex::new(vec![0; CHANNELS]) });
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(shared.clone(), stop.clone()));
        Self { shared, stop, task }
    }

    /// Publishes on another node from now on.
    pub(crate) fn turn_to(&self, target: Target) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// How many there are in each channel now.
    pub(crate) fn published(&self) -> Vec<u64> {
        self.shared.published.lock().unwrap().clone()
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
    for number in (0..CHANNELS).cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let target = shared.target.lock().unwrap().clone();
        let offset = shared.published.lock().unwrap()[number] + 1;
        let body = json!({ "channel": channel(number), "data": offset });
        let answer = http::post_json(target, &[("x-api-key", API_KEY)], &body).await;
        assert_eq!(answer.json()["result"]["offset"], offset, "{}", answer.text());
        shared.published.lock().unwrap()[number] = offset;
    }
}
