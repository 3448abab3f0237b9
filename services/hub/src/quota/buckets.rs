//! Table of token buckets: one entry per subject, which holds its buckets of all kinds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;

use super::{Kind, Rates};

/// Shards of the subjects: a power of two, more than threads that take at once.
pub(super) const SHARDS: usize = 16;
/// Subjects of one shard at most: the load up to which a table of 2^14 places does not grow. At 73 bytes per place all users
/// cost 19 MB, and all addresses as much.
pub(super) const SHARD_SUBJECTS: usize = 14_336;
/// Tables up to this many places are not shrunk.
const SMALL_TABLE: usize = 256;

/// Subject of which at least one bucket is not full: 72 bytes.
#[derive(Debug)]
struct Entry {
    subject: u64,
    /// When each of its buckets is full again, in nanoseconds since the start of the node.
    full_at: [u64; Kind::COUNT],
}

/// Buckets of subjects with the same rates.
#[derive(Debug)]
pub(super) struct Buckets {
    rates: Rates,
    shards: [Mutex<HashTable<Entry>>; SHARDS],
    /// Shard of the next sweep.
    next: AtomicUsize,
}

impl Buckets {
    /// Full buckets.
    pub(super) fn new(rates: Rates) -> Self {
        Self { rates, shards: std::array::from_fn(|_| Mutex::default()), next: AtomicUsize::new(0) }
    }

    /// Takes `n` tokens, or none. The error is the number of nanoseconds after which they are there.
    pub(super) fn take(&self, subject: u64, kind: Kind, n: u32, now: u64) -> Result<(), u64> {
        let Some(rate) = self.rates.of(kind) else { return Ok(()) };
        let (cost, burst) = (rate.nanos(n.min(rate.burst())), rate.nanos(rate.burst()));
        self.with_bucket(subject, kind, cost, |bucket| {
            let full_at = (*bucket).max(now).saturating_add(cost);
            let over = (full_at - now).saturating_sub(burst);
            if over > 0 {
                return Err(over);
            }
            *bucket = full_at;
            Ok(())
        })
        .unwrap_or(Ok(()))
    }

    /// Takes `n` tokens, also those that are not there. Returns the number of nanoseconds after which the debt is paid.
    pub(super) fn charge(&self, subject: u64, kind: Kind, n: u32, now: u64) -> Option<u64> {
        let rate = self.rates.of(kind)?;
        let (cost, burst) = (rate.nanos(n), rate.nanos(rate.burst()));
        self.with_bucket(subject, kind, cost, |bucket| {
            *bucket = (*bucket).max(now).saturating_add(cost);
            (*bucket - now).checked_sub(burst).filter(|over| *over > 0)
        })?
    }

    /// Nanoseconds after which a subject's debt is paid, if it has one.
    pub(super) fn debt(&self, subject: u64, kind: Kind, now: u64) -> Option<u64> {
        let rate = self.rates.of(kind)?;
        let shard = lock(&self.shards[shard_of(subject)]);
        let full_at = shard.find(subject, |entry| entry.subject == subject)?.full_at[kind as usize];
        drop(shard);
        full_at.saturating_sub(now).checked_sub(rate.nanos(rate.burst())).filter(|over| *over > 0)
    }

    /// Lets `change` change the bucket of a subject. `None`, without a change, if nothing is taken or there is no room for
    /// another subject.
    ///
    /// Without room it passes uncounted: so many subjects at once are no attack by one of them, and a refusal would harm
    /// those who took nothing.
    fn with_bucket<T>(&self, subject: u64, kind: Kind, cost: u64, change: impl FnOnce(&mut u64) -> T) -> Option<T> {
        if cost == 0 {
            return None;
        }
        let mut shard = lock(&self.shards[shard_of(subject)]);
        if let Some(entry) = shard.find_mut(subject, |entry| entry.subject == subject) {
            return Some(change(&mut entry.full_at[kind as usize]));
        }
        if shard.len() >= SHARD_SUBJECTS {
            return None;
        }
        let mut entry = Entry { subject, full_at: [0; Kind::COUNT] };
        let changed = change(&mut entry.full_at[kind as usize]);
        shard.insert_unique(subject, entry, |entry| entry.subject);
        Some(changed)
    }

    /// Removes the subjects of one shard whose buckets are full, the next shard at each call, and gives memory back where
    /// most of it is unused.
    pub(super) fn sweep(&self, now: u64) {
        let mut shard = lock(&self.shards[self.next.fetch_add(1, Ordering::Relaxed) % SHARDS]);
        shard.retain(|entry| entry.full_at.iter().any(|full_at| *full_at > now));
        if shard.capacity() > SMALL_TABLE && shard.len() < shard.capacity() / 4 {
            // Twice as many: the next ones do not make it grow at once.
            let room = shard.len() * 2;
            shard.shrink_to(room, |entry| entry.subject);
        }
    }

    /// Subjects with an entry.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Bytes of the tables.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).allocation_size()).sum()
    }
}

/// Shard of a subject: by other bits than those that tell the place in the shard.
fn shard_of(subject: u64) -> usize {
    (subject >> 48) as usize % SHARDS
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
