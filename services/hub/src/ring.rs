//! The recent entries of a channel on this node.
//!
//! A subscriber's place is a sequence number of the ring, so a slow subscriber costs a number, not copies. Who falls
//! behind the ring's tail has overrun it, and catches up from the log or is told.
//!
//! The ring may hold more than the log, and longer. That serves those who are connected; who resumes gets what the log
//! has: see [`retained`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::Retention;
use fanway_protocol::{Position, Publication};

use crate::entry::{Entry, Kind};

/// Recent entries, the newest at the back.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// Sequence number of the front entry.
    first: u64,
    /// Sum of the entries' costs, encodings included.
    bytes: usize,
}

impl Ring {
    /// The sequence number that the next entry will get.
    pub(crate) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The sequence number of the oldest entry still here.
    pub(crate) fn tail(&self) -> u64 {
        self.first
    }

    /// Position right before the front entry, if that entry tells it: lets a resume from exactly there be served without
    /// reading the log.
    fn base(&self) -> Option<Position> {
        let front = self.entries.front()?;
        match front.kind {
            Kind::Publication { first_of_epoch: false, .. } => {
                let Position { epoch, offset } = front.position?;
                Some(Position { epoch, offset: offset.checked_sub(1)? })
            }
            _ => None,
        }
    }

    /// Sum of the costs of its entries.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends, and drops the oldest beyond the bounds. Returns the change of the bytes held.
    pub(crate) fn push(&mut self, entry: Arc<Entry>, max_entries: usize, max_bytes: usize) -> isize {
        let before = self.bytes as isize;
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        // The newest entry always stays: it is what everybody waits for.
        while self.entries.len() > 1 && (self.entries.len() > max_entries || self.bytes > max_bytes) {
            self.pop();
        }
        self.bytes as isize - before
    }

    /// Charges the encodings that were made of an entry since it was pushed, if it is still here. Returns their bytes. What
    /// they are beyond the bound is dropped with the next push: others may be about to read it.
    pub(crate) fn charge(&mut self, seq: u64, entry: &Entry) -> usize {
        let here = self.get(seq).is_some_and(|here| std::ptr::eq(&**here, entry));
        let grown = if here { entry.charge() } else { 0 };
        self.bytes += grown;
        grown
    }

    /// Drops the oldest entries as long as they are such. Returns the bytes freed.
    pub(crate) fn drop_while(&mut self, such: impl Fn(&Entry) -> bool) -> usize {
        let before = self.bytes;
        while self.entries.front().is_some_and(|entry| such(entry)) {
            self.pop();
        }
        if self.entries.is_empty() {
            self.entries.shrink_to_fit();
        }
        before - self.bytes
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.first += 1;
            self.bytes -= entry.cost();
        }
    }

    /// The entry with a sequence number, if it is still here.
    pub(crate) fn get(&self, seq: u64) -> Option<&Arc<Entry>> {
        self.entries.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// The entries from a sequence number on.
    pub(crate) fn from(&self, seq: u64) -> impl Iterator<Item = &Arc<Entry>> {
        let at = usize::try_from(seq.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.range(at.min(self.entries.len())..)
    }

    /// The publications after `cursor` and before the sequence number `until`, where the stream stood at `head`, if this
    /// alone can tell: `cursor` is exactly one of the positions here, no gap lies between, and the log still has them as
    /// far as this node can know. `(epoch, offset)` names one publication and its whole past, so an equal position is
    /// proof of an equal past.
    pub(crate) fn since(
        &self,
        cursor: Position,
        head: Option<Position>,
        until: u64,
        retention: Retention,
        now: Instant,
    ) -> Option<Vec<(Position, Arc<Publication>)>> {
        if head == Some(cursor) {
            return Some(Vec::new());
        }
        let end = usize::try_from(until.checked_sub(self.first)?).ok()?.min(self.entries.len());
        let start = if self.base() == Some(cursor) {
            0
        } else {
            1 + self
                .entries
                .range(..end)
                .rposition(|entry| entry.position == Some(cursor) && matches!(entry.kind, Kind::Publication { .. }))?
        };
        // A publication that skipped the history has no place in what is resumed.
        let missed = self.entries.range(start..end);
        let missed = missed.filter(|entry| entry.position.is_some() || !entry.is_publication());
        if !retained(missed.clone(), retention, now) {
            return None;
        }
        missed
            .map(|entry| match &entry.kind {
                Kind::Publication { publication, .. } => Some((entry.position?, publication.clone())),
                Kind::Gap { .. } => None,
            })
            .collect()
    }
}

/// Two publications that came nearly a lifetime apart: whether the log had expired in between, only it can tell.
const SLACK: Duration = Duration::from_secs(1);

/// Whether the log still has these, its newest publications, by what this node has received: no more of them than it
/// keeps, the last one younger than their lifetime, and no pause between them in which all before it expired. If the age
/// of one is unknown, so is the pause on either side of it, or the time since the last one: the log decides.
fn retained<'a>(missed: impl Iterator<Item = &'a Arc<Entry>>, retention: Retention, now: Instant) -> bool {
    let (mut count, mut last) = (0, None);
    for entry in missed {
        if !entry.age_known() {
            return false;
        }
        let pause = last.map(|last| entry.received.saturating_duration_since(last));
        if pause.is_some_and(|pause| pause + SLACK >= retention.ttl) {
            return false;
        }
        count += 1;
        last = Some(entry.received);
    }
    count <= retention.count && last.is_none_or(|last| now.saturating_duration_since(last) < retention.ttl)
}

#[cfg(test)]
mod tests {
    use fanway_protocol::{Epoch, GapReason};

    use super::*;

    const KEPT: Retention = Retention { count: 100, ttl: Duration::from_secs(10), meta_ttl: Duration::from_secs(100) };

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch::parse("abcdefgh0123456789ab").unwrap(), offset }
    }

    fn publication(offset: u64) -> Arc<Entry> {
        Arc::new(Entry::publication(Arc::default(), Some(at(offset)), false, Instant::now()))
    }

    fn offsets(publications: Option<Vec<(Position, Arc<Publication>)>>) -> Option<Vec<u64>> {
        publications.map(|list| list.iter().map(|(position, _)| position.offset).collect())
    }

    #[test]
    fn serves_what_it_can_prove() {
        let mut ring = Ring::default();
        let since = |ring: &Ring, offset, head| {
            offsets(ring.since(at(offset), Some(at(head)), ring.head(), KEPT, Instant::now()))
        };
        assert_eq!(since(&ring, 4, 4), Some(vec![]));
        assert_eq!(since(&ring, 3, 4), None);
        for offset in 5..=9 {
            ring.push(publication(offset), 4, usize::MAX);
        }
        assert_eq!((ring.tail(), ring.head()), (1, 5));
        assert_eq!(since(&ring, 9, 9), Some(vec![]));
        assert_eq!(since(&ring, 5, 9), Some(vec![6, 7, 8, 9]), "from right before the tail");
        assert_eq!(since(&ring, 4, 9), None);
        assert_eq!(since(&ring, 10, 9), None);
        ring.push(Arc::new(Entry::gap(GapReason::Truncated, Some(at(3)), Instant::now())), 10, usize::MAX);
        assert_eq!(since(&ring, 7, 3), None, "never over a gap");
        ring.push(publication(4), 10, usize::MAX);
        assert_eq!(
            since(&ring, 3, 4),
            None,
            "a gap's position is where the stream goes on; its past is not in the ring"
        );
        assert!(ring.get(0).is_none() && ring.get(6).is_some() && ring.get(7).is_none());
    }

    #[test]
    fn what_the_log_has_dropped_is_not_served() {
        let retention = Retention { count: 2, ..KEPT };
        let (mut ring, start, second) = (Ring::default(), Instant::now(), Duration::from_secs(1));
        let push = |ring: &mut Ring, position, seconds| {
            let entry = Entry::publication(Arc::default(), position, false, start + second * seconds);
            ring.push(Arc::new(entry), 10, usize::MAX);
        };
        for offset in 1..=5u32 {
            push(&mut ring, Some(at(offset.into())), offset);
        }
        // What resumes from 2, 3, 4 and 5 are served.
        let served = |ring: &Ring, head: u64, seconds: u32| {
            let now = start + second * seconds;
            [2, 3, 4, 5].map(|from| offsets(ring.since(at(from), Some(at(head)), ring.head(), retention, now)))
        };
        let young = [None, Some(vec![4, 5]), Some(vec![5]), Some(vec![])];
        assert_eq!(served(&ring, 5, 5), young);
        assert_eq!(served(&ring, 5, 14), young, "the last one came at 5");
        assert_eq!(served(&ring, 5, 15), [None, None, None, Some(vec![])], "at the head nothing was missed");
        // A publication past the history does not prolong the log's life.
        push(&mut ring, None, 15);
        assert_eq!(served(&ring, 5, 15), [None, None, None, Some(vec![])]);
        // The next one with a place finds an empty log.
        push(&mut ring, Some(at(6)), 16);
        assert_eq!(served(&ring, 6, 16), [None, None, None, Some(vec![6])]);
    }

    #[test]
    fn a_pause_of_nearly_a_lifetime_is_for_the_log_to_judge() {
        let start = Instant::now();
        for (pause, expected) in [(8_999, Some(vec![2, 3])), (9_000, None), (20_000, None)] {
            let mut ring = Ring::default();
            for (offset, millis) in [(1, 0), (2, 1), (3, 1 + pause)] {
                let received = start + Duration::from_millis(millis);
                let entry = Entry::publication(Arc::default(), Some(at(offset)), false, received);
                ring.push(Arc::new(entry), 10, usize::MAX);
            }
            let now = start + Duration::from_millis(pause);
            assert_eq!(offsets(ring.since(at(1), Some(at(3)), ring.head(), KEPT, now)), expected, "{pause}");
        }
    }

    #[test]
    fn what_a_repair_has_read_is_for_the_log_to_judge() {
        // What resumes from 1, 2, 3 and 4 are served, if this one was repaired.
        for (repaired, expected) in [
            (1, [Some(vec![2, 3, 4]), Some(vec![3, 4]), Some(vec![4]), Some(vec![])]),
            (2, [None, Some(vec![3, 4]), Some(vec![4]), Some(vec![])]),
            (3, [None, None, Some(vec![4]), Some(vec![])]),
            (4, [None, None, None, Some(vec![])]),
        ] {
            let (mut ring, now) = (Ring::default(), Instant::now());
            for offset in 1..=4 {
                let entry = Entry::publication(Arc::default(), Some(at(offset)), false, now);
                let entry = if offset == repaired { entry.of_unknown_age() } else { entry };
                ring.push(Arc::new(entry), 10, usize::MAX);
            }
            let served = [1, 2, 3, 4].map(|from| offsets(ring.since(at(from), Some(at(4)), ring.head(), KEPT, now)));
            assert_eq!(served, expected, "{repaired}");
        }
    }

    #[test]
    fn what_begins_an_epoch_does_not_tell_what_was_before() {
        for (first_of_epoch, expected) in [(false, Some(vec![5])), (true, None)] {
            let mut ring = Ring::default();
            let entry = Entry::publication(Arc::default(), Some(at(5)), first_of_epoch, Instant::now());
            ring.push(Arc::new(entry), 4, usize::MAX);
            assert_eq!(offsets(ring.since(at(4), Some(at(5)), ring.head(), KEPT, Instant::now())), expected);
        }
    }
}
