//! Sessions that come and go while the node drains, in every interleaving (loom): none stays open, and no slot is lost.
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

use loom::thread;

use close_reason::CloseReason;
use handle::{ByTask, Handle};
use registry::Registry;

/// A session as far as a drain is concerned.
struct Session {
    handle: Arc<Handle>,
    slot: u32,
    /// It saw on its creation that the node drains.
    draining: bool,
}

impl Session {
    fn begin(registry: &Registry) -> Self {
        let handle: Arc<Handle> = Arc::new(Handle::new(ByTask));
        let registered = registry.register(&handle);
        Self { handle, slot: registered.slot, draining: registered.draining }
    }

    fn end(self, registry: &Registry) {
        registry.unregister(self.slot);
    }

    fn closes(&self) -> bool {
        self.draining || self.handle.take().close == Some(CloseReason::Shutdown)
    }
}

fn drain(registry: &Registry) {
    for slot in registry.begin_drain() {
        registry.close(slot, CloseReason::Shutdown);
    }
}

#[test]
fn no_session_that_begins_is_missed_by_a_drain() {
    loom::model(|| {
        let registry = Arc::new(Registry::new(1));
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
        let registry = Arc::new(Registry::new(1));
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
