//! The node's channels and connections.
//!
//! Concurrency: the map is sharded by channel, each shard a mutex held for a look-up only. Each channel has its own
//! locks (see [`crate::channel`]); a shard's lock comes before a channel's. One task puts the broker's events in order
//! and marks connections; writing to many of them is spread over tasks, a slice each. Repairs are tasks, one per channel
//! at most, bounded in number by a semaphore where they read.

mod admission;
mod drain;
mod fan_out;
mod upkeep;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ahash::RandomState;
use fanway_broker::AnyBroker;
use fanway_broker::trace::{Begun, Trace, Work};
use fanway_protocol::Channel;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Semaphore;
use tokio::task::unconstrained;
use tokio_util::future::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::age::MaxAge;
use crate::attach::AttachError;
use crate::authorizer::Authorizer;
use crate::channel::{Interest, LocalChannel, Shared};
use crate::control::Message;
use crate::dispatch::Inbox;
use crate::encoding::Encodings;
use crate::eviction::RingBudget;
use crate::handle::Handle;
use crate::held::HeldBytes;
use crate::identity::{AuthFailure, Identity};
use crate::limits::Limits;
use crate::metrics::{HubMetrics, TooManyTransports, TransportMetrics, Transports};
use crate::namespace::Namespaces;
use crate::pace::Pacer;
use crate::pages::PageBudget;
use crate::quota::{QuotaSettings, Quotas};
use crate::registry::{Registry, SHARDS as REGISTRY_SHARDS};
use crate::session::{ANSWER_BYTES, BuiltIn, Transport};
use crate::shared_reads::Resumes;
use crate::unfinished::Unfinished;
use crate::wheel::Wheel;

const SHARDS: usize = 64;
/// Part of the channels, by name.
type Shard = HashTable<Arc<LocalChannel>>;
/// Reads of logs for repairs and resumes that may be under way at once on this node.
pub(crate) const READS: usize = 64;
/// Tops compared, or feeds asked for, in one call.
pub(crate) const CHECK_BATCH: usize = 500;

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
    /// Limits of what one user, or one client address, may cost.
    pub quotas: QuotaSettings,
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
    /// Memory for answers to polls.
    pub(crate) answers: PageBudget,
    /// Of subscriptions that clients are made to renew.
    pub(crate) resubscribes: Pacer,
    /// Token buckets of users and client addresses.
    pub(crate) quotas: Quotas,
    /// Bytes of clients that have not connected.
    pub(crate) unfinished: Arc<Unfinished>,
    /// Sessions of one user at most; 0 is no limit.
    user_connections: u32,
    /// Channels at most.
    most_channels: i64,
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
        let held = Arc::new(HeldBytes::new(metrics.inbox_bytes.clone()));
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
                    held: held.clone(),
                    encodings: encodings.clone(),
                    metrics: metrics.clone(),
                    trace: parts.trace.clone(),
                };
                (namespace.name.clone(), Arc::new(shared))
            })
            .collect();
        let pages = PageBudget::new(metrics.page_bytes.clone(), parts.limits.node_page_bytes.as_u64());
        let answers = PageBudget::new(metrics.poll_answer_bytes.clone(), ANSWER_BYTES);
        let quotas = Quotas::new(&parts.quotas, &parts.limits, Instant::now());
        let most_unfinished = parts.limits.node_unfinished_bytes.as_u64();
        let unfinished = Unfinished::new(metrics.unfinished_bytes.clone(), most_unfinished);
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
            answers,
            resubscribes,
            quotas,
            unfinished,
            user_connections: parts.quotas.user.connections,
            most_channels: parts.quotas.channels.into(),
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

    /// The channel, made if need be, kept alive by the returned interest.
    ///
    /// # Errors
    /// No namespace has the channel, or the node has as many channels as it may have.
    pub(crate) fn interest(&self, channel: &Channel) -> Result<Interest, AttachError> {
        let namespace = self.namespaces.of(channel).ok_or(AttachError::UnknownNamespace)?;
        let shared = self.shared.get(&namespace.name).ok_or(AttachError::UnknownNamespace)?;
        let (mut shard, hash) = self.shard(channel);
        let known = shard.entry(hash, |local| local.name == *channel, |local| self.hasher.hash_one(&local.name));
        let local = match known {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                // Threads that make channels at the same moment may each make one more.
                if self.metrics.channels.get() >= self.most_channels {
                    return Err(AttachError::Limited(self.beyond_channels()));
                }
                self.metrics.channels.inc();
                place.insert(Arc::new(LocalChannel::new(channel.clone(), shared.clone(), Instant::now()))).into_mut()
            }
        };
        let local = local.clone();
        local.state().interest += 1;
        Ok(Interest(local))
    }

    pub(crate) fn all(&self) -> Vec<Arc<LocalChannel>> {
        self.shards.iter().flat_map(|shard| lock(shard).iter().cloned().collect::<Vec<_>>()).collect()
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
