//! The turn of a connection: what it gathers to write at once, and what the turns of a thread share.
//!
//! A turn is taken by the connection's task, or by whoever has marked it, in a *slice*: one connection after another on
//! one thread. What is the same for all of them is done once per slice: looking at the ring of a channel (most
//! subscribers of a channel are at the same place in it) and adding to the metrics.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use fanway_protocol::Position;

use crate::channel::LocalChannel;
use crate::entry::Entry;
use crate::hub::Hub;
use crate::session::Transport;

thread_local! {
    /// The turn of the connection that is at work on this thread.
    static TURN: RefCell<Turn> = RefCell::default();
}

/// Lends the thread's turn. Turns do not nest.
pub fn with_turn<R>(take: impl FnOnce(&mut Turn) -> R) -> R {
    TURN.with_borrow_mut(take)
}

/// Capacity a turn's buffer keeps between turns.
const KEPT: usize = 256 * 1024;
/// Bytes one turn gathers at most, give or take one entry.
pub(crate) const TURN_BYTES: usize = 64 * 1024;

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

/// What a connection writes at once.
#[derive(Debug, Default)]
pub struct Turn {
    /// What to write.
    pub(crate) bytes: Vec<u8>,
    /// Bytes at the beginning that are owed, not gathered.
    pub(crate) owed: usize,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) batch: Batch,
    /// Deliveries of the slice that are not in the metrics yet.
    tally: [Tally; Transport::ALL.len()],
    /// Turns of many connections follow each other.
    in_slice: bool,
}

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

    /// Counts deliveries, and how long the oldest of them took.
    pub(crate) fn count(&mut self, hub: &Hub, transport: Transport, delivered: u64, latency: Option<Duration>) {
        let tally = &mut self.tally[transport as usize];
        tally.delivered += delivered;
        tally.latencies.extend(latency);
        if !self.in_slice {
            self.settle(hub);
        }
    }

    /// From here on the turns of many connections follow each other.
    pub(crate) fn begin_slice(&mut self) {
        self.in_slice = true;
    }

    /// The last turn of a slice is over.
    pub(crate) fn end_slice(&mut self, hub: &Hub) {
        self.in_slice = false;
        self.settle(hub);
    }

    /// Adds to the metrics, and lets go of the entries that were shared.
    fn settle(&mut self, hub: &Hub) {
        self.batch.clear();
        for (transport, tally) in Transport::ALL.into_iter().zip(&mut self.tally) {
            if tally.delivered == 0 {
                continue;
            }
            let metrics = hub.transport_metrics(transport);
            metrics.deliveries.inc_by(std::mem::take(&mut tally.delivered));
            let latencies = metrics.latency.local();
            tally.latencies.drain(..).for_each(|latency| latencies.observe(latency.as_secs_f64()));
            latencies.flush();
        }
    }
}

/// Deliveries over one transport.
#[derive(Debug, Default)]
struct Tally {
    delivered: u64,
    /// One per turn.
    latencies: Vec<Duration>,
}

/// Entries of one channel's ring, read once for all subscribers that stand at the same place.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    channel: Option<Arc<LocalChannel>>,
    /// Sequence number of the first.
    from: u64,
    pub(crate) entries: Vec<Arc<Entry>>,
}

/// What a batch was loaded with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Entries from the place asked for on; at least one.
    Entries,
    /// There is nothing newer.
    Nothing,
    /// The place is before the ring's tail, which is this.
    Overrun(u64),
}

impl Batch {
    /// Entries from a sequence number on: those of the last call, if they are the same, else from the ring. Perhaps not
    /// all of them: whoever took them asks again.
    pub(crate) fn load(&mut self, channel: &Arc<LocalChannel>, next: u64) -> Load {
        if channel.head() == next {
            return Load::Nothing;
        }
        let same = self.from == next && self.channel.as_ref().is_some_and(|held| Arc::ptr_eq(held, channel));
        if same && !self.entries.is_empty() {
            return Load::Entries;
        }
        self.entries.clear();
        let ring = channel.ring();
        if next < ring.tail() {
            return Load::Overrun(ring.tail());
        }
        let mut bytes = 0;
        for entry in ring.from(next) {
            bytes += entry.cost();
            self.entries.push(entry.clone());
            if bytes >= TURN_BYTES {
                break;
            }
        }
        drop(ring);
        self.from = next;
        if !same {
            self.channel = Some(channel.clone());
        }
        if self.entries.is_empty() { Load::Nothing } else { Load::Entries }
    }

    fn clear(&mut self) {
        self.channel = None;
        self.entries.clear();
    }
}
