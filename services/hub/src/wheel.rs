//! One coarse timer wheel for every deadline of every connection.
//!
//! A connection has one entry: its nearest deadline. Deadlines beyond the wheel's horizon are entered at the horizon and
//! asked again then. Firing only sends a tick to the connection, which looks at its own clocks; an early tick does no harm.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::handle::Handle;

/// How exact deadlines are.
pub(crate) const TICK: Duration = Duration::from_millis(100);
const SLOTS: u64 = 1024;

/// The wheel of a node.
#[derive(Debug)]
pub(crate) struct Wheel {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Connections due at a tick, by tick modulo [`SLOTS`].
    slots: Vec<Slab<Arc<Handle>>>,
    /// The next tick to fire.
    next: u64,
}

/// Where a connection's entry is. Only its owner removes it.
#[derive(Debug)]
pub(crate) struct Timer {
    slot: u16,
    key: u32,
}

impl Wheel {
    /// An empty wheel that starts now.
    pub(crate) fn new(now: Instant) -> Self {
        let slots = (0..SLOTS).map(|_| Slab::new()).collect();
        Self { start: now, inner: Mutex::new(Inner { slots, next: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection, replacing its earlier entry.
    pub(crate) fn schedule(&self, handle: &Arc<Handle>, old: Option<Timer>, at: Instant) -> Timer {
        let due = at.saturating_duration_since(self.start).as_millis().div_ceil(TICK.as_millis()) as u64;
        let mut inner = self.lock();
        let tick = due.clamp(inner.next, inner.next + SLOTS - 1);
        let slot = (tick % SLOTS) as u16;
        if let Some(old) = old {
            if old.slot == slot && inner.holds(handle, &old) {
                return old;
            }
            inner.remove(handle, &old);
        }
        let key = inner.slots[usize::from(slot)].insert(handle.clone()) as u32;
        Timer { slot, key }
    }

    /// Removes a connection's entry. An entry that has fired is gone already.
    pub(crate) fn cancel(&self, handle: &Arc<Handle>, timer: &Timer) {
        self.lock().remove(handle, timer);
    }

    /// Fires everything due by `now`.
    pub(crate) fn advance(&self, now: Instant) {
        let target = (now.saturating_duration_since(self.start).as_millis() / TICK.as_millis()) as u64;
        loop {
            let due = {
                let mut inner = self.lock();
                if inner.next > target {
                    return;
                }
                let slot = (inner.next % SLOTS) as usize;
                inner.next += 1;
                std::mem::take(&mut inner.slots[slot])
            };
            for (_, handle) in due {
                handle.tick();
            }
        }
    }

    /// Every connection there is: each has an entry as long as it lives (but for the moment between firing and
    /// re-entering).
    pub(crate) fn handles(&self) -> Vec<Arc<Handle>> {
        self.lock().slots.iter().flat_map(|slot| slot.iter().map(|(_, handle)| handle.clone())).collect()
    }

    /// The so many oldest connections that closing would move elsewhere, oldest first.
    ///
    /// A slot at a time, so that nobody waits long for the lock; one that is entered anew meanwhile may be missed, or be
    /// there twice.
    pub(crate) fn oldest(&self, count: usize) -> Vec<Arc<Handle>> {
        let mut oldest = Vec::new();
        for slot in 0..SLOTS as usize {
            let inner = self.lock();
            for (_, handle) in &inner.slots[slot] {
                let Some(seniority) = handle.seniority() else { continue };
                oldest.push((seniority, handle.clone()));
            }
            drop(inner);
            // Cut now and then, not each time: sorting costs more than keeping some too many.
            if oldest.len() > count.saturating_mul(4).max(4096) {
                keep_oldest(&mut oldest, count);
            }
        }
        keep_oldest(&mut oldest, count);
        oldest.into_iter().map(|(_, handle)| handle).collect()
    }
}

/// Sorts handles by seniority and forgets all but the first.
fn keep_oldest(handles: &mut Vec<(u32, Arc<Handle>)>, count: usize) {
    handles.sort_unstable_by_key(|(seniority, _)| Reverse(*seniority));
    handles.truncate(count);
}

impl Inner {
    /// Whether the entry is still there: its slot may have fired and been filled anew by others since.
    fn holds(&self, handle: &Arc<Handle>, timer: &Timer) -> bool {
        let held = self.slots[usize::from(timer.slot)].get(timer.key as usize);
        held.is_some_and(|held| Arc::ptr_eq(held, handle))
    }

    fn remove(&mut self, handle: &Arc<Handle>, timer: &Timer) {
        if self.holds(handle, timer) {
            let slot = &mut self.slots[usize::from(timer.slot)];
            slot.remove(timer.key as usize);
            if slot.is_empty() {
                *slot = Slab::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handle::ByTask;

    fn ticked(handle: &Handle) -> bool {
        handle.take().tick
    }

    #[test]
    fn fires_at_the_tick_and_forgets_the_cancelled() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (a, b) = (Handle::by_task(), Handle::by_task());
        wheel.schedule(&a, None, start + Duration::from_millis(250));
        let timer = wheel.schedule(&b, None, start + Duration::from_millis(250));
        wheel.cancel(&b, &timer);
        wheel.advance(start + Duration::from_millis(200));
        assert!(!ticked(&a));
        wheel.advance(start + Duration::from_millis(300));
        assert!(ticked(&a) && !ticked(&b));
        assert_eq!((Arc::strong_count(&a), Arc::strong_count(&b)), (1, 1), "nothing is kept after its tick");
    }

    #[test]
    fn the_oldest_are_those_that_came_first_and_can_be_moved() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let all: Vec<Arc<Handle>> = (0..5).map(|_| Arc::new(Handle::new(ByTask)) as Arc<Handle>).collect();
        // In another order, at other times.
        for (at, place) in [3, 0, 4, 1, 2].into_iter().enumerate() {
            wheel.schedule(&all[place], None, start + TICK * at as u32);
        }
        wheel.schedule(&Handle::by_task(), None, start);
        all[1].close(crate::close_reason::CloseReason::Rebalanced);
        let places = |count| -> Vec<usize> {
            let oldest = wheel.oldest(count);
            oldest.iter().map(|old| all.iter().position(|one| Arc::ptr_eq(one, old)).unwrap()).collect()
        };
        assert_eq!(places(2), [0, 2]);
        assert_eq!(places(100), [0, 2, 3, 4]);
    }

    #[test]
    fn far_deadlines_come_at_the_horizon_first() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let a = Handle::by_task();
        let first = wheel.schedule(&a, None, start + Duration::from_secs(3600));
        let _second = wheel.schedule(&a, Some(first), start + Duration::from_secs(3600));
        assert_eq!(wheel.handles().len(), 1);
        wheel.advance(start + TICK * 1023);
        assert!(ticked(&a));
    }
}
