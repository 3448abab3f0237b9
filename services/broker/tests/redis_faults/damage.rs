//! Data that nobody of the fleet wrote, or a newer version did.

use std::sync::Arc;

use bytes::Bytes;
use fanway_broker::{Broker, BrokerError, Event, HistoryQuery, Outcome, PageLimit, Publish};
use fanway_protocol::envelope::{self, PLAIN_HEADER};
use fanway_protocol::{Payload, Publication};
use fanway_testkit::redis::RedisServer;
use uuid::Uuid;

use crate::support::{KEEP, Node, channel, publication, publish_all, request};

async fn announce(server: &RedisServer, topic: &str, payload: &[u8]) {
    let mut admin = server.admin().await;
    redis::cmd("PUBLISH").arg(topic).arg(payload).query_async::<()>(&mut admin).await.unwrap();
}

/// Has the meta of a channel changed.
async fn rewrite_meta(server: &RedisServer, channel: &str, change: impl FnOnce(&str) -> String) {
    let (mut admin, key) = (server.admin().await, format!("fw:fanway:m:{{{channel}}}"));
    let meta: String = redis::cmd("GET").arg(&key).query_async(&mut admin).await.unwrap();
    let changed = change(&meta);
    assert_ne!(meta, changed);
    redis::cmd("SET").arg(&key).arg(changed).query_async::<()>(&mut admin).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_is_reported_as_missed() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let epoch = "aaaaaaaa0123456789ab";
    let good = envelope::encode(&news, &publication(1));
    let of_other = envelope::encode(&channel("other"), &publication(1));
    let mut newer = good.clone();
    newer[0] = 9;
    let payloads = [
        Vec::new(),
        b"rubbish".to_vec(),
        vec![0xff; 70_000],
        [b"9:-:", good.as_slice()].concat(),
        [PLAIN_HEADER, &newer].concat(),
        [PLAIN_HEADER, &of_other].concat(),
        [PLAIN_HEADER, &good[..good.len() - 1]].concat(),
        [format!("1:{epoch}:0:{epoch}:").as_bytes(), &good].concat(),
    ];
    for payload in &payloads {
        announce(&server, "fw:fanway:c:{news}", payload).await;
    }
    announce(&server, "fw:fanway:c:{news}", &[PLAIN_HEADER, &good].concat()).await;
    assert_eq!(node.ears.hear(&news, 1).await[0].publication, publication(1));
    let unreadable = node.ears.events().iter().filter(|event| matches!(event, Event::Unreadable(_))).count();
    assert_eq!((unreadable, node.metrics.broker_unreadable_total.get()), (payloads.len(), payloads.len() as u64));
    assert_eq!(node.ears.interruptions(), 0);
}

/// What nodes of an older build cannot read is not written before the fleet is known to read it.
#[tokio::test]
async fn a_newer_envelope_waits_for_the_fleet() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    let binary = Publication { data: Payload::Binary(Bytes::from_static(b"\xff")), ..Default::default() };
    let excluding = Publication { exclude: Some(Box::new(Uuid::from_u128(7))), ..(*publication(1)).clone() };
    for (version, newer) in [(2, binary), (3, excluding)] {
        let newer = Arc::new(newer);
        let request = || Publish { channel: &news, publication: newer.clone(), retention: KEEP, idempotency: None };
        node.limit_envelope(version - 1);
        let refused = node.publish(request()).await.unwrap_err();
        assert!(matches!(refused, BrokerError::FleetVersion) && refused.outcome() == Outcome::NotDone, "{refused:?}");
        if version == 2 {
            assert_eq!(node.read(&news, None, PageLimit::entries(0)).await.unwrap(), None, "nothing was written");
        }
        node.limit_envelope(version);
        assert_eq!(node.publish(request()).await.unwrap().position.unwrap().offset, u64::from(version) - 1);
    }
    node.limit_envelope(1);
    publish_all(&node.broker, &news, 3..=3).await;
}

#[tokio::test]
async fn a_message_beyond_every_bound_costs_the_connection_only() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    announce(&server, "fw:fanway:c:{news}", &vec![b'x'; (16 << 20) + 1]).await;
    node.ears.until_restored(&news).await;
    assert_eq!(node.ears.interruptions(), 1);
    // The largest that is taken, in one piece.
    let data = Bytes::from(format!("\"{}\"", "x".repeat(8 << 20)));
    announce(
        &server,
        "fw:fanway:c:{news}",
        &[
            PLAIN_HEADER,
            &envelope::encode(&news, &Publication { data: Payload::Json(data.clone()), ..Default::default() }),
        ]
        .concat(),
    )
    .await;
    assert_eq!(node.ears.hear(&news, 1).await[0].publication.data, Payload::Json(data));
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_a_gap() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    publish_all(&node.broker, &news, 1..=2).await;
    server.command("HSET fw:fanway:h:{news} 3 rubbish").await;
    rewrite_meta(&server, "news", |meta| meta.replacen(":2:", ":3:", 1)).await;
    publish_all(&node.broker, &news, 4..=5).await;
    let view = node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert_eq!(view.entries.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [4, 5]);
    assert!(!view.kept(0) && !view.kept(2) && view.kept(3));
    let query = HistoryQuery { since: None, limit: PageLimit::entries(10), reverse: true };
    let page = node.history(&news, query, KEEP).await.unwrap();
    let offsets: Vec<_> = page.publications.iter().map(|(position, _)| position.offset).collect();
    assert_eq!(offsets, [5, 4, 2, 1]);
    assert!(node.metrics.broker_unreadable_total.get() >= 2);
}

#[tokio::test]
async fn damaged_and_newer_logs() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    let corrupt = |error: BrokerError| assert!(matches!(error, BrokerError::Corrupt(_)), "{error:?}");

    publish_all(&node.broker, &news, 1..=1).await;
    rewrite_meta(&server, "news", |meta| meta.replacen("1:", "2:", 1)).await;
    corrupt(node.publish(request(&news, 2, KEEP)).await.unwrap_err());
    corrupt(node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap_err());
    corrupt(node.create(&news, KEEP).await.unwrap_err());
    assert!(node.health().detail.is_none(), "one log is not the server");

    // Another type of key, another text.
    server.command("RPUSH fw:fanway:m:{list} x").await;
    server.command("SET fw:fanway:m:{text} x").await;
    for strange in ["list", "text"] {
        corrupt(node.publish(request(&channel(strange), 2, KEEP)).await.unwrap_err());
        corrupt(node.read(&channel(strange), Some(0), PageLimit::entries(10)).await.unwrap_err());
    }
    let ledger = channel("ledger");
    publish_all(&node.broker, &ledger, 1..=1).await;
    rewrite_meta(&server, "ledger", |meta| format!("{meta},rubbish")).await;
    corrupt(node.read(&ledger, Some(0), PageLimit::entries(10)).await.unwrap_err());

    // A part of the meta is lost: that is no log, and the next publish begins one.
    let part = channel("part");
    let old = node.publish(request(&part, 1, KEEP)).await.unwrap().position.unwrap();
    rewrite_meta(&server, "part", |meta| meta[..meta.rfind(':').unwrap()].to_owned()).await;
    assert_eq!(node.read(&part, Some(0), PageLimit::entries(10)).await.unwrap(), None);
    let new = node.publish(request(&part, 2, KEEP)).await.unwrap().position.unwrap();
    assert!(new.offset == 1 && new.epoch != old.epoch);
    assert_eq!(node.read(&part, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(), 1);
}

#[tokio::test]
async fn a_missing_entry_is_a_gap() {
    let server = RedisServer::start().await;
    let (node, news) = (Node::on(&server).await, channel("news"));
    publish_all(&node.broker, &news, 1..=6).await;
    server.command("HDEL fw:fanway:h:{news} 3").await;
    let view = node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert_eq!(view.entries.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [4, 5, 6]);
    assert!(!view.kept(2) && view.kept(3));
}
