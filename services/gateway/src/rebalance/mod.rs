//! Connections that come to new nodes: nodes tell each other how many they have, and who has many more gives some away.
//!
//! A node that joins gets only new connections; the old ones stay where they are, for days. So each node announces itself
//! to the fleet every few seconds ([`fanway_protocol::Heartbeat`]), and one far above the average closes its oldest
//! connections, with advice to come back, until it is near the average ([`shedding`]). Heartbeats also announce the
//! newest envelope that a node reads; the lowest of the fleet limits what this node writes. What is known of the others, and
//! whether it can be trusted, is in [`fleet`]; both are tested together in `simulation`. Besides, connections may be given
//! a greatest age ([`RebalanceSettings::max_connection_age`]), which the sessions look at themselves.
//!
//! Concurrency: one task, which tells and listens side by side. It holds no lock.

mod fleet;
mod settings;
mod shedding;
#[cfg(test)]
mod simulation;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::{AnyBroker, Broker};
use fanway_hub::handle::Handle;
use fanway_hub::{CloseReason, Hub};
use fanway_protocol::{Heartbeat, envelope};
use prometheus::IntGauge;
use tokio::sync::watch;

use self::fleet::{Doubt, Fleet};
use self::shedding::Shedder;
use crate::health::Stage;

pub use self::settings::RebalanceSettings;

/// How often it is decided how many connections to close: so closes are spread evenly.
const STEP: Duration = Duration::from_millis(100);
/// Connections are looked for in batches, of as many as are closed in so many steps: finding the oldest is a walk over all
/// of them, which holds up whatever else runs on this thread.
const BATCH_STEPS: usize = 10;
/// The smallest batch.
const BATCH: usize = 256;
/// For metrics: closing connections did not help.
const RESTING: &str = "resting";

fanway_broker::metrics! {
    /// What a node knows of its fleet.
    pub struct FleetMetrics {
        /// Nodes of the fleet that were heard of lately, this one included.
        fleet_nodes: IntGauge,
        /// Connections of a node on average, over the nodes of the fleet that are not draining. Polls and streams over HTTP/2 are not counted.
        fleet_connections_average: Gauge,
        /// 1 while this node closes connections because others have fewer, else 0.
        shedding: IntGauge,
        /// 1 for the reason why this node would close none now even if others have fewer, else 0.
        shedding_held: IntGaugeVec["reason"],
    }
}

/// What the task works with.
pub struct Rebalance {
    /// The way to the other nodes.
    pub broker: Arc<AnyBroker>,
    /// Whose connections they are.
    pub hub: Arc<Hub>,
    /// How much, how fast.
    pub settings: RebalanceSettings,
    /// This node's name, different for every start.
    pub node: String,
    /// Most connections of clients.
    pub limit: usize,
    /// How many of them there are, whatever they speak: more than could go elsewhere.
    pub sockets_open: IntGauge,
    /// Whether the node is leaving.
    pub stage: watch::Receiver<Stage>,
    /// Where to show it.
    pub metrics: FleetMetrics,
}

impl Rebalance {
    /// Tells, listens and sheds, until it is dropped.
    pub async fn run(self) {
        tokio::join!(self.tell(), self.listen());
    }

    /// Connections that could go elsewhere.
    fn mine(&self) -> u32 {
        u32::try_from(self.hub.movable()).unwrap_or(u32::MAX)
    }

    fn leaving(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    /// Tells the others, every interval and as soon as the node begins to leave.
    async fn tell(&self) {
        let mut stage = self.stage.clone();
        // Before the first contact there is nobody to tell, and no failure to count.
        while !self.broker.health().started {
            tokio::time::sleep(STEP).await;
        }
        loop {
            let open = usize::try_from(self.sockets_open.get()).unwrap_or_default();
            let heartbeat = Heartbeat {
                node: self.node.clone(),
                connections: self.mine(),
                limit: u32::try_from(self.limit).unwrap_or(u32::MAX),
                free: u32::try_from(self.limit.saturating_sub(open)).unwrap_or(u32::MAX),
                draining: self.leaving(),
                envelope: envelope::NEWEST.into(),
            };
            if let Err(error) = self.broker.announce(&heartbeat.encode()).await {
                tracing::debug!(%error, "the other nodes were not told");
            }
            // Not in step with the others.
            let pause = self.settings.heartbeat_interval.mul_f64(0.9 + 0.2 * rand::random::<f64>());
            // The sender lives as long as the node; without it there is nothing to hear of.
            let changed = async {
                if stage.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changed => {}
            }
        }
    }

    /// Hears the others, and gives connections away where this node has too many.
    async fn listen(&self) {
        let mut fleet = Fleet::new(self.node.clone(), self.settings.heartbeat_interval, self.settings.settle_time);
        let mut shedder = Shedder::new(self.settings.clone());
        let mut oldest = VecDeque::new();
        let mut steps = tokio::time::interval(STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = self.broker.announcements() => {
                    let now = Instant::now();
                    for message in heard {
                        match Heartbeat::decode(&message) {
                            Ok(Some(heartbeat)) => fleet.hear(heartbeat, now),
                            Ok(None) => {}
                            Err(error) => {
                                tracing::debug!(%error, "a node was not understood");
                                fleet.hear_unreadable(now);
                            }
                        }
                    }
                }
                _ = steps.tick() => self.step(&mut fleet, &mut shedder, &mut oldest),
            }
        }
    }

    fn step(&self, fleet: &mut Fleet, shedder: &mut Shedder, oldest: &mut VecDeque<Arc<Handle>>) {
        let now = Instant::now();
        let health = self.broker.health();
        let hears = health.hears && health.echo && !health.deaf && !health.split;
        let well = health.started && health.commands && hears && !self.leaving();
        let (mine, before) = (self.mine(), shedder.sheds());
        self.broker.limit_envelope(fleet.envelope(now));
        let picture = fleet.look(mine, well, now);
        let closes = shedder.step(picture, mine, now);
        let (sheds, average) = (shedder.sheds(), fleet.shown_average(mine));
        let held = picture.err().map(Doubt::label).or(shedder.rests().then_some(RESTING));
        if before != sheds {
            tracing::info!(shedding = sheds, held, connections = mine, average, "rebalancing");
        }
        self.close(closes as usize, oldest);
        self.metrics.fleet_nodes.set(i64::try_from(fleet.nodes()).unwrap_or(i64::MAX));
        self.metrics.fleet_connections_average.set(average);
        self.metrics.shedding.set(i64::from(sheds));
        for reason in Doubt::ALL.map(Doubt::label).into_iter().chain([RESTING]) {
            self.metrics.shedding_held.with_label_values(&[reason]).set(i64::from(held == Some(reason)));
        }
        if !sheds {
            oldest.clear();
        }
    }

    /// Closes the oldest connections, of those that were found. Looks for more once at most.
    fn close(&self, closes: usize, oldest: &mut VecDeque<Arc<Handle>>) {
        if oldest.len() < closes {
            oldest.clear();
            oldest.extend(self.hub.oldest(BATCH.max(closes * BATCH_STEPS)));
        }
        for _ in 0..closes {
            // Nobody else knows of one that has gone meanwhile.
            let connection = std::iter::from_fn(|| oldest.pop_front()).find(|found| Arc::strong_count(found) > 1);
            if let Some(connection) = connection {
                connection.close(CloseReason::Rebalanced);
            }
        }
    }
}
