//! Publishing to a fleet and measuring what each delivery costs: the middle of most scenarios.

mod found;

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::environment::{Connections, Environment};
use super::slices::{Sliced, share};
use crate::channels::Channels;
use crate::clients::{Fleet, Transports};
use crate::options::Delivery;
use crate::publisher::{self, Published, rate, rounds};
use crate::report::Figure;
use crate::rounds::Measured;
use crate::schedule::Schedule;
use crate::subject::affinity::stay_on;
use crate::subject::{Gauge, Usage};

/// From the decision to publish at a rate to the first publication.
const LEAD: Duration = Duration::from_millis(20);
/// What comes twice or out of nowhere comes late: so long is waited for it.
const LATE: Duration = Duration::from_millis(200);

/// How publications follow one another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// So many per second, so many in all.
    Rate(f64, u64),
    /// The same over so many connections in turn, which divide the channels among them.
    Lanes(f64, u64, u32),
    /// In so many rounds.
    Rounds(rounds::Batch, u64),
}

impl Pace {
    /// The most that one channel gets.
    fn per_channel(self, channels: u32) -> u64 {
        match self {
            Self::Rate(_, publications) | Self::Lanes(_, publications, _) => publications.div_ceil(u64::from(channels)),
            Self::Rounds(batch, rounds) => batch.per_channel(rounds, channels),
        }
    }

    /// One of so many equal parts; the first ones have what does not divide.
    pub(super) fn slice(self, number: u64, slices: u64) -> Self {
        let share = |all: u64| share(all, number, slices);
        match self {
            Self::Rate(rate, publications) => Self::Rate(rate, share(publications)),
            Self::Lanes(rate, publications, lanes) => Self::Lanes(rate, share(publications), lanes),
            Self::Rounds(batch, rounds) => Self::Rounds(batch, share(rounds)),
        }
    }

    fn is_empty(self) -> bool {
        matches!(self, Self::Rate(_, 0) | Self::Lanes(_, 0, _) | Self::Rounds(_, 0))
    }

    /// How many publications there will be, at most.
    fn publications(self, channels: u32) -> u64 {
        match self {
            Self::Rate(_, publications) | Self::Lanes(_, publications, _) => publications,
            Self::Rounds(batch, rounds) => rounds * batch.publications(channels),
        }
    }
}

/// What is to be delivered.
pub(super) struct Order {
    /// The scenario's name.
    pub(super) scenario: &'static str,
    /// What the result is called.
    pub(super) title: String,
    pub(super) channels: Channels,
    pub(super) connections: usize,
    pub(super) transports: Transports,
    /// Of those, how many never read.
    pub(super) stalled: usize,
    pub(super) pace: Pace,
    pub(super) delivery: Delivery,
    /// Looks at the server at the end, with all connections open, and finds further figures.
    pub(super) inspect: Option<Inspect>,
}

/// See [`Order::inspect`]; is given how much memory the server has gained since the connections were opened.
pub(super) type Inspect = fn(&Environment<'_>, f64) -> anyhow::Result<Vec<Figure>>;

/// Opens the fleet, publishes, waits for the deliveries, checks them, and says what they cost.
pub(super) fn deliver(environment: &mut Environment<'_>, order: Order) -> anyhow::Result<Measured> {
    let pace = order.pace;
    let mut round = Round::open(environment, order)?;
    round.publish(environment, pace)?;
    round.finish(environment)
}

/// An open fleet that is published to.
pub(super) struct Round {
    order: Order,
    plan: publisher::Plan,
    fleet: Fleet,
    connections: Connections,
    /// Clients that receive each publication, on average over the channels.
    receivers: f64,
    /// The server before and after the connections were opened.
    idle: Usage,
    open: Usage,
    published: Published,
    /// CPU seconds while it was published: of the server, of the load generator, and of the others.
    spent: Spent,
    /// For how long it was published.
    took: Duration,
}

/// CPU seconds.
#[derive(Clone, Debug)]
struct Spent {
    server: f64,
    own: f64,
    /// By name.
    others: Vec<(&'static str, f64)>,
}

impl Spent {
    fn read(environment: &mut Environment<'_>, fleet: &Fleet) -> anyhow::Result<Self> {
        let others = environment.subject.others.iter_mut();
        let others = others.map(|(name, gauge)| anyhow::Ok((*name, gauge.read()?.cpu)));
        Ok(Self {
            others: others.collect::<Result<_, _>>()?,
            own: Gauge::Processes([fleet.processes(), vec![std::process::id()]].concat()).read()?.cpu,
            server: environment.subject.gauge.read()?.cpu,
        })
    }

    fn add_difference(&mut self, before: &Self, after: &Self) {
        self.server += after.server - before.server;
        self.own += after.own - before.own;
        for (sum, (before, after)) in self.others.iter_mut().zip(before.others.iter().zip(&after.others)) {
            sum.1 += after.1 - before.1;
        }
    }

    fn nothing(&self) -> Self {
        Self { server: 0.0, own: 0.0, others: self.others.iter().map(|(name, _)| (*name, 0.0)).collect() }
    }
}

impl Round {
    /// Opens the fleet.
    pub(super) fn open(environment: &mut Environment<'_>, order: Order) -> anyhow::Result<Self> {
        let channels = &order.channels;
        let plan = environment.publications(channels.clone(), order.delivery.payload_bytes);
        publisher::rehearse(&plan)?;
        let idle = environment.subject.gauge.read_settled()?;
        let mut fleet_plan = environment.plan(channels.clone(), order.pace.per_channel(channels.count));
        fleet_plan.connections = order.connections;
        fleet_plan.transports = order.transports.clone();
        fleet_plan.stalled = order.stalled;
        let (fleet, connections) = environment.open(fleet_plan)?;
        let open = environment.subject.gauge.read_settled()?;
        let reading = connections.counts.held().saturating_sub(order.stalled);
        let each = f64::from(channels.per_connection.min(channels.count)) / f64::from(channels.count);
        let spent = Spent::read(environment, &fleet)?.nothing();
        let (published, took) = (Published::new(&plan), Duration::ZERO);
        let receivers = reading as f64 * each;
        Ok(Self { order, plan, fleet, connections, receivers, idle, open, published, spent, took })
    }

    /// Publishes some, and waits until all of it is delivered.
    pub(super) fn publish(&mut self, environment: &mut Environment<'_>, pace: Pace) -> anyhow::Result<()> {
        if pace.is_empty() {
            return Ok(());
        }
        self.plan.begun = self.published.attempted.clone();
        let patience = self.order.delivery.settle;
        let planned = self.published.attempted.total() + pace.publications(self.plan.channels.count);
        let mut bar = environment.progress.bar("deliveries", self.expected(planned));
        let before = Spent::read(environment, &self.fleet)?;
        let lead = if matches!(pace, Pace::Rounds(..)) { Duration::ZERO } else { LEAD };
        let begun = Instant::now() + lead;
        let published = std::thread::scope(|scope| -> anyhow::Result<Published> {
            let core = environment.common.pin_clients;
            let (plan, fleet, receivers) = (&self.plan, &self.fleet, self.receivers);
            let interrupted = environment.interrupted;
            let publisher = scope.spawn(move || {
                stay_on(core)?;
                anyhow::Ok(match pace {
                    Pace::Rate(per_second, publications) => {
                        rate::run(plan, publications, Schedule::new(begun, per_second), interrupted)
                    }
                    Pace::Lanes(per_second, publications, lanes) => {
                        rate::in_lanes(plan, publications, Schedule::new(begun, per_second), lanes, interrupted)
                    }
                    Pace::Rounds(batch, count) => {
                        let delivered = || fleet.delivered();
                        let rounds =
                            rounds::Rounds { batch, rounds: count, receivers, delivered: &delivered, patience };
                        rounds::run(plan, &rounds, interrupted)
                    }
                })
            });
            while !publisher.is_finished() {
                bar.tell(fleet.delivered());
                std::thread::sleep(Duration::from_millis(2));
            }
            publisher.join().map_err(|_| anyhow!("the publisher panicked"))?
        })?;
        let expected = self.expected(published.attempted.total());
        let end = Instant::now() + patience;
        while self.fleet.delivered() < expected && Instant::now() < end && !environment.is_interrupted() {
            std::thread::sleep(Duration::from_micros(500));
        }
        self.spent.add_difference(&before, &Spent::read(environment, &self.fleet)?);
        self.took += begun.elapsed();
        self.published.go_on(published);
        Ok(())
    }

    /// Deliveries of so many publications.
    fn expected(&self, publications: u64) -> u64 {
        (publications as f64 * self.receivers).round() as u64
    }
}

impl Sliced for Round {
    fn slice(&mut self, environment: &mut Environment<'_>, number: u64, slices: u64) -> anyhow::Result<()> {
        self.publish(environment, self.order.pace.slice(number, slices))
    }

    /// Closes the fleet and judges.
    fn finish(mut self, environment: &mut Environment<'_>) -> anyhow::Result<Measured> {
        let delivery = self.order.delivery;
        environment.hold(LATE.min(delivery.settle).max(delivery.rest));
        let rested = environment.subject.gauge.read()?;
        let inspected = match self.order.inspect {
            Some(inspect) => inspect(environment, rested.rss as f64 - self.open.rss as f64)?,
            None => Vec::new(),
        };
        self.connections.counts = self.fleet.counts();
        // What was planned and not published was kept back by a fault, but a round may have fewer than it could.
        let publications = match self.order.pace {
            Pace::Rate(_, publications) | Pace::Lanes(_, publications, _) => publications,
            Pace::Rounds(..) => self.published.attempted.total(),
        };
        let expected = self.expected(publications);
        let findings = self.fleet.close(&self.published.attempted)?;
        let found = found::Found {
            order: self.order,
            connections: self.connections,
            findings,
            published: self.published,
            publications,
            expected,
            spent: self.spent,
            took: self.took,
            idle: self.idle,
            open: self.open,
            rested,
            inspected,
        };
        Ok(found.tell(environment))
    }
}
