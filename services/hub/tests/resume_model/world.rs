//! The world around the code under test: two servers, two nodes, one client, one channel, and what can go wrong.
//!
//! A node's order is the real [`Sequencer`], a resume the real [`resume::decide`]; everything else is as simple as it can
//! be. Rules are left out here, around that code, never in it.

use fanway_broker::{Ledger, LogView, Timeline};
use fanway_hub::{Answered, Incoming, Sequencer, Step};
use fanway_protocol::Position;

use crate::client::{Client, Event, Fault};
use crate::redis::{Fresh, Log, Publication, Server, epoch, size, take};
use crate::setup::{Rule, Setup};

/// A node's way from the server's PUBLISH to its sequencer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feed {
    Broken,
    /// The node believes in it, but it begins later: only without [`Rule::SubscribeFirst`].
    Late,
    Up,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The server it is connected to.
    pub server: usize,
    pub feed: Feed,
    /// Heard by the node's socket, not yet by its sequencer.
    pub queue: Vec<Incoming<Publication>>,
    pub sequencer: Sequencer<Publication>,
    /// The id of the publication at the sequencer's head.
    pub head_id: u8,
    /// Publications that it has passed on.
    pub passed: Vec<u8>,
    /// A read that has seen the log and is on its way back.
    pub answer: Option<Answer>,
    /// Timelines to be recorded as lost, in a log that was read at this length.
    pub cuts: Option<(Vec<Timeline>, u64)>,
}

/// A view of a log, and what the truth is about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    view: LogView<Publication>,
    top_id: u8,
    /// The log could continue the reader, and has everything that was ever published after it: no reason for a gap.
    can_continue: bool,
    /// What it has not.
    lost: Vec<u8>,
}

/// How often each fault may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub publishes: u8,
    pub failovers: u8,
    pub flushes: u8,
    pub restarts: u8,
    pub kills: u8,
    pub drops: u8,
    pub moves: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub servers: [Server; 2],
    /// The server that the nodes are told to use.
    pub primary: usize,
    pub nodes: [Node; 2],
    pub client: Client,
    pub fresh: Fresh,
    /// Everything that was ever published.
    pub published: Vec<Publication>,
    /// The other server has copied the primary's log since one of them last changed its timeline. If one was promoted
    /// without, it brings back what had been lost, and what was published meanwhile is lost: nothing can tell that.
    pub copied: bool,
    pub diverged: bool,
    /// An older copy of the primary's log, and whether another server has become the primary since: it diverges then.
    pub snapshot: Option<Option<Log>>,
    pub stale_snapshot: bool,
    pub left: Budget,
    pub fault: Option<Fault>,
}

impl World {
    pub fn new(setup: &Setup) -> Self {
        let log = Log::new(0, epoch(0, 0));
        let head = log.top(setup);
        let mut sequencer = Sequencer::new(setup.hold_limit);
        if !setup.cold {
            sequencer.restored();
            sequencer.read(&log.view(None, 1, setup), &mut Vec::new());
        }
        let feed = if setup.cold { Feed::Broken } else { Feed::Up };
        let node = Node {
            server: 0,
            feed,
            queue: Vec::new(),
            sequencer,
            head_id: 0,
            passed: Vec::new(),
            answer: None,
            cuts: None,
        };
        Self {
            servers: [true, false].map(|master| Server { master, reign: 0, log: Some(log.clone()) }),
            primary: 0,
            nodes: [node.clone(), node],
            client: Client::new(head, 0, setup.nameless),
            fresh: Fresh { id: 1, epoch: 1, reign: 1 },
            published: Vec::new(),
            copied: true,
            diverged: false,
            snapshot: None,
            stale_snapshot: false,
            left: Budget {
                publishes: setup.publishes,
                failovers: setup.failovers,
                flushes: setup.flushes,
                restarts: setup.restarts,
                kills: setup.kills,
                drops: setup.drops,
                moves: setup.moves,
            },
            fault: None,
        }
    }

    pub fn can_read(&self, node: usize) -> bool {
        self.servers[self.nodes[node].server].master
    }

    /// Somebody publishes at a server; the nodes that listen there hear it.
    pub fn publish(&mut self, server: usize, setup: &Setup) {
        let incoming = self.servers[server].publish(&mut self.fresh, setup);
        self.published.push(incoming.publication);
        for node in &mut self.nodes {
            if node.feed == Feed::Up && node.server == server {
                node.queue.push(incoming.clone());
            }
        }
    }

    /// The replica takes over all that the primary has.
    pub fn replicate(&mut self) {
        let Server { reign, log, .. } = self.servers[self.primary].clone();
        self.copied = true;
        let replica = &mut self.servers[1 - self.primary];
        (replica.reign, replica.log) = (reign, log);
    }

    /// The other server becomes the primary, in a new reign. The old one is demoted, or goes on unaware (`stale`).
    pub fn fail_over(&mut self, stale: bool, setup: &Setup) {
        let old = self.primary;
        self.diverged |= !std::mem::take(&mut self.copied);
        self.stale_snapshot = true;
        self.primary = 1 - old;
        let reign = take(&mut self.fresh.reign);
        let new = &mut self.servers[self.primary];
        (new.master, new.reign) = (true, reign);
        if !stale {
            self.demote(old, setup);
        }
    }

    pub fn demote(&mut self, server: usize, setup: &Setup) {
        self.servers[server].master = false;
        if !setup.keeps_connections {
            self.cut(server);
        }
    }

    pub fn cut(&mut self, server: usize) {
        for node in 0..2 {
            if self.nodes[node].server == server {
                self.kill(node);
            }
        }
    }

    /// Whether a publication is another one or comes after it.
    pub fn follows(&self, mut id: u8, before: u8) -> bool {
        loop {
            if id == before {
                return true;
            }
            let Some(publication) = self.published.iter().find(|publication| publication.id == id) else {
                return false;
            };
            id = publication.after;
        }
    }

    /// What was published and is not in a log.
    pub fn lost(&self, log: &Log) -> Vec<u8> {
        self.published.iter().map(|publication| publication.id).filter(|id| !log.has(*id)).collect()
    }

    /// ... after a publication.
    pub fn lost_after(&self, id: u8, log: &Log) -> Vec<u8> {
        self.lost(log).into_iter().filter(|later| self.follows(*later, id)).collect()
    }

    /// A node has losses recorded in the log, if it can.
    pub fn record(&mut self, node: usize, setup: &Setup) {
        let Some((timelines, length)) = self.nodes[node].cuts.take() else { return };
        if !setup.keeps(Rule::Cut) {
            self.nodes[node].sequencer.cut_refused();
        } else if self.can_read(node) {
            for timeline in timelines {
                self.servers[self.nodes[node].server].cut(&timeline, length, &mut self.fresh, setup);
            }
            if !setup.keeps(Rule::Marker) {
                self.nodes[node].sequencer.cut_refused();
            }
        }
    }

    /// A node's feed breaks.
    pub fn kill(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.feed = Feed::Broken;
        node.queue.clear();
        node.sequencer.interrupted();
    }

    pub fn reconnect(&mut self, node: usize, server: usize, setup: &Setup) {
        let node = &mut self.nodes[node];
        node.sequencer.interrupted();
        node.queue.clear();
        node.server = server;
        node.feed = if setup.keeps(Rule::SubscribeFirst) { Feed::Up } else { Feed::Late };
        node.sequencer.restored();
    }

    /// A node's sequencer takes the next publication of its queue.
    pub fn hear(&mut self, node: usize, setup: &Setup) {
        let incoming = self.nodes[node].queue.remove(0);
        let mut steps = Vec::new();
        self.nodes[node].sequencer.live(incoming, size, &mut steps);
        self.pass_on(node, steps, None, setup);
    }

    /// A node's read for its sequencer reaches the server, which creates the log if there is none.
    pub fn ask(&mut self, node: usize, setup: &Setup) {
        let log = self.servers[self.nodes[node].server].create(&mut self.fresh, setup).clone();
        let after = self.lost_after(self.nodes[node].head_id, &log);
        let lost = self.lost(&log);
        let node = &mut self.nodes[node];
        let mut view = log.view(node.sequencer.since(), setup.read_limit, setup);
        if !setup.keeps(Rule::EndOfEpoch) {
            node.sequencer.head().inspect(|head| forget_end(&mut view, *head));
        }
        node.sequencer.asked();
        let can_continue = log.can_continue(node.head_id, setup) && after.is_empty();
        node.answer = Some(Answer { view, top_id: log.top_id(), can_continue, lost });
    }

    /// ... and is answered.
    pub fn answered(&mut self, node: usize, setup: &Setup) {
        let Some(answer) = self.nodes[node].answer.take() else { return };
        let mut steps = Vec::new();
        let first = self.nodes[node].sequencer.head().is_none();
        if let Answered::CutFirst(timelines) = self.nodes[node].sequencer.read(&answer.view, &mut steps) {
            self.nodes[node].cuts = Some((timelines, answer.view.top.offset));
        }
        if first && self.nodes[node].sequencer.head().is_some() {
            // The steps that may follow in the same turn continue at the top.
            self.nodes[node].head_id = answer.top_id;
        }
        self.pass_on(node, steps, Some(&answer), setup);
    }

    pub fn repair(&mut self, node: usize, setup: &Setup) {
        self.ask(node, setup);
        self.answered(node, setup);
    }

    /// The periodic comparison. Returns whether it found a difference.
    pub fn check(&mut self, node: usize, setup: &Setup) -> bool {
        let node = &mut self.nodes[node];
        let mut top = self.servers[node.server].log.as_ref().map(|log| log.log_top(setup));
        if let (Some(top), Some(head), false) = (&mut top, node.sequencer.head(), setup.keeps(Rule::PeriodicEpoch)) {
            top.position.epoch = head.epoch;
        }
        node.sequencer.check(top.as_ref());
        !node.sequencer.is_live()
    }

    fn pass_on(&mut self, node: usize, steps: Vec<Step<Publication>>, answer: Option<&Answer>, setup: &Setup) {
        for step in steps {
            let event = match step {
                Step::Emit { position, first_of_epoch, publication } => {
                    self.nodes[node].head_id = publication.id;
                    if setup.told {
                        self.nodes[node].passed.push(publication.id);
                    }
                    Event::Emit { position, first_of_epoch, publication }
                }
                Step::Gap { position, .. } => {
                    let answer = answer.unwrap(); // Only a read finds a gap.
                    assert_eq!(position, answer.view.top);
                    self.nodes[node].head_id = answer.top_id;
                    let lost = answer.lost.clone();
                    Event::Gap { position, id: answer.top_id, honest: !answer.can_continue, lost }
                }
                Step::Loss { before, .. } if setup.keeps(Rule::Notice) => {
                    let log = self.servers[self.nodes[node].server].log.as_ref();
                    let lost = log.map_or_else(Vec::new, |log| self.lost(log));
                    let honest = log.is_some_and(|log| !self.lost_after(self.client.came, log).is_empty());
                    Event::Loss { before, honest, lost }
                }
                Step::Loss { .. } => continue,
            };
            self.fault = self.fault.or(self.client.hear(node, event, setup));
        }
    }
}

/// Makes a view look as if the epoch of a position had no end but the top.
pub fn forget_end(view: &mut LogView<Publication>, position: Position) {
    let entries = view.ledger.entries();
    let Some(at) = entries.iter().rposition(|entry| entry.0 == position.epoch) else { return };
    let after = (position.offset + 1).min(view.top.offset + 1);
    let entries = entries.iter().enumerate().map(|(i, e)| (e.0, if i > at { e.1.max(after) } else { e.1 })).collect();
    view.ledger = Ledger::from_entries(entries).unwrap();
}
