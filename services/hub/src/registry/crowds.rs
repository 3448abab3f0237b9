//! Sessions by groups of users: an upper bound of what one user has, for a look at one number.

use std::sync::atomic::{AtomicU32, Ordering};

use super::slab::NONE;

/// Groups: a power of two, a good part of the users that a node has at once. They cost 64 KiB.
const GROUPS: usize = 16_384;

/// Number of sessions of the users of each group.
#[derive(Debug)]
pub(crate) struct Crowds(Box<[AtomicU32]>);

impl Crowds {
    pub(crate) fn new() -> Self {
        Self((0..GROUPS).map(|_| AtomicU32::new(0)).collect())
    }

    /// A session that belonged to the user with one hash belongs to that with another; [`NONE`] is nobody.
    pub(crate) fn moved(&self, from: u32, to: u32) {
        if from == to {
            return;
        }
        if to != NONE {
            self.0[to as usize % GROUPS].fetch_add(1, Ordering::Relaxed);
        }
        if from != NONE {
            self.0[from as usize % GROUPS].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Sessions of the group of a user: those of the user and perhaps of others.
    pub(crate) fn of(&self, user: u32) -> usize {
        self.0[user as usize % GROUPS].load(Ordering::Relaxed) as usize
    }
}
