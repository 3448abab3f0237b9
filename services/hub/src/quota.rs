//! Token buckets of users and client addresses. They survive a reconnect, because they belong to no connection.
//!
//! Each node has its own: a user with connections to three nodes has three times the rates. A bucket is kept as in the
//! generic cell rate algorithm (ITU-T I.371, annex A), by the one point in time at which it is full again. The buckets of a
//! subject share an entry, which exists only while one of them is not full: an idle user costs nothing.
//!
//! Invariants:
//! * In any time `t` at most `burst + rate * t` tokens are taken by [`Quotas::take`], whichever connections take them.
//! * A refusal takes nothing: who waits as long as advised, and shares the bucket with nobody, passes.
//! * What [`Quotas::charge`] takes beyond that is a debt, and the pause it asks for grows with the debt. So connections that
//!   share a bucket, and each pause before they go on, stay within the rate together.
//! * Time never runs backwards for a bucket: an earlier `now` finds it no fuller than a later one did.
//!
//! Concurrency: sharded by subject, each shard a mutex held for one look-up or for the sweep of its at most
//! [`buckets::SHARD_SUBJECTS`] entries. No lock is taken under it, and it is not held across an await.
//!
//! Anonymous clients have no user: they share no bucket under the empty name. They are limited by their address, where that
//! is known, and else by their connection alone, but for new channels, of which all of them have so many together.

mod buckets;
mod rate;
mod settings;

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ahash::RandomState;

use self::buckets::Buckets;
pub use self::rate::{Rate, Rates};
pub use self::settings::{AddressQuotas, AnonymousQuotas, QuotaSettings, UserQuotas};
use crate::identity::Identity;
use crate::limits::Limits;

#[cfg(test)]
mod tests;

/// A limited action. Each subject has one bucket per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A session of the client protocol presents a credential; of an address, any session without a user begins.
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
    /// A credential that is refused. Of addresses only.
    FailedTokens,
}

impl Kind {
    /// Number of kinds.
    pub(crate) const COUNT: usize = 8;

    /// Label of the bucket of a user; `None` where users have none.
    fn of_user(self) -> Option<&'static str> {
        match self {
            Self::Connects => Some("user_connects"),
            Self::Commands => Some("user_commands"),
            Self::Publishes => Some("user_publishes"),
            Self::PublishedBytes => Some("user_published_bytes"),
            Self::NewChannels => Some("user_new_channels"),
            Self::Polls => Some("user_polls"),
            Self::Streams => Some("user_streams"),
            Self::FailedTokens => None,
        }
    }

    /// Kind and label of the bucket of an address that stands for this one; `None` where addresses have none.
    fn of_address(self) -> Option<(Self, &'static str)> {
        match self {
            Self::Connects | Self::Polls | Self::Streams => Some((Self::Connects, "address_connects")),
            Self::NewChannels => Some((Self::NewChannels, "address_new_channels")),
            Self::FailedTokens => Some((Self::FailedTokens, "address_failed_tokens")),
            Self::Commands | Self::Publishes | Self::PublishedBytes => None,
        }
    }
}

/// Limit of the sessions of one user.
pub(crate) const USER_CONNECTIONS: &str = "user_connections";
/// Limit of the channels of a node.
pub(crate) const NODE_CHANNELS: &str = "node_channels";
/// Limit of the bytes of unfinished messages.
pub(crate) const UNFINISHED_MESSAGES: &str = "unfinished_messages";
/// Kinds that are charged, and may be in debt.
pub(crate) const CHARGED: [Kind; 3] = [Kind::Commands, Kind::Publishes, Kind::PublishedBytes];
/// Values of the label `limit` of `fanway_limited_total`.
pub(crate) const LABELS: [&str; 14] = [
    "user_connects",
    "user_commands",
    "user_publishes",
    "user_published_bytes",
    "user_new_channels",
    "user_polls",
    "user_streams",
    USER_CONNECTIONS,
    "address_connects",
    "address_new_channels",
    "address_failed_tokens",
    "anonymous_new_channels",
    NODE_CHANNELS,
    UNFINISHED_MESSAGES,
];

/// Client address as the owner of buckets: a keyed 64-bit hash. The key is drawn when the node starts, so nobody can choose
/// an address that shares a bucket with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(NonZeroU64);

/// Owner of buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payer {
    /// A user, by a keyed hash.
    User(u64),
    /// The address of a client without a user.
    Address(Address),
    /// A client without a user whose address is not known. All of them on a node share the bucket of new channels, so that they
    /// cannot fill Redis together, and nothing else.
    Anonymous,
    /// Nobody: what is done is not the client's choice.
    #[default]
    Nobody,
}

/// Refusal or pause by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// How long until the tokens are there, unless somebody else takes them first.
    pub wait: Duration,
    /// Value of the label `limit` of `fanway_limited_total`.
    pub label: &'static str,
}

/// The buckets of a node.
#[derive(Debug)]
pub struct Quotas {
    users: Buckets,
    addresses: Buckets,
    anonymous: Buckets,
    /// Nanoseconds since the start after which nobody is in debt, as far as is known.
    debts_until: AtomicU64,
    hasher: RandomState,
    start: Instant,
}

impl Quotas {
    /// Buckets with the rates of these settings, all of them full. `of_one`: what one connection may do.
    pub fn new(settings: &QuotaSettings, of_one: &Limits, start: Instant) -> Self {
        Self {
            users: Buckets::new(settings.user.rates(of_one)),
            addresses: Buckets::new(settings.address.rates()),
            anonymous: Buckets::new(settings.anonymous.rates()),
            debts_until: AtomicU64::new(0),
            hasher: RandomState::new(),
            start,
        }
    }

    /// Address of a client. IPv6 counts by /64, the least that one customer has; a mapped IPv4 address is the IPv4 address.
    pub fn address(&self, address: IpAddr) -> Address {
        let network = match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
            v4 => v4,
        };
        Address(NonZeroU64::new(self.hash(network)).unwrap_or(NonZeroU64::MIN))
    }

    /// Owner of the buckets for what a client does: its user, or where that has no name its address.
    pub fn payer(&self, identity: &Identity, address: Option<Address>) -> Payer {
        match (identity.is_anonymous(), address) {
            (false, _) => Payer::User(self.hash(&*identity.user)),
            (true, Some(address)) => Payer::Address(address),
            (true, None) => Payer::Anonymous,
        }
    }

    fn hash(&self, name: impl Hash) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Takes `n` tokens of a bucket, or none. More than the burst count as the burst: they pass when the bucket is full,
    /// rather than never. Allocates only where an entry begins and its table has no room.
    ///
    /// # Errors
    /// The tokens are not there.
    pub fn take(&self, payer: Payer, kind: Kind, n: u32, now: Instant) -> Result<(), Limited> {
        let Some((buckets, subject, kind, label)) = self.bucket(payer, kind) else { return Ok(()) };
        buckets
            .take(subject, kind, n, self.nanos(now))
            .map_err(|wait| Limited { wait: Duration::from_nanos(wait), label })
    }

    /// Takes `n` tokens of a bucket, also those that are not there yet. Returns the pause to make then.
    pub fn charge(&self, payer: Payer, kind: Kind, n: u32, now: Instant) -> Option<Limited> {
        let (buckets, subject, kind, label) = self.bucket(payer, kind)?;
        let now = self.nanos(now);
        let wait = buckets.charge(subject, kind, n, now)?;
        self.debts_until.fetch_max(now.saturating_add(wait), Ordering::Relaxed);
        Some(Limited { wait: Duration::from_nanos(wait), label })
    }

    /// Whether anybody may be in debt.
    pub fn has_debts(&self, now: Instant) -> bool {
        self.nanos(now) < self.debts_until.load(Ordering::Relaxed)
    }

    /// Longest debt of these kinds. Nearly always nobody is in debt, and no table is looked at.
    pub fn debt(&self, payer: Payer, kinds: &[Kind], now: Instant) -> Option<Limited> {
        if !self.has_debts(now) {
            return None;
        }
        let now = self.nanos(now);
        let debts = kinds.iter().filter_map(|kind| {
            let (buckets, subject, kind, label) = self.bucket(payer, *kind)?;
            let wait = buckets.debt(subject, kind, now)?;
            Some(Limited { wait: Duration::from_nanos(wait), label })
        });
        debts.max_by_key(|limited| limited.wait)
    }

    /// Buckets, subject, kind and label of what pays for an action; `None` if nothing does.
    fn bucket(&self, payer: Payer, kind: Kind) -> Option<(&Buckets, u64, Kind, &'static str)> {
        match payer {
            Payer::User(hash) => Some((&self.users, hash, kind, kind.of_user()?)),
            Payer::Address(Address(hash)) => {
                let (kind, label) = kind.of_address()?;
                Some((&self.addresses, hash.get(), kind, label))
            }
            Payer::Anonymous if kind == Kind::NewChannels => Some((&self.anonymous, 0, kind, "anonymous_new_channels")),
            Payer::Anonymous | Payer::Nobody => None,
        }
    }

    /// Removes the entries of one shard whose buckets are full, the next shard at each call, and gives memory back where
    /// most of it is unused.
    pub fn sweep(&self, now: Instant) {
        let now = self.nanos(now);
        self.users.sweep(now);
        self.addresses.sweep(now);
        self.anonymous.sweep(now);
    }

    /// Users and addresses of which a bucket is not full, or was not at the last sweep.
    pub fn subjects(&self) -> usize {
        self.users.len() + self.addresses.len()
    }

    /// Nanoseconds since the start. They last for 584 years.
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}
