//! A thread that serves its share of the connections with one epoll loop.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fanway_protocol::Channel;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;

use super::connection::Connection;
use super::link::{Link, tls_config};
use super::{Faults, Plan, Shared, socket};
use crate::check::Checker;
use crate::clock;
use crate::report::Latencies;
use crate::schedule::Schedule;
use crate::transport::{Fault, Memo, Opening, Signal, Wire};

/// How soon a worker notices that it is to stop.
const TICK: Duration = Duration::from_millis(20);
/// Channels whose names are kept.
const FEW: u32 = 1024;
/// Bytes of one read. Shared by all connections of a worker.
const SCRATCH: usize = 64 * 1024;

/// What a worker leaves behind.
pub(super) struct Tally {
    /// The number of each connection that was subscribed, those that ended early included, and what it received in each
    /// of its channels.
    pub(super) received: Vec<(usize, Box<[Checker]>)>,
    /// From the first attempt to connect until subscribed.
    pub(super) connected: Latencies,
    /// From the moment a publication was due to its receipt.
    pub(super) latencies: Latencies,
    /// When the last publication came.
    pub(super) last: Option<u64>,
    /// What went wrong, by kind.
    pub(super) faults: Faults,
}

/// Serves connections `index`, `index + plan.workers`, ... until told to stop.
pub(super) struct Worker {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    poll: Poll,
    /// By token; `None` once a connection is over.
    connections: Vec<Option<Connection>>,
    /// Connections not yet subscribed, oldest first, with their deadlines; those that are by now are skipped.
    opening: VecDeque<(Instant, usize)>,
    /// Of those, how many really are.
    unready: usize,
    index: usize,
    memo: Memo,
    tls: Arc<ClientConfig>,
    /// The checked names of the channels, if they are few: every connection that opens needs its own.
    names: Vec<Channel>,
    tally: Tally,
}

impl Worker {
    pub(super) fn new(index: usize, plan: Arc<Plan>, shared: Arc<Shared>) -> io::Result<Self> {
        let tally = Tally {
            received: Vec::new(),
            connected: Latencies::new(),
            latencies: Latencies::new(),
            last: None,
            faults: Faults::default(),
        };
        let (connections, opening, tls) = (Vec::new(), VecDeque::new(), tls_config()?);
        let memo = if plan.channels.are_shared(plan.connections) { Memo::default() } else { Memo::off() };
        let few = 0..plan.channels.count.min(FEW);
        let names =
            few.map(|number| plan.channels.channel(number)).collect::<Result<_, _>>().map_err(io::Error::other)?;
        Ok(Self { plan, shared, poll: Poll::new()?, connections, opening, unready: 0, index, memo, tls, names, tally })
    }

    /// The thread's whole life. Connections are reset at its end.
    pub(super) fn run(mut self, opened_by: Schedule) -> io::Result<Tally> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; SCRATCH];
        while !self.shared.stop.load(Relaxed) {
            let now = Instant::now();
            self.open_due(opened_by, now);
            self.give_up_on_late_ones(now);
            let wait = match self.next_place() {
                Some(place) if self.unready < self.plan.opening_at_once => opened_by.wait(place as u64, now).min(TICK),
                _ => TICK,
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            let mut delivered = 0;
            for event in &events {
                delivered += self.serve(event, &mut scratch);
            }
            if delivered > 0 {
                self.shared.delivered.fetch_add(delivered, Relaxed);
            }
        }
        for (token, connection) in std::mem::take(&mut self.connections).into_iter().enumerate() {
            if let Some(connection) = connection.filter(|connection| connection.ready) {
                self.tally.received.push((self.number(token), connection.checkers));
            }
        }
        Ok(self.tally)
    }

    /// The place in the plan of the connection to open next, if any is left.
    fn next_place(&self) -> Option<usize> {
        let place = self.index + self.connections.len() * self.plan.workers;
        (place < self.plan.connections).then_some(place)
    }

    /// The number of the connection with a token.
    fn number(&self, token: usize) -> usize {
        self.plan.first + self.index + token * self.plan.workers
    }

    fn open_due(&mut self, opened_by: Schedule, now: Instant) {
        while let Some(place) = self.next_place() {
            if self.unready >= self.plan.opening_at_once || !opened_by.wait(place as u64, now).is_zero() {
                return;
            }
            let token = self.connections.len();
            let opened = self.open(token);
            self.connections.push(None);
            match opened {
                Ok(connection) => {
                    self.connections[token] = Some(connection);
                    self.opening.push_back((now + self.plan.ready_within, token));
                    self.unready += 1;
                }
                Err(error) => self.note_failure(&Fault::Io(error.kind())),
            }
        }
    }

    fn open(&self, token: usize) -> io::Result<Connection> {
        let number = self.number(token);
        let Plan { targets, tokens, transports, channels, .. } = &*self.plan;
        let target = &targets[number % targets.len()];
        let mut stream = socket::connect(target.address, socket::source(number, target.address))?;
        self.poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        let own = channels.of(number).map(|channel| match self.names.get(channel as usize) {
            Some(name) => Ok(name.clone()),
            None => channels.channel(channel),
        });
        let own = own.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let opening = Opening { target, token: tokens.of(number), channels: &own, resume: self.plan.resume.as_ref() };
        let mut output = Vec::new();
        let wire = Wire::open(transports.of(number), &opening, &mut output);
        let checkers = vec![Checker::starting_at(self.plan.from); own.len()].into();
        Ok(Connection::new(Link::new(stream, target, &self.tls)?, wire, output, checkers))
    }

    fn give_up_on_late_ones(&mut self, now: Instant) {
        while let Some(&(deadline, token)) = self.opening.front() {
            let waits = self.connections[token].as_ref().is_some_and(|connection| !connection.ready);
            if waits && deadline > now {
                return;
            }
            self.opening.pop_front();
            if waits {
                self.end(token, &Fault::TimedOut);
            }
        }
    }

    /// Serves one connection and returns how many publications it received.
    fn serve(&mut self, event: &Event, scratch: &mut [u8]) -> u64 {
        let Token(token) = event.token();
        let number = self.number(token);
        let Some(connection) = &mut self.connections[token] else { return 0 };
        let Self { plan, tally, memo, .. } = self;
        let was_ready = connection.ready;
        if was_ready && number < plan.stalled {
            return 0;
        }
        let mut delivered = 0;
        let outcome = connection.write().and_then(|()| {
            if !event.is_readable() {
                return Ok(());
            }
            connection.read(scratch, event.is_read_closed(), memo, |checkers, signal, now| match signal {
                Signal::Publication { run, channel, sequence, due } if run == plan.run => {
                    let Some(place) = plan.channels.place(number, channel) else {
                        return tally.faults.note("a publication of a channel that was not subscribed");
                    };
                    if checkers[place].note(sequence, plan.publications) {
                        delivered += 1;
                        tally.last = Some(now);
                        tally.latencies.note(clock::since(due, now));
                    }
                }
                Signal::Gap => tally.faults.note("the server announced a gap"),
                _ => {}
            })
        });
        if connection.ready && !was_ready {
            self.unready -= 1;
            self.tally.connected.note(clock::since(connection.begun, clock::now()));
            self.shared.ready.fetch_add(1, Relaxed);
        }
        if let Err(fault) = outcome {
            self.end(token, &fault);
        }
        delivered
    }

    fn end(&mut self, token: usize, fault: &Fault) {
        let Some(connection) = self.connections[token].take() else { return };
        if connection.ready {
            self.tally.received.push((self.number(token), connection.checkers));
            self.shared.ended.fetch_add(1, Relaxed);
            self.tally.faults.note(&fault.to_string());
        } else {
            self.unready -= 1;
            self.note_failure(fault);
        }
    }

    fn note_failure(&mut self, fault: &Fault) {
        self.shared.failed.fetch_add(1, Relaxed);
        self.tally.faults.note(&fault.to_string());
    }
}
