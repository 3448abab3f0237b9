//! A share of the channels: their logs, idempotency keys and subscriptions, and what is due to be freed.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_protocol::{Channel, Epoch, Position, Publication};

use crate::{BrokerError, History, HistoryQuery, Idempotency, Ledger, LogView, PageLimit, Place, Retention};

/// Due things looked at in one call. A call adds at most three, so that a shard in use shrinks to what is alive.
const SWEEP: usize = 4;
/// Due things, and logs that were begun, looked at in one upkeep, which holds the lock for some milliseconds at most.
const UPKEEP: usize = 4096;
/// Logs never published to that a shard keeps without a subscriber. Anybody who may subscribe can begin them, and each costs
/// half a KiB to one for up to an hour.
const UNPUBLISHED: usize = 2048;
/// Logs looked at for one to drop beyond that number.
const LOOKS: usize = 8;
/// Tables up to this many places are not shrunk.
const SMALL_TABLE: usize = 64;

/// Channels that share a lock.
#[derive(Default)]
pub(super) struct Shard {
    /// Logs, some perhaps past their time.
    logs: HashMap<Channel, Log>,
    /// Results of publishes with an idempotency key, some perhaps past their time.
    results: HashMap<Channel, HashMap<Box<str>, Stored>>,
    /// Channels whose publications go to the sink.
    subscribed: HashSet<Channel>,
    /// Logs that were begun without a publication, those first that were looked at longest ago. Some have been published to
    /// since, or are gone.
    begun: VecDeque<Channel>,
    /// Logs that are not in `due`: never published to.
    unpublished: usize,
    /// When to look at what. Each log that was published to, each log's kept entries and each stored result are in it once,
    /// perhaps early.
    due: BinaryHeap<Due>,
}

/// The stored result of a publish.
struct Stored {
    fingerprint: [u8; 16],
    position: Option<Position>,
    expires: Instant,
}

/// Something to look at when its time has come. Ordered so that the earliest is the heap's greatest.
#[derive(PartialEq, Eq)]
struct Due {
    at: Instant,
    what: What,
}

#[derive(PartialEq, Eq)]
enum What {
    /// A log's entries.
    Entries(Channel),
    /// A whole log.
    Log(Channel),
    /// A stored result.
    Result(Channel, Box<str>),
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Shard {
    /// The channel's log, if there is one and it has not expired.
    pub(super) fn log(&mut self, channel: &Channel, now: Instant) -> Option<&mut Log> {
        let log = self.logs.get_mut(channel)?;
        if log.meta_expires <= now {
            return None;
        }
        log.forget_old_entries(now);
        Some(log)
    }

    /// The channel's log; an empty one in a new epoch if there is none.
    pub(super) fn log_or_new(
        &mut self,
        channel: &Channel,
        retention: Retention,
        now: Instant,
        epoch: impl FnOnce() -> Epoch,
    ) -> &mut Log {
        let Self { logs, begun, unpublished, subscribed, .. } = self;
        let new = || Log {
            epoch: epoch(),
            top: 0,
            entries: VecDeque::new(),
            entries_expire: now,
            entries_due: false,
            is_due: false,
            meta_life: retention.unpublished_life(),
            meta_expires: later(now, retention.unpublished_life()),
        };
        if !logs.contains_key(channel) {
            while *unpublished >= UNPUBLISHED && drop_unpublished(logs, begun, subscribed) {
                *unpublished -= 1;
            }
        }
        match logs.entry(channel.clone()) {
            Entry::Occupied(entry) => {
                let log = entry.into_mut();
                if log.meta_expires <= now {
                    *log = Log { entries_due: log.entries_due, is_due: log.is_due, ..new() };
                }
                log.forget_old_entries(now);
                log
            }
            Entry::Vacant(entry) => {
                *unpublished += 1;
                begun.push_back(channel.clone());
                entry.insert(new())
            }
        }
    }

    /// Appends to the channel's log, which begins with this publication if there is none.
    pub(super) fn append(
        &mut self,
        channel: &Channel,
        publication: Arc<Publication>,
        retention: Retention,
        now: Instant,
        epoch: impl FnOnce() -> Epoch,
    ) -> Place {
        let log = self.log_or_new(channel, retention, now, epoch);
        let place = log.append(publication, retention, now);
        let (entries_expire, meta_expires) = (log.entries_expire, log.meta_expires);
        let (entries_due, is_due) =
            (std::mem::replace(&mut log.entries_due, true), std::mem::replace(&mut log.is_due, true));
        if !entries_due {
            self.due.push(Due { at: entries_expire, what: What::Entries(channel.clone()) });
        }
        if !is_due {
            self.unpublished -= 1;
            self.due.push(Due { at: meta_expires, what: What::Log(channel.clone()) });
        }
        place
    }

    /// The result of an earlier publish with this key: `None` if there is none, an error if its body was another.
    #[allow(clippy::option_option, reason = "outer: was there one; inner: its position, if the channel keeps a log")]
    pub(super) fn earlier(
        &self,
        channel: &Channel,
        idempotency: &Idempotency<'_>,
        now: Instant,
    ) -> Result<Option<Option<Position>>, BrokerError> {
        let stored = self.results.get(channel).and_then(|of_channel| of_channel.get(idempotency.key));
        match stored.filter(|stored| stored.expires > now) {
            Some(stored) if stored.fingerprint == idempotency.fingerprint => Ok(Some(stored.position)),
            Some(_) => Err(BrokerError::IdempotencyConflict),
            None => Ok(None),
        }
    }

    /// Keeps the result of a publish under its key.
    pub(super) fn remember(
        &mut self,
        channel: &Channel,
        idempotency: &Idempotency<'_>,
        position: Option<Position>,
        now: Instant,
    ) {
        let key: Box<str> = Box::from(idempotency.key);
        let expires = later(now, idempotency.ttl);
        let stored = Stored { fingerprint: idempotency.fingerprint, position, expires };
        if self.results.entry(channel.clone()).or_default().insert(key.clone(), stored).is_none() {
            self.due.push(Due { at: expires, what: What::Result(channel.clone(), key) });
        }
    }

    pub(super) fn subscribe(&mut self, channel: &Channel) {
        self.subscribed.insert(channel.clone());
    }

    pub(super) fn unsubscribe(&mut self, channel: &Channel) {
        self.subscribed.remove(channel);
    }

    pub(super) fn is_subscribed(&self, channel: &Channel) -> bool {
        self.subscribed.contains(channel)
    }

    /// Frees a few of the things past their time; what lives longer than thought is looked at again later.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.look_at(SWEEP, now);
    }

    /// Frees what is past its time, and gives memory back where most of it is unused.
    pub(super) fn upkeep(&mut self, now: Instant) {
        self.look_at(UPKEEP, now);
        for _ in 0..self.begun.len().min(UPKEEP) {
            let Some(channel) = self.begun.pop_front() else { break };
            match self.logs.get(&channel).filter(|log| !log.is_due).map(|log| log.meta_expires) {
                // Published to, or gone.
                None => {}
                Some(expires) if expires > now => self.begun.push_back(channel),
                Some(_) => {
                    self.unpublished -= 1;
                    self.logs.remove(&channel);
                }
            }
        }
        shrink(self.begun.len(), self.begun.capacity(), |to| self.begun.shrink_to(to));
        shrink(self.due.len(), self.due.capacity(), |to| self.due.shrink_to(to));
        shrink(self.logs.len(), self.logs.capacity(), |to| self.logs.shrink_to(to));
        shrink(self.results.len(), self.results.capacity(), |to| self.results.shrink_to(to));
        shrink(self.subscribed.len(), self.subscribed.capacity(), |to| self.subscribed.shrink_to(to));
    }

    fn look_at(&mut self, most: usize, now: Instant) {
        for _ in 0..most {
            let Some(due) = self.due.peek().is_some_and(|due| due.at <= now).then(|| self.due.pop()).flatten() else {
                return;
            };
            let again = match &due.what {
                What::Entries(channel) => self.sweep_entries(channel, now),
                What::Log(channel) => self.sweep_log(channel, now),
                What::Result(channel, key) => self.sweep_result(channel, key, now),
            };
            if let Some(at) = again {
                self.due.push(Due { at, what: due.what });
            }
        }
    }

    /// When to look at the log's entries again; `None` when they are gone.
    fn sweep_entries(&mut self, channel: &Channel, now: Instant) -> Option<Instant> {
        let log = self.logs.get_mut(channel)?;
        log.forget_old_entries(now);
        log.entries_due = !log.entries.is_empty();
        log.entries_due.then_some(log.entries_expire)
    }

    /// When to look at the log again; `None` when it is gone.
    fn sweep_log(&mut self, channel: &Channel, now: Instant) -> Option<Instant> {
        let expires = self.logs.get(channel)?.meta_expires;
        if expires > now {
            return Some(expires);
        }
        self.logs.remove(channel);
        None
    }

    /// When to look at the stored result again; `None` when it is gone.
    fn sweep_result(&mut self, channel: &Channel, key: &str, now: Instant) -> Option<Instant> {
        let of_channel = self.results.get_mut(channel)?;
        let expires = of_channel.get(key)?.expires;
        if expires > now {
            return Some(expires);
        }
        of_channel.remove(key);
        if of_channel.is_empty() {
            self.results.remove(channel);
        }
        None
    }
}

/// Drops a log that was never published to and has no subscriber, of those that were begun first. Who was subscribed to it
/// before comes back to a new epoch, and has an honest gap. False if there is none among the first few.
fn drop_unpublished(
    logs: &mut HashMap<Channel, Log>,
    begun: &mut VecDeque<Channel>,
    subscribed: &HashSet<Channel>,
) -> bool {
    let mut looks = 0;
    while looks < LOOKS
        && let Some(channel) = begun.pop_front()
    {
        // Published to, or gone: it does not belong here.
        if logs.get(&channel).is_none_or(|log| log.is_due) {
            continue;
        }
        if !subscribed.contains(&channel) {
            logs.remove(&channel);
            return true;
        }
        looks += 1;
        begun.push_back(channel);
    }
    false
}

/// Shrinks a table of which most is unused, to twice of what is used.
fn shrink(len: usize, capacity: usize, shrink_to: impl FnOnce(usize)) {
    if capacity > SMALL_TABLE && len < capacity / 4 {
        shrink_to(len * 2);
    }
}

/// One channel's log.
pub(super) struct Log {
    /// The line. It changes only with the whole log: a process has one reign.
    epoch: Epoch,
    /// The newest offset.
    top: u64,
    /// The newest publications with their offsets, dense, oldest first.
    entries: VecDeque<(u64, Arc<Publication>)>,
    /// When the entries go unless something is published before.
    entries_expire: Instant,
    /// Whether the entries are in [`Shard::due`].
    entries_due: bool,
    /// Whether the log is in [`Shard::due`]: it was published to, now or before its epoch.
    is_due: bool,
    /// How long epoch and top live after the last publish or refresh.
    meta_life: Duration,
    /// When epoch and top go.
    meta_expires: Instant,
}

impl Log {
    pub(super) fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    fn append(&mut self, publication: Arc<Publication>, retention: Retention, now: Instant) -> Place {
        self.top += 1;
        self.entries.push_back((self.top, publication));
        let surplus = self.entries.len().saturating_sub(retention.count as usize);
        self.entries.drain(..surplus);
        self.entries_expire = later(now, retention.ttl);
        self.meta_life = retention.meta_life();
        self.refresh(now);
        Place { position: self.top(), previous_epoch: self.epoch }
    }

    /// Prolongs the life of epoch and top.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.meta_expires = later(now, self.meta_life);
    }

    fn forget_old_entries(&mut self, now: Instant) {
        if self.entries_expire <= now && !self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::new(self.epoch)
    }

    /// Where in `entries` the first entry after `offset` stands.
    fn after(&self, offset: u64) -> usize {
        self.entries.partition_point(|(entry, _)| *entry <= offset)
    }

    pub(super) fn view(&self, since: Option<u64>, limit: PageLimit) -> LogView {
        let entries = match since {
            Some(offset) => page(self.entries.range(self.after(offset)..), limit).cloned().collect(),
            None => Vec::new(),
        };
        let oldest = self.entries.front().map_or(self.top + 1, |(offset, _)| *offset);
        LogView { top: self.top(), ledger: self.ledger(), oldest, entries }
    }

    pub(super) fn history(&self, query: HistoryQuery) -> History {
        let since_valid = query.since.is_none_or(|since| self.ledger().holds(since, self.top));
        let place = |(offset, publication): &(u64, Arc<Publication>)| {
            (Position { epoch: self.epoch, offset: *offset }, publication.clone())
        };
        let publications = match query.since {
            _ if !since_valid => Vec::new(),
            None if query.reverse => page(self.entries.iter().rev(), query.limit).map(place).collect(),
            None => page(self.entries.iter(), query.limit).map(place).collect(),
            Some(since) if query.reverse => {
                let end = self.after(since.offset.saturating_sub(1));
                page(self.entries.range(..end).rev(), query.limit).map(place).collect()
            }
            Some(since) => page(self.entries.range(self.after(since.offset)..), query.limit).map(place).collect(),
        };
        History { publications, top: self.top(), since_valid }
    }
}

/// The first of these entries, as many as a page has room for.
fn page<'a>(
    entries: impl Iterator<Item = &'a (u64, Arc<Publication>)> + Clone,
    limit: PageLimit,
) -> impl Iterator<Item = &'a (u64, Arc<Publication>)> {
    let count = limit.fit(entries.clone().map(|(_, publication)| publication.size()));
    entries.take(count)
}

/// `now` and a lifetime; for a lifetime beyond what a clock can say, so far ahead that nobody sees it.
fn later(now: Instant, life: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
    now.checked_add(life.min(FAR)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETENTION: Retention =
        Retention { count: 3, ttl: Duration::from_secs(10), meta_ttl: Duration::from_secs(100) };

    fn publish(shard: &mut Shard, channel: &Channel, now: Instant) {
        let epoch = || Epoch::parse("aaaaaaaabbbbbbbbbbbb").unwrap();
        shard.append(channel, Arc::default(), RETENTION, now, epoch);
    }

    #[test]
    fn what_is_past_its_time_is_freed_by_later_calls() {
        let mut shard = Shard::default();
        let start = Instant::now();
        for i in 0..1000 {
            let channel = Channel::new(&format!("short:{i}")).unwrap();
            publish(&mut shard, &channel, start);
            let idempotency = Idempotency { key: "k", fingerprint: [0; 16], ttl: Duration::from_secs(5) };
            shard.remember(&channel, &idempotency, None, start);
        }
        assert_eq!((shard.logs.len(), shard.results.len(), shard.due.len()), (1000, 1000, 3000));
        // A channel in use: each publish sweeps. Entries go first (1000 looks), then whole logs.
        let busy = Channel::new("busy").unwrap();
        let mut at = |seconds, calls| {
            let now = start + Duration::from_secs(seconds);
            for _ in 0..calls {
                shard.sweep(now);
                publish(&mut shard, &busy, now);
            }
            (shard.logs.len(), shard.results.len(), shard.logs.values().map(|log| log.entries.len()).sum::<usize>())
        };
        assert_eq!(at(20, 600), (1001, 0, 3));
        assert_eq!(at(120, 300), (1, 0, 3));
        assert_eq!(shard.due.len(), 2);
    }

    fn channel(name: impl std::fmt::Display) -> Channel {
        Channel::new(&format!("c:{name}")).unwrap()
    }

    fn begin(shard: &mut Shard, channel: &Channel, now: Instant) {
        shard.log_or_new(channel, RETENTION, now, || Epoch::parse("aaaaaaaabbbbbbbbbbbb").unwrap());
    }

    #[test]
    fn logs_that_nobody_publishes_to_are_bounded() {
        let (mut shard, now) = (Shard::default(), Instant::now());
        let (kept, published) = (channel("kept"), channel("published"));
        shard.subscribe(&kept);
        begin(&mut shard, &kept, now);
        begin(&mut shard, &published, now);
        publish(&mut shard, &published, now);
        for i in 0..UNPUBLISHED * 3 {
            begin(&mut shard, &channel(i), now);
        }
        assert_eq!((shard.logs.len(), shard.unpublished), (UNPUBLISHED + 1, UNPUBLISHED));
        assert_eq!(shard.due.len(), 2, "of the one that was published to");
        assert!(shard.begun.len() <= UNPUBLISHED + 1);
        assert!(shard.log(&kept, now).is_some(), "it has a subscriber");
        assert_eq!(shard.log(&published, now).unwrap().top().offset, 1);
        assert!(shard.log(&channel(0), now).is_none() && shard.log(&channel(UNPUBLISHED * 3 - 1), now).is_some());
        // With subscribers there may be more.
        for i in 0..UNPUBLISHED * 2 {
            shard.subscribe(&channel(i));
            begin(&mut shard, &channel(i), now);
        }
        assert!(shard.unpublished >= UNPUBLISHED * 2);
    }

    #[test]
    fn what_is_past_its_time_is_given_back_without_a_call() {
        let (mut shard, start) = (Shard::default(), Instant::now());
        for i in 0..UNPUBLISHED {
            begin(&mut shard, &channel(i), start);
        }
        let subscribed = channel("subscribed");
        shard.subscribe(&subscribed);
        begin(&mut shard, &subscribed, start);
        let hour = start + Duration::from_secs(3600);
        shard.log(&subscribed, hour - Duration::from_secs(3599)).unwrap().refresh(hour);
        for _ in 0..2 {
            shard.upkeep(hour);
        }
        assert_eq!((shard.logs.len(), shard.unpublished, shard.due.len()), (1, 1, 0));
        assert!(shard.begun.len() <= SMALL_TABLE);
        assert!(shard.logs.capacity() <= SMALL_TABLE && shard.due.capacity() <= SMALL_TABLE);
        assert!(shard.begun.capacity() <= SMALL_TABLE);
    }

    #[test]
    fn the_number_of_unpublished_logs_is_right_whatever_happens() {
        let (mut shard, start) = (Shard::default(), Instant::now());
        let mut now = start;
        for step in 0..3000_u64 {
            let channel = channel(step * 7 % 13);
            match step % 5 {
                0 | 1 => begin(&mut shard, &channel, now),
                2 => publish(&mut shard, &channel, now),
                3 => shard.upkeep(now),
                _ => now += Duration::from_secs(step * 11 % 97),
            }
            let unpublished = shard.logs.values().filter(|log| !log.is_due).count();
            let due = shard.due.iter().filter(|due| matches!(due.what, What::Log(_))).count();
            assert_eq!((shard.unpublished, due), (unpublished, shard.logs.len() - unpublished), "after step {step}");
            assert!(shard.logs.values().all(|log| log.top == 0 || log.is_due));
        }
    }

    #[test]
    fn a_log_that_was_never_published_to_lives_for_an_hour_at_a_time() {
        let mut shard = Shard::default();
        let (channel, start) = (Channel::new("news").unwrap(), Instant::now());
        let retention = Retention { meta_ttl: Duration::from_secs(30 * 86_400), ..RETENTION };
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let epoch = || Epoch::parse("aaaaaaaabbbbbbbbbbbb").unwrap();
        shard.log_or_new(&channel, retention, start, epoch);
        shard.log(&channel, at(59)).unwrap().refresh(at(59));
        assert!(shard.log(&channel, at(118)).is_some() && shard.log(&channel, at(119)).is_none());
        shard.append(&channel, Arc::default(), retention, at(118), epoch);
        assert!(shard.log(&channel, at(118 + 29 * 24 * 60)).is_some());
    }

    #[test]
    fn a_refreshed_log_outlives_its_first_deadline_but_not_its_entries() {
        let mut shard = Shard::default();
        let channel = Channel::new("news").unwrap();
        let start = Instant::now();
        publish(&mut shard, &channel, start);
        shard.log(&channel, start).unwrap().refresh(start + Duration::from_secs(90));
        let later = start + Duration::from_secs(150);
        shard.sweep(later);
        let log = shard.log(&channel, later).unwrap();
        assert_eq!((log.top().offset, log.view(Some(0), PageLimit::entries(10)).entries.len()), (1, 0));
        assert!(shard.log(&channel, start + Duration::from_secs(191)).is_none());
    }
}
