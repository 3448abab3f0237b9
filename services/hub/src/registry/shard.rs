//! Part of the registry: a slab of handles in chunks, so that growing copies nothing and holds no lock for long.

use std::sync::Arc;

use crate::handle::Handle;

/// Slots of a chunk: the bits of a word.
pub(crate) const CHUNK: usize = 64;

/// A slab of handles. Free slots at the beginning are used first, and a chunk without sessions is given back.
#[derive(Debug, Default)]
pub(crate) struct Shard {
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

/// 16 bytes per session: an idle one should be small.
#[derive(Debug)]
pub(crate) struct Slots {
    handles: [Option<Arc<Handle>>; CHUNK],
}

impl Shard {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a handle. Returns its index.
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
        let slots = chunk.slots.get_or_insert_with(|| Box::new(Slots { handles: [const { None }; CHUNK] }));
        slots.handles[at] = Some(handle);
        self.len += 1;
        self.first_free * CHUNK + at
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Handle>> {
        let slots = self.chunks.get(index / CHUNK)?.slots.as_ref()?;
        slots.handles[index % CHUNK].as_ref()
    }

    /// Removes a handle and frees its index.
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

    /// Slots that memory is held for.
    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.slots.is_some()).count() * CHUNK
    }

    /// All handles with their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Arc<Handle>)> {
        self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            let handles = chunk.slots.iter().flat_map(|slots| slots.handles.iter().enumerate());
            handles.filter_map(move |(slot, handle)| Some((at * CHUNK + slot, handle.as_ref()?)))
        })
    }
}
