//! Messages posted recently, for sessions that are not found yet.
//!
//! A credential is checked before its session is registered under it. A message that is posted in between finds no session:
//! it is kept here under a number, and the session receives every message for its keys that was posted after the number it
//! took before the check.
//!
//! Invariants, all under the lock of `kept`:
//! * Numbers are consecutive: each message takes the number after `newest`, and `newest` is stored with it. Messages are
//!   added at the back and dropped at the front only. So the kept ones are exactly the last `kept.len()` numbers up to
//!   `newest`: a number alone tells which messages follow it, and whether one of these was dropped. Messages carry none.
//! * Nothing is dropped silently: where a message after the given number may be missing, [`Recent::after`] is `None`.
//!
//! Numbers wrap. A session would have to be identified 2^32 messages after its credential was presented to be mistaken.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Key;
use crate::sync::{AtomicU32, Mutex, Ordering};

/// Age beyond which a message is dropped, with the next one that is added: it bounds how long an identification may take to
/// receive everything since its credential was presented, unless more than [`KEPT`] messages come meanwhile. Far longer
/// than it takes; only the memory of old messages is saved by it.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Messages kept at most, whatever their age.
pub(crate) const KEPT: usize = 4096;

/// Messages posted recently, oldest first. See the module's documentation for the invariants.
#[derive(Debug)]
pub(crate) struct Recent<M> {
    /// Number of the newest. Outside the lock, so that an identification that has missed none takes no lock.
    newest: AtomicU32,
    kept: Mutex<VecDeque<Posted<M>>>,
}

#[derive(Debug)]
struct Posted<M> {
    at: Instant,
    key: Key,
    message: M,
}

impl<M: Clone> Recent<M> {
    pub(crate) fn new() -> Self {
        Self { newest: AtomicU32::new(0), kept: Mutex::new(VecDeque::new()) }
    }

    /// Number of the newest message.
    pub(crate) fn newest(&self) -> u32 {
        self.newest.load(Ordering::SeqCst)
    }

    /// Keeps a message. Must come before its sessions are looked up: one that is registered after the look-up finds it here.
    pub(crate) fn add(&self, key: Key, message: M) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let outdated = |posted: &Posted<M>| now.saturating_duration_since(posted.at) > KEPT_FOR;
        while kept.len() >= KEPT || kept.front().is_some_and(outdated) {
            kept.pop_front();
        }
        let number = self.newest().wrapping_add(1);
        kept.push_back(Posted { at: now, key, message });
        self.newest.store(number, Ordering::SeqCst);
    }

    /// Messages for one of the keys after the one with a number, oldest first. Must come after the session can be found by
    /// these keys.
    ///
    /// `None` if a message after that number was dropped. It may have been for one of the keys: the session must not go on
    /// with the credential, and the caller has the client present it again.
    pub(crate) fn after(&self, number: u32, keys: [Key; 2]) -> Option<Vec<M>> {
        if self.newest() == number {
            return Some(Vec::new());
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = self.newest().wrapping_sub(number) as usize;
        let first = kept.len().checked_sub(missed)?;
        let missed = kept.range(first..).filter(|posted| keys.contains(&posted.key));
        Some(missed.map(|posted| posted.message.clone()).collect())
    }
}
