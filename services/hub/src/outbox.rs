//! What a connection still has to write, and the turn in which it writes it.
//!
//! A turn gathers into a buffer shared by the connections of a thread: first what is owed from before (the rest of a
//! half-written frame, replies), then entries of the rings. After the write, what the socket did not take is given back:
//! entries by moving the subscriptions' places back, a half-written entry as a reference into its shared bytes, replies
//! by keeping their rest. So a blocked connection holds positions, not copies, and nothing overtakes a half-written
//! frame.

use std::sync::Arc;

use bytes::Bytes;
use fanway_protocol::Position;

use crate::entry::Entry;

/// One gathered entry, to be given back if the socket does not take it.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Index of the subscription in its session.
    pub(crate) sub: u32,
    /// Place of the subscription before this entry, in the ring.
    pub(crate) seq: u64,
    /// Where the subscription stood before this entry.
    pub(crate) position: Option<Position>,
    /// End of the shared bytes in the buffer.
    pub(crate) shared_end: usize,
    /// End of the piece: after what only this connection writes (the `id:` line).
    pub(crate) end: usize,
    /// The entry itself if it was taken from the subscription's backlog rather than the ring.
    pub(crate) backlog: Option<Arc<Entry>>,
}

/// The buffer of one turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// What to write.
    pub(crate) bytes: Vec<u8>,
    /// Bytes at the beginning that are owed, not gathered.
    pub(crate) owed: usize,
    pub(crate) pieces: Vec<Piece>,
}

/// Capacity a turn's buffer keeps between turns.
const KEPT: usize = 256 * 1024;

impl Turn {
    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.pieces.clear();
        self.owed = 0;
    }
}

/// What a connection owes its socket besides entries. Empty and without memory while idle.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Rest of an entry of which a part is written: shared bytes.
    half: Bytes,
    /// Replies and control frames in order, to be written after `half`.
    replies: Vec<u8>,
}

impl Outbox {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.half.len() + self.replies.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.half.is_empty() && self.replies.is_empty()
    }

    /// Bytes of replies waiting, which the client makes grow by asking without reading.
    pub(crate) fn replies(&self) -> usize {
        self.replies.len()
    }

    /// Where to append replies and control frames.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.replies
    }

    /// Moves what is owed to the beginning of a turn.
    pub(crate) fn owe(&mut self, turn: &mut Turn) {
        turn.bytes.extend_from_slice(&self.half);
        turn.bytes.extend_from_slice(&self.replies);
        turn.owed = turn.bytes.len();
    }

    /// Takes back what the socket did not take of the owed bytes, after `written` of the turn's.
    pub(crate) fn settle(&mut self, turn: &Turn, written: usize) {
        let half = self.half.len();
        if written < half {
            self.half = self.half.slice(written..);
            return;
        }
        self.half = Bytes::new();
        if written >= turn.owed {
            self.replies = Vec::new();
        } else {
            self.replies.drain(..written - half);
            self.replies.shrink_to_fit();
        }
    }

    /// Keeps the rest of a half-written piece: its shared bytes by reference, its own by copy.
    pub(crate) fn keep(&mut self, shared: Bytes, own: &[u8]) {
        debug_assert!(self.is_empty(), "a piece is begun only when nothing is owed");
        self.half = shared;
        self.replies = own.to_vec();
    }
}
