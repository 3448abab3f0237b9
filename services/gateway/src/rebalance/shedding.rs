//! Whether this node gives connections away, and how many now. No I/O and no clock of its own.
//!
//! A node sheds when it has many more connections than the fleet's average, down to a little more. What keeps that from
//! doing harm:
//! * It acts only on a [`Picture`] beyond doubt in which this node has been above the others for a while: heartbeats are
//!   late, and where a node crashes its clients come before its silence is noticed.
//! * Between beginning and ending lies a wide gap, and clients on their way are not taken for gone, so that nodes do not
//!   throw the same clients to and fro.
//! * The number of closes has a bound that is computed when it begins. To have come down does not renew it; only to have
//!   stayed down for longer than clients are on their way does. If it is used up, closing does not help: the load balancer
//!   sends the clients back. Then the node rests, each time longer.
//! * Neither doubt nor a broker that fails renews the bound or ends a rest. Nodes that come or go may, since the fleet is
//!   another one then, but only once in a while.

use std::time::{Duration, Instant};

use super::RebalanceSettings;
use super::fleet::{Doubt, FORGOTTEN_AFTER, Picture, remembered_for};

/// How much more than necessary is closed before the node rests: whom a client is sent to is chance.
const PATIENCE: f64 = 1.5;
/// The same for small numbers, where chance weighs more.
const SLACK: f64 = 20.0;
/// How long the node rests the first time. Also the least time between two attempts that begin early because nodes came
/// or went: a node that crashes over and over must not make the others close without end.
const REST: Duration = Duration::from_secs(300);
/// The longest that it rests.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// Seconds of the rate that may be closed at once, after a pause in which nothing could be.
const BURST: f64 = 0.2;

/// Decides.
#[derive(Debug)]
pub(super) struct Shedder {
    settings: RebalanceSettings,
    state: State,
    /// Since when this node has many more connections than the others, beyond doubt.
    above_since: Option<Instant>,
    /// For how long it has not, beyond doubt and without closing any.
    calm: Duration,
    /// How long to rest next. As at first again once it was calm for long.
    rest: Duration,
    /// The nodes for which the attempt was begun, or nothing is to do.
    generation: u64,
    /// When an attempt was given up last because nodes came or went.
    renewed: Option<Instant>,
    /// When it was asked last.
    asked: Option<Instant>,
    /// Whether it gives connections away, as of when it was asked last.
    sheds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Nothing was to do for long.
    Balanced,
    /// Closing connections, unless in doubt.
    Shedding {
        /// How many closes are left.
        budget: f64,
        /// How many may be closed now; grows with time.
        allowance: f64,
    },
    /// Has closed connections. Those clients may come back to this node yet.
    Waiting {
        /// How many closes are left, if they do.
        budget: f64,
    },
    /// Closing did not help.
    Resting {
        /// Until when.
        until: Instant,
    },
}

impl Shedder {
    pub(super) fn new(settings: RebalanceSettings) -> Self {
        Self {
            settings,
            state: State::Balanced,
            above_since: None,
            calm: Duration::ZERO,
            rest: REST,
            generation: 0,
            renewed: None,
            asked: None,
            sheds: false,
        }
    }

    /// Whether it is closing connections: in a doubt it is not, although it may go on afterwards.
    pub(super) fn sheds(&self) -> bool {
        self.sheds
    }

    /// Whether it does nothing because it has closed what it may, and that did not help.
    pub(super) fn rests(&self) -> bool {
        matches!(self.state, State::Resting { .. })
    }

    /// How many connections to close now. To be asked often: what is closed is spread evenly over the time between.
    ///
    /// `mine`: the connections that could be closed.
    pub(super) fn step(&mut self, picture: Result<Picture, Doubt>, mine: u32, now: Instant) -> u32 {
        let passed = self.asked.replace(now).map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        self.sheds = false;
        let picture = match picture {
            Ok(picture) if self.settings.shed => picture,
            doubt => {
                self.hold(doubt.err());
                return 0;
            }
        };
        self.heed_changes(&picture, now);
        self.look_back(&picture, mine, passed, now);
        let excess = f64::from(mine) - picture.average * self.settings.shed_target;
        let proven = self.settings.heartbeat_interval * FORGOTTEN_AFTER;
        if self.above_since.is_some_and(|since| now.saturating_duration_since(since) >= proven) {
            self.begin(necessary(&picture, excess) * PATIENCE + SLACK);
        }
        let State::Shedding { budget, allowance } = &mut self.state else { return 0 };
        if excess < 1.0 {
            self.state = State::Waiting { budget: *budget };
            return 0;
        }
        self.sheds = true;
        let rate = f64::from(self.settings.shed_rate).min(taken_per_second(&picture, proven));
        *allowance = (*allowance + rate * passed.as_secs_f64()).min((rate * BURST).max(1.0));
        let closes = allowance.min(*budget).min(excess).floor();
        *allowance -= closes;
        *budget -= closes;
        if *budget < 1.0 {
            self.state = State::Resting { until: now + self.rest };
            self.rest = (self.rest * 2).min(LONGEST_REST);
        }
        closes as u32
    }

    /// Does nothing for the moment. What it may close in all stays the same, and a rest goes on.
    ///
    /// After a short doubt, as when one heartbeat is lost, it goes on where it was. After a failure of the broker it must
    /// be seen first that it still has too many.
    fn hold(&mut self, doubt: Option<Doubt>) {
        self.above_since = None;
        if let (Some(Doubt::Unwell), State::Shedding { budget, .. }) = (doubt, self.state) {
            self.state = State::Waiting { budget };
        }
    }

    /// Nodes that came or went make it a fleet in which closing may help, with another number of closes. Until that may
    /// be tried, what is left of the last attempt has to do.
    fn heed_changes(&mut self, picture: &Picture, now: Instant) {
        let early = self.state != State::Balanced;
        let too_early = self.renewed.is_some_and(|at| now.saturating_duration_since(at) < REST);
        if picture.generation == self.generation || (early && too_early) {
            return;
        }
        (self.generation, self.above_since, self.state) = (picture.generation, None, State::Balanced);
        if early {
            self.renewed = Some(now);
        }
    }

    /// Notes whether this node has many more connections than the others, and what has ended by the time passed.
    fn look_back(&mut self, picture: &Picture, mine: u32, passed: Duration, now: Instant) {
        if self.is_above(picture, mine) {
            self.above_since.get_or_insert(now);
            self.calm = Duration::ZERO;
        } else {
            self.above_since = None;
            self.calm = self.calm.saturating_add(passed);
        }
        match self.state {
            State::Shedding { .. } => self.calm = Duration::ZERO,
            State::Resting { until } if now >= until => self.state = State::Balanced,
            _ => {}
        }
        if self.calm > remembered_for(self.settings.heartbeat_interval) {
            self.rest = REST;
            if let State::Waiting { .. } = self.state {
                self.state = State::Balanced;
            }
        }
    }

    /// Begins with this budget, or goes on with what is left of an earlier one.
    fn begin(&mut self, budget: f64) {
        let budget = match self.state {
            State::Balanced => budget,
            State::Waiting { budget } => budget,
            State::Shedding { .. } | State::Resting { .. } => return,
        };
        self.state = State::Shedding { budget, allowance: 0.0 };
    }

    /// Whether this node has many more connections than the others: by what it told last, which is as old as what the
    /// others told, so that where all grow fast each does not take itself for the largest; and still.
    fn is_above(&self, picture: &Picture, mine: u32) -> bool {
        let mine = f64::from(mine.min(picture.told));
        mine > picture.average * self.settings.shed_ratio
            && mine - picture.average > f64::from(self.settings.shed_threshold)
    }
}

/// How many closes bring a node down by `excess`, if clients go to any node with equal chance: some come back, and some
/// come from the others that shed. All of them together close what they have too many for the nodes that shed none, and
/// as much again as comes back to them; of that each gets the same.
fn necessary(picture: &Picture, excess: f64) -> f64 {
    let below = picture.nodes.saturating_sub(picture.others_above + 1).max(1);
    let excess = excess.max(0.0);
    excess + (excess + picture.others_excess) / f64::from(below)
}

/// The rate at which the others can take connections of this node: its part of their room, which the other nodes above
/// the average use as well, over the time in which clients come and the heartbeat that tells of them is heard. So nobody
/// is sent away to be refused, and where room gets scarce, closing gets slow.
fn taken_per_second(picture: &Picture, proven: Duration) -> f64 {
    picture.room as f64 / f64::from(picture.others_above + 1) / proven.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: Picture = Picture {
        nodes: 3,
        average: 500.0,
        told: 1000,
        others_above: 0,
        others_excess: 0.0,
        room: 10_000,
        generation: 1,
    };

    /// Closes in so many seconds, and whether it shed in the end.
    fn closes(shedder: &mut Shedder, picture: Result<Picture, Doubt>, now: &mut Instant, seconds: u64) -> (u32, bool) {
        let mut closes = 0;
        for _ in 0..seconds * 10 {
            *now += Duration::from_millis(100);
            closes += shedder.step(picture, 1000, *now);
        }
        (closes, shedder.sheds())
    }

    #[test]
    fn growth_that_nobody_was_told_of_is_no_excess() {
        let (mut shedder, mut now) = (Shedder::new(RebalanceSettings::default()), Instant::now());
        let grown = Picture { told: 500, ..PICTURE };
        assert_eq!(closes(&mut shedder, Ok(grown), &mut now, 60), (0, false), "the others may have grown, too");
        let (told, sheds) = closes(&mut shedder, Ok(PICTURE), &mut now, 10);
        assert!(told > 150 && sheds, "{told}");
    }

    #[test]
    fn in_a_doubt_it_neither_closes_nor_says_so() {
        let (mut shedder, mut now) = (Shedder::new(RebalanceSettings::default()), Instant::now());
        assert!(closes(&mut shedder, Ok(PICTURE), &mut now, 10).1);
        for doubt in Doubt::ALL {
            assert_eq!(closes(&mut shedder, Err(doubt), &mut now, 3600), (0, false), "{doubt:?}");
        }
        assert!(!shedder.rests());
    }

    #[test]
    fn scarce_room_is_filled_slowly() {
        let (mut shedder, mut now) = (Shedder::new(RebalanceSettings::default()), Instant::now());
        let scarce = Picture { room: 60, others_above: 1, ..PICTURE };
        // Half of it, over three heartbeats; as if it stayed the same.
        let (closes, sheds) = closes(&mut shedder, Ok(scarce), &mut now, 6 + 60);
        assert!((290..=301).contains(&closes) && sheds, "{closes}");
    }
}
