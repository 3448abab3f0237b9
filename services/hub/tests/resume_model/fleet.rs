//! The world as a stateright model: its actions, and the properties that must hold in every state.

use std::sync::Mutex;

use fanway_hub::resume::Decision;
use stateright::{Model, Property};

use crate::client::{At, Fault};
use crate::redis::{Log, take};
use crate::setup::{Rule, Setup};
use crate::world::{Budget, Feed, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Publish { server: usize },
    Replicate,
    FailOver(FailOver),
    Heal,
    Switchback,
    Flush,
    Snapshot,
    Restart,
    Kill(usize),
    Drop(usize),
    Reconnect { node: usize, server: usize },
    Subscribe(usize),
    Ask(usize),
    Answer(usize),
    Repair(usize),
    Hear(usize),
    Check(usize),
    Record(usize),
    Join(usize),
    Resume,
    PartialResume,
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOver {
    Lossy,
    Planned,
    Stale,
}

/// The model of one setup.
pub struct Fleet {
    pub setup: Setup,
    met: Mutex<Met>,
}

/// Which decisions were met: a search that never met one says nothing about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    pub served: bool,
    /// A page that more followed.
    pub paged: bool,
    /// Served, to a client that came with another epoch.
    pub over_epochs: bool,
    pub retry: bool,
    pub gap: bool,
}

pub const NO_SILENT_GAP: &str = "no silent gap, no duplicate";
pub const NO_FALSE_GAP: &str = "no false gap";
pub const CONVERGES: &str = "converges when the faults end";
pub const TOLD: &str = "everything that was passed on and lost was told";

impl Fleet {
    pub fn new(setup: Setup) -> Self {
        Self { setup, met: Mutex::default() }
    }

    pub fn met(&self) -> Met {
        *self.met.lock().unwrap()
    }

    fn resume(&self, world: &mut World, partial: bool) -> Option<()> {
        let before = world.client.cursor;
        let decision = world.resume(partial, &self.setup)?;
        let mut met = self.met.lock().unwrap();
        match decision {
            Decision::CaughtUp => {}
            Decision::Serve { whole: false, .. } => met.paged = true,
            Decision::Serve { .. } if before.epoch == world.client.cursor.epoch => met.served = true,
            Decision::Serve { .. } => met.over_epochs = true,
            Decision::Retry => met.retry = true,
            Decision::Gap(_) => met.gap = true,
        }
        Some(())
    }

    /// The world after nothing has gone wrong any more; none if the client does not reach the primary's top.
    fn end(&self, world: &World) -> Option<World> {
        let setup = &self.setup;
        let mut world = world.clone();
        world.left = Budget::default();
        if world.servers[1 - world.primary].master {
            world.demote(1 - world.primary, setup);
        }
        for _ in 0..20 {
            if world.fault.is_some() || world.has_converged() && world.is_settled(setup) {
                return Some(world); // A fault is another property's matter.
            }
            for node in 0..2 {
                world.answered(node, setup);
                if world.nodes[node].feed == Feed::Broken || world.nodes[node].server != world.primary {
                    world.reconnect(node, world.primary, setup);
                }
                world.nodes[node].feed = Feed::Up;
                world.repair_fully(node, setup);
                while !world.nodes[node].queue.is_empty() {
                    world.hear(node, setup);
                }
                if setup.keeps(Rule::PeriodicCheck) {
                    world.check(node, setup);
                }
                world.repair_fully(node, setup);
            }
            match world.client.at {
                At::Joining { .. } => drop(world.resume(false, setup)),
                At::Away if world.nodes[0].sequencer.is_live() => drop(world.join(0, setup)),
                _ => {}
            }
        }
        None
    }

    fn converges(&self, world: &World) -> bool {
        self.end(world).is_some()
    }

    /// Whether the client has everything that a node passed on after the position with which it came to its node, or was
    /// told that it is lost.
    fn is_told(&self, world: &World) -> bool {
        let Some(world) = self.end(world) else { return false };
        if world.fault.is_some() || world.diverged {
            return true;
        }
        let client = &world.client;
        let known = |id: u8| world.follows(client.id, id) || client.known.contains(&id);
        let passed = world.nodes.iter().flat_map(|node| &node.passed);
        passed.filter(|id| world.follows(**id, client.came)).all(|id| known(*id))
    }
}

impl World {
    pub fn repair_fully(&mut self, node: usize, setup: &Setup) {
        self.record(node, setup);
        // Without some of the rules there is no end to it.
        for _ in 0..20 {
            if !self.nodes[node].sequencer.needs_read() || self.fault.is_some() {
                break;
            }
            self.repair(node, setup);
            self.record(node, setup);
        }
    }

    /// Whether no node finds anything new in the log.
    fn is_settled(&self, setup: &Setup) -> bool {
        let top = self.servers[self.primary].log.as_ref().map(|log| log.log_top(setup));
        let settled = |node: &crate::world::Node| {
            let top = top.as_ref().is_some_and(|top| node.sequencer.is_at(top));
            node.sequencer.is_live()
                && node.queue.is_empty()
                && (top || !setup.keeps(Rule::PeriodicCheck) || !setup.keeps(Rule::Cut) || !setup.keeps(Rule::Marker))
        };
        self.nodes.iter().all(settled)
    }

    fn has_converged(&self) -> bool {
        let at_top = |log: &Log| self.client.id == log.top_id() && self.client.cursor.offset == log.length();
        matches!(self.client.at, At::On { .. }) && self.servers[self.primary].log.as_ref().is_some_and(at_top)
    }

    /// The nodes are interchangeable: one order of them stands for both.
    fn normalise(&mut self) {
        let key = |node: usize| {
            let node = &self.nodes[node];
            let sequencer = &node.sequencer;
            (node.server, node.feed, node.queue.len(), sequencer.is_live(), sequencer.needs_read(), sequencer.head())
        };
        if key(0) > key(1) {
            self.nodes.swap(0, 1);
            if let At::On { node } | At::Joining { node, .. } = &mut self.client.at {
                *node = 1 - *node;
            }
            self.client.owed = self.client.owed.map(|node| 1 - node);
        }
    }
}

impl Model for Fleet {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.setup)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.fault.is_some() {
            return;
        }
        let (setup, left) = (&self.setup, world.left);
        let (current, other) = (world.primary, 1 - world.primary);
        let mut offer = |possible: bool, action: Action| {
            if possible {
                actions.push(action);
            }
        };
        let both_masters = world.servers[other].master;
        for server in 0..2 {
            offer(left.publishes > 0 && world.servers[server].master, Action::Publish { server });
        }
        offer(!both_masters && world.servers[other].log != world.servers[current].log, Action::Replicate);
        let may_fail = left.failovers > 0 && !both_masters;
        offer(may_fail && setup.lossy, Action::FailOver(FailOver::Lossy));
        offer(may_fail && setup.planned, Action::FailOver(FailOver::Planned));
        offer(may_fail && setup.stale, Action::FailOver(FailOver::Stale));
        offer(both_masters, Action::Heal);
        offer(both_masters && setup.switchback && left.failovers > 0, Action::Switchback);
        let filled = world.servers[current].log.as_ref().is_some_and(|log| log.length() > 0);
        offer(left.flushes > 0 && filled, Action::Flush);
        offer(left.restarts > 0 && world.snapshot.is_none(), Action::Snapshot);
        offer(left.restarts > 0 && world.snapshot.is_some(), Action::Restart);
        for (n, node) in world.nodes.iter().enumerate() {
            let (sequencer, can_read) = (&node.sequencer, world.can_read(n));
            offer(left.kills > 0 && node.feed != Feed::Broken, Action::Kill(n));
            offer(left.drops > 0 && !node.queue.is_empty(), Action::Drop(n));
            let adrift = node.feed == Feed::Broken || !can_read;
            offer(adrift, Action::Reconnect { node: n, server: current });
            offer(adrift && both_masters, Action::Reconnect { node: n, server: other });
            offer(node.feed == Feed::Late && sequencer.is_live(), Action::Subscribe(n));
            let read = if setup.slow_reads { Action::Ask(n) } else { Action::Repair(n) };
            offer(sequencer.needs_read() && can_read && node.answer.is_none() && node.cuts.is_none(), read);
            offer(node.cuts.is_some(), Action::Record(n));
            offer(node.answer.is_some(), Action::Answer(n));
            offer(!node.queue.is_empty() && (sequencer.is_live() || setup.slow_reads), Action::Hear(n));
            offer(setup.keeps(Rule::PeriodicCheck) && sequencer.is_live() && can_read, Action::Check(n));
            offer(world.client.at == At::Away && sequencer.is_live(), Action::Join(n));
        }
        match world.client.at {
            At::Away => {}
            At::On { .. } => offer(left.moves > 0, Action::Leave),
            At::Joining { node, head, .. } => {
                let can_reply = world.can_read(node) || head == world.client.cursor;
                offer(can_reply, Action::Resume);
                offer(can_reply && setup.partial && left.moves > 0, Action::PartialResume);
            }
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let setup = &self.setup;
        let mut world = before.clone();
        let (current, other) = (world.primary, 1 - world.primary);
        match action {
            Action::Publish { server } => {
                world.left.publishes -= 1;
                world.publish(server, setup);
            }
            Action::Replicate => world.replicate(),
            Action::FailOver(kind) => {
                world.left.failovers -= 1;
                if kind == FailOver::Planned {
                    world.replicate();
                }
                world.fail_over(kind == FailOver::Stale, setup);
            }
            Action::Heal => world.demote(other, setup),
            Action::Switchback => {
                world.left.failovers -= 1;
                world.primary = other;
                world.demote(current, setup);
            }
            Action::Flush => {
                world.left.flushes -= 1;
                world.copied = false;
                world.servers[current].log = None;
            }
            Action::Snapshot => {
                world.snapshot = Some(world.servers[current].log.clone());
                world.stale_snapshot = false;
            }
            Action::Restart => {
                world.left.restarts -= 1;
                world.copied = false;
                world.diverged |= world.stale_snapshot;
                world.servers[current].log = world.snapshot.clone()?;
                if setup.keeps(Rule::NoRollback) {
                    world.servers[current].reign = take(&mut world.fresh.reign);
                    world.cut(current);
                }
            }
            Action::Kill(node) => {
                world.left.kills -= 1;
                world.kill(node);
            }
            Action::Drop(node) => {
                world.left.drops -= 1;
                world.nodes[node].queue.remove(0);
            }
            Action::Reconnect { node, server } => world.reconnect(node, server, setup),
            Action::Subscribe(node) => world.nodes[node].feed = Feed::Up,
            Action::Ask(node) => world.ask(node, setup),
            Action::Answer(node) => world.answered(node, setup),
            Action::Repair(node) => world.repair(node, setup),
            Action::Hear(node) => world.hear(node, setup),
            Action::Record(node) => world.record(node, setup),
            Action::Check(node) => world.check(node, setup).then_some(())?,
            Action::Join(node) => world.join(node, setup).then_some(())?,
            Action::Resume => self.resume(&mut world, false)?,
            Action::PartialResume => {
                world.left.moves -= 1;
                self.resume(&mut world, true)?;
            }
            Action::Leave => {
                world.left.moves -= 1;
                world.client.leave();
            }
        }
        world.normalise();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_SILENT_GAP, |_: &Self, world: &World| {
                !matches!(world.fault, Some(Fault::SilentGap | Fault::Duplicate))
            }),
            Property::always(NO_FALSE_GAP, |_: &Self, world: &World| {
                world.fault != Some(Fault::FalseGap) || world.diverged
            }),
            // What was told is judged where the client has come to the top, so that this is judged as well.
            match self.setup.told {
                true => Property::always(TOLD, |fleet: &Self, world: &World| fleet.is_told(world)),
                false => Property::always(CONVERGES, |fleet: &Self, world: &World| fleet.converges(world)),
            },
        ]
    }
}
