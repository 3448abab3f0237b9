//! Losses recorded in a log: what the script makes of each, and that it agrees with what a node reads from the log.

use fanway_broker::{Broker, Ledger, LogTop, PageLimit, Timeline};
use fanway_protocol::{Channel, Epoch, Position};
use fanway_testkit::redis::RedisServer;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::support::{KEEP, Node, channel, publish_all, request};

fn epoch(number: u8) -> Epoch {
    Epoch::parse(&format!("{number:08}abcdefabcdef")).unwrap()
}

/// Writes a meta: epochs with their first offsets, oldest first.
async fn write(server: &RedisServer, channel: &Channel, entries: &[(Epoch, u64)], top: u64) {
    let (newest, first) = entries.last().unwrap();
    let older = entries.iter().rev().skip(1).map(|(epoch, first)| format!(",{epoch}:{first}")).collect::<String>();
    let meta = format!("1:{newest}:{top}:3600000:{first}{older}");
    let key = format!("fw:fanway:m:{{{channel}}}");
    redis::cmd("SET").arg(key).arg(meta).query_async::<()>(&mut server.admin().await).await.unwrap();
}

async fn top(node: &Node, channel: &Channel) -> LogTop {
    node.tops(std::slice::from_ref(channel), true).await.unwrap().remove(0).unwrap()
}

fn timeline(entries: &[(Epoch, u64)]) -> Timeline {
    let (last, older) = entries.split_last().unwrap();
    Timeline::new(older.to_vec(), Position { epoch: last.0, offset: last.1 })
}

/// The marker of a history: its offset.
fn marker(ledger: &Ledger) -> Option<u64> {
    ledger.marker().map(|(_, first)| first)
}

#[tokio::test]
async fn a_log_that_lost_its_top_begins_an_epoch_there() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    publish_all(&node.broker, &news, 1..=3).await;
    let before = top(&node, &news).await.position;
    let lost = timeline(&[(before.epoch, 5)]);
    assert!(node.cut(&news, &lost).await.unwrap());
    let after = top(&node, &news).await;
    assert!(after.position.offset == 3 && after.position.epoch != before.epoch && marker(&after.ledger).is_none());
    assert!(!after.ledger.holds(before, 3) && after.ledger.holds(after.position, 3));
    assert!(!node.cut(&news, &lost).await.unwrap(), "recorded already");
    // Publishing goes on in the new epoch, and says so to whoever stood before it.
    let next = node.publish(request(&news, 4, KEEP)).await.unwrap().position.unwrap();
    assert_eq!(next, Position { epoch: after.position.epoch, offset: 4 });
    assert_eq!(top(&node, &news).await.position, next);
}

#[tokio::test]
async fn a_log_that_went_on_keeps_what_came_after_the_loss() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    publish_all(&node.broker, &news, 1..=2).await;
    let old = top(&node, &news).await.position;
    server.command("DEBUG CHANGE-REPL-ID").await;
    publish_all(&node.broker, &news, 3..=4).await;
    let new = top(&node, &news).await.position;
    assert!(node.cut(&news, &timeline(&[(old.epoch, 7)])).await.unwrap());
    let after = top(&node, &news).await;
    assert_eq!((after.position, marker(&after.ledger)), (new, Some(3)), "the position of the top is as before");
    assert!(!after.ledger.holds(old, 4) && after.ledger.holds(new, 4));
    assert!(!node.cut(&news, &timeline(&[(old.epoch, 7)])).await.unwrap(), "recorded already");
    // An earlier part of the same timeline was lost too, as another node knows.
    assert!(node.cut(&news, &timeline(&[(epoch(1), 1), (old.epoch, 9)])).await.is_ok_and(|changed| !changed));
    // Every node reads the log at the next publication, since its predecessor is in an epoch that nobody has seen.
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let next = node.publish(request(&news, 5, KEEP)).await.unwrap().position.unwrap();
    let place = node.ears.hear(&news, 1).await[0].place.unwrap();
    assert_eq!((place.position, next.offset), (next, 5));
    assert_ne!(place.previous_epoch, new.epoch);
    let view = node.read(&news, Some(new.offset), PageLimit::entries(10)).await.unwrap().unwrap();
    assert!(view.on_the_line(new) && view.kept(new.offset) && view.entries.len() == 1);
}

#[tokio::test]
async fn nothing_is_recorded_where_nothing_is_lost_or_known() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    let timelines = |epoch: Epoch| [timeline(&[(epoch, 3)]), timeline(&[(epoch, 2)]), timeline(&[(self::epoch(9), 9)])];
    assert!(!node.cut(&news, &timeline(&[(epoch(1), 3)])).await.unwrap(), "there is no log");
    publish_all(&node.broker, &news, 1..=3).await;
    let before = top(&node, &news).await;
    for timeline in timelines(before.position.epoch) {
        assert!(!node.cut(&news, &timeline).await.unwrap(), "{timeline:?}");
    }
    assert_eq!(top(&node, &news).await, before);
}

/// Of random logs and timelines the script records exactly those losses that a node finds, each once, and what it leaves
/// is never found again. The order of two records does not matter for the positions that are valid.
#[tokio::test]
async fn the_script_finds_what_a_node_finds() {
    let server = RedisServer::start().await;
    let node = Node::on(&server).await;
    let mut runner = TestRunner::deterministic();
    // Numbers from which a log and two timelines are made that share its beginning.
    let cases = prop::collection::vec(0..5_u64, 12);
    let mut recorded = 0;
    for number in 0..300 {
        let numbers = cases.new_tree(&mut runner).unwrap().current();
        let mut first = 1;
        let mut log = Vec::new();
        for (e, step) in (0..=numbers[0] as u8 % 4).zip(&numbers[1..]) {
            log.push((epoch(e), first));
            first += step;
        }
        let length = first - 1;
        // As far as one of the log's epochs, shorter or longer than it is there, and on in an epoch of its own.
        let parted = |numbers: &[u64], own: u8| {
            let common = numbers[0] as usize % log.len();
            let mut entries: Vec<_> = (0..common).map(|at| (log[at].0, log[at + 1].1 - 1)).collect();
            let last = log[common].1 - 1 + numbers[1];
            entries.push((log[common].0, last));
            entries.extend((numbers[2] > 2).then_some((epoch(own), last + numbers[2])));
            timeline(&entries)
        };
        let (one, two) = (parted(&numbers[6..9], 8), parted(&numbers[9..12], 9));
        let mut valid = Vec::new();
        for order in [[&one, &two], [&two, &one]] {
            let news = channel(&format!("news-{number}-{}", valid.len()));
            write(&server, &news, &log, length).await;
            for lost in order {
                let before = top(&node, &news).await;
                let lacked = lost.lacked_by(&before.ledger, length);
                assert_eq!(node.cut(&news, lost).await.unwrap(), lacked, "{lost:?} of {log:?} up to {length}");
                recorded += u32::from(lacked);
                let after = top(&node, &news).await;
                assert!(!lost.lacked_by(&after.ledger, length), "{lost:?} again, of {after:?}");
                assert!(!node.cut(&news, lost).await.unwrap());
                assert_eq!(top(&node, &news).await, after, "nothing is changed twice");
            }
            let ledger = top(&node, &news).await.ledger;
            let all = (0..4).flat_map(|e| (0..=length + 1).map(move |offset| Position { epoch: epoch(e), offset }));
            valid.push(all.filter(|position| ledger.holds(*position, length)).collect::<Vec<_>>());
        }
        assert_eq!(valid[0], valid[1], "{one:?} and {two:?} of {log:?} up to {length}");
    }
    assert!(recorded > 100, "{recorded}");
}
