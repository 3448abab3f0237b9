//! What a node knows of the others, from their heartbeats. No I/O and no clock of its own.
//!
//! Whether the picture can be trusted is part of it: [`Fleet::look`] gives nothing to act on while anything is in doubt.
//! Times are those at which this node heard something; no clocks of two machines are compared.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use fanway_protocol::Heartbeat;

/// A node that was silent for so many intervals is forgotten. A node is also known for so long before it counts.
pub(super) const FORGOTTEN_AFTER: u32 = 3;
/// A node that was silent for so many intervals is in doubt: it may be gone, with its clients on their way here.
const DOUBTED_AFTER: u32 = 2;
/// For so long the largest number of connections in the fleet is remembered. Clients that any node has closed need some
/// time to come back, and must not be taken for gone meanwhile: the average would seem lower than it is, and nodes would
/// shed too much, or begin to.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// More nodes than any fleet has: what says more is nonsense.
const MOST_NODES: usize = 1000;
/// Part of a node's limit up to which it is asked to take connections.
const FULL_AT: f64 = 0.95;

/// The nodes of the fleet, as heard.
#[derive(Debug)]
pub(super) struct Fleet {
    /// This node's name in heartbeats.
    me: String,
    /// How often nodes tell of themselves.
    interval: Duration,
    nodes: HashMap<String, Known>,
    /// When something was heard last that could not be understood.
    unreadable: Option<Instant>,
    /// Numbers of connections in the whole fleet and when they were seen; only those that no later one exceeds.
    totals: VecDeque<(Instant, u64)>,
    /// Changes whenever a node comes or goes.
    generation: u64,
}

#[derive(Debug)]
struct Known {
    heartbeat: Heartbeat,
    /// When it was heard first.
    since: Instant,
    /// When it was heard last.
    at: Instant,
}

/// Why the picture must not be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// There is nobody else.
    Alone,
    /// This node does not hear itself, so it may miss others.
    Unheard,
    /// A node is silent.
    Silent,
    /// A node has not been there for long.
    New,
    /// A node gives its connections away.
    Draining,
    /// A node cannot be understood.
    Unreadable,
}

/// The fleet as this node sees it, beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Picture {
    /// Nodes, this one included.
    pub(super) nodes: u32,
    /// Connections of a node on average.
    pub(super) average: f64,
    /// Other nodes with more than the average.
    pub(super) others_above: u32,
    /// Connections that the other nodes still take.
    pub(super) room: u64,
    /// Differs from that of an earlier picture if nodes came or went since.
    pub(super) generation: u64,
}

impl Fleet {
    pub(super) fn new(me: String, interval: Duration) -> Self {
        Self { me, interval, nodes: HashMap::new(), unreadable: None, totals: VecDeque::new(), generation: 0 }
    }

    /// A node told of itself.
    pub(super) fn hear(&mut self, heartbeat: Heartbeat, now: Instant) {
        self.forget(now);
        if let Some(known) = self.nodes.get_mut(&heartbeat.node) {
            (known.heartbeat, known.at) = (heartbeat, now);
        } else if self.nodes.len() < MOST_NODES {
            self.generation += 1;
            self.nodes.insert(heartbeat.node.clone(), Known { heartbeat, since: now, at: now });
        }
    }

    /// A node told something that this build does not understand.
    pub(super) fn hear_unreadable(&mut self, now: Instant) {
        self.unreadable = Some(now);
    }

    /// Forgets who has been silent for long.
    pub(super) fn forget(&mut self, now: Instant) {
        let (before, silence) = (self.nodes.len(), self.interval * FORGOTTEN_AFTER);
        self.nodes.retain(|_, known| now.saturating_duration_since(known.at) <= silence);
        if self.nodes.len() != before {
            self.generation += 1;
        }
    }

    /// Nodes that were heard of lately, with this one.
    pub(super) fn nodes(&self) -> usize {
        self.others().count() + 1
    }

    /// Connections of a node on average, for people: of nodes that are not leaving.
    pub(super) fn shown_average(&self, mine: u32) -> f64 {
        let staying = self.others().filter(|known| !known.heartbeat.draining);
        let (total, nodes) = staying.fold((u64::from(mine), 1_u32), |(total, nodes), known| {
            (total + u64::from(known.heartbeat.connections), nodes + 1)
        });
        total as f64 / f64::from(nodes)
    }

    fn others(&self) -> impl Iterator<Item = &Known> {
        self.nodes.iter().filter(|(node, _)| **node != self.me).map(|(_, known)| known)
    }

    /// The fleet, if there is no doubt about it, with this node's own number of connections as it is now.
    pub(super) fn look(&mut self, mine: u32, now: Instant) -> Result<Picture, Doubt> {
        self.forget(now);
        let total = u64::from(mine) + self.others().map(|known| u64::from(known.heartbeat.connections)).sum::<u64>();
        let total = self.largest(total, now);
        self.check(now)?;
        let nodes = u32::try_from(self.nodes()).unwrap_or(u32::MAX);
        let average = total as f64 / f64::from(nodes);
        let (mut others_above, mut room) = (0, 0);
        for known in self.others() {
            others_above += u32::from(f64::from(known.heartbeat.connections) > average);
            let takes = f64::from(known.heartbeat.limit) * FULL_AT - f64::from(known.heartbeat.connections);
            room += takes.max(0.0) as u64;
        }
        Ok(Picture { nodes, average, others_above, room, generation: self.generation })
    }

    /// The largest total of late, with this one.
    fn largest(&mut self, total: u64, now: Instant) -> u64 {
        while self.totals.back().is_some_and(|(_, earlier)| *earlier <= total) {
            self.totals.pop_back();
        }
        self.totals.push_back((now, total));
        while self.totals.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > REMEMBERED_FOR) {
            self.totals.pop_front();
        }
        self.totals.front().map_or(total, |(_, largest)| *largest)
    }

    fn check(&self, now: Instant) -> Result<(), Doubt> {
        let ago = |at: Instant| now.saturating_duration_since(at);
        let (doubted, proven) = (self.interval * DOUBTED_AFTER, self.interval * FORGOTTEN_AFTER);
        if self.nodes() == 1 {
            return Err(Doubt::Alone);
        }
        if self.nodes.get(&self.me).is_none_or(|known| ago(known.at) > doubted) {
            return Err(Doubt::Unheard);
        }
        if self.unreadable.is_some_and(|at| ago(at) <= proven) {
            return Err(Doubt::Unreadable);
        }
        for known in self.nodes.values() {
            if known.heartbeat.draining {
                return Err(Doubt::Draining);
            }
            if ago(known.at) > doubted {
                return Err(Doubt::Silent);
            }
            if ago(known.since) < proven {
                return Err(Doubt::New);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn beat(node: &str, connections: u32) -> Heartbeat {
        Heartbeat { node: node.to_owned(), connections, limit: 1000, draining: false }
    }

    /// Everybody tells of himself for some intervals, the last time just now.
    fn settled(nodes: &[(&str, u32)], begun: Instant) -> (Fleet, Instant) {
        let mut fleet = Fleet::new("me".to_owned(), INTERVAL);
        let mut now = begun;
        for round in 0..=FORGOTTEN_AFTER {
            now = begun + INTERVAL * round;
            nodes.iter().for_each(|(node, connections)| fleet.hear(beat(node, *connections), now));
        }
        (fleet, now)
    }

    #[test]
    fn a_settled_fleet_is_beyond_doubt() {
        let (mut fleet, now) = settled(&[("me", 90), ("a", 100), ("b", 200)], Instant::now());
        let picture = fleet.look(300, now).unwrap();
        assert_eq!(
            (picture.nodes, picture.average, picture.others_above),
            (3, 200.0, 0),
            "its own number is the present"
        );
        assert_eq!(picture.room, 850 + 750);
        assert_eq!(fleet.look(30, now + INTERVAL * 6), Err(Doubt::Alone), "all are forgotten");
    }

    #[test]
    fn each_doubt_is_one() {
        let begun = Instant::now();
        let (mut fleet, now) = settled(&[("me", 1), ("a", 1)], begun);
        assert!(fleet.look(1, now + INTERVAL * 2).is_ok());
        let late = now + INTERVAL * 5 / 2;
        assert_eq!(fleet.look(1, late), Err(Doubt::Unheard));
        fleet.hear(beat("me", 1), late);
        assert_eq!(fleet.look(1, late), Err(Doubt::Silent));
        fleet.hear(beat("a", 1), late);
        assert!(fleet.look(1, late).is_ok());
        fleet.hear(beat("b", 0), late);
        assert_eq!(fleet.look(1, late), Err(Doubt::New));

        let (mut fleet, now) = settled(&[("me", 1), ("a", 1)], begun);
        fleet.hear(Heartbeat { draining: true, ..beat("a", 1) }, now);
        assert_eq!(fleet.look(1, now), Err(Doubt::Draining));

        let (mut fleet, now) = settled(&[("me", 1), ("a", 1)], begun);
        fleet.hear_unreadable(now);
        assert_eq!(fleet.look(1, now), Err(Doubt::Unreadable));
    }

    #[test]
    fn clients_on_their_way_are_not_taken_for_gone() {
        let (mut fleet, now) = settled(&[("me", 400), ("a", 0)], Instant::now());
        assert_eq!(fleet.look(400, now).unwrap().average, 200.0);
        assert_eq!(fleet.look(300, now + INTERVAL).unwrap().average, 200.0);
        let (rounds, mut later) = (REMEMBERED_FOR.as_secs() / INTERVAL.as_secs() + 1, now);
        for _ in 0..rounds {
            later += INTERVAL;
            fleet.hear(beat("me", 300), later);
            fleet.hear(beat("a", 0), later);
        }
        assert_eq!(fleet.look(300, later).unwrap().average, 150.0, "but not for ever");
    }

    #[test]
    fn nonsense_has_a_bound_and_leavers_do_not_count() {
        let mut fleet = Fleet::new("me".to_owned(), INTERVAL);
        let now = Instant::now();
        (0..5000).for_each(|number| fleet.hear(beat(&format!("n{number}"), 1), now));
        assert_eq!(fleet.nodes(), MOST_NODES + 1);
        let (mut fleet, now) = settled(&[("me", 10), ("a", 30), ("b", 50)], now);
        fleet.hear(Heartbeat { draining: true, ..beat("b", 50) }, now);
        assert_eq!(fleet.shown_average(10), 20.0);
    }
}
