//! Publishing in rounds: a few publications at once, the next when all of them are delivered. The closed loop, in which
//! the server is never behind and never idle, so that its CPU time is that of the work.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Plan, Published, TIMEOUT, data};
use crate::clock;
use crate::http::Client;

/// How often it is looked whether a round is delivered.
const LOOK: Duration = Duration::from_micros(100);

/// What a round publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// So many, one after another on one connection without waiting for answers, to the first channel.
    Burst(u32),
    /// One to every channel, in one request.
    Everywhere,
    /// So many, each to a channel and over a connection of its own; the channels take turns in a scattered order.
    Scattered(u32),
}

/// The rounds.
pub struct Rounds<'a> {
    /// What each publishes.
    pub batch: Batch,
    /// How many.
    pub rounds: u64,
    /// So many deliveries are expected of each.
    pub deliveries: u64,
    /// Deliveries so far, by all clients.
    pub delivered: &'a dyn Fn() -> u64,
    /// A round that is not delivered within this time ends the run.
    pub patience: Duration,
}

impl Batch {
    /// How many publications a round has.
    pub fn publications(self, channels: u32) -> u64 {
        match self {
            Self::Burst(in_flight) => u64::from(in_flight),
            Self::Everywhere => u64::from(channels),
            Self::Scattered(in_flight) => u64::from(in_flight.min(channels)),
        }
    }

    /// The most that a channel gets in so many rounds.
    pub fn per_channel(self, rounds: u64, channels: u32) -> u64 {
        match self {
            Self::Burst(in_flight) => rounds * u64::from(in_flight),
            Self::Everywhere => rounds,
            Self::Scattered(in_flight) => rounds * u64::from(in_flight.min(channels)) / u64::from(channels) + 1,
        }
    }

    fn lanes(self, channels: u32) -> u32 {
        match self {
            Self::Burst(_) | Self::Everywhere => 1,
            Self::Scattered(in_flight) => in_flight.min(channels),
        }
    }
}

/// Publishes all rounds, until done, told to stop, or left waiting.
pub fn run(plan: &Plan, rounds: &Rounds<'_>, stop: &AtomicBool) -> Published {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
    let count = plan.channels.count;
    let mut lanes: Vec<Client> = (0..rounds.batch.lanes(count)).map(|_| Client::new(&plan.target, TIMEOUT)).collect();
    let mut published = Published::new();
    let mut turns = Turns::new(count);
    let (begun, mut expected) = (Instant::now(), (rounds.delivered)());
    for _ in 0..rounds.rounds {
        if stop.load(Ordering::Relaxed) || published.is_hopeless() {
            break;
        }
        let due = clock::now();
        match rounds.batch {
            Batch::Burst(in_flight) => burst(plan, &mut lanes[0], in_flight, due, &mut published),
            Batch::Everywhere => everywhere(plan, &mut lanes[0], due, &mut published),
            Batch::Scattered(_) => scattered(plan, &mut lanes, &mut turns, due, &mut published),
        }
        published.span = begun.elapsed();
        expected += rounds.deliveries;
        let end = Instant::now() + rounds.patience;
        while (rounds.delivered)() < expected {
            if Instant::now() > end || stop.load(Ordering::Relaxed) {
                published.faults.note("a round was not delivered in time");
                return published;
            }
            std::thread::sleep(LOOK);
        }
    }
    published
}

fn burst(plan: &Plan, client: &mut Client, in_flight: u32, due: u64, published: &mut Published) {
    let mut requests = Vec::new();
    let name = plan.channels.name(0);
    let sequences: Vec<u64> = (0..in_flight).map(|_| published.attempted.next(0)).collect();
    for sequence in &sequences {
        let (path, headers, body) = plan.api.publish(&name, &data(plan.run, *sequence, due, plan.payload_bytes));
        client.encode("POST", path, &headers, body.as_bytes(), &mut requests);
    }
    let sent = client.send(&requests).map_err(|error| format!("{error:#}"));
    for sequence in sequences {
        let response = sent.clone().map_err(anyhow::Error::msg).and_then(|()| client.receive());
        published.note(0, sequence, due, response.and_then(|response| plan.api.outcome(&response)));
    }
}

fn everywhere(plan: &Plan, client: &mut Client, due: u64, published: &mut Published) {
    let count = plan.channels.count;
    let sequence = published.attempted.of(0);
    for channel in 0..count {
        let _ = published.attempted.next(channel);
    }
    let text = data(plan.run, sequence, due, plan.payload_bytes);
    let names = (0..count).map(|channel| plan.channels.name(channel));
    let (path, headers, body) = plan.api.broadcast(names, &text);
    let response = client.post(path, &headers, body.as_bytes());
    match response.and_then(|response| plan.api.outcome(&response)) {
        Ok(_) => published.note(0, sequence, due, Ok(super::Place::default())),
        Err(error) => {
            let error = format!("{error:#}");
            for channel in 0..count {
                published.note(channel, sequence, due, Err(anyhow::Error::msg(error.clone())));
            }
        }
    }
}

fn scattered(plan: &Plan, lanes: &mut [Client], turns: &mut Turns, due: u64, published: &mut Published) {
    let sent: Vec<_> = lanes
        .iter_mut()
        .map(|client| {
            let channel = turns.next();
            let sequence = published.attempted.next(channel);
            let text = data(plan.run, sequence, due, plan.payload_bytes);
            let (path, headers, body) = plan.api.publish(&plan.channels.name(channel), &text);
            let mut request = Vec::new();
            client.encode("POST", path, &headers, body.as_bytes(), &mut request);
            (channel, sequence, client.send(&request))
        })
        .collect();
    for (client, (channel, sequence, sent)) in lanes.iter_mut().zip(sent) {
        let response = sent.and_then(|()| client.receive());
        published.note(channel, sequence, due, response.and_then(|response| plan.api.outcome(&response)));
    }
}

/// Every channel in turn, neighbours far from one another: nobody publishes in the order in which clients connected.
struct Turns {
    count: u32,
    step: u32,
    at: u32,
}

impl Turns {
    fn new(count: u32) -> Self {
        // Near the golden section, and without a common divisor, so that all are met before one is met again.
        let mut step = ((f64::from(count) * 0.618_034) as u32).max(1);
        while gcd(step, count) != 1 {
            step += 1;
        }
        Self { count, step, at: 0 }
    }

    fn next(&mut self) -> u32 {
        let now = self.at;
        self.at = ((u64::from(now) + u64::from(self.step)) % u64::from(self.count)) as u32;
        now
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_channel_has_its_turn_before_any_has_another() {
        for count in [1, 2, 3, 10, 100, 9_999, 10_000] {
            let mut turns = Turns::new(count);
            for _ in 0..3 {
                let met: BTreeSet<u32> = (0..count).map(|_| turns.next()).collect();
                assert_eq!(met.len(), count as usize);
            }
        }
    }

    #[test]
    fn no_channel_gets_more_than_is_said() {
        for (in_flight, rounds, channels) in [(16, 10, 100), (16, 1, 4), (1, 7, 3), (3, 5, 2)] {
            let batch = Batch::Scattered(in_flight);
            let mut turns = Turns::new(channels);
            let mut counts = vec![0; channels as usize];
            for _ in 0..rounds * batch.publications(channels) {
                counts[turns.next() as usize] += 1;
            }
            assert!(counts.iter().all(|count| *count <= batch.per_channel(rounds, channels)));
        }
    }
}
