//! What a fleet is to do. It can be given to another process.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channels::Channels;
use crate::target::Target;
use crate::token::Tokens;
use crate::transport::{Position, Transport};

/// What a fleet is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The servers; connection number n goes to number n modulo their number.
    pub targets: Vec<Target>,
    /// How clients receive.
    pub transports: Transports,
    /// Connection tokens.
    pub tokens: Tokens,
    /// How many connections.
    pub connections: usize,
    /// The number of the first of them: another process may have those before.
    pub first: usize,
    /// Connections opened per second.
    pub connect_rate: f64,
    /// Connections that may be on their way at once, in each thread.
    pub opening_at_once: usize,
    /// A connection that is not subscribed after so long has failed.
    pub ready_within: Duration,
    /// Who has which channels.
    pub channels: Channels,
    /// Threads.
    pub workers: usize,
    /// Publications of other runs are not counted.
    pub run: u64,
    /// How many publications a channel will have at most.
    pub publications: u64,
    /// Resume from here instead of beginning at the head.
    pub resume: Option<Position>,
    /// The first publication that is to come in each channel.
    pub from: u64,
    /// Connections with a number below this one read nothing once they are subscribed.
    pub stalled: usize,
}

/// Which transport each connection uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transports {
    /// Used in turn; never empty.
    each: Vec<Transport>,
    /// Connections in a row that use the same one.
    in_a_row: usize,
}

impl Transports {
    /// One for all.
    pub fn all(transport: Transport) -> Self {
        Self { each: vec![transport], in_a_row: 1 }
    }

    /// Two in turn, each for so many connections in a row.
    pub fn two(first: Transport, second: Transport, in_a_row: usize) -> Self {
        Self { each: vec![first, second], in_a_row }
    }

    /// The one of a connection.
    pub fn of(&self, connection: usize) -> Transport {
        self.each[connection / self.in_a_row % self.each.len()]
    }
}

impl fmt::Display for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, transport) in self.each.iter().enumerate() {
            write!(f, "{}{transport}", if at == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

impl Plan {
    /// How many of its connections never read.
    pub fn stalling(&self) -> usize {
        self.stalled.saturating_sub(self.first).min(self.connections)
    }

    /// Deals the connections out to so many processes.
    pub(super) fn split(&self, processes: usize) -> Vec<Self> {
        let cut = |index: usize| self.connections * index / processes;
        let part = |index: usize| Self {
            connections: cut(index + 1) - cut(index),
            first: self.first + cut(index),
            connect_rate: self.connect_rate / processes as f64,
            ..self.clone()
        };
        (0..processes).map(part).filter(|part| part.connections > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_in_one_part() {
        let plan = Plan {
            targets: vec![Target::parse("http://127.0.0.1:1", false).unwrap()],
            transports: Transports::all(Transport::Poll),
            tokens: Tokens::one(String::new()),
            connections: 10,
            first: 5,
            connect_rate: 30.0,
            opening_at_once: 1,
            ready_within: Duration::from_secs(1),
            channels: Channels { prefix: "c".into(), count: 1, per_connection: 1 },
            workers: 1,
            run: 1,
            publications: 0,
            resume: None,
            from: 0,
            stalled: 9,
        };
        let parts = plan.split(3);
        let numbers: Vec<usize> = parts.iter().flat_map(|part| part.first..part.first + part.connections).collect();
        assert_eq!(numbers, (5..15).collect::<Vec<_>>());
        assert_eq!(parts.iter().map(Plan::stalling).collect::<Vec<_>>(), [3, 1, 0]);
        assert!(parts.iter().all(|part| part.connect_rate == 10.0));
        assert_eq!(plan.split(100).len(), 10);
    }

    #[test]
    fn two_transports_take_turns() {
        let (websocket, sse) = (Transport::Websocket, Transport::Sse);
        let first_five = |transports: Transports| (0..5).map(|number| transports.of(number)).collect::<Vec<_>>();
        assert_eq!(first_five(Transports::two(websocket, sse, 1)), [websocket, sse, websocket, sse, websocket]);
        assert_eq!(first_five(Transports::two(websocket, sse, 2)), [websocket, websocket, sse, sse, websocket]);
        assert_eq!(first_five(Transports::all(sse)), [sse; 5]);
        assert_eq!(Transports::two(websocket, sse, 1).to_string(), "websocket and sse");
    }
}
