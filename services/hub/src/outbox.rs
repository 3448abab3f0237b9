//! What a connection still has to write besides entries of the rings.
//!
//! A turn ([`crate::turn`]) begins with what is owed from before (the rest of a half-written frame, replies); entries of
//! the rings follow. After the write, what the socket did not take is given back:
//! entries by moving the subscriptions' places back, a half-written entry as a reference into its shared bytes, replies
//! by keeping their rest. So a blocked connection holds positions, not copies, and nothing overtakes a half-written
//! frame.

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::turn::Turn;

/// What a connection owes its socket besides entries. Empty and without memory while idle.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Rest of an entry of which a part is written. In a box, as few connections have one at a time.
    half: Option<Box<Half>>,
    /// Replies and control frames in order, to be written after `half`.
    replies: Vec<u8>,
}

/// Rest of a half-written entry.
#[derive(Debug)]
struct Half {
    /// The connection's own bytes before the shared ones: the header of a chunk.
    header: SmallVec<[u8; 16]>,
    /// By reference.
    shared: Bytes,
}

impl Half {
    fn len(&self) -> usize {
        self.header.len() + self.shared.len()
    }

    /// Its first bytes are written.
    fn advance(&mut self, written: usize) {
        let header = written.min(self.header.len());
        self.header.drain(..header);
        self.shared.advance(written - header);
    }
}

impl Outbox {
    /// Bytes waiting.
    pub(crate) fn len(&self) -> usize {
        self.half_len() + self.replies.len()
    }

    fn half_len(&self) -> usize {
        self.half.as_ref().map_or(0, |half| half.len())
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.half.is_none() && self.replies.is_empty()
    }

    /// Bytes of replies waiting, which the client makes grow by asking without reading.
    pub(crate) fn replies(&self) -> usize {
        self.replies.len()
    }

    /// Where to append replies and control frames.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.replies
    }

    /// Moves what is owed to the beginning of a turn.
    pub(crate) fn owe(&mut self, turn: &mut Turn) {
        if self.is_empty() {
            // Nearly always, in a delivery.
            turn.owed = 0;
            return;
        }
        if let Some(half) = &self.half {
            turn.bytes.extend_from_slice(&half.header);
            turn.bytes.extend_from_slice(&half.shared);
        }
        turn.bytes.extend_from_slice(&self.replies);
        turn.owed = turn.bytes.len();
    }

    /// Takes back what the socket did not take of the owed bytes, after `written` of the turn's.
    pub(crate) fn settle(&mut self, turn: &Turn, written: usize) {
        if turn.owed == 0 && self.replies.capacity() == 0 {
            return;
        }
        let half = self.half_len();
        match &mut self.half {
            Some(rest) if written < half => return rest.advance(written),
            rest => *rest = None,
        }
        if written >= turn.owed {
            self.replies = Vec::new();
        } else {
            self.replies.drain(..written - half);
            self.replies.shrink_to_fit();
        }
    }

    /// Keeps the rest of a half-written piece: its shared bytes by reference, the connection's own before and after them
    /// by copy.
    pub(crate) fn keep(&mut self, header: &[u8], shared: Bytes, own: &[u8]) {
        debug_assert!(self.is_empty(), "a piece is begun only when nothing is owed");
        if !shared.is_empty() {
            self.half = Some(Box::new(Half { header: SmallVec::from_slice(header), shared }));
        }
        self.replies = own.to_vec();
    }
}
