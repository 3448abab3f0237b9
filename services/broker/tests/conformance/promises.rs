//! The promises.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanway_broker::{Broker, BrokerError, HistoryQuery, PageLimit, Publish, Published, Retention};
use fanway_protocol::{Channel, ClientInfo, Payload, Position, Publication};
use fanway_testkit::wait::until_async;
use uuid::Uuid;

use crate::support::{Ears, KEEP, channel, publication, publish_all, request, with_key};

const LONG: Duration = Duration::from_secs(300);

async fn offsets(broker: &impl Broker, channel: &Channel, since: u64, limit: usize) -> Vec<u64> {
    let view = broker.read(channel, Some(since), PageLimit::entries(limit)).await.unwrap().unwrap();
    view.entries.iter().map(|(offset, _)| *offset).collect()
}

/// A publish to this channel is heard: everything published before it was heard or never will be.
async fn fence(broker: &impl Broker, ears: &Ears) {
    let fence = channel("fence");
    broker.subscribe(std::slice::from_ref(&fence)).await.unwrap();
    let before = ears.heard(&fence).len();
    broker.publish(request(&fence, 0, Retention::NONE)).await.unwrap();
    ears.hear(&fence, before + 1).await;
}

pub async fn subscribers_hear_in_order_of_the_offsets(broker: &impl Broker, ears: &Ears) {
    let news = channel("news");
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let mut positions = Vec::new();
    for number in 1..=20 {
        let published = broker.publish(request(&news, number, KEEP)).await.unwrap();
        assert!(!published.duplicate);
        positions.push(published.position.unwrap());
    }
    let epoch = positions[0].epoch;
    let expected: Vec<_> = (1..=20).map(|offset| Position { epoch, offset }).collect();
    assert_eq!(positions, expected, "dense from 1, in one epoch");

    let heard = ears.hear(&news, 20).await;
    assert_eq!(heard.iter().map(|delivery| delivery.place.unwrap().position).collect::<Vec<_>>(), expected);
    for (number, delivery) in (1..).zip(&heard) {
        assert_eq!(delivery.publication, publication(number));
        assert_eq!(delivery.place.unwrap().previous_epoch, epoch);
    }
    let other = broker.publish(request(&channel("other"), 1, KEEP)).await.unwrap().position.unwrap();
    assert_eq!(other.offset, 1);
    assert_ne!(other.epoch, epoch, "each log has an epoch of its own");
}

pub async fn only_subscribed_channels_are_heard(broker: &impl Broker, ears: &Ears) {
    let (news, other) = (channel("news"), channel("other"));
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    // Answered at once.
    broker.subscribe(&[news.clone(), news.clone()]).await.unwrap();
    publish_all(broker, &other, 1..=1).await;
    publish_all(broker, &news, 1..=1).await;
    fence(broker, ears).await;
    assert_eq!((ears.heard(&news).len(), ears.heard(&other).len()), (1, 0));

    broker.unsubscribe(&news);
    broker.unsubscribe(&channel("never"));
    // Subscribing another one is answered after the unsubscribe was done.
    broker.subscribe(std::slice::from_ref(&other)).await.unwrap();
    fence(broker, ears).await;
    publish_all(broker, &news, 2..=2).await;
    fence(broker, ears).await;
    assert_eq!(ears.heard(&news).len(), 1);

    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    publish_all(broker, &news, 3..=3).await;
    let heard = ears.hear(&news, 2).await;
    assert_eq!(heard[1].place.unwrap().position.offset, 3);
    assert!(ears.events().iter().all(|event| matches!(event, fanway_broker::Event::Publication(_))));
}

pub async fn a_publication_arrives_and_is_kept_whole(broker: &impl Broker, ears: &Ears) {
    let news = channel("news:1,#$!~|");
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let full = Arc::new(Publication {
        data: Payload::Json(Bytes::from_static("{\"text\":\"\u{20ac}\",\"list\":[1, 2]}".as_bytes())),
        tags: Some(Arc::new(BTreeMap::from([("a".into(), "b".into()), ("".into(), "\n".into())]))),
        info: Some(Arc::new(ClientInfo {
            user: "ann".into(),
            client: "c-1".into(),
            conn_info: Some(Bytes::from_static(b"{\"name\":\"Ann\"}")),
        })),
        time: 1_700_000_000_123,
        trace: Some(Arc::new("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned())),
        exclude: None,
    });
    let empty = Arc::new(Publication { data: Payload::Json(Bytes::from_static(b"null")), ..Publication::default() });
    let bytes = Bytes::from_static(b"\x00\xff\r\n");
    let binary = Arc::new(Publication { data: Payload::Binary(bytes), ..(*full).clone() });
    let excluding = Arc::new(Publication { exclude: Some(Box::new(Uuid::from_u128(7))), ..(*full).clone() });
    broker.limit_envelope(3);
    for publication in [&full, &empty, &binary, &excluding] {
        let publication = publication.clone();
        broker.publish(Publish { channel: &news, publication, retention: KEEP, idempotency: None }).await.unwrap();
    }
    let heard: Vec<_> = ears.hear(&news, 4).await.into_iter().map(|delivery| delivery.publication).collect();
    assert_eq!(heard, [full.clone(), empty.clone(), binary.clone(), excluding.clone()]);
    let kept = broker.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries;
    assert_eq!(kept, [(1, full), (2, empty), (3, binary), (4, excluding)]);
}

pub async fn reading_after_an_offset(broker: &impl Broker, _: &Ears) {
    let news = channel("news");
    assert_eq!(broker.read(&news, Some(0), PageLimit::entries(10)).await.unwrap(), None);
    publish_all(broker, &news, 1..=5).await;
    assert_eq!(offsets(broker, &news, 0, 10).await, [1, 2, 3, 4, 5]);
    assert_eq!(offsets(broker, &news, 3, 10).await, [4, 5]);
    assert_eq!(offsets(broker, &news, 1, 2).await, [2, 3]);
    assert_eq!(offsets(broker, &news, 5, 10).await, Vec::<u64>::new());
    assert_eq!(offsets(broker, &news, 99, 10).await, Vec::<u64>::new());
    assert_eq!(offsets(broker, &news, 0, 0).await, Vec::<u64>::new());
    let view = broker.read(&news, None, PageLimit::entries(10)).await.unwrap().unwrap();
    assert!(view.entries.is_empty());
    let position = |offset| Position { epoch: view.top.epoch, offset };
    assert_eq!((view.top, view.position_of(3)), (position(5), position(3)));
    assert!(view.on_the_line(position(0)) && view.on_the_line(position(5)) && !view.on_the_line(position(6)));
}

pub async fn creating_a_log(broker: &impl Broker, _: &Ears) {
    let news = channel("news");
    let created = broker.create(&news, KEEP).await.unwrap();
    assert_eq!(created.offset, 0);
    assert_eq!(broker.create(&news, KEEP).await.unwrap(), created);
    let view = broker.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert!(view.top == created && view.entries.is_empty() && view.on_the_line(created));
    let first = broker.publish(request(&news, 1, KEEP)).await.unwrap().position.unwrap();
    assert_eq!(first, Position { epoch: created.epoch, offset: 1 });
    assert_eq!(broker.create(&news, KEEP).await.unwrap(), first);
    assert_eq!(
        broker.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries,
        [(1, publication(1))]
    );
}

pub async fn tops_of_many_logs(broker: &impl Broker, _: &Ears) {
    let channels: Vec<_> = (0..1200).map(|number| channel(&format!("c:{number}"))).collect();
    publish_all(broker, &channels[0], 1..=3).await;
    publish_all(broker, &channels[1199], 1..=2).await;
    let created = broker.create(&channels[600], KEEP).await.unwrap();
    for refresh in [false, true] {
        let tops = broker.tops(&channels, refresh).await.unwrap();
        let tops: Vec<_> = tops.into_iter().map(|top| top.map(|top| top.position)).collect();
        assert_eq!(tops.len(), 1200);
        assert_eq!(tops[600], Some(created));
        let known: Vec<_> = (0..).zip(&tops).filter_map(|(at, top)| Some((at, (*top)?.offset))).collect();
        assert_eq!(known, [(0, 3), (600, 0), (1199, 2)]);
    }
    assert_eq!(broker.tops(&[], true).await.unwrap(), Vec::new());
}

pub async fn history_in_both_directions(broker: &impl Broker, _: &Ears) {
    let news = channel("news");
    let query = |since, most, reverse| HistoryQuery { since, limit: PageLimit::entries(most), reverse };
    // A log that was never used is created by its reader: what it answers is a position to start from.
    let none = broker.history(&news, query(None, 10, false), KEEP).await.unwrap();
    assert!(none.publications.is_empty() && none.top.offset == 0 && none.since_valid);
    assert_eq!(broker.history(&news, query(None, 10, true), KEEP).await.unwrap().top, none.top);

    publish_all(broker, &news, 1..=5).await;
    let epoch = none.top.epoch;
    let at = |offset| Some(Position { epoch, offset });
    for (asked, expected) in [
        (query(None, 10, false), vec![1, 2, 3, 4, 5]),
        (query(None, 2, false), vec![1, 2]),
        (query(None, 0, false), vec![]),
        (query(None, 10, true), vec![5, 4, 3, 2, 1]),
        (query(None, 2, true), vec![5, 4]),
        (query(at(2), 10, false), vec![3, 4, 5]),
        (query(at(2), 1, false), vec![3]),
        (query(at(0), 10, false), vec![1, 2, 3, 4, 5]),
        (query(at(5), 10, false), vec![]),
        (query(at(4), 10, true), vec![3, 2, 1]),
        (query(at(4), 2, true), vec![3, 2]),
        (query(at(1), 2, true), vec![]),
        (query(at(0), 2, true), vec![]),
    ] {
        let page = broker.history(&news, asked, KEEP).await.unwrap();
        let got: Vec<_> = page.publications.iter().map(|(position, _)| position.offset).collect();
        assert_eq!((got, page.top, page.since_valid), (expected, at(5).unwrap(), true), "{asked:?}");
        for (position, read) in &page.publications {
            assert_eq!((position.epoch, read), (epoch, &publication(position.offset as usize)));
        }
    }
    let foreign = broker.create(&channel("other"), KEEP).await.unwrap();
    for since in [at(6), Some(foreign)] {
        let page = broker.history(&news, query(since, 10, false), KEEP).await.unwrap();
        assert!(!page.since_valid && page.publications.is_empty() && Some(page.top) == at(5), "{since:?}");
    }
    let gone = broker.history(&channel("none"), query(at(1), 10, false), KEEP).await.unwrap();
    assert!(!gone.since_valid && gone.top.offset == 0 && gone.top.epoch != epoch);
}

pub async fn pages_are_bounded_in_bytes(broker: &impl Broker, _: &Ears) {
    let news = channel("news");
    for data in [&[1_000_usize, 1_000, 1_000, 1_000, 9_000, 1_000][..], &[500; 3_000]].concat() {
        let data = Payload::Json(format!("\"{}\"", "x".repeat(data - 2)).into());
        let publication = Arc::new(Publication { data, ..Publication::default() });
        let retention = Retention { count: 10_000, ..KEEP };
        broker.publish(Publish { channel: &news, publication, retention, idempotency: None }).await.unwrap();
    }
    // What Redis stores with an entry is less than 100 bytes here.
    for (since, limit, expected) in [
        (0, PageLimit::new(10, 3_400), 3),
        (0, PageLimit::new(2, 3_400), 2),
        (3, PageLimit::new(10, 3_400), 1),
        (4, PageLimit::new(10, 3_400), 1),
        (4, PageLimit::new(10, 3_400).strict(), 0),
        (4, PageLimit::new(10, 0), 1),
        (4, PageLimit::new(0, 3_400), 0),
        (5, PageLimit::new(10, 2_300), 3),
        (5, PageLimit::new(5_000, usize::MAX), 3_001),
        (3_005, PageLimit::new(10, 0), 1),
        (3_006, PageLimit::new(10, 3_400), 0),
    ] {
        let view = broker.read(&news, Some(since), limit).await.unwrap().unwrap();
        let offsets: Vec<_> = view.entries.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (since + 1..=since + expected).collect::<Vec<_>>(), "{limit:?}");
        assert!(view.top.offset == 3_006 && view.oldest == 1 && view.kept(since));
    }
    let epoch = broker.read(&news, None, PageLimit::entries(0)).await.unwrap().unwrap().top.epoch;
    for (since, bytes, reverse, expected) in
        [(None, 3_400, false, vec![1, 2, 3]), (Some(5), 3_400, true, vec![4, 3, 2]), (Some(6), 3_400, true, vec![5])]
    {
        let since = since.map(|offset| Position { epoch, offset });
        let query = HistoryQuery { since, limit: PageLimit::new(10, bytes), reverse };
        let page = broker.history(&news, query, KEEP).await.unwrap();
        let offsets: Vec<_> = page.publications.iter().map(|(position, _)| position.offset).collect();
        assert_eq!((offsets, page.top.offset), (expected, 3_006), "{query:?}");
    }
}

pub async fn retention_by_count(broker: &impl Broker, _: &Ears) {
    let news = channel("news");
    publish_all(broker, &news, 1..=15).await;
    let view = broker.read(&news, Some(2), PageLimit::entries(100)).await.unwrap().unwrap();
    let kept: Vec<_> = view.entries.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(kept, (6..=15).collect::<Vec<_>>());
    assert!(view.oldest == 6 && !view.kept(2) && !view.kept(4) && view.kept(5));
    let none = broker.read(&news, Some(2), PageLimit::new(10, 0).strict()).await.unwrap().unwrap();
    assert!(none.oldest == 6 && !none.kept(4) && none.kept(5));
    // Fewer are kept from now on.
    broker.publish(request(&news, 16, Retention { count: 2, ..KEEP })).await.unwrap();
    assert_eq!(offsets(broker, &news, 0, 100).await, [15, 16]);
}

pub async fn entries_go_after_the_idle_time_and_the_position_stays(broker: &impl Broker, _: &Ears) {
    let news = channel("news");
    let brief = Retention { ttl: Duration::from_millis(300), ..KEEP };
    let first = broker.publish(request(&news, 1, brief)).await.unwrap().position.unwrap();
    until_async("the entries to go", || async { offsets(broker, &news, 0, 10).await.is_empty().then_some(()) }).await;
    let view = broker.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap();
    assert!(view.top == first && view.on_the_line(first) && view.kept(1) && !view.kept(0));
    let second = broker.publish(request(&news, 2, KEEP)).await.unwrap().position.unwrap();
    assert_eq!(second, Position { epoch: first.epoch, offset: 2 });
    assert_eq!(offsets(broker, &news, 0, 10).await, [2]);
}

pub async fn a_log_goes_with_its_meta_unless_it_is_refreshed(broker: &impl Broker, _: &Ears) {
    let (refreshed, left) = (channel("refreshed"), channel("left"));
    let brief = Retention { count: 10, ttl: Duration::from_millis(200), meta_ttl: Duration::from_millis(1500) };
    let first = broker.publish(request(&refreshed, 1, brief)).await.unwrap().position.unwrap();
    let gone = broker.publish(request(&left, 1, brief)).await.unwrap().position.unwrap();
    until_async("the log that nobody refreshes to go", || async {
        let tops = tops(broker, &refreshed).await;
        assert_eq!(tops, [Some(first)]);
        broker.read(&left, None, PageLimit::entries(0)).await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(tops(broker, &refreshed).await, [Some(first)]);
    let again = broker.publish(request(&left, 1, KEEP)).await.unwrap().position.unwrap();
    assert_eq!(again.offset, 1);
    assert_ne!(again.epoch, gone.epoch, "a new log is another line");
    assert!(!broker.read(&left, None, PageLimit::entries(0)).await.unwrap().unwrap().on_the_line(gone));
}

pub async fn a_key_makes_a_repetition_harmless(broker: &impl Broker, ears: &Ears) {
    let (news, other) = (channel("news"), channel("other"));
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let key = "a key with spaces, \u{20ac} and } \n";
    let first = broker.publish(with_key(&news, key, 1, KEEP, LONG)).await.unwrap();
    assert!(!first.duplicate);
    publish_all(broker, &news, 2..=2).await;
    let again = broker.publish(with_key(&news, key, 1, KEEP, LONG)).await.unwrap();
    assert_eq!(again, Published { position: first.position, duplicate: true });
    let conflict = broker.publish(with_key(&news, key, 2, KEEP, LONG)).await;
    assert!(matches!(conflict, Err(BrokerError::IdempotencyConflict)), "{conflict:?}");
    assert!(!broker.publish(with_key(&other, key, 2, KEEP, LONG)).await.unwrap().duplicate, "a key is a channel's own");
    assert!(!broker.publish(with_key(&news, "other", 2, KEEP, LONG)).await.unwrap().duplicate);
    fence(broker, ears).await;
    assert_eq!(ears.heard(&news).len(), 3);
    assert_eq!(offsets(broker, &news, 0, 10).await, [1, 2, 3]);
}

pub async fn a_key_is_forgotten_after_its_time(broker: &impl Broker, _: &Ears) {
    let news = channel("news");
    let ttl = Duration::from_millis(200);
    assert!(!broker.publish(with_key(&news, "key", 1, KEEP, ttl)).await.unwrap().duplicate);
    // The same key with another body conflicts until it is forgotten.
    let published = until_async("the key to be forgotten", || async {
        match broker.publish(with_key(&news, "key", 2, KEEP, LONG)).await {
            Ok(published) => Some(published),
            Err(BrokerError::IdempotencyConflict) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    assert!(!published.duplicate);
    assert_eq!(offsets(broker, &news, 0, 10).await, [1, 2]);
}

pub async fn keys_work_without_history(broker: &impl Broker, ears: &Ears) {
    let news = channel("news");
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let publish = |body| broker.publish(with_key(&news, "key", body, Retention::NONE, LONG));
    assert_eq!(publish(1).await.unwrap(), Published { position: None, duplicate: false });
    assert_eq!(publish(1).await.unwrap(), Published { position: None, duplicate: true });
    assert!(matches!(publish(2).await, Err(BrokerError::IdempotencyConflict)));
    fence(broker, ears).await;
    assert_eq!(ears.heard(&news).len(), 1);
}

pub async fn channels_without_history_have_no_position(broker: &impl Broker, ears: &Ears) {
    let news = channel("news");
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    for number in 1..=3 {
        let published = broker.publish(request(&news, number, Retention::NONE)).await.unwrap();
        assert_eq!(published, Published { position: None, duplicate: false });
    }
    let heard = ears.hear(&news, 3).await;
    assert!(heard.iter().all(|delivery| delivery.place.is_none()));
    assert_eq!(
        heard.iter().map(|delivery| delivery.publication.clone()).collect::<Vec<_>>(),
        [publication(1), publication(2), publication(3)]
    );
    assert_eq!(broker.read(&news, Some(0), PageLimit::entries(10)).await.unwrap(), None);
    assert_eq!(broker.tops(&[news], false).await.unwrap(), [None]);
}

pub async fn many_subscriptions_at_once(broker: &impl Broker, ears: &Ears) {
    let channels: Vec<_> = (0..1700).map(|number| channel(&format!("many:{number}"))).collect();
    broker.subscribe(&channels).await.unwrap();
    for at in [0, 499, 500, 501, 1000, 1699] {
        broker.publish(request(&channels[at], at, Retention::NONE)).await.unwrap();
        assert_eq!(ears.hear(&channels[at], 1).await[0].publication, publication(at));
    }
    for channel in &channels[1..] {
        broker.unsubscribe(channel);
    }
    fence(broker, ears).await;
    ears.forget();
    broker.publish(request(&channels[1699], 1, Retention::NONE)).await.unwrap();
    broker.publish(request(&channels[0], 2, Retention::NONE)).await.unwrap();
    ears.hear(&channels[0], 1).await;
    assert!(ears.heard(&channels[1699]).is_empty());
}

pub async fn the_last_wish_wins(broker: &impl Broker, ears: &Ears) {
    let news = channel("news");
    for round in 0..50 {
        let subscribed = broker.subscribe(std::slice::from_ref(&news));
        if round % 3 == 0 {
            drop(subscribed);
        } else {
            subscribed.await.unwrap();
        }
        broker.unsubscribe(&news);
    }
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    broker.publish(request(&news, 1, Retention::NONE)).await.unwrap();
    ears.hear(&news, 1).await;
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    broker.unsubscribe(&news);
    fence(broker, ears).await;
    broker.publish(request(&news, 2, Retention::NONE)).await.unwrap();
    fence(broker, ears).await;
    assert_eq!(ears.heard(&news).len(), 1);
}

pub async fn concurrent_publishes_get_one_place_each(broker: &impl Broker, ears: &Ears) {
    let news = channel("news");
    let many = Retention { count: 1000, ..KEEP };
    broker.subscribe(std::slice::from_ref(&news)).await.unwrap();
    let publishes = (0..200).map(|number| broker.publish(request(&news, number, many)));
    let published: HashSet<_> = futures_util::future::join_all(publishes)
        .await
        .into_iter()
        .map(|published| published.unwrap().position.unwrap().offset)
        .collect();
    assert_eq!(published, (1..=200).collect());
    let heard = ears.hear(&news, 200).await;
    let places: Vec<_> = heard.iter().map(|delivery| delivery.place.unwrap().position.offset).collect();
    assert_eq!(places, (1..=200).collect::<Vec<_>>());
    let kept = broker.read(&news, Some(0), PageLimit::entries(1000)).await.unwrap().unwrap().entries;
    let heard: Vec<_> = (1..).zip(heard.into_iter().map(|delivery| delivery.publication)).collect();
    assert_eq!(kept, heard);
}

/// What a node announces reaches the whole fleet, and so itself; what is too long is refused.
pub async fn announcements_come_back_in_order(broker: &impl Broker, _ears: &Ears) {
    let wanted: Vec<Bytes> = (0..50).map(|number| Bytes::from(format!("n{number}"))).collect();
    for message in &wanted {
        broker.announce(message).await.unwrap();
    }
    assert!(broker.announce(&[b'x'; fanway_broker::ANNOUNCEMENT_BYTES + 1]).await.is_err());
    broker.announce(&[]).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() <= wanted.len() {
        let taken = tokio::time::timeout(Duration::from_secs(20), broker.announcements()).await;
        heard.extend(taken.expect("announcements come back"));
    }
    assert_eq!(heard.split_last().unwrap(), (&Bytes::new(), &wanted[..]));
}

/// The top of a log that is refreshed, or none.
async fn tops(broker: &impl Broker, channel: &Channel) -> Vec<Option<Position>> {
    let tops = broker.tops(std::slice::from_ref(channel), true).await.unwrap();
    tops.into_iter().map(|top| top.map(|top| top.position)).collect()
}
