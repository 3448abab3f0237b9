//! One element of a channel's ordered stream on this node, encoded at most once per encoding.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use fanway_protocol::{Channel, GapReason, Position, Publication};

use crate::encoding::{EncodingId, Encodings};

/// What happened in the channel.
#[derive(Debug)]
pub enum Kind {
    /// Somebody published. `first_of_epoch` tells that the line's epoch begins here.
    Publication {
        /// What.
        publication: Arc<Publication>,
        /// Carries its epoch on the wire.
        first_of_epoch: bool,
        /// Received by the feed as it was published. False for one that a repair read from the log: it may be old.
        age_known: bool,
        /// Not every subscriber is sent it: some skip it.
        selective: bool,
    },
    /// Continuity was lost; the stream goes on at the entry's position.
    Gap {
        /// Why.
        reason: GapReason,
        /// A gap for those alone who came to this node before this offset: the log has lost publications there, and the
        /// stream had passed over them. [`u64::MAX`] for a gap of the stream itself.
        before: u64,
    },
}

/// An element of the ordered stream.
#[derive(Debug)]
pub struct Entry {
    /// Place in the log: a publication's own, a gap's new start. `None` for channels without history.
    pub position: Option<Position>,
    /// What it is.
    pub kind: Kind,
    /// When this node learned of it, for the delivery latency.
    pub received: Instant,
    /// Encoded by the first connection that needs the encoding, shared by all.
    encoded: OnceLock<Encoded>,
}

/// Bytes of an entry in one encoding, and those in others: nearly always there are none.
#[derive(Debug)]
struct Encoded {
    id: EncodingId,
    /// The bytes are in the account of the ring that has the entry. Read and written under the ring's lock.
    charged: AtomicBool,
    bytes: Bytes,
    next: OnceLock<Box<Encoded>>,
}

impl Entry {
    /// A publication.
    pub fn publication(
        publication: Arc<Publication>,
        position: Option<Position>,
        first_of_epoch: bool,
        received: Instant,
    ) -> Self {
        let selective = publication.exclude.is_some();
        let kind = Kind::Publication { publication, first_of_epoch, age_known: true, selective };
        Self { position, kind, received, encoded: OnceLock::new() }
    }

    /// The same entry, published at an unknown time before it was received.
    pub(crate) fn of_unknown_age(mut self) -> Self {
        if let Kind::Publication { age_known, .. } = &mut self.kind {
            *age_known = false;
        }
        self
    }

    /// Whether a publication was received as it was published. A gap counts as such: nothing is served over it.
    pub(crate) fn age_known(&self) -> bool {
        !matches!(self.kind, Kind::Publication { age_known: false, .. })
    }

    /// A gap.
    pub fn gap(reason: GapReason, position: Option<Position>, received: Instant) -> Self {
        Self { position, kind: Kind::Gap { reason, before: u64::MAX }, received, encoded: OnceLock::new() }
    }

    /// A gap for those who came to this node before an offset.
    pub(crate) fn loss(before: u64, position: Position, received: Instant) -> Self {
        Self {
            position: Some(position),
            kind: Kind::Gap { reason: GapReason::Truncated, before },
            received,
            encoded: OnceLock::new(),
        }
    }

    /// First offset after the loss, if this is a gap only for those who came before it.
    pub(crate) fn loss_before(&self) -> Option<u64> {
        match self.kind {
            Kind::Gap { before, .. } if before < u64::MAX => Some(before),
            Kind::Publication { .. } | Kind::Gap { .. } => None,
        }
    }

    /// The publication, if not every subscriber is sent it.
    pub(crate) fn selective(&self) -> Option<&Publication> {
        match &self.kind {
            Kind::Publication { publication, selective: true, .. } => Some(publication),
            Kind::Publication { .. } | Kind::Gap { .. } => None,
        }
    }

    /// Whether it is a publication.
    pub(crate) fn is_publication(&self) -> bool {
        matches!(self.kind, Kind::Publication { .. })
    }

    /// Why continuity was lost here, if it was.
    pub(crate) fn gap_reason(&self) -> Option<GapReason> {
        match self.kind {
            Kind::Publication { .. } => None,
            Kind::Gap { reason, .. } => Some(reason),
        }
    }

    /// The trace context of a sampled publication.
    pub(crate) fn trace(&self) -> Option<&str> {
        match &self.kind {
            Kind::Publication { publication, .. } => publication.trace.as_deref().map(String::as_str),
            Kind::Gap { .. } => None,
        }
    }

    /// Whether its place is right after that of the entry before, on the same line; or neither has one.
    pub(crate) fn follows(&self, before: &Self) -> bool {
        match (before.position, self.position) {
            (Some(before), Some(here)) => here == before.plus(1),
            (None, None) => true,
            _ => false,
        }
    }

    /// Approximate memory in the account of its ring: as it was published, and the encodings that were charged.
    pub(crate) fn cost(&self) -> usize {
        self.published_cost()
            + self.encodings().filter(|made| made.charged.load(Relaxed)).map(Encoded::cost).sum::<usize>()
    }

    /// Approximate memory without encodings.
    pub(crate) fn published_cost(&self) -> usize {
        std::mem::size_of::<Self>() + self.payload_bytes()
    }

    /// Charges the encodings made since the last call, and returns their memory. Under the lock of the ring that has the
    /// entry.
    pub(crate) fn charge(&self) -> usize {
        self.encodings().filter(|made| !made.charged.swap(true, Relaxed)).map(Encoded::cost).sum()
    }

    fn encodings(&self) -> impl Iterator<Item = &Encoded> {
        std::iter::successors(self.encoded.get(), |made| made.next.get().map(|next| &**next))
    }

    /// Bytes of the payload, if there is one.
    pub(crate) fn payload_bytes(&self) -> usize {
        match &self.kind {
            Kind::Publication { publication, .. } => publication.data.len(),
            Kind::Gap { .. } => 0,
        }
    }

    /// Bytes in the encoding that was made first, if that is the one; empty for an entry that the protocol has no word for.
    pub(crate) fn first_encoded(&self, id: EncodingId) -> Option<&Bytes> {
        self.encoded.get().filter(|first| first.id == id).map(|first| &first.bytes)
    }

    /// Bytes in any encoding, and whether this call has made them. Encodes outside of any lock, then adds to the list what no
    /// other thread has added meanwhile.
    #[cold]
    pub(crate) fn find_or_encode(&self, id: EncodingId, encodings: &Encodings, channel: &Channel) -> (&Bytes, bool) {
        let encode = || Encoded {
            id,
            charged: AtomicBool::new(false),
            bytes: encodings.encode(id, channel, self),
            next: OnceLock::new(),
        };
        let mut made = self.encoded.get().is_none().then(encode);
        let mut added = false;
        let mut add = |made: &mut Option<Encoded>| {
            added = true;
            made.take().unwrap_or_else(encode)
        };
        let mut at = self.encoded.get_or_init(|| add(&mut made));
        while at.id != id {
            if at.next.get().is_none() && made.is_none() {
                made = Some(encode());
            }
            at = at.next.get_or_init(|| Box::new(add(&mut made)));
        }
        (&at.bytes, added)
    }
}

impl Encoded {
    fn cost(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 128, "{}", size_of::<Entry>());
    }
}
