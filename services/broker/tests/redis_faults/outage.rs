//! Redis is away, frozen or refuses writes; connections break or fall silent.

use std::time::Duration;

use fanway_broker::{Broker, BrokerError, Event, PageLimit, RedisSettings, Refusal, Retention};
use fanway_testkit::chaos::{ChaosProxy, Direction, Which};
use fanway_testkit::redis::RedisServer;
use fanway_testkit::wait::{until, until_async};

use crate::support::{
    KEEP, Node, channel, publication, publish_all, publish_when_possible, request, settings, with_key,
};

async fn through(proxy: &ChaosProxy) -> Node {
    Node::start(settings(&format!("redis://{}", proxy.address()))).await
}

async fn entries(server: &RedisServer, key: &str) -> i64 {
    redis::cmd("HLEN").arg(key).query_async(&mut server.admin().await).await.unwrap()
}

#[tokio::test]
async fn a_restart_is_an_outage_that_heals() {
    let mut server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let before = node.publish(request(&news, 1, KEEP)).await.unwrap().position.unwrap();
    node.ears.hear(&news, 1).await;

    server.kill().await;
    until("the outage to be noticed", || (!node.health().commands).then_some(())).await;
    let refused = node.publish(request(&news, 2, KEEP)).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Unavailable(_)), "{refused:?}");
    assert!(matches!(node.read(&news, Some(0), PageLimit::entries(1)).await.unwrap_err(), BrokerError::Unavailable(_)));
    let health = node.health();
    assert!(health.started && !health.deaf && health.detail.is_some(), "{health:?}");
    assert_eq!(node.metrics.broker_up.get(), 0);
    node.ears.until("Interrupted", |event| matches!(event, Event::Interrupted)).await;

    server.restart().await;
    node.ears.until_restored(&news).await;
    node.until_well().await;
    let after = publish_when_possible(&node.broker, &news, 3).await.position.unwrap();
    assert!(after.offset == 1 && after.epoch != before.epoch, "nothing was persisted: a new log");
    let heard = node.ears.hear(&news, 2).await;
    assert_eq!(heard[1].publication, publication(3));
    assert_eq!((node.ears.interruptions(), node.metrics.broker_interruptions_total.get()), (1, 1));
    assert_eq!(node.metrics.broker_up.get(), 1);
}

#[tokio::test]
async fn a_node_starts_before_its_server() {
    let mut server = RedisServer::start().await;
    server.stop().await;
    let news = channel("news");
    let node = Node::begin(RedisSettings { subscribe_timeout: Duration::from_millis(50), ..settings(&server.url()) });
    node.until_detail("refused").await;
    assert!(!node.health().started);
    // Not in time, but still wanted.
    let late = node.subscribe(std::slice::from_ref(&news)).await.unwrap_err();
    assert!(matches!(late, BrokerError::Unavailable(_)), "{late:?}");
    assert_eq!(node.metrics.broker_subscriptions.get(), 1);
    server.restart().await;
    node.ears.until_restored(&news).await;
    node.until_well().await;
    publish_all(&node.broker, &news, 1..=1).await;
    node.ears.hear(&news, 1).await;
    assert_eq!(node.ears.interruptions(), 0, "nothing was heard before, so nothing was interrupted");
}

#[tokio::test]
async fn a_cut_subscriber_connection_is_told_once_and_restored() {
    let server = RedisServer::start().await;
    let proxy = ChaosProxy::start(server.address()).await;
    let (node, channels) = (through(&proxy).await, [channel("one"), channel("two"), channel("three")]);
    node.subscribe(&channels).await.unwrap();
    node.unsubscribe(&channels[2]);
    node.ears.forget();
    for round in 1..=3 {
        proxy.cut();
        until("the interruption", || (node.ears.interruptions() == round).then_some(())).await;
        for channel in &channels[..2] {
            let restored = |event: &Event| matches!(event, Event::Restored(restored) if restored == channel);
            until("Restored", || {
                (node.ears.events().iter().filter(|event| restored(event)).count() == round).then_some(())
            })
            .await;
        }
    }
    node.until_well().await;
    assert_eq!(node.ears.events().len(), 9, "three times Interrupted and two channels: {:?}", node.ears.events());
    publish_when_possible(&node.broker, &channels[0], 1).await;
    node.ears.hear(&channels[0], 1).await;
}

#[tokio::test]
async fn a_frozen_server_leaves_the_outcome_unknown() {
    let server = RedisServer::start().await;
    let brief = Duration::from_millis(300);
    let settings = RedisSettings {
        command_timeout: brief,
        read_timeout: brief,
        connect_timeout: brief,
        subscribe_timeout: brief,
        probe_interval: Duration::from_secs(60),
        ..settings(&server.url())
    };
    let (node, news) = (Node::start(settings).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let other = [channel("other")];
    server.freeze();
    let (published, read, subscribed) = tokio::join!(
        node.publish(request(&news, 1, KEEP)),
        node.read(&news, Some(0), PageLimit::entries(1)),
        node.subscribe(&other),
    );
    assert!(matches!(published, Err(BrokerError::OutcomeUnknown(_))), "{published:?}");
    assert!(matches!(read, Err(BrokerError::Unavailable(_))), "{read:?}");
    assert!(matches!(subscribed, Err(BrokerError::Unavailable(_))), "{subscribed:?}");
    // Silence is found by PING alone: the probe rests.
    node.ears.until("Interrupted", |event| matches!(event, Event::Interrupted)).await;
    server.thaw();
    node.ears.until_restored(&news).await;
    // It had been taken by the server: "unknown" was the truth.
    until_async("the publish without answer", || async {
        (entries(&server, "fw:fanway:h:{news}").await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_lost_on_the_way_is_asked_again_only_with_a_key() {
    let server = RedisServer::start().await;
    for key in [None, Some("key")] {
        let proxy = ChaosProxy::start(server.address()).await;
        let (node, news) = (through(&proxy).await, channel(if key.is_some() { "keyed" } else { "plain" }));
        proxy.stall(Direction::ToClient, Which::All);
        let publish = match key {
            Some(key) => with_key(&news, key, 1, KEEP, Duration::from_secs(60)),
            None => request(&news, 1, KEEP),
        };
        let stream = format!("fw:fanway:h:{{{news}}}");
        let (published, ()) = tokio::join!(node.publish(publish), async {
            until_async("the entry", || async { (entries(&server, &stream).await == 1).then_some(()) }).await;
            proxy.cut();
            proxy.heal();
        });
        match key {
            None => assert!(matches!(published, Err(BrokerError::OutcomeUnknown(_))), "{published:?}"),
            Some(_) => assert_eq!(published.unwrap().position.unwrap().offset, 1),
        }
        assert_eq!(entries(&server, &stream).await, 1);
    }
}

#[tokio::test]
async fn reads_work_while_writes_are_refused() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    publish_all(&node.broker, &news, 1..=2).await;
    server.command("CONFIG SET min-replicas-to-write 1").await;
    for _ in 0..2 {
        let refused = node.publish(request(&news, 3, KEEP)).await.unwrap_err();
        assert!(matches!(refused, BrokerError::Refused { cause: Refusal::TooFewReplicas, .. }), "{refused:?}");
    }
    let view = node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert_eq!((view.top.offset, view.entries.len()), (2, 2));
    let tops = node.tops(std::slice::from_ref(&news), true).await.unwrap();
    assert_eq!(tops[0].as_ref().map(|top| top.position), Some(view.top));
    node.until_detail("publishes are refused: NOREPLICAS").await;
    assert!(node.health().commands && node.health().refused == Some(Refusal::TooFewReplicas));
    // As in a failover that the server prepares: a script that could write would wait.
    server.command("CLIENT PAUSE 60000 WRITE").await;
    assert_eq!(node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(), 2);
    server.command("CLIENT UNPAUSE").await;
    // A node that starts now can read too, also when the server does not know the scripts.
    server.command("SCRIPT FLUSH").await;
    let second = Node::begin(settings(&server.url()));
    second.until_detail("publishes are refused: NOREPLICAS").await;
    assert_eq!(second.read(&news, Some(1), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(), 1);
    assert!(second.health().started);

    server.command("CONFIG SET min-replicas-to-write 0").await;
    second.until_well().await;
    node.until_well().await;
    assert_eq!(node.publish(request(&news, 3, KEEP)).await.unwrap().position.unwrap().offset, 3);
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    publish_all(&node.broker, &news, 1..=1).await;
    for number in 2..=4 {
        server.command("SCRIPT FLUSH").await;
        node.publish(request(&news, number, KEEP)).await.unwrap();
        server.command("SCRIPT FLUSH").await;
        assert_eq!(node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(), number);
        server.command("SCRIPT FLUSH").await;
        node.create(&channel(&format!("c{number}")), KEEP).await.unwrap();
    }
}

#[tokio::test]
async fn a_deaf_node_says_so_until_it_hears() {
    let server = RedisServer::start().await;
    let proxy = ChaosProxy::start(server.address()).await;
    let (node, news) = (through(&proxy).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    proxy.stall(Direction::ToClient, Which::Subscribers);
    until("deafness", || node.health().deaf.then_some(())).await;
    let health = node.health();
    assert!(health.commands && health.detail.unwrap().contains("echo does not come back"));
    assert!(node.metrics.broker_deaf_total.get() >= 1);
    // The old connection was given up.
    node.ears.until("Interrupted", |event| matches!(event, Event::Interrupted)).await;
    node.publish(request(&news, 1, KEEP)).await.unwrap();
    proxy.heal();
    node.until_well().await;
    node.ears.until_restored(&news).await;
    node.publish(request(&news, 2, KEEP)).await.unwrap();
    // Nothing from the connection that was given up, where the first one had been held.
    assert_eq!(node.ears.hear(&news, 1).await[0].publication, publication(2));
}

#[tokio::test]
async fn a_silent_connection_is_replaced_without_help() {
    let server = RedisServer::start().await;
    let proxy = ChaosProxy::start(server.address()).await;
    let (node, news) = (through(&proxy).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    proxy.stall(Direction::ToClient, Which::PresentSubscribers);
    node.ears.until_restored(&news).await;
    node.until_well().await;
    node.publish(request(&news, 1, Retention::NONE)).await.unwrap();
    node.ears.hear(&news, 1).await;
    assert_eq!(node.ears.interruptions(), 1);
    assert_eq!(node.metrics.broker_deaf_total.get(), 1);
}

#[tokio::test]
async fn nothing_runs_after_the_end() {
    let server = RedisServer::start().await;
    let (tracker, cancel) = (tokio_util::task::TaskTracker::new(), tokio_util::sync::CancellationToken::new());
    let metrics = fanway_broker::BrokerMetrics::register(&prometheus::Registry::new()).unwrap();
    let broker = fanway_broker::RedisBroker::connect(
        settings(&server.url()),
        std::sync::Arc::new(crate::support::Ears::default()),
        metrics,
        &tokio::runtime::Handle::current(),
        &tracker,
        cancel.clone(),
    )
    .unwrap();
    until("contact", || broker.health().echo.then_some(())).await;
    cancel.cancel();
    tracker.close();
    tokio::time::timeout(fanway_testkit::wait::PATIENCE, tracker.wait()).await.unwrap();
    let ended = broker.publish(request(&channel("news"), 1, KEEP)).await;
    assert!(matches!(ended, Err(BrokerError::Unavailable(_))), "{ended:?}");
}
