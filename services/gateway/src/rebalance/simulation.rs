//! Whole fleets with clients that come back, in simulated time: shedding converges, stops, and closes little more than it
//! must; and it leaves alone what it must not touch.

use std::ops::Range;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::fleet::FORGOTTEN_AFTER;
use super::*;

/// Where clients that were closed go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Balancer {
    /// To any node.
    Random,
    /// To the node with the fewest connections.
    Fewest,
    /// Back to where they were, as with affinity by address.
    Sticky,
}

struct SimNode {
    name: String,
    fleet: Fleet,
    shedder: Shedder,
    connections: u32,
    /// Most connections.
    limit: u32,
    /// Connections that could not go elsewhere, as polls.
    fixed: u32,
    /// Told to others; taken out of the load balancer.
    draining: bool,
    /// Taken out of the load balancer only.
    out: bool,
    /// Crashed nodes say nothing and serve nobody.
    up: bool,
    well: bool,
    next_beat: Instant,
}

struct Sim {
    settings: RebalanceSettings,
    rng: StdRng,
    now: Instant,
    nodes: Vec<SimNode>,
    balancer: Balancer,
    /// Heartbeats that get lost, of each receiver's.
    loss: f64,
    /// How long clients that were closed are away, in milliseconds.
    away: Range<u64>,
    /// Clients on their way, and where they come from.
    waiting: Vec<(Instant, usize)>,
    closes: u64,
    last_close: Instant,
    /// The most closes of one node in one second.
    window: VecDeque<(Instant, usize, u32)>,
    fastest: u32,
}

const SECOND: Duration = Duration::from_secs(1);

impl Sim {
    fn new(seed: u64, connections: &[u32]) -> Self {
        Self::with(RebalanceSettings::default(), seed, connections)
    }

    fn with(settings: RebalanceSettings, seed: u64, connections: &[u32]) -> Self {
        let now = Instant::now();
        let mut sim = Self {
            settings,
            rng: StdRng::seed_from_u64(seed),
            now,
            nodes: Vec::new(),
            balancer: Balancer::Random,
            loss: 0.0,
            away: 500..3000,
            waiting: Vec::new(),
            closes: 0,
            last_close: now,
            window: VecDeque::new(),
            fastest: 0,
        };
        connections.iter().for_each(|connections| sim.join(*connections));
        sim
    }

    fn join(&mut self, connections: u32) {
        let name = format!("n{}", self.nodes.len());
        let interval = self.settings.heartbeat_interval;
        self.nodes.push(SimNode {
            fleet: Fleet::new(name.clone(), interval, self.settings.settle_time),
            shedder: Shedder::new(self.settings.clone()),
            name,
            connections,
            limit: 100_000,
            fixed: 0,
            draining: false,
            out: false,
            up: true,
            well: true,
            next_beat: self.now + interval.mul_f64(self.rng.random::<f64>()),
        });
    }

    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        for at in 0..self.nodes.len() {
            if self.nodes[at].up && now >= self.nodes[at].next_beat {
                self.beat(at);
            }
        }
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if !node.up {
                continue;
            }
            let picture = node.fleet.look(node.connections, node.well && !node.draining, now);
            let closes = node.shedder.step(picture, node.connections, now);
            assert!(closes <= node.connections, "no more than there are");
            node.connections -= closes;
            if closes > 0 {
                self.closes += u64::from(closes);
                self.last_close = now;
                self.window.push_back((now, at, closes));
                self.window.retain(|(then, _, _)| now - *then < SECOND);
                let of_this = self.window.iter().filter(|(_, of, _)| *of == at).map(|(_, _, closes)| closes).sum();
                self.fastest = self.fastest.max(of_this);
            }
            (0..closes).for_each(|_| self.leave(at));
        }
        let due: Vec<usize> = self.waiting.iter().filter(|(when, _)| *when <= now).map(|(_, from)| *from).collect();
        self.waiting.retain(|(when, _)| *when > now);
        due.into_iter().for_each(|from| self.come(from));
    }

    fn beat(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let heartbeat = Heartbeat {
            node: node.name.clone(),
            connections: node.connections,
            limit: node.limit,
            free: node.limit.saturating_sub(node.connections + node.fixed),
            draining: node.draining,
            envelope: 2,
        };
        node.next_beat = self.now + self.settings.heartbeat_interval.mul_f64(0.9 + 0.2 * self.rng.random::<f64>());
        for node in self.nodes.iter_mut().filter(|node| node.up) {
            if self.rng.random::<f64>() >= self.loss {
                node.fleet.hear(heartbeat.clone(), self.now);
            }
        }
    }

    fn leave(&mut self, from: usize) {
        let pause = Duration::from_millis(self.rng.random_range(self.away.clone()));
        self.waiting.push((self.now + pause, from));
    }

    fn come(&mut self, from: usize) {
        let serving = |node: &SimNode| node.up && !node.draining && !node.out;
        let open: Vec<usize> = (0..self.nodes.len()).filter(|at| serving(&self.nodes[*at])).collect();
        let to = match self.balancer {
            Balancer::Sticky if serving(&self.nodes[from]) => from,
            Balancer::Fewest => *open.iter().min_by_key(|at| self.nodes[**at].connections).unwrap(),
            _ => open[self.rng.random_range(0..open.len())],
        };
        let to = &mut self.nodes[to];
        to.connections += 1;
        assert!(to.connections + to.fixed <= to.limit, "{} is full, and a client was refused", to.name);
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.step();
        }
    }

    /// Until no node is new, and longer.
    fn settle(&mut self) {
        self.run(self.settings.settle_time.as_secs() + 30);
    }

    /// Goes on for so many seconds, in which a node gives its connections away.
    fn drain(&mut self, at: usize, seconds: u32) {
        self.nodes[at].draining = true;
        for left in (1..=seconds * 10).rev() {
            let closes = self.nodes[at].connections.div_ceil(left);
            self.nodes[at].connections -= closes;
            (0..closes).for_each(|_| self.leave(at));
            self.step();
        }
    }

    fn total(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.connections)).sum::<u64>() + self.waiting.len() as u64
    }

    fn average(&self) -> f64 {
        self.total() as f64 / self.nodes.iter().filter(|node| node.up && !node.draining).count() as f64
    }

    /// The closes that bring all nodes down to the target, if clients come back to each node alike: one from each node
    /// that is above it, until none is.
    fn necessary(&self) -> f64 {
        let target = self.average() * self.settings.shed_target + 1.0;
        let mut connections: Vec<f64> = self.nodes.iter().map(|node| f64::from(node.connections)).collect();
        let mut closes = 0.0;
        loop {
            let mut closed = 0.0;
            for mine in connections.iter_mut().filter(|mine| **mine > target) {
                *mine -= 1.0;
                closed += 1.0;
            }
            if closed == 0.0 {
                return closes;
            }
            closes += closed;
            let each = closed / connections.len() as f64;
            connections.iter_mut().for_each(|mine| *mine += each);
        }
    }

    /// Nobody is so far above the average that shedding would begin.
    fn assert_balanced(&self) {
        let average = self.average();
        for node in self.nodes.iter().filter(|node| node.up) {
            let above = f64::from(node.connections) - average;
            assert!(
                above <= f64::from(self.settings.shed_threshold)
                    || f64::from(node.connections) <= average * self.settings.shed_ratio,
                "{} has {} of {average} on average",
                node.name,
                node.connections
            );
        }
    }

    /// Runs until all is quiet, and asserts what holds for every fleet.
    fn converge(&mut self) {
        let (total, necessary, count) = (self.total(), self.necessary(), self.nodes.len() as f64);
        // Longer than one node alone would need at its rate; then there is silence.
        let shedding = (necessary * 1.5) as u64 / u64::from(self.settings.shed_rate) + 60;
        // Twice: one that was not heard for three heartbeats is new once more.
        self.settle();
        self.settle();
        self.run(shedding + 120);
        self.assert_balanced();
        assert_eq!(self.total(), total, "no client is left behind");
        let quiet = self.now.saturating_duration_since(self.last_close);
        assert!(self.closes == 0 || quiet > Duration::from_secs(100), "closes until {quiet:?} before the end");
        let most = necessary * 1.2 + 40.0 * count;
        assert!(self.closes as f64 <= most, "{} closes where {necessary:.0} were needed", self.closes);
        assert!(self.fastest <= self.settings.shed_rate * 5 / 4, "{} closes in a second", self.fastest);
    }
}

#[test]
fn a_node_that_joins_gets_its_share() {
    for nodes in 2..=4 {
        let mut sim = Sim::new(nodes, &vec![3000; nodes as usize]);
        sim.settle();
        assert_eq!(sim.closes, 0);
        sim.join(0);
        sim.run(sim.settings.settle_time.as_secs());
        assert_eq!(sim.closes, 0, "not before it has settled");
        sim.converge();
        let share = f64::from(sim.nodes.last().unwrap().connections) / sim.average();
        assert!(share > 0.65, "{share} of the average after joining {nodes} nodes");
    }
}

#[test]
fn a_balancer_that_chooses_the_emptiest_needs_fewer_closes() {
    let mut sim = Sim::new(1, &[3000, 3000, 3000]);
    sim.balancer = Balancer::Fewest;
    sim.join(0);
    sim.settle();
    sim.run(270);
    sim.assert_balanced();
    // 600 above the target on each of three.
    assert!((1800..2100).contains(&sim.closes), "{}", sim.closes);
}

/// The closes of one attempt, if the node has so many too many and is the only one of two that has.
fn attempt(connections: [u32; 2]) -> f64 {
    let average = f64::from(connections[0] + connections[1]) / 2.0;
    (f64::from(connections[0]) - average * 1.05) * 2.0 * 1.5 + 20.0
}

/// Rests of 5, 10 and 20 minutes, and more, lie between the attempts of an hour.
const ATTEMPTS: f64 = 4.5;

#[test]
fn a_balancer_that_sends_everybody_back_is_noticed() {
    // Much too many and few; as fast as by default, and so fast that all are closed before one of them is back; from
    // where they are back soon, and after long.
    for connections in [[4000, 1000], [610, 390], [1600, 400]] {
        for shed_rate in [50, 500] {
            for away in [500..3000, 1000..3000, 20_000..50_000] {
                let settings = RebalanceSettings { shed_rate, ..RebalanceSettings::default() };
                let mut sim = Sim::with(settings, 1, &connections);
                (sim.balancer, sim.away) = (Balancer::Sticky, away.clone());
                sim.run(3600);
                let most = attempt(connections) * ATTEMPTS;
                let closes = sim.closes as f64;
                assert!(closes > 0.0 && closes < most, "{closes} of {connections:?}, {shed_rate}/s, {away:?}: {most}");
            }
        }
    }
}

#[test]
fn a_broker_that_fails_now_and_then_renews_nothing() {
    for (well, unwell) in [(19, 1), (58, 2), (140, 1)] {
        let mut sim = Sim::new(1, &[4000, 1000]);
        sim.balancer = Balancer::Sticky;
        for _ in 0..3600 / (well + unwell) {
            sim.nodes[0].well = true;
            sim.run(well);
            sim.nodes[0].well = false;
            sim.run(unwell);
        }
        let most = attempt([4000, 1000]) * ATTEMPTS;
        assert!(sim.closes > 0 && (sim.closes as f64) < most, "{} closes of {most}, well {well} s", sim.closes);
    }
}

#[test]
fn a_node_that_crashes_over_and_over_renews_little() {
    let connections = [610, 390];
    let mut sim = Sim::new(1, &connections);
    sim.balancer = Balancer::Sticky;
    let rounds = 40;
    for _ in 0..rounds {
        sim.run(70);
        sim.join(0);
        sim.run(20);
        sim.nodes.last_mut().unwrap().up = false;
    }
    // One early attempt in five minutes, beside those of every hour.
    let most = attempt(connections) * (f64::from(rounds) * 90.0 / 300.0 + ATTEMPTS);
    assert!(sim.closes > 0 && (sim.closes as f64) < most, "{} closes of {most}", sim.closes);
}

#[test]
fn nodes_that_join_in_turn_all_get_their_share() {
    let mut sim = Sim::new(1, &[6000, 6000]);
    sim.settle();
    for _ in 0..4 {
        sim.join(0);
        sim.run(150);
    }
    // The third waits for five minutes at most, since the second has used what nodes that come may renew.
    sim.run(600);
    sim.assert_balanced();
    let least = sim.nodes.iter().map(|node| node.connections).min().unwrap();
    assert!(f64::from(least) > 0.55 * sim.average(), "{least} of {}", sim.average());
}

/// As Kubernetes does it, with one node more than there shall be: the next one begins once the last has been ready for
/// long enough, while its predecessor still serves, out of the load balancer, and then drains.
#[test]
fn nobody_sheds_in_the_middle_of_a_rollout() {
    const READY: u64 = 15;
    const PRE_STOP: u64 = 10;
    for starts in [5, 20, 35] {
        let mut sim = Sim::new(1, &[3000, 3000, 3000]);
        sim.settle();
        for old in 0..3 {
            sim.join(0);
            sim.run(READY);
            sim.nodes[old].out = true;
            sim.run(PRE_STOP);
            if old < 2 {
                sim.drain(old, u32::try_from(starts).unwrap());
            } else {
                sim.drain(old, 60);
            }
            sim.nodes[old].up = false;
        }
        assert_eq!(sim.closes, 0, "nodes start in {starts} s");
        assert_eq!(sim.total(), 9000);
        sim.converge();
    }
}

#[test]
fn nobody_is_sent_where_they_are_refused() {
    for shed_rate in [50, 5000] {
        let settings = RebalanceSettings { shed_rate, ..RebalanceSettings::default() };
        let mut sim = Sim::with(settings, 1, &[3000, 3000, 1000]);
        sim.balancer = Balancer::Fewest;
        // Full, but for a few.
        (sim.nodes[2].limit, sim.nodes[2].fixed) = (2000, 700);
        sim.run(600);
        let came = sim.nodes[2].connections - 1000;
        assert!((150..=250).contains(&came), "{came} came; of the twentieth that is kept free, half is left");
    }
}

#[test]
fn nobody_sheds_while_a_node_drains() {
    let mut sim = Sim::new(1, &[3000, 3000, 3000]);
    sim.settle();
    sim.join(0);
    // Longer than until it has settled.
    sim.drain(0, 120);
    assert_eq!(sim.closes, 0);
    // Then it is gone, and what is left is balanced once nobody is in doubt about it.
    sim.nodes[0].up = false;
    sim.run(u64::from(FORGOTTEN_AFTER) * 2);
    assert_eq!(sim.closes, 0);
    sim.run(600);
    sim.assert_balanced();
}

#[test]
fn a_crash_is_no_reason_to_shed() {
    for seed in 0..10 {
        let mut sim = Sim::new(seed, &[2000, 2000, 2000]);
        sim.settle();
        sim.nodes[0].up = false;
        (0..2000).for_each(|_| sim.leave(0));
        sim.nodes[0].connections = 0;
        sim.run(300);
        assert_eq!(sim.closes, 0, "the two others are alike");
    }
}

#[test]
fn a_node_that_is_not_well_sheds_nothing() {
    let mut sim = Sim::new(1, &[4000, 1000]);
    sim.nodes[0].well = false;
    sim.settle();
    assert_eq!(sim.closes, 0);
    sim.nodes[0].well = true;
    sim.run(5);
    assert_eq!(sim.closes, 0, "nor at once when it is well again");
    sim.converge();
    assert!(sim.closes > 0);
}

#[test]
fn a_small_imbalance_is_left_alone() {
    let mut sim = Sim::new(1, &[60, 20, 20]);
    sim.settle();
    sim.run(90);
    assert_eq!(sim.closes, 0);
    let mut sim = Sim::new(1, &[11_500, 10_000, 9_500]);
    sim.settle();
    sim.run(90);
    assert_eq!(sim.closes, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Any fleet converges, with what it must close and little more, and then stops; also when heartbeats are lost.
    #[test]
    fn any_fleet_converges_and_stops(
        connections in prop::collection::vec(0_u32..4000, 2..=20),
        joins in 0_usize..4,
        seed: u64,
        loss in 0.0..0.02,
    ) {
        let mut sim = Sim::new(seed, &connections);
        sim.loss = loss;
        (0..joins).for_each(|_| sim.join(0));
        sim.converge();
    }

    /// Nodes that come and go all the time do not make the others shed more than a bounded part of all connections.
    #[test]
    fn restless_fleets_are_left_in_peace(seed: u64, nodes in 3_usize..8) {
        let mut sim = Sim::new(seed, &vec![1000; nodes]);
        for _ in 0..10 {
            sim.settle();
            // One is replaced: a new one comes, an old one crashes.
            sim.join(0);
            let Some(gone) = sim.nodes.iter().position(|node| node.up) else { break };
            sim.nodes[gone].up = false;
            let homeless = std::mem::take(&mut sim.nodes[gone].connections);
            (0..homeless).for_each(|_| sim.leave(gone));
        }
        let replaced = sim.closes;
        sim.run(600);
        sim.assert_balanced();
        // Ten times a node comes that has nothing.
        prop_assert!(replaced < 10 * 1000 * 2, "{replaced} closes");
        let quiet = sim.now.saturating_duration_since(sim.last_close);
        prop_assert!(sim.closes == 0 || quiet > Duration::from_secs(60));
    }
}
