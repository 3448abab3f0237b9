//! The sequencer against a naive log, with a feed that loses, repeats and reorders, and a server that forgets.
#![allow(clippy::unwrap_used)]

use fanway_broker::{Ledger, LogTop, LogView, Place};
use fanway_hub::{Answered, HoldLimit, Incoming, Sequencer, Step};
use fanway_protocol::{Epoch, Position};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

/// A publication and its predecessor, by ids that are never used twice.
#[derive(Clone, Debug)]
struct Numbered {
    id: u64,
    after: u64,
}

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    Publish,
    /// The feed brings one of those on the way, by its place in the queue.
    Hear(usize),
    Repeat(usize),
    Lose(usize),
    /// One that cannot be read, or does not fit into the node's inbox.
    Unreadable(usize),
    /// Nobody wants the channel for now.
    Release,
    Interrupted,
    Restored,
    Check,
    /// A read with this limit sees the log.
    Asked(usize),
    Answered,
    Unanswered,
    /// Another server rules, which lacks so many of the newest publications.
    Reign(usize),
    Flush,
}

/// The log: nothing is forgotten but by losses; retention applies to views alone.
struct Log {
    root: u64,
    ids: Vec<u64>,
    epochs: Vec<(Epoch, u64)>,
    /// The next publication opens an epoch.
    new_reign: bool,
}

struct World {
    log: Log,
    retention: u64,
    ids: u64,
    epochs: u64,
    feed: Vec<Incoming<Numbered>>,
    connected: bool,
    sequencer: Sequencer<Numbered>,
    /// The id of the publication that a reader of the stream saw last.
    reader: u64,
    /// A view on its way, the id of its top, and whether it can continue the reader.
    answer: Option<(LogView<Numbered>, u64, bool)>,
    gaps: u32,
}

impl World {
    fn new(retention: u64, hold_limit: HoldLimit) -> Self {
        let log = Log { root: 0, ids: Vec::new(), epochs: Vec::new(), new_reign: false };
        let mut world = Self {
            log,
            retention,
            ids: 1,
            epochs: 0,
            feed: Vec::new(),
            connected: true,
            sequencer: Sequencer::new(hold_limit),
            reader: 0,
            answer: None,
            gaps: 0,
        };
        let epoch = world.fresh_epoch();
        world.log.epochs.push((epoch, 1));
        world.sequencer.restored();
        world
    }

    fn fresh_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids - 1
    }

    fn fresh_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch::parse(&format!("{:020}", self.epochs)).unwrap()
    }

    fn top(&self) -> Position {
        Position { epoch: self.log.epochs.last().unwrap().0, offset: self.log.ids.len() as u64 }
    }

    fn id(&self, offset: u64) -> u64 {
        if offset == 0 { self.log.root } else { self.log.ids[offset as usize - 1] }
    }

    fn log_top(&self) -> LogTop {
        LogTop { position: self.top(), ledger: Ledger::from_entries(self.log.epochs.clone()).unwrap() }
    }

    fn publish(&mut self) {
        let Position { epoch: previous_epoch, offset } = self.top();
        if std::mem::take(&mut self.log.new_reign) {
            let epoch = self.fresh_epoch();
            self.log.epochs.push((epoch, offset + 1));
        }
        let publication = Numbered { id: self.fresh_id(), after: self.id(offset) };
        self.log.ids.push(publication.id);
        if self.connected {
            self.feed.push(Incoming { place: Place { position: self.top(), previous_epoch }, publication });
        }
    }

    /// Another server with a shorter copy of the log. An epoch that lost all its publications was never heard of there.
    fn reign(&mut self, lost: usize) {
        self.log.ids.truncate(self.log.ids.len().saturating_sub(lost));
        let next = self.log.ids.len() as u64 + 1;
        let mut oldest = true;
        self.log.epochs.retain(|(_, first)| std::mem::take(&mut oldest) || *first < next);
        self.log.new_reign = true;
    }

    fn flush(&mut self) {
        let epoch = self.fresh_epoch();
        self.log = Log { root: self.fresh_id(), ids: Vec::new(), epochs: vec![(epoch, 1)], new_reign: false };
    }

    fn ask(&mut self, limit: usize) {
        let top = self.top();
        let oldest = top.offset.saturating_sub(self.retention);
        let since = self.sequencer.since().unwrap_or(top.offset);
        let entry = |offset| (offset, Numbered { id: self.id(offset), after: self.id(offset - 1) });
        let entries = (since.max(oldest) + 1..=top.offset).map(entry).take(limit).collect();
        let ledger = Ledger::from_entries(self.log.epochs.clone()).unwrap();
        let can_continue = (oldest..=top.offset).any(|offset| self.id(offset) == self.reader);
        self.answer = Some((LogView { top, ledger, oldest: oldest + 1, entries }, self.id(top.offset), can_continue));
        self.sequencer.asked();
    }

    fn answered(&mut self) -> TestCaseResult {
        let Some((view, top_id, can_continue)) = self.answer.take() else { return Ok(()) };
        let first = self.sequencer.head().is_none();
        let mut steps = Vec::new();
        let answered = self.sequencer.read(&view, &mut steps);
        prop_assert!(answered == Answered::Whole || self.sequencer.needs_read());
        if let Answered::CutFirst(lacking) = answered {
            prop_assert!(steps.is_empty() && !lacking.is_empty());
            // What the stream promises, it keeps without the record too.
            self.sequencer.cut_refused();
            self.ask(usize::MAX);
            return self.answered();
        }
        if first && self.sequencer.head().is_some() {
            self.reader = top_id;
        }
        for step in steps {
            if let Step::Gap { position, .. } = step {
                prop_assert!(!can_continue, "a false gap");
                prop_assert_eq!(position, view.top);
                self.gaps += 1;
                self.reader = top_id;
            } else {
                self.follow(step)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, incoming: Incoming<Numbered>) -> TestCaseResult {
        let mut steps = Vec::new();
        self.sequencer.live(incoming, size, &mut steps);
        steps.into_iter().try_for_each(|step| self.follow(step))
    }

    fn follow(&mut self, step: Step<Numbered>) -> TestCaseResult {
        let Step::Emit { publication, .. } = step else { return Err(TestCaseError::fail("a gap without a read")) };
        prop_assert_eq!(publication.after, self.reader, "not the successor");
        self.reader = publication.id;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> TestCaseResult {
        let nth = |index: usize, feed: &Vec<_>| index.checked_rem(feed.len());
        match event {
            Event::Publish => self.publish(),
            Event::Hear(index) => {
                if let Some(at) = nth(index, &self.feed) {
                    let incoming = self.feed.remove(at);
                    self.hear(incoming)?;
                }
            }
            Event::Repeat(index) => {
                if let Some(at) = nth(index, &self.feed) {
                    let incoming = self.feed[at].clone();
                    self.hear(incoming)?;
                }
            }
            Event::Lose(index) => drop(nth(index, &self.feed).map(|at| self.feed.remove(at))),
            Event::Unreadable(index) => {
                if let Some(at) = nth(index, &self.feed) {
                    self.feed.remove(at);
                    self.sequencer.suspect();
                }
            }
            Event::Release => self.sequencer.release(),
            Event::Interrupted => {
                self.connected = false;
                self.feed.clear();
                self.sequencer.interrupted();
            }
            Event::Restored if !self.connected => {
                self.connected = true;
                self.sequencer.restored();
            }
            Event::Restored => {}
            Event::Check => self.sequencer.check(Some(&self.log_top())),
            Event::Asked(limit) if self.sequencer.needs_read() => {
                prop_assert!(self.answer.is_none(), "one read at a time");
                self.ask(limit);
            }
            Event::Asked(_) => {}
            Event::Answered => self.answered()?,
            Event::Unanswered => {
                if self.answer.take().is_some() {
                    self.sequencer.unanswered();
                }
            }
            Event::Reign(lost) => self.reign(lost),
            Event::Flush => self.flush(),
        }
        Ok(())
    }

    /// No more faults: whatever is on the way arrives, and the stream must come to the log's top.
    fn settle(&mut self) -> TestCaseResult {
        self.happen(Event::Answered)?;
        self.happen(Event::Restored)?;
        for _ in 0..2 {
            let mut reads = 0;
            while self.sequencer.needs_read() {
                self.ask(2);
                self.answered()?;
                reads += 1;
                prop_assert!(reads < 500, "reads without an end");
            }
            for incoming in std::mem::take(&mut self.feed) {
                self.hear(incoming)?;
            }
            self.sequencer.check(Some(&self.log_top()));
            self.sequencer.needs_read().then(|| self.ask(usize::MAX));
            self.answered()?;
        }
        prop_assert!(self.sequencer.is_live());
        prop_assert_eq!(self.sequencer.head(), Some(self.top()));
        prop_assert_eq!(self.reader, self.id(self.top().offset));
        Ok(())
    }
}

/// Mostly the first: the feed keeps the order but for a fault.
fn index() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 1 => any::<usize>()]
}

/// Faults of the way between log and node.
fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => Just(Event::Publish),
        12 => index().prop_map(Event::Hear),
        1 => index().prop_map(Event::Repeat),
        1 => index().prop_map(Event::Lose),
        1 => index().prop_map(Event::Unreadable),
        1 => Just(Event::Release),
        1 => Just(Event::Interrupted),
        2 => Just(Event::Restored),
        1 => Just(Event::Check),
        6 => (1_usize..6).prop_map(Event::Asked),
        6 => Just(Event::Answered),
        1 => Just(Event::Unanswered),
    ]
}

/// Faults of the log too.
fn event_with_loss() -> impl Strategy<Value = Event> {
    prop_oneof![20 => event(), 1 => (0_usize..4).prop_map(Event::Reign), 1 => Just(Event::Flush)]
}

/// Sizes between 0 and 2 KiB, so that a small publication may follow one that does not fit.
fn size(publication: &Numbered) -> usize {
    (publication.id * 5 % 3) as usize * 1024
}

/// Few publications, or few bytes, or none of either.
fn hold_limit() -> impl Strategy<Value = HoldLimit> {
    (0_u16..4, 0_u16..5).prop_map(|(publications, kib)| HoldLimit { publications, kib })
}

fn run(retention: u64, hold_limit: HoldLimit, events: Vec<Event>) -> Result<World, TestCaseError> {
    let mut world = World::new(retention, hold_limit);
    for event in events {
        world.happen(event)?;
    }
    world.settle()?;
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn each_step_is_the_successor_or_an_honest_gap(
        retention in 1_u64..12,
        hold_limit in hold_limit(),
        events in prop::collection::vec(event_with_loss(), 1..160),
    ) {
        run(retention, hold_limit, events)?;
    }

    #[test]
    fn without_loss_in_the_log_there_is_no_gap(
        hold_limit in hold_limit(),
        events in prop::collection::vec(prop_oneof![20 => event(), 1 => Just(Event::Reign(0))], 1..160),
    ) {
        prop_assert_eq!(run(u64::MAX, hold_limit, events)?.gaps, 0);
    }
}
