//! Registry of the node's sessions: each has a slot, from its creation until it is dropped.
//!
//! A slot is a small number that costs its holders 4 bytes where a handle costs 16: the timer wheel and a drain keep
//! slots. A slot is reused once its session is gone, so a holder that may outlive the session tolerates that it reaches
//! another one: an early tick does no harm, and during a drain every session closes.
//!
//! Sessions are found by their client id, which carries the slot ([`client_id`]); by user, through a table of hashes; and
//! by token id, by a scan of hashes, because that is rare. Hashes have 32 bits: each session confirms what it is found by.
//!
//! A mailbox costs nothing while it is empty: its queue is in the shard only while it has messages, and a bit of the
//! handle's signals says so. Messages are posted under the lock that removes a session with its mailbox, so none reaches
//! a later session of the slot. One that was posted between the check of a credential and the registration of its session
//! reaches that session too ([`recent`]). Close is a signal and no message: a drain allocates nothing.
//!
//! Concurrency: sharded, each shard behind a mutex that is held for a look-up or a chunk of slots (for a scan of the
//! token hashes: 4 bytes per session of the shard), and under which no other lock is taken. A session registers before it
//! asks whether the node drains, and a drain sets that flag before it lists the slots: so every session either is in the
//! list or sees the flag (`tests/registry.rs` tries every interleaving).

pub(crate) mod client_id;
pub(crate) mod crowds;
pub(crate) mod recent;
pub(crate) mod shard;
pub(crate) mod slab;
pub(crate) mod users;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use uuid::Uuid;

use self::client_id::{ClientIds, Place};
use self::crowds::Crowds;
use self::recent::Recent;
use self::shard::Shard;
use self::slab::NONE;
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Shards of a node: a power of two, more than threads that connect at once.
pub(crate) const SHARDS: usize = 16;

/// The sessions of a node, and the messages `M` that wait for them.
#[derive(Debug)]
pub(crate) struct Registry<M> {
    shards: Vec<Mutex<Shard<M>>>,
    draining: AtomicBool,
    ids: ClientIds,
    recent: Recent<M>,
    crowds: Crowds,
}

/// A session's place in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) slot: u32,
    /// The node drains, and may not know of this session: it must close itself.
    pub(crate) draining: bool,
}

/// What sessions are found by besides their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Hash of a user.
    User(u32),
    /// Hash of a token id.
    Token(u32),
}

impl<M: Clone> Registry<M> {
    /// An empty registry with so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        let shards = (0..shards).map(|_| Mutex::new(Shard::default())).collect();
        Self {
            shards,
            draining: AtomicBool::new(false),
            ids: ClientIds::new(),
            recent: Recent::new(),
            crowds: Crowds::new(),
        }
    }

    /// Gives a session a slot. Its drop must [`Registry::unregister`] it.
    pub(crate) fn register(&self, handle: &Arc<Handle>) -> Registered {
        // Numbers are consecutive, so sessions are spread evenly.
        let shard = handle.number() as usize % self.shards.len();
        let index = self.lock(shard).sessions.insert(handle.clone());
        // After it can be found: see the module's documentation.
        Registered { slot: self.slot(shard, index), draining: self.is_draining() }
    }

    /// Takes a session's slot back. What was posted to it is dropped.
    pub(crate) fn unregister(&self, slot: u32) {
        let (shard, index) = self.place(slot);
        let (handle, user) = self.lock(shard).remove(index);
        self.crowds.moved(user, NONE);
        // Outside of the lock: it may be the last reference.
        drop(handle);
    }

    /// Number of the newest message that was posted. Taken before a credential is checked, for [`Registry::identify`].
    pub(crate) fn newest_message(&self) -> u32 {
        self.recent.newest()
    }

    /// Sets the hashes by which a session is found: of its user and of its token's id, 0 where there is none. Messages for
    /// either that were posted after the one with a number, and did not find it yet, are put into its mailbox. False if that
    /// is so long ago that they are not known.
    pub(crate) fn identify(&self, slot: u32, user: u32, token: u32, after: u32) -> bool {
        let (shard, index) = self.place(slot);
        let before = self.lock(shard).identify(index, user, token);
        self.crowds.moved(before, user);
        if (user, token) == (NONE, NONE) {
            return true;
        }
        // After it can be found: a message either finds it, or is found here.
        let Some(missed) = self.recent.after(after, [Key::User(user), Key::Token(token)]) else { return false };
        if missed.is_empty() {
            return true;
        }
        let mut locked = self.lock(shard);
        let posted = missed.into_iter().all(|message| locked.post(index, message, |_, _| false));
        let handle = locked.sessions.get(index).cloned();
        drop(locked);
        handle.iter().for_each(|handle| handle.has_mail());
        posted
    }

    /// The session is found by its user and its token no more.
    pub(crate) fn forget(&self, slot: u32) {
        let (shard, index) = self.place(slot);
        let before = self.lock(shard).identify(index, NONE, NONE);
        self.crowds.moved(before, NONE);
    }

    /// Number of sessions whose users have this hash, counted up to a number; below that it may be too high.
    ///
    /// Another user may have the same hash, at odds of one in four billion for each pair. Nobody can choose to: the key of
    /// the hashes is drawn at start.
    pub(crate) fn count_user(&self, user: u32, most: usize) -> usize {
        let crowd = self.crowds.of(user);
        if crowd < most {
            // Nearly always, and a look at one number instead of all shards.
            return crowd;
        }
        let mut count = 0;
        for shard in 0..self.shards.len() {
            count += self.lock(shard).count_user(user, most - count);
            if count >= most {
                break;
            }
        }
        count
    }

    /// Registered sessions.
    pub(crate) fn len(&self) -> usize {
        (0..self.shards.len()).map(|shard| self.lock(shard).sessions.len()).sum()
    }

    /// The session in a slot.
    pub(crate) fn get(&self, slot: u32) -> Option<Arc<Handle>> {
        let (shard, index) = self.place(slot);
        self.lock(shard).sessions.get(index).cloned()
    }

    /// The id of the client whose session is in a slot.
    pub(crate) fn client_id(&self, slot: u32, handle: &Handle) -> Uuid {
        self.ids.id(Place { slot, number: handle.number() })
    }

    /// The session of a client.
    pub(crate) fn find(&self, client: Uuid) -> Option<Arc<Handle>> {
        let Place { slot, number } = self.ids.place(client)?;
        self.get(slot).filter(|handle| handle.number() == number)
    }

    /// Posts a message to every session with a key; `yields`: whether an older message may go for a newer one. Returns those that took it, and those whose mailboxes are full.
    pub(crate) fn post(&self, key: Key, message: &M, yields: fn(&M, &M) -> bool) -> (usize, Vec<Arc<Handle>>) {
        let (mut posted, mut full) = (0, Vec::new());
        if matches!(key, Key::User(NONE) | Key::Token(NONE)) {
            return (0, full);
        }
        self.recent.add(key, message.clone());
        for shard in 0..self.shards.len() {
            let mut took = Vec::new();
            let mut locked = self.lock(shard);
            for index in locked.with(key) {
                let Some(handle) = locked.sessions.get(index).cloned() else { continue };
                match locked.post(index, message.clone(), yields) {
                    true => took.push(handle),
                    false => full.push(handle),
                }
            }
            drop(locked);
            posted += took.len();
            took.iter().for_each(|handle| handle.has_mail());
        }
        (posted, full)
    }

    /// The messages of a session, oldest first.
    pub(crate) fn take_mail(&self, slot: u32) -> VecDeque<M> {
        let (shard, index) = self.place(slot);
        self.lock(shard).take_mail(index)
    }

    /// Whether the node drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Begins the drain: sessions that register from now on see it. Returns the slots of all others.
    pub(crate) fn begin_drain(&self) -> Vec<u32> {
        self.draining.store(true, Ordering::SeqCst);
        let mut slots = Vec::new();
        for shard in 0..self.shards.len() {
            slots.extend(self.lock(shard).sessions.indices().map(|index| self.slot(shard, index)));
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
                let Some(handles) = locked.sessions.chunk(chunk) else { break };
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

    fn slot(&self, shard: usize, index: usize) -> u32 {
        (index * self.shards.len() + shard) as u32
    }

    /// The shard of a slot, and its index in the shard.
    fn place(&self, slot: u32) -> (usize, usize) {
        (slot as usize % self.shards.len(), slot as usize / self.shards.len())
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard<M>> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts handles by seniority and forgets all but the first.
fn keep_oldest(handles: &mut Vec<(u32, Arc<Handle>)>, count: usize) {
    handles.sort_unstable_by_key(|(seniority, _)| Reverse(*seniority));
    handles.truncate(count);
}
