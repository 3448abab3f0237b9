//! Other primaries, other times: the log's line changes, and positions tell.

use fanway_broker::{Broker, Event, PageLimit, Timeline};
use fanway_protocol::Position;
use fanway_testkit::redis::{RedisOptions, RedisServer};
use fanway_testkit::wait::until_async;

use crate::support::{KEEP, Node, channel, publish_all, publish_when_possible, request, settings};

async fn info(server: &RedisServer) -> String {
    redis::cmd("INFO").arg("replication").query_async(&mut server.admin().await).await.unwrap()
}

/// Makes `replica` follow `primary` and waits until it has everything.
async fn follow(replica: &RedisServer, primary: &RedisServer) {
    replica.command(&format!("REPLICAOF 127.0.0.1 {}", primary.address().port())).await;
    until_async("the replica to catch up", || async {
        let offset = |info: String| {
            let line = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            (line("master_link_status:"), line("slave_repl_offset:"), line("master_repl_offset:"))
        };
        let (link, seen, _) = offset(info(replica).await);
        let (_, _, written) = offset(info(primary).await);
        (link.as_deref() == Some("up") && seen == written).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_flush_begins_a_new_line() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    publish_all(&node.broker, &news, 1..=3).await;
    let old = node.read(&news, None, PageLimit::entries(0)).await.unwrap().unwrap().top;
    server.flush().await;
    assert_eq!(node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap(), None);
    assert_eq!(node.tops(std::slice::from_ref(&news), true).await.unwrap(), [None]);
    let new = node.publish(request(&news, 4, KEEP)).await.unwrap().position.unwrap();
    assert!(new.offset == 1 && new.epoch != old.epoch);
    assert_eq!(new.epoch.as_str()[8..], old.epoch.as_str()[8..], "in the same reign");
    let place = node.ears.hear(&news, 4).await[3].place.unwrap();
    assert_eq!((place.position, place.previous_epoch), (new, new.epoch));
    let view = node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert!(!view.on_the_line(old) && view.on_the_line(new));
    assert_eq!(node.ears.interruptions(), 0, "connections survive a flush");
}

/// The reproduction of the fault for which the ledger exists: a primary writes on while another is promoted, loses that
/// tail when it is demoted, and is promoted again, all on the publisher's one connection.
#[tokio::test]
async fn a_lost_tail_is_not_on_the_line() {
    let (server, other) = (RedisServer::start().await, RedisServer::start().await);
    let (node, news) = (Node::on(&server).await, channel("news"));
    // The first replica of a fresh server opens a reign: attach it first.
    follow(&other, &server).await;
    publish_all(&node.broker, &news, 1..=3).await;
    follow(&other, &server).await;
    other.command("REPLICAOF NO ONE").await;
    let first = node.read(&news, None, PageLimit::entries(0)).await.unwrap().unwrap().top;
    publish_all(&node.broker, &news, 4..=5).await;
    let lost = node.read(&news, None, PageLimit::entries(0)).await.unwrap().unwrap().top;
    assert_eq!(lost, Position { epoch: first.epoch, offset: 5 });

    server.command(&format!("REPLICAOF 127.0.0.1 {}", other.address().port())).await;
    // Neither read nor written on a replica; the subscriber looks for the primary too.
    node.until_detail("replica").await;
    assert!(node.publish(request(&news, 9, KEEP)).await.is_err());
    assert!(node.read(&news, Some(0), PageLimit::entries(10)).await.is_err());
    assert!(node.cut(&news, &Timeline::new(Vec::new(), lost)).await.is_err());
    follow(&server, &other).await;
    server.command("REPLICAOF NO ONE").await;
    node.until_well().await;
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();

    let next = publish_when_possible(&node.broker, &news, 6).await.position.unwrap();
    assert!(next.offset == 4 && next.epoch != first.epoch, "{next:?}");
    let place = node.ears.hear(&news, 1).await[0].place.unwrap();
    assert_eq!((place.position, place.previous_epoch), (next, first.epoch));
    let view = node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert_eq!(view.ledger.entries(), [(first.epoch, 1), (next.epoch, 4)]);
    assert_eq!(view.entries.len(), 4);
    assert!(view.on_the_line(first) && view.on_the_line(next) && !view.on_the_line(lost));
    assert_eq!((view.position_of(3).epoch, view.position_of(4).epoch), (first.epoch, next.epoch));
    // The same reign goes on with the epoch.
    let again = node.publish(request(&news, 7, KEEP)).await.unwrap().position.unwrap();
    assert_eq!(again, Position { epoch: next.epoch, offset: 5 });
    // Recorded, it is not on the line for anybody else either, nor is what came before it.
    assert!(node.cut(&news, &Timeline::new(Vec::new(), lost)).await.unwrap());
    let view = node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert!(!view.on_the_line(first) && view.on_the_line(next) && view.top == again);
}

#[tokio::test]
async fn a_restart_from_disk_opens_an_epoch_on_the_same_line() {
    let mut server = RedisOptions::default().config("appendonly yes").config("appendfsync always").start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    publish_all(&node.broker, &news, 1..=2).await;
    let old = node.read(&news, None, PageLimit::entries(0)).await.unwrap().unwrap().top;
    server.kill().await;
    node.ears.until("Interrupted", |event| matches!(event, Event::Interrupted)).await;
    server.restart().await;
    let view =
        until_async("the log", || async { node.read(&news, Some(0), PageLimit::entries(10)).await.ok().flatten() })
            .await;
    assert_eq!((view.top, view.entries.len()), (old, 2), "reading opens no epoch");
    let new = publish_when_possible(&node.broker, &news, 3).await.position.unwrap();
    assert!(new.offset == 3 && new.epoch != old.epoch);
    let view = node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert!(view.on_the_line(old) && view.entries.len() == 3);
}

#[tokio::test]
async fn old_ledger_entries_go_with_the_entries_they_speak_of() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    let other = RedisServer::start().await;
    for reign in 1..=4u64 {
        for number in 1..=4 {
            publish_when_possible(&node.broker, &news, number).await;
        }
        let view = node.read(&news, Some(0), PageLimit::entries(100)).await.unwrap().unwrap();
        assert_eq!(view.top.offset, reign * 4);
        let oldest = view.entries[0].0;
        let starts: Vec<_> = view.ledger.entries().iter().map(|entry| entry.1).collect();
        assert!(starts[0] <= oldest && starts.get(1).is_none_or(|second| *second + 4 > oldest), "{starts:?} {oldest}");
        // Demote and promote: another reign, the same data.
        follow(&other, &server).await;
        other.command("REPLICAOF NO ONE").await;
        follow(&server, &other).await;
        server.command("REPLICAOF NO ONE").await;
    }
}

#[tokio::test]
async fn a_replica_is_not_used() {
    let (primary, replica) = (RedisServer::start().await, RedisServer::start().await);
    follow(&replica, &primary).await;
    let node = Node::begin(settings(&replica.url()));
    node.until_detail("redis.url must lead to the primary").await;
    assert!(!node.health().started);
    replica.command("REPLICAOF NO ONE").await;
    node.until_well().await;
}

/// Somebody restored an older copy of the meta, or of the entries: one of them speaks of another line.
#[tokio::test]
async fn entries_and_meta_of_different_times_begin_a_new_line() {
    let server = RedisServer::start().await;
    let node = Node::on(&server).await;
    // How often is published, when the copy is made, whether of the meta.
    for (name, published, copied, of_meta) in
        [("next", 5, 3, true), ("full", 15, 8, true), ("gone", 30, 3, true), ("old", 15, 3, false)]
    {
        let news = channel(name);
        let key = format!("fw:fanway:{}:{{{name}}}", if of_meta { "m" } else { "h" });
        publish_all(&node.broker, &news, 1..=copied).await;
        server.command(&format!("COPY {key} copy-{name}")).await;
        publish_all(&node.broker, &news, copied + 1..=published).await;
        let old = node.read(&news, None, PageLimit::entries(0)).await.unwrap().unwrap().top;
        server.command(&format!("COPY copy-{name} {key} REPLACE")).await;
        let new = node.publish(request(&news, 6, KEEP)).await.unwrap().position.unwrap();
        assert!(new.offset == 1 && new.epoch != old.epoch, "{name}: {new:?}");
        let view = node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
        assert_eq!(view.entries.len(), 1, "{name}");
        assert_eq!(node.publish(request(&news, 7, KEEP)).await.unwrap().position.unwrap().offset, 2);
    }
}
