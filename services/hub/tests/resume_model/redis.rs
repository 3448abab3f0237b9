//! The log as Redis keeps it: two servers with asynchronous replication, and the rules of the publish and read scripts.

use fanway_broker::{Ledger, LogTop, LogView, Place, Timeline};
use fanway_hub::Incoming;
use fanway_protocol::{Epoch, Position};

use crate::setup::{Rule, Setup};

/// A publication, known by its id and its predecessor's: the truth that no code under test sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Publication {
    pub id: u8,
    pub after: u8,
}

/// Every second publication has a byte, the others have none: one may fit after another did not.
pub fn size(publication: &Publication) -> usize {
    usize::from(publication.id % 2)
}

/// One channel's log on one server. What retention drops stays in `line`, so that the truth is whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// The id of "before anything"; each new log has its own.
    root: u8,
    /// Ids by offset.
    line: Vec<u8>,
    ledger: Ledger,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    pub master: bool,
    /// Stands for `master_replid`.
    pub reign: u8,
    pub log: Option<Log>,
}

/// Where fresh ids come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fresh {
    pub id: u8,
    pub epoch: u8,
    pub reign: u8,
}

pub fn take(counter: &mut u8) -> u8 {
    *counter += 1;
    *counter - 1
}

impl Fresh {
    /// As the script makes it: random characters, then the reign.
    fn epoch(&mut self, reign: u8, setup: &Setup) -> Epoch {
        let random = if setup.keeps(Rule::RandomEpoch) { take(&mut self.epoch) } else { 0 };
        epoch(random, reign)
    }
}

pub fn epoch(random: u8, reign: u8) -> Epoch {
    let mut text = *b"00000000000000000000";
    text[6] += random / 10;
    text[7] += random % 10;
    text[18] += reign / 10;
    text[19] += reign % 10;
    Epoch::from_bytes(&text).unwrap()
}

/// Name of a loss marker.
fn marker(random: u8) -> Epoch {
    let mut text = *b"00000000-lost-before";
    text[6] += random / 10;
    text[7] += random % 10;
    Epoch::from_bytes(&text).unwrap()
}

impl Log {
    pub fn new(root: u8, epoch: Epoch) -> Self {
        Self { root, line: Vec::new(), ledger: Ledger::new(epoch) }
    }

    /// What the read script and the comparison make of the meta.
    pub fn top(&self, setup: &Setup) -> Position {
        let offset = self.line.len() as u64;
        match setup.keeps(Rule::PositionOfTop) {
            true => self.ledger.position_of(offset),
            false => Position { epoch: self.ledger.current(), offset },
        }
    }

    pub fn log_top(&self, setup: &Setup) -> LogTop {
        LogTop { position: self.top(setup), ledger: self.ledger.clone() }
    }

    /// Offset of the newest publication.
    pub fn length(&self) -> u64 {
        self.line.len() as u64
    }

    pub fn has(&self, id: u8) -> bool {
        id == self.root || self.line.contains(&id)
    }

    /// The id of the publication at an offset.
    pub fn id(&self, offset: u64) -> u8 {
        if offset == 0 { self.root } else { self.line[offset as usize - 1] }
    }

    pub fn top_id(&self) -> u8 {
        self.id(self.length())
    }

    /// Whether the log has this publication and still all its successors.
    pub fn can_continue(&self, id: u8, setup: &Setup) -> bool {
        let top = self.length();
        (top.saturating_sub(setup.retention)..=top).any(|offset| self.id(offset) == id)
    }

    /// The read script.
    pub fn view(&self, since: Option<u64>, limit: usize, setup: &Setup) -> LogView<Publication> {
        let top = self.top(setup);
        let first = since.map_or(top.offset, |since| since.max(top.offset.saturating_sub(setup.retention))) + 1;
        let entry = |offset| (offset, Publication { id: self.id(offset), after: self.id(offset - 1) });
        let entries = (first..=top.offset).map(entry).take(limit).collect();
        let oldest = top.offset.saturating_sub(setup.retention) + 1;
        LogView { top, ledger: self.ledger.clone(), oldest, entries }
    }

    /// The cut script. `length`: of the log that the decision was made on.
    pub fn cut(&mut self, timeline: &Timeline, length: u64, epoch: Epoch, marker: Epoch, setup: &Setup) {
        let known = timeline.entries().iter().rev();
        let mut common = known.filter_map(|(epoch, last)| Some((*epoch, self.ledger.end_of(*epoch, length)?, *last)));
        let Some((name, end, known)) = common.next() else { return };
        let (fork, last) = (end.min(known), timeline.entries().last().unwrap().1);
        let recorded = setup.keeps(Rule::CutDecides) && self.ledger.marker().is_some_and(|(_, first)| first > fork);
        if fork >= last || recorded {
            return;
        }
        let next = self.length() + 1;
        let mut entries = Vec::new();
        if fork < length && setup.keeps(Rule::Fork) {
            if !setup.keeps(Rule::Marker) {
                return;
            }
            entries.push((marker, fork + 1));
            entries.extend((end > fork).then_some((name, fork + 1)));
            let later = self.ledger.entries().iter().skip_while(|entry| entry.0 != name).skip(1);
            entries.extend(later);
        }
        entries.push((epoch, next));
        self.ledger = Ledger::from_entries(entries).unwrap();
    }

    /// Opens an epoch at the next offset and forgets the epochs that end before the oldest publication kept.
    fn open(&mut self, epoch: Epoch, setup: &Setup) {
        let next = self.line.len() as u64 + 1;
        let first_kept = (next + 1).saturating_sub(setup.retention);
        let mut entries = self.ledger.entries().to_vec();
        entries.push((epoch, next));
        while entries.len() > 1 && entries[1].1 < first_kept {
            entries.remove(0);
        }
        self.ledger = Ledger::from_entries(entries).unwrap();
    }
}

impl Server {
    /// Creates an empty log if there is none.
    pub fn create(&mut self, fresh: &mut Fresh, setup: &Setup) -> &mut Log {
        let reign = self.reign;
        self.log.get_or_insert_with(|| Log::new(take(&mut fresh.id), fresh.epoch(reign, setup)))
    }

    /// The publish script.
    pub fn publish(&mut self, fresh: &mut Fresh, setup: &Setup) -> Incoming<Publication> {
        let reign = self.reign;
        let log = self.create(fresh, setup);
        let (previous_epoch, offset) = (log.ledger.current(), log.length());
        if previous_epoch.as_str()[8..] != epoch(0, reign).as_str()[8..] && setup.keeps(Rule::Reign) {
            log.open(fresh.epoch(reign, setup), setup);
        }
        let publication = Publication { id: take(&mut fresh.id), after: log.id(offset) };
        log.line.push(publication.id);
        let position = Position { epoch: log.ledger.current(), offset: log.length() };
        Incoming { place: Place { position, previous_epoch }, publication }
    }

    /// The cut script.
    pub fn cut(&mut self, timeline: &Timeline, length: u64, fresh: &mut Fresh, setup: &Setup) {
        let reign = self.reign;
        let Some(log) = &mut self.log else { return };
        let before = log.clone();
        let mut random = *fresh;
        let epoch = random.epoch(reign, setup);
        let name = if setup.keeps(Rule::MarkerName) { random.epoch - 1 } else { 0 };
        let length = if setup.keeps(Rule::CutDecides) { log.length() } else { length };
        log.cut(timeline, length, epoch, marker(name), setup);
        if *log != before {
            *fresh = random;
        }
    }
}
