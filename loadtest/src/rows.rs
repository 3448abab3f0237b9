//! Rows of `compare-builds`: what is measured, and how much more it may cost in the second build.
//!
//! A further row is a further entry of [`ROWS`]: the command line of a scenario and the figures of its result that are
//! compared. A row with [`Row::guard`] is measured by default.

/// A comparison of two builds in one respect.
#[derive(Debug)]
pub struct Row {
    /// Name on the command line.
    pub name: &'static str,
    /// Measured unless `--rows` names others.
    pub guard: bool,
    /// The scenario and its options, as on the command line.
    pub command: &'static str,
    /// Pairs, unless `--pairs` says otherwise.
    pub pairs: u32,
    /// Keeps the servers on one core and the clients on another, on machines that have two.
    pub pinned: bool,
    /// Figures that are compared.
    pub checks: &'static [Check],
}

/// A figure of a scenario's result and its bound.
#[derive(Debug)]
pub struct Check {
    /// [`crate::report::Figure::name`].
    pub figure: &'static str,
    /// What the upper end of the interval may be.
    pub bound: Bound,
}

/// How two readings of a figure are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// After / before, at most this.
    Ratio(f64),
    /// After - before, at most this, in the figure's unit.
    Difference(f64),
    /// After / before, for information.
    Unbounded,
}

const fn at_most(figure: &'static str, ratio: f64) -> Check {
    Check { figure, bound: Bound::Ratio(ratio) }
}

const fn at_most_more(figure: &'static str, difference: f64) -> Check {
    Check { figure, bound: Bound::Difference(difference) }
}

const fn shown(figure: &'static str) -> Check {
    Check { figure, bound: Bound::Unbounded }
}

const INSTRUCTIONS: Row = Row {
    name: "instructions",
    guard: true,
    command: "instructions",
    // Two readings of one build differ by less than 1 %: fewer of them find 2 %.
    pairs: 3,
    pinned: false,
    checks: &[
        at_most("instructions per delivery", 1.02),
        at_most("instructions per publication", 1.02),
        at_most("instructions per connect", 1.02),
    ],
};

const FANOUT: Row = Row {
    name: "fanout",
    guard: true,
    command: "fanout --connections 1000 --one-at-a-time --publications 400 --slices 20",
    pairs: 15,
    pinned: true,
    checks: &[at_most("CPU per delivery", 1.05), shown("latency p99"), shown("delivered rate")],
};

const CONNECT: Row = Row {
    name: "connect",
    guard: true,
    command: "connect-storm --connections 1000 --storms 12 --slices 12 --rest 0s",
    pairs: 15,
    pinned: true,
    checks: &[at_most("CPU per connect", 1.10), shown("connect latency p99"), shown("connects per second")],
};

const IDLE: Row = Row {
    name: "idle",
    guard: true,
    // Pings five times as often as by default: the cost of a ping is found sooner.
    command: "idle --connections 9000 --duration 10s --slices 5 --set client.ping_interval=5s --set client.pong_timeout=4s",
    pairs: 15,
    pinned: true,
    checks: &[at_most_more("memory per connection", 16.0), at_most("CPU per connection and second", 1.05)],
};

/// All rows.
pub const ROWS: &[Row] = &[
    INSTRUCTIONS,
    FANOUT,
    Row { name: "burst", command: "burst --connections 1000 --bursts 200 --slices 10", ..FANOUT },
    Row {
        name: "sse",
        command: "fanout --transport sse --connections 1000 --one-at-a-time --publications 400 --slices 20",
        checks: &[at_most("CPU per delivery", 1.08), shown("latency p99"), shown("delivered rate")],
        ..FANOUT
    },
    CONNECT,
    Row {
        name: "publish",
        command: "publish --publications 60000 --no-replay --slices 20",
        pinned: false,
        checks: &[
            at_most("CPU per publication", 1.10),
            shown("Redis CPU per publication"),
            shown("publish latency p99"),
            shown("publications per second"),
        ],
        ..CONNECT
    },
    IDLE,
    Row {
        name: "idle-sse",
        command: "idle --transport sse --connections 9000 --duration 10s --slices 5 --set client.ping_interval=5s --set client.pong_timeout=4s",
        ..IDLE
    },
    Row {
        name: "instructions-sse",
        guard: false,
        command: "instructions --transport sse",
        checks: &[
            at_most("instructions per delivery", 1.08),
            shown("instructions per publication"),
            shown("instructions per connect"),
        ],
        ..INSTRUCTIONS
    },
    Row {
        name: "fanout-10000",
        guard: false,
        command: "fanout --connections 9000 --processes 2 --one-at-a-time --publications 60 --slices 20",
        ..FANOUT
    },
    Row {
        name: "many-channels",
        guard: false,
        command: "many-channels --connections 1000 --channels 100 --ticks 40 --slices 20",
        ..FANOUT
    },
    Row {
        name: "unicast",
        guard: false,
        command: "many-channels --connections 9000 --channels own --processes 2 --publications 40000 --slices 20",
        ..FANOUT
    },
    Row {
        name: "resume",
        guard: false,
        // Kills a node: it cannot be done in slices.
        command: "resume-storm --connections 4000",
        pairs: 15,
        pinned: false,
        checks: &[
            at_most("resume time", 1.10),
            shown("resume time / connect time"),
            shown("Redis subscribes per 100 resumes"),
            shown("history reads per channel"),
            shown("p99 of others meanwhile"),
        ],
    },
    Row {
        name: "channels",
        guard: false,
        command: "growth channels --redis --points 100000",
        pairs: 6,
        pinned: false,
        checks: &[
            at_most_more("gateway memory per channel", 16.0),
            at_most_more("Redis memory per channel", 16.0),
            at_most("CPU per publication", 1.10),
        ],
    },
];

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;
    use crate::options::Options;

    #[test]
    fn every_row_is_a_command_line_and_has_a_bound() {
        let mut names = BTreeSet::new();
        for row in ROWS {
            assert!(names.insert(row.name), "{} is there twice", row.name);
            let words = std::iter::once("x").chain(row.command.split(' '));
            let parsed = Options::try_parse_from(words);
            assert!(parsed.is_ok_and(|options| options.scenario.common().is_some()), "{}", row.name);
            assert!(row.checks.iter().any(|check| check.bound != Bound::Unbounded), "{} cannot fail", row.name);
        }
    }
}
