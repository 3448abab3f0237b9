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
    Emit { position: Position, first_of_epoch: bool, publication: Publication },
    Gap { position: Position, id: u8, honest: bool },
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
    /// It was given a page, and nothing is judged any more: without [`Rule::EachPage`].
    unjudged: bool,
    /// What the stream brought while it was joining.
    held: Vec<Event>,
}

impl Client {
    pub fn new(cursor: Position, id: u8, nameless: bool) -> Self {
        Self { at: At::Away, cursor, nameless, id, unjudged: false, held: Vec::new() }
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
            At::On { node: at } if at == node => self.take(event, setup),
            At::Joining { node: at, .. } if at == node && !setup.keeps(Rule::Hold) => self.take(event, setup),
            At::Joining { node: at, .. } if at == node => {
                self.held.push(event);
                None
            }
            _ => None,
        }
    }

    fn take(&mut self, event: Event, setup: &Setup) -> Option<Fault> {
        match event {
            Event::Gap { position, id, honest } => {
                if setup.kind == Kind::Follows {
                    (self.cursor, self.id) = (position, id);
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
                self.give(Position { epoch, offset: position.offset }, publication)
            }
        }
    }

    fn give(&mut self, cursor: Position, publication: Publication) -> Option<Fault> {
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
        let head = self.nodes[node].sequencer.head().unwrap();
        self.client.at = At::Joining { node, head, head_id: self.nodes[node].head_id };
        true
    }

    /// The node reads the log from the client's cursor and replies. With `partial` the client goes away after the first
    /// publication of the reply; `None` if there are not enough for that.
    pub fn resume(&mut self, partial: bool, setup: &Setup) -> Option<Decision> {
        let At::Joining { node, head, head_id } = self.client.at else { return None };
        let (cursor, nameless) = (self.client.cursor, self.client.nameless);
        let log = self.servers[self.nodes[node].server].create(&mut self.fresh, setup);
        let can_continue = log.can_continue(self.client.id, setup);
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
            resume::decide(cursor, judged, &view, usize::MAX)
        };
        if self.client.unjudged {
            let end = view.entries.partition_point(|(offset, _)| *offset <= head.offset);
            decision = Decision::Serve { entries: 0..end, whole: cursor.offset + end as u64 >= head.offset };
        }
        if decision == Decision::Retry && !setup.keeps(Rule::Retry) {
            decision = Decision::Gap(GapReason::Truncated);
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
            let fault = self.client.give(Position { epoch, offset: *offset }, *publication);
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
            Decision::Gap(_) if nameless && view.ledger.entries().len() > 1 => self.client.id = head_id,
            Decision::Gap(_) if can_continue => self.fault = self.fault.or(Some(Fault::FalseGap)),
            Decision::Gap(_) => self.client.id = head_id,
            // From here on the stream continues at the head: that must be where the client is.
            _ if self.client.id != head_id => self.fault = self.fault.or(Some(Fault::SilentGap)),
            _ => {}
        }
        (self.client.cursor, self.client.nameless) = (head, false);
        self.client.at = At::On { node };
        self.client.unjudged = false;
        for event in std::mem::take(&mut self.client.held) {
            if self.client.at != At::Away {
                self.fault = self.fault.or(self.client.take(event, setup));
            }
        }
        Some(decision)
    }
}
