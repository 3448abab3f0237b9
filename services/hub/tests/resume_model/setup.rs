//! What one search explores: how often each fault may happen, and which rules are kept.

use fanway_hub::HoldLimit;

/// How clients follow a change of epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Learns the epoch of each publication (SSE, polling).
    Follows,
    /// Keeps the epoch of its last subscribe reply; the node makes it subscribe again at a change.
    Resubscribes,
    /// As [`Kind::Resubscribes`], but takes over the epoch that the first publication of an epoch carries.
    Adopts,
    /// Keeps the epoch of its last subscribe reply, and nobody cares.
    Forgets,
}

/// A rule that a search can do without, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An epoch of the ledger ends where the next one begins.
    EndOfEpoch,
    /// A publish under another reign opens an epoch.
    Reign,
    /// An epoch's name is new each time.
    RandomEpoch,
    /// The log is read after the feed is confirmed.
    SubscribeFirst,
    /// The log's top is compared now and then...
    PeriodicCheck,
    /// ... and its epoch too.
    PeriodicEpoch,
    /// A resume checks that the node's head is on the line it serves from.
    Seam,
    /// Each page of a resume is judged by the log and the head of its time.
    EachPage,
    /// What the stream brings during a resume waits for the reply.
    Hold,
    /// A node that finds the log without publications that it has passed on has that recorded in it (a cut)...
    Cut,
    /// ... also if something was published there since, by a marker...
    Marker,
    /// ... whose name is new each time...
    MarkerName,
    /// ... at the offset where the timelines part, so that positions after it stay valid...
    Fork,
    /// ... by what the log is when it is cut, not when it was read.
    CutDecides,
    /// A node that follows a log over a marker tells its clients...
    Notice,
    /// ... those who came before the loss, and no others.
    Start,
    /// Positions given away are in the epoch of the newest publication, not in one that is still empty.
    PositionOfTop,
    /// A log never goes back within a reign. No rule of ours: the operator's.
    NoRollback,
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub kind: Kind,
    /// The rules left out.
    pub without: &'static [Rule],
    pub publishes: u8,
    pub failovers: u8,
    /// A failover may promote a replica that lags.
    pub lossy: bool,
    /// A failover may wait for the replica.
    pub planned: bool,
    /// A failover may leave the old primary writable until it is healed.
    pub stale: bool,
    /// ... and that one may become the primary again without having been demoted.
    pub switchback: bool,
    /// Connections survive the demotion of their server.
    pub keeps_connections: bool,
    /// Losses of the whole log.
    pub flushes: u8,
    /// Restarts of the primary from an older snapshot.
    pub restarts: u8,
    /// Broken feeds.
    pub kills: u8,
    /// Publications lost on the way to a node.
    pub drops: u8,
    /// Times the client goes away, to resume at any node.
    pub moves: u8,
    /// It may also go away in the middle of a reply.
    pub partial: bool,
    /// Publications kept.
    pub retention: u64,
    /// Entries that a repair reads at once.
    pub read_limit: usize,
    /// Publications of a page of a resume.
    pub page: usize,
    /// A repair's answer takes time.
    pub slow_reads: bool,
    /// What a node holds meanwhile.
    pub hold_limit: HoldLimit,
    /// The nodes begin without a feed.
    pub cold: bool,
    /// The client begins before anything, and names no epoch.
    pub nameless: bool,
    /// Whether everything that was passed on and lost was told is judged too.
    pub told: bool,
}

impl Setup {
    /// No faults but one move.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            without: &[],
            publishes: 3,
            failovers: 0,
            lossy: false,
            planned: false,
            stale: false,
            switchback: false,
            keeps_connections: false,
            flushes: 0,
            restarts: 0,
            kills: 0,
            drops: 0,
            moves: 1,
            partial: false,
            retention: 3,
            read_limit: 10,
            page: 10,
            slow_reads: false,
            hold_limit: HoldLimit { publications: 10, kib: 10 },
            cold: false,
            nameless: false,
            told: false,
        }
    }

    pub fn keeps(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }
}
