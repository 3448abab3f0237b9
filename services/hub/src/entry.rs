//! One element of a channel's ordered stream on this node, encoded at most once per encoding.

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
    },
    /// Continuity was lost; the stream goes on at the entry's position.
    Gap(GapReason),
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
        let kind = Kind::Publication { publication, first_of_epoch, age_known: true };
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
        Self { position, kind: Kind::Gap(reason), received, encoded: OnceLock::new() }
    }

    /// Whether it is a publication.
    pub(crate) fn is_publication(&self) -> bool {
        matches!(self.kind, Kind::Publication { .. })
    }

    /// Why continuity was lost here, if it was.
    pub(crate) fn gap_reason(&self) -> Option<GapReason> {
        match self.kind {
            Kind::Publication { .. } => None,
            Kind::Gap(reason) => Some(reason),
        }
    }

    /// The trace context of a sampled publication.
    pub(crate) fn trace(&self) -> Option<&str> {
        match &self.kind {
            Kind::Publication { publication, .. } => publication.trace.as_deref(),
            Kind::Gap(_) => None,
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

    /// Approximate memory, for the rings' budgets.
    pub fn cost(&self) -> usize {
        std::mem::size_of::<Self>() + self.payload_bytes()
    }

    /// Bytes of the payload, if there is one.
    pub(crate) fn payload_bytes(&self) -> usize {
        match &self.kind {
            Kind::Publication { publication, .. } => publication.data.len(),
            Kind::Gap(_) => 0,
        }
    }

    /// Bytes in an encoding; empty for an entry that the protocol has no word for.
    pub(crate) fn encoded(&self, id: EncodingId, encodings: &Encodings, channel: &Channel) -> &Bytes {
        match self.encoded.get() {
            Some(first) if first.id == id => &first.bytes,
            _ => self.find_or_encode(id, encodings, channel),
        }
    }

    /// Encodes outside of any lock, then adds to the list what no other thread has added meanwhile.
    #[cold]
    fn find_or_encode(&self, id: EncodingId, encodings: &Encodings, channel: &Channel) -> &Bytes {
        let encode = || Encoded { id, bytes: encodings.encode(id, channel, self), next: OnceLock::new() };
        let mut made = self.encoded.get().is_none().then(encode);
        let mut at = self.encoded.get_or_init(|| made.take().unwrap_or_else(encode));
        while at.id != id {
            if at.next.get().is_none() && made.is_none() {
                made = Some(encode());
            }
            at = at.next.get_or_init(|| Box::new(made.take().unwrap_or_else(encode)));
        }
        &at.bytes
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
