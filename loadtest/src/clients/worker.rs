//! A thread that serves its share of the connections with one epoll loop.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::connection::Connection;
use super::{Faults, Plan, READY_WITHIN, Shared, socket};
use crate::check::Checker;
use crate::report::Latencies;
use crate::schedule::Schedule;
use crate::transport::{Fault, Memo, Opening, Signal, Wire};

/// Connections that may be on their way at once in one worker: fewer than any listen queue.
const OPENING_AT_ONCE: usize = 200;
/// How soon a worker notices that it is to stop.
const TICK: Duration = Duration::from_millis(20);
/// Bytes of one read. Shared by all connections of a worker.
const SCRATCH: usize = 64 * 1024;

/// What a worker leaves behind.
pub(super) struct Tally {
    /// One per connection that was subscribed, those that ended early included.
    pub(super) checkers: Vec<Checker>,
    /// From the moment a publication was due to its receipt.
    pub(super) latencies: Latencies,
    /// When the last publication came.
    pub(super) last: Option<Instant>,
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
    tally: Tally,
}

impl Worker {
    pub(super) fn new(index: usize, plan: Arc<Plan>, shared: Arc<Shared>) -> io::Result<Self> {
        let tally = Tally { checkers: Vec::new(), latencies: Latencies::new(), last: None, faults: Faults::default() };
        let (connections, opening, memo) = (Vec::new(), VecDeque::new(), Memo::default());
        Ok(Self { plan, shared, poll: Poll::new()?, connections, opening, unready: 0, index, memo, tally })
    }

    /// The thread's whole life. Connections are reset at its end.
    pub(super) fn run(mut self, opened_by: Schedule) -> io::Result<Tally> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; SCRATCH];
        while !self.shared.stop.load(Relaxed) {
            let now = Instant::now();
            self.open_due(opened_by, now);
            self.give_up_on_late_ones(now);
            let wait = match self.next_number() {
                Some(number) if self.unready < OPENING_AT_ONCE => opened_by.wait(number as u64, now).min(TICK),
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
        for connection in self.connections.drain(..).flatten().filter(|connection| connection.ready) {
            self.tally.checkers.push(connection.checker);
        }
        Ok(self.tally)
    }

    /// The number of the connection to open next, if any is left.
    fn next_number(&self) -> Option<usize> {
        let number = self.index + self.connections.len() * self.plan.workers;
        (number < self.plan.connections).then_some(number)
    }

    fn open_due(&mut self, opened_by: Schedule, now: Instant) {
        while let Some(number) = self.next_number() {
            if self.unready >= OPENING_AT_ONCE || !opened_by.wait(number as u64, now).is_zero() {
                return;
            }
            let token = self.connections.len();
            let opened = self.open(number, token);
            self.connections.push(None);
            match opened {
                Ok(connection) => {
                    self.connections[token] = Some(connection);
                    self.opening.push_back((now + READY_WITHIN, token));
                    self.unready += 1;
                }
                Err(error) => self.note_failure(&Fault::Io(error.kind())),
            }
        }
    }

    fn open(&self, number: usize, token: usize) -> io::Result<Connection> {
        let Plan { target, token: credential, transport, channels, .. } = &*self.plan;
        let mut stream = socket::connect(target.address, socket::source(number, target.address))?;
        self.poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        let mut output = Vec::new();
        let opening = Opening { target, token: credential, channel: &channels[number % channels.len()] };
        let wire = Wire::open(*transport, &opening, &mut output);
        Ok(Connection::new(stream, wire, output))
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
        let Some(connection) = &mut self.connections[token] else { return 0 };
        let Self { shared, plan, tally, memo, .. } = self;
        let was_ready = connection.ready;
        let mut delivered = 0;
        let outcome = connection.write().and_then(|()| {
            if !event.is_readable() {
                return Ok(());
            }
            connection.read(scratch, event.is_read_closed(), memo, |checker, signal, now| match signal {
                Signal::Publication { run, sequence } if run == plan.run => {
                    let counts = checker.note(sequence, plan.publications);
                    if counts {
                        delivered += 1;
                        tally.last = Some(now);
                        if let Some(publishing) = shared.publishing.get() {
                            tally.latencies.note(now.saturating_duration_since(publishing.due(sequence)));
                        }
                    }
                }
                Signal::Gap => tally.faults.note("the server announced a gap"),
                _ => {}
            })
        });
        if connection.ready && !was_ready {
            self.unready -= 1;
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
            self.tally.checkers.push(connection.checker);
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
