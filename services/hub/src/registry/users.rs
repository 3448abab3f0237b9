//! Sessions by user: a table of hashes, and per hash a ring through the slab.
//!
//! A ring and not an entry per session: a user may have very many connections, and a table with as many equal hashes
//! would be searched from end to end for each of them.

use hashbrown::HashTable;

use super::slab::{Link, NONE, Slab};

/// The first session of each ring, by the hash of its user.
#[derive(Debug, Default)]
pub(crate) struct Users(HashTable<u32>);

impl Users {
    /// Puts a session into the ring of its user's new hash, out of that of the old one.
    pub(crate) fn set(&mut self, slab: &mut Slab, index: usize, hash: u32) {
        if slab.user(index) == hash {
            return;
        }
        self.unset(slab, index);
        if hash == NONE {
            return;
        }
        slab.set_user(index, hash);
        let new = index as u32;
        let found = self.0.entry(
            spread(hash),
            |first| slab.user(*first as usize) == hash,
            |first| spread(slab.user(*first as usize)),
        );
        match found {
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert(new);
                set_link(slab, index, Link { next: new, previous: new });
            }
            hashbrown::hash_table::Entry::Occupied(occupied) => {
                let first = *occupied.get();
                let next = slab.link(first as usize).next;
                set_link(slab, index, Link { next, previous: first });
                if let Some(link) = slab.link_mut(first as usize) {
                    link.next = new;
                }
                if let Some(link) = slab.link_mut(next as usize) {
                    link.previous = new;
                }
            }
        }
    }

    fn unset(&mut self, slab: &mut Slab, index: usize) {
        let hash = slab.user(index);
        if hash == NONE {
            return;
        }
        let Link { next, previous } = slab.link(index);
        if let Ok(mut first) = self.0.find_entry(spread(hash), |first| slab.user(*first as usize) == hash) {
            if next as usize == index {
                first.remove();
            } else if *first.get() as usize == index {
                *first.get_mut() = next;
            }
        }
        if let Some(link) = slab.link_mut(previous as usize) {
            link.next = next;
        }
        if let Some(link) = slab.link_mut(next as usize) {
            link.previous = previous;
        }
        slab.set_user(index, NONE);
        if self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(self.0.len() * 2, |first| spread(slab.user(*first as usize)));
        }
    }

    /// Indices of the sessions whose users have this hash.
    pub(crate) fn with(&self, slab: &Slab, hash: u32) -> impl Iterator<Item = usize> {
        let first = self.0.find(spread(hash), |first| slab.user(*first as usize) == hash).copied();
        let next = move |index: &u32| Some(slab.link(*index as usize).next).filter(|next| Some(*next) != first);
        std::iter::successors(first, next).map(|index| index as usize)
    }
}

fn set_link(slab: &mut Slab, index: usize, to: Link) {
    if let Some(link) = slab.link_mut(index) {
        *link = to;
    }
}

/// The table takes its groups from low bits and its tags from high ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
