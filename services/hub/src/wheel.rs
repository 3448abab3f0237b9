//! One coarse timer wheel for every deadline of every connection.
//!
//! A connection has one entry: its nearest deadline. Deadlines beyond the wheel's horizon are entered at the horizon and
//! asked again then. Firing only sends a tick to the connection, which looks at its own clocks; an early tick does no harm.
//! The wheel knows connections by their slots in the [registry](crate::registry) and does nothing but keep time.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How exact deadlines are.
pub(crate) const TICK: Duration = Duration::from_millis(100);
const BUCKETS: u64 = 1024;

/// The wheel of a node.
#[derive(Debug)]
pub(crate) struct Wheel {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Connections due at a tick, by tick modulo [`BUCKETS`].
    buckets: Vec<Bucket>,
    /// The next tick to fire.
    next: u64,
}

/// Slots of connections, 4 bytes each: a slab whose free entries link to each other.
#[derive(Debug, Default)]
struct Bucket {
    /// A slot, or [`FREE`] and the key of the next free entry.
    entries: Vec<u32>,
    /// Key of the first free entry.
    free: Option<NonZeroU32>,
    len: u32,
}

/// Marks free entries. A node never has so many connections that a slot reaches it.
const FREE: u32 = 1 << 31;

/// Where a connection's entry is. Only its owner removes it.
#[derive(Debug)]
pub(crate) struct Timer {
    bucket: u16,
    key: NonZeroU32,
}

impl Wheel {
    /// An empty wheel that starts now.
    pub(crate) fn new(now: Instant) -> Self {
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Self { start: now, inner: Mutex::new(Inner { buckets, next: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection, replacing its earlier entry.
    pub(crate) fn schedule(&self, slot: u32, old: Option<Timer>, at: Instant) -> Timer {
        let due = at.saturating_duration_since(self.start).as_millis().div_ceil(TICK.as_millis()) as u64;
        let mut inner = self.lock();
        let tick = due.clamp(inner.next, inner.next + BUCKETS - 1);
        let bucket = (tick % BUCKETS) as u16;
        if let Some(old) = old {
            if old.bucket == bucket && inner.buckets[usize::from(bucket)].holds(old.key, slot) {
                return old;
            }
            inner.buckets[usize::from(old.bucket)].remove(old.key, slot);
        }
        Timer { bucket, key: inner.buckets[usize::from(bucket)].insert(slot) }
    }

    /// Removes a connection's entry. An entry that has fired is gone already.
    pub(crate) fn cancel(&self, slot: u32, timer: &Timer) {
        self.lock().buckets[usize::from(timer.bucket)].remove(timer.key, slot);
    }

    /// Passes the slots of everything due by `now` to `fire`, outside of the wheel's lock. Such a slot may have got
    /// another connection since.
    pub(crate) fn advance(&self, now: Instant, mut fire: impl FnMut(u32)) {
        let target = (now.saturating_duration_since(self.start).as_millis() / TICK.as_millis()) as u64;
        loop {
            let due = {
                let mut inner = self.lock();
                if inner.next > target {
                    return;
                }
                let bucket = (inner.next % BUCKETS) as usize;
                inner.next += 1;
                std::mem::take(&mut inner.buckets[bucket])
            };
            due.entries.into_iter().filter(|entry| entry & FREE == 0).for_each(&mut fire);
        }
    }
}

impl Bucket {
    /// Adds a slot. Its key is one more than its index.
    fn insert(&mut self, slot: u32) -> NonZeroU32 {
        debug_assert_eq!(slot & FREE, 0);
        self.len += 1;
        let Some(key) = self.free else {
            self.entries.push(slot);
            return NonZeroU32::MIN.saturating_add(self.entries.len() as u32 - 1);
        };
        let entry = std::mem::replace(&mut self.entries[index(key)], slot);
        self.free = NonZeroU32::new(entry & !FREE);
        key
    }

    /// Whether the entry is still the slot's: the bucket may have fired and been filled anew by others since.
    fn holds(&self, key: NonZeroU32, slot: u32) -> bool {
        self.entries.get(index(key)) == Some(&slot)
    }

    fn remove(&mut self, key: NonZeroU32, slot: u32) {
        if !self.holds(key, slot) {
            return;
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
            return;
        }
        self.entries[index(key)] = FREE | self.free.map_or(0, NonZeroU32::get);
        self.free = Some(key);
    }
}

fn index(key: NonZeroU32) -> usize {
    key.get() as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &Wheel, now: Instant) -> Vec<u32> {
        let mut fired = Vec::new();
        wheel.advance(now, |slot| fired.push(slot));
        fired
    }

    #[test]
    fn fires_at_the_tick_and_forgets_the_cancelled() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        wheel.schedule(7, None, start + Duration::from_millis(250));
        let timer = wheel.schedule(8, None, start + Duration::from_millis(250));
        wheel.cancel(8, &timer);
        assert!(fired(&wheel, start + Duration::from_millis(200)).is_empty());
        assert_eq!(fired(&wheel, start + Duration::from_millis(300)), [7]);
    }

    #[test]
    fn an_entry_that_has_fired_is_not_taken_for_another() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let stale = wheel.schedule(1, None, start + TICK);
        assert_eq!(fired(&wheel, start + TICK), [1]);
        // The same bucket, a revolution later, at the same key.
        let again = start + TICK * (1 + BUCKETS as u32);
        wheel.schedule(2, None, again);
        wheel.cancel(1, &stale);
        assert_eq!(fired(&wheel, again), [2]);
    }

    #[test]
    fn entries_are_reused_and_an_empty_bucket_keeps_nothing() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let mut timers: Vec<_> = (0..100).map(|slot| wheel.schedule(slot, None, start + TICK)).collect();
        for slot in [3, 99, 50] {
            wheel.cancel(slot, &timers[slot as usize]);
        }
        for slot in [50, 3, 99] {
            timers[slot as usize] = wheel.schedule(slot, None, start + TICK);
        }
        assert_eq!(wheel.lock().buckets[1].entries.len(), 100);
        // To another tick and back.
        let moved = wheel.schedule(10, None, start + TICK * 2);
        let moved = wheel.schedule(10, Some(moved), start + TICK * 3);
        wheel.cancel(10, &moved);
        (0..100).for_each(|slot| wheel.cancel(slot, &timers[slot as usize]));
        assert!(wheel.lock().buckets.iter().all(|bucket| bucket.entries.capacity() == 0));
    }

    #[test]
    fn far_deadlines_come_at_the_horizon_first() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let first = wheel.schedule(1, None, start + Duration::from_secs(3600));
        let _second = wheel.schedule(1, Some(first), start + Duration::from_secs(3600));
        assert_eq!(fired(&wheel, start + TICK * 1023), [1]);
    }

    #[test]
    fn a_timer_is_small() {
        assert_eq!(size_of::<Option<Timer>>(), 8);
    }
}
