//! The atomics of [`crate::handle`], in one place so that the model checker (`tests/handle.rs`) can put its own there.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) use futures_util::task::AtomicWaker;
