//! Slots of the registry. Apart from it, because `tests/registry.rs` compiles its files with the locks of the model checker.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::close_reason::CloseReason;
use super::handle::{ByTask, Handle};
use super::registry::Registry;
use super::registry::shard::{CHUNK, Shard, Slots};

fn handle() -> Arc<Handle> {
    Arc::new(Handle::new(ByTask))
}

#[test]
fn a_slot_is_its_sessions_until_that_is_gone() {
    let registry = Registry::new(4);
    let handles: Vec<_> = (0..1000).map(|_| handle()).collect();
    let slots: Vec<_> = handles.iter().map(|handle| registry.register(handle).slot).collect();
    assert_eq!(registry.len(), 1000);
    for (slot, handle) in slots.iter().zip(&handles) {
        assert!(Arc::ptr_eq(&registry.get(*slot).unwrap(), handle));
    }
    for slot in slots.iter().step_by(2) {
        registry.unregister(*slot);
        assert!(registry.get(*slot).is_none());
    }
    assert_eq!(registry.len(), 500);
    assert_eq!(Arc::strong_count(&handles[0]), 1, "nothing is kept of it");
    let again: Vec<_> = handles.iter().step_by(2).map(|handle| registry.register(handle).slot).collect();
    assert_eq!(again.iter().max(), slots.iter().step_by(2).max(), "free slots are used first");
}

#[test]
fn the_oldest_are_those_that_came_first_and_can_be_moved() {
    let registry = Registry::new(2);
    let all: Vec<_> = (0..300).map(|_| handle()).collect();
    // In another order.
    all.iter().rev().for_each(|handle| _ = registry.register(handle));
    registry.register(&Handle::by_task());
    all[1].close(CloseReason::Rebalanced);
    let places = |count| -> Vec<usize> {
        let oldest = registry.oldest(count);
        oldest.iter().map(|old| all.iter().position(|one| Arc::ptr_eq(one, old)).unwrap()).collect()
    };
    assert_eq!(places(2), [0, 2]);
    assert_eq!(places(1000), [0].into_iter().chain(2..300).collect::<Vec<_>>());
}

#[test]
fn a_drain_knows_every_session_or_the_session_knows_of_it() {
    let registry = Registry::new(4);
    let before: Vec<_> = (0..100).map(|_| registry.register(&handle())).collect();
    assert!(before.iter().all(|registered| !registered.draining));
    let mut slots = registry.begin_drain();
    slots.sort_unstable();
    let mut expected: Vec<_> = before.iter().map(|registered| registered.slot).collect();
    expected.sort_unstable();
    assert_eq!(slots, expected);
    assert!(registry.register(&handle()).draining);
}

#[test]
fn a_slot_is_small_and_a_chunk_without_sessions_is_given_back() {
    assert_eq!(size_of::<Slots>(), CHUNK * 16);
    let mut shard = Shard::default();
    let indices: Vec<_> = (0..3 * CHUNK).map(|_| shard.insert(Handle::by_task())).collect();
    assert_eq!(indices, (0..3 * CHUNK).collect::<Vec<_>>());
    for index in CHUNK..2 * CHUNK {
        assert!(shard.remove(index).is_some() && shard.remove(index).is_none());
    }
    assert!(shard.get(CHUNK).is_none());
    assert_eq!(shard.allocated(), 2 * CHUNK);
    assert_eq!((shard.len(), shard.iter().count()), (2 * CHUNK, 2 * CHUNK));
    assert_eq!(shard.insert(Handle::by_task()), CHUNK);
}
