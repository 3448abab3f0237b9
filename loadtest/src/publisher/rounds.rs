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
    /// So many, each to a channel of its own, in one request; the channels take turns in a scattered order.
    Together(u32),
    /// The same, each in a request of its own on a connection of its own.
    Apart(u32),
}

/// The rounds.
pub struct Rounds<'a> {
    /// What each publishes.
    pub batch: Batch,
    /// How many.
    pub rounds: u64,
    /// So many deliveries are expected of each publication, on average.
    pub receivers: f64,
    /// Deliveries so far, by all clients.
    pub delivered: &'a dyn Fn() -> u64,
    /// A round that is not delivered within this time ends the run.
    pub patience: Duration,
}

impl Batch {
    /// How many publications a round has, at most: at the end of the channels' turns it may have fewer.
    pub fn publications(self, channels: u32) -> u64 {
        match self {
            Self::Burst(in_flight) => u64::from(in_flight),
            Self::Everywhere => u64::from(channels),
            Self::Together(in_flight) | Self::Apart(in_flight) => u64::from(in_flight.min(channels)),
        }
    }

    /// The most that a channel gets in so many rounds.
    pub fn per_channel(self, rounds: u64, channels: u32) -> u64 {
        match self {
            Self::Burst(in_flight) => rounds * u64::from(in_flight),
            Self::Everywhere => rounds,
            Self::Together(_) | Self::Apart(_) => rounds * self.publications(channels) / u64::from(channels) + 1,
        }
    }

    fn lanes(self, channels: u32) -> u64 {
        match self {
            Self::Apart(_) => self.publications(channels),
            _ => 1,
        }
    }
}

/// Publishes all rounds, until done, told to stop, or left waiting.
pub fn run(plan: &Plan, rounds: &Rounds<'_>, stop: &AtomicBool) -> Published {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
    let count = plan.channels.count;
    let mut lanes: Vec<Client> = (0..rounds.batch.lanes(count)).map(|_| Client::new(&plan.target, TIMEOUT)).collect();
    let mut published = Published::new(plan);
    let mut turns = Turns::new(count, published.attempted.total());
    let (begun, start, before) = (Instant::now(), (rounds.delivered)(), published.attempted.total());
    for _ in 0..rounds.rounds {
        if stop.load(Ordering::Relaxed) || published.is_hopeless() {
            break;
        }
        let due = clock::now();
        match rounds.batch {
            Batch::Burst(in_flight) => burst(plan, &mut lanes[0], in_flight, due, &mut published),
            Batch::Everywhere => together(plan, &mut lanes[0], &(0..count).collect::<Vec<_>>(), due, &mut published),
            Batch::Together(in_flight) => {
                together(plan, &mut lanes[0], &turns.next(in_flight), due, &mut published);
            }
            Batch::Apart(in_flight) => apart(plan, &mut lanes, &turns.next(in_flight), due, &mut published),
        }
        published.span = begun.elapsed();
        let made = published.attempted.total() - before;
        let expected = start + (made as f64 * rounds.receivers).round() as u64;
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
        client.encode("POST", &path, &headers, body.as_bytes(), &mut requests);
    }
    let sent = client.send(&requests).map_err(|error| format!("{error:#}"));
    for sequence in sequences {
        let response = sent.clone().map_err(anyhow::Error::msg).and_then(|()| client.receive());
        published.note(0, sequence, due, response.and_then(|response| plan.api.outcome(&response)));
    }
}

/// One request for all: those channels have had equally many.
fn together(plan: &Plan, client: &mut Client, channels: &[u32], due: u64, published: &mut Published) {
    let sequence = channels.iter().map(|channel| published.attempted.next(*channel)).max().unwrap_or(0);
    let text = data(plan.run, sequence, due, plan.payload_bytes);
    let names = channels.iter().map(|channel| plan.channels.name(*channel));
    let response = plan
        .api
        .broadcast(names, &text)
        .and_then(|(path, headers, body)| client.post(&path, &headers, body.as_bytes()));
    match response.and_then(|response| plan.api.outcome(&response)) {
        Ok(place) => published.note(channels.first().copied().unwrap_or(0), sequence, due, Ok(place)),
        Err(error) => {
            let error = format!("{error:#}");
            for channel in channels {
                published.note(*channel, sequence, due, Err(anyhow::Error::msg(error.clone())));
            }
        }
    }
}

fn apart(plan: &Plan, lanes: &mut [Client], channels: &[u32], due: u64, published: &mut Published) {
    let sent: Vec<_> = channels
        .iter()
        .zip(&mut *lanes)
        .map(|(channel, client)| {
            let sequence = published.attempted.next(*channel);
            let text = data(plan.run, sequence, due, plan.payload_bytes);
            let (path, headers, body) = plan.api.publish(&plan.channels.name(*channel), &text);
            let mut request = Vec::new();
            client.encode("POST", &path, &headers, body.as_bytes(), &mut request);
            (*channel, sequence, client.send(&request))
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
    /// How many have had their turn since the last time that all had.
    had: u32,
}

impl Turns {
    /// After so many turns.
    fn new(count: u32, before: u64) -> Self {
        // Near the golden section, and without a common divisor, so that all are met before one is met again.
        let mut step = ((f64::from(count) * 0.618_034) as u32).max(1);
        while gcd(step, count) != 1 {
            step += 1;
        }
        let had = (before % u64::from(count)) as u32;
        let at = (u64::from(had) * u64::from(step) % u64::from(count)) as u32;
        Self { count, step, at, had }
    }

    /// The next few; fewer when all have had theirs.
    fn next(&mut self, most: u32) -> Vec<u32> {
        let few = most.min(self.count - self.had);
        self.had = (self.had + few) % self.count;
        let mut step = || {
            let now = self.at;
            self.at = ((u64::from(now) + u64::from(self.step)) % u64::from(self.count)) as u32;
            now
        };
        (0..few).map(|_| step()).collect()
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
        for (count, most) in [(1, 16), (2, 1), (3, 2), (10, 16), (100, 7), (9_999, 16), (10_000, 16)] {
            let mut turns = Turns::new(count, 0);
            for _ in 0..3 {
                let mut met = BTreeSet::new();
                while met.len() < count as usize {
                    let few = turns.next(most);
                    assert!(!few.is_empty() && few.iter().all(|channel| met.insert(*channel)));
                }
            }
        }
    }

    #[test]
    fn turns_go_on_where_they_were() {
        let mut whole = Turns::new(10, 0);
        let all: Vec<u32> = (0..4).flat_map(|_| whole.next(3)).collect();
        for (before, channel) in all.iter().enumerate() {
            assert_eq!(Turns::new(10, before as u64).next(1)[0], *channel);
        }
    }

    #[test]
    fn no_channel_gets_more_than_is_said() {
        for (in_flight, rounds, channels) in [(16, 10, 100), (16, 1, 4), (1, 7, 3), (3, 5, 2), (3, 9, 4)] {
            let batch = Batch::Together(in_flight);
            let mut turns = Turns::new(channels, 0);
            let mut counts = vec![0; channels as usize];
            for channel in (0..rounds).flat_map(|_| turns.next(in_flight)) {
                counts[channel as usize] += 1;
            }
            assert!(counts.iter().all(|count| *count <= batch.per_channel(rounds, channels)));
        }
    }
}
