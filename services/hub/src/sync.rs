//! The atomics and locks of [`crate::handle`] and [`crate::registry`], in one place so that the model checker
//! (`tests/handle.rs`, `tests/registry.rs`) can put its own there.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};

pub(crate) use futures_util::task::AtomicWaker;
