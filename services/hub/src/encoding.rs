//! Encodings: the bytes of a channel's entries that connections share.
//!
//! An entry is encoded at most once per encoding, by the first connection that needs it, and never under a lock: a thread
//! that compresses does not block one that does not. Bytes that belong to one connection (the header of a chunk, an `id:`
//! line, HTTP/2 framing) are never part of an encoding; see [`crate::session`].
//!
//! Encodings are interned at run time: a session names its encoding by a key and gets an [`EncodingId`], which is all that
//! the fan-out compares.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use fanway_protocol::Channel;

use crate::entry::Entry;

/// Most encodings of one node.
const MAX_ENCODINGS: usize = 64;

/// Number of an interned encoding, unique within one [`Encodings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EncodingId(u8);

/// Encoder of entries: protocol, codec, framing, compression and whatever else changes bytes that connections share.
pub trait Encoder: Send + Sync + 'static {
    /// Appends the bytes of an entry. An entry that the protocol has no word for appends nothing.
    fn encode(&self, channel: &Channel, entry: &Entry, out: &mut Vec<u8>);
}

struct Interned {
    key: Cow<'static, str>,
    encoder: Box<dyn Encoder>,
}

/// More than 64 different encodings were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has {MAX_ENCODINGS} encodings already")]
pub struct TooManyEncodings;

/// Interned encodings of a node. They are never removed.
pub struct Encodings {
    slots: Box<[OnceLock<Interned>]>,
    /// Held while a new encoding is added.
    adding: Mutex<()>,
}

impl Default for Encodings {
    fn default() -> Self {
        Self { slots: (0..MAX_ENCODINGS).map(|_| OnceLock::new()).collect(), adding: Mutex::default() }
    }
}

impl fmt::Debug for Encodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.interned().map(|interned| &interned.key)).finish()
    }
}

impl Encodings {
    /// A table that begins with these encodings, by their keys.
    pub fn with<const N: usize>(first: [(&'static str, Box<dyn Encoder>); N]) -> (Self, [EncodingId; N]) {
        const { assert!(N <= MAX_ENCODINGS) };
        let encodings = Self::default();
        for (slot, (key, encoder)) in encodings.slots.iter().zip(first) {
            slot.get_or_init(|| Interned { key: key.into(), encoder });
        }
        (encodings, std::array::from_fn(|id| EncodingId(id as u8)))
    }

    /// Id of the encoding with this key; `encoder` makes the encoder of a key that is new.
    ///
    /// The key names every part that changes bytes, so that equal keys stand for equal bytes: protocol, codec, framing,
    /// compression and its window, full or delta. Clients must not be able to make up keys: there are at most 64.
    pub fn intern(
        &self,
        key: impl Into<Cow<'static, str>>,
        encoder: impl FnOnce() -> Box<dyn Encoder>,
    ) -> Result<EncodingId, TooManyEncodings> {
        let key = key.into();
        if let Some(known) = self.find(&key) {
            return Ok(known);
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.find(&key) {
            return Ok(known);
        }
        let slot = self.slots.get(self.interned().count()).ok_or(TooManyEncodings)?;
        slot.get_or_init(|| Interned { key: key.clone(), encoder: encoder() });
        self.find(&key).ok_or(TooManyEncodings)
    }

    fn interned(&self) -> impl Iterator<Item = &Interned> {
        self.slots.iter().map_while(OnceLock::get)
    }

    fn find(&self, key: &str) -> Option<EncodingId> {
        (0..).map(EncodingId).zip(self.interned()).find_map(|(id, interned)| (interned.key == key).then_some(id))
    }

    /// Encodes an entry.
    pub(crate) fn encode(&self, id: EncodingId, channel: &Channel, entry: &Entry) -> Bytes {
        let Some(interned) = self.slots.get(usize::from(id.0)).and_then(OnceLock::get) else {
            debug_assert!(false, "{id:?} is not of this node");
            return Bytes::new();
        };
        let mut out = Vec::with_capacity(96 + channel.as_str().len() + entry.payload_bytes());
        interned.encoder.encode(channel, entry, &mut out);
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    /// Encoder of one byte per entry, which counts its calls.
    struct Byte(u8, Arc<AtomicUsize>);

    impl Encoder for Byte {
        fn encode(&self, _channel: &Channel, _entry: &Entry, out: &mut Vec<u8>) {
            self.1.fetch_add(1, Ordering::SeqCst);
            out.push(self.0);
        }
    }

    fn intern(encodings: &Encodings, byte: u8, calls: &Arc<AtomicUsize>) -> Result<EncodingId, TooManyEncodings> {
        encodings.intern(format!("byte {byte}"), || Box::new(Byte(byte, calls.clone())))
    }

    fn entry() -> Entry {
        Entry::publication(Arc::default(), None, false, Instant::now())
    }

    #[test]
    fn an_encoding_is_interned_once() {
        let (encodings, calls) = (Encodings::default(), Arc::default());
        let ids: Vec<_> = (0..64).map(|byte| intern(&encodings, byte, &calls).unwrap()).collect();
        for byte in (0..64).rev() {
            assert_eq!(intern(&encodings, byte, &calls), Ok(ids[usize::from(byte)]));
        }
        assert_eq!(intern(&encodings, 64, &calls), Err(TooManyEncodings));
    }

    #[test]
    fn an_entry_is_encoded_once_per_encoding_by_any_number_of_threads() {
        let (encodings, entry, channel) = (Encodings::default(), entry(), Channel::new("a").unwrap());
        let calls: Arc<AtomicUsize> = Arc::default();
        let ids: Vec<_> = (0..8).map(|byte| intern(&encodings, byte, &calls).unwrap()).collect();
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let (encodings, entry, channel, ids) = (&encodings, &entry, &channel, &ids);
                scope.spawn(move || {
                    for at in 0..ids.len() {
                        let at = (at + turn * 2) % ids.len();
                        assert_eq!(entry.find_or_encode(ids[at], encodings, channel).0[..], [at as u8]);
                    }
                });
            }
        });
        let before = calls.load(Ordering::SeqCst);
        let first = entry.find_or_encode(ids[3], &encodings, &channel).0.as_ptr();
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(entry.find_or_encode(*id, &encodings, &channel).0[..], [at as u8]);
        }
        assert_eq!(entry.find_or_encode(ids[3], &encodings, &channel).0.as_ptr(), first);
        assert_eq!(calls.load(Ordering::SeqCst), before, "known encodings are not made again");
    }
}
