//! Ids of clients: the place of a session in the registry, readable by this process alone.
//!
//! An id is shown to other clients with every publication of its own, and from it the node finds the session. So it must
//! look random, say nothing of the node, and not be guessable: who has seen many must not be able to make up another
//! one. It must also cost an idle session nothing. Both come from deriving it: the slot and the number of the session
//! (no two sessions of a process have the same) are enciphered under keys that the process draws when it starts, in a
//! synthetic-IV construction (as RFC 5297, with SipHash-2-4 as the keyed function): the tag is a keyed hash of the place,
//! the body is the place XOR a keyed hash of the tag. The 122 free bits of a version 4 UUID (RFC 9562, section 5.4) hold
//! a tag of 58 bits and the body of 64. A forged id passes with probability 2^-58, and ids of other processes fail alike.

use std::hash::Hasher;

use uuid::Uuid;

/// Bits of a UUID that its version and variant leave free, in its two halves.
const HIGH_BITS: u32 = 60;
const LOW_BITS: u32 = 62;
const TAG_MASK: u64 = (1 << (HIGH_BITS + LOW_BITS - 64)) - 1;

/// A session's place: its slot, and the number that tells it from others which had the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: u32,
    pub(crate) number: u32,
}

/// Keys of a process.
pub(crate) struct ClientIds {
    tag: (u64, u64),
    body: (u64, u64),
}

impl std::fmt::Debug for ClientIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientIds").finish_non_exhaustive()
    }
}

impl ClientIds {
    /// Draws keys.
    pub(crate) fn new() -> Self {
        Self { tag: rand::random(), body: rand::random() }
    }

    /// The id of the session at a place.
    pub(crate) fn id(&self, place: Place) -> Uuid {
        let place = u64::from(place.number) << 32 | u64::from(place.slot);
        let tag = sip_hash(self.tag, place) & TAG_MASK;
        let body = place ^ sip_hash(self.body, tag);
        let bits = u128::from(tag) << 64 | u128::from(body);
        let (high, low) = ((bits >> LOW_BITS) as u64, bits as u64 & ((1 << LOW_BITS) - 1));
        // The version lies before the last 12 bits of the high half, the variant begins the low half.
        let high = high >> 12 << 16 | 0x4000 | high & 0xfff;
        Uuid::from_u64_pair(high, 0b10 << LOW_BITS | low)
    }

    /// The place that an id was made from; `None` if this process has not made it.
    pub(crate) fn place(&self, id: Uuid) -> Option<Place> {
        let (high, low) = id.as_u64_pair();
        let high = high >> 16 << 12 | high & 0xfff;
        let bits = u128::from(high) << LOW_BITS | u128::from(low & ((1 << LOW_BITS) - 1));
        let (tag, body) = ((bits >> 64) as u64, bits as u64);
        let place = body ^ sip_hash(self.body, tag);
        let place = Place { slot: place as u32, number: (place >> 32) as u32 };
        (self.id(place) == id).then_some(place)
    }
}

#[expect(deprecated, reason = "the only function of std that is specified: its successor may be any hash")]
fn sip_hash(key: (u64, u64), value: u64) -> u64 {
    let mut hasher = std::hash::SipHasher::new_with_keys(key.0, key.1);
    hasher.write_u64(value);
    hasher.finish()
}
