//! The node's channels and connections.
//!
//! Concurrency: the map is sharded by channel, each shard a mutex held for a look-up only. Each channel has its own
//! locks (see [`crate::channel`]); a shard's lock comes before a channel's. One task puts the broker's events in order
//! and marks connections; writing to many of them is spread over tasks, a slice each. Repairs are tasks, one per channel
//! at most, bounded in number by a semaphore where they read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahash::RandomState;
use fanway_broker::trace::{Begun, Trace, Work};
use fanway_broker::{AnyBroker, Broker, Event};
use fanway_protocol::Channel;
use hashbrown::HashTable;
use rand::seq::SliceRandom;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Semaphore;
use tokio::task::unconstrained;
use tokio::time::MissedTickBehavior;
use tokio_util::future::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::age::MaxAge;
use crate::authorizer::Authorizer;
use crate::channel::{Interest, LocalChannel, Marked, Shared};
use crate::close_reason::CloseReason;
use crate::control::Message;
use crate::dispatch::{Inbox, size};
use crate::encoding::Encodings;
use crate::eviction::RingBudget;
use crate::handle::Handle;
use crate::identity::{AuthFailure, Identity};
use crate::limits::Limits;
use crate::metrics::{HubMetrics, TooManyTransports, TransportMetrics, Transports};
use crate::namespace::Namespaces;
use crate::pace::Pacer;
use crate::pages::PageBudget;
use crate::registry::{Registry, SHARDS as REGISTRY_SHARDS};
use crate::session::{BuiltIn, Transport};
use crate::shared_reads::Resumes;
use crate::turn::{Turn, with_turn};
use crate::wheel::{TICK, Wheel};

const SHARDS: usize = 64;
/// Part of the channels, by name.
type Shard = HashTable<Arc<LocalChannel>>;
/// Reads of logs for repairs and resumes that may be under way at once on this node.
const READS: usize = 64;
/// Events that are put in order before the connections that they mark are served: what a connection gets from them it
/// gets in one write.
const EVENTS_PER_TURN: u64 = 256;
/// Connections that are served before the next events are looked at.
const SERVED_AT_ONCE: usize = 32;
/// The most connections that are served one after another before other work has its turn, and sockets are looked at:
/// what comes in meanwhile goes out together with what the rest have.
const SLICE: usize = 64;
/// How long it takes to sweep all shards once.
const SWEEP: Duration = Duration::from_secs(4);
/// Entries older than this serve nobody who keeps up.
const RING_AGE: Duration = Duration::from_secs(60);
/// A feed that broke is asked for again if nothing was heard of it for so long.
const FEED_PATIENCE: Duration = Duration::from_secs(2);
/// Tops compared, or feeds asked for, in one call.
pub(crate) const CHECK_BATCH: usize = 500;

/// Ends the process if what puts events in order panics: nothing would be delivered any more, while the node seemed well.
/// Its clients resume on another one.
struct FailFast;

impl Drop for FailFast {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("what puts publications in order has failed; ending");
            std::process::abort();
        }
    }
}

/// Verifies a connection token at a time given in seconds since 1970.
pub type Verify = dyn Fn(&str, u64) -> Result<Identity, AuthFailure> + Send + Sync;

/// What a hub is made of.
pub struct Parts {
    /// The way to the other nodes; must deliver into `inbox`.
    pub broker: Arc<AnyBroker>,
    /// The broker's sink.
    pub inbox: Arc<Inbox>,
    /// Where its events are put in order and few connections are written to: a runtime with one thread, so that a
    /// publication does not wait until all the other tasks of the node had their turn.
    pub feed: Runtime,
    /// What channels keep and allow.
    pub namespaces: Arc<Namespaces>,
    /// Bounds and clocks.
    pub limits: Limits,
    /// Verifies tokens of connect and refresh commands.
    pub verify: Box<Verify>,
    /// Decides on rights of client commands.
    pub authorizer: Authorizer,
    /// Whether a client may connect without any credential.
    pub allow_anonymous: bool,
    /// How long a connection may live; without it, for ever.
    pub max_age: Option<MaxAge>,
    /// What it counts.
    pub metrics: HubMetrics,
    /// Who keeps traces, if anybody does.
    pub trace: Option<Arc<Trace>>,
    /// Told to clients as the server's version.
    pub version: &'static str,
}

/// The node-local engine.
pub struct Hub {
    pub(crate) broker: Arc<AnyBroker>,
    pub(crate) namespaces: Arc<Namespaces>,
    pub(crate) limits: Limits,
    pub(crate) verify: Box<Verify>,
    pub(crate) authorizer: Authorizer,
    pub(crate) allow_anonymous: bool,
    pub(crate) max_age: Option<MaxAge>,
    pub(crate) encodings: Arc<Encodings>,
    /// Ids of the encodings that it began with.
    pub(crate) built_in: BuiltIn,
    pub(crate) metrics: Arc<HubMetrics>,
    pub(crate) version: &'static str,
    trace: Option<Arc<Trace>>,
    pub(crate) registry: Registry<Message>,
    pub(crate) wheel: Wheel,
    /// Sessions that are not closing and that closing would move elsewhere.
    pub(crate) movable: AtomicUsize,
    pub(crate) reads: Semaphore,
    pub(crate) resumes: Resumes,
    /// Bytes of the rings of all channels.
    pub(crate) rings: Arc<RingBudget>,
    /// Memory for what clients have missed.
    pub(crate) pages: PageBudget,
    /// Of subscriptions that clients are made to renew.
    pub(crate) resubscribes: Pacer,
    pub(crate) tracker: TaskTracker,
    pub(crate) cancel: CancellationToken,
    /// Where all other work runs.
    runtime: Runtime,
    /// Chooses shards, and draws the ages of connections.
    pub(crate) hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    shared: HashMap<String, Arc<Shared>>,
    transports: Transports,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    /// Starts a hub: what puts events in order, its clock and its checks run on `tracker` until `cancel`.
    pub fn start(parts: Parts, tracker: TaskTracker, cancel: CancellationToken) -> Arc<Self> {
        let metrics = Arc::new(parts.metrics);
        metrics.show_from_the_start();
        let rings = RingBudget::new(metrics.ring_bytes.clone(), parts.limits.node_ring_bytes.as_u64());
        let (encodings, built_in) = BuiltIn::encodings();
        let encodings = Arc::new(encodings);
        let shared = parts
            .namespaces
            .iter()
            .map(|namespace| {
                let shared = Shared {
                    publications_in: metrics.publications_in_total.with_label_values(&[&namespace.name]),
                    namespace: Arc::new(namespace.clone()),
                    ring_entries: parts.limits.ring_entries.max(1),
                    ring_bytes: parts.limits.ring_bytes.as_u64() as usize,
                    rings: rings.clone(),
                    encodings: encodings.clone(),
                    metrics: metrics.clone(),
                    trace: parts.trace.clone(),
                };
                (namespace.name.clone(), Arc::new(shared))
            })
            .collect();
        let pages = PageBudget::new(metrics.page_bytes.clone(), parts.limits.node_page_bytes.as_u64());
        let resubscribes = Pacer::new(parts.limits.resubscribe_rate, Instant::now());
        let hub = Arc::new(Self {
            broker: parts.broker,
            namespaces: parts.namespaces,
            limits: parts.limits,
            verify: parts.verify,
            authorizer: parts.authorizer,
            allow_anonymous: parts.allow_anonymous,
            max_age: parts.max_age,
            encodings,
            built_in,
            metrics: metrics.clone(),
            version: parts.version,
            trace: parts.trace,
            registry: Registry::new(REGISTRY_SHARDS),
            wheel: Wheel::new(Instant::now()),
            movable: AtomicUsize::new(0),
            reads: Semaphore::new(READS),
            resumes: Resumes::default(),
            rings,
            pages,
            resubscribes,
            tracker,
            cancel,
            runtime: Runtime::current(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shared,
            transports: Transports::new(metrics),
        });
        hub.spawn_on(&parts.feed, unconstrained(hub.clone().sequence(parts.inbox)));
        hub.spawn(hub.clone().turn_wheel());
        hub.spawn(hub.clone().sweep());
        hub.spawn(hub.clone().evict());
        hub.spawn(hub.clone().ask_for_feeds());
        hub.spawn(hub.clone().check_positions());
        hub
    }

    /// Bounds and clocks of sessions.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Encodings of this node, to which a protocol adds its own.
    pub fn encodings(&self) -> &Encodings {
        &self.encodings
    }

    /// Namespaces of this node.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Verifies a connection token now.
    pub fn verify(&self, token: &str) -> Result<Identity, AuthFailure> {
        // Before the check, so that what happens meanwhile is known to come after it.
        let presented_at = self.registry.newest_message();
        let verified = (self.verify)(token, unix_now()).map(|identity| Identity { presented_at, ..identity });
        verified.inspect_err(|failure| self.credential_refused(failure))
    }

    /// Counts and logs a refused credential.
    pub fn credential_refused(&self, failure: &AuthFailure) {
        self.metrics.auth_failures_total.with_label_values(&[failure.metric_label()]).inc();
        failure.log();
    }

    /// Whether a client may connect without any credential.
    pub fn allows_anonymous(&self) -> bool {
        self.allow_anonymous
    }

    /// Channels with subscribers, or lately had.
    pub fn channels(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Open sessions.
    pub fn connections(&self) -> usize {
        self.registry.len()
    }

    /// Sessions whose clients would go to another node if they were closed: neither polls, which choose a node each time,
    /// nor streams over an HTTP/2 connection, which would come back over the same one.
    pub fn movable(&self) -> usize {
        self.movable.load(Ordering::Relaxed)
    }

    /// The so many oldest of them, oldest first.
    pub fn oldest(&self, count: usize) -> Vec<Arc<Handle>> {
        self.registry.oldest(count)
    }

    /// Subscriptions of all sessions.
    pub fn subscriptions(&self) -> u64 {
        self.metrics.subscriptions.get().try_into().unwrap_or(0)
    }

    /// The span of a client's command, if it is sampled.
    pub(crate) fn trace_command(&self, name: impl FnOnce() -> &'static str) -> Option<Begun> {
        self.trace.as_ref().and_then(|trace| trace(Work::Command { name: name() }))
    }

    /// Transport with this name, the label of its sessions' metrics. A new one is added.
    ///
    /// # Errors
    /// The node has 16 others already: names are constants of the program, not input.
    pub fn transport(&self, name: &'static str) -> Result<Transport, TooManyTransports> {
        self.transports.intern(name)
    }

    pub(crate) fn transport_metrics(&self, transport: Transport) -> &TransportMetrics {
        self.transports.of(transport)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&self.runtime, task);
    }

    fn spawn_on(&self, runtime: &Runtime, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task.with_cancellation_token_owned(self.cancel.clone()), runtime);
    }

    /// The shard of a channel, and the channel's hash in it.
    fn shard(&self, channel: &Channel) -> (MutexGuard<'_, Shard>, u64) {
        let hash = self.hasher.hash_one(channel);
        // By other bits than those that tell the place in the shard.
        (lock(&self.shards[(hash >> 48) as usize % SHARDS]), hash)
    }

    pub(crate) fn find(&self, channel: &Channel) -> Option<Arc<LocalChannel>> {
        let (shard, hash) = self.shard(channel);
        shard.find(hash, |local| local.name == *channel).cloned()
    }

    /// The channel, made if need be, kept alive by the returned interest. `None` for an unknown namespace.
    pub(crate) fn interest(&self, channel: &Channel) -> Option<Interest> {
        let namespace = self.namespaces.of(channel)?;
        let shared = self.shared.get(&namespace.name)?;
        let (mut shard, hash) = self.shard(channel);
        let known = shard.entry(hash, |local| local.name == *channel, |local| self.hasher.hash_one(&local.name));
        let local = known.or_insert_with(|| {
            self.metrics.channels.inc();
            Arc::new(LocalChannel::new(channel.clone(), shared.clone(), Instant::now()))
        });
        let local = local.get().clone();
        local.state().interest += 1;
        Some(Interest(local))
    }

    /// Takes the broker's events, in order.
    async fn sequence(self: Arc<Self>, inbox: Arc<Inbox>) {
        let mut marked = Marked::default();
        let _end = FailFast;
        // Over all that waited: whoever fills the inbox from another thread may never let it be empty.
        let mut turn = 0_u64;
        loop {
            let waiting = inbox.take().await;
            self.metrics.inbox_bytes.set(inbox.bytes() as i64);
            self.metrics.inbox_dropped_total.inc_by(waiting.dropped);
            let (mut restored, mut handled) = (Vec::new(), 0);
            for event in waiting.events {
                handled += size(&event);
                match &event {
                    Event::Publication(delivery) => {
                        if let Some(local) = self.find(&delivery.channel) {
                            self.hear(&local, event, &mut marked);
                        }
                    }
                    Event::Unreadable(channel) => {
                        if let Some(local) = self.find(channel) {
                            self.hear(&local, event, &mut marked);
                        }
                    }
                    // After a break there are many of them.
                    Event::Restored(channel) => {
                        let local = self.find(channel);
                        restored.extend(local.filter(|local| local.hear(event, Instant::now(), &mut marked)));
                    }
                    Event::Interrupted => {
                        self.all().iter().for_each(|local| self.hear(local, Event::Interrupted, &mut marked));
                    }
                }
                turn += 1;
                if turn.is_multiple_of(EVENTS_PER_TURN) {
                    inbox.handled(std::mem::take(&mut handled));
                    self.serve(&mut marked);
                    tokio::task::yield_now().await;
                }
            }
            inbox.handled(handled);
            self.metrics.inbox_bytes.set(inbox.bytes() as i64);
            self.make_whole(restored);
            for channel in waiting.lost {
                if let Some(local) = self.find(&channel).filter(|local| local.lost(Instant::now(), &mut marked)) {
                    self.repair(&local);
                }
            }
            self.serve(&mut marked);
        }
    }

    fn hear(self: &Arc<Self>, local: &Arc<LocalChannel>, event: Event, marked: &mut Marked) {
        if local.hear(event, Instant::now(), marked) {
            self.repair(local);
        }
    }

    /// Has the marked connections written: a few at once, more in slices, which other work comes between and which other
    /// threads take over.
    pub(crate) fn serve(self: &Arc<Self>, marked: &mut Marked) {
        if marked.handles.len() <= SERVED_AT_ONCE {
            self.serve_slice(&marked.handles);
            marked.handles.clear();
            marked.sampled.clear();
            return;
        }
        let threads = self.runtime.metrics().num_workers();
        let size = marked.handles.len().div_ceil(threads).min(SLICE);
        let queue = Arc::new((std::mem::take(marked), AtomicUsize::new(0)));
        for _ in 0..threads.min(queue.0.handles.len().div_ceil(size)) {
            let (hub, queue) = (self.clone(), queue.clone());
            // Without tokio's budget: a slice is bounded by itself, and a socket that seems full because of the budget
            // would have to be tried again by its task.
            let serve = async move {
                let (marked, next) = &*queue;
                while let Some(slice) = marked.handles.chunks(size).nth(next.fetch_add(1, Ordering::Relaxed)) {
                    hub.serve_slice(slice);
                    tokio::task::yield_now().await;
                }
            };
            self.tracker.spawn_on(unconstrained(serve), &self.runtime);
        }
    }

    fn serve_slice(&self, slice: &[Arc<Handle>]) {
        if slice.is_empty() {
            return;
        }
        with_turn(Turn::begin_slice);
        slice.iter().for_each(|handle| handle.serve());
        with_turn(|turn| turn.end_slice(self));
    }

    pub(crate) fn all(&self) -> Vec<Arc<LocalChannel>> {
        self.shards.iter().flat_map(|shard| lock(shard).iter().cloned().collect::<Vec<_>>()).collect()
    }

    async fn turn_wheel(self: Arc<Self>) {
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
    async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP / SHARDS as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A shard at a time: a node may have very many channels.
            for (at, shard) in self.shards.iter().enumerate() {
                ticks.tick().await;
                if at.is_multiple_of(SHARDS / 4) {
                    // Once a second.
                    self.resumes.sweep();
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
    async fn ask_for_feeds(self: Arc<Self>) {
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
    async fn check_positions(self: Arc<Self>) {
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
                        sequencer.check(top);
                    }
                    if state.needs_repair() {
                        drop(state);
                        self.repair(local);
                    }
                }
            }
        }
    }

    /// Whether the node is on its way out.
    pub fn is_draining(&self) -> bool {
        self.registry.is_draining()
    }

    /// Closes every session, evenly over the window in random order. Sessions that begin meanwhile close by themselves.
    pub async fn drain(&self, window: Duration) {
        self.metrics.draining.set(1);
        let mut slots = self.registry.begin_drain();
        slots.shuffle(&mut rand::rng());
        let began = Instant::now();
        let count = slots.len();
        for (closed, slot) in slots.into_iter().enumerate() {
            let due = window.mul_f64(closed as f64 / count.max(1) as f64);
            if let Some(wait) = due.checked_sub(began.elapsed()).filter(|wait| *wait >= Duration::from_millis(10)) {
                tokio::time::sleep(wait).await;
            }
            self.registry.close(slot, CloseReason::Shutdown);
        }
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
