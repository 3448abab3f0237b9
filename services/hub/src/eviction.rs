//! Bound on the bytes of all rings of a node.
//!
//! Each ring has a bound of its own, but a node may have very many. When a publication takes all of them together beyond
//! the node's bound, the oldest entries of every ring go, in rounds, until three quarters of it are left: first those of
//! channels with a log, whose subscribers catch up from there if they are behind, then all. That is not done by whoever
//! publishes: it looks at every channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::sync::Notify;

use crate::channel::LocalChannel;
use crate::hub::Hub;

/// Time between two evictions, as each looks at all channels.
const PAUSE: Duration = Duration::from_millis(100);

/// A round of an eviction: entries older than `age` go.
struct Round {
    age: Duration,
    /// Entries without a position too: no log has them.
    all: bool,
}

/// From what nobody who keeps up needs to what somebody does.
const ROUNDS: [Round; 5] = [
    Round { age: Duration::from_secs(5), all: true },
    Round { age: Duration::from_millis(500), all: false },
    Round { age: Duration::from_millis(500), all: true },
    Round { age: Duration::ZERO, all: false },
    Round { age: Duration::ZERO, all: true },
];

/// Bytes of all rings, and their bound.
#[derive(Debug)]
pub(crate) struct RingBudget {
    held: IntGauge,
    limit: i64,
    exceeded: Notify,
}

impl RingBudget {
    pub(crate) fn new(held: IntGauge, limit: u64) -> Arc<Self> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Arc::new(Self { held, limit, exceeded: Notify::new() })
    }

    /// The bytes of a ring have changed.
    pub(crate) fn changed(&self, bytes: isize) {
        self.held.add(bytes as i64);
        if self.held.get() > self.limit {
            self.exceeded.notify_one();
        }
    }

    /// Whether enough is free for a while.
    fn relieved(&self) -> bool {
        self.held.get() <= self.limit / 4 * 3
    }
}

impl Hub {
    /// Keeps all rings together within their bound.
    pub(crate) async fn evict(self: Arc<Self>) {
        loop {
            self.rings.exceeded.notified().await;
            let channels = self.all();
            for Round { age, all } in ROUNDS {
                evict_older(&channels, age, all);
                if self.rings.relieved() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(channels);
            self.metrics.ring_evictions_total.inc();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn evict_older(channels: &[Arc<LocalChannel>], age: Duration, all: bool) {
    let Some(before) = Instant::now().checked_sub(age) else { return };
    channels.iter().for_each(|local| local.evict(before, all));
}
