//! Sessions that come and go while the node drains, and messages to them, in every interleaving (loom): none stays open,
//! no slot is lost, no message is slept over or missed, and none reaches another session.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, unreachable_pub, unused_imports, reason = "the files under test are those of the library")]

#[path = "../src/close_reason.rs"]
mod close_reason;
#[path = "../src/handle.rs"]
mod handle;
#[path = "../src/registry/mod.rs"]
mod registry;
#[path = "support/sync.rs"]
mod sync;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::task::{Wake, Waker};

use loom::thread;

use close_reason::CloseReason;
use handle::{ByTask, Handle};
use registry::{Key, Registry};

/// A session as far as a drain is concerned.
struct Session {
    handle: Arc<Handle>,
    slot: u32,
    /// It saw on its creation that the node drains.
    draining: bool,
}

impl Session {
    fn begin(registry: &Registry<u32>) -> Self {
        let handle: Arc<Handle> = Arc::new(Handle::new(ByTask));
        let registered = registry.register(&handle);
        Self { handle, slot: registered.slot, draining: registered.draining }
    }

    fn end(self, registry: &Registry<u32>) {
        registry.unregister(self.slot);
    }

    fn closes(&self) -> bool {
        self.draining || self.handle.take().close == Some(CloseReason::Shutdown)
    }
}

/// The wake-ups of a session's task.
#[derive(Default)]
struct Wakes(Count);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

fn drain(registry: &Registry<u32>) {
    for slot in registry.begin_drain() {
        registry.close(slot, CloseReason::Shutdown);
    }
}

#[test]
fn no_session_that_begins_is_missed_by_a_drain() {
    loom::model(|| {
        let registry = Arc::new(Registry::<u32>::new(1));
        let begins: Vec<_> = (0..2)
            .map(|_| {
                let registry = registry.clone();
                thread::spawn(move || Session::begin(&registry))
            })
            .collect();
        drain(&registry);
        let sessions: Vec<_> = begins.into_iter().map(|session| session.join().unwrap()).collect();
        assert!(sessions.iter().all(Session::closes), "a session outlives the drain");
        sessions.into_iter().for_each(|session| session.end(&registry));
        assert_eq!(registry.len(), 0);
    });
}

#[test]
fn no_session_in_a_reused_slot_is_missed_by_a_drain() {
    loom::model(|| {
        let registry = Arc::new(Registry::<u32>::new(1));
        let first = Session::begin(&registry);
        let others = {
            let registry = registry.clone();
            thread::spawn(move || {
                let slot = first.slot;
                first.end(&registry);
                let second = Session::begin(&registry);
                assert_eq!(second.slot, slot);
                second
            })
        };
        drain(&registry);
        let second = others.join().unwrap();
        assert!(second.closes(), "a session outlives the drain");
        assert_eq!(registry.len(), 1);
        let weak = Arc::downgrade(&second.handle);
        second.end(&registry);
        assert_eq!((registry.len(), weak.strong_count()), (0, 0), "its slot keeps nothing");
    });
}

/// A session's task polls once by itself, and then only when it was woken.
#[test]
fn no_message_is_slept_over_beside_a_close() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let registry = Arc::new(Registry::<u32>::new(1));
        let session = Session::begin(&registry);
        assert!(registry.identify(session.slot, 1, 2, 0));
        let posts = {
            let registry = registry.clone();
            thread::spawn(move || {
                [Key::User(1), Key::Token(2)]
                    .iter()
                    .for_each(|key| assert_eq!(registry.post(*key, &7, |_, _| false).0, 1));
            })
        };
        let (wakes, mut mail, mut close) = (Arc::new(Wakes::default()), Vec::new(), None);
        let mut poll = || {
            session.handle.register(&Waker::from(wakes.clone()));
            let taken = session.handle.take();
            if taken.mail {
                mail.extend(registry.take_mail(session.slot));
            }
            close = close.or(taken.close);
        };
        poll();
        let mut seen = 0;
        registry.close(session.slot, CloseReason::Slow);
        posts.join().unwrap();
        while wakes.count() != seen {
            seen = wakes.count();
            poll();
        }
        assert_eq!((mail.as_slice(), close), ([7, 7].as_slice(), Some(CloseReason::Slow)), "asleep over a message");
    });
}

#[test]
fn no_message_reaches_a_later_session_of_the_slot() {
    loom::model(|| {
        let registry = Arc::new(Registry::<u32>::new(1));
        let first = Session::begin(&registry);
        assert!(registry.identify(first.slot, 1, 0, 0));
        let post = {
            let registry = registry.clone();
            thread::spawn(move || registry.post(Key::User(1), &7, |_, _| false).0)
        };
        let slot = first.slot;
        first.end(&registry);
        let second = Session::begin(&registry);
        assert_eq!(second.slot, slot);
        assert!(registry.identify(second.slot, 2, 0, 0));
        let posted = post.join().unwrap();
        assert!(posted <= 1 && registry.take_mail(slot).is_empty() && !second.handle.take().mail, "another's message");
    });
}

/// The credential is checked first, then the session is registered, then it is found.
#[test]
fn no_message_since_the_check_of_a_credential_is_missed() {
    loom::model(|| {
        let registry = Arc::new(Registry::<u32>::new(1));
        let presented = registry.newest_message();
        let post = {
            let registry = registry.clone();
            thread::spawn(move || registry.post(Key::User(1), &7, |_, _| false).0)
        };
        let session = Session::begin(&registry);
        assert!(registry.identify(session.slot, 1, 0, presented));
        post.join().unwrap();
        let (mail, read) = (registry.take_mail(session.slot), session.handle.take().mail);
        assert!(read && !mail.is_empty() && mail.iter().all(|message| *message == 7), "a message is missed: {mail:?}");
    });
}
