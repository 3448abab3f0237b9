//! Unit tests of the sequencer; properties and the model are in `tests/`.
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

fn heard(e: u64, offset: u64, previous: u64) -> Incoming<u64> {
    Incoming { place: Place { position: at(e, offset), previous_epoch: epoch(previous) }, publication: offset }
}

/// Every publication has one byte.
fn byte(_publication: &u64) -> usize {
    1
}

fn view(ledger: &[(u64, u64)], top: u64, entries: impl IntoIterator<Item = u64>) -> LogView<u64> {
    let ledger = Ledger::from_entries(ledger.iter().map(|(e, first)| (epoch(*e), *first)).collect()).unwrap();
    let top = Position { epoch: ledger.current(), offset: top };
    let entries: Vec<_> = entries.into_iter().map(|offset| (offset, offset)).collect();
    let oldest = entries.first().map_or(top.offset + 1, |(first, _)| *first);
    LogView { top, ledger, oldest, entries }
}

fn top_at(position: Position) -> LogTop {
    LogTop { position, ledger: Ledger::new(position.epoch) }
}

fn emit(e: u64, offset: u64, first_of_epoch: bool) -> Step<u64> {
    Step::Emit { position: at(e, offset), first_of_epoch, publication: offset }
}

fn gap(reason: GapReason, e: u64, offset: u64) -> Step<u64> {
    Step::Gap { reason, position: at(e, offset) }
}

/// A sequencer that is live at a position.
fn live_at(e: u64, offset: u64) -> Sequencer<u64> {
    let mut sequencer = Sequencer::new(HoldLimit { publications: 2, kib: 1 });
    sequencer.restored();
    assert_eq!(sequencer.read(&view(&[(e, 1)], offset, []), &mut Vec::new()), Answered::Whole);
    assert_eq!((sequencer.is_live(), sequencer.head()), (true, Some(at(e, offset))));
    sequencer
}

/// Reads, and goes on without a record of what the log has lost.
fn read_on(sequencer: &mut Sequencer<u64>, view: &LogView<u64>, out: &mut Vec<Step<u64>>) {
    if sequencer.read(view, out) != Answered::Whole {
        sequencer.cut_refused();
        assert_eq!(sequencer.read(view, out), Answered::Whole);
    }
}

fn steps(act: impl FnOnce(&mut Vec<Step<u64>>)) -> Vec<Step<u64>> {
    let mut out = Vec::new();
    act(&mut out);
    out
}

#[test]
fn passes_on_successors_and_drops_duplicates() {
    let mut sequencer = live_at(0, 3);
    assert_eq!(steps(|out| sequencer.live(heard(0, 4, 0), byte, out)), [emit(0, 4, false)]);
    assert_eq!(steps(|out| sequencer.live(heard(0, 2, 0), byte, out)), []);
    assert!(sequencer.is_live());
}

#[test]
fn the_first_publication_of_an_epoch_needs_no_read() {
    let mut sequencer = live_at(0, 3);
    assert_eq!(steps(|out| sequencer.live(heard(1, 4, 0), byte, out)), [emit(1, 4, true)]);
    assert_eq!(steps(|out| sequencer.live(heard(1, 5, 1), byte, out)), [emit(1, 5, false)]);
}

#[test]
fn anything_else_needs_a_read() {
    for other in [heard(0, 5, 0), heard(1, 3, 0), heard(1, 5, 0), heard(2, 4, 1)] {
        let mut sequencer = live_at(0, 3);
        assert_eq!(steps(|out| sequencer.live(other.clone(), byte, out)), [], "{other:?}");
        assert!(sequencer.needs_read() && sequencer.since() == Some(3), "{other:?}");
    }
}

#[test]
fn a_repair_spans_epochs_and_takes_the_held_ones_after_it() {
    let mut sequencer = live_at(0, 3);
    let out = steps(|out| {
        sequencer.live(heard(1, 6, 1), byte, out);
        sequencer.asked();
        sequencer.live(heard(1, 7, 1), byte, out);
        assert_eq!(sequencer.read(&view(&[(0, 1), (1, 5)], 6, 4..=6), out), Answered::Whole);
    });
    assert_eq!(out, [emit(0, 4, false), emit(1, 5, true), emit(1, 6, false), emit(1, 7, false)]);
}

#[test]
fn what_the_log_cannot_give_is_a_gap_with_its_reason() {
    for (view, expected) in [
        (view(&[(7, 1)], 4, [4]), gap(GapReason::UnknownEpoch, 7, 4)),
        (view(&[(0, 1), (1, 3)], 4, [4]), gap(GapReason::Truncated, 1, 4)),
        (view(&[(0, 1)], 2, []), gap(GapReason::Truncated, 0, 2)),
        (view(&[(0, 1)], 6, [5, 6]), gap(GapReason::Retention, 0, 6)),
        (view(&[(0, 1)], 6, []), gap(GapReason::Retention, 0, 6)),
    ] {
        let mut sequencer = live_at(0, 3);
        sequencer.suspect();
        assert_eq!(steps(|out| read_on(&mut sequencer, &view, out)), [expected]);
        assert_eq!(sequencer.head(), Some(view.top));
    }
}

#[test]
fn a_hole_in_the_log_is_a_gap() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    let out = steps(|out| assert_eq!(sequencer.read(&view(&[(0, 1)], 6, [4, 6]), out), Answered::Whole));
    assert_eq!(out, [emit(0, 4, false), gap(GapReason::Retention, 0, 6)]);
}

#[test]
fn a_view_cut_by_its_limit_is_followed_by_another_read() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    let out = steps(|out| assert_eq!(sequencer.read(&view(&[(0, 1), (1, 5)], 7, 4..=5), out), Answered::Again));
    assert_eq!(out, [emit(0, 4, false), emit(1, 5, true)]);
    assert_eq!((sequencer.needs_read(), sequencer.since()), (true, Some(5)));
    // In between the tail was lost: the point reached is no longer on the line.
    let out = steps(|out| read_on(&mut sequencer, &view(&[(0, 1), (2, 5)], 6, [6]), out));
    assert_eq!(out, [gap(GapReason::UnknownEpoch, 2, 6)]);
}

#[test]
fn what_is_missed_during_a_read_repeats_it() {
    type Miss = fn(&mut Sequencer<u64>, &mut Vec<Step<u64>>);
    let misses: [(&str, Miss); 3] = [
        ("suspect", |sequencer, _| sequencer.suspect()),
        ("a new feed", |sequencer, _| {
            sequencer.interrupted();
            sequencer.restored();
        }),
        ("overflow", |sequencer, out| (4..=6).for_each(|offset| sequencer.live(heard(0, offset, 0), byte, out))),
    ];
    for (name, miss) in misses {
        let mut sequencer = live_at(0, 3);
        sequencer.suspect();
        sequencer.asked();
        assert!(!sequencer.needs_read(), "{name}: one read at a time");
        let out = steps(|out| {
            miss(&mut sequencer, out);
            assert_eq!(sequencer.read(&view(&[(0, 1)], 3, []), out), Answered::Again, "{name}");
        });
        assert!(sequencer.needs_read() && !sequencer.is_live(), "{name}: {out:?}");
    }
}

#[test]
fn what_exceeds_the_bytes_held_is_read_from_the_log() {
    for (sizes, held) in
        [([1024, 1024, 0], 3), ([2048, 0, 0], 3), ([2048, 1, 0], 1), ([2049, 0, 0], 0), ([1, usize::MAX, 1], 1)]
    {
        let mut sequencer = Sequencer::new(HoldLimit { publications: 3, kib: 2 });
        sequencer.restored();
        sequencer.read(&view(&[(0, 1)], 3, []), &mut Vec::new());
        sequencer.suspect();
        sequencer.asked();
        let publications = |sequencer: &mut Sequencer<u64>, out: &mut Vec<Step<u64>>| {
            for (offset, size) in (4..).zip(sizes) {
                sequencer.live(heard(0, offset, 0), |_| size, out);
            }
        };
        let mut out = steps(|out| publications(&mut sequencer, out));
        let again = sequencer.read(&view(&[(0, 1)], 3, []), &mut out) == Answered::Again;
        assert_eq!((out.len(), again), (held, held < 3), "{sizes:?}");
        sequencer.asked();
        assert!(!again || sequencer.read(&view(&[(0, 1)], 6, 4 + held as u64..=6), &mut out) == Answered::Whole);
        assert_eq!(out, [4, 5, 6].map(|offset| emit(0, offset, false)), "{sizes:?}");
    }
}

#[test]
fn without_a_feed_nothing_is_passed_on() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    sequencer.asked();
    sequencer.interrupted();
    let out = steps(|out| {
        sequencer.live(heard(0, 4, 0), byte, out);
        sequencer.suspect();
        sequencer.check(None);
        assert_eq!(sequencer.read(&view(&[(0, 1)], 4, [4]), out), Answered::Whole);
    });
    assert_eq!(out, []);
    assert!(!sequencer.needs_read() && !sequencer.is_live());
}

#[test]
fn the_periodic_check_compares_epoch_and_offset() {
    for (top, need) in [(Some(at(0, 3)), false), (Some(at(0, 4)), true), (Some(at(1, 3)), true), (None, true)] {
        let mut sequencer = live_at(0, 3);
        sequencer.check(top.map(top_at).as_ref());
        assert_eq!(sequencer.needs_read(), need, "{top:?}");
    }
}

#[test]
fn an_unanswered_read_is_due_again() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    sequencer.asked();
    sequencer.unanswered();
    assert!(sequencer.needs_read());
}

fn marked(n: u64, before: u64) -> (Epoch, u64) {
    (Epoch::parse(&format!("{n:08}-lost-before")).unwrap(), before)
}

/// A view of a log whose history may have markers.
fn history(entries: Vec<(Epoch, u64)>, top: u64) -> LogView<u64> {
    let ledger = Ledger::from_entries(entries).unwrap();
    LogView { top: ledger.position_of(top), ledger, oldest: 1, entries: (1..=top).map(|at| (at, at)).collect() }
}

fn timeline(older: &[(u64, u64)], end: Position) -> Timeline {
    Timeline::new(older.iter().map(|(e, last)| (epoch(*e), *last)).collect(), end)
}

#[test]
fn a_lost_tail_is_recorded_before_anybody_is_told() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    let out = steps(|out| {
        let lost = timeline(&[], at(0, 3));
        assert_eq!(sequencer.read(&view(&[(0, 1)], 1, []), out), Answered::CutFirst(vec![lost]));
        assert!(sequencer.needs_read() && out.is_empty());
        // Recorded: the log has begun a new epoch at its top.
        assert_eq!(sequencer.read(&history(vec![(epoch(5), 2)], 1), out), Answered::Whole);
    });
    // The reason is that of the first read.
    assert_eq!(out, [gap(GapReason::Truncated, 5, 1)]);
}

#[test]
fn a_loss_in_an_epoch_that_the_log_does_not_know_is_found_by_an_older_one() {
    let mut sequencer = live_at(0, 3);
    sequencer.live(heard(1, 4, 0), byte, &mut Vec::new());
    sequencer.suspect();
    let lost = timeline(&[(0, 3)], at(1, 4));
    let answered = sequencer.read(&view(&[(0, 1)], 2, []), &mut Vec::new());
    assert_eq!(answered, Answered::CutFirst(vec![lost]));
}

#[test]
fn without_a_common_epoch_there_is_nothing_to_record() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    let out = steps(|out| assert_eq!(sequencer.read(&view(&[(7, 1)], 2, []), out), Answered::Whole));
    assert_eq!(out, [gap(GapReason::UnknownEpoch, 7, 2)]);
}

/// The same snapshot once more: the record of the loss is gone with what was lost.
#[test]
fn a_loss_is_remembered_if_its_record_is_lost() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    let snapshot = view(&[(0, 1)], 1, []);
    let lost = Answered::CutFirst(vec![timeline(&[], at(0, 3))]);
    assert_eq!(sequencer.read(&snapshot, &mut Vec::new()), lost);
    sequencer.read(&history(vec![(epoch(5), 2)], 1), &mut Vec::new());
    assert!(sequencer.is_live());
    let top = LogTop { position: snapshot.top, ledger: snapshot.ledger.clone() };
    sequencer.check(Some(&top));
    assert!(sequencer.needs_read());
    let Answered::CutFirst(lacking) = sequencer.read(&snapshot, &mut Vec::new()) else { panic!("nothing to record") };
    assert!(lacking.contains(&timeline(&[], at(0, 3))), "{lacking:?}");
}

#[test]
fn each_marker_is_a_loss_once_by_its_name() {
    let mut sequencer = live_at(0, 3);
    let log = |name| history(vec![marked(name, 2), (epoch(0), 2)], 3);
    for (name, told) in [(1, true), (1, false), (2, true)] {
        sequencer.suspect();
        let out = steps(|out| assert_eq!(sequencer.read(&log(name), out), Answered::Whole));
        let loss = Step::Loss { before: 2, position: at(0, 3) };
        assert_eq!(out, if told { vec![loss] } else { vec![] }, "{name}");
        let LogView { top, ledger, .. } = log(name);
        assert!(sequencer.is_at(&LogTop { position: top, ledger }) && sequencer.has_lost());
    }
}

#[test]
fn a_stream_before_a_marker_has_a_gap() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    let out = steps(|out| {
        let log = history(vec![marked(1, 5), (epoch(0), 5), (epoch(1), 6)], 7);
        assert_eq!(sequencer.read(&log, out), Answered::Whole);
    });
    assert_eq!(out, [gap(GapReason::Truncated, 1, 7)]);
}

#[test]
fn what_cannot_be_recorded_is_tried_again_with_each_comparison() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    let log = view(&[(0, 1)], 1, []);
    let out = steps(|out| read_on(&mut sequencer, &log, out));
    assert_eq!(out, [gap(GapReason::Truncated, 0, 1)]);
    assert!(sequencer.is_unrecorded(), "compared although it is busy");
    for _ in 0..2 {
        sequencer.check(Some(&top_at(at(0, 1))));
        let lost = Answered::CutFirst(vec![timeline(&[], at(0, 3))]);
        assert_eq!(sequencer.read(&log, &mut Vec::new()), lost);
        sequencer.cut_refused();
        assert_eq!(sequencer.read(&log, &mut Vec::new()), Answered::Whole);
    }
    sequencer.check(Some(&top_at(at(0, 1))));
    let recorded = history(vec![(epoch(5), 2)], 1);
    let out = steps(|out| assert_eq!(sequencer.read(&recorded, out), Answered::Whole));
    assert_eq!((out, sequencer.is_unrecorded()), (vec![gap(GapReason::UnknownEpoch, 5, 1)], false));
}

#[test]
fn a_loss_that_another_node_has_recorded_is_recorded() {
    let mut sequencer = live_at(0, 3);
    sequencer.suspect();
    assert!(matches!(sequencer.read(&view(&[(0, 1)], 1, []), &mut Vec::new()), Answered::CutFirst(_)));
    sequencer.cut_refused();
    let recorded = history(vec![(epoch(5), 2)], 1);
    let out = steps(|out| assert_eq!(sequencer.read(&recorded, out), Answered::Whole));
    assert_eq!((out, sequencer.is_unrecorded()), (vec![gap(GapReason::Truncated, 5, 1)], false));
}
