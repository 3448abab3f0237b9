//! Turns a channel's lossy feed into an ordered stream: each step either is the true successor of the step before or
//! says that there is a gap.
//!
//! The log is the truth, the feed a doorbell with a payload. What follows the head by epoch and offset is passed on at
//! once; on anything else the log is read once for all subscribers of this node, and live publications are held until it
//! answered. A position names one publication with its whole past (see [`fanway_broker::ledger`]), so comparing positions
//! is enough to know that two lines agree.
//!
//! Sans-I/O: no clock, no lock, no task. The owner calls it in the channel's turn and keeps *one* read of the log under
//! way at a time: while [`Sequencer::needs_read`], it sends a read of [`Sequencer::since`], says so by
//! [`Sequencer::asked`], and ends it with [`Sequencer::read`] or [`Sequencer::unanswered`]. The same code runs in
//! production, in the property tests and in the model checker, hence plain data.

use fanway_broker::{LogTop, LogView, Place, Timeline};
use fanway_protocol::{Epoch, GapReason, Position};

use crate::history::Past;
use crate::resume;

/// A publication as the feed brought it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incoming<M> {
    /// Its place in the log.
    pub place: Place,
    /// What was published.
    pub publication: M,
}

/// One step of the ordered stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<M> {
    /// The successor of the position before.
    Emit {
        /// Where the stream stands after it.
        position: Position,
        /// The position before was in another epoch: readers that keep an epoch must learn the new one now.
        first_of_epoch: bool,
        /// What was published.
        publication: M,
    },
    /// The successors cannot be given.
    Gap {
        /// Why.
        reason: GapReason,
        /// Where the stream goes on: its next step is the successor of this position.
        position: Position,
    },
    /// The log records a loss that the stream has passed over: it goes on, but whoever came to this node before the loss
    /// must learn of it.
    Loss {
        /// First offset after the loss.
        before: u64,
        /// Where the stream stands.
        position: Position,
    },
}

/// What the log's answer to a read leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Nothing more is needed.
    Whole,
    /// Another read: the limit cut the view, or something was missed after the read was sent.
    Again,
    /// Another read, after the loss of publications of these timelines was recorded in the log ([`fanway_broker::Broker::cut`]),
    /// or [`Sequencer::cut_refused`].
    CutFirst(Vec<Timeline>),
}

/// How much the sequencer trusts its feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// There is no feed: a read now could be followed by a loss that nothing would show.
    Down,
    /// There is a feed, but publications may be missing between the head and it.
    Need,
    /// The feed continues at the head.
    Live,
}

/// Bounds of the publications that a sequencer holds while the log is read. Small, as each channel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HoldLimit {
    /// Most publications.
    pub publications: u16,
    /// Most KiB of all of them.
    pub kib: u16,
}

/// Publications that wait for the answer of a read, in the order of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held<M> {
    publications: Vec<Incoming<M>>,
    bytes: usize,
    /// One did not fit. Those after it would only show that it is missing, so they are dropped too.
    full: bool,
}

impl<M> Default for Held<M> {
    fn default() -> Self {
        Self { publications: Vec::new(), bytes: 0, full: false }
    }
}

impl<M> Held<M> {
    /// Adds a publication of so many bytes. False if it does not fit.
    fn push(&mut self, incoming: Incoming<M>, bytes: usize, limit: HoldLimit) -> bool {
        let bytes = self.bytes.saturating_add(bytes);
        self.full |= self.publications.len() >= limit.publications.into() || bytes.div_ceil(1024) > limit.kib.into();
        if !self.full {
            self.bytes = bytes;
            self.publications.push(incoming);
        }
        !self.full
    }
}

/// Rare parts of a sequencer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Aside<M> {
    /// Received while in need: what was published after the read saw the log.
    held: Option<Held<M>>,
    /// What is remembered of the stream's past.
    past: Past,
    /// Hash of the name of the newest loss marker that was handled; 0 for none. Not its offset: the same offset can be
    /// lost twice.
    marker: u32,
}

impl<M> Default for Aside<M> {
    fn default() -> Self {
        Self { held: None, past: Past::default(), marker: 0 }
    }
}

impl<M> Aside<M> {
    fn is_empty(&self) -> bool {
        self.held.is_none() && self.past.is_empty() && self.marker == 0
    }
}

/// The order of one channel on one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sequencer<M> {
    /// How much the feed is trusted.
    phase: Phase,
    /// The last position passed on; `None` until the first read. Its epoch is always the one its publication was written
    /// in, so that it stays comparable on every line that has the publication.
    head: Option<Position>,
    /// What most streams have nothing of. In a box, so that they are small.
    aside: Option<Box<Aside<M>>>,
    /// Bounds of what is held. What exceeds them is dropped and read from the log instead.
    hold_limit: HoldLimit,
    /// A read was sent and has not ended.
    reading: bool,
    /// Something was missed after that read was sent, so its answer may lack it.
    overtaken: bool,
}

impl<M> Sequencer<M> {
    /// A channel without a feed and without a head.
    pub fn new(hold_limit: HoldLimit) -> Self {
        Self { phase: Phase::Down, head: None, aside: None, hold_limit, reading: false, overtaken: false }
    }

    /// The feed broke. What it brought before is forgotten: the log has it.
    pub fn interrupted(&mut self) {
        self.phase = Phase::Down;
        if let Some(aside) = &mut self.aside {
            aside.past.end_round();
        }
        self.take_held();
    }

    /// The feed is confirmed: everything published from now on will be heard. What came before must be read.
    pub fn restored(&mut self) {
        self.phase = Phase::Need;
        self.overtaken = self.reading;
    }

    /// Nobody waits for the stream any more: drops what is held. The log has it.
    pub fn release(&mut self) {
        if self.take_held().is_some() {
            self.overtaken = self.reading;
        }
    }

    /// Something may have been missed: a publication could not be read or taken, or a client knows more than this node.
    pub fn suspect(&mut self) {
        match self.phase {
            Phase::Down => {}
            Phase::Need => self.overtaken = self.reading,
            Phase::Live => self.phase = Phase::Need,
        }
    }

    /// The periodic comparison with the log's top, `None` if there is no log. It alone finds the loss of the last
    /// publication before silence. The epoch counts as much as the offset: a log that was lost and refilled to the same
    /// offset differs in nothing else.
    pub fn check(&mut self, top: Option<&LogTop>) {
        if self.phase == Phase::Live && !top.is_some_and(|top| self.is_at(top)) {
            self.phase = Phase::Need;
        }
    }

    /// True if a log with this top has nothing that the stream lacks, nor lacks anything that it had: a read would show
    /// nothing new.
    pub fn is_at(&self, top: &LogTop) -> bool {
        let LogTop { position, ledger } = top;
        let lacks = self.aside.as_ref().is_some_and(|aside| aside.past.lacks_elsewhere(ledger, position.offset));
        self.head == Some(*position) && !lacks && marker_hash(ledger.marker()).is_none_or(|hash| hash == self.marker())
    }

    /// The loss that [`Answered::CutFirst`] named was not recorded, because the server refuses writes or finds none. The next
    /// read goes on without, if the loss is still not recorded then; it is tried again with the next comparison.
    pub fn cut_refused(&mut self) {
        self.past_mut().pass_over();
    }

    /// The feed brought a publication. `size`: its bytes, asked for only where it must be held.
    pub fn live(&mut self, incoming: Incoming<M>, size: impl FnOnce(&M) -> usize, out: &mut Vec<Step<M>>) {
        match self.phase {
            // Received before the feed was confirmed; the read that follows the confirmation has it.
            Phase::Down => {}
            Phase::Need => {
                let bytes = size(&incoming.publication);
                if !self.aside.get_or_insert_default().held.get_or_insert_default().push(
                    incoming,
                    bytes,
                    self.hold_limit,
                ) {
                    self.overtaken = self.reading;
                }
            }
            Phase::Live => {
                if !self.follow(incoming, out) {
                    self.phase = Phase::Need;
                }
            }
        }
    }

    /// Bytes of the publications that it holds.
    pub fn held_bytes(&self) -> usize {
        self.aside.as_ref().and_then(|aside| aside.held.as_ref()).map_or(0, |held| held.bytes)
    }

    /// What to ask the log for: the entries after this offset, `None` for the top alone.
    pub fn since(&self) -> Option<u64> {
        self.head.map(|head| head.offset)
    }

    /// Whether a read should be sent now.
    pub fn needs_read(&self) -> bool {
        self.phase == Phase::Need && !self.reading
    }

    /// A read of [`Sequencer::since`] was sent.
    pub fn asked(&mut self) {
        self.reading = true;
        self.overtaken = false;
    }

    /// The read ended without an answer.
    pub fn unanswered(&mut self) {
        self.reading = false;
    }

    /// Whether the stream continues at the head; only then may a client be attached there.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The last position passed on.
    pub fn head(&self) -> Option<Position> {
        self.head
    }

    /// True if a loss could not be recorded, and is to be tried again: the log is to be compared although it is busy.
    pub fn is_unrecorded(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.past.is_unrecorded())
    }

    /// Whether the log has recorded a loss.
    pub fn has_lost(&self) -> bool {
        self.marker() != 0
    }

    fn take_held(&mut self) -> Option<Held<M>> {
        let held = self.aside.as_mut()?.held.take();
        self.aside.take_if(|aside| aside.is_empty());
        held
    }

    fn has_past(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| !aside.past.is_empty())
    }

    fn past_mut(&mut self) -> &mut Past {
        &mut self.aside.get_or_insert_default().past
    }

    fn marker(&self) -> u32 {
        self.aside.as_ref().map_or(0, |aside| aside.marker)
    }

    fn set_marker(&mut self, marker: Option<u32>) {
        if marker.is_some() || self.aside.is_some() {
            self.aside.get_or_insert_default().marker = marker.unwrap_or(0);
        }
    }

    /// Passes a publication on if it is the head's successor. False if it shows that something is missing, or that the
    /// log is on another line; the log has it then.
    fn follow(&mut self, incoming: Incoming<M>, out: &mut Vec<Step<M>>) -> bool {
        let Incoming { place: Place { position, previous_epoch }, publication } = incoming;
        let Some(head) = self.head else { return false };
        if position.epoch == head.epoch && position.offset <= head.offset {
            return true; // Known: within an epoch an offset names one publication.
        }
        // The first publication of an epoch is known by its predecessor's: no read at a change of epoch.
        let same_line = position.epoch == head.epoch || previous_epoch == head.epoch;
        let next = same_line && position.offset == head.offset + 1;
        if next {
            self.emit(position, publication, out);
        }
        next
    }

    fn emit(&mut self, position: Position, publication: M, out: &mut Vec<Step<M>>) {
        let first_of_epoch = match self.head {
            Some(head) if head.epoch != position.epoch => {
                self.past_mut().enter_epoch(head);
                true
            }
            _ => false,
        };
        self.head = Some(position);
        out.push(Step::Emit { position, first_of_epoch, publication });
    }
}

impl<M: Clone> Sequencer<M> {
    /// The log's answer to a read of [`Sequencer::since`] with a limit of at least one. Returns what is needed next.
    ///
    /// An answer that arrives without a feed is worthless (see [`Phase::Down`]) and ignored.
    pub fn read(&mut self, view: &LogView<M>, out: &mut Vec<Step<M>>) -> Answered {
        self.reading = false;
        if self.phase != Phase::Need {
            return Answered::Whole;
        }
        // The record comes first and the gap afterwards: a client that is told of a gap at a position which the record
        // then makes void would be told twice.
        let lacking = self.unrecorded(view);
        if !lacking.is_empty() {
            return Answered::CutFirst(lacking);
        }
        let whole = self.catch_up(view, out);
        self.aside.take_if(|aside| aside.is_empty());
        if !whole {
            return Answered::Again; // Cut by the limit. The next view tells anew whether the point reached is on the line.
        }
        let mut whole = !self.overtaken;
        for incoming in self.take_held().into_iter().flat_map(|held| held.publications) {
            whole &= self.follow(incoming, out);
        }
        if whole {
            self.phase = Phase::Live;
            return Answered::Whole;
        }
        Answered::Again
    }

    /// Timelines of this node that the log lacks publications of, if that is to be recorded before the view is used.
    fn unrecorded(&mut self, view: &LogView<M>) -> Vec<Timeline> {
        let Some(head) = self.head else { return Vec::new() };
        let reason = resume::off_the_line(head, view);
        // A stream whose position is on the line, and that has always been, lacks nothing.
        if reason.is_none() && !self.has_past() {
            return Vec::new();
        }
        let past = self.past_mut();
        let lacking = past.lacking(head, view);
        if lacking.is_empty() {
            past.recorded();
        } else if past.passes_over() {
            return Vec::new();
        } else {
            past.begin_round(view, reason);
        }
        lacking
    }

    /// Brings the head to the view's top, by its entries or by a gap. False if the entries end before the top.
    fn catch_up(&mut self, view: &LogView<M>, out: &mut Vec<Step<M>>) -> bool {
        let marker = marker_hash(view.ledger.marker());
        let Some(head) = self.head else {
            self.head = Some(view.top);
            self.set_marker(marker);
            self.remember(view, view.top);
            return true;
        };
        if let Some(reason) = resume::obstacle(head, view) {
            return self.reset(reason, view, out);
        }
        if let Some((_, before)) = view.ledger.marker().filter(|_| marker != Some(self.marker())) {
            self.set_marker(marker);
            out.push(Step::Loss { before, position: head });
        }
        let mut reached = head.offset;
        for (offset, publication) in view.entries.iter().filter(|(offset, _)| *offset > head.offset) {
            if *offset != reached + 1 {
                return self.reset(GapReason::Retention, view, out); // Somebody deleted within the log.
            }
            reached = *offset;
            self.emit(view.position_of(reached), publication.clone(), out);
        }
        if let Some(head) = self.head {
            self.remember(view, head);
        }
        reached == view.top.offset
    }

    /// Keeps the epochs before that of a position on the view, if there are any.
    fn remember(&mut self, view: &LogView<M>, position: Position) {
        if self.has_past() || view.ledger.entries().len() > 1 {
            self.past_mut().follow(view, position);
        }
    }

    /// Goes on at the view's top, after a gap.
    fn reset(&mut self, reason: GapReason, view: &LogView<M>, out: &mut Vec<Step<M>>) -> bool {
        let first = self.head.and_then(|head| self.past_mut().part(head, view));
        self.head = Some(view.top);
        self.set_marker(marker_hash(view.ledger.marker()));
        out.push(Step::Gap { reason: first.unwrap_or(reason), position: view.top });
        true
    }
}

/// Hash of a loss marker's name, never 0.
fn marker_hash(marker: Option<(Epoch, u64)>) -> Option<u32> {
    marker.map(|(name, _)| {
        let fnv = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        name.as_str().as_bytes().iter().fold(0x811c_9dc5, fnv).max(1)
    })
}

#[cfg(test)]
mod tests;
