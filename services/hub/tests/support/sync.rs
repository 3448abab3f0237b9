//! Loom's atomics and locks in the place of the real ones.

use std::task::Waker;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard};

#[derive(Debug)]
pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

impl Default for AtomicWaker {
    fn default() -> Self {
        Self(loom::future::AtomicWaker::new())
    }
}

impl AtomicWaker {
    pub(crate) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}
