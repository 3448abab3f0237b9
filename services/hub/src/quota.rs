//! Token buckets of users and client addresses. They survive a reconnect, because they belong to no connection.
//!
//! Each node has its own: a user with connections to three nodes has three times the rates. A bucket is kept as in the
//! generic cell rate algorithm (ITU-T I.371, annex A), by the one point in time at which it is full again. It exists
//! only while it is not full: an idle user costs nothing, and a look-up that finds no bucket stands for a full one.
//!
//! Invariants:
//! * In any time `t` at most `burst + rate * t` tokens pass, whichever connections take them.
//! * A refusal takes nothing: who waits as long as advised, and shares the bucket with nobody, passes.
//! * Time never runs backwards for a bucket: an earlier `now` finds it no fuller than a later one did.
//!
//! Concurrency: sharded by subject and kind, each shard a mutex held for one look-up or for the sweep of its at most
//! [`SHARD_BUCKETS`] entries. No lock is taken under it, and it is not held across an await.
//!
//! Anonymous clients have no user: they share no bucket under the empty name, see [`Quotas::user`].

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahash::RandomState;
use hashbrown::HashTable;

#[cfg(test)]
mod tests;

/// Shards of the buckets: a power of two, more than threads that take at once.
const SHARDS: usize = 16;
/// Buckets of one shard at most: the load up to which a table of 2^16 places does not grow. At 17 bytes per place all
/// buckets of a node cost 18 MB, and never more than twice that: a table may double once if removals left it scattered.
const SHARD_BUCKETS: usize = 57_344;
/// Tables up to this many places are not shrunk.
const SMALL_TABLE: usize = 256;

/// A limited action. Each subject has one bucket per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A session presents a credential.
    Connects,
    /// A command of the client protocol.
    Commands,
    /// A publication by a client.
    Publishes,
    /// A byte of such a publication.
    PublishedBytes,
    /// A channel that this node did not have.
    NewChannels,
    /// A poll.
    Polls,
    /// An event stream.
    Streams,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Connects,
        Self::Commands,
        Self::Publishes,
        Self::PublishedBytes,
        Self::NewChannels,
        Self::Polls,
        Self::Streams,
    ];

    /// Bounded label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connects => "connects",
            Self::Commands => "commands",
            Self::Publishes => "publishes",
            Self::PublishedBytes => "published_bytes",
            Self::NewChannels => "new_channels",
            Self::Polls => "polls",
            Self::Streams => "streams",
        }
    }
}

/// Tokens of a bucket: `per_second` come back, up to `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// A rate of at least one token per second and a burst of at least one.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.max(1), burst: burst.max(1) }
    }

    /// Nanoseconds in which so many tokens come back, rounded up.
    fn nanos(self, tokens: u32) -> u64 {
        (u64::from(tokens) * 1_000_000_000).div_ceil(self.per_second.into())
    }
}

/// The rate of each kind; `None` where there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates([Option<Rate>; Kind::ALL.len()]);

impl Rates {
    /// The same rates but for one kind.
    #[must_use]
    pub fn with(mut self, kind: Kind, rate: Option<Rate>) -> Self {
        self.0[kind as usize] = rate;
        self
    }
}

/// Owner of buckets: a keyed 64-bit hash of a user or of a client address. The key is drawn when the node starts, so
/// nobody can choose a name that shares a bucket with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject(u64);

/// Result of taking tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The tokens were there.
    Yes,
    /// They were not, and none was taken. They are there after this long, unless somebody else takes them first.
    Wait(Duration),
}

/// A bucket that is not full: 16 bytes.
#[derive(Debug)]
struct Bucket {
    /// Hash of subject and kind.
    hash: u64,
    /// Nanoseconds since [`Quotas::start`].
    full_at: u64,
}

/// The buckets of a node.
#[derive(Debug)]
pub struct Quotas {
    rates: Rates,
    start: Instant,
    hasher: RandomState,
    shards: [Mutex<HashTable<Bucket>>; SHARDS],
    /// Shard of the next sweep.
    next: AtomicUsize,
}

impl Quotas {
    /// Buckets with these rates, all of them full.
    pub fn new(rates: Rates, start: Instant) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { rates, start, hasher: RandomState::new(), shards, next: AtomicUsize::new(0) }
    }

    /// A user's subject; `None` for the empty name. Anonymous clients are many people: with a bucket in common, one
    /// could lock out all the others.
    pub fn user(&self, user: &str) -> Option<Subject> {
        (!user.is_empty()).then(|| self.subject(("user", user)))
    }

    /// Subject of a client address. IPv6 counts by /64, the least that one customer has; a mapped IPv4 address is the
    /// IPv4 address.
    pub fn address(&self, address: IpAddr) -> Subject {
        let network = match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
            v4 => v4,
        };
        self.subject(("address", network))
    }

    fn subject(&self, name: impl Hash) -> Subject {
        Subject(self.hasher.hash_one(name))
    }

    /// Takes `n` tokens of a subject's bucket, or none. More than the burst count as the burst: they pass when the
    /// bucket is full, rather than never. Allocates only where a bucket begins and its table has no room.
    ///
    /// Where a shard has [`SHARD_BUCKETS`] already, a take that would begin another passes uncounted: so many users at
    /// once are no attack by one of them, and a refusal would harm those who took nothing.
    pub fn take(&self, kind: Kind, subject: Subject, n: u32, now: Instant) -> Taken {
        let Some(rate) = self.rates.0[kind as usize] else { return Taken::Yes };
        let (now, cost, burst) = (self.nanos(now), rate.nanos(n.min(rate.burst)), rate.nanos(rate.burst));
        if cost == 0 {
            return Taken::Yes;
        }
        let hash = self.hasher.hash_one((subject.0, kind));
        let mut shard = lock(&self.shards[shard_of(hash)]);
        if let Some(bucket) = shard.find_mut(hash, |bucket| bucket.hash == hash) {
            let full_at = bucket.full_at.max(now).saturating_add(cost);
            let over = (full_at - now).saturating_sub(burst);
            if over > 0 {
                return Taken::Wait(Duration::from_nanos(over));
            }
            bucket.full_at = full_at;
        } else if shard.len() < SHARD_BUCKETS {
            shard.insert_unique(hash, Bucket { hash, full_at: now.saturating_add(cost) }, |bucket| bucket.hash);
        }
        Taken::Yes
    }

    /// Removes the full buckets of one shard, the next at each call, and gives memory back where most of it is unused.
    pub fn sweep(&self, now: Instant) {
        let now = self.nanos(now);
        let mut shard = lock(&self.shards[self.next.fetch_add(1, Ordering::Relaxed) % SHARDS]);
        shard.retain(|bucket| bucket.full_at > now);
        if shard.capacity() > SMALL_TABLE && shard.len() < shard.capacity() / 4 {
            // Twice as many: the next ones do not make it grow at once.
            let room = shard.len() * 2;
            shard.shrink_to(room, |bucket| bucket.hash);
        }
    }

    /// Buckets that exist.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether all buckets are full and swept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the tables, for tests and figures.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).allocation_size()).sum()
    }

    /// Nanoseconds since the start. They last for 584 years.
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Shard of a bucket: by other bits than those that tell the place in the shard.
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
