//! Messages posted lately, for sessions that are not found yet.
//!
//! A credential is checked before its session is registered. A message in between finds nobody: it is kept for a while,
//! with a number, and a session that is identified receives those posted since its credential was presented.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Key;
use crate::sync::{AtomicU32, Mutex, Ordering};

/// Far longer than it takes from the check of a credential to the registration of its session.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Most messages that are kept.
pub(crate) const KEPT: usize = 4096;

/// Messages posted lately, oldest first. Their numbers are consecutive, up to the newest.
#[derive(Debug)]
pub(crate) struct Recent<M> {
    /// Number of the newest, so that whoever has missed none takes no lock.
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

    /// Keeps a message. Must come before the sessions that it is for are looked up.
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

    /// Messages for one of the keys after the one with a number. `None` if it is so long ago that some are not kept.
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
