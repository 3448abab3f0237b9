//! Whether this node gives connections away, and how many now. No I/O and no clock of its own.
//!
//! A node sheds when it has many more connections than the fleet's average, down to a little more. What keeps that from
//! doing harm:
//! * It acts only on a [`Picture`] beyond doubt that has looked alike for a while, and while the broker is well and has
//!   been for a while: heartbeats are late, and where a node crashes its clients come before its silence is noticed.
//! * Between beginning and ending lies a wide gap, and clients on their way are not taken for gone, so that nodes do not
//!   throw the same clients to and fro.
//! * The number of closes has a bound that is computed when it begins. If that is used up, closing does not help: the
//!   load balancer sends the clients back. Then the node rests, each time longer.

use std::time::{Duration, Instant};

use super::RebalanceSettings;
use super::fleet::{Doubt, FORGOTTEN_AFTER, Picture};

/// How much more than necessary is closed before the node rests: whom a client is sent to is chance.
const PATIENCE: f64 = 1.5;
/// The same for small numbers, where chance weighs more.
const SLACK: f64 = 20.0;
/// How long the node rests the first time.
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
    /// Since when the broker is well.
    well_since: Option<Instant>,
    /// Since when this node has many more connections than the others, beyond doubt.
    above_since: Option<Instant>,
    /// How long to rest next.
    rest: Duration,
    /// The nodes that were there when it last began or rested.
    generation: u64,
    /// When it was asked last.
    asked: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Nothing to do.
    Balanced,
    /// Closing connections.
    Shedding {
        /// How many closes are left.
        budget: f64,
        /// How many may be closed now; grows with time.
        allowance: f64,
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
            well_since: None,
            above_since: None,
            rest: REST,
            generation: 0,
            asked: None,
        }
    }

    /// Whether it is closing connections.
    pub(super) fn sheds(&self) -> bool {
        matches!(self.state, State::Shedding { .. })
    }

    /// How many connections to close now. To be asked often: what is closed is spread evenly over the time between.
    ///
    /// `well`: the broker is healthy and this node is not leaving. `mine`: the connections that could be closed.
    pub(super) fn step(&mut self, picture: Result<Picture, Doubt>, well: bool, mine: u32, now: Instant) -> u32 {
        let passed = self.asked.replace(now).map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        if !well {
            (self.well_since, self.above_since, self.state) = (None, None, State::Balanced);
            return 0;
        }
        let proven = self.settings.heartbeat_interval * FORGOTTEN_AFTER;
        let since = |moment: &mut Option<Instant>| now.saturating_duration_since(*moment.get_or_insert(now));
        let settled = since(&mut self.well_since) >= proven;
        let (true, Ok(picture)) = (settled && self.settings.shed, picture) else {
            // A short doubt, as when one heartbeat is lost, makes it wait; what it may close in all stays the same.
            self.above_since = None;
            return 0;
        };
        if picture.generation != self.generation {
            self.generation = picture.generation;
            (self.state, self.rest, self.above_since) = (State::Balanced, REST, None);
        }
        if let State::Resting { until } = self.state {
            if now < until {
                return 0;
            }
            self.state = State::Balanced;
        }
        let excess = f64::from(mine) - picture.average * self.settings.shed_target;
        if !self.is_above(&picture, mine) {
            self.above_since = None;
        } else if since(&mut self.above_since) >= proven && self.state == State::Balanced {
            self.state = State::Shedding { budget: necessary(&picture, excess) * PATIENCE + SLACK, allowance: 0.0 };
        }
        let State::Shedding { budget, allowance } = &mut self.state else { return 0 };
        if excess < 1.0 {
            (self.state, self.rest) = (State::Balanced, REST);
            return 0;
        }
        let rate = f64::from(self.settings.shed_rate);
        *allowance = (*allowance + rate * passed.as_secs_f64()).min((rate * BURST).max(1.0));
        let closes = allowance.min(*budget).min(excess).min(picture.room as f64).floor();
        *allowance -= closes;
        *budget -= closes;
        if *budget < 1.0 {
            self.state = State::Resting { until: now + self.rest };
            self.rest = (self.rest * 2).min(LONGEST_REST);
        }
        closes as u32
    }

    /// Whether this node has many more connections than the others.
    fn is_above(&self, picture: &Picture, mine: u32) -> bool {
        let mine = f64::from(mine);
        mine > picture.average * self.settings.shed_ratio
            && mine - picture.average > f64::from(self.settings.shed_threshold)
    }
}

/// How many closes bring a node down by `excess`, if clients go to any node with equal chance: some come back, and some
/// come from the others that shed.
fn necessary(picture: &Picture, excess: f64) -> f64 {
    let below = picture.nodes.saturating_sub(picture.others_above + 1).max(1);
    excess.max(0.0) * f64::from(picture.nodes) / f64::from(below)
}
