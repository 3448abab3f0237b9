//! Slots of the registry. Apart from it, because `tests/registry.rs` compiles its files with the locks of the model checker.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::{Variant, Version};

use super::close_reason::CloseReason;
use super::handle::{ByTask, Handle};
use super::registry::client_id::{ClientIds, Place};
use super::registry::recent::KEPT;
use super::registry::shard::MAILBOX;
use super::registry::slab::{CHUNK, Slab, Slots};
use super::registry::users::Users;
use super::registry::{Key, Registry};

fn handle() -> Arc<Handle> {
    Arc::new(Handle::new(ByTask))
}

#[test]
fn a_slot_is_its_sessions_until_that_is_gone() {
    let registry = Registry::<u32>::new(4);
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
    let registry = Registry::<u32>::new(2);
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
    let registry = Registry::<u32>::new(4);
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
    assert_eq!(size_of::<Slots>(), CHUNK * 32);
    let mut slab = Slab::default();
    let indices: Vec<_> = (0..3 * CHUNK).map(|_| slab.insert(Handle::by_task())).collect();
    assert_eq!(indices, (0..3 * CHUNK).collect::<Vec<_>>());
    for index in CHUNK..2 * CHUNK {
        assert!(slab.remove(index).is_some() && slab.remove(index).is_none());
    }
    assert!(slab.get(CHUNK).is_none());
    assert_eq!(slab.allocated(), 2 * CHUNK);
    assert_eq!((slab.len(), slab.indices().count()), (2 * CHUNK, 2 * CHUNK));
    assert_eq!(slab.insert(Handle::by_task()), CHUNK);
}

#[test]
fn a_client_id_leads_to_its_session_and_no_other_id_does() {
    let registry = Registry::<u32>::new(4);
    let handles: Vec<_> = (0..200).map(|_| handle()).collect();
    let slots: Vec<_> = handles.iter().map(|handle| registry.register(handle).slot).collect();
    let ids: Vec<_> = slots.iter().zip(&handles).map(|(slot, handle)| registry.client_id(*slot, handle)).collect();
    for (id, handle) in ids.iter().zip(&handles) {
        assert_eq!((id.get_version(), id.get_variant()), (Some(Version::Random), Variant::RFC4122));
        assert!(Arc::ptr_eq(&registry.find(*id).unwrap(), handle));
        for bit in 0..128 {
            assert!(registry.find(uuid::Uuid::from_u128(id.as_u128() ^ 1 << bit)).is_none());
        }
    }
    let other_process = Registry::<u32>::new(4);
    handles.iter().for_each(|handle| _ = other_process.register(handle));
    assert!(ids.iter().all(|id| other_process.find(*id).is_none()));
    registry.unregister(slots[0]);
    assert!(registry.find(ids[0]).is_none());
    // A handle's number decides on its shard: others of this process may take some of them.
    let taken_again = (0..1000).map(|_| handle()).any(|next| registry.register(&next).slot == slots[0]);
    assert!(taken_again);
    assert!(registry.find(ids[0]).is_none(), "the slot is another session's");
}

#[test]
fn client_ids_look_random_though_places_are_consecutive() {
    let ids = ClientIds::new();
    let mut set = [0_u32; 128];
    for number in 0..10_000 {
        let id = ids.id(Place { slot: number % 16, number }).as_u128();
        set.iter_mut().enumerate().for_each(|(bit, count)| *count += (id >> bit & 1) as u32);
    }
    // Four bits of the version and two of the variant stand still.
    let fixed = set.iter().filter(|count| [0, 10_000].contains(*count)).count();
    let even = set.iter().filter(|count| (4_700..5_300).contains(*count)).count();
    assert_eq!((fixed, even), (6, 122), "{set:?}");
}

#[test]
fn users_find_exactly_their_sessions() {
    let mut random = StdRng::seed_from_u64(1);
    let (mut slab, mut users) = (Slab::default(), Users::default());
    (0..300).for_each(|_| _ = slab.insert(handle()));
    let mut expected = BTreeMap::<u32, BTreeSet<usize>>::new();
    for _ in 0..20_000 {
        let (index, hash) = (random.random_range(0..300), random.random_range(0..40));
        users.set(&mut slab, index, hash);
        expected.values_mut().for_each(|indices| _ = indices.remove(&index));
        expected.entry(hash).or_default().insert(index);
        let asked = random.random_range(1..40);
        let found: Vec<_> = users.with(&slab, asked).collect();
        assert_eq!(found.len(), expected.get(&asked).map_or(0, BTreeSet::len), "none twice");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected.get(&asked).cloned().unwrap_or_default());
    }
}

#[test]
fn a_message_goes_to_those_with_the_key_and_goes_with_them() {
    let registry = Registry::<u32>::new(2);
    let handles: Vec<_> = (0..6).map(|_| handle()).collect();
    let slots: Vec<_> = handles.iter().map(|handle| registry.register(handle).slot).collect();
    // Anonymous, two of user 1, two of user 2 with one token, one of user 2 with another.
    for (slot, (user, token)) in slots.iter().zip([(0, 0), (1, 0), (1, 0), (2, 7), (2, 7), (2, 8)]) {
        assert!(registry.identify(*slot, user, token, 0));
    }
    let post = |key, message| registry.post(key, &message, |_, _| false).0;
    let keys = [Key::User(0), Key::Token(0), Key::User(1), Key::User(2), Key::Token(7), Key::Token(9)];
    assert_eq!([0, 1, 2, 3, 4, 5].map(|at| post(keys[at], at as u32)), [0, 0, 2, 3, 2, 0]);
    assert!(!handles[0].take().mail && handles[1].take().mail);
    assert_eq!(registry.take_mail(slots[4]), [3, 4]);
    assert!(registry.take_mail(slots[4]).is_empty(), "taken once");
    assert!(registry.identify(slots[5], 1, 0, registry.newest_message()));
    assert_eq!((post(Key::User(2), 6), post(Key::Token(8), 6)), (2, 0), "found by what it is now");
    registry.unregister(slots[3]);
    registry.register(&handle());
    assert!(registry.take_mail(slots[3]).is_empty(), "not for a later session of the slot");
    assert_eq!(post(Key::User(2), 7), 1);
}

#[test]
fn a_mailbox_is_bounded() {
    let registry = Registry::<u32>::new(1);
    let handle = handle();
    let slot = registry.register(&handle).slot;
    assert!(registry.identify(slot, 1, 0, 0));
    // Smaller ones yield to larger ones.
    let post = |message: u32| registry.post(Key::User(1), &message, |older, newer| older < newer);
    (1..=MAILBOX as u32).rev().for_each(|message| assert_eq!(post(message).0, 1));
    let (posted, full) = post(1);
    assert!(posted == 0 && Arc::ptr_eq(&full[0], &handle));
    assert_eq!(post(2).0, 1);
    let mail = registry.take_mail(slot);
    assert_eq!((mail.len(), mail[MAILBOX - 2], mail[MAILBOX - 1]), (MAILBOX, 2, 2));
    assert_eq!(post(1).0, 1);
}

#[test]
fn messages_since_a_credential_was_presented_reach_its_session() {
    let registry = Registry::<u32>::new(1);
    let post = |key, message: u32| registry.post(key, &message, |_, _| false).0;
    post(Key::User(1), 1);
    let presented = registry.newest_message();
    for (key, message) in [(Key::User(1), 2), (Key::Token(7), 3), (Key::User(2), 4), (Key::Token(1), 5)] {
        assert_eq!(post(key, message), 0, "nobody is found");
    }
    let handle = handle();
    let slot = registry.register(&handle).slot;
    assert!(registry.identify(slot, 1, 7, presented));
    assert!(handle.take().mail);
    assert_eq!(registry.take_mail(slot), [2, 3]);
    assert!(registry.identify(slot, 0, 0, presented) && !handle.take().mail, "nobody's");

    (0..KEPT as u32).for_each(|message| _ = post(Key::User(3), message));
    assert!(!registry.identify(slot, 1, 7, presented), "not known any more");
    assert!(registry.identify(slot, 1, 7, registry.newest_message()) && !handle.take().mail);
}
