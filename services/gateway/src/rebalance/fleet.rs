//! What a node knows of the others, from their heartbeats. No I/O and no clock of its own.
//!
//! Whether the picture can be trusted is part of it: [`Fleet::look`] gives nothing to act on while anything is in doubt.
//! Times are those at which this node heard something; no clocks of two machines are compared.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use fanway_protocol::{Heartbeat, envelope};

/// A node that was silent for so many intervals is forgotten. For so many a node must also be above the others before it
/// sheds.
pub(super) const FORGOTTEN_AFTER: u32 = 3;
/// A node that was silent for so many intervals is in doubt: it may be gone, with its clients on their way here.
const DOUBTED_AFTER: u32 = 2;
/// How long clients that were closed are on their way at most: afterwards they are taken for gone.
const ON_THEIR_WAY: Duration = Duration::from_secs(60);
/// More nodes than any fleet has: what says more is nonsense.
const MOST_NODES: usize = 1000;
/// One place in so many of a node is left free: what is known of it is some seconds old.
const KEPT_FREE: u32 = 20;

/// For so long the largest number of connections in the fleet is remembered. Clients that any node has closed need some
/// time to come back, and must not be taken for gone meanwhile: the average would seem lower than it is, and nodes would
/// shed too much, or begin to. Then the node that they came to has to tell of them, for which a heartbeat may be lost.
pub(super) fn remembered_for(interval: Duration) -> Duration {
    ON_THEIR_WAY.max(interval * FORGOTTEN_AFTER)
}

/// The nodes of the fleet, as heard.
#[derive(Debug)]
pub(super) struct Fleet {
    /// This node's name in heartbeats.
    me: String,
    /// How often nodes tell of themselves.
    interval: Duration,
    /// For how long a node counts as new.
    settle_time: Duration,
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
    /// The broker is not well, or this node leaves.
    Unwell,
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
    /// No other node takes connections, of those without more than the average.
    Full,
}

impl Doubt {
    /// Every doubt there is.
    pub(super) const ALL: [Self; 8] = [
        Self::Unwell,
        Self::Alone,
        Self::Unheard,
        Self::Silent,
        Self::New,
        Self::Draining,
        Self::Unreadable,
        Self::Full,
    ];

    /// In metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unwell => "unwell",
            Self::Alone => "alone",
            Self::Unheard => "unheard",
            Self::Silent => "silent",
            Self::New => "new",
            Self::Draining => "draining",
            Self::Unreadable => "unreadable",
            Self::Full => "full",
        }
    }
}

/// The fleet as this node sees it, beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Picture {
    /// Nodes, this one included.
    pub(super) nodes: u32,
    /// Connections of a node on average.
    pub(super) average: f64,
    /// Connections that this node told the others last.
    pub(super) told: u32,
    /// Other nodes with more than the average.
    pub(super) others_above: u32,
    /// How many more, all of them together.
    pub(super) others_excess: f64,
    /// Connections that the nodes without more than the average still take, at least one.
    pub(super) room: u64,
    /// Differs from that of an earlier picture if nodes came or went since.
    pub(super) generation: u64,
}

impl Fleet {
    pub(super) fn new(me: String, interval: Duration, settle_time: Duration) -> Self {
        let (nodes, totals) = (HashMap::new(), VecDeque::new());
        Self { me, interval, settle_time, nodes, unreadable: None, totals, generation: 0 }
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

    /// Newest envelope that every node of the fleet reads ([`fanway_protocol::envelope`]).
    ///
    /// The oldest as long as a node may not have been heard: until this node has received its own heartbeats for
    /// [`DOUBTED_AFTER`] intervals, in which every other node has sent some, and after a message of an unknown version.
    pub(super) fn envelope(&self, now: Instant) -> u32 {
        let (ago, doubted) = (|at: Instant| now.saturating_duration_since(at), self.interval * DOUBTED_AFTER);
        let listening = self.nodes.get(&self.me).is_some_and(|me| ago(me.at) <= doubted && ago(me.since) >= doubted);
        let unreadable = self.unreadable.is_some_and(|at| ago(at) <= self.interval * FORGOTTEN_AFTER);
        let announced = self.nodes.values().map(|known| known.heartbeat.envelope).min();
        announced.filter(|_| listening && !unreadable).unwrap_or(envelope::OLDEST.into())
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
    ///
    /// `well`: the broker is healthy and this node is not leaving.
    pub(super) fn look(&mut self, mine: u32, well: bool, now: Instant) -> Result<Picture, Doubt> {
        self.forget(now);
        let total = u64::from(mine) + self.others().map(|known| u64::from(known.heartbeat.connections)).sum::<u64>();
        let total = self.largest(total, now);
        let told = self.check(well, now)?;
        let nodes = u32::try_from(self.nodes()).unwrap_or(u32::MAX);
        let average = total as f64 / f64::from(nodes);
        let (mut others_above, mut others_excess, mut room) = (0, 0.0, 0);
        for Known { heartbeat, .. } in self.others() {
            let excess = f64::from(heartbeat.connections) - average;
            if excess > 0.0 {
                others_above += 1;
                others_excess += excess;
            } else {
                room += u64::from(heartbeat.free.saturating_sub(heartbeat.limit / KEPT_FREE));
            }
        }
        if room == 0 {
            return Err(Doubt::Full);
        }
        Ok(Picture { nodes, average, told, others_above, others_excess, room, generation: self.generation })
    }

    /// The largest total of late, with this one.
    fn largest(&mut self, total: u64, now: Instant) -> u64 {
        let memory = remembered_for(self.interval);
        while self.totals.back().is_some_and(|(_, earlier)| *earlier <= total) {
            self.totals.pop_back();
        }
        self.totals.push_back((now, total));
        while self.totals.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > memory) {
            self.totals.pop_front();
        }
        self.totals.front().map_or(total, |(_, largest)| *largest)
    }

    /// The connections that this node told of last, if nothing is in doubt.
    fn check(&self, well: bool, now: Instant) -> Result<u32, Doubt> {
        let ago = |at: Instant| now.saturating_duration_since(at);
        let doubted = self.interval * DOUBTED_AFTER;
        if !well {
            return Err(Doubt::Unwell);
        }
        if self.nodes() == 1 {
            return Err(Doubt::Alone);
        }
        let me = self.nodes.get(&self.me).filter(|known| ago(known.at) <= doubted).ok_or(Doubt::Unheard)?;
        if self.unreadable.is_some_and(|at| ago(at) <= self.interval * FORGOTTEN_AFTER) {
            return Err(Doubt::Unreadable);
        }
        for known in self.nodes.values() {
            if known.heartbeat.draining {
                return Err(Doubt::Draining);
            }
            if ago(known.at) > doubted {
                return Err(Doubt::Silent);
            }
            if ago(known.since) < self.settle_time {
                return Err(Doubt::New);
            }
        }
        Ok(me.heartbeat.connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);
    const SETTLE: Duration = Duration::from_secs(6);

    fn beat(node: &str, connections: u32) -> Heartbeat {
        Heartbeat {
            node: node.to_owned(),
            connections,
            limit: 1000,
            free: 1000_u32.saturating_sub(connections),
            draining: false,
            envelope: 2,
        }
    }

    /// Everybody tells of himself for some intervals, the last time just now.
    fn settled(nodes: &[(&str, u32)], begun: Instant) -> (Fleet, Instant) {
        let mut fleet = Fleet::new("me".to_owned(), INTERVAL, SETTLE);
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
        let picture = fleet.look(300, true, now).unwrap();
        assert_eq!((picture.nodes, picture.average, picture.others_above), (3, 200.0, 0));
        assert_eq!(picture.told, 90, "which the others compare with theirs");
        assert_eq!(picture.room, 850 + 750);
        assert_eq!(fleet.look(30, true, now + INTERVAL * 6), Err(Doubt::Alone), "all are forgotten");
    }

    #[test]
    fn each_doubt_is_one() {
        let begun = Instant::now();
        let (mut fleet, now) = settled(&[("me", 1), ("a", 1)], begun);
        assert!(fleet.look(1, true, now + INTERVAL * 2).is_ok());
        let late = now + INTERVAL * 5 / 2;
        assert_eq!(fleet.look(1, true, late), Err(Doubt::Unheard));
        fleet.hear(beat("me", 1), late);
        assert_eq!(fleet.look(1, true, late), Err(Doubt::Silent));
        fleet.hear(beat("a", 1), late);
        assert!(fleet.look(1, true, late).is_ok());
        fleet.hear(beat("b", 0), late);
        assert_eq!(fleet.look(1, true, late), Err(Doubt::New));

        let (mut fleet, now) = settled(&[("me", 1), ("a", 1)], begun);
        fleet.hear(Heartbeat { draining: true, ..beat("a", 1) }, now);
        assert_eq!(fleet.look(1, true, now), Err(Doubt::Draining));

        let (mut fleet, now) = settled(&[("me", 1), ("a", 1)], begun);
        fleet.hear_unreadable(now);
        assert_eq!(fleet.look(1, true, now), Err(Doubt::Unreadable));
        assert_eq!(fleet.look(1, false, now), Err(Doubt::Unwell));
    }

    #[test]
    fn the_lowest_envelope_is_written_once_everybody_was_heard() {
        let begun = Instant::now();
        let old = |node| Heartbeat { envelope: 1, ..beat(node, 1) };
        let mut fleet = Fleet::new("me".to_owned(), INTERVAL, SETTLE);
        assert_eq!(fleet.envelope(begun), 1, "nobody was heard");
        fleet.hear(beat("me", 1), begun);
        fleet.hear(beat("a", 1), begun);
        assert_eq!(fleet.envelope(begun + INTERVAL), 1, "others may not have been heard yet");
        fleet.hear(beat("me", 1), begun + INTERVAL);
        assert_eq!(fleet.envelope(begun + INTERVAL * 2), 2);
        assert_eq!(fleet.envelope(begun + INTERVAL * 4), 1, "this node does not hear itself");

        let (mut fleet, now) = settled(&[("me", 1), ("a", 1)], begun);
        assert_eq!(fleet.envelope(now), 2);
        fleet.hear(old("b"), now);
        assert_eq!(fleet.envelope(now), 1, "an old node joins, and counts at once");
        for round in 1..=FORGOTTEN_AFTER + 1 {
            assert_eq!(fleet.envelope(now + INTERVAL * (round - 1)), 1, "{round}");
            ["me", "a"].iter().for_each(|node| fleet.hear(beat(node, 1), now + INTERVAL * round));
        }
        assert_eq!(fleet.envelope(now + INTERVAL * (FORGOTTEN_AFTER + 1)), 2, "it has left");
        fleet.hear_unreadable(now + INTERVAL * 4);
        assert_eq!(fleet.envelope(now + INTERVAL * 4), 1, "a newer build may announce less than it seems");
    }

    #[test]
    fn a_node_is_new_for_the_time_that_it_needs_to_settle() {
        let begun = Instant::now();
        let (mut fleet, now) = settled(&[("me", 1), ("a", 1)], begun);
        fleet.hear(beat("b", 1), now);
        for round in 1..=3 {
            let later = now + INTERVAL * round;
            ["me", "a", "b"].iter().for_each(|node| fleet.hear(beat(node, 1), later));
            let expected = if later < now + SETTLE { Some(Doubt::New) } else { None };
            assert_eq!(fleet.look(1, true, later).err(), expected, "{round}");
        }
    }

    /// Polls, streams over HTTP/2 and idle connections of clients take places too.
    #[test]
    fn a_node_full_of_what_cannot_be_moved_has_no_room() {
        let (mut fleet, now) = settled(&[("me", 900), ("a", 0)], Instant::now());
        assert_eq!(fleet.look(900, true, now).unwrap().room, 950);
        fleet.hear(Heartbeat { free: 60, ..beat("a", 0) }, now);
        assert_eq!(fleet.look(900, true, now).unwrap().room, 10, "a twentieth is kept free");
        fleet.hear(Heartbeat { free: 50, ..beat("a", 0) }, now);
        assert_eq!(fleet.look(900, true, now), Err(Doubt::Full));
    }

    #[test]
    fn what_is_remembered_covers_heartbeats_however_rare() {
        assert_eq!(remembered_for(INTERVAL), Duration::from_secs(60));
        assert_eq!(remembered_for(Duration::from_secs(60)), Duration::from_secs(180));
    }

    #[test]
    fn clients_on_their_way_are_not_taken_for_gone() {
        let (mut fleet, now) = settled(&[("me", 400), ("a", 0)], Instant::now());
        assert_eq!(fleet.look(400, true, now).unwrap().average, 200.0);
        assert_eq!(fleet.look(300, true, now + INTERVAL).unwrap().average, 200.0);
        let (rounds, mut later) = (ON_THEIR_WAY.as_secs() / INTERVAL.as_secs() + 1, now);
        for _ in 0..rounds {
            later += INTERVAL;
            fleet.hear(beat("me", 300), later);
            fleet.hear(beat("a", 0), later);
        }
        assert_eq!(fleet.look(300, true, later).unwrap().average, 150.0, "but not for ever");
    }

    #[test]
    fn nonsense_has_a_bound_and_leavers_do_not_count() {
        let mut fleet = Fleet::new("me".to_owned(), INTERVAL, SETTLE);
        let now = Instant::now();
        (0..5000).for_each(|number| fleet.hear(beat(&format!("n{number}"), 1), now));
        assert_eq!(fleet.nodes(), MOST_NODES + 1);
        let (mut fleet, now) = settled(&[("me", 10), ("a", 30), ("b", 50)], now);
        fleet.hear(Heartbeat { draining: true, ..beat("b", 50) }, now);
        assert_eq!(fleet.shown_average(10), 20.0);
    }
}
