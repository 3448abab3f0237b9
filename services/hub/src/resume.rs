//! Resuming a client: what it is given between its cursor and the point where it joins the channel's stream.
//!
//! Pure decisions; the hub carries them out. In the channel's turn it takes the sequencer's head and holds the stream's
//! steps for this client from there; if [`needs_repair_first`], it repairs the sequencer once and takes the head again;
//! it reads the log from the cursor and asks [`decide`]. Cursor and head are judged by the *same* view: two views may
//! show two lines, and joining one to the other would be a silent gap.

use std::ops::Range;

use fanway_broker::LogView;
use fanway_protocol::{GapReason, Position};

/// How often a resume is begun anew on [`Decision::Retry`] before the client is told of a gap.
pub const MAX_RETRIES: u32 = 3;

/// How a client at a cursor joins the stream at the head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Nothing lies between.
    CaughtUp,
    /// These of the view's `entries` follow the cursor, to be labelled by [`LogView::position_of`].
    Serve {
        /// Which; perhaps none, if the view was cut before them.
        entries: Range<usize>,
        /// They reach the head. If not, the client resumes again from the last of them, before it gets anything of the
        /// stream.
        whole: bool,
    },
    /// The node is behind the log or on another line, which says nothing about the client: make the sequencer suspect,
    /// wait for its repair, and begin anew.
    Retry,
    /// What lies between cannot be given. The client goes on at the head.
    Gap(GapReason),
}

/// Whether the node should look at the log before it judges this cursor: the client knows a line or an offset that the
/// node does not, and may well be right.
pub fn needs_repair_first(cursor: Position, head: Position) -> bool {
    cursor.epoch != head.epoch || cursor.offset > head.offset
}

/// Decides by a view of the log read from the cursor's offset. More missing publications than `limit` are a gap; fewer
/// are served as far as the view goes.
///
/// `start`: the offset at which the client came to this node, or had its last gap. A loss that the log recorded after it
/// is a gap, wherever the client stands by now: it has passed over the loss.
pub fn decide<M>(cursor: Position, start: u64, head: Position, view: &LogView<M>, limit: usize) -> Decision {
    let passed_over = view.on_the_line(cursor) && view.ledger.is_before_loss(start);
    if cursor == head && !passed_over {
        return Decision::CaughtUp;
    }
    // Without this the client would be joined to a line that the log has left, or has not reached yet.
    if !view.on_the_line(head) {
        return Decision::Retry;
    }
    if let Some(reason) = off_the_line(cursor, view) {
        return Decision::Gap(reason);
    }
    if passed_over {
        return Decision::Gap(GapReason::Truncated);
    }
    if cursor.offset > head.offset {
        return Decision::Retry;
    }
    if cursor.offset == head.offset {
        return Decision::CaughtUp;
    }
    if !view.kept(cursor.offset) {
        return Decision::Gap(GapReason::Retention);
    }
    let missing = head.offset - cursor.offset;
    if missing > limit as u64 {
        return Decision::Gap(GapReason::Limit);
    }
    let begin = view.entries.partition_point(|(offset, _)| *offset <= cursor.offset);
    let end = view.entries.partition_point(|(offset, _)| *offset <= head.offset);
    let entries = &view.entries[begin..end];
    let count = entries.len() as u64;
    if entries.last().is_some_and(|(last, _)| *last != cursor.offset + count) {
        return Decision::Gap(GapReason::Retention); // Somebody deleted within the log.
    }
    Decision::Serve { entries: begin..end, whole: count == missing }
}

/// As [`decide`], for a client that stands before the first publication and names no epoch.
///
/// It cannot say on which timeline it would have followed, so that only one is accepted on which nothing can have been
/// lost: of a single epoch, with all publications still there. A log that was lost altogether and begun anew looks the
/// same; that is why every reply names the epoch.
pub fn decide_from_beginning<M>(head: Position, view: &LogView<M>, limit: usize) -> Decision {
    let decision = decide(Position { epoch: head.epoch, offset: 0 }, 0, head, view, limit);
    match decision {
        // A history that begins after the first offset was trimmed, or replaced because a tail was lost.
        Decision::CaughtUp | Decision::Serve { .. }
            if view.ledger.entries().len() > 1 || view.ledger.entries()[0].1 > 1 =>
        {
            Decision::Gap(GapReason::UnknownEpoch)
        }
        decision => decision,
    }
}

/// Why a position's successors cannot be taken from a view; `None` if they can.
pub(crate) fn obstacle<M>(position: Position, view: &LogView<M>) -> Option<GapReason> {
    off_the_line(position, view).or_else(|| (!view.kept(position.offset)).then_some(GapReason::Retention))
}

/// Why a position is not on the line that a view shows; `None` if it is.
pub(crate) fn off_the_line<M>(position: Position, view: &LogView<M>) -> Option<GapReason> {
    match view.ledger.end_of(position.epoch, view.top.offset) {
        None => Some(GapReason::UnknownEpoch),
        Some(end) if position.offset > end => Some(GapReason::Truncated),
        Some(_) => view.ledger.is_before_loss(position.offset).then_some(GapReason::Truncated),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use fanway_broker::Ledger;
    use fanway_protocol::Epoch;

    use super::*;

    fn epoch(n: u64) -> Epoch {
        Epoch::parse(&format!("{n:020}")).unwrap()
    }

    fn at(e: u64, offset: u64) -> Position {
        Position { epoch: epoch(e), offset }
    }

    fn whole(entries: Range<usize>) -> Decision {
        Decision::Serve { entries, whole: true }
    }

    /// A log of two epochs: 0 from the start, 1 from offset 4.
    fn view(top: u64, entries: impl IntoIterator<Item = u64>) -> LogView<u64> {
        let ledger = Ledger::from_entries(vec![(epoch(0), 1), (epoch(1), 4)]).unwrap();
        let entries: Vec<_> = entries.into_iter().map(|offset| (offset, offset)).collect();
        let oldest = entries.first().map_or(top + 1, |(first, _)| *first);
        LogView { top: at(1, top), ledger, oldest, entries }
    }

    #[test]
    fn decides_where_a_cursor_joins() {
        let since = |since: u64| view(6, since + 1..=6);
        for (cursor, head, view, expected) in [
            (at(1, 6), at(1, 6), since(6), Decision::CaughtUp),
            (at(0, 2), at(1, 6), since(2), whole(0..4)),
            (at(0, 0), at(1, 6), since(0), whole(0..6)),
            // A label newer than the cursor's last publication.
            (at(1, 2), at(1, 6), since(2), whole(0..4)),
            // The node is behind the log: only what it has passed on itself.
            (at(0, 2), at(1, 5), since(2), whole(0..3)),
            // A view shared with others may begin earlier.
            (at(0, 3), at(1, 5), since(1), whole(2..4)),
            (at(1, 6), at(1, 5), since(6), Decision::Retry),
            (at(0, 2), at(0, 5), since(2), Decision::Retry),
            (at(0, 2), at(9, 2), since(2), Decision::Retry),
            (at(0, 4), at(1, 6), since(4), Decision::Gap(GapReason::Truncated)),
            (at(1, 7), at(1, 6), since(7), Decision::Gap(GapReason::Truncated)),
            (at(9, 2), at(1, 6), since(2), Decision::Gap(GapReason::UnknownEpoch)),
            (at(0, 1), at(1, 6), since(2), Decision::Gap(GapReason::Retention)),
            (at(0, 1), at(1, 6), view(6, []), Decision::Gap(GapReason::Retention)),
            // The same point under two labels.
            (at(1, 3), at(0, 3), since(3), Decision::CaughtUp),
        ] {
            assert_eq!(decide(cursor, cursor.offset, head, &view, 10), expected, "{cursor:?} at {head:?}");
        }
    }

    #[test]
    fn serves_as_far_as_the_view_goes() {
        let head = at(1, 6);
        let part = |entries| Decision::Serve { entries, whole: false };
        assert_eq!(decide(at(0, 2), 2, head, &view(6, 3..=6), 4), whole(0..4));
        assert_eq!(decide(at(0, 2), 2, head, &view(6, 3..=6), 3), Decision::Gap(GapReason::Limit));
        assert_eq!(decide(at(0, 2), 2, head, &view(9, 3..=5), 10), part(0..3), "cut before the head");
        assert_eq!(decide(at(0, 2), 2, head, &view(9, 3..=5), 3), Decision::Gap(GapReason::Limit), "four are missing");
        assert_eq!(decide(at(0, 2), 2, head, &view(9, 3..=6), 10), whole(0..4), "cut at the head");
        let none = LogView { oldest: 3, ..view(9, []) };
        assert_eq!(decide(at(0, 2), 2, head, &none, 10), part(0..0), "cut before the first");
        assert_eq!(decide(at(0, 1), 1, head, &none, 10), Decision::Gap(GapReason::Retention));
        assert_eq!(decide(at(0, 2), 2, head, &view(6, [3, 5, 6]), 10), Decision::Gap(GapReason::Retention), "a hole");
    }

    #[test]
    fn without_an_epoch_only_a_whole_log_of_one_epoch_is_served() {
        let one = |top: u64, first: u64| LogView {
            top: at(0, top),
            ledger: Ledger::new(epoch(0)),
            oldest: first,
            entries: (first..=top).map(|offset| (offset, offset)).collect(),
        };
        let cut_at_the_top = || LogView { ledger: Ledger::from_entries(vec![(epoch(0), 4)]).unwrap(), ..one(3, 1) };
        for (head, view, expected) in [
            (at(0, 3), one(3, 1), whole(0..3)),
            (at(0, 2), one(3, 1), whole(0..2)),
            (at(0, 0), one(0, 1), Decision::CaughtUp),
            (at(0, 3), one(3, 2), Decision::Gap(GapReason::Retention)),
            (at(0, 3), one(3, 4), Decision::Gap(GapReason::Retention)),
            (at(0, 9), one(9, 1), Decision::Gap(GapReason::Limit)),
            // A new epoch at the top, since a tail was lost after it.
            (at(0, 3), cut_at_the_top(), Decision::Gap(GapReason::UnknownEpoch)),
            // Nothing is missing from offset 1 on, but a tail of the first epoch may have been lost.
            (at(1, 6), view(6, 1..=6), Decision::Gap(GapReason::UnknownEpoch)),
            // Before the second epoch began, on a node that has not heard of it.
            (at(0, 3), view(6, 1..=6), Decision::Gap(GapReason::UnknownEpoch)),
            (at(9, 3), view(6, 1..=6), Decision::Retry),
        ] {
            assert_eq!(decide_from_beginning(head, &view, 8), expected, "{head:?} {view:?}");
        }
    }

    #[test]
    fn a_cursor_that_knows_more_than_the_node_asks_for_a_repair() {
        assert!(needs_repair_first(at(1, 6), at(1, 5)));
        assert!(needs_repair_first(at(0, 3), at(1, 5)));
        assert!(!needs_repair_first(at(1, 4), at(1, 5)));
        assert!(!needs_repair_first(at(1, 5), at(1, 5)));
    }

    #[test]
    fn who_has_passed_over_a_loss_has_a_gap_wherever_it_stands() {
        let marker = Epoch::parse("00000000-lost-before").unwrap();
        let ledger = Ledger::from_entries(vec![(marker, 3), (epoch(1), 3)]).unwrap();
        let view = LogView { top: at(1, 5), ledger, oldest: 1, entries: (1..=5).map(|at| (at, at)).collect() };
        let gap = Decision::Gap(GapReason::Truncated);
        for (cursor, start, expected) in [
            (at(1, 2), 2, gap.clone()),
            (at(1, 4), 4, whole(4..5)),
            (at(1, 4), 3, whole(4..5)),
            (at(1, 4), 2, gap.clone()),
            (at(1, 5), 5, Decision::CaughtUp),
            (at(1, 5), 2, gap),
        ] {
            assert_eq!(decide(cursor, start, at(1, 5), &view, 9), expected, "{cursor:?} from {start}");
        }
    }
}
