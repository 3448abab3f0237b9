//! Who is subscribed to a channel.
//!
//! There are channels with very many subscribers, and very many channels with one: that one is here and not behind a
//! pointer.

use std::sync::Arc;

use slab::Slab;

use crate::handle::Handle;

/// A channel's subscribers, each in a slot of its own.
#[derive(Debug, Default)]
pub(crate) enum Subscribers {
    #[default]
    None,
    /// In slot 0.
    One {
        handle: Arc<Handle>,
        /// The subscription's index in its session.
        index: u32,
    },
    /// Two at some time since there were none.
    Many(Box<Slab<(Arc<Handle>, u32)>>),
}

impl Subscribers {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One { .. } => 1,
            Self::Many(slab) => slab.len(),
        }
    }

    /// Adds one, which is marked under the index. Returns its slot.
    pub(crate) fn insert(&mut self, handle: Arc<Handle>, index: u32) -> u32 {
        let mut slab = match std::mem::take(self) {
            Self::None => {
                *self = Self::One { handle, index };
                return 0;
            }
            Self::One { handle, index } => {
                let mut slab = Box::new(Slab::with_capacity(2));
                slab.insert((handle, index));
                slab
            }
            Self::Many(slab) => slab,
        };
        let slot = slab.insert((handle, index));
        *self = Self::Many(slab);
        slot as u32
    }

    /// Removes the one in a slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        let empty = match self {
            Self::None => true,
            Self::One { .. } => slot == 0,
            Self::Many(slab) => {
                slab.try_remove(slot as usize);
                slab.is_empty()
            }
        };
        if empty {
            *self = Self::None;
        }
    }

    /// Marks all. Those that nothing else was marked for are added to `marked`: they must be served.
    pub(crate) fn mark(&self, marked: &mut Vec<Arc<Handle>>) {
        match self {
            Self::None => {}
            Self::One { handle, index } => marked.extend(handle.mark(*index).then(|| handle.clone())),
            Self::Many(slab) => {
                let to_serve = slab.iter().filter(|(_, (handle, index))| handle.mark(*index));
                marked.extend(to_serve.map(|(_, (handle, _))| handle.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks all and tells which of these were.
    fn marked(subscribers: &Subscribers, handles: &[Arc<Handle>]) -> Vec<u64> {
        subscribers.mark(&mut Vec::new());
        handles.iter().map(|handle| handle.take().marks).collect()
    }

    #[test]
    fn each_has_its_slot_however_many_there_are() {
        let handles: Vec<_> = (0..3).map(|_| Handle::by_task()).collect();
        let mut subscribers = Subscribers::default();
        // Twice: what is empty again is as new.
        for _ in 0..2 {
            assert_eq!((subscribers.len(), marked(&subscribers, &handles)), (0, vec![0, 0, 0]));
            let first = subscribers.insert(handles[0].clone(), 0);
            assert_eq!((subscribers.len(), marked(&subscribers, &handles)), (1, vec![1, 0, 0]));
            let second = subscribers.insert(handles[1].clone(), 1);
            let third = subscribers.insert(handles[2].clone(), 2);
            assert_eq!((subscribers.len(), marked(&subscribers, &handles)), (3, vec![1, 2, 4]));
            subscribers.remove(first);
            assert_eq!((subscribers.len(), marked(&subscribers, &handles)), (2, vec![0, 2, 4]));
            subscribers.remove(third);
            let again = subscribers.insert(handles[0].clone(), 3);
            assert_eq!((subscribers.len(), marked(&subscribers, &handles)), (2, vec![8, 2, 0]));
            subscribers.remove(second);
            subscribers.remove(again);
        }
        let only = subscribers.insert(handles[0].clone(), 0);
        subscribers.remove(only + 1);
        assert_eq!(subscribers.len(), 1, "another's slot");
        subscribers.remove(only);
        assert_eq!(subscribers.len(), 0);
    }

    #[test]
    fn one_is_small() {
        assert_eq!(size_of::<Subscribers>(), 24);
    }
}
