//! What a node knows of the past of a channel's stream: the epochs that it went through.
//!
//! Compared with each view of the log, it shows that the log has lost publications which this node passed on. The record
//! of a loss can itself be lost, with the same snapshot once more, so timelines that ended in a gap are kept as well.
//! The whole of it is in `services/ARCHITECTURE.md` ("A lost tail").
//!
//! Most channels have gone through one epoch and lost nothing: they have no [`Past`].

use fanway_broker::{Ledger, LogView, Timeline};
use fanway_protocol::{Epoch, GapReason, Position};

/// Epochs kept of a timeline.
const MAX_EPOCHS: usize = 64;
/// Timelines kept that ended in a gap.
const MAX_LOST: usize = 8;

/// Past of a stream, beyond the position that it stands at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// Epochs before that of the position, with their last offsets, oldest first.
    older: Vec<(Epoch, u64)>,
    /// Timelines that ended in a gap, oldest first.
    lost: Vec<Timeline>,
    /// What a round of reads has found so far, if it has to have a loss recorded first.
    round: Option<Round>,
    /// A loss could not be recorded, and is to be tried again.
    unrecorded: bool,
}

/// Findings of the first read of a round, kept until a read needs no record any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Round {
    /// Why the stream cannot go on at its position, if it cannot.
    reason: Option<GapReason>,
    /// Epochs that the log had before the loss was recorded, which may drop them.
    before: Vec<(Epoch, u64)>,
    /// The loss could not be recorded, because the server refuses writes: go on without.
    passed_over: bool,
}

impl Past {
    /// The timeline up to a position.
    fn timeline(&self, position: Position) -> Timeline {
        Timeline::new(self.older.clone(), position)
    }

    /// Timelines of which a log lacks publications without a record.
    pub(crate) fn lacking<M>(&self, position: Position, view: &LogView<M>) -> Vec<Timeline> {
        let lacks = |timeline: &Timeline| timeline.lacked_by(&view.ledger, view.top.offset);
        let present = Some(self.timeline(position)).filter(|timeline| lacks(timeline));
        present.into_iter().chain(self.lost.iter().filter(|timeline| lacks(timeline)).cloned()).collect()
    }

    /// True if a loss is still to be recorded.
    pub(crate) fn is_unrecorded(&self) -> bool {
        self.unrecorded
    }

    /// Every loss is recorded.
    pub(crate) fn recorded(&mut self) {
        self.unrecorded = false;
    }

    /// The feed broke: what a round has found so far says nothing about the log of later.
    pub(crate) fn end_round(&mut self) {
        self.round = None;
    }

    /// True if a log whose top is the stream's position lacks publications of an earlier timeline without a record.
    pub(crate) fn lacks_elsewhere(&self, ledger: &Ledger, top: u64) -> bool {
        self.lost.iter().any(|timeline| timeline.lacked_by(ledger, top))
    }

    /// True if this round is to go on although a loss is not recorded.
    pub(crate) fn passes_over(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.passed_over)
    }

    /// A loss has to be recorded before this view is used. `reason`: why the stream cannot go on, if it cannot.
    pub(crate) fn begin_round<M>(&mut self, view: &LogView<M>, reason: Option<GapReason>) {
        let round = self.round.get_or_insert_default();
        if round.reason.is_none() {
            round.reason = reason;
        }
        if reason.is_some() && round.before.is_empty() {
            round.before = epochs_before(&view.ledger, view.top);
        }
    }

    /// The loss cannot be recorded at present.
    pub(crate) fn pass_over(&mut self) {
        self.round.get_or_insert_default().passed_over = true;
        self.unrecorded = true;
    }

    /// The stream went on from the first position into another epoch.
    pub(crate) fn enter_epoch(&mut self, last: Position) {
        // After a change of leader term every channel of the node has one.
        self.older.reserve_exact(1);
        self.older.push((last.epoch, last.offset));
        self.bound();
    }

    /// The stream stands at a position of this view, which follows from where it stood: epochs that the log has dropped
    /// are kept.
    pub(crate) fn follow<M>(&mut self, view: &LogView<M>, position: Position) {
        let known = epochs_before(&view.ledger, position);
        let dropped = |(epoch, _): &(Epoch, u64)| view.ledger.end_of(*epoch, view.top.offset).is_none();
        let mut older: Vec<_> = self.older.iter().copied().take_while(dropped).collect();
        older.extend(known);
        self.older = older;
        self.round = None;
        self.bound();
    }

    /// The stream stood at a position and goes on at the top of this view, after a gap. Returns the reason that the round
    /// began with.
    pub(crate) fn part<M>(&mut self, position: Position, view: &LogView<M>) -> Option<GapReason> {
        let parted = self.timeline(position);
        self.lost.retain(|timeline| *timeline != parted);
        self.lost.push(parted);
        if self.lost.len() > MAX_LOST {
            self.lost.remove(0);
        }
        let Round { reason, before, .. } = self.round.take().unwrap_or_default();
        let present = epochs_before(&view.ledger, view.top);
        let known = |epoch: Epoch| epoch == view.top.epoch || present.iter().any(|(known, _)| *known == epoch);
        self.older = before.into_iter().filter(|(epoch, _)| !known(*epoch)).collect();
        self.older.extend(present);
        self.bound();
        reason
    }

    /// True if there is nothing to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.older.is_empty() && self.lost.is_empty() && self.round.is_none() && !self.unrecorded
    }

    fn bound(&mut self) {
        let surplus = self.older.len().saturating_sub(MAX_EPOCHS);
        self.older.drain(..surplus);
        self.older.shrink_to_fit();
    }
}

/// Epochs of a log before that of a position on it, with their last offsets.
fn epochs_before(ledger: &Ledger, position: Position) -> Vec<(Epoch, u64)> {
    let entries = ledger.entries().iter();
    let before = entries.take_while(|(epoch, _)| *epoch != position.epoch);
    before.filter_map(|(epoch, _)| Some((*epoch, ledger.end_of(*epoch, position.offset)?))).collect()
}
