//! Redis answers, and refuses what is published: each cause is told from an outage, and lasts as long as it does.

use std::time::Duration;

use fanway_broker::{Broker, BrokerError, HistoryQuery, PageLimit, Publish, RedisSettings, Refusal, Retention};
use fanway_protocol::{Channel, Payload, Publication};
use fanway_testkit::redis::{RedisOptions, RedisServer};
use fanway_testkit::wait::{until, until_async};

use crate::access::{RULE, as_fanway, calls};
use crate::support::{KEEP, Node, channel, publish_all, request, settings};

/// Publishes until the server refuses. Returns the number of publications done.
async fn fill(node: &Node, channel: &Channel) -> u64 {
    let publication =
        Publication { data: Payload::Json(format!("\"{}\"", "x".repeat(60_000)).into()), ..Publication::default() };
    let publication = std::sync::Arc::new(publication);
    for done in 0..10_000 {
        let retention = Retention { count: 10_000, ..KEEP };
        let publication = publication.clone();
        match node.publish(Publish { channel, publication, retention, idempotency: None }).await {
            Ok(published) => assert_eq!(published.position.unwrap().offset, done + 1),
            Err(BrokerError::Refused { cause: Refusal::Full, reason }) => {
                assert!(reason.starts_with("OOM "), "{reason}");
                return done;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the server never was full");
}

fn refused(node: &Node, cause: Refusal) -> i64 {
    node.metrics.broker_publishes_refused.with_label_values(&[cause.label()]).get()
}

#[tokio::test]
async fn a_full_server_is_no_outage() {
    let server = RedisOptions::default().config("maxmemory 8mb").config("maxmemory-policy noeviction").start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    let done = fill(&node, &news).await;
    assert!(done > 10, "{done}");
    // Until now there was room for something smaller.
    server.command("CONFIG SET maxmemory 1mb").await;
    let health = node.health();
    assert!(health.commands && health.refused == Some(Refusal::Full), "{health:?}");
    assert!(health.detail.unwrap().starts_with("publishes are refused: OOM "));
    assert_eq!((refused(&node, Refusal::Full), refused(&node, Refusal::NotPermitted)), (1, 0));
    assert_eq!(node.metrics.broker_errors_total.with_label_values(&["publish", "full"]).get(), 1);
    assert_eq!(node.metrics.broker_up.get(), 1);

    // Nothing was written in part, and what is there can be read.
    let view = node.read(&news, Some(done - 2), PageLimit::entries(10)).await.unwrap().unwrap();
    assert_eq!((view.top.offset, view.entries.len()), (done, 2));
    let query = HistoryQuery { since: None, limit: PageLimit::entries(1), reverse: true };
    assert_eq!(node.history(&news, query, KEEP).await.unwrap().publications[0].0.offset, done);
    // A log that is not there cannot be created now.
    let unused = node.history(&channel("unused"), query, KEEP).await.unwrap_err();
    assert!(matches!(unused, BrokerError::Refused { cause: Refusal::Full, .. }), "{unused:?}");

    // What no log keeps needs no memory; that it is done says nothing about logs.
    node.publish(request(&news, 1, Retention::NONE)).await.unwrap();
    assert_eq!(node.health().refused, Some(Refusal::Full));
    // A node that starts now knows it before anybody publishes.
    let second = Node::begin(settings(&server.url()));
    until("the second node", || (second.health().refused == Some(Refusal::Full)).then_some(())).await;
    assert!(second.health().started && refused(&second, Refusal::Full) == 1);

    // What only the self-test met, the self-test ends.
    server.command("CONFIG SET maxmemory 64mb").await;
    second.until_well().await;
    // Room for its small keys does not prove that there is room for publications: one of them does.
    assert_eq!(node.health().refused, Some(Refusal::Full));
    publish_all(&node.broker, &news, 1..=1).await;
    node.until_well().await;
    assert_eq!((refused(&node, Refusal::Full), refused(&second, Refusal::Full)), (0, 0));
    let query = HistoryQuery { since: None, limit: PageLimit::entries(1), reverse: false };
    assert_eq!(node.history(&channel("unused"), query, KEEP).await.unwrap().top.offset, 0);
}

#[tokio::test]
async fn a_publish_that_is_done_ends_a_refusal() {
    let server = RedisServer::start().await;
    let settings = RedisSettings { probe_interval: Duration::from_secs(60), ..settings(&server.url()) };
    let (node, news) = (Node::start(settings).await, channel("news"));
    server.command("CONFIG SET maxmemory 1").await;
    node.publish(request(&news, 1, KEEP)).await.unwrap_err();
    assert_eq!(node.health().refused, Some(Refusal::Full));
    server.command("CONFIG SET maxmemory 0").await;
    node.publish(request(&news, 1, KEEP)).await.unwrap();
    assert_eq!((node.health().refused, node.health().detail), (None, None));
}

/// Redis stops writing when it could not save: here because a directory stands in the place of its file.
#[tokio::test]
async fn a_server_that_cannot_save_is_named() {
    let server = RedisOptions::default().config("save 3600 1000000").start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    let (_, dir): (String, String) = redis::cmd("CONFIG")
        .arg("GET")
        .arg("dir")
        .query_async(&mut server.admin().await)
        .await
        .map(|pair: Vec<String>| (pair[0].clone(), pair[1].clone()))
        .unwrap();
    let blocked = std::path::Path::new(&dir).join("dump.rdb");
    std::fs::create_dir_all(blocked.join("in the way")).unwrap();
    server.command("BGSAVE").await;
    until_async("the refusal", || async {
        let refused = node.publish(request(&news, 1, KEEP)).await.err()?;
        assert!(matches!(refused, BrokerError::Refused { cause: Refusal::NotPersisted, .. }), "{refused:?}");
        Some(())
    })
    .await;
    assert_eq!((node.health().refused, refused(&node, Refusal::NotPersisted)), (Some(Refusal::NotPersisted), 1));
    std::fs::remove_dir_all(&blocked).unwrap();
    server.command("BGSAVE").await;
    node.until_well().await;
}

/// The self-test writes other keys than those that are refused: it must not call the broker well in between.
#[tokio::test]
async fn a_refusal_that_the_self_test_does_not_meet_lasts() {
    let rule = RULE.replace("~fw:fanway:*", "~fw:fanway:t:*");
    let server = RedisOptions::default().user(&rule).start().await;
    let (node, news) = (Node::start(as_fanway(&server)).await, channel("news"));
    for number in 0..3 {
        let refused = node.publish(request(&news, number, KEEP)).await.unwrap_err();
        assert!(matches!(refused, BrokerError::Refused { cause: Refusal::NotPermitted, .. }), "{refused:?}");
        let tests = calls(&server, "eval").await;
        // Each self-test calls it once.
        until_async("self-tests", || async { (calls(&server, "eval").await >= tests + 3).then_some(()) }).await;
        let health = node.health();
        assert!(health.commands && health.refused == Some(Refusal::NotPermitted), "{health:?}");
    }
    server.command("ACL SETUSER fanway ~fw:fanway:*").await;
    publish_all(&node.broker, &news, 1..=1).await;
    node.until_well().await;
}

/// Logged, but not announced: subscribers find it late, so that the broker is not well.
#[tokio::test]
async fn refused_announcements_show_in_the_health() {
    let server = RedisOptions::default().user(RULE).start().await;
    let settings = RedisSettings { probe_interval: Duration::from_secs(60), ..as_fanway(&server) };
    let (node, news) = (Node::start(settings).await, channel("news"));
    server.command("ACL SETUSER fanway resetchannels &fw:fanway:e:*").await;
    let published = crate::support::publish_when_possible(&node.broker, &news, 1).await;
    assert_eq!(published.position.unwrap().offset, 1);
    assert_eq!(node.metrics.broker_unannounced_total.get(), 1);
    assert_eq!(node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(), 1);
    assert_eq!(node.health().refused, Some(Refusal::NotPermitted));
    server.command("ACL SETUSER fanway &fw:fanway:*").await;
    crate::support::publish_when_possible(&node.broker, &news, 2).await;
    assert_eq!(node.health().refused, None);
}
