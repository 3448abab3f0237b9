//! The turn of a connection: what it gathers to write at once, and what the turns of a thread share.
//!
//! A turn is taken by the connection's task, or by whoever has marked it, in a *slice*: one connection after another on
//! one thread. What is the same for all of them is done once per slice: looking at the ring of a channel (most
//! subscribers of a channel are at the same place in it) and adding to the metrics.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_protocol::Position;

use crate::channel::LocalChannel;
use crate::encoding::EncodingId;
use crate::entry::Entry;
use crate::hub::Hub;
use crate::metrics::MAX_TRANSPORTS;
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

/// What was gathered of one subscription, to be given back if the socket does not take it: an entry, or a run of them.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Index of the subscription in its session.
    pub(crate) sub: u32,
    /// Entries of it.
    pub(crate) count: u32,
    /// Where their ends are in [`Turn::ends`], if there is more than one.
    pub(crate) ends: u32,
    /// They have moved the subscription's position, each by one.
    pub(crate) placed: bool,
    /// Place of the subscription before this piece, in the ring.
    pub(crate) seq: u64,
    /// Where the subscription stood before this piece.
    pub(crate) position: Option<Position>,
    /// Beginning of the shared bytes in the buffer: after the header of a chunk, which is the connection's own.
    pub(crate) shared_start: usize,
    /// End of the shared bytes in the buffer.
    pub(crate) shared_end: usize,
    /// End of the piece: after what only this connection writes (the `id:` line and the end of a chunk).
    pub(crate) end: usize,
    /// It is a gap.
    pub(crate) gap: bool,
    /// The entry itself if it was taken from the subscription's backlog rather than the ring.
    pub(crate) backlog: Option<Arc<Entry>>,
}

impl Piece {
    /// One publication from the ring, which does not move the subscription's position. `seq` and `position`: those of the
    /// subscription before it; `shared`: its shared bytes in the buffer; `end`: of the whole segment.
    pub(crate) fn of_one(sub: u32, seq: u64, position: Option<Position>, shared: Range<usize>, end: usize) -> Self {
        Self {
            sub,
            count: 1,
            ends: 0,
            placed: false,
            seq,
            position,
            shared_start: shared.start,
            shared_end: shared.end,
            end,
            gap: false,
            backlog: None,
        }
    }
}

/// What a connection writes at once.
#[derive(Debug)]
pub struct Turn {
    /// What to write.
    pub(crate) bytes: Vec<u8>,
    /// Bytes to gather at most, give or take one entry.
    pub(crate) limit: usize,
    /// Bytes at the beginning that are owed, not gathered.
    pub(crate) owed: usize,
    pub(crate) pieces: Vec<Piece>,
    /// Ends of the entries of runs, counted from where their piece begins.
    pub(crate) ends: Vec<u32>,
    pub(crate) batches: Batches,
    /// What the connection writes after the shared bytes of an entry, while it is put together.
    pub(crate) own: Vec<u8>,
    /// Deliveries of the slice that are not in the metrics yet.
    tallies: [Tally; MAX_TRANSPORTS],
    /// Transports with a tally, a bit each.
    tallied: u16,
    /// Turns of many connections follow each other.
    in_slice: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            limit: TURN_BYTES,
            owed: 0,
            pieces: Vec::new(),
            ends: Vec::new(),
            batches: Batches::default(),
            own: Vec::new(),
            tallies: Default::default(),
            tallied: 0,
            in_slice: false,
        }
    }
}

impl Turn {
    /// Gathers with another limit.
    pub(crate) fn limited(&mut self, limit: usize, gather: impl FnOnce(&mut Self)) {
        self.limit = limit;
        gather(self);
        self.limit = TURN_BYTES;
    }

    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.pieces.clear();
        self.ends.clear();
        self.owed = 0;
    }

    /// The entries of a piece that are whole before a place in the bytes, and where the shared bytes of the next one of it
    /// begin and end.
    pub(crate) fn whole(&self, piece: &Piece, start: usize, written: usize) -> (u32, usize, usize) {
        if piece.count == 1 {
            return (0, piece.shared_start, piece.shared_end);
        }
        let ends = &self.ends[piece.ends as usize..][..piece.count as usize];
        let whole = ends.partition_point(|end| start + *end as usize <= written);
        let begin = if whole == 0 { 0 } else { ends[whole - 1] };
        (whole as u32, start + begin as usize, start + ends[whole] as usize)
    }

    /// Ends in the bytes of the entries of a segment that begins at `start`.
    pub(crate) fn entry_ends(&self, piece: &Piece, start: usize) -> impl Iterator<Item = usize> {
        let (one, run) = match piece.count {
            1 => (Some(piece.end), &[][..]),
            count => (None, &self.ends[piece.ends as usize..][..count as usize]),
        };
        one.into_iter().chain(run.iter().map(move |end| start + *end as usize))
    }

    /// Counts deliveries, and how long the oldest of them took.
    pub(crate) fn count(&mut self, transport: Transport, delivered: u64, latency: Option<Duration>) {
        self.tallied |= 1 << transport.0;
        let tally = &mut self.tallies[usize::from(transport.0)];
        tally.delivered += delivered;
        tally.latencies.extend(latency);
    }

    /// The turn of a connection is over.
    pub(crate) fn over(&mut self, hub: &Hub) {
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
        self.batches.clear();
        let mut tallied = std::mem::take(&mut self.tallied);
        while tallied != 0 {
            let transport = Transport(tallied.trailing_zeros() as u8);
            tallied &= tallied - 1;
            let tally = &mut self.tallies[usize::from(transport.0)];
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

/// Entries read from rings, once for all subscribers of a slice that stand at the same place.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// A channel's place is by its address; another one at the same place displaces it. None until the first is read.
    slots: Vec<Batch>,
    /// Slots in use.
    used: Vec<usize>,
}

/// Channels whose entries are held at once: connections mostly have the same ones, and not many more.
const SLOTS: usize = 256;
/// Capacity that a slot keeps for the bytes of runs.
const KEPT_JOINED: usize = 1024;

/// Entries of one channel's ring.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    channel: Option<Arc<LocalChannel>>,
    /// Sequence number of the first.
    from: u64,
    entries: Vec<Arc<Entry>>,
    /// Coalesced runs of them by encoding. Those from `made` on are of earlier entries: their memory is kept.
    runs: Vec<Coalesced>,
    /// Number of runs that were made of these entries.
    made: usize,
}

/// Entries of one slot in one encoding, joined.
#[derive(Debug, Default)]
struct Coalesced {
    encoding: EncodingId,
    /// None if they cannot be written together.
    run: Option<Run>,
    bytes: Vec<u8>,
    /// Ends of the entries in the bytes.
    ends: Vec<u32>,
}

/// Entries that can be given to a subscriber together: publications without a gap, on one line.
#[derive(Debug)]
pub(crate) struct Run {
    /// Of the first, which the others follow; `None` where none has one.
    pub(crate) position: Option<Position>,
    /// When the first was received.
    pub(crate) received: Instant,
    /// Some subscribers skip one of them: these are given the entries one by one.
    pub(crate) selective: bool,
}

/// A coalesced run: its bytes, the ends of its entries in them, and the entries.
pub(crate) type RunParts<'a> = (&'a Run, &'a [u8], &'a [u32], &'a [Arc<Entry>]);

/// What was found for a place in a ring.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Entries from the place asked for on, at least one, in the slot with this number.
    Entries(usize),
    /// There is nothing newer.
    Nothing,
    /// The place is before the ring's tail, which is this.
    Overrun(u64),
}

impl Batches {
    /// Entries from a sequence number on: those held, or else from the ring. Perhaps not all of them: whoever took them
    /// asks again.
    pub(crate) fn load(&mut self, channel: &Arc<LocalChannel>, next: u64) -> Load {
        if channel.head() == next {
            return Load::Nothing;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Batch::default);
        }
        // Allocations of this size lie on multiples of at least 64.
        let at = (Arc::as_ptr(channel).addr() >> 6) % SLOTS;
        let slot = &mut self.slots[at];
        let same = slot.channel.as_ref().is_some_and(|held| Arc::ptr_eq(held, channel));
        if same && slot.from == next && !slot.entries.is_empty() {
            return Load::Entries(at);
        }
        if slot.channel.is_none() {
            self.used.push(at);
        }
        if !same {
            slot.channel = Some(channel.clone());
        }
        slot.read(channel, next).map_or(Load::Entries(at), Load::Overrun)
    }

    /// The entries of a slot as a coalesced run; `None` if they cannot be written together.
    pub(crate) fn run(&mut self, slot: usize, encoding: EncodingId) -> Option<RunParts<'_>> {
        let slot = &mut self.slots[slot];
        let at = match &slot.runs[..slot.made] {
            // Nearly always there is one encoding.
            [first, ..] if first.encoding == encoding => 0,
            made => made.iter().position(|made| made.encoding == encoding).unwrap_or_else(|| slot.join(encoding)),
        };
        let Coalesced { run, bytes, ends, .. } = &slot.runs[at];
        Some((run.as_ref()?, bytes, ends, &slot.entries))
    }

    /// Lends the entries of a slot.
    pub(crate) fn take(&mut self, slot: usize) -> Vec<Arc<Entry>> {
        std::mem::take(&mut self.slots[slot].entries)
    }

    /// Gives them back.
    pub(crate) fn put_back(&mut self, slot: usize, entries: Vec<Arc<Entry>>) {
        self.slots[slot].entries = entries;
    }

    fn clear(&mut self) {
        for at in self.used.drain(..) {
            let slot = &mut self.slots[at];
            slot.channel = None;
            slot.forget();
            slot.entries.shrink_to(4);
            slot.runs.truncate(1);
            slot.runs.iter_mut().for_each(|run| run.bytes.shrink_to(KEPT_JOINED));
        }
    }
}

impl Batch {
    fn forget(&mut self) {
        self.entries.clear();
        self.made = 0;
    }

    /// Reads the ring from a place before its head. Returns the ring's tail if the place is before that.
    fn read(&mut self, channel: &LocalChannel, next: u64) -> Option<u64> {
        self.forget();
        self.from = next;
        let ring = channel.ring();
        if next < ring.tail() {
            return Some(ring.tail());
        }
        let mut bytes = 0;
        for entry in ring.from(next) {
            bytes += entry.published_cost();
            self.entries.push(entry.clone());
            if bytes >= TURN_BYTES {
                break;
            }
        }
        None
    }

    /// Joins the entries in an encoding. Returns the index of the run.
    fn join(&mut self, encoding: EncodingId) -> usize {
        if self.runs.len() == self.made {
            self.runs.push(Coalesced::default());
        }
        let made = &mut self.runs[self.made];
        made.encoding = encoding;
        made.run = None;
        made.bytes.clear();
        made.ends.clear();
        if let (Some(channel), [first, ..]) = (&self.channel, &self.entries[..]) {
            let whole = (self.from..).zip(&self.entries).all(|(seq, entry)| {
                made.bytes.extend_from_slice(channel.encoded(entry, Some(seq), encoding));
                made.ends.push(made.bytes.len() as u32);
                // Beyond that it is too much for a turn, and entries go one by one.
                made.bytes.len() <= TURN_BYTES
            });
            let together = self.entries.iter().all(|entry| entry.is_publication())
                && self.entries.windows(2).all(|pair| pair[1].follows(&pair[0]));
            let selective = self.entries.iter().any(|entry| entry.selective().is_some());
            let run = Run { position: first.position, received: first.received, selective };
            made.run = Some(run).filter(|_| whole && together);
        }
        self.made += 1;
        self.made - 1
    }
}
