//! A slab of sessions in chunks, so that growing copies nothing and holds no lock for long.

use std::sync::Arc;

use crate::handle::Handle;

/// Slots of a chunk: the bits of a word.
pub(crate) const CHUNK: usize = 64;
/// Hash of a session that has no user, or no token id.
pub(crate) const NONE: u32 = 0;

/// Columns of sessions. Free slots at the beginning are used first, and a chunk without sessions is given back.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    chunks: Vec<Chunk>,
    len: usize,
    /// Chunks before this one are full.
    first_free: usize,
}

/// Slots that are allocated together. The word is beside the slots and not among them: they fill a size class of the
/// allocator.
#[derive(Debug, Default)]
struct Chunk {
    /// Bit per slot.
    occupied: u64,
    /// None while no slot is occupied.
    slots: Option<Box<Slots>>,
}

/// 32 bytes per session: an idle one should be small.
#[derive(Debug)]
pub(crate) struct Slots {
    handles: [Option<Arc<Handle>>; CHUNK],
    users: [u32; CHUNK],
    tokens: [u32; CHUNK],
    /// Neighbours in the ring of the sessions whose users have the same hash.
    links: [Link; CHUNK],
}

/// Indices of the next and the previous session of a ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) next: u32,
    pub(crate) previous: u32,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            handles: [const { None }; CHUNK],
            users: [NONE; CHUNK],
            tokens: [NONE; CHUNK],
            links: [Link::default(); CHUNK],
        }
    }
}

impl Slab {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a session. Returns its index.
    pub(crate) fn insert(&mut self, handle: Arc<Handle>) -> usize {
        while self.chunks.get(self.first_free).is_some_and(|chunk| chunk.occupied == u64::MAX) {
            self.first_free += 1;
        }
        if self.first_free == self.chunks.len() {
            self.chunks.push(Chunk::default());
        }
        let chunk = &mut self.chunks[self.first_free];
        let at = chunk.occupied.trailing_ones() as usize;
        chunk.occupied |= 1 << at;
        chunk.slots.get_or_insert_default().handles[at] = Some(handle);
        self.len += 1;
        self.first_free * CHUNK + at
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Handle>> {
        let slots = self.chunks.get(index / CHUNK)?.slots.as_ref()?;
        slots.handles[index % CHUNK].as_ref()
    }

    /// Removes a session and frees its index. Its hashes must be unset.
    pub(crate) fn remove(&mut self, index: usize) -> Option<Arc<Handle>> {
        let chunk = self.chunks.get_mut(index / CHUNK)?;
        let handle = chunk.slots.as_mut()?.handles[index % CHUNK].take()?;
        chunk.occupied &= !(1 << (index % CHUNK));
        if chunk.occupied == 0 {
            chunk.slots = None;
        }
        self.len -= 1;
        self.first_free = self.first_free.min(index / CHUNK);
        Some(handle)
    }

    /// The handles of a chunk; `None` after the last one.
    pub(crate) fn chunk(&self, chunk: usize) -> Option<impl Iterator<Item = &Arc<Handle>>> {
        let chunk = self.chunks.get(chunk)?;
        Some(chunk.slots.iter().flat_map(|slots| slots.handles.iter().flatten()))
    }

    /// Indices of all sessions.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> {
        let chunks = self.chunks.iter().enumerate();
        chunks.flat_map(|(at, chunk)| {
            (0..CHUNK).filter(|slot| chunk.occupied >> slot & 1 == 1).map(move |slot| at * CHUNK + slot)
        })
    }

    /// Indices of the sessions whose tokens have this hash.
    pub(crate) fn with_token(&self, hash: u32) -> impl Iterator<Item = usize> {
        self.chunks.iter().enumerate().flat_map(move |(at, chunk)| {
            let tokens = chunk.slots.iter().flat_map(|slots| slots.tokens.iter().enumerate());
            tokens.filter(move |(_, token)| **token == hash).map(move |(slot, _)| at * CHUNK + slot)
        })
    }

    pub(crate) fn set_token(&mut self, index: usize, hash: u32) {
        if let Some((slots, at)) = self.slots(index) {
            slots.tokens[at] = hash;
        }
    }

    /// The hash of a session's user.
    pub(crate) fn user(&self, index: usize) -> u32 {
        let slots = self.chunks.get(index / CHUNK).and_then(|chunk| chunk.slots.as_ref());
        slots.map_or(NONE, |slots| slots.users[index % CHUNK])
    }

    pub(crate) fn set_user(&mut self, index: usize, hash: u32) {
        if let Some((slots, at)) = self.slots(index) {
            slots.users[at] = hash;
        }
    }

    pub(crate) fn link(&self, index: usize) -> Link {
        let slots = self.chunks.get(index / CHUNK).and_then(|chunk| chunk.slots.as_ref());
        slots.map_or_else(Link::default, |slots| slots.links[index % CHUNK])
    }

    pub(crate) fn link_mut(&mut self, index: usize) -> Option<&mut Link> {
        self.slots(index).map(|(slots, at)| &mut slots.links[at])
    }

    fn slots(&mut self, index: usize) -> Option<(&mut Slots, usize)> {
        let slots = self.chunks.get_mut(index / CHUNK)?.slots.as_mut()?;
        Some((slots, index % CHUNK))
    }

    /// Slots that memory is held for.
    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.slots.is_some()).count() * CHUNK
    }
}
