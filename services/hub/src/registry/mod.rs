//! Registry of the node's sessions: each has a slot, from its creation until it is dropped.
//!
//! A slot is a small number that costs its holders 4 bytes where a handle costs 16: the timer wheel and a drain keep
//! slots. A slot is reused once its session is gone, so a holder that may outlive the session tolerates that it reaches
//! another one: an early tick does no harm, and during a drain every session closes.
//!
//! Concurrency: sharded, each shard behind a mutex that is held for a look-up or a chunk of slots, and under which no
//! other lock is taken. A session registers before it asks whether the node drains, and a drain sets that flag before it
//! lists the slots: so every session either is in the list or sees the flag (`tests/registry.rs` tries every
//! interleaving).

pub(crate) mod shard;

use std::cmp::Reverse;
use std::sync::{Arc, PoisonError};

use self::shard::Shard;
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Shards of a node: a power of two, more than threads that connect at once.
pub(crate) const SHARDS: usize = 16;

/// The sessions of a node.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: Vec<Mutex<Shard>>,
    draining: AtomicBool,
}

/// A session's place in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) slot: u32,
    /// The node drains, and may not know of this session: it must close itself.
    pub(crate) draining: bool,
}

impl Registry {
    /// An empty registry with so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        let shards = (0..shards).map(|_| Mutex::new(Shard::default())).collect();
        Self { shards, draining: AtomicBool::new(false) }
    }

    /// Gives a session a slot. Its drop must [`Registry::unregister`] it.
    pub(crate) fn register(&self, handle: &Arc<Handle>) -> Registered {
        let shards = self.shards.len();
        // Numbers are consecutive, so sessions are spread evenly.
        let shard = handle.number() as usize % shards;
        let index = self.lock(shard).insert(handle.clone());
        // After it can be found: see the module's documentation.
        Registered { slot: (index * shards + shard) as u32, draining: self.is_draining() }
    }

    /// Takes a session's slot back.
    pub(crate) fn unregister(&self, slot: u32) {
        let (shard, index) = self.place(slot);
        let handle = self.lock(shard).remove(index);
        // Outside of the lock: it may be the last reference.
        drop(handle);
    }

    /// Registered sessions.
    pub(crate) fn len(&self) -> usize {
        (0..self.shards.len()).map(|shard| self.lock(shard).len()).sum()
    }

    /// The session in a slot.
    pub(crate) fn get(&self, slot: u32) -> Option<Arc<Handle>> {
        let (shard, index) = self.place(slot);
        self.lock(shard).get(index).cloned()
    }

    /// Whether the node drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Begins the drain: sessions that register from now on see it. Returns the slots of all others.
    pub(crate) fn begin_drain(&self) -> Vec<u32> {
        self.draining.store(true, Ordering::SeqCst);
        let shards = self.shards.len();
        let mut slots = Vec::new();
        for shard in 0..shards {
            let locked = self.lock(shard);
            slots.extend(locked.iter().map(|(index, _)| (index * shards + shard) as u32));
        }
        slots
    }

    /// Asks the session in a slot to close, if there is one.
    pub(crate) fn close(&self, slot: u32, reason: CloseReason) {
        if let Some(handle) = self.get(slot) {
            handle.close(reason);
        }
    }

    /// The so many oldest sessions that closing would move elsewhere, oldest first.
    ///
    /// A chunk at a time, so that no connect waits long for the lock; a session that comes or goes meanwhile may be missed.
    pub(crate) fn oldest(&self, count: usize) -> Vec<Arc<Handle>> {
        let mut oldest = Vec::new();
        for shard in 0..self.shards.len() {
            for chunk in 0.. {
                let locked = self.lock(shard);
                let Some(handles) = locked.chunk(chunk) else { break };
                oldest.extend(handles.filter_map(|handle| Some((handle.seniority()?, handle.clone()))));
                drop(locked);
                // Cut now and then, not each time: sorting costs more than keeping some too many.
                if oldest.len() > count.saturating_mul(4).max(4096) {
                    keep_oldest(&mut oldest, count);
                }
            }
        }
        keep_oldest(&mut oldest, count);
        oldest.into_iter().map(|(_, handle)| handle).collect()
    }

    /// The shard of a slot, and its index in the shard.
    fn place(&self, slot: u32) -> (usize, usize) {
        (slot as usize % self.shards.len(), slot as usize / self.shards.len())
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts handles by seniority and forgets all but the first.
fn keep_oldest(handles: &mut Vec<(u32, Arc<Handle>)>, count: usize) {
    handles.sort_unstable_by_key(|(seniority, _)| Reverse(*seniority));
    handles.truncate(count);
}
