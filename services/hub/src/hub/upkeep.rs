//! Upkeep of a node: its clock, channels that nobody uses any more, feeds that broke, and silent channels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::Broker;
use fanway_protocol::Channel;
use tokio::time::MissedTickBehavior;

use super::{CHECK_BATCH, Hub, SHARDS, lock};
use crate::channel::LocalChannel;
use crate::wheel::TICK;

/// How long it takes to sweep all shards once.
const SWEEP: Duration = Duration::from_secs(4);
/// Entries older than this serve nobody who keeps up.
const RING_AGE: Duration = Duration::from_secs(60);
/// A feed that broke is asked for again if nothing was heard of it for so long.
const FEED_PATIENCE: Duration = Duration::from_secs(2);

impl Hub {
    pub(super) async fn turn_wheel(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            self.wheel.advance(Instant::now(), |slot| {
                if let Some(handle) = self.registry.get(slot) {
                    handle.tick();
                }
            });
        }
    }

    /// Removes channels that nobody has come back to, and old entries of the others.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP / SHARDS as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A shard at a time: a node may have very many channels.
            for (at, shard) in self.shards.iter().enumerate() {
                ticks.tick().await;
                if at.is_multiple_of(SHARDS / 4) {
                    // Once a second.
                    self.resumes.sweep();
                    self.quotas.sweep(Instant::now());
                    self.broker.upkeep();
                    self.metrics.limited_subjects.set(self.quotas.subjects() as i64);
                }
                let now = Instant::now();
                lock(shard).retain(|local| {
                    let mut state = local.state();
                    let idle = state.idle_since.ago(now);
                    if state.subscribers() == 0 && state.interest == 0 && idle >= self.limits.channel_linger {
                        state.dead = true;
                        drop(state);
                        local.trim(now);
                        self.metrics.channels.dec();
                        // Under the shard's lock: whoever makes the channel anew subscribes after this.
                        self.broker.unsubscribe(&local.name);
                        return false;
                    }
                    true
                });
                if let Some(older_than) = now.checked_sub(RING_AGE) {
                    let channels: Vec<_> = lock(shard).iter().cloned().collect();
                    channels.iter().for_each(|local| local.trim(older_than));
                }
            }
        }
    }

    /// Asks again for feeds that broke and were not heard of since. Many at once, and not a task for each: the broker may be
    /// away for long.
    pub(super) async fn ask_for_feeds(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(FEED_PATIENCE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let forgotten = |local: &Arc<LocalChannel>| local.state().forgotten(Instant::now(), FEED_PATIENCE);
            let mut silent = self.all();
            silent.retain(forgotten);
            for batch in silent.chunks(CHECK_BATCH) {
                // Again: those that were left since must not be subscribed for nobody.
                let batch: Vec<_> = batch.iter().filter(|local| forgotten(local)).cloned().collect();
                if let Err(error) = self.subscribe_feeds(&batch).await {
                    tracing::debug!(%error, "feeds not restored yet");
                    break;
                }
                batch.iter().for_each(|local| local.state().tell_change());
                self.make_whole(batch);
            }
        }
    }

    /// Compares silent channels with their logs: the only way to notice that the last publication before silence was
    /// lost. Also tries again what could not be repaired, and keeps the logs' meta data alive.
    pub(super) async fn check_positions(self: Arc<Self>) {
        let every = self.limits.position_check.max(Duration::from_millis(100));
        loop {
            // Half to one and a half, so that the nodes of a fleet do not ask in step.
            tokio::time::sleep(every.mul_f64(0.5 + rand::random::<f64>())).await;
            let now = Instant::now();
            let mut silent = Vec::new();
            for local in self.all() {
                let state = local.state();
                if !state.wanted() {
                    continue;
                }
                if state.needs_repair() {
                    drop(state);
                    self.repair(&local);
                } else if state.check_due(now, every.mul_f64(0.5)) {
                    drop(state);
                    silent.push(local);
                }
            }
            for batch in silent.chunks(CHECK_BATCH) {
                let asked: Vec<_> = batch.iter().map(|local| (local, local.state().head())).collect();
                let names: Vec<Channel> = batch.iter().map(|local| local.name.clone()).collect();
                let Ok(tops) = self.broker.tops(&names, true).await else { break };
                for ((local, head), top) in asked.into_iter().zip(tops) {
                    let mut state = local.state();
                    // What was heard while the question was under way has moved the head: ask again next time.
                    if state.head() != head {
                        continue;
                    }
                    if let Some(sequencer) = &mut state.sequencer {
                        sequencer.check(top.as_ref());
                    }
                    if state.needs_repair() {
                        drop(state);
                        self.repair(local);
                    }
                }
            }
        }
    }
}
