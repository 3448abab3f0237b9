//! Bound on the bytes of unfinished messages of connections that have not connected.
//!
//! Until a client has presented a credential it may be anybody, and a message of [`crate::Limits::message_size`] that never
//! ends costs the sender nothing. Each such connection that holds a part of a message has an entry here, in the order in which
//! they began; beyond the bound the oldest are closed until the rest fits. A client that sends its first message in one go
//! is the youngest, and is not among them.
//!
//! Concurrency: one mutex, held for a look-up, and taken only by connections that have received a part of a message before
//! they are connected.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

use crate::close_reason::CloseReason;
use crate::handle::Handle;

/// Unfinished messages of a node.
#[derive(Debug)]
pub(crate) struct Unfinished {
    /// Most bytes of them.
    limit: u64,
    gauge: IntGauge,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    bytes: u64,
    /// Number of the next entry.
    next: u64,
    /// By number: oldest first.
    by_age: BTreeMap<u64, Entry>,
}

/// Connection with an unfinished message.
struct Entry {
    handle: Arc<Handle>,
    bytes: u64,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Entry of a connection, which ends with it.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Unfinished>,
    number: u64,
}

impl Unfinished {
    /// No unfinished messages, and at most so many bytes of them.
    pub(crate) fn new(gauge: IntGauge, limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, gauge, entries: Mutex::default() })
    }

    /// Begins an entry, or changes the bytes of one. Returns the number of connections that were asked to close for it.
    pub(crate) fn hold(self: &Arc<Self>, share: &mut Option<Share>, handle: &Arc<Handle>, bytes: usize) -> usize {
        let mut entries = self.lock();
        let number = share.as_ref().map_or(entries.next, |share| share.number);
        let held = entries.by_age.get(&number).map_or(0, |entry| entry.bytes);
        if share.is_none() {
            entries.next += 1;
            entries.by_age.insert(number, Entry { handle: handle.clone(), bytes: 0 });
            *share = Some(Share { budget: self.clone(), number });
        }
        if let Some(entry) = entries.by_age.get_mut(&number) {
            entry.bytes = bytes as u64;
            entries.bytes = entries.bytes - held + bytes as u64;
        }
        let mut closed = Vec::new();
        while entries.bytes > self.limit
            && let Some((_, oldest)) = entries.by_age.pop_first()
        {
            entries.bytes -= oldest.bytes;
            closed.push(oldest.handle);
        }
        self.gauge.set(entries.bytes as i64);
        drop(entries);
        // Outside of the lock: what they wake gives its entry back.
        closed.iter().for_each(|handle| handle.close(CloseReason::Overloaded));
        closed.len()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut entries = self.budget.lock();
        let entry = entries.by_age.remove(&self.number);
        entries.bytes -= entry.as_ref().map_or(0, |entry| entry.bytes);
        self.budget.gauge.set(entries.bytes as i64);
        drop(entries);
        // Outside of the lock: it may be the last reference.
        drop(entry);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handle::Handle;

    fn closed(handle: &Handle) -> bool {
        handle.take().close == Some(CloseReason::Overloaded)
    }

    #[test]
    fn the_oldest_are_closed_beyond_the_bound() {
        let gauge = IntGauge::new("bytes", "bytes").unwrap();
        let budget = Unfinished::new(gauge.clone(), 100);
        let handles: Vec<_> = (0..4).map(|_| Handle::by_task()).collect();
        let mut shares: Vec<Option<Share>> = (0..4).map(|_| None).collect();
        for at in 0..3 {
            assert_eq!(budget.hold(&mut shares[at], &handles[at], 30), 0);
        }
        assert_eq!(budget.hold(&mut shares[0], &handles[0], 40), 0, "exactly the bound");
        assert_eq!(gauge.get(), 100);
        assert_eq!(budget.hold(&mut shares[3], &handles[3], 65), 2);
        assert_eq!(handles.iter().map(|handle| closed(handle)).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!(gauge.get(), 95);
        // Those that were closed give back nothing more, also if they go on for a moment.
        assert_eq!(budget.hold(&mut shares[0], &handles[0], 50), 0);
        shares[1] = None;
        assert_eq!(gauge.get(), 95);
        shares[2] = None;
        assert_eq!(gauge.get(), 65);
        assert_eq!(budget.hold(&mut shares[3], &handles[3], 10), 0);
        assert_eq!(gauge.get(), 10);
        assert_eq!(budget.hold(&mut shares[3], &handles[3], 101), 1, "one alone may be too large");
        drop(shares);
        assert_eq!((gauge.get(), budget.lock().by_age.len()), (0, 0));
    }
}
