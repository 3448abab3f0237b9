//! The client: what it was given, what it would resume with, and how it resumes at a node.

use fanway_hub::resume::{self, Decision};
use fanway_protocol::{GapReason, Position};

use crate::redis::Publication;
use crate::setup::{Kind, Rule, Setup};
use crate::world::{World, forget_end};

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A publication that does not follow the one before, or a resume at a point where the client is not.
    SilentGap,
    /// A publication twice.
    Duplicate,
    /// A gap was declared although the log read held everything.
    FalseGap,
}

/// A step of the stream with the truth about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Emit {
        position: Position,
        first_of_epoch: bool,
        publication: Publication,
    },
    /// `lost`: what the log lacks.
    Gap {
        position: Position,
        id: u8,
        honest: bool,
        lost: Vec<u8>,
    },
    /// For whoever came before the loss.
    Loss {
        before: u64,
        honest: bool,
        lost: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Away,
    /// Resuming at a node whose head was this when it came.
    Joining {
        node: usize,
        head: Position,
        head_id: u8,
    },
    On {
        node: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    pub at: At,
    /// What it would resume with.
    pub cursor: Position,
    /// It stands before anything and names no epoch: `cursor` is not its own.
    pub nameless: bool,
    /// The last publication it was given.
    pub id: u8,
    /// The one with which it came to its node, or went on after its last gap.
    pub came: u8,
    /// It was told of a gap on its node. A notice of a loss that is recorded later may be the second for the same loss.
    pub had_gap: bool,
    /// Its offset, as the node keeps it.
    pub start: u64,
    /// What it was given, and what was missing in the log when it was told of a gap.
    pub known: Vec<u8>,
    /// The node that owes it a gap: it was made to subscribe anew there.
    pub owed: Option<usize>,
    /// It was given a page, and nothing is judged any more: without [`Rule::EachPage`].
    unjudged: bool,
    /// What the stream brought while it was joining.
    held: Vec<Event>,
}

impl Client {
    pub fn new(cursor: Position, id: u8, nameless: bool) -> Self {
        Self {
            at: At::Away,
            cursor,
            nameless,
            id,
            came: id,
            had_gap: false,
            start: 0,
            known: Vec::new(),
            owed: None,
            unjudged: false,
            held: Vec::new(),
        }
    }

    /// Goes, or is made to; comes back with its cursor.
    pub fn leave(&mut self) {
        self.at = At::Away;
        self.unjudged = false;
        self.held.clear();
    }

    /// A node's stream went on.
    pub fn hear(&mut self, node: usize, event: Event, setup: &Setup) -> Option<Fault> {
        match self.at {
            At::On { node: at } if at == node => self.take(node, event, setup),
            At::Joining { node: at, .. } if at == node && !setup.keeps(Rule::Hold) => self.take(node, event, setup),
            At::Joining { node: at, .. } if at == node => {
                self.held.push(event);
                None
            }
            _ => None,
        }
    }

    /// It was told of a gap, and goes on after this.
    fn tell(&mut self, lost: Vec<u8>, id: u8, start: u64, setup: &Setup) {
        lost.into_iter().for_each(|lost| self.know(lost, setup));
        (self.id, self.came, self.start, self.had_gap) = (id, id, start, true);
    }

    fn take(&mut self, node: usize, event: Event, setup: &Setup) -> Option<Fault> {
        match event {
            Event::Loss { before, .. } if setup.keeps(Rule::Start) && self.start >= before => None,
            Event::Loss { before, honest, lost } => {
                let honest = honest || self.had_gap;
                if setup.kind == Kind::Follows {
                    self.tell(lost, self.id, before.max(self.cursor.offset), setup);
                } else {
                    self.leave(); // Subscribes again, and its reply tells it.
                    self.owed = Some(node);
                }
                (!honest).then_some(Fault::FalseGap)
            }
            Event::Gap { position, id, honest, lost } => {
                if setup.kind == Kind::Follows {
                    self.cursor = position;
                    self.tell(lost, id, position.offset, setup);
                } else {
                    self.leave(); // Subscribes again: the reply tells it.
                }
                (!honest).then_some(Fault::FalseGap)
            }
            Event::Emit { position, first_of_epoch, publication } => {
                let epoch = match setup.kind {
                    Kind::Follows => position.epoch,
                    Kind::Adopts if first_of_epoch => position.epoch,
                    Kind::Adopts | Kind::Forgets => self.cursor.epoch,
                    Kind::Resubscribes if position.epoch == self.cursor.epoch => position.epoch,
                    Kind::Resubscribes => {
                        self.leave();
                        return None;
                    }
                };
                self.give(Position { epoch, offset: position.offset }, publication, setup)
            }
        }
    }

    fn know(&mut self, id: u8, setup: &Setup) {
        if let (Err(at), true) = (self.known.binary_search(&id), setup.told) {
            self.known.insert(at, id);
        }
    }

    fn give(&mut self, cursor: Position, publication: Publication, setup: &Setup) -> Option<Fault> {
        self.know(publication.id, setup);
        let before = std::mem::replace(&mut self.id, publication.id);
        (self.cursor, self.nameless) = (cursor, false);
        match before {
            before if before == publication.after => None,
            before if before == publication.id => Some(Fault::Duplicate),
            _ => Some(Fault::SilentGap),
        }
    }
}

impl World {
    /// The client comes to a node. False if the node would have to look at the log first and cannot.
    pub fn join(&mut self, node: usize, setup: &Setup) -> bool {
        if self.client.nameless {
            let epoch = self.nodes[node].sequencer.head().unwrap().epoch;
            self.client.cursor = Position { epoch, offset: 0 };
        } else if resume::needs_repair_first(self.client.cursor, self.nodes[node].sequencer.head().unwrap()) {
            if !self.can_read(node) {
                return false;
            }
            self.nodes[node].sequencer.suspect();
            self.repair_fully(node, setup);
        }
        if self.client.owed != Some(node) {
            self.client.owed = None;
            (self.client.came, self.client.start) = (self.client.id, self.client.cursor.offset);
            self.client.had_gap = false;
        }
        let head = self.nodes[node].sequencer.head().unwrap();
        self.client.at = At::Joining { node, head, head_id: self.nodes[node].head_id };
        true
    }

    /// The node reads the log from the client's cursor and replies. With `partial` the client goes away after the first
    /// publication of the reply; `None` if there are not enough for that.
    pub fn resume(&mut self, partial: bool, setup: &Setup) -> Option<Decision> {
        let At::Joining { node, head, head_id } = self.client.at else { return None };
        let (cursor, nameless) = (self.client.cursor, self.client.nameless);
        let log = self.servers[self.nodes[node].server].create(&mut self.fresh, setup).clone();
        let after = self.lost_after(self.client.came, &log);
        let can_continue = log.can_continue(self.client.id, setup) && after.is_empty();
        let lost = self.lost(&log);
        let mut view = log.view(Some(cursor.offset), setup.page, setup);
        if !setup.keeps(Rule::EndOfEpoch) {
            forget_end(&mut view, cursor);
            forget_end(&mut view, head);
        }
        let judged = if setup.keeps(Rule::Seam) { head } else { view.position_of(head.offset.min(view.top.offset)) };
        // At the head the ring alone decides.
        let mut decision = if nameless && cursor != judged {
            resume::decide_from_beginning(judged, &view, usize::MAX)
        } else {
            resume::decide(cursor, cursor.offset, judged, &view, usize::MAX)
        };
        if self.client.owed.take().is_some() {
            decision = Decision::Gap(GapReason::Truncated);
        }
        if self.client.unjudged {
            let end = view.entries.partition_point(|(offset, _)| *offset <= head.offset);
            decision = Decision::Serve { entries: 0..end, whole: cursor.offset + end as u64 >= head.offset };
        }
        let served = match &decision {
            Decision::Serve { entries, .. } => &view.entries[entries.clone()],
            _ => &[],
        };
        if partial && served.len() < 2 {
            return None;
        }
        for (offset, publication) in &served[..if partial { 1 } else { served.len() }] {
            let own = view.position_of(*offset);
            let first_of_epoch = view.ledger.entries().iter().any(|entry| entry.1 == *offset);
            let epoch = match setup.kind {
                Kind::Follows => own.epoch,
                Kind::Adopts if first_of_epoch => own.epoch,
                _ => head.epoch, // The reply's.
            };
            let fault = self.client.give(Position { epoch, offset: *offset }, *publication, setup);
            self.fault = self.fault.or(fault);
        }
        if partial {
            self.client.leave();
            return Some(decision);
        }
        if matches!(decision, Decision::Serve { whole: false, .. }) {
            // Whatever the stream brought is in the log: the next page comes as if the client had come back.
            if setup.keeps(Rule::EachPage) {
                self.client.leave();
            } else {
                self.client.unjudged = true;
            }
            return Some(decision);
        }
        match decision {
            Decision::Retry => {
                self.nodes[node].sequencer.suspect();
                self.client.leave();
                return Some(decision);
            }
            // What a client without an epoch would have followed is not known: to it this is a gap.
            Decision::Gap(_) if can_continue && !(nameless && view.ledger.entries().len() > 1) => {
                self.fault = self.fault.or(Some(Fault::FalseGap));
            }
            Decision::Gap(reason) => {
                let known = view.ledger.end_of(cursor.epoch, view.top.offset);
                let known = known.filter(|_| reason == GapReason::Truncated).map_or(0, |end| end + 1);
                self.client.tell(lost, head_id, head.offset.max(known), setup);
            }
            // From here on the stream continues at the head: that must be where the client is.
            _ if self.client.id != head_id => self.fault = self.fault.or(Some(Fault::SilentGap)),
            _ => {}
        }
        (self.client.cursor, self.client.nameless) = (head, false);
        self.client.at = At::On { node };
        self.client.unjudged = false;
        for event in std::mem::take(&mut self.client.held) {
            if self.client.at != At::Away {
                self.fault = self.fault.or(self.client.take(node, event, setup));
            }
        }
        Some(decision)
    }
}
